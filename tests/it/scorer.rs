//! Laws of the scoring engine, on the tiny models of every family and on the real tokenizers.

use std::path::Path;

use w2s::error::ErrorKind;
use w2s::lm::{DeviceChoice, DtypeChoice, NewTokens, Tokenizer};
use w2s::score::{LabelScores, LmScorer, LmScorerOptions, PromptTree, Scorer};

use crate::common::{model, tiny};

fn open(folder: &Path, pack: usize, dtype: DtypeChoice) -> LmScorer {
    let options = LmScorerOptions {
        device: DeviceChoice::Cpu,
        dtype,
        max_pack_tokens: Some(pack),
        max_context_tokens: None,
        memory: None,
    };
    LmScorer::open(folder, options).unwrap()
}

/// A forest with a shared beginning, branches of several depths, a label of several tokens, and
/// prompts that end in a space.
fn forest() -> PromptTree {
    let labels = PromptTree::labels(["True", "False", "Unknown, perhaps"]);
    let mut tree = PromptTree::new();
    let start = tree.child(PromptTree::ROOT, "Judge every claim.\n\n");
    let mut node = start;
    for i in 0..5 {
        let item =
            tree.child(node, format!("Claim: {i} + {i} = {}\nI think this claim is ", 2 * i));
        tree.ask(item, format!("sum {i}"), &labels);
        let other = tree.child(node, format!("Claim: {i} is odd, naive cafe\nThis is "));
        tree.ask(other, format!("odd {i}"), &labels);
        node = tree.child(node, format!("Claim: {i} > {}\nI think this claim is True\n\n", i + 1));
    }
    let alone = tree.child(PromptTree::ROOT, "Another prompt altogether: ");
    tree.ask(alone, "alone", &labels);
    tree
}

/// Scores computed from one plain forward pass over each prompt with each label.
fn plainly(scorer: &LmScorer, tree: &PromptTree) -> Vec<LabelScores> {
    let (decoder, tokenizer) = (scorer.decoder(), scorer.tokenizer());
    let ids = |prompt: &str, label: &str| {
        let joint = tokenizer.encode(&format!("{prompt}{label}")).unwrap();
        [tokenizer.prefix(), &joint.ids].concat()
    };
    let sum = |ids: &[u32], first: usize| {
        let parents: Vec<Option<usize>> = (0..ids.len()).map(|i| i.checked_sub(1)).collect();
        let new = NewTokens { ids, parents: &parents };
        let x_ld = decoder.forward(new, &mut decoder.new_cache()).unwrap();
        let logprobs_lv = decoder.log_probs(&x_ld);
        (first..ids.len())
            .map(|i| logprobs_lv.double_value(&[i as i64 - 1, i64::from(ids[i])]))
            .sum::<f64>()
    };
    tree.questions()
        .iter()
        .map(|question| {
            let prompt = tree.text(question.node);
            let all: Vec<Vec<u32>> = question.labels.iter().map(|l| ids(&prompt, l)).collect();
            // None of these labels begins another: they begin where they are not all alike any more.
            let first = (0..).find(|&i| all.iter().any(|row| row[i] != all[0][i])).unwrap();
            LabelScores {
                logprobs: all.iter().map(|row| sum(row, first)).collect(),
                num_tokens: all.iter().map(|row| row.len() - first).collect(),
                num_prompt_tokens: 0,
            }
        })
        .collect()
}

fn largest(a: &[LabelScores], b: &[LabelScores]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mut worst: f64 = 0.0;
    for (x, y) in a.iter().zip(b) {
        assert_eq!(x.num_tokens, y.num_tokens);
        for (p, q) in x.logprobs.iter().zip(&y.logprobs) {
            worst = worst.max((p - q).abs());
        }
    }
    worst
}

#[test]
fn a_tree_scores_as_its_prompts_one_by_one_however_it_is_packed() {
    let _no_grad = tch::no_grad_guard();
    let tree = forest();
    for family in
        ["llama", "mistral", "gemma3_text", "qwen2", "qwen3", "olmo2", "phi3", "gpt2", "gpt_neox"]
    {
        let expected = plainly(&open(&tiny(family), 512, DtypeChoice::F32), &tree);
        for pack in [1, 7, 40, 512] {
            let mut scorer = open(&tiny(family), pack, DtypeChoice::F32);
            let (scores, usage) = scorer.score(&tree).unwrap();
            let worst = largest(&scores, &expected);
            assert!(worst < 1e-4, "{family}, packs of {pack}: {worst:e}");
            assert!(usage.tokens_computed < usage.tokens_full_prompts);
            // A second call on the same scorer starts afresh.
            assert_eq!(scorer.score(&tree).unwrap().0, scores);
        }
    }
}

