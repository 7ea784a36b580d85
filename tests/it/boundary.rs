//! Where the labels of a question begin: the same place for scoring, training and servers.

use serde::Deserialize;
use w2s::error::ErrorKind;
use w2s::lm::{Tokenizer, Tokens, question_boundary};
use w2s::score::{
    HttpScorerOptions, LabelScores, LmScorer, LmScorerOptions, PromptTree, RouteKind, Scorer,
};
use w2s::server::NamedBy;
use w2s::train::{ItemBuilder, TooLong};

use crate::common::{model, project, tiny};
use crate::server_stub::{ALL, Has, local, of_model, score, scorer};

/// A row of `tests/parity/boundary/cases.json`, made by `scripts/bench/parity_boundary.py`.
#[derive(Deserialize)]
struct Case {
    tokenizer: String,
    prompt: String,
    labels: Vec<String>,
    /// Nothing where two labels have the same tokens.
    begin: Option<usize>,
    last: Option<Vec<Vec<u32>>>,
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

fn cases() -> Vec<Case> {
    let path = project().join("tests/parity/boundary/cases.json");
    serde_json::from_str::<Cases>(&std::fs::read_to_string(path).unwrap()).unwrap().cases
}

#[test]
fn labels_begin_where_the_tokenizers_library_says() {
    let (mut num, mut open) = (0, (String::new(), None));
    for case in cases() {
        if open.0 != case.tokenizer {
            let tokenizer = Tokenizer::open_file(&project().join(&case.tokenizer)).unwrap();
            open = (case.tokenizer.clone(), Some(tokenizer));
        }
        let tokenizer = open.1.as_ref().unwrap();
        let what = format!("{} {:?} {:?}", case.tokenizer, case.prompt, case.labels);
        let words: Vec<&str> = case.labels.iter().map(String::as_str).collect();
        let joint: Vec<Tokens> = words
            .iter()
            .map(|word| tokenizer.encode(&[case.prompt.as_str(), word].concat()).unwrap())
            .collect();
        let found = question_boundary(case.prompt.len(), &words, &joint);
        let (Some(begin), Some(last)) = (case.begin, case.last) else {
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Task, "{what}");
            continue;
        };
        assert_eq!(found.unwrap(), begin, "{what}");
        for (joint, last) in joint.iter().zip(&last) {
            assert_eq!(joint.ids[begin..], *last, "{what}");
        }
        if begin + tokenizer.prefix().len() == 0 {
            continue;
        }
        // Whichever label is learnt, its target begins there.
        let mut builder = ItemBuilder::new(tokenizer, None, 512, TooLong::Refuse);
        for (word, last) in words.iter().zip(&last) {
            let item = builder
                .item(("x", "x"), &case.prompt, (&[(word, 1.0)], &words), 1.0)
                .unwrap()
                .unwrap();
            let answer = &item.answers[0];
            assert_eq!(answer.ids[answer.begin..], *last, "{what}");
        }
        num += 1;
    }
    assert!(num > 110, "{num}");
}

fn ask(scorer: &mut impl Scorer, rows: &[(&str, &[&str])]) -> Vec<LabelScores> {
    let mut tree = PromptTree::new();
    for (i, (prompt, labels)) in rows.iter().enumerate() {
        let node = tree.child(PromptTree::ROOT, *prompt);
        tree.ask(node, format!("{i}"), &PromptTree::labels(labels.iter().copied()));
    }
    score(scorer, &tree).unwrap()
}

/// The numbers are transformers', summed with the blank that stands before a digit.
#[test]
fn a_blank_is_paid_by_all_labels_or_by_none() {
    let rows: [(&str, &[&str], &[f64]); 3] = [
        (
            "He lived in the nineteenth century. His century was the ",
            &["nineteenth", "19"],
            &[-4.4349, -4.9638],
        ),
        (
            "Which option is right, or none? There is no right option.\nAnswer: ",
            &["none", "1", "2", "3"],
            &[-3.7299, -3.5463, -4.355, -4.9152],
        ),
        ("She has exactly ", &["two", "2"], &[-4.7116, -3.9486]),
    ];
    let mut lm = LmScorer::open(&model("gemma-3-270m"), LmScorerOptions::default()).unwrap();
    let asked: Vec<(&str, &[&str])> = rows.iter().map(|(p, labels, _)| (*p, *labels)).collect();
    for (found, (prompt, _, right)) in ask(&mut lm, &asked).iter().zip(rows) {
        for (logprob, right) in found.logprobs.iter().zip(right) {
            assert!((logprob - right).abs() < 2e-4, "{prompt}: {logprob}, expected {right}");
        }
    }
}

