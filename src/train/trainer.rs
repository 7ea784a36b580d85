//! The loop's one step: a batch in passes, its loss and gradient, a step of the optimizer.

use serde::{Deserialize, Serialize};

use super::batch::{Normalise, Pack, Plan};
use super::group::Group;
use super::item::Item;
use super::loss::{ClassLoss, Loss};
use super::optimizer::{AdamW, Decay, Parameter, Schedule};
use super::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::within_memory;
use crate::lm::{
    AdapterDropout, Decoder, Derivatives, Deterministic, NewTokens, TrainTokens, gather_memory,
};
use crate::run::SeedStream;
use crate::score::Halved;

/// How a model is trained. The defaults are those of RA's recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainSettings {
    /// What is minimised.
    pub loss: Loss,
    /// What the loss of a batch is divided by.
    pub normalise: Normalise,
    /// Items of a step.
    pub batch_size: usize,
    /// Passes over all items.
    pub num_epochs: usize,
    /// The highest learning rate.
    pub lr: f64,
    /// How it moves after the warm-up.
    pub decay: Decay,
    /// Steps over which it rises.
    pub num_warmup: usize,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// The largest norm of the gradient; `None`: any.
    pub clip: Option<f64>,
    /// Share of the adapter's inputs that are dropped.
    pub dropout: f64,
    /// Whether blocks run again on the way back instead of keeping all they computed.
    pub recompute: bool,
    /// Most tokens of a pass; a question with all its answers is not cut.
    pub pass_tokens: usize,
    /// Most sequences of a pass.
    pub pass_sequences: usize,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            loss: Loss::Tokens,
            normalise: Normalise::Token,
            batch_size: 24,
            num_epochs: 3,
            lr: 5e-5,
            decay: Decay::Linear,
            num_warmup: 0,
            weight_decay: 0.0,
            clip: Some(1.0),
            dropout: 0.05,
            recompute: false,
            pass_tokens: 512,
            pass_sequences: usize::MAX,
        }
    }
}

/// What a step was; the same in equal runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// One-based number of the step.
    pub step: usize,
    /// Share of the epochs done after it.
    pub epoch: f64,
    /// The batch's loss before the step.
    pub loss: f64,
    /// The gradient's norm before it was clipped.
    pub grad_norm: f64,
    /// The learning rate.
    pub lr: f64,
    /// Items of the batch.
    pub num_items: usize,
    /// Tokens that were run.
    pub num_tokens: usize,
    /// Tokens that would have been run without sharing.
    pub num_sequence_tokens: usize,
}

/// A step that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    /// One-based number of the step.
    pub step: usize,
    /// Share of the epochs done after it.
    pub epoch: f64,
    /// The learning rate.
    pub lr: f64,
    /// The places of the batch's items.
    pub items: Vec<usize>,
    /// For every answer of each, what the negative log-probability of each of its tokens is multiplied by.
    pub factors: Vec<Vec<f64>>,
    /// Whether it is the last of its epoch.
    pub ends_epoch: bool,
}

/// A training under way.
#[derive(Debug)]
pub struct Trainer<'a> {
    decoder: &'a Decoder,
    items: &'a [Item],
    settings: TrainSettings,
    optimizer: AdamW,
    plan: Plan,
    schedule: Schedule,
    streams: SeedStream,
    group: Option<&'a Group>,
    step: usize,
    /// The epoch whose batches are held, and they.
    epoch: (usize, Vec<Vec<usize>>),
    /// That memory ran out and passes were made smaller, until it is told.
    halved: Option<Halved>,
    /// So that a training that goes on ends with the bytes of one that was never stopped.
    _repeats: Deterministic,
    /// The most tokens of a pass that there is memory for.
    #[cfg(test)]
    room: Option<usize>,
}

