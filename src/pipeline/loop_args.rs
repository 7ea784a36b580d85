//! The arguments of `w2s loop`, its recipe, and the steps they come to.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::job::Job;
use super::options::{Options, Source};
use super::relabel::ChangeName;
use super::search_args::{no_effect, usage};
use super::steps::{Step, parse};
use crate::error::{Error, Result};
use crate::run::{Brakes, OpenMode};

/// Label, train on the labels, label on with what was trained: rounds in one process
///
/// The data is split in batches, groups whole, and a share is set aside. The model labels the first
/// batch by ICM; in every round a low-rank adapter is trained, from the model as it was, on all labels
/// so far, and labels the next batch. Gold labels are not read; `w2s eval OUT --gold FILE` evaluates
/// every round afterwards, and `w2s report OUT` draws them.
///
/// After each round the new model answers what was set aside and looks at the labels so far again. The
/// loop stops when the new labels are nearly all the same, when a model contradicts its own labels, or
/// when it answers otherwise than the model before; the last good round is kept and the exit status is
/// that of a loop that ended (loop.json says `stopped` and why).
///
/// A recipe is a TOML file: its keys are the options below, those of its tables [label], [filter],
/// [train] and [relabel] the options of these commands. What is typed goes before what it says.
///
/// Writes a folder: round-1/label, round-1/train, ... (runs like any others), rounds.jsonl (a line a
/// round), loop.json, and labels.jsonl (the labels of all batches). An interrupted loop goes on with
/// --resume and ends with the same bytes.
///
/// Examples:
///   w2s loop --model models/gemma-3-270m --task sentiment --data data/demo/reviews.jsonl \
///       --batches 2 --out runs/loop
///   w2s loop recipe.toml --out runs/loop --set label.alpha=30 --set train.lr=2e-4
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment, args_override_self = true)]
pub struct LoopJob {
    /// Recipe: a TOML file with these options and tables of those of the steps
    #[arg(value_name = "RECIPE.toml")]
    pub recipe: Option<PathBuf>,

    /// Hugging Face model folder
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub model: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE", help_heading = "Model")]
    pub device: Option<String>,
    /// auto, f32, bf16 or f16 [default: auto]
    #[arg(long, value_name = "DTYPE", help_heading = "Model")]
    pub dtype: Option<String>,
    /// Longest prompt in tokens [default: what the model was made for]
    #[arg(long, value_name = "TOKENS", help_heading = "Model")]
    pub max_context: Option<usize>,
    /// Most tokens of one forward pass [default: 512 on the CPU, 4096 on a GPU; in training by memory]
    #[arg(long, value_name = "TOKENS", help_heading = "Model")]
    pub pack_tokens: Option<usize>,
    /// Working memory besides the weights, such as 3.5G [default: half of the machine's memory on the
    /// CPU, no limit on a GPU]
    #[arg(long, value_name = "SIZE", help_heading = "Model")]
    pub memory: Option<String>,
    /// CPU threads [default: the machine's cores]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub threads: Option<NonZeroUsize>,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(long, value_name = "TASK", help_heading = "Data")]
    pub task: Option<String>,
    /// Examples: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Batches the data is split in, and so the number of rounds [default: 3]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub batches: Option<NonZeroUsize>,
    /// Share of the examples that is set aside: the models answer it, none learns from it; 0: none, and
    /// no agreement is measured [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub held_out: Option<f64>,

    /// How batches after the first are labelled [default: icm]
    #[arg(long, value_enum, help_heading = "Rounds")]
    pub later: Option<LaterName>,
    /// Train only on labels of questions that the model answers alike however they are put (entropy)
    #[arg(long, help_heading = "Rounds")]
    pub filter: bool,
    /// Weigh every label by its reliability among the model's answers to variants of its question
    #[arg(long, help_heading = "Rounds")]
    pub reweight: bool,
    /// What becomes of labels that the round's model contradicts by the margin [default: none]
    #[arg(long, value_enum, help_heading = "Rounds")]
    pub relabel: Option<ChangeName>,
    /// The margin in nats [default: 1]
    #[arg(long, value_name = "NATS", help_heading = "Rounds")]
    pub relabel_margin: Option<f64>,
    /// Have each half of the labels looked at by a model that learnt the other half; two more trainings
    /// a round
    #[arg(long, help_heading = "Rounds")]
    pub cross_fit: bool,

