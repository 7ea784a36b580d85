//! Scoring on the local decoder.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::forest::{Ask, Forest, Step};
use super::memory::{Footprint, Halved, LEAST_PACK, MemorySize, total};
use super::work::{Work, pretended};
use super::{LabelScores, PromptTree, Scorer, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::within_memory;
use crate::lm::{
    Adapter, Asked, ChatTemplate, Decoder, DeviceChoice, Devices, DtypeChoice, KvCache, Message,
    Moment, NewTokens, PassPlan, Target, Tokenizer, Tokens, question_boundary,
};

/// How a [`LmScorer`] runs; none of it changes the answers beyond rounding.
#[derive(Clone, Debug)]
pub struct LmScorerOptions {
    /// Where to run.
    pub device: DeviceChoice,
    /// The number type to run in.
    pub dtype: DtypeChoice,
    /// The most tokens of one forward pass; `None`: a default for the device.
    pub max_pack_tokens: Option<usize>,
    /// The longest prompt in tokens; `None`: what the model was made for.
    pub max_context_tokens: Option<usize>,
    /// Working memory besides the weights; `None`: half of the machine's memory (CPU), nine tenths of
    /// what is free beside the weights (GPU).
    pub memory: Option<MemorySize>,
}

impl Default for LmScorerOptions {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Auto,
            dtype: DtypeChoice::Auto,
            max_pack_tokens: None,
            max_context_tokens: None,
            memory: None,
        }
    }
}

/// Tokens of a pass on the CPU: enough for efficient matrix products; more would only add masked
/// pairs to attention.
const PACK_CPU: usize = 512;
/// Tokens of a pass on a GPU, which needs more of them to be busy.
const PACK_CUDA: usize = 4096;
/// Most elements of a block of logits; bounds its memory to a quarter of a gigabyte in f32.
const LOGIT_ELEMENTS: usize = 1 << 26;

/// A [`Scorer`] on a local model.
#[derive(Debug)]
pub struct LmScorer {
    folder: PathBuf,
    decoder: Decoder,
    tokenizer: Tokenizer,
    /// Read when it is first asked for, which most methods never do.
    chat: OnceCell<ChatTemplate>,
    moment: Option<Moment>,
    cache: KvCache,
    max_pack: usize,
    max_tokens: usize,
    footprint: Footprint,
    budget: MemorySize,
    /// Whether growing a tokenised text has been seen to differ from tokenising it whole.
    distrust_extend: bool,
    /// What would have been run, if nothing is.
    counted: Option<Work>,
    /// That memory ran out and passes were made smaller.
    halved: Option<Halved>,
    /// The most tokens of a pass that there is memory for.
    #[cfg(test)]
    room: Option<usize>,
}

impl LmScorer {
    /// Returns a scorer on the model in `folder`.
    ///
    /// # Errors
    /// When the model cannot be loaded or the device cannot be used.
    pub fn open(folder: &Path, options: LmScorerOptions) -> Result<Self> {
        let (device, dtype) = (options.device.clone(), options.dtype);
        Self::open_on(folder, options, || crate::lm::resolve_device(&device, dtype))
    }

