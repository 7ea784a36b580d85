//! What a training learns: its sources of labels and what they weigh.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::items::{Answers, Source, Weighing};
use super::options::TrainJob;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::finished::complete_run;
use crate::pipeline::note::Note;
use crate::pipeline::voice::Voice;
use crate::run::files::LABELS;
use crate::run::{GoldUse, Origin, RunDir};

/// Temperature of the reliability weights: as published.
const TEMPERATURE: f64 = 0.2;

impl TrainJob {
    pub(super) fn is_gold(&self) -> bool {
        self.labels.iter().eq([Path::new("gold")])
    }

    /// Takes from a labelled or filtered run what no option says.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] for a run that is not complete, or has no labels to learn.
    pub(super) fn follow_run(&mut self, voice: &Voice<'_>) -> Result<()> {
        let Some(run) = self.from.take() else { return Ok(()) };
        let (folder, manifest) = complete_run(&run)?;
        let text = |name: &str| manifest.settings.get(name).and_then(Value::as_str);
        let missing = |what: &str| {
            Error::new(ErrorKind::Run, format!("the run's manifest names no {what}"))
                .at(&run)
                .hint(format!("name it with `--{what}`"))
        };
        if self.task.is_empty() {
            self.task = text("task").ok_or_else(|| missing("task"))?.to_owned();
            self.columns = self.columns.over(&manifest.settings);
            let own = self.columns.task(&self.task)?.prompt.name;
            let asked = text("prompt_variant").filter(|name| *name != own).map(str::to_owned);
            self.prompt_variant = self.prompt_variant.take().or(asked);
        }
        if self.data.as_os_str().is_empty() {
            let data = Path::new(text("data").ok_or_else(|| missing("data"))?);
            self.data = Origin::find(&run, data);
        }
        if self.labels.is_empty() && self.answers.is_empty() {
            let file = |name: &str| folder.file(name);
            match manifest.command.as_str() {
                "filter" => {
                    self.labels = vec![file("kept.jsonl")];
                    self.answers = vec![file("answers.jsonl")];
                }
                _ if file(LABELS).is_file() => self.labels = vec![file(LABELS)],
                other => {
                    return Err(Error::new(
                        ErrorKind::Run,
                        format!("a run of `w2s {other}` has no labels"),
                    )
                    .at(&run)
                    .hint("name a run of `w2s label`, `relabel`, `filter` or `loop`"));
                }
            }
        }
        let files = self.labels.iter().chain(&self.answers).cloned().collect();
        let (task, data) = (self.task.clone(), self.data.clone());
        voice.note(&Note::RunFollowed { run, task, data, files });
        Ok(())
    }

