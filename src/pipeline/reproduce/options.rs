//! The arguments of `w2s reproduce`, and what of them `w2s plan` takes too.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::pipeline::field_values;

/// Run a recipe: the experiment of a paper, or one of your own, from its data to its figure
///
/// A recipe is a list of `w2s` commands with names for what varies (models, data sets, seeds), and
/// values for these names at two scales: `full` is the paper's, `small` runs on two cores with
/// small models. The steps run in one process, each in a folder below --out; --dry-run prints them
/// as commands that can be typed. What is done is not done again, and an interrupted run goes on
/// with the same command. A run with the same settings and inputs that stands elsewhere below
/// --reuse, such as the ceiling of another recipe, is taken from there.
///
/// Writes figure.svg, .pdf and .png, results.md and results.json: our accuracy with its interval
/// beside the published one. Without a name it lists the recipes.
///
/// Examples:
///   w2s reproduce
///   w2s reproduce w2s-classic --scale small --data-dir data-sets --out runs/classic
///   w2s reproduce icm-figure1 --set model=/models/Llama-3.1-8B --set set=truthfulqa --dry-run
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct ReproduceJob {
    /// A recipe of the list, or a file that ends in .toml
    #[arg(value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// Where and at which size.
    #[serde(flatten)]
    #[command(flatten)]
    pub place: PlaceOptions,
    /// Folder for the runs and the results [default: runs/RECIPE-SCALE]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the steps as commands and do nothing
    #[arg(long, requires = "recipe")]
    pub dry_run: bool,
    /// Folder whose runs are taken where they are the same [default: the folder that holds --out]
    #[arg(long, value_name = "DIR")]
    pub reuse: Option<PathBuf>,
}

/// At what scale a recipe is run, with what values, and where.
#[derive(Clone, Debug, Args, Serialize)]
pub struct PlaceOptions {
    /// The recipe's scale: full or small
    #[arg(long, value_name = "SCALE", default_value = "full")]
    pub scale: String,
    /// Give one of the scale's values, such as a model's folder; of lists, some of its entries
    #[serde(serialize_with = "field_values::pairs")]
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,
    /// Folder of the data files; what is missing there is fetched from the hub if the recipe says how
    #[arg(long, value_name = "DIR", default_value = "data-sets")]
    pub data_dir: PathBuf,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
