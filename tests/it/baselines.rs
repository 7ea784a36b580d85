//! The baselines: on a table with answers worked out by hand, and how chats are asked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use w2s::data::{Example, Task};
use w2s::error::{ErrorKind, Result};
use w2s::label::{
    BatchSize, DemonstrationLabels, Labelling, ManyShot, Method, OrderOptions, label,
};
use w2s::lm::Moment;
use w2s::run::SeedStream;
use w2s::score::{
    Calibration, LmScorer, LmScorerOptions, Prior, PromptTree, Question, Scorer, TableScorer,
};

use crate::cli::{Place, good, strs, with};
use crate::common::{copy_of, model, project, tiny};
use crate::search::{examples, parse};

/// A prompt's demonstrations, text and label, and the text asked about.
type Seen = Vec<(Vec<(String, usize)>, String)>;

/// Labels by a model whose log-odds of `positive` are `own` for a question alone, and behind
/// demonstrations the positive ones less the negative ones and a tenth.
fn by_majority(
    method: &Method,
    data: &[Example],
    seed: u64,
    own: impl Fn(&str) -> f64,
) -> Result<(Labelling, Seen)> {
    let mut seen = Vec::new();
    let scorer = TableScorer::new(|prompt: &str, _: &Question| {
        let (demonstrations, asked) = parse(prompt);
        let spin = |label: usize| if label == 1 { 1.0 } else { -1.0 };
        let log_odds = match demonstrations.as_slice() {
            [] => own(&asked),
            all => all.iter().map(|(_, label)| spin(*label)).sum::<f64>() + 0.1,
        };
        seen.push((demonstrations, asked));
        vec![0.0, log_odds]
    });
    let task = Task::load("sentiment").unwrap();
    let streams = SeedStream::new(seed);
    let labelling = label(&task, data, method, streams, &mut { scorer }, &mut |_| Ok(()))?;
    Ok((labelling, seen))
}

fn many_shot(labels: DemonstrationLabels, num: Option<usize>, batch_size: BatchSize) -> Method {
    Method::ManyShot(ManyShot {
        labels,
        num_demonstrations: num,
        batch_size,
        calibration: Calibration::None,
        prior: Prior::Equal,
        order: OrderOptions::default(),
    })
}

const FITTING: BatchSize = BatchSize::AtMost(256);

fn given(labels: &[Option<usize>]) -> DemonstrationLabels {
    let all = labels.iter().enumerate();
    DemonstrationLabels::Given(
        all.filter_map(|(i, label)| Some((format!("e{i}"), (*label)?))).collect(),
    )
}

fn margins(labelling: &Labelling) -> Vec<(&str, f64)> {
    let round = |x: f64| (x * 1e6).round() / 1e6;
    labelling.records.iter().map(|r| (r.label.as_str(), round(r.margin))).collect()
}

#[test]
fn gold_demonstrations_leave_the_example_out() {
    // Three positive, two negative, one unknown. A positive one sees 2 against 2, a negative one 3
    // against 1, the unknown one 3 against 2.
    let gold = given(&[Some(1), Some(1), Some(1), Some(0), Some(0), None]);
    let method = many_shot(gold, None, FITTING);
    assert_eq!(method.name(), "few-shot-gold");
    let (labelling, seen) = by_majority(&method, &examples(6), 0, |_| -9.0).unwrap();
    let (tie, ahead, unknown) = (("positive", 0.1), ("positive", 2.1), ("positive", 1.1));
    assert_eq!(margins(&labelling), [tie, tie, tie, ahead, ahead, unknown]);
    for (demonstrations, asked) in &seen {
        assert!(demonstrations.iter().all(|(text, _)| text != asked && text != "text 5"));
    }
    // Two trees ask each.
    assert_eq!(seen.len(), 12);
    let many = labelling.summary.many_shot.unwrap();
    assert_eq!((many.num_batches, many.num_demonstrations), (1, 5));
}

/// As many demonstrations as there are labelled examples may be asked for, and no more.
#[test]
fn all_labelled_examples_may_be_drawn() {
    let drawn = |wanted| {
        let method = many_shot(DemonstrationLabels::Random, Some(wanted), FITTING);
        by_majority(&method, &examples(6), 0, |_| -9.0).map(|(labelling, _)| labelling)
    };
    assert_eq!(drawn(6).unwrap().records.len(), 6);
    let message = drawn(7).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("is 7, expected 2 to 6"), "{message}");
}

