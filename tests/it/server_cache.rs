//! What a server with a prefix cache computes for a pass over all examples: little more than the tree
//! of prompts has tokens.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use w2s::data::{Example, Task};
use w2s::label::{Epoch, Items, OrderOptions, OrderPlan};
use w2s::lm::Tokenizer;
use w2s::prompt::PromptFormat;
use w2s::run::SeedStream;
use w2s::score::{HttpScorer, HttpScorerOptions, LabelScores, PromptTree, RouteKind, Scorer};
use w2s::server::{Meter, ServerAddress, Service, ServiceOptions};

use crate::common::tiny;
use crate::server_stub::{Asked, NAME, Say, Stub, at_once, models};

/// Tokens of a block, as in vLLM.
const BLOCK: usize = 16;
const VOCABULARY: u32 = 384;

/// What a server did.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    num_requests: usize,
    tokens: usize,
    uncached: usize,
}

/// The blocks of prompts that are remembered: a block by all tokens up to its end, the oldest use first
/// out, as in vLLM.
struct Cache {
    most: usize,
    /// When a block was last used.
    used: HashMap<u64, u64>,
    uses: VecDeque<(u64, u64)>,
    now: u64,
}

impl Cache {
    /// Returns how many tokens of a prompt need not be computed, and remembers the prompt. At least
    /// one is computed, whatever is known; one that asks for its own log-probabilities is computed whole.
    fn ask(&mut self, ids: &[u32], reads: bool) -> usize {
        let mut hashes = Vec::new();
        let mut hash = SEED;
        for (at, &id) in ids.iter().enumerate() {
            hash = mixed(hash, id);
            if (at + 1) % BLOCK == 0 {
                hashes.push(hash);
            }
        }
        let is_known = |hash: &&u64| self.used.contains_key(hash);
        let num_known = hashes.iter().take_while(is_known).count();
        for hash in hashes {
            self.now += 1;
            self.used.insert(hash, self.now);
            self.uses.push_back((self.now, hash));
        }
        while self.used.len() > self.most {
            let Some((when, hash)) = self.uses.pop_front() else { break };
            if self.used.get(&hash) == Some(&when) {
                self.used.remove(&hash);
            }
        }
        if reads { (num_known * BLOCK).min((ids.len() - 1) / BLOCK * BLOCK) } else { 0 }
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn mixed(hash: u64, id: u32) -> u64 {
    let hash = (hash ^ u64::from(id)).wrapping_mul(0x0000_0100_0000_01b3);
    hash ^ (hash >> 29)
}

/// A model whose numbers hang on every token before: log-probabilities of all tokens after a context.
fn logprobs(context: &[u32]) -> Vec<f64> {
    let state = context.iter().fold(SEED, |hash, &id| mixed(hash, id));
    let logit =
        |id: u32| (mixed(state, id.wrapping_mul(2_654_435_761)) >> 20 & 0xffff) as f64 / 8192.0;
    let logits: Vec<f64> = (0..VOCABULARY).map(logit).collect();
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit - sum.ln()).collect()
}

/// A server in the form of vLLM: `echo`, `logprob_token_ids`, and a cache of so many blocks.
struct Server {
    tokenizer: Tokenizer,
    cache: Cache,
    counts: Arc<Mutex<Counts>>,
}

impl Server {
    fn ids(&self, prompt: &Value) -> Vec<u32> {
        match prompt.as_array() {
            Some(ids) => ids.iter().map(|id| id.as_u64().unwrap() as u32).collect(),
            None => {
                let tokens = self.tokenizer.encode(prompt.as_str().unwrap()).unwrap();
                [self.tokenizer.prefix(), &tokens.ids].concat()
            }
        }
    }

    fn name(&self, id: u32, body: &Value) -> String {
        match body["return_tokens_as_token_ids"] == true {
            true => format!("token_id:{id}"),
            false => self.tokenizer.decode(&[id]).unwrap(),
        }
    }

