//! What the options and the recipe of a loop come to: its settings, and a template of every kind of step.
//!
//! The recipe's tables are text of the user's and are understood once, here, by the parsers of their
//! commands; from then on steps are jobs.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueEnum};
use serde_json::{Map, Value, json};

use super::labeller::Labeller;
use super::options::{LaterName, LoopJob};
use super::tables::{Options, Source};
use crate::error::{Error, Result};
use crate::pipeline::columns::ColumnOptions;
use crate::pipeline::command_line::{Refused, line, parse_options};
use crate::pipeline::filter::FilterJob;
use crate::pipeline::given::first_given;
use crate::pipeline::label::{LabelJob, MethodName};
use crate::pipeline::note::Note;
use crate::pipeline::relabel::{ChangeName, RelabelJob};
use crate::pipeline::run_options::RunOptions;
use crate::pipeline::train::TrainJob;
use crate::pipeline::usage::{no_effect, usage};
use crate::run::{Brakes, OpenMode};

/// Options that the loop itself sets, of every step.
const OWN: [&str; 17] = [
    "model",
    "adapter",
    "device",
    "dtype",
    "pack-tokens",
    "memory",
    "threads",
    "task",
    "data",
    "field",
    "id",
    "ids",
    "limit",
    "out",
    "resume",
    "force",
    "seed",
];
/// Tables of a recipe, and what else they may not set.
pub(super) const TABLES: [(&str, &[&str]); 4] = [
    ("label", &["method", "demonstrations", "gold", "gold-column", "rounds"]),
    ("filter", &["entropy", "from", "labels", "export-csv", "validation-fraction", "do-sampling"]),
    (
        "train",
        &[
            "labels",
            "answers",
            "weights",
            "missing-weight",
            "reweight",
            "temperature",
            "gold",
            "gold-column",
            "full",
            "join-timeout",
            "peer-timeout",
            "max-context",
        ],
    ),
    ("relabel", &["labels", "by", "margin"]),
];
/// What parsers ask for and the loop sets of every step: any word does.
const SET_LATER: [&str; 4] = ["--model=.", "--task=.", "--data=.", "--out=."];

/// What a loop is.
#[derive(Debug)]
pub(super) struct LoopSettings {
    pub(super) model: PathBuf,
    /// The server that is asked in place of the model.
    pub(super) labeller: Option<Labeller>,
    pub(super) task: String,
    pub(super) data: PathBuf,
    pub(super) columns: ColumnOptions,
    pub(super) out: PathBuf,
    pub(super) mode: OpenMode,
    pub(super) seed: u64,
    pub(super) num_batches: usize,
    pub(super) held_out: f64,
    pub(super) later: LaterName,
    pub(super) filter: bool,
    pub(super) reweight: bool,
    pub(super) relabel: ChangeName,
    pub(super) relabel_margin: Option<f64>,
    pub(super) cross_fit: bool,
    pub(super) brakes: Brakes,
    pub(super) templates: Templates,
    /// What was written about device, memory and the like, for the manifest.
    place: Vec<String>,
    /// What was written in the tables, in the order of [`TABLES`], for the manifest.
    written: [Vec<String>; 4],
}

/// A job of every kind of step, without what differs from round to round.
#[derive(Debug)]
pub(super) struct Templates {
    /// The search.
    pub(super) label: LabelJob,
    /// What is to be said of the search's options when it runs.
    pub(super) label_remark: Option<Note>,
    /// The model's answer to the question alone.
    pub(super) predict: LabelJob,
    pub(super) filter: FilterJob,
    pub(super) train: TrainJob,
    pub(super) relabel: RelabelJob,
}

/// The parser of a command's options.
fn command<T: Args>(name: &'static str) -> Command {
    T::augment_args(Command::new(name))
}

/// No options of each table.
fn no_options() -> [Options; 4] {
    let [label, filter, train, relabel] = TABLES.map(|(name, _)| name);
    [
        Options::none(command::<LabelJob>(label)),
        Options::none(command::<FilterJob>(filter)),
        Options::none(command::<TrainJob>(train)),
        Options::none(command::<RelabelJob>(relabel)),
    ]
}