    /// Stop when a model contradicts more than this share of the labels so far [default: 0.35]
    #[arg(long, value_name = "SHARE", help_heading = "Brakes")]
    pub max_flip_rate: Option<f64>,
    /// Stop when the class entropy of new labels, over the most it can be, is less; 0.3 is 95 to 5 of
    /// two labels [default: 0.3]
    #[arg(long, value_name = "SHARE", help_heading = "Brakes")]
    pub min_class_entropy: Option<f64>,
    /// Stop when less than this share of the held-out examples keep the label that the model of the
    /// round before gave [default: 0.6]
    #[arg(long, value_name = "SHARE", help_heading = "Brakes")]
    pub min_agreement: Option<f64>,

    /// Set any option of a step, as in a recipe's table: label.alpha=30, train.epochs=5, filter.quantile=0.7
    #[arg(long, value_name = "TABLE.OPTION=VALUE", help_heading = "Steps")]
    pub set: Vec<String>,

    /// Run folder to make
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    pub out: Option<PathBuf>,
    /// Continue the loop in the folder; begin it if there is none
    #[arg(long, conflicts_with = "force", help_heading = "Run")]
    pub resume: bool,
    /// Replace the loop in the folder
    #[arg(long, help_heading = "Run")]
    pub force: bool,
    /// Seed of everything random [default: 0]
    #[arg(long, value_name = "SEED", help_heading = "Run")]
    pub seed: Option<u64>,
}

/// How batches after the first are labelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LaterName {
    /// By the search, as the first
    #[default]
    Icm,
    /// By the model's answer to the question alone
    Predict,
}

