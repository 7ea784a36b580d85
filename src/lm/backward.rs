//! The trainable forward pass: hidden states of a tree of token sequences, and gradients.
//!
//! It is the decoder's own pass without a cache and without the shortcuts that gradients forbid
//! (writing over inputs, attention by sums of exponentials). Weights that do not train have no
//! gradient, and the backward pass ends at the lowest adapter. The head runs where the loss asks, a
//! block of rows at a time, and no table of logits outlives its block: a loss is told
//! log-probabilities of tokens and answers with its derivatives by them.
//!
//! Legend of tensor suffixes: L tokens, D width, R asked positions, V vocabulary.

use rand::RngCore;
use tch::{Device, Kind, Tensor};

use super::attention::{self, Attend, Planned};
use super::cache::KeyValues;
use super::calls::Tree;
use super::decoder::{Decoder, NewTokens};
use super::layers::Pass;
use super::linear::Dropout;
use super::native::copied;
use crate::error::{Error, ErrorKind, Result};
use crate::run::SeedStream;

/// Tokens to train on in one pass.
#[derive(Clone, Copy, Debug)]
pub struct TrainTokens<'a> {
    /// The tokens; every sequence begins with a token without a parent.
    pub tokens: NewTokens<'a>,
    /// The log-probabilities that are asked for, in the order of their rows.
    pub targets: &'a [Target],
    /// What adapters drop; `None`: nothing.
    pub dropout: Option<&'a AdapterDropout<'a>>,
}

/// A log-probability that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The token of the pass after which it is asked.
    pub row: usize,
    /// The token whose log-probability is asked.
    pub id: u32,
}

/// What a loss says of the log-probabilities of the targets: its derivative by each.
pub enum Derivatives<'a> {
    /// They do not depend on the log-probabilities.
    Known(&'a [f64]),
    /// They do; then the head runs twice unless all rows fit in one block.
    Of(&'a mut dyn FnMut(&[f64]) -> Result<Vec<f64>>),
}

/// Most elements of a block of logits, on the CPU and on a GPU, which needs more rows to be busy.
pub(crate) const LOGIT_ELEMENTS: [usize; 2] = [1 << 23, 1 << 27];

/// The inputs that adapters drop in a pass, drawn from a named stream.
///
/// What is dropped of a unit depends on the seed, the step, the unit and the adapter, not on what
/// else is in the pass: a step gives the same gradient however it is cut into passes.
#[derive(Clone, Debug)]
pub struct AdapterDropout<'a> {
    /// Share of inputs dropped, in 65,536ths.
    threshold: u16,
    streams: SeedStream,
    step: u64,
    /// Number and tokens of each unit of the pass, in its order.
    units: &'a [(u64, usize)],
}

impl<'a> AdapterDropout<'a> {
    /// Returns what is dropped at `step` of a pass over `units` (number and tokens of each, in the
    /// pass's order); `None` for a share that rounds to nothing.
    pub fn new(
        share: f64,
        streams: SeedStream,
        step: u64,
        units: &'a [(u64, usize)],
    ) -> Option<Self> {
        let threshold = (share * 65_536.0).round().clamp(0.0, 65_535.0) as u16;
        (threshold > 0).then_some(Self { threshold, streams, step, units })
    }

    /// Draws 16 bits for each input on the CPU.
    fn draw(&self, adapter: usize, num_in: usize) -> Vec<f32> {
        let keep = 1.0 / (1.0 - f32::from(self.threshold) / 65_536.0);
        let total: usize = self.units.iter().map(|(_, len)| len).sum();
        let mut factors = Vec::with_capacity(total * num_in);
        let mut bytes = Vec::new();
        for &(unit, len) in self.units {
            bytes.resize(2 * len * num_in, 0);
            self.rng(unit, adapter).fill_bytes(&mut bytes);
            factors.extend(
                bytes.as_chunks().0.iter().map(|pair| {
                    if u16::from_le_bytes(*pair) < self.threshold { 0.0 } else { keep }
                }),
            );
        }
        factors
    }

    fn rng(&self, unit: u64, adapter: usize) -> impl RngCore {
        self.streams.rng("train/dropout", &[self.step, unit, adapter as u64])
    }
}