    fn answer(&mut self, asked: &Asked) -> Say {
        match asked.path.as_str() {
            "/v1/models" => return models(),
            "/v1/completions" => {}
            _ => return Say::Status(404, "", json!({ "detail": "Not Found" })),
        }
        let body = &asked.body;
        let ids = self.ids(&body["prompt"]);
        let echoes = body["echo"] == true;
        let cached = self.cache.ask(&ids, !echoes);
        {
            let mut counts = self.counts.lock().unwrap();
            counts.num_requests += 1;
            counts.tokens += ids.len();
            counts.uncached += ids.len() - cached;
        }
        let next = logprobs(&ids);
        let mut order: Vec<u32> = (0..VOCABULARY).collect();
        order.sort_by(|&a, &b| next[b as usize].total_cmp(&next[a as usize]));
        let (mut tokens, mut values, mut tops) = (Vec::new(), Vec::new(), Vec::new());
        if echoes {
            for (at, &id) in ids.iter().enumerate() {
                tokens.push(self.name(id, body));
                // Nobody looks at those far before the label.
                values.push(match at + 8 >= ids.len() && at > 0 {
                    true => logprobs(&ids[..at])[id as usize].into(),
                    false => Value::Null,
                });
                tops.push(Value::Null);
            }
        }
        let written = order[0];
        let named = body["logprob_token_ids"].as_array();
        let named = named.map(|ids| ids.iter().map(|id| id.as_u64().unwrap() as u32).collect());
        let num_top = body["logprobs"].as_u64().unwrap_or(0) as usize;
        let shown: Vec<u32> = named.unwrap_or_else(|| order[..num_top.min(20)].to_vec());
        let entry = |&id: &u32| (self.name(id, body), Value::from(next[id as usize]));
        let top: Map<String, Value> = shown.iter().chain([&written]).map(entry).collect();
        tokens.push(self.name(written, body));
        values.push(next[written as usize].into());
        tops.push(top.into());
        let text = self.tokenizer.decode(&[written]).unwrap();
        let echoed = if echoes { asked.prompt() } else { "" };
        Say::Json(json!({
            "model": NAME,
            "choices": [{ "text": format!("{echoed}{text}"), "finish_reason": "length", "logprobs": {
                "tokens": tokens, "token_logprobs": values, "top_logprobs": tops } }],
            "usage": { "prompt_tokens": ids.len(), "completion_tokens": 1,
                "prompt_tokens_details": { "cached_tokens": cached } },
        }))
    }
}

/// A pass over all examples in the default order, each behind the 127 others.
fn pass() -> PromptTree {
    // Labels of one token, as label words mostly are.
    let mut task = Task::load("sentiment").unwrap();
    task.prompt.words = ["B", "A"].map(str::to_owned).to_vec();
    let format = PromptFormat::new(&task).unwrap();
    let data: Vec<Example> = (0..128)
        .map(|i| {
            let text = format!("number {i}, {} of a kind that nobody saw", i * i % 97);
            crate::search::example(&format!("e{i}"), &text, None)
        })
        .collect();
    let refs: Vec<&Example> = data.iter().collect();
    let items = Items::new(&format, &refs).unwrap();
    let labels: Vec<Option<usize>> = (0..data.len()).map(|i| Some(i % 2)).collect();
    let order = OrderOptions { num_trees: 1, ..OrderOptions::default() };
    let plan = OrderPlan::new(order, &items, &labels, &SeedStream::new(7), Epoch::default());
    let targets: Vec<usize> = (0..data.len()).collect();
    plan.ask(&items, &labels, &targets, false).tree
}

/// Tokens of a tree of prompts, each beginning counted once.
fn unique_tokens(tree: &PromptTree) -> usize {
    let tokenizer = Tokenizer::open(&tiny("llama")).unwrap();
    let ids = |text: String| [tokenizer.prefix(), &tokenizer.encode(&text).unwrap().ids].concat();
    let mut rows: Vec<Vec<u32>> =
        tree.questions().iter().map(|question| ids(tree.text(question.node))).collect();
    rows.sort();
    let common = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let own = rows.windows(2).map(|pair| pair[1].len() - common(&pair[0], &pair[1]));
    rows[0].len() + own.sum::<usize>()
}

/// The scores by a route, what the server did for them, and what the scorer says was computed.
fn run(tree: &PromptTree, route: RouteKind, most_blocks: usize) -> (Vec<LabelScores>, Counts, u64) {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let cache = Cache { most: most_blocks, used: HashMap::new(), uses: VecDeque::new(), now: 0 };
    let tokenizer = Tokenizer::open(&tiny("llama")).unwrap();
    let mut server = Server { tokenizer, cache, counts: Arc::clone(&counts) };
    let stub = Stub::new(move |asked| server.answer(asked));
    let options =
        ServiceOptions { client: at_once(), concurrency: 8, store: None, meter: Meter::default() };
    let service = Service::connect(&ServerAddress::parse(&stub.model()).unwrap(), options).unwrap();
    let options = HttpScorerOptions {
        route: Some(route),
        tokenizer: Some(tiny("llama")),
        ..HttpScorerOptions::default()
    };
    let mut scorer = HttpScorer::new(service, options).unwrap();
    scorer.route().unwrap();
    let before = *counts.lock().unwrap();
    let (scores, usage) = scorer.score(tree).unwrap();
    let after = *counts.lock().unwrap();
    let done = Counts {
        num_requests: after.num_requests - before.num_requests,
        tokens: after.tokens - before.tokens,
        uncached: after.uncached - before.uncached,
    };
    (scores, done, usage.tokens_computed)
}

#[test]
fn a_server_computes_each_beginning_once() {
    let tree = pass();
    let unique = unique_tokens(&tree);
    let (echo, by_echo, _) = run(&tree, RouteKind::Echo, 100_000);
    // A large cache, and one of four prompts.
    for blocks in [100_000, 4 * by_echo.tokens / by_echo.num_requests / BLOCK] {
        let (named, by_name, told) = run(&tree, RouteKind::TokenIds, blocks);
        println!(
            "{unique} tokens in the tree; token-ids with {blocks} blocks: {by_name:?}; echo: {by_echo:?}"
        );
        for (a, b) in named.iter().zip(&echo) {
            assert_eq!((&a.num_tokens, a.num_prompt_tokens), (&b.num_tokens, b.num_prompt_tokens));
            for (x, y) in a.logprobs.iter().zip(&b.logprobs) {
                assert!((x - y).abs() < 1e-3, "{x} and {y}");
            }
        }
        assert!(by_name.uncached as f64 <= 1.3 * unique as f64, "{by_name:?}, {unique}");
        assert!(by_echo.uncached >= 10 * by_name.uncached, "{by_name:?}, {by_echo:?}");
        // What the scorer says is what the server did, and a token written for each request.
        assert_eq!(told as usize, by_name.uncached + by_name.num_requests);
    }
}

/// Prompts that nobody put in a tree, in any order: those that begin alike are asked together.
#[test]
fn prompts_without_a_tree_are_asked_as_if_they_had_one() {
    let tree = pass();
    let unique = unique_tokens(&tree);
    let num = tree.questions().len();
    let mut flat = PromptTree::new();
    // 37 and 128 have no common factor.
    for i in (0..num).map(|i| i * 37 % num) {
        let question = &tree.questions()[i];
        let node = flat.child(PromptTree::ROOT, tree.text(question.node));
        flat.ask(node, question.id.clone(), &question.labels);
    }
    let (_, done, _) = run(&flat, RouteKind::TokenIds, 1000);
    assert!(done.uncached as f64 <= 1.3 * unique as f64, "{done:?}, {unique}");
}
