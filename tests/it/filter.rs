//! Filtering weak labels: variants, what is kept, laws of unread answers.

use std::collections::BTreeSet;

use rand::Rng;
use w2s::data::{AnswerRecord, Dataset, Example, ParserName, Task, VariantKind};
use w2s::filter::{Asking, Filtered, KeepSettings, Rule, Variation, WeightBy, keep};
use w2s::run::SeedStream;
use w2s::score::{Calibration, Question, TableGenerator, TableScorer};

use crate::cli::Place;

const QUESTIONS: &str = r#"{"id": "q1", "ctx": "A man sits.", "endings": ["wool", "silk", "linen", "jute"]}

{"id": "q2", "ctx": "A dog runs.", "endings": ["red", "green", "blue", "white"]}
{"id": "q3", "ctx": "A bird sings.", "endings": ["oak", "elm", "ash", "fir"]}
"#;

pub fn questions(task: &Task) -> (Place, Dataset) {
    let place = Place::new();
    let data = Dataset::read(place.write("q.jsonl", QUESTIONS), task).unwrap();
    (place, data)
}

pub fn settings(rule: Rule) -> KeepSettings {
    KeepSettings {
        rule,
        weight_by: WeightBy::Reliability { temperature: 0.2 },
        sampling: false,
        validation_fraction: 0.0,
    }
}

pub fn asking<'a>(task: &'a Task, examples: &'a [Example], num: usize, seed: u64) -> Asking<'a> {
    let variation = Variation { kind: VariantKind::OptionOrders, num: Some(num) };
    Asking::new(task, examples, variation, &SeedStream::new(seed)).unwrap()
}

/// The letter before an option in a prompt of HellaSwag.
fn letter_of(prompt: &str, option: &str) -> usize {
    let at = prompt.find(&format!(". {option}")).unwrap();
    usize::from(prompt.as_bytes()[at - 1] - b'A')
}

/// A model that knows what it wants whatever the order: under every order the same option is its
/// answer, with the same probability, and entropy does not depend on the orders drawn.
#[test]
fn answers_map_back_to_the_option_under_any_order() {
    let task = Task::load("hellaswag").unwrap().with_num_options(4);
    let (_place, data) = questions(&task);
    let probabilities = [0.1, 0.2, 0.6, 0.1];
    let mut entropies = BTreeSet::new();
    for (num, seed) in [(24, 0), (5, 0), (5, 1), (5, 2)] {
        let asking = asking(&task, &data.examples, num, seed);
        let mut scorer = TableScorer::new(|prompt: &str, question: &Question| {
            assert_eq!(question.labels.len(), 4);
            let example = data.examples.iter().find(|e| question.id.starts_with(&e.id)).unwrap();
            let mut row = vec![0.0; 4];
            for (option, p) in example.options.iter().zip(probabilities) {
                row[letter_of(prompt, option)] = f64::ln(p);
            }
            row
        });
        let (answers, _) = asking.soft(Calibration::None, &mut scorer, &mut |_| Ok(())).unwrap();
        for rows in &answers {
            assert_eq!(rows.len(), num);
            let orders: BTreeSet<&Vec<usize>> = rows.iter().map(|row| &row.option_order).collect();
            assert_eq!(orders.len(), num, "orders are different");
            for row in rows {
                assert_eq!(row.answer.as_deref(), Some("C"));
                let given: Vec<f64> =
                    row.distribution.as_ref().unwrap().iter().map(|(_, p)| *p).collect();
                for (p, expected) in given.iter().zip(probabilities) {
                    assert!((p - expected).abs() < 1e-12, "{given:?}");
                }
            }
        }
        let found = keep(
            &answers,
            Some(&data.examples),
            &settings(Rule::Quantile(0.5)),
            &SeedStream::new(0),
        )
        .unwrap();
        assert_eq!(found.kept.len(), 3);
        for record in &found.kept {
            assert_eq!((record.label.as_deref(), record.agreement), (Some("C"), 1.0));
            assert!(record.epistemic_nats < 1e-12);
            entropies.insert((record.entropy_nats * 1e9).round() as i64);
        }
        assert_eq!(found.kept[0].text.as_deref(), Some("linen"));
    }
    // - sum p ln p by hand: .1 ln 10 twice, .2 ln 5, .6 ln 5/3.
    let by_hand = 0.2 * 10.0_f64.ln() + 0.2 * 5.0_f64.ln() + 0.6 * (5.0_f64 / 3.0).ln();
    assert_eq!(entropies.into_iter().collect::<Vec<_>>(), [(by_hand * 1e9).round() as i64]);
}