impl LoopJob {
    /// How the loop trains; none if its recipe is refused.
    pub(in crate::pipeline) fn training(&self) -> Option<TrainJob> {
        Some(self.settle().ok()?.templates.train)
    }

    /// Returns what the options and the recipe come to.
    pub(super) fn settle(&self) -> Result<LoopSettings> {
        let mut tables = no_options();
        let Some(path) = &self.recipe else { return self.settings(tables) };
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::io("read the recipe", path, &e))?;
        let source = Source { path, text: &text };
        let table = source.parse()?;
        for (key, value) in &table {
            let Some(inner) = value.get_ref().as_table() else { continue };
            let name = key.get_ref().as_ref();
            let Some(place) = TABLES.iter().position(|(known, _)| *known == name) else {
                return Err(source.fault(key.span(), format!("a loop has no table [{name}]")).hint(
                    "the tables are [label], [filter], [train] and [relabel]; other keys stand before them",
                ));
            };
            tables[place].read(source, name, inner)?;
        }
        let mut own = Options::none(command::<Self>("loop"));
        own.read(source, "", &table)?;
        for name in ["resume", "force", "set"] {
            if own.has(name) {
                return Err(own.forbidden(name, "it is typed, not written in a recipe"));
            }
        }
        let mut words: Vec<String> = own.words().collect();
        let _: Self =
            parse_options(own.parser(), &words).map_err(|refused| own.refused(refused))?;
        // Of an option that is given twice the last counts: what is typed goes before what is written.
        words.extend(line(&[], &Self { recipe: None, ..self.clone() }).into_iter().skip(1));
        let both: Self = parse_options(own.parser(), &words).map_err(Refused::error)?;
        both.settings(tables)
    }

    fn settings(&self, mut tables: [Options; 4]) -> Result<LoopSettings> {
        for set in &self.set {
            let fault = || {
                usage(format!("`--set {set}` is not understood"))
                    .hint("expected TABLE.OPTION=VALUE, such as label.alpha=30; tables are label, filter, train and relabel")
            };
            let (name, value) = set.split_once('=').ok_or_else(fault)?;
            let (table, option) = name.split_once('.').ok_or_else(fault)?;
            let place = TABLES.iter().position(|(known, _)| *known == table).ok_or_else(fault)?;
            tables[place].set(option, value);
        }
        for ((_, forbidden), options) in TABLES.iter().zip(&tables) {
            for name in OWN.iter().chain(*forbidden) {
                if options.has(name) {
                    let why = "the loop sets it, or it has no effect in a loop";
                    let error = options.forbidden(name, why);
                    return Err(match *name {
                        "max-context" => error.hint("`max-tokens` limits what is trained on"),
                        _ => error,
                    });
                }
            }
        }
        let missing = |name: &str| {
            usage(format!("`--{name}` is missing")).hint("type it, or write it in a recipe")
        };
        let model = self.model.clone().ok_or_else(|| missing("model"))?;
        let task = self.task.clone().ok_or_else(|| missing("task"))?;
        let data = self.data.clone().ok_or_else(|| missing("data"))?;
        let out = self.out.clone().ok_or_else(|| missing("out"))?;
        let place = [
            ("device", self.device.clone()),
            ("dtype", self.dtype.clone()),
            ("pack-tokens", self.pack_tokens.map(|n| n.to_string())),
            ("memory", self.memory.clone()),
            ("threads", self.threads.map(|n| n.to_string())),
        ];
        let mut place: Vec<String> = place
            .into_iter()
            .filter_map(|(name, value)| Some(format!("--{name}={}", value?)))
            .collect();
        let held_out = self.held_out.unwrap_or(0.1);
        let brakes = Brakes {
            max_flip_rate: self.max_flip_rate.unwrap_or(0.35),
            min_class_entropy: self.min_class_entropy.unwrap_or(0.3),
            min_agreement: self.min_agreement.unwrap_or(0.6),
        };
        check_shares(held_out, &brakes)?;
        let relabel = self.relabel.unwrap_or(ChangeName::None);
        if self.relabel_margin.is_some() && relabel == ChangeName::None {
            return Err(no_effect("relabel-margin", "without `--relabel flip` or `drop`"));
        }
        let [_, filter, ..] = &tables;
        if !(self.filter || self.reweight) && filter.words().next().is_some() {
            return Err(usage(
                "options of [filter] have no effect without `filter` or `reweight`".into(),
            )
            .hint("set `filter = true` in the recipe, or type `--filter`"));
        }
        let seed = self.seed.unwrap_or(0);
        // Every kind of step is understood before anything is made.
        let mut templates = Templates::read(&tables, &place, self.labeller.is_some())?;
        templates.limit_context(self.max_context);
        templates.begin(&model, (&task, &data, &self.columns), seed);
        let labeller = self.labeller(&model, &mut templates)?;
        place.extend(self.max_context.map(|tokens| format!("--max-context={tokens}")));
        Ok(LoopSettings {
            model,
            labeller,
            task,
            data,
            columns: self.columns.clone(),
            out,
            mode: match (self.resume, self.force) {
                (true, _) => OpenMode::Resume,
                (_, true) => OpenMode::Force,
                _ => OpenMode::New,
            },
            seed,
            num_batches: self.batches.map_or(3, NonZeroUsize::get),
            held_out,
            later: self.later.unwrap_or_default(),
            filter: self.filter,
            reweight: self.reweight,
            relabel,
            relabel_margin: self.relabel_margin,
            cross_fit: self.cross_fit,
            brakes,
            templates,
            place,
            written: tables.map(|options| options.words().collect()),
        })
    }
}