    /// As [`LmScorer::open`], on the device and in the number type that `place` settles, whatever the
    /// options say of these.
    ///
    /// # Errors
    /// As [`LmScorer::open`], and those of `place`.
    pub fn open_on(
        folder: &Path,
        options: LmScorerOptions,
        place: impl FnOnce() -> Result<(Devices, Kind)>,
    ) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::new(ErrorKind::Config, "there is no such model folder")
                .at(folder)
                .hint("expected a Hugging Face folder with config.json, tokenizer.json and model.safetensors"));
        }
        // The cheap checks first: a wrong path should not wait for a GPU.
        let tokenizer = Tokenizer::open(folder)?;
        let (devices, kind) = place()?;
        let decoder = Decoder::load(folder, devices, kind)?;
        let cpu = !decoder.device().is_cuda();
        let mut scorer = Self {
            footprint: Footprint::of(decoder.config(), kind, cpu),
            budget: MemorySize(u64::MAX),
            cache: decoder.new_cache(),
            folder: folder.to_path_buf(),
            decoder,
            tokenizer,
            chat: OnceCell::new(),
            moment: None,
            max_pack: 1,
            max_tokens: 1,
            distrust_extend: false,
            counted: None,
            halved: None,
            #[cfg(test)]
            room: None,
        };
        scorer.begin_anew(options)?;
        Ok(scorer)
    }

    /// Makes the scorer what [`LmScorer::open`] with these options returns, on the same device and in
    /// the same number type, without reading the model again: no adapter is on it, and nothing is left
    /// of what it scored.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a context that the model cannot have.
    pub fn begin_anew(&mut self, options: LmScorerOptions) -> Result<()> {
        self.decoder.detach();
        let device = self.decoder.device();
        let config = self.decoder.config();
        let positions = config.max_position_embeddings;
        let max_tokens = options.max_context_tokens.unwrap_or(positions);
        if max_tokens > positions && config.learned_positions {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("a context of {max_tokens} tokens is more than the model's {positions} positions"),
            )
            .hint("lower `--max-context`"));
        }
        let share = || match device {
            Device::Cpu => total().map(|size| MemorySize(size.0 / 2)),
            _ => {
                let devices = self.decoder.placement().stages().iter().map(|(device, _)| *device);
                // The rest is for what nobody counts: workspaces of libraries, pieces too small to use.
                crate::lm::working_memory(devices).map(|free| MemorySize(free / 10 * 9))
            }
        };
        let default_pack = if device.is_cuda() { PACK_CUDA } else { PACK_CPU };
        self.budget = options.memory.or_else(share).unwrap_or(MemorySize(u64::MAX));
        self.cache = self.decoder.new_cache();
        self.max_pack = options.max_pack_tokens.unwrap_or(default_pack).max(1);
        self.max_tokens = max_tokens;
        self.distrust_extend = false;
        self.counted = None;
        self.halved = None;
        self.chat = OnceCell::new();
        self.moment = None;
        Ok(())
    }

    /// Returns the date that the model's chat template is told, if it asks for one: that of
    /// [`LmScorer::set_moment`], else the present.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when the model has no chat template, or a broken one.
    pub fn chat_moment(&self) -> Result<Option<Moment>> {
        self.chat_template().map(ChatTemplate::moment)
    }

    /// Sets the date that a chat template may ask for.
    pub fn set_moment(&mut self, moment: Moment) {
        self.chat = OnceCell::new();
        self.moment = Some(moment);
    }

    /// Makes the scorer count what it would run, and answer as good as at random, until
    /// [`LmScorer::begin_anew`].
    pub fn count_only(&mut self) {
        self.counted = Some(Work::default());
    }

    /// Returns the working memory besides the weights, in bytes, of passes on paths of up to `longest`
    /// tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Context`] when the budget is too small for them.
    pub fn working_memory(&self, longest: usize) -> Result<u64> {
        let rows = (LOGIT_ELEMENTS / self.decoder.config().vocab_size).max(1);
        let (pack, rows) = self.footprint.fit(self.budget, longest, self.max_pack, rows)?;
        Ok(self.footprint.bytes(longest, pack, rows))
    }

    /// Returns the passes that scoring `tree` would make, one after the other.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub fn passes(&mut self, tree: &PromptTree) -> Result<Vec<PassPlan>> {
        let Built { forest, .. } = self.build(tree)?;
        let rows = (LOGIT_ELEMENTS / self.decoder.config().vocab_size).max(1);
        let (pack, _) =
            self.footprint.fit(self.budget, forest.longest_path(), self.max_pack, rows)?;
        let pass = |step: Step| {
            let mut rows: Vec<usize> = step.asks.iter().map(|(row, _)| *row).collect();
            rows.dedup();
            PassPlan { past: step.keep, parents: step.parents, num_rows: rows.len() }
        };
        Ok(forest.plan(pack).into_iter().map(pass).collect())
    }

    /// Returns by how much passes were made smaller because memory ran out; `None`: it did not.
    pub fn halved(&self) -> Option<Halved> {
        self.halved
    }

    /// What was counted instead of run; `None` of a scorer that runs.
    pub fn counted(&self) -> Option<Work> {
        self.counted
    }

    /// As [`LmScorer::counted`], to add to.
    pub fn counted_mut(&mut self) -> Option<&mut Work> {
        self.counted.as_mut()
    }

    /// Returns the scorer with the PEFT adapter in `folder` on its model: merged into the weights in
    /// f32, apart from them in half precision, which would round much of it away. The weights without
    /// it are kept for [`LmScorer::begin_anew`].
    ///
    /// # Errors
    /// As [`Adapter::open`] and [`Decoder::attach`].
    pub fn with_adapter(mut self, folder: &Path) -> Result<Self> {
        self.decoder.attach(&Adapter::open(folder)?)?;
        if self.decoder.kind() == Kind::Float {
            self.decoder.merge_adapter_for_now();
        }
        Ok(self)
    }

    /// Returns the folder of the model.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the model, to be trained, and its tokenizer.
    pub fn parts_mut(&mut self) -> (&mut Decoder, &Tokenizer) {
        (&mut self.decoder, &self.tokenizer)
    }

    /// Returns the model.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Returns the model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns the tokens that end a text, by the model's generation_config.json and config.json.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when one of these is broken.
    pub fn end_tokens(&self) -> Result<Vec<u32>> {
        crate::lm::end_tokens(&self.folder)
    }

    fn chat_template(&self) -> Result<&ChatTemplate> {
        if let Some(chat) = self.chat.get() {
            return Ok(chat);
        }
        let chat = ChatTemplate::open(&self.folder)?.ok_or_else(|| {
            Error::new(ErrorKind::Tokenizer, "the model has no chat template").at(&self.folder).hint(
                "chat models have one in tokenizer_config.json or chat_template.jinja; a base model is asked in plain text, as `--method zero-shot` does",
            )
        })?;
        // An answer that is a label has no room for thinking before it.
        let mut chat = chat.with_variable("enable_thinking", false);
        if chat.asks_date() {
            chat = chat.with_moment(self.moment.unwrap_or_else(Moment::now));
        }
        Ok(self.chat.get_or_init(|| chat))
    }

    /// Tokenises every question's prompt with each of its labels and merges them.
    fn build(&mut self, tree: &PromptTree) -> Result<Built> {
        let mut asked: Vec<Vec<usize>> = vec![Vec::new(); tree.num_nodes()];
        for (index, question) in tree.questions().iter().enumerate() {
            asked[PromptTree::node_index(question.node)].push(index);
        }
        let mut children: Vec<Vec<(usize, &str)>> = vec![Vec::new(); tree.num_nodes()];
        for (node, parent, text) in tree.segments() {
            children[PromptTree::node_index(parent)].push((PromptTree::node_index(node), text));
        }
        let mut built = Built {
            forest: Forest::new(),
            scores: tree
                .questions()
                .iter()
                .map(|q| LabelScores {
                    logprobs: vec![0.0; q.labels.len()],
                    num_tokens: vec![0; q.labels.len()],
                    num_prompt_tokens: 0,
                })
                .collect(),
        };
        // Depth first, tokenising a node when its turn comes: the tokens of one path are held.
        let mut stack = vec![(0_usize, "", Rc::new(Tokens::default()))];
        while let Some((node, text, before)) = stack.pop() {
            let tokens = Rc::new(self.tokenizer.extend(&before, text)?);
            drop(before);
            for &index in &asked[node] {
                self.insert(tree, index, &tokens, &mut built)?;
            }
            for &(child, text) in children[node].iter().rev() {
                stack.push((child, text, Rc::clone(&tokens)));
            }
        }
        Ok(built)
    }

    fn insert(
        &mut self,
        tree: &PromptTree,
        index: usize,
        prompt: &Tokens,
        built: &mut Built,
    ) -> Result<()> {
        let question = &tree.questions()[index];
        let prefix = match tree.spells_special_tokens() {
            true => &[],
            false => self.tokenizer.prefix(),
        };
        let fail = |kind, message: String| {
            Err(Error::new(kind, format!("example `{}`: {message}", question.id)))
        };
        let mut labelled = Vec::with_capacity(question.labels.len());
        for (label, word) in question.labels.iter().enumerate() {
            let mut joint = self.tokenizer.extend(prompt, word)?;
            if self.distrust_extend {
                joint = self.tokenizer.encode(&joint.text)?;
            } else if index + 1 == tree.questions().len() && label == 0 {
                // One prompt a tree is also tokenised whole: should growing ever differ, the tree is
                // built again without it.
                let whole = self.tokenizer.encode(&joint.text)?;
                self.distrust_extend = whole.ids != joint.ids;
            }
            labelled.push(joint);
        }
        let words: Vec<&str> = question.labels.iter().map(String::as_str).collect();
        let begin = prefix.len()
            + question_boundary(prompt.text.len(), &words, &labelled)
                .map_err(|e| e.of(format_args!("example `{}`", question.id)))?;
        if begin == 0 {
            let message = if prompt.text.is_empty() {
                "the prompt is empty, so the label has nothing to follow"
            } else {
                "the labels differ from the prompt's first token on, so they have nothing to follow"
            };
            return fail(ErrorKind::Data, message.into());
        }
        for (label, joint) in labelled.iter().enumerate() {
            let ids = [prefix, joint.ids.as_slice()].concat();
            let range = begin..ids.len();
            if ids.len() > self.max_tokens {
                return fail(
                    ErrorKind::Context,
                    format!(
                        "the prompt is {} tokens long, expected at most {}",
                        ids.len(),
                        self.max_tokens
                    ),
                )
                .map_err(|e| {
                    e.hint("use fewer demonstrations (a smaller `--batch-size` or `--num-demonstrations`, or a shorter `--demonstrations` file), shorten the example, or set `--max-context` if the model can go beyond it")
                });
            }
            built.scores[index].num_tokens[label] = range.len();
            built.forest.insert(&ids, range, index, label);
        }
        built.scores[index].num_prompt_tokens = begin;
        Ok(())
    }

    /// Runs the passes and returns the log-probabilities that they are asked for, which are read when the
    /// last pass has begun.
    fn run(&mut self, steps: &[Step], rows_per_block: usize) -> Result<Vec<(Ask, f64)>> {
        self.cache.truncate(0);
        let (mut asks, mut picked) = (Vec::new(), Vec::new());
        for step in steps {
            #[cfg(test)]
            if self.room.is_some_and(|most| step.ids.len() > most) {
                let message = "CUDA out of memory. Tried to allocate 2.00 GiB.";
                return Err(Error::new(ErrorKind::Internal, message));
            }
            self.cache.truncate(step.keep);
            let new = NewTokens { ids: &step.ids, parents: &step.parents };
            let target = |&(row, ask): &(usize, Ask)| Target { row, id: ask.target };
            let targets: Vec<Target> = step.asks.iter().map(target).collect();
            let asked =
                self.decoder.forward_asked(new, &mut self.cache, &targets, rows_per_block)?;
            if let Some(Asked { order, logprobs }) = asked {
                asks.extend(order.into_iter().map(|at| step.asks[at].1));
                picked.push(logprobs);
            }
        }
        if picked.is_empty() {
            return Ok(Vec::new());
        }
        let picked: Vec<f64> = Vec::try_from(Tensor::cat(&picked, 0).f_to_device(Device::Cpu)?)?;
        Ok(asks.into_iter().zip(picked).collect())
    }

    /// Makes passes half as large as the largest of `steps`, from now on.
    fn halve(&mut self, steps: &[Step]) -> Result<()> {
        let largest = steps.iter().map(|step| step.ids.len()).max().unwrap_or(0);
        if largest <= LEAST_PACK {
            let message = format!("there is no memory for a pass of {largest} tokens");
            return Err(Error::new(ErrorKind::Device, message).hint(
                "free memory on the device, spread the model by `--device all`, or use a smaller `--dtype`",
            ));
        }
        self.max_pack = (largest / 2).max(LEAST_PACK);
        self.halved = Some(Halved {
            from: self.halved.map_or(largest, |before| before.from),
            to: self.max_pack,
        });
        self.cache = self.decoder.new_cache();
        let devices = self.decoder.placement().stages().iter().map(|(device, _)| *device);
        crate::lm::gather_memory(devices)
    }
}

