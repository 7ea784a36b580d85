//! The one decoder: embedding, blocks, final norm and head, for every family that
//! [`LmConfig`] describes.
//!
//! A forward pass runs any number of new tokens that continue the cached path. The new tokens need
//! not be one sequence: each may name its parent among them, so that many continuations of one path
//! run together and share every matrix product ([`NewTokens`]).

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::attention::{How, Planned, Visible};
use super::block::Block;
use super::cache::{BatchCache, KeyValues, KvCache};
use super::calls::Tree;
use super::checkpoint::{Checkpoint, Maps};
use super::config::LmConfig;
use super::decoder_names::Names;
use super::device::Devices;
use super::inputs::{Inputs, Slot};
use super::kernel::Kernel;
use super::layers::{Norm, OnDevice, Pass};
use super::linear::Linear;
use super::own_tensor::{OwnTensor, in_kind, leaf};
use super::placement::Placement;
use super::product::product;
use super::rope::Rope;
use crate::error::{Error, ErrorKind, Result};

/// A causal language model in memory.
#[derive(Debug)]
pub struct Decoder {
    config: LmConfig,
    embedding_vd: Tensor,
    positions_sd: Option<Tensor>,
    blocks: Vec<Block>,
    final_norm: Norm,
    head_vd: Tensor,
    /// The rotations, on each device of the placement.
    ropes: Vec<Vec<Rope>>,
    names: Names,
    placement: Placement,
    /// Device of each block, by its place in the placement.
    stages: Vec<usize>,
    kind: Kind,
    /// What computes attention.
    kernel: Kernel,
    // Mapped files that the tensors above point into; declared last, so dropped last.
    _maps: Maps,
}

/// Tokens to run behind a cached path.
#[derive(Clone, Copy, Debug)]
pub struct NewTokens<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// For each token the index, among these, of the token before it; `None`: it follows the cached
    /// path directly. A parent stands before its children.
    pub parents: &'a [Option<usize>],
}

impl Decoder {
    /// Returns the model of a Hugging Face folder, on `devices` in `kind`. Where the folder has
    /// `random_weights.json` (`{"seed": 1}`) in place of weights, they are drawn
    /// ([`Decoder::random`]).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] or [`ErrorKind::Checkpoint`] when the folder's files are missing,
    /// damaged, or do not fit together; [`ErrorKind::Device`] when several devices have no room.
    pub fn load(folder: &Path, devices: impl Into<Devices>, kind: Kind) -> Result<Self> {
        let devices = devices.into();
        let mut config = LmConfig::read(&folder.join("config.json"))?;
        let checkpoint = Checkpoint::of_folder(folder, &mut config, devices.first(), kind)?;
        let placement = Placement::plan(&config, kind, &devices)?;
        Self::build(config, checkpoint, placement, kind)
    }

    /// Returns the model of a Hugging Face folder with its blocks where `placement` says.
    ///
    /// # Errors
    /// As [`Decoder::load`].
    pub fn load_placed(folder: &Path, placement: Placement, kind: Kind) -> Result<Self> {
        let mut config = LmConfig::read(&folder.join("config.json"))?;
        let checkpoint = Checkpoint::of_folder(folder, &mut config, placement.first(), kind)?;
        Self::build(config, checkpoint, placement, kind)
    }

    /// Returns a model of the shape `config` with random weights, made on `devices` in `kind`: for
    /// measuring speed. The same seed gives the same weights on the same kind of device.
    ///
    /// # Errors
    /// When the devices have no room for the weights.
    pub fn random(
        config: LmConfig,
        devices: impl Into<Devices>,
        kind: Kind,
        seed: u64,
    ) -> Result<Self> {
        let placement = Placement::plan(&config, kind, &devices.into())?;
        let checkpoint = Checkpoint::random(&config, placement.first(), kind, seed);
        Self::build(config, checkpoint, placement, kind)
    }