impl Dropout for AdapterDropout<'_> {
    fn factors(&self, adapter: usize, num_in: usize, device: Device) -> Tensor {
        if device == Device::Cpu {
            let factors = self.draw(adapter, num_in);
            return Tensor::from_slice(&factors).view([-1, num_in as i64]);
        }
        // Billions of numbers a step: the device draws them, from a seed of the stream. Nothing else
        // in training uses its generator.
        let keep = 1.0 - f64::from(self.threshold) / 65_536.0;
        let units: Vec<Tensor> = self
            .units
            .iter()
            .map(|&(unit, len)| {
                tch::manual_seed((self.rng(unit, adapter).next_u64() >> 1) as i64);
                let shape = [len as i64, num_in as i64];
                Tensor::empty(shape, (Kind::Float, device)).bernoulli_float_(keep)
            })
            .collect();
        Tensor::cat(&units, 0) / keep
    }
}

/// Keys and values of the pass alone.
struct Fresh;

impl KeyValues for Fresh {
    fn attend(&self, at: &Attend<'_>, q_nlh: &Tensor, k_klh: &Tensor, v_klh: &Tensor) -> Tensor {
        attention::attend_fresh(at, q_nlh, k_klh, v_klh)
    }
}

impl Decoder {
    /// Returns the log-probabilities of the targets, in nats, without gradients.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn target_logprobs(&self, at: TrainTokens<'_>) -> Result<Vec<f64>> {
        let _no_grad = tch::no_grad_guard();
        let pass = self.fresh_pass(&at)?;
        let mut x_ld = self.embed(&pass);
        for index in 0..self.num_blocks() {
            x_ld = self.block(index, x_ld, &Fresh, &pass);
        }
        let rows = Rows::new(at.targets);
        let x_rd = self.normed(&x_ld);
        let blocks = rows.blocks(self.rows_per_block());
        let logprobs: Vec<Tensor> = blocks
            .iter()
            .map(|block| Ok(self.block_logprobs(&x_rd, block)?.1))
            .collect::<Result<_>>()?;
        read(&logprobs)
    }

    /// Adds the gradients of a loss to those of the tensors that train, and returns the
    /// log-probabilities of the targets, in nats.
    ///
    /// With `recompute`, blocks keep their input only and run again on the way back.
    ///
    /// # Errors
    /// As [`Decoder::forward`], those of `derivatives`, and [`ErrorKind::Internal`] when nothing
    /// trains.
    ///
    /// # Cost
    /// About two forward passes for adapters, three for all weights; one more with `recompute`.
    pub fn backward(
        &self,
        at: TrainTokens<'_>,
        recompute: bool,
        mut derivatives: Derivatives<'_>,
    ) -> Result<Vec<f64>> {
        let Some(lowest) = self.lowest_training() else {
            return Err(Error::new(ErrorKind::Internal, "backward of a model that does not train"));
        };
        let pass = self.fresh_pass(&at)?;
        let rows = Rows::new(at.targets);
        let mut head = |x_rd: &Tensor| {
            let x_rd = self.normed(x_rd);
            let (logprobs, grad_rd) = self.head_backward(&x_rd, &rows, &mut derivatives)?;
            pull(&x_rd, &grad_rd)?;
            Ok::<_, Error>(logprobs)
        };
        let embedded_ld = self.embed(&pass);
        if !recompute {
            let mut x_ld = embedded_ld;
            for index in 0..self.num_blocks() {
                x_ld = self.block(index, x_ld, &Fresh, &pass);
            }
            return head(&x_ld);
        }
        let mut inputs = Vec::with_capacity(self.num_blocks());
        let mut x_ld = embedded_ld.detach();
        {
            let _no_grad = tch::no_grad_guard();
            for index in 0..self.num_blocks() {
                inputs.push(x_ld.shallow_clone());
                x_ld = self.block(index, x_ld, &Fresh, &pass);
            }
        }
        let top_rd = x_ld.detach().set_requires_grad(true);
        let logprobs = head(&top_rd)?;
        let mut grad_ld = top_rd.grad();
        for (index, input_ld) in inputs.into_iter().enumerate().skip(lowest).rev() {
            // Below the lowest adapter nothing needs the gradient of this input.
            let wanted = index > lowest || embedded_ld.requires_grad();
            let input_ld = input_ld.detach().set_requires_grad(wanted);
            let output_ld = self.block(index, input_ld.shallow_clone(), &Fresh, &pass);
            pull(&output_ld, &grad_ld)?;
            grad_ld = input_ld.grad();
        }
        if embedded_ld.requires_grad() {
            pull(&embedded_ld, &grad_ld)?;
        }
        Ok(logprobs)
    }

    /// Returns the log-probabilities of the targets, and the gradient of the loss by the hidden
    /// states `x_rd`; adds that by the head's weights if they train.
    fn head_backward(
        &self,
        x_rd: &Tensor,
        rows: &Rows<'_>,
        derivatives: &mut Derivatives<'_>,
    ) -> Result<(Vec<f64>, Tensor)> {
        let x_rd = x_rd.detach();
        let blocks = rows.blocks(self.rows_per_block());
        let mut logprobs: Vec<Tensor> = Vec::new();
        let by_logprob = match derivatives {
            Derivatives::Known(known) => Some(known.to_vec()),
            Derivatives::Of(of) if blocks.len() > 1 => {
                let _no_grad = tch::no_grad_guard();
                for block in &blocks {
                    logprobs.push(self.block_logprobs(&x_rd, block)?.1);
                }
                let by_logprob = of(&read(&logprobs)?)?;
                logprobs.clear();
                Some(by_logprob)
            }
            Derivatives::Of(_) => None,
        };
        let mut grads = Vec::with_capacity(blocks.len());
        for block in &blocks {
            // The graph is made only where the head's own weights need it.
            let x_rd = x_rd
                .narrow(0, block.first as i64, block.num_rows as i64)
                .detach()
                .set_requires_grad(self.head_trains());
            let (logits_rv, of_block) = self.block_logprobs_of(&x_rd, block)?;
            logprobs.push(of_block);
            let by_logprob = match (&by_logprob, &mut *derivatives) {
                (Some(all), _) => all[block.targets.clone()].to_vec(),
                (None, Derivatives::Of(of)) => of(&read(&logprobs)?)?,
                (None, Derivatives::Known(known)) => known.to_vec(),
            };
            let grad_rv = {
                let _no_grad = tch::no_grad_guard();
                self.logit_gradient(&logits_rv, block, &by_logprob)?
            };
            grads.push(if self.head_trains() {
                pull(&logits_rv, &grad_rv)?;
                x_rd.grad()
            } else {
                let _no_grad = tch::no_grad_guard();
                grad_rv.to_kind(self.kind()).mm(&self.head())
            });
        }
        // Where the loss did not ask before, nothing has waited for the device until here.
        Ok((read(&logprobs)?, Tensor::cat(&grads, 0)))
    }

    fn rows_per_block(&self) -> usize {
        let elements = LOGIT_ELEMENTS[usize::from(self.head_device().is_cuda())];
        (elements / self.config().vocab_size).max(1)
    }

    fn block_logprobs(&self, x_rd: &Tensor, block: &Block) -> Result<(Tensor, Tensor)> {
        let x_rd = x_rd.narrow(0, block.first as i64, block.num_rows as i64);
        self.block_logprobs_of(&x_rd, block)
    }

    /// Returns the logits of a block's rows, and the log-probabilities of its targets in f64.
    fn block_logprobs_of(&self, x_rd: &Tensor, block: &Block) -> Result<(Tensor, Tensor)> {
        let logits_rv = self.logits(x_rd);
        let _no_grad = tch::no_grad_guard();
        let lse_r = logits_rv.logsumexp(-1, false);
        let place = logits_rv.device();
        let at = tensor_i64(&block.rows, place)?;
        let picked = logits_rv.index(&[Some(&at), Some(&tensor_i64(&block.ids, place)?)]);
        let logprobs = picked - lse_r.index_select(0, &at);
        Ok((logits_rv, logprobs.to_kind(Kind::Double)))
    }

    /// Returns the gradient of a loss by logits, given its derivatives by the log-probabilities:
    /// of each, the derivative is 1 at its target less the softmax.
    fn logit_gradient(
        &self,
        logits_rv: &Tensor,
        block: &Block,
        by_logprob: &[f64],
    ) -> Result<Tensor> {
        let mut sums = vec![0.0_f32; block.num_rows];
        for (&row, &by) in block.rows.iter().zip(by_logprob) {
            sums[row as usize] -= by as f32;
        }
        let place = logits_rv.device();
        let sums_r1 = copied(&Tensor::f_from_slice(&sums)?, place)?.unsqueeze(1);
        let mut grad_rv = logits_rv.softmax(-1, Kind::Float);
        let _ = grad_rv.g_mul_(&sums_r1);
        let by: Vec<f32> = by_logprob.iter().map(|&by| by as f32).collect();
        let by = copied(&Tensor::f_from_slice(&by)?, place)?;
        let at = [tensor_i64(&block.rows, place)?, tensor_i64(&block.ids, place)?];
        Ok(grad_rv.f_index_put_(&at.each_ref().map(Some), &by, true)?)
    }

    /// Returns what the layers of a pass share.
    fn fresh_pass<'a>(&self, at: &TrainTokens<'a>) -> Result<Pass<'a>> {
        let positions = self.check(at.tokens, 0)?;
        let tree = Tree { parents: at.tokens.parents, positions: &positions, past: 0 };
        let rows: Vec<usize> =
            Rows::new(at.targets).tokens.iter().map(|&token| token as usize).collect();
        let how = self.how(true);
        let mut pass: Pass<'a> =
            self.pass(at.tokens.ids, &positions, (&rows, &[]), |window, inputs| {
                Planned::of_tree(&tree, window, how, inputs)
            })?;
        pass.dropout = at.dropout.map(|dropout| dropout as &dyn Dropout);
        Ok(pass)
    }
}