/// A model that always takes the first letter: every order gives another option, nothing agrees. With
/// its bias taken off nothing is left, and every option is as likely.
#[test]
fn a_bias_to_a_letter_shows_as_entropy_and_is_taken_off() {
    let task = Task::load("hellaswag").unwrap().with_num_options(4);
    let (_place, data) = questions(&task);
    let run = |calibration| {
        let mut scorer =
            TableScorer::new(|_: &str, _: &Question| [0.7, 0.1, 0.1, 0.1].map(f64::ln).to_vec());
        let all = asking(&task, &data.examples, 24, 0);
        let (answers, _) = all.soft(calibration, &mut scorer, &mut |_| Ok(())).unwrap();
        keep(&answers, None, &settings(Rule::Quantile(1.0)), &SeedStream::new(0)).unwrap()
    };
    let biased = &run(Calibration::None).kept[0];
    // Over all orders each option stands first equally often.
    assert!((biased.entropy_nats - 4.0_f64.ln()).abs() < 1e-12);
    assert!(biased.epistemic_nats > 0.4 && (biased.agreement - 0.25).abs() < 1e-12);
    let fair = &run(Calibration::Batch).kept[0];
    assert!((fair.aleatoric_nats - 4.0_f64.ln()).abs() < 1e-12 && fair.epistemic_nats < 1e-12);
}

#[test]
fn variants_do_not_depend_on_the_other_questions() {
    let task = Task::load("hellaswag").unwrap().with_num_options(4);
    let (_place, data) = questions(&task);
    let orders = |examples: &[Example], seed| {
        let mut scorer = TableScorer::new(|_: &str, _: &Question| vec![0.0; 4]);
        let (answers, _) = asking(&task, examples, 5, seed)
            .soft(Calibration::None, &mut scorer, &mut |_| Ok(()))
            .unwrap();
        answers.concat().into_iter().map(|row| (row.id, row.option_order)).collect::<Vec<_>>()
    };
    let all = orders(&data.examples, 3);
    assert_eq!(orders(&data.examples[2..], 3), all[10..]);
    assert_ne!(orders(&data.examples, 4), all);
}

/// The two orders of ETHICS: the words change places in the question, and an answer stays what it
/// is. A long story has other words.
#[test]
fn label_words_are_listed_in_both_orders() {
    let task = Task::load("ethics-commonsense").unwrap();
    let place = Place::new();
    let text = "{\"id\": \"s\", \"input\": \"I ate.\", \"is_short\": true}\n\
                {\"id\": \"l\", \"input\": \"I slept.\", \"is_short\": false}\n";
    let data = Dataset::read(place.write("t.jsonl", text), &task).unwrap();
    let kind = task.variant_kind(None).unwrap();
    assert_eq!(kind, VariantKind::WordOrders);
    let variation = Variation { kind, num: None };
    let asking = Asking::new(&task, &data.examples, variation, &SeedStream::new(0)).unwrap();
    let mut prompts = Vec::new();
    let mut generator = TableGenerator::new(|prompt: &str| {
        prompts.push(prompt.to_owned());
        (if prompt.contains("I ate.") { " Unacceptable, I think." } else { "right" }).to_owned()
    });
    let (answers, _) =
        asking.votes(ParserName::LabelWord, 50, &mut generator, &mut |_| Ok(())).unwrap();
    for (prompt, part) in prompts.iter().zip([
        "Answer acceptable or unacceptable and",
        "Answer unacceptable or acceptable and",
        "Answer right or wrong and",
        "Answer wrong or right and",
    ]) {
        assert!(prompt.contains(part), "{prompt}");
        assert!(prompt.ends_with("### Answer:"), "the blank is the model's to write: {prompt:?}");
    }
    let read: Vec<_> = answers.concat().into_iter().map(|row| row.answer.unwrap()).collect();
    assert_eq!(read, ["unacceptable", "unacceptable", "acceptable", "acceptable"]);
    let too_many = Variation { kind, num: Some(3) };
    let error = Asking::new(&task, &data.examples, too_many, &SeedStream::new(0)).unwrap_err();
    assert!(error.to_string().contains("has 2 variants by `word-orders`, expected 3"), "{error}");
}