    fn build(
        config: LmConfig,
        mut checkpoint: Checkpoint,
        placement: Placement,
        kind: Kind,
    ) -> Result<Self> {
        placement.check(config.layers.len())?;
        let stages = placement.of_blocks();
        let (v, d) = (config.vocab_size, config.hidden_size);
        let names = Names::of(config.layout);
        checkpoint.place(placement.first());
        let embedding_vd = checkpoint.take(&names.embedding, &[v, d])?;
        let positions_sd = config
            .learned_positions
            .then(|| checkpoint.take(&names.positions, &[config.max_position_embeddings, d]))
            .transpose()?;
        let mut blocks = Vec::with_capacity(config.layers.len());
        for (index, &stage) in stages.iter().enumerate() {
            checkpoint.place(placement.stages()[stage].0);
            let place = (index, stage);
            blocks.push(Block::load(&mut checkpoint, &names.layer(index), place, &config)?);
        }
        let tied = config.tie_word_embeddings;
        checkpoint.place(if tied { placement.first() } else { placement.last() });
        let final_norm = Norm::load(&mut checkpoint, &names.final_norm, d, &config)?;
        let head_vd = if tied {
            embedding_vd.shallow_clone()
        } else {
            checkpoint.take(&names.head, &[v, d])?
        };
        let ropes_on = |(device, _): &(Device, usize)| {
            config.ropes.iter().map(|rope| Rope::new(rope, *device)).collect()
        };
        let ropes = placement.stages().iter().map(ropes_on).collect::<Result<_>>()?;
        let maps = checkpoint.finish()?;
        let kernel = Kernel::of(placement.first(), kind, config.head_dim);
        Ok(Self {
            config,
            embedding_vd,
            positions_sd,
            blocks,
            final_norm,
            head_vd,
            ropes,
            names,
            placement,
            stages,
            kind,
            kernel,
            _maps: maps,
        })
    }

    /// Returns the model's configuration.
    pub fn config(&self) -> &LmConfig {
        &self.config
    }

    /// Returns the device the model is on; of several, that of the embedding.
    pub fn device(&self) -> Device {
        self.placement.first()
    }

    /// Returns the devices the model is on, with the number of blocks on each.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Returns the device of the hidden states that a pass gives, and of their logits.
    pub fn head_device(&self) -> Device {
        self.head_vd.device()
    }

    /// Returns the device of a block.
    fn device_of(&self, block: usize) -> Device {
        self.placement.stages()[self.stages[block]].0
    }