impl LoopJob {
    /// The server that labels, if there is one; it is asked in all steps as the table [label] says, or their
    /// own.
    fn labeller(&self, model: &Path, templates: &mut Templates) -> Result<Option<Labeller>> {
        let Some(text) = &self.labeller else { return Ok(None) };
        let mut options = templates.label.server.clone();
        // The tokens are those of the model that is trained; a server of another one is found out.
        options.tokenizer.get_or_insert_with(|| model.join("tokenizer.json"));
        let labeller = Labeller::new(text, self.labeller_folder.clone(), options.clone())?;
        let Templates { label, predict, filter, relabel, .. } = templates;
        for own in [&mut label.server, &mut predict.server] {
            own.clone_from(&options);
        }
        for own in [&mut filter.server, &mut relabel.server] {
            if first_given(own, |_| true).is_none() {
                own.clone_from(&options);
            }
        }
        Ok(Some(labeller))
    }
}

fn check_shares(held_out: f64, brakes: &Brakes) -> Result<()> {
    let Brakes { max_flip_rate, min_class_entropy, min_agreement } = *brakes;
    let shares = [
        ("held-out", held_out),
        ("max-flip-rate", max_flip_rate),
        ("min-class-entropy", min_class_entropy),
        ("min-agreement", min_agreement),
    ];
    for (name, share) in shares {
        if !(0.0..=1.0).contains(&share) || (name == "held-out" && share >= 1.0) {
            return Err(usage(format!("`--{name}` is {share}, expected a share from 0 to 1")));
        }
    }
    Ok(())
}

impl Templates {
    /// Understands what is written about device, memory and the like, and in the tables.
    fn read(tables: &[Options; 4], place: &[String], is_served: bool) -> Result<Self> {
        let [label, filter, train, relabel] = tables;
        let labels = ["--labels=."];
        let written = label;
        let train = template(train, place, &labels)?;
        // Device and memory are those of what is trained where a server is asked.
        let place = if is_served { &[] } else { place };
        let mut label: LabelJob = template(written, place, &[])?;
        let mut relabel: RelabelJob = template(relabel, place, &labels)?;
        let filter = template(filter, place, &["--entropy"])?;
        if label.search_uses_gold() {
            let name = if label.is_leaky() { "consistency" } else { "init" };
            return Err(written.forbidden(name, "it takes from gold, which a loop never does"));
        }
        let label_remark = label.imply_preset(&written.words().collect::<Vec<_>>());
        // What of [label] means something without a search.
        let predict = LabelJob {
            model: label.model.clone(),
            method: MethodName::ZeroShot,
            calibrate: label.calibrate,
            prior: label.prior.clone(),
            prompt_variant: label.prompt_variant.clone(),
            ..LabelJob::default()
        };
        // Labels are looked at again as the held-out examples are asked, unless their table says
        // otherwise.
        relabel.calibrate = relabel.calibrate.or(predict.calibrate);
        relabel.model.max_context = relabel.model.max_context.or(predict.model.max_context);
        if !relabel.prior.is_given() {
            relabel.prior = predict.prior.clone();
        }
        relabel.prompt_variant = relabel.prompt_variant.or_else(|| predict.prompt_variant.clone());
        Ok(Self { label, label_remark, predict, filter, train, relabel })
    }