#[test]
fn open_answers_are_written_in_several_wordings_or_paraphrases() {
    let task = Task::load("gsm8k").unwrap();
    let place = Place::new();
    let text = "{\"id\": \"a\", \"question\": \"1 + 1?\", \"paraphrases\": [\"one and one?\", \"1 plus 1?\"]}\n\
                {\"id\": \"b\", \"question\": \"2 + 2?\"}\n";
    let data = Dataset::read(place.write("t.jsonl", text), &task).unwrap();
    let ask = |kind, examples: &[Example]| {
        let variation = Variation { kind, num: None };
        let asking = Asking::new(&task, examples, variation, &SeedStream::new(0))?;
        let mut generator = TableGenerator::new(|prompt: &str| {
            if prompt.contains("plus") { "3 or so".to_owned() } else { "2\nbecause 5".to_owned() }
        });
        asking
            .votes(ParserName::FirstLineNumber, 50, &mut generator, &mut |_| Ok(()))
            .map(|(answers, _)| answers)
    };
    let templates = ask(VariantKind::Templates, &data.examples).unwrap();
    assert_eq!(templates[1].len(), 5);
    let prompts: BTreeSet<&str> = templates[1].iter().map(|row| row.prompt.as_str()).collect();
    assert!(prompts.len() == 5 && prompts.iter().all(|prompt| prompt.contains("2 + 2?")));
    let paraphrases = ask(VariantKind::Paraphrases, &data.examples[..1]).unwrap();
    let read: Vec<_> = paraphrases[0].iter().map(|row| row.answer.clone().unwrap()).collect();
    assert_eq!(read, ["2", "2", "3"]);
    let error = ask(VariantKind::Paraphrases, &data.examples).unwrap_err();
    assert!(error.to_string().contains("question `b` has one variant by `paraphrases`"), "{error}");
}

/// Rows of one question, a letter an answer, `-` for one that could not be read.
fn rows(id: &str, letters: &str) -> Vec<AnswerRecord> {
    letters
        .chars()
        .enumerate()
        .map(|(variant, letter)| AnswerRecord {
            id: id.to_owned(),
            variant,
            prompt: format!("{id}?"),
            option_order: Vec::new(),
            output: Some(letter.to_string()),
            answer: (letter != '-').then(|| letter.to_string()),
            distribution: None,
        })
        .collect()
}

pub fn filtered(table: &[&str], settings: &KeepSettings) -> Filtered {
    let answers: Vec<_> =
        table.iter().enumerate().map(|(i, s)| rows(&format!("q{i}"), s)).collect();
    keep(&answers, None, settings, &SeedStream::new(1)).unwrap()
}

fn ids(found: &Filtered) -> Vec<&str> {
    found.kept.iter().map(|record| record.id.as_str()).collect()
}

#[test]
fn the_published_filter_by_hand() {
    let table = ["AAAAA", "AAAAB", "AAABB", "ABCDA", "BBBBB"];
    let found = filtered(&table, &settings(Rule::Quantile(0.5)));
    // Entropies 0, .500, .673, 1.332, 0: the median is .500, and it is kept.
    assert_eq!(ids(&found), ["q0", "q1", "q4"]);
    assert!((found.threshold_nats.unwrap() - 0.500).abs() < 5e-4);
    let weights: Vec<f64> = found.weights.iter().map(|row| row.weight).collect();
    assert!((weights[5] - 0.953).abs() < 5e-4 && (weights[9] - 0.047).abs() < 5e-4);
    assert_eq!(found.kept[1].reason, "entropy 0.500 <= 0.500");
    assert_eq!(found.dropped[0].reason, "entropy 0.673 > 0.500");
    assert_eq!(found.kept[1].label.as_deref(), Some("A"));
    // Idempotent: what was kept is kept again by the same limit; and the order does not matter.
    let again = filtered(&["AAAAA", "AAAAB", "BBBBB"], &settings(Rule::MaxEntropy(0.5005)));
    assert_eq!(again.kept.len(), 3);
    let turned: Vec<&str> = table.iter().rev().copied().collect();
    assert_eq!(filtered(&turned, &settings(Rule::Quantile(0.5))).kept.len(), 3);
}