impl<'a> Trainer<'a> {
    /// Returns a training of `parameters`, tensors of `decoder`, on `items`, before its first step.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for settings that do not go together.
    pub fn new(
        decoder: &'a Decoder,
        parameters: Vec<Parameter>,
        items: &'a [Item],
        settings: TrainSettings,
        streams: SeedStream,
    ) -> Result<Self> {
        if settings.normalise == Normalise::Reference
            && let Loss::Class(_) = settings.loss
        {
            return Err(Error::new(
                ErrorKind::Usage,
                "`reference` divides by positions of a padded batch, which a loss over labels does not have",
            )
            .hint("use `--normalise token`"));
        }
        let plan = Plan::new(items, settings.batch_size, settings.num_epochs, streams);
        let num_steps = plan.num_steps();
        let TrainSettings { decay, lr, num_warmup, .. } = settings;
        let schedule = Schedule { decay, lr, num_warmup, num_steps };
        let optimizer = AdamW::new(parameters, settings.weight_decay);
        let epoch = (0, plan.epoch(0));
        Ok(Self {
            decoder,
            items,
            settings,
            optimizer,
            plan,
            schedule,
            streams,
            group: None,
            step: 0,
            epoch,
            halved: None,
            _repeats: Deterministic::on(decoder.device())?,
            #[cfg(test)]
            room: None,
        })
    }

    /// Returns the training as the part of it that this process has in `group`.
    #[must_use]
    pub fn in_group(mut self, group: &'a Group) -> Self {
        self.group = (group.size() > 1).then_some(group);
        self
    }

    /// Takes over where rank 0 stands: what trains, what the optimizer remembers, and the step.
    ///
    /// # Errors
    /// [`ErrorKind::Group`] when a process is gone.
    pub fn take_first(&mut self, state: State) -> Result<State> {
        let Some(group) = self.group else { return Ok(state) };
        let internal = |e| Error::new(ErrorKind::Internal, format!("cannot pass on: {e}"));
        let own = serde_json::to_string(&state).map_err(internal)?;
        let state: State = serde_json::from_str(&group.text(0, &own)?).map_err(internal)?;
        let (named, _) = self.optimizer.state();
        let parameters = self.optimizer.parameters().iter().map(|p| &p.tensor);
        group.take_first(parameters.chain(named.iter().map(|(_, tensor)| tensor)))?;
        self.optimizer.set_num_steps(state.step as u64);
        self.step = state.step;
        Ok(state)
    }

    /// This process's number and the number of processes.
    fn share(&self) -> (usize, usize) {
        self.group.map_or((0, 1), |group| (group.rank(), group.size()))
    }

    /// The sums over all processes.
    fn sum(&self, local: Result<Vec<f64>>, num: usize) -> Result<Vec<f64>> {
        match self.group {
            Some(group) => group.sum(local, num),
            None => local,
        }
    }

    /// Returns the number of steps of the whole training.
    pub fn num_steps(&self) -> usize {
        self.plan.num_steps()
    }

    /// Returns how the training is made.
    pub fn settings(&self) -> &TrainSettings {
        &self.settings
    }