    /// Returns the number type of the weights.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the linear maps of all blocks.
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut)
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears)
    }

    /// Returns all norms.
    pub(super) fn norms(&self) -> impl Iterator<Item = &Norm> {
        self.blocks.iter().flat_map(Block::norms).chain([&self.final_norm])
    }

    pub(super) fn norms_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        self.blocks.iter_mut().flat_map(Block::norms_mut).chain([&mut self.final_norm])
    }

    /// Makes embedding, positions and head train.
    pub(super) fn train_tables(&mut self, trained: &mut Vec<OwnTensor>) {
        self.embedding_vd = leaf(&self.embedding_vd);
        trained.push(OwnTensor::new(self.names.embedding.clone(), &self.embedding_vd, true));
        if let Some(positions_sd) = &mut self.positions_sd {
            *positions_sd = leaf(positions_sd);
            trained.push(OwnTensor::new(self.names.positions.clone(), positions_sd, true));
        }
        if self.config.tie_word_embeddings {
            self.head_vd = self.embedding_vd.shallow_clone();
        } else {
            self.head_vd = leaf(&self.head_vd);
            trained.push(OwnTensor::new(self.names.head.clone(), &self.head_vd, true));
        }
    }

    /// Returns embedding, positions and head as the file has them.
    pub(super) fn export_tables(&self) -> Vec<(String, Tensor)> {
        let mut all = vec![(self.names.embedding.clone(), self.embedding_vd.detach())];
        let positions = self.positions_sd.as_ref();
        all.extend(positions.map(|t| (self.names.positions.clone(), t.detach())));
        if !self.config.tie_word_embeddings {
            all.push((self.names.head.clone(), self.head_vd.detach()));
        }
        all
    }

    /// Returns an empty cache for this model.
    pub fn new_cache(&self) -> KvCache {
        let devices = (0..self.blocks.len()).map(|block| self.device_of(block));
        KvCache::new(&self.config, devices, self.kind, self.kernel)
    }

    /// Returns the hidden states of `new` after the final norm, and appends them to the cache.
    ///
    /// The cached slots `0..cache.len()` must be one path (no forks): truncate after a forked pass.
    ///
    /// # Shapes
    /// `[L, D]`, L the number of new tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a token id is outside the vocabulary or a parent is not before
    /// its child.
    pub fn forward(&self, new: NewTokens<'_>, cache: &mut KvCache) -> Result<Tensor> {
        Ok(self.forward_with(new, &[], cache)?.0)
    }

    /// As [`Decoder::forward`]; also returns `numbers` where the head lies, which came with the inputs.
    pub(super) fn forward_with(
        &self,
        new: NewTokens<'_>,
        numbers: &[usize],
        cache: &mut KvCache,
    ) -> Result<(Tensor, Tensor)> {
        let past = cache.len();
        let positions = self.check(new, past)?;
        cache.reserve(new.ids.len());
        let tree = Tree { parents: new.parents, positions: &positions, past };
        let how = self.how(false);
        let pass = self.pass(new.ids, &positions, (&[], numbers), |window, inputs| {
            Planned::of_tree(&tree, window, how, inputs)
        })?;
        let x_ld = self.run(cache, &pass);
        cache.advance(new.ids.len());
        Ok((x_ld, pass.numbers))
    }

    /// Returns the hidden states of one new token for each sequence of `cache`, after the final
    /// norm, and appends the tokens to the sequences.
    ///
    /// # Shapes
    /// `[B, D]`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when there are not as many tokens as sequences or the cache is full;
    /// [`ErrorKind::Tokenizer`] for a token id outside the vocabulary.
    pub fn step(&self, ids: &[u32], cache: &mut BatchCache) -> Result<Tensor> {
        let positions = cache.positions();
        if ids.len() != positions.len() || ids.is_empty() || cache.room() == 0 {
            let message = format!("{} tokens for {} sequences", ids.len(), positions.len());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        self.check_ids(ids)?;
        let pass = self.pass(ids, &positions, (&[], &[]), |window, inputs| {
            Ok(cache.visible(window, self.kind, inputs))
        })?;
        let x_bd = self.run(cache, &pass);
        cache.advance();
        Ok(x_bd)
    }

    /// Runs embedding, blocks and final norm.
    fn run(&self, cache: &dyn KeyValues, pass: &Pass<'_>) -> Tensor {
        let mut x_ld = self.embed(pass);
        for index in 0..self.blocks.len() {
            x_ld = self.block(index, x_ld, cache, pass);
        }
        self.normed(&x_ld)
    }

    /// Makes another kernel compute attention.
    #[cfg(test)]
    pub(super) fn set_kernel(&mut self, kernel: Kernel) {
        self.kernel = kernel;
    }

    /// Returns the name of the kernel that computes attention.
    pub fn attention(&self) -> &'static str {
        self.kernel.name()
    }

    /// Returns how a pass is run.
    pub(super) fn how(&self, trains: bool) -> How {
        How { kernel: self.kernel, kind: self.kind, trains }
    }

    /// Returns the inputs of the first block.
    pub(super) fn embed(&self, pass: &Pass<'_>) -> Tensor {
        let look_up = |table: &Tensor, at_l: &Tensor| {
            in_kind(&Tensor::embedding(table, at_l, -1, false, false), self.kind)
        };
        let mut x_ld = look_up(&self.embedding_vd, &pass.ids_l);
        if let Some(scale) = self.config.embedding_scale {
            // The scale is rounded to the model's number type, as transformers does.
            x_ld *= Tensor::from(scale).to_kind(self.kind).double_value(&[]);
        }
        if let Some(table_sd) = &self.positions_sd {
            // A sequence that has ended may be carried along past the last position.
            let last = self.config.max_position_embeddings as i64 - 1;
            x_ld += look_up(table_sd, &pass.positions_l.clamp_max(last));
        }
        x_ld
    }

    /// Returns the output of block `index`, on its device.
    pub(super) fn block(
        &self,
        index: usize,
        x_ld: Tensor,
        cache: &dyn KeyValues,
        pass: &Pass<'_>,
    ) -> Tensor {
        let is_last = index + 1 == self.blocks.len();
        // Moves where the blocks of another device begin.
        let x_ld = x_ld.to_device(self.device_of(index));
        self.blocks[index].forward(x_ld, cache, pass, is_last, &self.config)
    }

    /// Returns the head in the number type of the pass.
    pub(super) fn head(&self) -> Tensor {
        in_kind(&self.head_vd, self.kind)
    }

    pub(super) fn head_trains(&self) -> bool {
        self.head_vd.requires_grad()
    }

    pub(super) fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the final norm of the last block's output, where the head lies.
    pub(super) fn normed(&self, x_rd: &Tensor) -> Tensor {
        self.final_norm.forward(&x_rd.to_device(self.head_device()))
    }

    /// Returns the first block with a tensor that trains.
    pub(super) fn lowest_training(&self) -> Option<usize> {
        self.blocks.iter().position(Block::trains)
    }

    /// Returns natural-log probabilities of the next token for hidden states `x_rd`.
    ///
    /// # Shapes
    /// `x_rd` is `[R, D]`, rows of what [`Decoder::forward`] returns; the result is `[R, V]` in f32.
    pub fn log_probs(&self, x_rd: &Tensor) -> Tensor {
        x_rd.linear(&self.head(), None::<&Tensor>).to_kind(Kind::Float).log_softmax(-1, Kind::Float)
    }

    /// Returns the raw logits `[R, V]` of hidden states `x_rd`, in f32.
    pub fn logits(&self, x_rd: &Tensor) -> Tensor {
        product(x_rd, &self.head_vd, None).to_kind(Kind::Float)
    }

    /// Checks the new tokens and returns their positions.
    pub(super) fn check(&self, new: NewTokens<'_>, past: usize) -> Result<Vec<usize>> {
        let internal = |message: String| Error::new(ErrorKind::Internal, message);
        if new.ids.len() != new.parents.len() || new.ids.is_empty() {
            return Err(internal(format!(
                "{} tokens and {} parents",
                new.ids.len(),
                new.parents.len()
            )));
        }
        self.check_ids(new.ids)?;
        let mut positions = Vec::with_capacity(new.ids.len());
        for (i, parent) in new.parents.iter().enumerate() {
            positions.push(match parent {
                None => past,
                Some(p) if *p < i => positions[*p] + 1,
                Some(p) => return Err(internal(format!("token {i} has parent {p}"))),
            });
        }
        Ok(positions)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.config.vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab) {
            None => Ok(()),
            Some(id) => Err(Error::new(
                ErrorKind::Tokenizer,
                format!("the tokenizer gave token {id}, but the model has {vocab}"),
            )
            .hint("tokenizer.json and model.safetensors are from different models")),
        }
    }

    /// Prepares what all layers share: the rotations at `positions`, what is seen in each window of
    /// the model by `plan`, the `rows` that are asked for where the last block lies, and other `numbers`
    /// where the head lies.
    pub(super) fn pass(
        &self,
        ids: &[u32],
        positions: &[usize],
        (rows, numbers): (&[usize], &[usize]),
        plan: impl Fn(Option<usize>, &mut Inputs) -> Result<Planned>,
    ) -> Result<Pass<'static>> {
        let mut windows: Vec<usize> =
            self.config.layers.iter().filter_map(|layer| layer.sliding_window).collect();
        windows.sort_unstable();
        windows.dedup();
        // A window that reaches over everything is no window.
        let last = positions.iter().max();
        windows.retain(|&window| last.is_some_and(|&last| last >= window));
        let mut inputs = Inputs::default();
        let ids: Slot = inputs.push(ids.iter().map(|&id| id as usize));
        let positions = inputs.push_stretches(positions.iter().copied());
        let rows = inputs.push(rows.iter().copied());
        let numbers = inputs.push(numbers.iter().copied());
        let full = plan(None, &mut inputs)?;
        let sliding: Vec<(usize, Planned)> = windows
            .into_iter()
            .map(|window| Ok((window, plan(Some(window), &mut inputs)?)))
            .collect::<Result<_>>()?;
        let mut stages: Vec<OnDevice> = Vec::with_capacity(self.ropes.len());
        let mut sent = Vec::with_capacity(self.ropes.len());
        let mut first_positions_l = Tensor::new();
        for (ropes, &(device, _)) in self.ropes.iter().zip(self.placement.stages()) {
            let here = inputs.on(device)?;
            let positions_l = here.stretched(&positions);
            if stages.is_empty() {
                first_positions_l = positions_l.shallow_clone();
            }
            let positions_l = positions_l.to_kind(Kind::Float);
            let turns = ropes.iter().map(|rope| rope.at(&positions_l, self.kind)).collect();
            let on =
                |(window, planned): &(usize, Planned)| Ok((*window, planned.on(&here, device)?));
            let sliding = sliding.iter().map(on).collect::<Result<_>>()?;
            let full: Visible = full.on(&here, device)?;
            stages.push(OnDevice { turns, full, sliding });
            sent.push(here);
        }
        let first = &sent[0];
        let last = &sent[self.stages.last().copied().unwrap_or(0)];
        let head = if self.head_device() == self.device() { first } else { last };
        Ok(Pass {
            ids_l: first.get(&ids),
            positions_l: first_positions_l,
            numbers: head.get(&numbers),
            stages,
            dropout: None,
            rows: (!rows.is_empty()).then(|| last.get(&rows)),
        })
    }
}