#[test]
fn random_demonstrations_are_balanced_and_the_seeds() {
    let method = many_shot(DemonstrationLabels::Random, None, BatchSize::Exactly(6));
    assert_eq!(method.name(), "few-shot-random");
    let labels_of = |seed| {
        let (labelling, seen) = by_majority(&method, &examples(12), seed, |_| -9.0).unwrap();
        let mut labels: BTreeMap<String, usize> = BTreeMap::new();
        for (demonstrations, asked) in &seen {
            assert_eq!(demonstrations.len(), 5);
            for (text, label) in demonstrations {
                assert_ne!(text, asked);
                // The same label wherever it is shown.
                assert_eq!(labels.entry(text.clone()).or_insert(*label), label);
            }
        }
        assert_eq!(labelling.summary.many_shot.as_ref().unwrap().num_batches, 2);
        // A batch, drawn from the whole file, is an example and what it was shown.
        for (demonstrations, asked) in &seen {
            let shown: usize = demonstrations.iter().map(|(_, label)| *label).sum();
            assert_eq!(shown + labels[asked], 3);
        }
        // Behind 3 against 2 of the other label an example gets the other label.
        for (i, record) in labelling.records.iter().enumerate() {
            let own = labels[&format!("text {i}")];
            assert_eq!(record.label, ["positive", "negative"][own], "{i}");
        }
        labels
    };
    assert_eq!(labels_of(0), labels_of(0));
    assert_ne!(labels_of(0), labels_of(1));
}

#[test]
fn bootstrapping_goes_on_from_the_labels_of_the_round_before() {
    let own = |text: &str| if text == "text 4" { -1.0 } else { 1.0 };
    let run = |rounds| {
        let method = many_shot(DemonstrationLabels::ZeroShot { rounds }, None, FITTING);
        assert_eq!(method.name(), "bootstrap");
        by_majority(&method, &examples(5), 0, own).unwrap()
    };
    // Zero-shot: four positive, one negative. The four see 3 against 1, the one sees 4.
    let (once, seen) = run(1);
    let round = [("positive", 2.1); 4].into_iter().chain([("positive", 4.1)]).collect::<Vec<_>>();
    assert_eq!(margins(&once), round);
    assert_eq!(once.summary.many_shot.unwrap().changed_by_round, [1]);
    let zero_shot = seen.iter().filter(|(demonstrations, _)| demonstrations.is_empty());
    assert_eq!((zero_shot.count(), seen.len()), (5, 15));
    // Now all see four positive.
    let (twice, _) = run(2);
    assert_eq!(margins(&twice), [("positive", 4.1); 5]);
    assert_eq!(twice.summary.many_shot.unwrap().changed_by_round, [1, 0]);
    assert_eq!(twice.summary.num_questions, 25);
}

#[test]
fn drawn_demonstrations_are_the_same_for_all_and_balanced() {
    let gold: Vec<Option<usize>> = (0..20).map(|i| Some(usize::from(i % 5 == 0))).collect();
    let method = many_shot(given(&gold), Some(6), FITTING);
    let (labelling, seen) = by_majority(&method, &examples(20), 3, |_| 0.0).unwrap();
    let whole: BTreeSet<_> = seen
        .iter()
        .filter(|(demonstrations, _)| demonstrations.len() == 6)
        .map(|(demonstrations, _)| {
            let mut all = demonstrations.clone();
            all.sort();
            all
        })
        .collect();
    assert_eq!(whole.len(), 1);
    let drawn = whole.first().unwrap();
    assert_eq!(drawn.iter().map(|(_, label)| label).sum::<usize>(), 3);
    for (demonstrations, asked) in &seen {
        let among = drawn.iter().any(|(text, _)| text == asked);
        assert_eq!(demonstrations.len(), 6 - usize::from(among), "{asked}");
    }
    assert_eq!(labelling.summary.many_shot.unwrap().num_demonstrations, 6);
    // Of a label with too few, all are taken.
    let few: Vec<Option<usize>> = (0..20).map(|i| Some(usize::from(i == 7))).collect();
    let method = many_shot(given(&few), Some(6), FITTING);
    let (_, seen) = by_majority(&method, &examples(20), 3, |_| 0.0).unwrap();
    let full = seen.iter().find(|(demonstrations, _)| demonstrations.len() == 6).unwrap();
    assert_eq!(full.0.iter().filter(|(_, label)| *label == 1).count(), 1);
    for wanted in [1, 21] {
        let method = many_shot(given(&few), Some(wanted), FITTING);
        let error = by_majority(&method, &examples(20), 0, |_| 0.0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.message().contains("expected 2 to 20"), "{error}");
    }
}