    /// Sets the loop's limit of prompts where a table does not say another; what is trained on has a
    /// limit of its own.
    fn limit_context(&mut self, most: Option<usize>) {
        let asked = [&mut self.label.model, &mut self.predict.model, &mut self.relabel.model];
        for model in asked.into_iter().chain(&mut self.filter.model) {
            model.max_context = model.max_context.or(most);
        }
    }

    /// Sets what all steps have in common.
    fn begin(
        &mut self,
        folder: &PathBuf,
        (task, data, columns): (&str, &PathBuf, &ColumnOptions),
        seed: u64,
    ) {
        let Self { label, label_remark: _, predict, filter, train, relabel } = self;
        let models = [&mut label.model, &mut predict.model, &mut train.model, &mut relabel.model];
        for model in models.into_iter().chain(&mut filter.model) {
            model.model.clone_from(folder);
        }
        let tasks = [
            &mut label.task,
            &mut predict.task,
            &mut filter.task,
            &mut train.task,
            &mut relabel.task,
        ];
        for own in tasks {
            task.clone_into(own);
        }
        let all = [
            &mut label.columns,
            &mut predict.columns,
            &mut filter.columns,
            &mut train.columns,
            &mut relabel.columns,
        ];
        for own in all {
            own.clone_from(columns);
        }
        for own in [&mut label.data, &mut predict.data, &mut train.data, &mut relabel.data] {
            own.clone_from(data);
        }
        filter.data = Some(data.clone());
        let runs =
            [&mut label.run, &mut predict.run, &mut filter.run, &mut train.run, &mut relabel.run];
        for run in runs {
            *run = RunOptions { seed, ..RunOptions::default() };
        }
    }
}

/// The job of a table's options.
fn template<T: Args>(options: &Options, place: &[String], more: &[&str]) -> Result<T> {
    let set_later = SET_LATER.iter().chain(more).map(|&word| word.to_owned());
    let words: Vec<String> =
        set_later.chain(place.iter().cloned()).chain(options.words()).collect();
    parse_options(options.parser(), &words).map_err(|refused| options.refused(refused))
}

impl LoopSettings {
    /// Whether each batch's questions are put in variants.
    pub(super) fn filters(&self) -> bool {
        self.filter || self.reweight
    }

    /// The settings as the manifest has them.
    pub(super) fn to_map(&self) -> Map<String, Value> {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned())
        };
        let mut map = Map::new();
        map.insert("task".into(), self.task.clone().into());
        map.insert("data".into(), self.data.display().to_string().into());
        self.columns.insert(&mut map);
        map.insert("model".into(), self.model.display().to_string().into());
        if let Some(labeller) = &self.labeller {
            map.insert("labeller".into(), labeller.address.to_string().into());
        }
        map.insert("num_batches".into(), self.num_batches.into());
        map.insert("held_out".into(), self.held_out.into());
        map.insert("later".into(), name(self.later.to_possible_value()).into());
        map.insert("filter".into(), self.filter.into());
        map.insert("reweight".into(), self.reweight.into());
        let relabel = json!({ "by": name(self.relabel.to_possible_value()),
            "margin": self.relabel_margin, "cross_fit": self.cross_fit });
        map.insert("relabel".into(), relabel);
        map.insert("brakes".into(), json!(self.brakes));
        map.insert("model_options".into(), self.place.clone().into());
        for (words, (table, _)) in self.written.iter().zip(TABLES) {
            map.insert(format!("{table}_options"), words.clone().into());
        }
        map
    }
}