    /// Returns all steps of the training, for who makes them elsewhere.
    pub fn planned(&self) -> impl Iterator<Item = PlannedStep> + '_ {
        (0..self.settings.num_epochs).flat_map(move |epoch| {
            let batches = self.plan.epoch(epoch);
            let (begin, num) = (self.plan.begin_of(epoch), batches.len());
            batches.into_iter().enumerate().map(move |(at, items)| {
                let batch: Vec<&Item> = items.iter().map(|&place| &self.items[place]).collect();
                PlannedStep {
                    step: begin + at + 1,
                    epoch: epoch as f64 + (at + 1) as f64 / num as f64,
                    lr: self.schedule.at(begin + at),
                    factors: self.settings.normalise.token_factors(&batch),
                    items,
                    ends_epoch: at + 1 == num,
                }
            })
        })
    }

    /// Returns the number of steps made.
    pub fn num_done(&self) -> usize {
        self.step
    }

    /// Returns whether the last step ended an epoch.
    pub fn at_end_of_epoch(&self) -> bool {
        self.step > 0 && self.plan.ends_epoch(self.step - 1)
    }

    /// Returns the optimizer with the tensors that train.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    pub(super) fn restore(
        &mut self,
        step: usize,
        take: impl FnMut(&str) -> Option<tch::Tensor>,
    ) -> Result<()> {
        self.optimizer.restore(step as u64, take)?;
        self.step = step;
        Ok(())
    }

    /// Makes the next step.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when loss or gradient are not finite: before the step, naming the
    /// batch, so that the model is as the last step left it. [`ErrorKind::Internal`] past the end.
    pub fn step(&mut self) -> Result<StepReport> {
        if self.step >= self.num_steps() {
            return Err(Error::new(ErrorKind::Internal, "a step past the end of the training"));
        }
        let epoch = self.plan.epoch_of(self.step);
        if self.epoch.0 != epoch {
            self.epoch = (epoch, self.plan.epoch(epoch));
        }
        let at = self.step - self.plan.begin_of(epoch);
        let batches = self.epoch.1.len();
        let all = self.items;
        let items: Vec<&Item> = self.epoch.1[at].iter().map(|&i| &all[i]).collect();
        let local = self.accumulate_within_memory(&items);
        let local = local.map(|(loss, tokens)| vec![loss, tokens as f64]);
        let local = local.map_err(|e| match e.kind() {
            ErrorKind::Group => e,
            kind => self.of_batch(&items, kind, e.message()),
        });
        let sums = self.sum(local, 2)?;
        let (loss, num_tokens) = (sums[0], sums[1] as usize);
        let grad_norm = self.summed_grad_norm()?;
        for (what, value) in [("loss", loss), ("norm of the gradient", grad_norm)] {
            if !value.is_finite() {
                let message = format!("the {what} is {value}");
                return Err(self.of_batch(&items, ErrorKind::Numeric, &message));
            }
        }
        let lr = self.schedule.at(self.step);
        // As `torch.nn.utils.clip_grad_norm_`.
        let scale = self.settings.clip.map_or(1.0, |most| (most / (grad_norm + 1e-6)).min(1.0));
        self.optimizer.step(lr, scale)?;
        self.step += 1;
        let sequence = |item: &&Item| item.answers.iter().map(|a| a.ids.len() - 1).sum::<usize>();
        Ok(StepReport {
            step: self.step,
            epoch: epoch as f64 + (at + 1) as f64 / batches as f64,
            loss,
            grad_norm,
            lr,
            num_items: items.len(),
            num_tokens,
            num_sequence_tokens: items.iter().map(sequence).sum(),
        })
    }

    /// Sums the gradients over all processes, and returns their norm.
    fn summed_grad_norm(&self) -> Result<f64> {
        let Some(group) = self.group else { return Ok(self.optimizer.grad_norm()) };
        group.sum_gradients(self.optimizer.parameters())?;
        // Its last bits depend on threads and machine, and all must clip alike.
        let own = if group.is_first() { self.optimizer.grad_norm() } else { 0.0 };
        Ok(group.sum(Ok(vec![own]), 1)?[0])
    }

    fn of_batch(&self, items: &[&Item], kind: ErrorKind, message: &str) -> Error {
        let ids: Vec<String> = items.iter().take(4).map(|item| format!("`{}`", item.id)).collect();
        let more = if items.len() > 4 { ", ..." } else { "" };
        let error = Error::new(
            kind,
            format!(
                "step {}: {message}, in the batch of {} items {}{more}",
                self.step + 1,
                items.len(),
                ids.join(", ")
            ),
        );
        match kind {
            ErrorKind::Data => error
                .hint("logconf needs questions of as many labels each; `--loss entropy` does not"),
            ErrorKind::Device => error.hint(
                "use `--recompute`, a smaller `--dtype`, or spread the model by `--device all`",
            ),
            ErrorKind::Numeric => error.hint(
                "the step was not made; try a lower `--lr`, more `--warmup-steps`, or `--dtype f32`",
            ),
            _ => error,
        }
    }

    /// As [`accumulate`](Self::accumulate) from nothing, in smaller passes where memory runs out.
    fn accumulate_within_memory(&mut self, items: &[&Item]) -> Result<(f64, usize)> {
        loop {
            self.optimizer.zero_grad();
            // Of several processes the others would wait for sums that were made.
            if self.group.is_some() {
                return self.accumulate(items);
            }
            match within_memory(|| self.accumulate(items))? {
                Some(done) => return Ok(done),
                None => self.halve(items)?,
            }
        }
    }

    /// Makes passes half as large as the largest of this batch, from now on.
    fn halve(&mut self, items: &[&Item]) -> Result<()> {
        let s = &self.settings;
        let packs = Pack::of_share(items, s.pass_tokens, s.pass_sequences, self.share());
        let largest = packs.iter().max_by_key(|pack| pack.ids.len());
        let (num_tokens, num_units) =
            largest.map_or((0, 0), |pack| (pack.ids.len(), pack.units.len()));
        if num_units < 2 {
            let message = format!("there is no memory for a pass of {num_tokens} tokens");
            return Err(Error::new(ErrorKind::Device, message));
        }
        self.settings.pass_tokens = num_tokens / 2;
        let from = self.halved.map_or(num_tokens, |before| before.from);
        self.halved = Some(Halved { from, to: num_tokens / 2 });
        gather_memory(self.decoder.placement().stages().iter().map(|(device, _)| *device))
    }

    /// Returns by how much passes were made smaller because memory ran out since this was last asked.
    pub fn take_halved(&mut self) -> Option<Halved> {
        self.halved.take()
    }

    /// Adds up the gradient of a batch, and returns its loss and the tokens run.
    fn accumulate(&self, items: &[&Item]) -> Result<(f64, usize)> {
        let s = &self.settings;
        let packs = Pack::of_share(items, s.pass_tokens, s.pass_sequences, self.share());
        let num_tokens = packs.iter().map(|pack| pack.ids.len()).sum();
        let mut loss = 0.0;
        match s.loss {
            Loss::Tokens => {
                let factors = s.normalise.token_factors(items);
                for pack in &packs {
                    let by: Vec<f64> =
                        pack.asked.iter().map(|a| -factors[a.item][a.answer]).collect();
                    let logprobs = self.backward(pack, Derivatives::Known(&by))?;
                    loss += by.iter().zip(&logprobs).map(|(by, l)| by * l).sum::<f64>();
                }
            }
            Loss::Class(class) => {
                let share = self.step as f64 / self.num_steps() as f64;
                let factors = s.normalise.item_factors(items);
                // What a target depends on must be known before the first way back.
                let is_cut = packs.len() > 1 || self.group.is_some();
                let whole = if class.needs_batch() && is_cut {
                    let scores = self.summed_scores(items, &packs, |pack| {
                        let dropout = self.dropout(pack);
                        self.decoder.target_logprobs(tokens(pack, dropout.as_ref()))
                    })?;
                    Some(class.of_batch(&scores, &weak(items), share)?)
                } else {
                    None
                };
                for pack in &packs {
                    let derivatives = &mut |logprobs: &[f64]| {
                        let (of_pack, by) = class_derivatives(
                            class, items, pack, logprobs, &whole, &factors, share,
                        )?;
                        loss += of_pack;
                        Ok(by)
                    };
                    self.backward(pack, Derivatives::Of(derivatives))?;
                }
            }
        }
        Ok((loss, num_tokens))
    }

    /// The scores of all answers of `items`, of which this process runs `packs`.
    fn summed_scores(
        &self,
        items: &[&Item],
        packs: &[Pack],
        mut logprobs: impl FnMut(&Pack) -> Result<Vec<f64>>,
    ) -> Result<Vec<Vec<f64>>> {
        let mut scores = no_scores(items);
        let mut run = || {
            for pack in packs {
                add_scores(&mut scores, pack, &logprobs(pack)?);
            }
            Ok::<_, Error>(())
        };
        let flat = run().map(|()| scores.concat());
        let mut sums = self.sum(flat, items.iter().map(|item| item.answers.len()).sum())?;
        let mut at = sums.drain(..);
        Ok(items.iter().map(|item| at.by_ref().take(item.answers.len()).collect()).collect())
    }

    fn backward(&self, pack: &Pack, derivatives: Derivatives<'_>) -> Result<Vec<f64>> {
        #[cfg(test)]
        if self.room.is_some_and(|most| pack.ids.len() > most) {
            return Err(Error::new(ErrorKind::Internal, "CUDA out of memory. Tried to allocate"));
        }
        let dropout = self.dropout(pack);
        self.decoder.backward(tokens(pack, dropout.as_ref()), self.settings.recompute, derivatives)
    }

    fn dropout<'p>(&self, pack: &'p Pack) -> Option<AdapterDropout<'p>> {
        AdapterDropout::new(self.settings.dropout, self.streams, self.step as u64, &pack.units)
    }

    /// Returns the tokens that all steps run, and the places at which the head does.
    pub fn count_work(&self) -> (u64, u64) {
        let (mut num_tokens, mut num_rows) = (0, 0);
        let s = &self.settings;
        for batch in (0..s.num_epochs).flat_map(|epoch| self.plan.epoch(epoch)) {
            let items: Vec<&Item> = batch.iter().map(|&place| &self.items[place]).collect();
            for pack in Pack::of_share(&items, s.pass_tokens, s.pass_sequences, self.share()) {
                let mut rows: Vec<usize> = pack.targets.iter().map(|target| target.row).collect();
                rows.dedup();
                num_tokens += pack.ids.len() as u64;
                num_rows += rows.len() as u64;
            }
        }
        (num_tokens, num_rows)
    }

    /// Returns the loss of `items` as one batch, without dropout and without a step.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn evaluate(&self, items: &[Item]) -> Result<f64> {
        let s = &self.settings;
        let items: Vec<&Item> = items.iter().collect();
        let packs = Pack::of_share(&items, s.pass_tokens, s.pass_sequences, self.share());
        let token_factors = s.normalise.token_factors(&items);
        let mut loss = 0.0;
        let scores = self.summed_scores(&items, &packs, |pack| {
            let logprobs = self.decoder.target_logprobs(tokens(pack, None))?;
            let factor = pack.asked.iter().map(|a| token_factors[a.item][a.answer]);
            loss -= factor.zip(&logprobs).map(|(f, l)| f * l).sum::<f64>();
            Ok(logprobs)
        })?;
        let Loss::Class(class) = s.loss else { return Ok(self.sum(Ok(vec![loss]), 1)?[0]) };
        let share = self.step as f64 / self.num_steps() as f64;
        let all = class.of_batch(&scores, &weak(&items), share)?;
        let factors = s.normalise.item_factors(&items);
        Ok(all.iter().zip(factors).map(|((loss, _), factor)| loss * factor).sum())
    }
}

