//! What a loop refuses before it makes anything: options that one of its steps would die of.
//!
//! Each kind of step is held against what its command asks of its options, on the data of the whole loop,
//! and the model is opened as the first step opens it. What depends on a batch, such as whether it
//! fits the model's context, is for the step to say.

use std::borrow::Cow;

use super::settings::{LoopSettings, TABLES};
use crate::data::{Dataset, Task};
use crate::error::Result;
use crate::filter::Asking;
use crate::pipeline::filter::FilterJob;
use crate::pipeline::filter::variation;
use crate::pipeline::job::Job;
use crate::pipeline::label::LabelJob;
use crate::pipeline::server::ServerOptions;
use crate::pipeline::session::Session;
use crate::pipeline::train::TrainJob;
use crate::pipeline::train::Trained;
use crate::run::SeedStream;

impl LoopSettings {
    /// Refuses options of steps that do not go together, or not with the task.
    pub(super) fn check_steps(&self, task: &Task, dataset: &Dataset) -> Result<()> {
        let data = Data { settings: self, task, dataset };
        for (table, job) in self.kinds() {
            let checked = match job {
                Job::Label(args) => data.check_label(&args),
                Job::Train(args) => data.check_train(&args),
                Job::Filter(args) => data.check_filter(&args),
                Job::Relabel(args) => data
                    .asked_as(args.prompt_variant())
                    .and_then(|(task, _)| args.check_settings(&task))
                    .and_then(|()| data.check_server(&args.server)),
                _ => Ok(()),
            };
            checked.map_err(|error| error.of(format_args!("[{}]", TABLES[table].0)))?;
        }
        Ok(())
    }

    /// Asks the server whether it takes adapters, opens the model, keeps it for the first step, and refuses an adapter that it cannot have.
    pub(super) fn check_model(&self, session: &mut Session) -> Result<()> {
        if let Some(labeller) = self.labeller.as_ref().filter(|_| !session.counts()) {
            labeller.check()?;
        }
        for (table, job) in self.kinds() {
            let Job::Train(args) = job else { continue };
            let devices = args.model.training_device(None)?;
            let mut model = session.open_trainable(&args.model, devices, None)?;
            let (decoder, _) = model.parts_mut();
            Trained::new(&args, decoder, SeedStream::new(self.seed))
                .map_err(|error| error.of(format_args!("[{}]", TABLES[table].0)))?;
            session.keep(model);
        }
        Ok(())
    }
}

/// What the steps of a loop ask about.
struct Data<'a> {
    settings: &'a LoopSettings,
    task: &'a Task,
    dataset: &'a Dataset,
}

impl Data<'_> {
    /// Returns the task and the data as a prompt variant reads them.
    fn asked_as(&self, variant: Option<&str>) -> Result<(Cow<'_, Task>, Cow<'_, Dataset>)> {
        let Some(name) = variant.filter(|name| *name != self.task.prompt.name) else {
            return Ok((Cow::Borrowed(self.task), Cow::Borrowed(self.dataset)));
        };
        let task = self.settings.columns.task(&self.settings.task)?.with_variant(name)?;
        let dataset = Dataset::read(&self.settings.data, &task)?;
        let task = dataset.labelled_task(task)?;
        Ok((Cow::Owned(task), Cow::Owned(dataset)))
    }

    /// Refuses options of a server where none is asked.
    fn check_server(&self, server: &ServerOptions) -> Result<()> {
        match self.settings.labeller {
            Some(_) => Ok(()),
            None => server.forbid(),
        }
    }

    fn check_label(&self, args: &LabelJob) -> Result<()> {
        self.check_server(&args.server)?;
        let (task, dataset) = self.asked_as(args.variant(self.task))?;
        args.method(&task, &dataset).map(|_| ())
    }

    fn check_train(&self, args: &TrainJob) -> Result<()> {
        args.check()?;
        // Labels of the steps before set nothing aside.
        args.check_validation(args.validation.is_some_and(|share| share > 0.0))?;
        self.asked_as(args.prompt_variant.as_deref()).map(|_| ())
    }

    fn check_filter(&self, args: &FilterJob) -> Result<()> {
        self.check_server(&args.server)?;
        let own = self.task.answers.prompt.as_deref();
        let (task, dataset) = self.asked_as(args.prompt_variant.as_deref().or(own))?;
        args.keep_settings(&task)?;
        args.ask_form(&task)?;
        let streams = SeedStream::new(self.settings.seed);
        Asking::new(&task, &dataset.examples, variation(args, &task)?, &streams).map(|_| ())
    }
}