/// Whatever the table and the rule, making one answer unreadable never raises the kept share.
#[test]
fn an_unread_answer_never_raises_the_kept_share() {
    let mut rng = SeedStream::new(5).rng("test", &[]);
    for round in 0..3000 {
        let num = rng.random_range(1..7);
        let mut table: Vec<String> = (0..num)
            .map(|_| (0..5).map(|_| ['A', 'A', 'B', 'C', '-'][rng.random_range(0..5)]).collect())
            .collect();
        let rule = match round % 3 {
            0 => Rule::Quantile([0.25, 0.5, 0.75][rng.random_range(0..3)]),
            1 => Rule::MaxEntropy([0.0, 0.6, 1.1][rng.random_range(0..3)]),
            _ => Rule::KeepFraction([0.3, 0.5, 1.0][rng.random_range(0..3)]),
        };
        let kept = |table: &[String]| {
            let table: Vec<&str> = table.iter().map(String::as_str).collect();
            filtered(&table, &settings(rule)).kept.len()
        };
        let before = kept(&table);
        let (row, at) = (rng.random_range(0..num), rng.random_range(0..5));
        let original = table[row].clone();
        table[row].replace_range(at..=at, "-");
        assert!(kept(&table) <= before, "{rule:?}: {original} -> {} in {table:?}", table[row]);
    }
    // All unread: entropy 0 by the published count, and still nothing is kept.
    let found = filtered(&["-----", "-----"], &settings(Rule::Quantile(1.0)));
    assert!(found.kept.is_empty() && found.num_unparsed == 10);
    assert_eq!(found.dropped[0].reason, "no answer could be read");
    assert_eq!(found.dropped[0].entropy_nats, 0.0);
}

#[test]
fn sampling_draws_as_many_rows_as_questions_of_the_kept_ones() {
    let table = ["AAAAA", "AAAA-", "ABCDA", "ABCDE", "AABBC", "BBBBB"];
    let drawn = |seed| {
        let settings = KeepSettings { sampling: true, ..settings(Rule::Quantile(0.5)) };
        let answers: Vec<_> =
            table.iter().enumerate().map(|(i, s)| rows(&format!("q{i}"), s)).collect();
        keep(&answers, None, &settings, &SeedStream::new(seed)).unwrap().sample
    };
    let sample = drawn(1);
    assert_eq!(sample.len(), table.len());
    assert!(sample.iter().all(|row| ["q0", "q1", "q5"].contains(&row.id.as_str())));
    assert!(sample.iter().all(|row| row.answer.is_some() && row.weight > 0.0));
    assert_eq!(sample, drawn(1));
    assert_ne!(sample, drawn(2));
}

#[test]
fn other_weights_by_hand() {
    let weights = |weight_by| {
        let settings = KeepSettings { weight_by, ..settings(Rule::Quantile(1.0)) };
        filtered(&["AAAB-"], &settings).weights.iter().map(|row| row.weight).collect::<Vec<_>>()
    };
    let near = |found: Vec<f64>, expected: [f64; 5]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    };
    near(weights(WeightBy::SoftAgreement), [0.6, 0.6, 0.6, 0.2, 0.0]);
    near(weights(WeightBy::Margin), [0.4, 0.4, 0.4, 0.0, 0.0]);
    // ln 4 nats stand for 4 to 1.
    let margins = [("q0".to_owned(), ("A".to_owned(), 4.0_f64.ln()))].into();
    near(weights(WeightBy::IcmMargin(margins)), [0.8, 0.8, 0.8, 0.2, 0.0]);
    let settings =
        KeepSettings { weight_by: WeightBy::IcmMargin([].into()), ..settings(Rule::Quantile(1.0)) };
    let error = keep(&[rows("q", "AB")], None, &settings, &SeedStream::new(0)).unwrap_err();
    assert!(error.to_string().contains("no margin for question `q`"), "{error}");
}