    /// Puts the files of run folders in the place of the folders.
    pub(super) fn find_in_runs(&mut self) -> Result<()> {
        let lists: [(&mut Vec<PathBuf>, &str, &[&str]); 2] = [
            (&mut self.labels, "labels", &["kept.jsonl", "labels.jsonl"]),
            (&mut self.answers, "answers", &["answers.jsonl"]),
        ];
        for (paths, what, names) in lists {
            for path in paths.iter_mut().filter(|path| path.is_dir()) {
                let there = names.iter().map(|name| path.join(name)).find(|file| file.is_file());
                *path = there.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Data,
                        format!("the folder holds no {what}, expected {}", names.join(" or ")),
                    )
                    .at(&*path)
                    .hint("give a finished run of `w2s label` or `w2s filter`, or a file")
                })?;
            }
        }
        Ok(())
    }

    pub(super) fn source(&self) -> Source<'_> {
        if self.is_gold() {
            Source::Gold(self.gold_file(), self.gold_column.as_deref())
        } else if self.answers.is_empty() {
            Source::Labels(&self.labels)
        } else {
            Source::Answers(Answers {
                paths: &self.answers,
                labels: &self.labels,
                sample: self.sample.as_deref(),
            })
        }
    }

    /// What the labels and answers weigh.
    pub(super) fn weighing(&self) -> Weighing<'_> {
        if !self.weights.is_empty() {
            Weighing::Files(&self.weights, self.missing_weight)
        } else if self.reweight && self.answers.is_empty() {
            Weighing::Lines
        } else if self.reweight {
            Weighing::Reliability(self.temperature())
        } else {
            Weighing::Alike
        }
    }

    pub(super) fn temperature(&self) -> f64 {
        self.temperature.unwrap_or(TEMPERATURE)
    }

    fn gold_file(&self) -> &Path {
        self.gold.as_deref().unwrap_or(&self.data)
    }

    /// The files the labels come from, by role.
    pub(super) fn label_files(&self) -> Vec<(&'static str, Vec<&Path>)> {
        fn paths(files: &[PathBuf]) -> Vec<&Path> {
            files.iter().map(PathBuf::as_path).collect()
        }
        let labels = if self.is_gold() {
            ("gold", vec![self.gold_file()])
        } else {
            ("labels", paths(&self.labels))
        };
        let sample = self.sample.as_deref().into_iter().collect();
        vec![
            labels,
            ("answers", paths(&self.answers)),
            ("sample", sample),
            ("weights", paths(&self.weights)),
        ]
    }

    /// Whether gold has a part in the run: labels are taken for gold unless they are of a run that
    /// used none.
    pub(super) fn gold_used(&self) -> GoldUse {
        if self.is_gold() {
            return GoldUse::Because(format!(
                "trained on the gold labels of {}",
                self.gold_file().display()
            ));
        }
        let files = self.label_files().into_iter();
        for (role, path) in files.flat_map(|(role, all)| all.into_iter().map(move |p| (role, p))) {
            let folder = match path.parent() {
                Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
                Some(folder) => folder,
                None => continue,
            };
            match RunDir::existing(folder) {
                Ok((_, manifest)) => {
                    if let GoldUse::Because(reason) = manifest.gold_used {
                        return GoldUse::Because(format!("by the {role}: {reason}"));
                    }
                }
                Err(_) => {
                    return GoldUse::Because(format!(
                        "{role} were given by the user: {}",
                        path.display()
                    ));
                }
            }
        }
        self.model.gold_used(GoldUse::no())
    }

    /// The data's part of the resolved settings.
    pub(super) fn data_settings(&self, settings: &mut Map<String, Value>) {
        let path = |paths: &[PathBuf]| match paths {
            [] => Value::Null,
            [path] => path.display().to_string().into(),
            all => all.iter().map(|path| path.display().to_string()).collect(),
        };
        settings.insert(
            "labels".into(),
            if self.is_gold() { "gold".into() } else { path(&self.labels) },
        );
        settings.insert("answers".into(), path(&self.answers));
        settings.insert("sample".into(), path(self.sample.as_slice()));
        settings.insert("weights".into(), path(&self.weights));
        if let Some(weight) = self.missing_weight {
            settings.insert("missing_weight".into(), weight.into());
        }
        let reweight = self.reweight.then(|| match self.weighing() {
            Weighing::Lines => json!("weights on the lines of the labels"),
            _ => json!({ "temperature": self.temperature() }),
        });
        settings.insert("reweight".into(), json!(reweight));
        settings.insert("gold_column".into(), json!(self.gold_column));
        settings.insert("soft_labels".into(), self.soft_labels.into());
        settings.insert("limit".into(), self.limit.map(NonZeroUsize::get).into());
        settings.insert("max_tokens".into(), self.max_tokens.into());
        let too_long = self.too_long.to_possible_value();
        settings.insert("too_long".into(), too_long.map(|v| v.get_name().to_owned()).into());
        settings.insert(
            "validation".into(),
            json!({ "share": self.validation, "every_steps": self.validate_every,
                "best": self.best, "patience": self.patience }),
        );
    }
}