#[test]
fn a_memory_budget_changes_passes_and_no_number() {
    let _no_grad = tch::no_grad_guard();
    let tree = forest();
    let with = |memory: &str| {
        let options = LmScorerOptions {
            device: DeviceChoice::Cpu,
            memory: Some(memory.parse().unwrap()),
            ..LmScorerOptions::default()
        };
        LmScorer::open(&tiny("gemma3_text"), options).unwrap().score(&tree)
    };
    let (wide, _) = with("4G").unwrap();
    // By hand: 200 tokens of 7 layers * 2 * 2 heads * 32 * 4 bytes are 0.7 MB, half as much again
    // for growing, and passes of 512 tokens 0.5 MB more; 2 MB hold small passes only.
    let (narrow, _) = with("2M").unwrap();
    assert!(largest(&wide, &narrow) < 1e-4);
    let error = with("100K").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Context);
    assert!(error.to_string().contains("set `--memory 1M` or more"), "{error}");
}

#[test]
fn half_precision_weights_load_and_agree_as_far_as_they_can() {
    let _no_grad = tch::no_grad_guard();
    let tree = forest();
    let expected = plainly(&open(&tiny("llama"), 512, DtypeChoice::F32), &tree);
    // Between a label's tokens the errors add up: the bound is per token.
    for (dtype, tolerance) in [(DtypeChoice::Bf16, 2e-2), (DtypeChoice::F16, 4e-3)] {
        let (scores, _) = open(&tiny("llama"), 64, dtype).score(&tree).unwrap();
        for (x, y) in scores.iter().zip(&expected) {
            for ((p, q), n) in x.logprobs.iter().zip(&y.logprobs).zip(&x.num_tokens) {
                let bound = tolerance * *n as f64;
                assert!((p - q).abs() < bound, "{dtype}: {p} and {q} over {n} tokens");
            }
        }
    }
}

/// Texts that bring tokenizers into trouble at a cut.
const ODD: [&str; 9] = [
    "Review: fine\nSentiment: positive\n\n",
    "  two  spaces   and\ttabs ",
    "\n\n\nblank lines\n\n",
    "naive cafe \u{2014} \u{4f60}\u{597d} \u{1f642} e\u{301}",
    "12345 678,900.00 $27",
    "'s 're n't don't",
    "a",
    " ",
    "The quick brown fox jumps over the lazy dog and runs away from the hunters at dawn.",
];

#[test]
fn growing_a_tokenised_text_equals_tokenising_it_whole() {
    for folder in [model("gemma-3-270m"), model("smollm2-135m-instruct"), tiny("llama")] {
        let tokenizer = Tokenizer::open(&folder).unwrap();
        let mut tokens = tokenizer.encode("").unwrap();
        // Every odd text follows every other, on a text that grows past all overlaps.
        for step in 0..ODD.len() * ODD.len() {
            let next = ODD[(step * 4 + step / ODD.len()) % ODD.len()];
            tokens = tokenizer.extend(&tokens, next).unwrap();
            assert_eq!(tokens, tokenizer.encode(&tokens.text).unwrap(), "{folder:?} {next:?}");
        }
        assert!(tokens.ids.len() > 400);
    }
}

#[test]
fn the_boundary_is_where_tokens_end_after_the_prompt() {
    let tokenizer = Tokenizer::open(&model("smollm2-135m-instruct")).unwrap();
    let prompt = "I think this claim is ";
    let joint = tokenizer.encode(&format!("{prompt}True")).unwrap();
    let begin = joint.boundary(prompt.len());
    // The space belongs to ` True`, so the label is one token, scored after `is`.
    assert_eq!(joint.ids.len() - begin, 1);
    assert_eq!(tokenizer.decode(&joint.ids[begin..]).unwrap(), " True");
    assert!(tokenizer.decode(&joint.ids[..begin]).unwrap().ends_with("is"));
}

#[test]
fn a_prompt_beyond_the_context_names_its_example() {
    let labels = PromptTree::labels(["True", "False"]);
    let mut tree = PromptTree::new();
    let short = tree.child(PromptTree::ROOT, "Claim: yes. This is ");
    tree.ask(short, "short", &labels);
    let long = tree.child(PromptTree::ROOT, "word ".repeat(400));
    tree.ask(long, "the-long-one", &labels);
    let mut scorer = open(&tiny("llama"), 512, DtypeChoice::F32);
    let error = scorer.score(&tree).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Context);
    assert!(error.message().contains("`the-long-one`"), "{error}");
    assert!(error.message().contains("expected at most 512"), "{error}");
    assert!(error.to_string().contains("--batch-size"), "{error}");
}

#[test]
fn an_empty_prompt_and_nan_weights_are_errors_that_name_the_example() {
    let labels = PromptTree::labels(["True", "False"]);
    let mut tree = PromptTree::new();
    tree.ask(PromptTree::ROOT, "nothing", &labels);
    let mut scorer = open(&tiny("llama"), 512, DtypeChoice::F32);
    let error = scorer.score(&tree).unwrap_err();
    assert!(error.message().contains("`nothing`") && error.message().contains("empty"), "{error}");

    let folder = crate::common::copy_of("llama");
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    // The last tensors of the file become NaN.
    bytes[end - 40_000..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let mut tree = PromptTree::new();
    let node = tree.child(PromptTree::ROOT, "Claim: yes. This is ");
    tree.ask(node, "claim-7", &labels);
    let error = open(folder.path(), 512, DtypeChoice::F32).score(&tree).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Numeric);
    assert!(error.message().contains("`claim-7`"), "{error}");
}