#[test]
fn a_split_never_tears_a_question() {
    let table: Vec<String> =
        (0..20).map(|i| if i % 2 == 0 { "AAAAA" } else { "AAAAB" }.to_owned()).collect();
    let table: Vec<&str> = table.iter().map(String::as_str).collect();
    let settings =
        KeepSettings { validation_fraction: 0.2, sampling: true, ..settings(Rule::Quantile(1.0)) };
    let found = filtered(&table, &settings);
    let aside: Vec<&str> = found
        .kept
        .iter()
        .filter(|record| record.split.as_deref() == Some("validation"))
        .map(|record| record.id.as_str())
        .collect();
    // A row a question: its variants all follow its side, and none set aside is drawn for training.
    assert_eq!((aside.len(), found.kept.len()), (4, 20));
    assert!(
        found.sample.len() == 20
            && found.sample.iter().all(|row| !aside.contains(&row.id.as_str()))
    );
}

#[test]
fn questions_that_cannot_be_asked_are_named() {
    let mmlu = Task::load("mmlu").unwrap();
    let hellaswag = Task::load("hellaswag").unwrap();
    let place = Place::new();
    for (task, name, text, parts) in [
        (
            &mmlu,
            "a.jsonl",
            "{\"question\": \"q\", \"choices\": [\"x\"]}",
            vec!["a.jsonl`, line 1", "`row-1` has one option, expected two"],
        ),
        (
            &mmlu,
            "b.jsonl",
            "{\"question\": \"q\", \"choices\": []}",
            vec!["`choices` is an empty list"],
        ),
        (
            &mmlu,
            "c.csv",
            "question,subject\nq,s\n",
            vec![
                "c.csv`, line 2",
                "has no options, tried column `choices.{index}`, `{letter}`, has `question`, `subject`",
            ],
        ),
        (
            &mmlu,
            "d.csv",
            "question,A,B,C,D\nq,x,,z,w\n",
            vec!["d.csv`, line 2", "option B of `row-1` is empty"],
        ),
        (
            &hellaswag,
            "e.csv",
            "ctx,endings\nq,\"['x', 'y']\"\nr,\"['x', y\"\n",
            vec![
                "e.csv`, line 3",
                "column `endings` of `row-2` is not a list that can be read: `['x', y`",
            ],
        ),
    ] {
        let error = Dataset::read(place.write(name, text), task).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    // Two to 26 options, also in one file; labelling needs as many everywhere.
    let task = Task::load("multiple-choice").unwrap();
    let letters: Vec<String> = (0..26).map(|i| format!("\"o{i}\"")).collect();
    let many = format!(
        "{{\"question\": \"q\", \"choices\": [{}]}}\n{{\"question\": \"r\", \"choices\": [\"x\", \"y\"]}}\n",
        letters.join(", ")
    );
    let data = Dataset::read(place.write("many.jsonl", &many), &task).unwrap();
    assert_eq!(data.max_options(), 26);
    let error = data.labelled_task(task.clone()).unwrap_err().to_string();
    assert!(error.contains("`row-2` has 2 options, others have 26"), "{error}");
    let more = many.replacen("\"o0\"", "\"o0\", \"p\"", 1);
    let error = Dataset::read(place.write("more.jsonl", &more), &task).unwrap_err().to_string();
    assert!(error.contains("`row-1` has more than 26 options"), "{error}");
    // A task that varies nothing says what would make it.
    let error = Task::load("global-opinions").unwrap().variant_kind(None).unwrap_err().to_string();
    assert!(error.contains("cannot make variants") && error.contains("under [answers]"), "{error}");
    let error = mmlu.variant_kind(Some(VariantKind::WordOrders)).unwrap_err().to_string();
    assert!(
        error.contains("by `word-orders`") && error.contains("it can vary `option-orders`"),
        "{error}"
    );
}
