//! The steps of a loop: clones of its templates, with what differs from round to round.

use std::path::PathBuf;

use super::options::LaterName;
use super::settings::LoopSettings;
use crate::pipeline::ids::IdsOptions;
use crate::pipeline::job::Job;
use crate::pipeline::label::LabelJob;
use crate::pipeline::model::ModelOptions;
use crate::pipeline::relabel::ChangeName;
use crate::pipeline::step::Step;

impl LoopSettings {
    /// The place of a step's run folder.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// A file with the ids of a part of the data.
    pub(super) fn ids_file(&self, part: &str) -> PathBuf {
        self.out.join("data").join(format!("{part}.jsonl"))
    }

    fn ids_of(&self, part: &str) -> IdsOptions {
        IdsOptions { files: vec![self.ids_file(part)] }
    }

    /// The folder of a round's adapter.
    pub(super) fn adapter(&self, round: Option<usize>) -> Option<PathBuf> {
        adapter(round).map(|name| self.folder(&name))
    }

    /// Has a step ask the model with an adapter: here, or on the server.
    fn ask(&self, model: &mut ModelOptions, trained: Option<PathBuf>) {
        match &self.labeller {
            None => model.adapter = trained,
            Some(labeller) => model.model = labeller.model(trained.as_deref()),
        }
    }

    fn searches(&self, round: usize) -> bool {
        round == 1 || self.later == LaterName::Icm
    }

    /// How a round's batch is labelled.
    pub(super) fn method(&self, round: usize) -> &'static str {
        if self.searches(round) { "icm" } else { "zero-shot" }
    }

    /// The step that labels a round's batch, by the adapter of another round.
    pub(super) fn label(&self, round: usize, by: Option<usize>) -> Step {
        let (name, part) = (format!("round-{round}/label"), format!("batch-{round}"));
        let templates = &self.templates;
        if self.searches(round) {
            let remark = templates.label_remark.clone();
            self.labelling(&templates.label, name, &part, by).saying(remark)
        } else {
            self.labelling(&templates.predict, name, &part, by)
        }
    }

    /// The step in which a round's model answers what was set aside.
    pub(super) fn probe(&self, round: usize) -> Step {
        let by = (round > 0).then_some(round);
        self.labelling(&self.templates.predict, format!("round-{round}/probe"), "held-out", by)
    }

    fn labelling(&self, template: &LabelJob, name: String, part: &str, by: Option<usize>) -> Step {
        let mut job = template.clone();
        self.ask(&mut job.model, self.adapter(by));
        job.ids = self.ids_of(part);
        job.run.out = self.folder(&name);
        Step::new(name, Job::Label(Box::new(job)))
    }

    /// The step that puts the questions of a round's batch in variants.
    pub(super) fn filter_step(&self, round: usize, by: Option<usize>) -> Step {
        let name = format!("round-{round}/filter");
        let mut job = self.templates.filter.clone();
        if let Some(model) = &mut job.model {
            self.ask(model, self.adapter(by));
        }
        job.ids = self.ids_of(&format!("batch-{round}"));
        job.run.out = self.folder(&name);
        Step::new(name, Job::Filter(Box::new(job)))
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
        let mut job = self.templates.train.clone();
        job.labels = labels.to_vec();
        job.ids = IdsOptions { files: ids.to_vec() };
        job.weights = weights.to_vec();
        job.missing_weight = (!weights.is_empty()).then_some(0.0);
        job.run.out = self.folder(&name);
        Step::new(name, Job::Train(Box::new(job)))
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
        let mut job = self.templates.relabel.clone();
        self.ask(&mut job.model, Some(self.folder(&format!("round-{round}/{by}"))));
        job.labels = labels.to_vec();
        job.ids = IdsOptions { files: ids.into_iter().collect() };
        job.by = self.relabel;
        job.margin = self.relabel_margin.filter(|_| self.relabel != ChangeName::None);
        job.run.out = self.folder(&name);
        Step::new(name, Job::Relabel(Box::new(job)))
    }

    /// A job of each kind of step, with the number of the table of its options.
    pub(super) fn kinds(&self) -> Vec<(usize, Job)> {
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
        steps.into_iter().map(|(table, step)| (table, step.job)).collect()
    }

    /// The most steps that there can be.
    pub(super) fn most_steps(&self) -> usize {
        let probe = usize::from(self.held_out > 0.0);
        let filter = usize::from(self.filters());
        let again = if self.cross_fit { 4 } else { 1 };
        probe + self.num_batches * (2 + filter + probe + again)
    }
}

/// The name of the folder of a round's adapter.
pub(super) fn adapter(round: Option<usize>) -> Option<String> {
    round.map(|round| format!("round-{round}/train"))
}
