//! What jobs return to a program, and what it hears, is what the command line prints, as values.

use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::{Value, json};
use w2s::error::{Error, ErrorKind};
use w2s::label::TraceEvent;
use w2s::pipeline::{
    DrawJob, EvaluateJob, Event, InitName, Job, LabelJob, MergeJob, MethodName, ModelOptions, Note,
    PlanJob, ReproduceJob, Reproduction, RunOptions, ScoreJob, SearchOptions, Session, TrainJob,
    Warning,
};
use w2s::run::files::LABELS;

use crate::cli::{Place, good};
use crate::common::tiny;
use crate::pipeline::label;

/// Without demonstrations, what is asked depends on no answer.
fn zero_shot(place: &Place, out: &str) -> LabelJob {
    LabelJob { method: MethodName::ZeroShot, search: SearchOptions::default(), ..label(place, out) }
}

#[test]
fn a_plan_is_what_is_printed_and_what_the_run_then_runs() {
    let place = Place::new();
    let job = zero_shot(&place, "run");
    let heard = RefCell::new(Vec::new());
    let mut session = Session::new(|event: &Event<'_>| {
        if let Event::Planned { plan, as_json, .. } = event {
            heard.borrow_mut().push(((*plan).clone(), *as_json));
        }
        Ok(())
    });
    let plan_job = PlanJob { measure: 0.0, ..PlanJob::of(&Job::Label(Box::new(job.clone()))) };
    let plan = plan_job.clone().run(&mut session).unwrap();
    let typed =
        [&["plan", "--measure", "0", "--json", "--"][..], &strs(&plan_job.command)].concat();
    let printed: Value = serde_json::from_str(&good(&typed)).unwrap();
    assert_eq!(json!(plan), printed);
    assert_eq!((plan.steps.len(), plan.steps[0].num_runs), (1, 1));
    assert_eq!((plan.steps[0].step.as_str(), plan.steps[0].work), ("label", plan.total));
    assert!(!PathBuf::from(place.path("run")).exists());
    let run = job.run(&mut session).unwrap();
    assert_eq!(plan.total.num_tokens, run.summary.tokens_computed);
    drop(session);
    assert_eq!(heard.into_inner(), [(plan, false)]);

    // Measured, it is a time: of the tiny model, far below a minute.
    let job = zero_shot(&place, "other");
    let measured = PlanJob { measure: 0.2, ..PlanJob::of(&Job::Label(Box::new(job))) };
    let measured = measured.run(&mut Session::default()).unwrap();
    assert!(measured.seconds.is_some_and(|seconds| seconds > 0.0 && seconds < 60.0));
    let (_, speed) = measured.speeds.first_key_value().unwrap();
    assert!(measured.peak_bytes > speed.weight_bytes && speed.weight_bytes > 0);
    assert_eq!((speed.train_tokens, speed.write_tokens), (None, None));
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn scores_are_values_and_are_told_in_the_order_of_the_file() {
    let place = Place::new();
    let input = place.write(
        "prompts.jsonl",
        "{\"id\": \"b\", \"prompt\": \"1+1=\", \"labels\": [\" 2\", \" 3\"]}\n\
         {\"id\": 7, \"prompt\": \"1+2=\", \"labels\": [\" 3\", \" 30\"]}\n",
    );
    let (mut told, mut warned) = (Vec::new(), Vec::new());
    let model = tiny("llama");
    let job = ScoreJob {
        model: ModelOptions::folder(&model),
        input: input.clone().into(),
        ..ScoreJob::default()
    };
    let found = job
        .run(&mut Session::new(|event: &Event<'_>| {
            match event {
                Event::Scored(scores) => told.push((*scores).clone()),
                Event::Warning(warning) => warned.push((*warning).clone()),
                _ => {}
            }
            Ok(())
        }))
        .unwrap();
    assert_eq!(told, found);
    let printed = good(&["score", "--model", &model.display().to_string(), "--input", &input]);
    for (line, scores) in printed.lines().zip(&found) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["id"], scores.id);
        for of in &scores.labels {
            assert_eq!(line["logprobs"][&of.label], of.logprob);
            assert_eq!(line["num_tokens"][&of.label], of.num_tokens);
        }
    }
    assert_eq!((printed.lines().count(), found.len()), (2, 2));
    let [Warning::BegunWord { word, longer, lines: Some(part) }] = warned.as_slice() else {
        panic!("{warned:?}")
    };
    assert_eq!((word.as_str(), longer.as_str(), part.num, part.of), (" 3", " 30", 1, 2));
}

/// The notes and warnings of a job, which may fail.
fn heard(job: LabelJob, stop_at: usize) -> (Vec<Note>, Vec<Warning>) {
    let (mut notes, mut warnings, mut num) = (Vec::new(), Vec::new(), 0);
    let _ = job.run(&mut Session::new(|event: &Event<'_>| {
        match event {
            Event::Note(note) => notes.push((*note).clone()),
            Event::Warning(warning) => warnings.push((*warning).clone()),
            Event::Label(TraceEvent::Proposal { .. }) => num += 1,
            _ => {}
        }
        if num > stop_at { Err(Error::new(ErrorKind::Usage, "enough")) } else { Ok(()) }
    }));
    (notes, warnings)
}

