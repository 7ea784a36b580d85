//! What the commands of one process share: models that are open, and digests of files.
//!
//! A command asks its session for a model and gives it back when it is done. The next command that
//! wants the same weights gets them as they were read, with its own adapter in place: nothing of what
//! was scored or trained before is left. So a command makes the same bytes here as in a process of its
//! own. A command that fails, or that changes a model's own weights, does not give it back.

use std::path::{Path, PathBuf};

use tch::Kind;

use super::digests::Digests;
use super::model::ModelOptions;
use super::note::Note;
use super::observer::{Event, Observer, Silent};
use super::voice::Voice;
use super::warning::Warning;
use crate::error::{Error, ErrorKind, Result};
use crate::lm::Devices;
use crate::run::{Manifest, RunDir, copy_run, find_run};
use crate::score::{Asked, LmScorer, Work, total_memory};
use crate::train::ProcessRank;

/// Models that are kept open besides the one at work.
const MOST_KEPT: usize = 2;

/// What is kept from one job to the next: open models, digests of files, and who listens.
#[derive(Debug)]
pub struct Session<'o> {
    /// To the observer.
    pub(super) voice: Voice<'o>,
    /// The least recently used first.
    models: Vec<LmScorer>,
    pub(super) digests: Digests,
    /// The command line of the program; empty for a program of another name.
    command_line: Vec<String>,
    /// The command line of the step at work; `None` outside a series of steps.
    step: Option<Vec<String>>,
    /// Folder whose complete runs are taken instead of being made again.
    reused: Option<PathBuf>,
    /// What models would have run, if they only count.
    counted: Option<Work>,
    /// What servers would have been asked, if models only count.
    served: Vec<Asked>,
}

impl Default for Session<'_> {
    /// A session that nobody listens to.
    fn default() -> Self {
        Self::new(Silent)
    }
}

impl<'o> Session<'o> {
    /// Returns a session that tells `observer` what its jobs do.
    pub fn new(observer: impl Observer + 'o) -> Self {
        Self {
            voice: Voice::new(observer),
            models: Vec::new(),
            digests: Digests::default(),
            command_line: Vec::new(),
            step: None,
            reused: None,
            counted: None,
            served: Vec::new(),
        }
    }

    /// Returns the session with the command line that manifests are to record, and that says in which
    /// spelling options were typed: those of published programs ask for their presets.
    #[must_use]
    pub fn with_command_line(mut self, words: impl IntoIterator<Item = String>) -> Self {
        self.command_line = words.into_iter().collect();
        self
    }

    /// Makes all models of the session count what they would run, and run nothing.
    pub(super) fn count_only(&mut self) {
        self.counted = Some(Work::default());
    }

    /// Returns whether models count only.
    pub(super) fn counts(&self) -> bool {
        self.counted.is_some()
    }

    /// What was counted since this was last asked.
    pub(super) fn take_counted(&mut self) -> Work {
        self.counted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Goes on to a step of a series, whose command line is this.
    pub(super) fn begin_step(&mut self, command_line: Vec<String>) {
        self.step = Some(command_line);
    }

    /// Takes runs that are complete in this folder, or below it, instead of making them again.
    pub(super) fn reuse_from(&mut self, root: Option<PathBuf>) {
        self.reused = root;
    }

    /// Copies a complete run with the digest of `manifest` to `out`, if there is one elsewhere and
    /// nothing at `out`.
    pub(super) fn reuse(&self, manifest: &Manifest, out: &Path) -> Result<()> {
        let Some(root) = self.reused.as_ref().filter(|_| !out.exists()) else { return Ok(()) };
        let Some(found) = find_run(root, &manifest.digest())? else { return Ok(()) };
        copy_run(&found, out, manifest)?;
        self.voice.note(&Note::RunCopied { from: found });
        Ok(())
    }

    /// The command line that a manifest records: of the step, or of the process.
    pub(super) fn command_line(&self) -> Vec<String> {
        self.step.clone().unwrap_or_else(|| self.command_line.clone())
    }

    /// Says the settings of a run; in a series of steps they are in the manifests only.
    pub(super) fn tell_settings(&self, manifest: &Manifest) {
        if self.step.is_none() {
            self.tell_settings_of_all(manifest);
        }
    }

    /// Says that a run is complete, unless it is a step of a series.
    pub(super) fn tell_finished(&self, folder: &RunDir) {
        if self.step.is_none() && !self.counts() {
            self.voice.tell(&Event::Finished { folder });
        }
    }

    /// Says the settings of a series of steps.
    pub(super) fn tell_settings_of_all(&self, manifest: &Manifest) {
        let _ = self.voice.event(&Event::Settings(manifest));
    }

    /// Takes what a server would have been asked.
    pub(super) fn count_served(&mut self, asked: Vec<Asked>) {
        self.served.extend(asked);
    }

    /// What servers would have been asked since this was last asked.
    pub(super) fn take_served(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.served)
    }