fn tensor_i64(values: &[i64], device: Device) -> Result<Tensor> {
    copied(&Tensor::f_from_slice(values)?, device)
}

/// Reads log-probabilities from their device, which is waited for.
fn read(logprobs: &[Tensor]) -> Result<Vec<f64>> {
    if logprobs.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Vec::try_from(Tensor::f_cat(logprobs, 0)?.f_to_device(Device::Cpu)?)?)
}

/// The rows that are asked about, and the targets after each.
struct Rows<'a> {
    /// Tokens of the pass, ascending.
    tokens: Vec<i64>,
    targets: &'a [Target],
}

/// Rows whose logits are made at once.
struct Block {
    /// First of them among all rows.
    first: usize,
    num_rows: usize,
    /// Their targets among all.
    targets: std::ops::Range<usize>,
    /// Row within the block of each target.
    rows: Vec<i64>,
    /// Token of each target.
    ids: Vec<i64>,
}

impl<'a> Rows<'a> {
    fn new(targets: &'a [Target]) -> Self {
        debug_assert!(targets.is_sorted_by_key(|target| target.row));
        let mut tokens: Vec<i64> = targets.iter().map(|target| target.row as i64).collect();
        tokens.dedup();
        Self { tokens, targets }
    }

    fn blocks(&self, rows_per_block: usize) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut next = 0;
        for (i, tokens) in self.tokens.chunks(rows_per_block).enumerate() {
            let begin = next;
            let (mut rows, mut ids) = (Vec::new(), Vec::new());
            for (row, &token) in tokens.iter().enumerate() {
                while let Some(target) =
                    self.targets.get(next).filter(|target| target.row as i64 == token)
                {
                    rows.push(row as i64);
                    ids.push(i64::from(target.id));
                    next += 1;
                }
            }
            blocks.push(Block {
                first: i * rows_per_block,
                num_rows: tokens.len(),
                targets: begin..next,
                rows,
                ids,
            });
        }
        blocks
    }
}

/// Sends the gradient `grad` of `x` on to what `x` was made of.
fn pull(x: &Tensor, grad: &Tensor) -> Result<()> {
    Ok((x * grad).sum(x.kind()).f_backward()?)
}