fn tokens<'a>(pack: &'a Pack, dropout: Option<&'a AdapterDropout<'a>>) -> TrainTokens<'a> {
    TrainTokens {
        tokens: NewTokens { ids: &pack.ids, parents: &pack.parents },
        targets: &pack.targets,
        dropout,
    }
}

fn no_scores(items: &[&Item]) -> Vec<Vec<f64>> {
    items.iter().map(|item| vec![0.0; item.answers.len()]).collect()
}

fn add_scores(scores: &mut [Vec<f64>], pack: &Pack, logprobs: &[f64]) {
    for (asked, logprob) in pack.asked.iter().zip(logprobs) {
        scores[asked.item][asked.answer] += logprob;
    }
}

fn weak(items: &[&Item]) -> Vec<Vec<f64>> {
    items.iter().map(|item| item.answers.iter().map(|answer| answer.share).collect()).collect()
}

/// Returns the loss of the items of a pass, and its derivatives by the pass's log-probabilities.
fn class_derivatives(
    class: ClassLoss,
    items: &[&Item],
    pack: &Pack,
    logprobs: &[f64],
    whole: &Option<Vec<(f64, Vec<f64>)>>,
    factors: &[f64],
    share: f64,
) -> Result<(f64, Vec<f64>)> {
    let mut here: Vec<usize> = pack.asked.iter().map(|asked| asked.item).collect();
    here.sort_unstable();
    here.dedup();
    let of_item: std::collections::HashMap<usize, (f64, Vec<f64>)> = match whole {
        Some(whole) => here.iter().map(|&item| (item, whole[item].clone())).collect(),
        None => {
            let mut scores = no_scores(items);
            add_scores(&mut scores, pack, logprobs);
            let scores: Vec<Vec<f64>> = here.iter().map(|&item| scores[item].clone()).collect();
            let mine: Vec<&Item> = here.iter().map(|&item| items[item]).collect();
            let found = class.of_batch(&scores, &weak(&mine), share)?;
            here.iter().copied().zip(found).collect()
        }
    };
    let loss = here.iter().map(|item| of_item[item].0 * factors[*item]).sum();
    let by = pack
        .asked
        .iter()
        .map(|asked| of_item[&asked.item].1[asked.answer] * factors[asked.item])
        .collect();
    Ok((loss, by))
}

#[cfg(test)]
#[path = "trainer_tests.rs"]
mod tests;