struct Built {
    forest: Forest,
    scores: Vec<LabelScores>,
}

impl Scorer for LmScorer {
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        let trusted = !self.distrust_extend;
        let mut built = self.build(tree)?;
        if trusted && self.distrust_extend {
            built = self.build(tree)?;
        }
        let Built { forest, mut scores } = built;
        let _no_grad = tch::no_grad_guard();
        let rows = (LOGIT_ELEMENTS / self.decoder.config().vocab_size).max(1);
        loop {
            let (pack, rows) =
                self.footprint.fit(self.budget, forest.longest_path(), self.max_pack, rows)?;
            let steps = forest.plan(pack);
            if let Some(counted) = &mut self.counted {
                for step in steps {
                    let mut rows: Vec<usize> = step.asks.iter().map(|(row, _)| *row).collect();
                    rows.dedup();
                    counted.add_pass(step.keep, &step.parents, rows.len());
                }
                break;
            }
            match within_memory(|| self.run(&steps, rows))? {
                Some(picked) => {
                    for (ask, value) in picked {
                        scores[ask.question].logprobs[ask.label] += value;
                    }
                    break;
                }
                None => self.halve(&steps)?,
            }
        }
        if self.counted.is_some() {
            for (question, score) in tree.questions().iter().zip(&mut scores) {
                for (label, logprob) in score.logprobs.iter_mut().enumerate() {
                    *logprob = pretended(&question.id, label);
                }
            }
        }
        for (question, score) in tree.questions().iter().zip(&scores) {
            if let Some(bad) = score.logprobs.iter().find(|value| !value.is_finite()) {
                return Err(Error::new(
                    ErrorKind::Numeric,
                    format!("example `{}`: the model gave a log-probability of {bad}", question.id),
                )
                .hint("the weights may be damaged, or too large for this number type; try `--dtype f32`"));
            }
        }
        let usage = Usage {
            tokens_computed: forest.num_tokens() as u64,
            tokens_full_prompts: scores.iter().map(LabelScores::tokens_full_prompt).sum(),
            num_questions: scores.len() as u64,
        };
        Ok((scores, usage))
    }

    fn count_tokens(&self, text: &str) -> Result<usize> {
        Ok(self.tokenizer.encode(text)?.ids.len())
    }

    fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    fn chat(&self, message: &str) -> Result<String> {
        let message = Message { role: "user".into(), content: message.into() };
        self.chat_template()?.before_answer(&[message])
    }
}

#[cfg(test)]
#[path = "lm_scorer_tests.rs"]
mod tests;