/// Options that the loop itself sets, of every step.
const OWN: [&str; 15] = [
    "model",
    "adapter",
    "device",
    "dtype",
    "pack-tokens",
    "memory",
    "threads",
    "task",
    "data",
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

/// Options of [label] that mean something without a search.
const OF_PREDICTION: [&str; 4] = ["calibrate", "max-context", "prior", "prompt-variant"];

/// What a loop is.
#[derive(Debug)]
pub(super) struct LoopSettings {
    pub(super) model: PathBuf,
    pub(super) task: String,
    pub(super) data: PathBuf,
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
    /// Words about device, memory and the like, for all steps.
    place: Vec<String>,
    max_context: Option<usize>,
    /// Options of the steps, in the order of [`TABLES`].
    steps: [Options; 4],
}

impl LoopJob {
    /// Returns what the options and the recipe come to.
    pub(super) fn settle(&self) -> Result<LoopSettings> {
        let mut steps = TABLES.map(|(name, _)| Options::none(name));
        let Some(path) = &self.recipe else { return self.settings(steps) };
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
            steps[place] = Options::read(source, name, inner, TABLES[place].0)?;
        }
        let own = Options::read(source, "", &table, "loop")?;
        for name in ["resume", "force", "set"] {
            if own.has(name) {
                return Err(own.forbidden(name, "it is typed, not written in a recipe"));
            }
        }
        let words: Vec<String> = ["loop".to_owned()].into_iter().chain(own.words()).collect();
        match parse(&words) {
            Ok(Job::Loop(file)) => self.over(*file).settings(steps),
            Ok(_) => Err(usage("the recipe is no loop".into())),
            Err(refused) => Err(own.refused(refused)),
        }
    }

    /// What is given here, and what `file` says of the rest.
    fn over(&self, file: Self) -> Self {
        Self {
            recipe: self.recipe.clone(),
            model: self.model.clone().or(file.model),
            device: self.device.clone().or(file.device),
            dtype: self.dtype.clone().or(file.dtype),
            max_context: self.max_context.or(file.max_context),
            pack_tokens: self.pack_tokens.or(file.pack_tokens),
            memory: self.memory.clone().or(file.memory),
            threads: self.threads.or(file.threads),
            task: self.task.clone().or(file.task),
            data: self.data.clone().or(file.data),
            batches: self.batches.or(file.batches),
            held_out: self.held_out.or(file.held_out),
            later: self.later.or(file.later),
            filter: self.filter || file.filter,
            reweight: self.reweight || file.reweight,
            relabel: self.relabel.or(file.relabel),
            relabel_margin: self.relabel_margin.or(file.relabel_margin),
            cross_fit: self.cross_fit || file.cross_fit,
            max_flip_rate: self.max_flip_rate.or(file.max_flip_rate),
            min_class_entropy: self.min_class_entropy.or(file.min_class_entropy),
            min_agreement: self.min_agreement.or(file.min_agreement),
            set: file.set.into_iter().chain(self.set.iter().cloned()).collect(),
            out: self.out.clone().or(file.out),
            resume: self.resume || file.resume,
            force: self.force || file.force,
            seed: self.seed.or(file.seed),
        }
    }

    fn settings(&self, mut steps: [Options; 4]) -> Result<LoopSettings> {
        for set in &self.set {
            let fault = || {
                usage(format!("`--set {set}` is not understood"))
                    .hint("expected TABLE.OPTION=VALUE, such as label.alpha=30; tables are label, filter, train and relabel")
            };
            let (name, value) = set.split_once('=').ok_or_else(fault)?;
            let (table, option) = name.split_once('.').ok_or_else(fault)?;
            let place = TABLES.iter().position(|(known, _)| *known == table).ok_or_else(fault)?;
            steps[place].set(option, value);
        }
        for ((_, forbidden), options) in TABLES.iter().zip(&steps) {
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
        let place = [
            ("device", self.device.clone()),
            ("dtype", self.dtype.clone()),
            ("pack-tokens", self.pack_tokens.map(|n| n.to_string())),
            ("memory", self.memory.clone()),
            ("threads", self.threads.map(|n| n.to_string())),
        ];
        let place =
            place.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
        let settings = LoopSettings {
            model: self.model.clone().ok_or_else(|| missing("model"))?,
            task: self.task.clone().ok_or_else(|| missing("task"))?,
            data: self.data.clone().ok_or_else(|| missing("data"))?,
            out: self.out.clone().ok_or_else(|| missing("out"))?,
            mode: match (self.resume, self.force) {
                (true, _) => OpenMode::Resume,
                (_, true) => OpenMode::Force,
                _ => OpenMode::New,
            },
            seed: self.seed.unwrap_or(0),
            num_batches: self.batches.map_or(3, NonZeroUsize::get),
            held_out: self.held_out.unwrap_or(0.1),
            later: self.later.unwrap_or_default(),
            filter: self.filter,
            reweight: self.reweight,
            relabel: self.relabel.unwrap_or(ChangeName::None),
            relabel_margin: self.relabel_margin,
            cross_fit: self.cross_fit,
            brakes: Brakes {
                max_flip_rate: self.max_flip_rate.unwrap_or(0.35),
                min_class_entropy: self.min_class_entropy.unwrap_or(0.3),
                min_agreement: self.min_agreement.unwrap_or(0.6),
            },
            place: place.collect(),
            max_context: self.max_context,
            steps,
        };
        settings.check()?;
        Ok(settings)
    }
}

impl LoopSettings {
    fn check(&self) -> Result<()> {
        let Brakes { max_flip_rate, min_class_entropy, min_agreement } = self.brakes;
        let shares = [
            ("held-out", self.held_out),
            ("max-flip-rate", max_flip_rate),
            ("min-class-entropy", min_class_entropy),
            ("min-agreement", min_agreement),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) || (name == "held-out" && share >= 1.0) {
                return Err(usage(format!("`--{name}` is {share}, expected a share from 0 to 1")));
            }
        }
        if self.relabel_margin.is_some() && self.relabel == ChangeName::None {
            return Err(no_effect("relabel-margin", "without `--relabel flip` or `drop`"));
        }
        let [_, filter, ..] = &self.steps;
        if !self.filters() && filter.words().next().is_some() {
            return Err(usage(
                "options of [filter] have no effect without `filter` or `reweight`".into(),
            )
            .hint("set `filter = true` in the recipe, or type `--filter`"));
        }
        // Every kind of step is understood before anything is made.
        self.kinds().map(|_| ())
    }

    /// One command of each kind of step, with the table of its options.
    pub(super) fn kinds(&self) -> Result<Vec<(usize, Step, Job)>> {
        let files = [PathBuf::from("file")];
        let mut steps = vec![
            (0, self.label(1, None)),
            (0, self.label(2, Some(1))),
            (0, self.probe(1)),
            (2, self.train("train", 1, &files, &files, &files)),
            (3, self.relabel_step("relabel", "train", 1, &files, None)),
        ];
        if self.filters() {
            steps.push((1, self.filter_step(1, None)));
        }
        let understood = |(table, step): (usize, Step)| {
            let command =
                parse(&step.argv).map_err(|refused| self.steps[table].refused(refused))?;
            if let Job::Label(args) = &command
                && args.search_uses_gold()
            {
                let name = if args.is_leaky() { "consistency" } else { "init" };
                let why = "it takes from gold, which a loop never does";
                return Err(self.steps[0].forbidden(name, why));
            }
            Ok((table, step, command))
        };
        steps.into_iter().map(understood).collect()
    }

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
        map.insert("model".into(), self.model.display().to_string().into());
        map.insert("num_batches".into(), self.num_batches.into());
        map.insert("held_out".into(), self.held_out.into());
        map.insert("later".into(), name(self.later.to_possible_value()).into());
        map.insert("filter".into(), self.filter.into());
        map.insert("reweight".into(), self.reweight.into());
        let relabel = json!({ "by": name(self.relabel.to_possible_value()),
            "margin": self.relabel_margin, "cross_fit": self.cross_fit });
        map.insert("relabel".into(), relabel);
        map.insert("brakes".into(), json!(self.brakes));
        let place: Vec<String> = self.place.iter().cloned().chain(self.own_context()).collect();
        map.insert("model_options".into(), place.into());
        for (options, (table, _)) in self.steps.iter().zip(TABLES) {
            let words: Vec<String> = options.words().collect();
            map.insert(format!("{table}_options"), words.into());
        }
        map
    }

    fn own_context(&self) -> Option<String> {
        self.max_context.map(|tokens| format!("--max-context={tokens}"))
    }

    /// The loop's limit of prompts, for steps of a command whose table does not say another; what is
    /// trained on has a limit of its own.
    fn context(&self, command: &str) -> Option<String> {
        let [label, filter, _, relabel] =
            self.steps.each_ref().map(|options| options.has("max-context"));
        let is_said = match command {
            "label" => label,
            "filter" => filter,
            // It is asked as the held-out examples are.
            "relabel" => relabel || label,
            _ => true,
        };
        self.own_context().filter(|_| !is_said)
    }

    /// The place of a step's run folder.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// A file with the ids of a part of the data.
    pub(super) fn ids_file(&self, part: &str) -> PathBuf {
        self.out.join("data").join(format!("{part}.jsonl"))
    }

    /// The words that begin every step, and those about the model and its adapter.
    fn begin(&self, command: &str, adapter: Option<&str>, name: &str) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let mut words = vec![command.to_owned(), "--model".into(), text(&self.model)];
        if let Some(adapter) = adapter {
            words.extend(["--adapter".into(), text(&self.folder(adapter))]);
        }
        words.extend(self.place.iter().cloned());
        words.extend(self.context(command));
        words.extend(["--task".into(), self.task.clone(), "--data".into(), text(&self.data)]);
        words.extend(["--seed".into(), self.seed.to_string()]);
        words.extend(["--out".into(), text(&self.folder(name))]);
        words
    }

    /// Words of [label] that mean something without a search.
    fn of_prediction(&self) -> Vec<String> {
        self.steps[0].words_of(&OF_PREDICTION)
    }

    /// How a round's batch is labelled.
    pub(super) fn method(&self, round: usize) -> &'static str {
        match (round, self.later) {
            (1, _) | (_, LaterName::Icm) => "icm",
            _ => "zero-shot",
        }
    }

    /// The step that labels a round's batch, by the adapter of another round.
    pub(super) fn label(&self, round: usize, by: Option<usize>) -> Step {
        let name = format!("round-{round}/label");
        let mut words = self.begin("label", adapter(by).as_deref(), &name);
        words.extend(files("--ids", &[self.ids_file(&format!("batch-{round}"))]));
        match self.method(round) {
            "icm" => words.extend(self.steps[0].words()),
            method => {
                words.extend(["--method".into(), method.into()]);
                words.extend(self.of_prediction());
            }
        }
        Step::new(name, words)
    }

    /// The step that puts the questions of a round's batch in variants.
    pub(super) fn filter_step(&self, round: usize, by: Option<usize>) -> Step {
        let name = format!("round-{round}/filter");
        let mut words = self.begin("filter", adapter(by).as_deref(), &name);
        words.push("--entropy".into());
        words.extend(files("--ids", &[self.ids_file(&format!("batch-{round}"))]));
        words.extend(self.steps[1].words());
        Step::new(name, words)
    }

    /// A step that trains in a round's folder `part`, on labels with weights, of the ids in files.
    pub(super) fn train(
        &self,
        part: &str,
        round: usize,
        labels: &[PathBuf],
        ids: &[PathBuf],
        weights: &[PathBuf],
    ) -> Step {
        let name = format!("round-{round}/{part}");
        let mut words = self.begin("train", None, &name);
        words.extend(files("--labels", labels));
        words.extend(files("--ids", ids));
        words.extend(files("--weights", weights));
        if !weights.is_empty() {
            words.extend(["--missing-weight".into(), "0".into()]);
        }
        words.extend(self.steps[2].words());
        Step::new(name, words)
    }

    /// The step in which a round's model `by` looks at labels again.
    pub(super) fn relabel_step(
        &self,
        part: &str,
        by: &str,
        round: usize,
        labels: &[PathBuf],
        ids: Option<PathBuf>,
    ) -> Step {
        let name = format!("round-{round}/{part}");
        let mut words = self.begin("relabel", Some(&format!("round-{round}/{by}")), &name);
        words.extend(files("--labels", labels));
        words.extend(files("--ids", ids.as_slice()));
        if self.relabel != ChangeName::None {
            let by = self.relabel.to_possible_value();
            words.push(format!("--by={}", by.as_ref().map_or("none", |value| value.get_name())));
            words.extend(self.relabel_margin.map(|nats| format!("--margin={nats}")));
        }
        // As the held-out examples are asked, unless its table says otherwise.
        let [label, .., own] = &self.steps;
        let unsaid: Vec<&str> = OF_PREDICTION.into_iter().filter(|name| !own.has(name)).collect();
        words.extend(label.words_of(&unsaid));
        words.extend(own.words());
        Step::new(name, words)
    }

    /// The step in which a round's model answers what was set aside.
    pub(super) fn probe(&self, round: usize) -> Step {
        let name = format!("round-{round}/probe");
        let by = (round > 0).then_some(round);
        let mut words = self.begin("label", adapter(by).as_deref(), &name);
        words.extend(files("--ids", &[self.ids_file("held-out")]));
        words.extend(["--method".into(), "zero-shot".into()]);
        words.extend(self.of_prediction());
        Step::new(name, words)
    }

    /// The most steps that there can be.
    pub(super) fn most_steps(&self) -> usize {
        let probe = usize::from(self.held_out > 0.0);
        let filter = usize::from(self.filters());
        let again = if self.cross_fit { 4 } else { 1 };
        probe + self.num_batches * (2 + filter + probe + again)
    }
}

/// The folder of a round's adapter.
pub(super) fn adapter(round: Option<usize>) -> Option<String> {
    round.map(|round| format!("round-{round}/train"))
}

fn files(option: &str, paths: &[PathBuf]) -> Vec<String> {
    paths.iter().flat_map(|path| [option.to_owned(), path.display().to_string()]).collect()
}