/// What all labels have in common cancels: as much of it as one likes may stand in the prompt.
#[test]
fn what_labels_share_is_the_prompts() {
    let mut lm = local("llama");
    let found = ask(
        &mut lm,
        &[
            ("Which is better?\n", &["Response 1", "Response 2"]),
            ("Which is better?\nResponse ", &["1", "2"]),
            ("How many? ", &["1", "1\n"]),
            ("How many? ", &["1"]),
        ],
    );
    assert_eq!(found[0].num_tokens, found[1].num_tokens);
    assert_eq!(found[0].num_prompt_tokens, found[1].num_prompt_tokens);
    for (a, b) in found[0].logprobs.iter().zip(&found[1].logprobs) {
        assert!((a - b).abs() < 1e-5, "{a} and {b}");
    }
    // The tokens of the longer go on from those of `1`, whose probability holds them.
    assert_eq!(found[2].num_tokens[1], found[2].num_tokens[0] + 1);
    assert!(found[2].logprobs[0] > found[2].logprobs[1]);
    assert!((found[2].logprobs[0] - found[3].logprobs[0]).abs() < 1e-5);
}

/// Labels that begin at different tokens, labels that share some, and one that begins another.
const MIXED: [(&str, &[&str]); 6] = [
    ("Claim: 1 + 1 = 2\nThis claim is ", &["True", "False", "7"]),
    ("How many? ", &["1", "10", "two"]),
    ("How many? ", &["1", "10"]),
    ("Which?\n", &["Response 1", "Response 2"]),
    ("A naive cafe: ", &["yes", "-5", "(c)"]),
    ("It is ", &["so"]),
];

#[test]
fn servers_sum_from_where_the_model_here_does() {
    for name in ["llama", "gpt2"] {
        let expected = ask(&mut local(name), &MIXED);
        let texts = Has { no_ids: true, ..ALL };
        let named = |way: &'static [NamedBy]| Has { named: way, tokenizes: true, ..ALL };
        for (route, has, tokenizer) in [
            (RouteKind::TokenIds, named(&[NamedBy::LogprobTokenIds]), true),
            (RouteKind::TokenIds, named(&[NamedBy::LogprobTokenIds]), false),
            (RouteKind::TokenIds, named(&[NamedBy::Grammar]), false),
            (RouteKind::TokenIds, named(&[NamedBy::LogitBias]), true),
            (RouteKind::Echo, ALL, true),
            (RouteKind::Echo, ALL, false),
            (RouteKind::Echo, texts, false),
            (RouteKind::PromptLogprobs, ALL, true),
            (RouteKind::PromptLogprobs, ALL, false),
            (RouteKind::TopK, ALL, true),
            (RouteKind::TopK, texts, true),
        ] {
            let what = format!("{name}, {route}, tokenizer {tokenizer}");
            let options = HttpScorerOptions {
                route: Some(route),
                top_k: 384,
                max_misses: 0.0,
                tokenizer: tokenizer.then(|| tiny(name)),
                ..HttpScorerOptions::default()
            };
            let stub = of_model(name, has);
            let found = ask(&mut scorer(&stub, options), &MIXED);
            for (a, b) in found.iter().zip(&expected) {
                assert_eq!(a.num_tokens, b.num_tokens, "{what}");
                assert_eq!(a.num_prompt_tokens, b.num_prompt_tokens, "{what}");
                for (x, y) in a.logprobs.iter().zip(&b.logprobs) {
                    assert!((x - y).abs() < 1e-4, "{what}: {x} and {y}");
                }
            }
        }
    }
}

const TASK: &str = r#"
name = "count"
description = "how many"
[fields]
text = ["text"]
[prompt]
template = "{text} "
[[labels]]
name = "1"
[[labels]]
name = "10"
[[labels]]
name = "none"
"#;

#[test]
fn a_label_that_begins_another_is_warned_of() {
    let place = tempfile::tempdir().unwrap();
    let task = place.path().join("count.toml");
    std::fs::write(&task, TASK).unwrap();
    let data = place.path().join("data.jsonl");
    std::fs::write(&data, "{\"id\": 1, \"text\": \"How many?\"}\n").unwrap();
    let input = place.path().join("in.jsonl");
    let line = r#"{"id": "a", "prompt": "How many? ", "labels": ["1", "10", "none"]}"#;
    std::fs::write(&input, line).unwrap();
    let (task, data, input) =
        (task.to_str().unwrap(), data.to_str().unwrap(), input.to_str().unwrap());
    let llama = tiny("llama");
    let (llama, out) = (llama.to_str().unwrap(), place.path().join("run"));
    let label = [
        "label",
        "--task",
        task,
        "--data",
        data,
        "--model",
        llama,
        "--method",
        "zero-shot",
        "--out",
        out.to_str().unwrap(),
    ];
    for args in [&["tasks", task][..], &label, &["score", "--model", llama, "--input", input]] {
        let done = crate::cli::w2s(args);
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success(), "{said}");
        assert_eq!(said.matches("warning: label word `1` begins `10`").count(), 1, "{said}");
        assert!(said.contains("hint: choose words of which none begins another"), "{said}");
    }
    // Published tasks have none.
    for (name, _) in w2s::data::Task::builtin() {
        let task = w2s::data::Task::load(name).unwrap();
        assert!(task.variants.iter().all(|variant| variant.begun_words().is_empty()), "{name}");
    }
}