#[test]
fn given_labels_that_predict_nothing_are_refused() {
    let refused = |labels: &[Option<usize>], batch_size, part: &str| {
        let method = many_shot(given(labels), None, batch_size);
        let error = by_majority(&method, &examples(labels.len()), 0, |_| 0.0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(&[Some(1), None, None], FITTING, "1 of 3 examples");
    refused(&[Some(1), Some(1), None], FITTING, "are the same");
    // One positive among two batches.
    let rare: Vec<Option<usize>> = (0..16).map(|i| Some(usize::from(i == 7))).collect();
    refused(&rare, BatchSize::Exactly(8), "has 8 labelled examples, all with the same");
    let gap = [None, Some(0), None, Some(1)];
    refused(&gap, BatchSize::Exactly(2), "labelled examples, expected at least 2");
    // A file that is sorted by label is not cut into batches of one label.
    let sorted: Vec<Option<usize>> = (0..16).map(|i| Some(i / 8)).collect();
    let method = many_shot(given(&sorted), None, BatchSize::Exactly(8));
    by_majority(&method, &examples(16), 0, |_| 0.0).unwrap();
    refused(&[Some(0)], FITTING, "1 example to label");
}

#[test]
fn a_chat_model_is_asked_in_a_message() {
    let task = Task::load("sentiment").unwrap();
    let mut prompts = BTreeSet::new();
    let mut scorer = TableScorer::new(|prompt: &str, question: &Question| {
        assert_eq!(*question.labels, ["negative".to_owned(), "positive".to_owned()]);
        prompts.insert(prompt.to_owned());
        vec![0.0, 3.0 + if prompt.contains("text 1") { 1.0 } else { -1.0 }]
    });
    let run = |calibration, scorer: &mut _| {
        let (method, streams) =
            (Method::ZeroShotChat { calibration, prior: Prior::Equal }, SeedStream::new(0));
        label(&task, &examples(2), &method, streams, scorer, &mut |_| Ok(())).unwrap()
    };
    assert_eq!(
        margins(&run(Calibration::None, &mut scorer)),
        [("positive", 2.0), ("positive", 4.0)]
    );
    // The mean of 2 and 4 is taken off; then what is 2 after a message without content.
    let pulled = [("negative", 1.0), ("positive", 1.0)];
    assert_eq!(margins(&run(Calibration::Batch, &mut scorer)), pulled);
    let free = run(Calibration::ContentFree, &mut scorer);
    assert_eq!((margins(&free)[1], free.summary.num_questions), (("positive", 2.0), 5));
    let message = |text: &str| {
        format!(
            "<user>Review: {text}\nSentiment:\n\nAnswer with negative or positive only.<assistant>"
        )
    };
    let expected = ["text 0", "text 1", "N/A", "", "[MASK]"].map(message);
    assert_eq!(prompts, BTreeSet::from(expected));
}

/// A tiny model with a chat template, and a tokenizer that adds the begin token the template spells.
pub fn tiny_chat() -> tempfile::TempDir {
    let folder = copy_of("llama");
    for (from, name) in [
        (tiny("llama").join("tokenizer_config.json"), "tokenizer_config.json"),
        (project().join("tests/data/chat_template.jinja"), "chat_template.jinja"),
    ] {
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let begin = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    let processor = &mut tokenizer["post_processor"];
    for form in ["single", "pair"] {
        processor[form].as_array_mut().unwrap().insert(0, begin.clone());
    }
    processor["special_tokens"] = json!({"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}});
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    folder
}

/// The numbers are those of `scripts/bench/parity_chat.py`.
#[test]
fn answers_to_messages_agree_with_transformers() {
    let expected: Value = serde_json::from_str(
        &std::fs::read_to_string(project().join("tests/parity/chat.json")).unwrap(),
    )
    .unwrap();
    let tiny = tiny_chat();
    let folders = [
        ("llama", tiny.path().to_path_buf()),
        ("smollm2-135m-instruct", model("smollm2-135m-instruct")),
    ];
    let task = Task::load("sentiment").unwrap();
    let format = w2s::prompt::PromptFormat::new(&task).unwrap();
    for (name, folder) in folders {
        let options = LmScorerOptions {
            device: "cpu".parse().unwrap(),
            dtype: "f32".parse().unwrap(),
            ..Default::default()
        };
        let mut scorer = LmScorer::open(&folder, options).unwrap();
        let words = PromptTree::labels(format.label_words());
        let rows = expected[name].as_array().unwrap();
        let mut tree = PromptTree::new();
        tree.spell_special_tokens();
        for row in rows {
            let example = crate::search::example("r", row["text"].as_str().unwrap(), None);
            let message = format.chat_message(&example).unwrap();
            assert_eq!(message, row["message"].as_str().unwrap());
            let prompt = scorer.chat(&message).unwrap();
            let whole = row["prompt"].as_str().unwrap();
            assert_eq!(whole, prompt);
            let leaf = tree.child(PromptTree::ROOT, prompt);
            tree.ask(leaf, "r", &words);
        }
        let (scores, _) = scorer.score(&tree).unwrap();
        let mut worst = 0.0_f64;
        for (row, score) in rows.iter().zip(&scores) {
            assert_eq!(row["num_prompt_tokens"], score.num_prompt_tokens);
            for (label, logprob) in score.logprobs.iter().enumerate() {
                worst = worst.max((row["logprobs"][label].as_f64().unwrap() - logprob).abs());
            }
        }
        println!("chat {name:<24} {worst:.1e}");
        assert!(worst < 1e-4 && rows.len() == 4, "{name}: {worst}");
    }
}

/// As transformers has it, the prompt of a chat has the special tokens that its template writes and no
/// others, and a date that is asked for is the run's, also when the run goes on later.
#[test]
fn a_chat_has_the_templates_tokens_and_the_runs_date() {
    let (place, chat) = (Place::new(), tiny_chat());
    let template = |text: &str| {
        std::fs::write(chat.path().join("chat_template.jinja"), text).unwrap();
        LmScorer::open(chat.path(), LmScorerOptions::default()).unwrap()
    };
    let mut bare = template("{{ messages[0].content }} Is it so?");
    assert_eq!(bare.tokenizer().prefix().len(), 1);
    let prompt = bare.chat("It rains").unwrap();
    let mut num_tokens = |spelled: bool| {
        let mut tree = PromptTree::new();
        if spelled {
            tree.spell_special_tokens();
        }
        let leaf = tree.child(PromptTree::ROOT, prompt.as_str());
        tree.ask(leaf, "r", &PromptTree::labels([" yes", " no"]));
        bare.score(&tree).unwrap().0[0].num_prompt_tokens
    };
    assert_eq!(num_tokens(true) + 1, num_tokens(false));

    template("{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}");
    let args = |more: &[&str]| {
        let args = place.label("dated", &[&["--method", "zero-shot-chat"], more].concat());
        with(&args, "--model", &chat.path().display().to_string())
    };
    good(&strs(&args(&[])));
    let path = place.path("dated/manifest.json");
    let mut manifest: Value = serde_json::from_str(&place.read("dated/manifest.json")).unwrap();
    assert!(Moment::parse(manifest["settings"]["chat_date"].as_str().unwrap()).is_some());
    // As if it had begun in another year and been stopped before its first pass.
    manifest["settings"]["chat_date"] = "2001-02-03T04:05:06Z".into();
    std::fs::write(path, manifest.to_string()).unwrap();
    for file in ["timing.json", "journal.jsonl", "labels.jsonl", "summary.json"] {
        std::fs::remove_file(place.path(&format!("dated/{file}"))).unwrap();
    }
    good(&strs(&args(&["--resume"])));
    let manifest: Value = serde_json::from_str(&place.read("dated/manifest.json")).unwrap();
    assert_eq!(manifest["settings"]["chat_date"], "2001-02-03T04:05:06Z");
    // The prompts are those of that day: one written out has the same answers.
    template("03 Feb 2001 {{ messages[0].content }}");
    let labels = place.read("dated/labels.jsonl");
    good(&strs(&with(
        &place.label("written", &["--method", "zero-shot-chat"]),
        "--model",
        &chat.path().display().to_string(),
    )));
    assert_eq!(place.read("written/labels.jsonl"), labels);
}

pub type Gold = fn(usize) -> Option<bool>;