#[test]
fn notes_and_warnings_are_values() {
    let place = Place::new();
    let gold = |resume| {
        let mut job = label(&place, "gold");
        (job.search.init, job.run.resume) = (Some(InitName::Golden), resume);
        job
    };
    let (notes, warnings) = heard(gold(false), 0);
    assert_eq!(notes, []);
    let [Warning::GoldInSearch { reason }] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(reason.contains("claims.jsonl"), "{reason}");
    let (notes, warnings) = heard(gold(true), usize::MAX);
    assert!(matches!(notes[..], [Note::PassesContinued { num_passes: 1.. }]), "{notes:?}");
    assert_eq!(warnings.len(), 1);
    let (notes, warnings) = heard(gold(true), usize::MAX);
    assert_eq!(notes, [Note::RunComplete { folder: place.path("gold").into() }]);
    assert_eq!(warnings, []);
}

#[test]
fn labels_are_evaluated_to_values() {
    let place = Place::new();
    let labelled = zero_shot(&place, "run").run(&mut Session::default()).unwrap();
    let job = EvaluateJob {
        runs: vec![labelled.folder.path().to_path_buf()],
        gold: place.path("claims.jsonl").into(),
        ..EvaluateJob::default()
    };
    let found = job.run(&mut Session::default()).unwrap();
    // By hand: every other claim is true.
    let is_right = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let is_true = "ace".contains(record["id"].as_str().unwrap());
        (record["label"] == "True") == is_true
    };
    let text = std::fs::read_to_string(labelled.folder.file(LABELS)).unwrap();
    let num_right = text.lines().filter(|line| is_right(line)).count();
    let [(run, evaluation)] = found.labels.as_slice() else { panic!("{found:?}") };
    assert_eq!(run, labelled.folder.path());
    assert_eq!((evaluation.num_correct, evaluation.num_with_gold), (num_right, 6));
    assert!(found.filters.is_empty() && found.loops.is_empty() && found.basins.is_none());
}

#[test]
fn parts_recipes_and_merged_models_are_values() {
    let place = Place::new();
    let draw = |resume| DrawJob {
        data: place.path("claims.jsonl").into(),
        parts: vec![("few".into(), 2), ("rest".into(), 9)],
        run: RunOptions { resume, ..RunOptions::new(place.path("drawn")) },
        ..DrawJob::default()
    };
    let (mut parts, mut small) = (Vec::new(), Vec::new());
    let drawn = draw(false)
        .run(&mut Session::new(|event: &Event<'_>| {
            match event {
                Event::Drawn { file, num_records } => {
                    parts.push((file.to_path_buf(), *num_records))
                }
                Event::Warning(Warning::SmallPart { part, records }) => {
                    small.push((part.clone(), records.num, records.of));
                }
                _ => {}
            }
            Ok(())
        }))
        .unwrap();
    let file = |name: &str| PathBuf::from(place.path(&format!("drawn/{name}.jsonl")));
    assert_eq!(parts, [(file("few"), 2), (file("rest"), 4)]);
    assert_eq!(small, [("rest".to_owned(), 4, 9)]);
    assert_eq!(drawn.summary.num_fit, 6);
    assert_eq!(json!(drawn.summary.parts), json!({ "few": 2, "rest": 4 }));
    let again = draw(true).run(&mut Session::default()).unwrap();
    assert!(again.was_complete && again.summary == drawn.summary);

    let listed = ReproduceJob::default();
    let listed = ReproduceJob { recipe: None, ..listed }.run(&mut Session::default()).unwrap();
    let Reproduction::Recipes(all) = listed else { panic!("{listed:?}") };
    let classic = all.iter().find(|recipe| recipe.name == "w2s-classic").unwrap();
    assert!(classic.scales.contains(&"small".to_owned()), "{classic:?}");

    let trained = TrainJob {
        model: ModelOptions::folder(tiny("llama")),
        task: "gsm8k-verification".into(),
        data: place.path("claims.jsonl").into(),
        labels: vec!["gold".into()],
        run: RunOptions::new(place.path("student")),
        ..TrainJob::default()
    };
    let trained = trained.run(&mut Session::default()).unwrap().unwrap();
    let merge = MergeJob {
        model: ModelOptions {
            adapter: Some(trained.folder.path().to_path_buf()),
            ..ModelOptions::folder(tiny("llama"))
        },
        out: place.path("merged").into(),
        ..MergeJob::default()
    };
    let merged = merge.run(&mut Session::default()).unwrap();
    assert!(merged.is_complete() && merged.file("model.safetensors").exists());
}