    /// Returns the model with its adapter, ready to score.
    pub(super) fn open(&mut self, args: &ModelOptions) -> Result<LmScorer> {
        let mut scorer = self.take(args, || args.training_device(None))?;
        if self.counts() {
            scorer.count_only();
        } else if let Some(adapter) = &args.adapter {
            scorer = scorer.with_adapter(adapter)?;
        }
        args.set_threads(None);
        Ok(scorer)
    }

    /// Returns the model without an adapter, to be trained.
    pub(super) fn open_trainable(
        &mut self,
        args: &ModelOptions,
        place: (Devices, Kind),
        process: Option<&ProcessRank>,
    ) -> Result<LmScorer> {
        let mut scorer = self.take(args, || Ok(place.clone()))?;
        if self.counts() {
            scorer.count_only();
        }
        args.set_threads(process);
        Ok(scorer)
    }

    /// Keeps a model for the next command that wants it.
    pub(super) fn give_back(&mut self, scorer: LmScorer) {
        if let (Some(all), Some(counted)) = (&mut self.counted, scorer.counted()) {
            *all = all.plus(counted);
        }
        if self.step.is_some() {
            self.keep(scorer);
        }
    }

    /// Keeps a model that did no work yet for the command that will want it.
    pub(super) fn keep(&mut self, scorer: LmScorer) {
        self.models.push(scorer);
        let most = total_memory().map_or(u64::MAX, |size| size.0 / 4);
        // What a file maps is taken from memory only as far as there is room, but what was converted
        // is not, and nobody can tell from here.
        let held = |models: &[LmScorer]| -> u64 {
            let on_cpu = models.iter().filter(|model| !model.decoder().device().is_cuda());
            on_cpu.map(|model| model.decoder().num_weight_bytes()).sum()
        };
        while self.models.len() > MOST_KEPT
            || (self.models.len() > 1 && held(&self.models[..self.models.len() - 1]) > most)
        {
            self.models.remove(0);
        }
    }

    fn take(
        &mut self,
        args: &ModelOptions,
        place: impl Fn() -> Result<(Devices, Kind)>,
    ) -> Result<LmScorer> {
        if args.server()?.is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "this command needs a model folder, not a server",
            )
            .hint("`w2s label`, `score`, `filter`, `relabel` and `eval --test` ask servers"));
        }
        if self.models.is_empty() {
            return told(LmScorer::open_on(&args.model, args.options(), place)?, &self.voice);
        }
        let settled = place()?;
        let is_it = |model: &LmScorer| {
            let decoder = model.decoder();
            let on = decoder.placement().stages().iter().map(|(device, _)| device);
            model.folder() == args.model && decoder.kind() == settled.1 && on.eq(settled.0.all())
        };
        if let Some(index) = self.models.iter().position(is_it) {
            let mut scorer = self.models.remove(index);
            scorer.begin_anew(args.options())?;
            return Ok(scorer);
        }
        let open = || {
            told(
                LmScorer::open_on(&args.model, args.options(), || Ok(settled.clone()))?,
                &self.voice,
            )
        };
        open().or_else(|_| {
            // There may be no room for it beside the others.
            self.models.clear();
            open()
        })
    }
}

/// Warns of what is unexpected in the model's files, and returns the model.
#[expect(clippy::unnecessary_wraps, reason = "ends a chain of results")]
fn told(scorer: LmScorer, voice: &Voice<'_>) -> Result<LmScorer> {
    for remark in &scorer.decoder().config().warnings {
        let folder = scorer.folder().to_path_buf();
        voice.warn(&Warning::Model { folder, remark: remark.clone() });
    }
    Ok(scorer)
}
