//! The text of a recipe: read, checked, listed.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use toml::{Spanned, Value};

use crate::error::{Error, ErrorKind, Result};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/recipes/", $name, ".toml")))),*]
    };
}

const BUILT_IN: [(&str, &str); 8] = built_in![
    "icm-figure1",
    "icm-vllm-fork",
    "neutral-concepts",
    "reliable-ethics",
    "reliable-gsm8k",
    "reliable-hellaswag",
    "reliable-mmlu",
    "w2s-classic",
];

/// A data file that a recipe reads, below its folder of data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Its path below the folder of data.
    pub file: PathBuf,
    /// What `w2s data pull` fetches it with from the hub, if it is there.
    #[serde(default)]
    pub pull: Option<String>,
    /// Where else it comes from.
    #[serde(default)]
    pub about: String,
    /// The scale that reads it; `None`: all.
    #[serde(default)]
    pub scale: Option<String>,
}

/// A number that was published for a method on a data set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The data set, as the recipe names it.
    pub set: String,
    /// The method, as the recipe's comparisons name it.
    pub method: String,
    /// Accuracy in percent.
    pub percent: f64,
    /// The model it was measured with.
    pub model: String,
}

/// Values for the names of a recipe.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Scale {
    /// What it needs and how long it takes.
    pub about: String,
    /// The values; an array is gone through by the steps that are `for` its name.
    #[serde(flatten)]
    pub values: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    about: String,
    source: String,
    #[serde(default)]
    published_in: String,
    #[serde(default)]
    published: Vec<Published>,
    #[serde(default)]
    inputs: Vec<Spanned<InputFile>>,
    scale: BTreeMap<String, Scale>,
    steps: Vec<Spanned<StepTable>>,
}

/// A command of a recipe, before its names are filled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepTable {
    pub(super) name: String,
    /// The arrays of the scale that it is run for.
    #[serde(default, rename = "for")]
    pub(super) each: Vec<String>,
    /// The scales it belongs to; empty: all.
    #[serde(default)]
    pub(super) scales: Vec<String>,
    pub(super) run: String,
}

/// An experiment as a list of commands.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its name: that of its file.
    pub name: String,
    /// What its figure is called.
    pub title: String,
    /// What it does.
    pub about: String,
    /// The paper or code that it repeats.
    pub source: String,
    /// Where the published numbers stand.
    pub published_in: String,
    /// The published numbers.
    pub published: Vec<Published>,
    /// The data files.
    pub inputs: Vec<InputFile>,
    /// The scales by name.
    pub scales: BTreeMap<String, Scale>,
    /// Where errors are.
    pub(super) path: PathBuf,
    /// With the line of each.
    pub(super) steps: Vec<(usize, StepTable)>,
}

impl Recipe {
    /// Returns the names and texts of the recipes that the program brings.
    pub fn built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILT_IN.into_iter()
    }

    /// Returns a built-in recipe, or the one in a file that ends in `.toml`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a name that is none, [`ErrorKind::Task`] with file and line for a text
    /// that is no recipe.
    pub fn load(name_or_path: &str) -> Result<Self> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(name, Path::new(&format!("data/recipes/{name}.toml")), text);
        }
        let path = Path::new(name_or_path);
        if path.extension().is_none_or(|extension| extension != "toml") {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            return Err(Error::new(
                ErrorKind::Usage,
                format!("there is no recipe `{name_or_path}`"),
            )
            .hint(format!("expected {}, or a file that ends in .toml", names.join(", "))));
        }
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        Self::parse(&name, path, &text)
    }

    fn parse(name: &str, path: &Path, text: &str) -> Result<Self> {
        let line_of = |begin: usize| text[..begin.min(text.len())].matches('\n').count() + 1;
        let file: File = toml::from_str(text).map_err(|e| {
            let error = Error::new(ErrorKind::Task, e.message().to_owned()).at(path);
            match e.span() {
                Some(span) => error.at_line(path, line_of(span.start)),
                None => error,
            }
        })?;
        let steps: Vec<(usize, StepTable)> = file
            .steps
            .into_iter()
            .map(|step| (line_of(step.span().start), step.into_inner()))
            .collect();
        for input in &file.inputs {
            let named = input.get_ref().file.display().to_string();
            if !stays_below(&named) {
                return Err(Error::new(
                    ErrorKind::Task,
                    format!("data file `{named}` is not below the folder of data"),
                )
                .at_line(path, line_of(input.span().start))
                .hint("name it by its path below that folder, without `..`"));
            }
        }
        let recipe = Self {
            name: name.to_owned(),
            title: file.title,
            about: file.about,
            source: file.source,
            published_in: file.published_in,
            published: file.published,
            inputs: file.inputs.into_iter().map(Spanned::into_inner).collect(),
            scales: file.scale,
            path: path.to_path_buf(),
            steps,
        };
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> Result<()> {
        let mut seen: Vec<&str> = Vec::new();
        for (line, step) in &self.steps {
            if seen.contains(&step.name.as_str()) {
                return Err(self.fault(*line, format!("two steps are named `{}`", step.name)));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
            if step.name.is_empty() || !step.name.chars().all(plain) || step.name.starts_with('.') {
                return Err(self
                    .fault(*line, format!("`{}` is no name of a step", step.name))
                    .hint("it names a folder: letters, digits, and - _ + ."));
            }
            for scale in &step.scales {
                if !self.scales.contains_key(scale) {
                    return Err(self.fault(*line, format!("there is no scale `{scale}`")));
                }
            }
            seen.push(&step.name);
        }
        Ok(())
    }

    /// Returns the scale of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the names that there are.
    pub fn scale(&self, name: &str) -> Result<&Scale> {
        self.scales.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.scales.keys().map(String::as_str).collect();
            Error::new(ErrorKind::Usage, format!("recipe `{}` has no scale `{name}`", self.name))
                .hint(format!("it has {}", names.join(", ")))
        })
    }

    pub(super) fn fault(&self, line: usize, message: String) -> Error {
        Error::new(ErrorKind::Task, message).at_line(&self.path, line)
    }
}

/// Returns whether a path is one below the folder it is joined to: no `..`, and not absolute.
pub(super) fn stays_below(path: &str) -> bool {
    let has_parts = !path.is_empty() && !path.chars().any(char::is_control);
    has_parts && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}
