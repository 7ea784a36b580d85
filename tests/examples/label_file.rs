//! Labels a file without supervision, then trains a student on the labels.
//!
//!     cargo run --example label_file -- models/gemma-3-270m sentiment data/demo/reviews.jsonl runs/mine

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to who runs it")]

use w2s::error::Result;
use w2s::pipeline::{LabelJob, ModelOptions, RunOptions, Session, TrainJob};
use w2s::run::files::LABELS;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, task, data, out] = args.as_slice() else {
        eprintln!("usage: label_file MODEL TASK DATA OUT");
        std::process::exit(2);
    };
    let mut session = Session::default();
    let labelled = LabelJob {
        model: ModelOptions::folder(model),
        task: task.clone(),
        data: data.into(),
        run: RunOptions::new(format!("{out}/labels")),
        ..LabelJob::default()
    }
    .run(&mut session)?;
    let summary = &labelled.summary;
    println!("{} examples, U {:?}", summary.num_examples, summary.score);
    let trained = TrainJob {
        model: ModelOptions::folder(model),
        task: task.clone(),
        data: data.into(),
        labels: vec![labelled.folder.file(LABELS)],
        run: RunOptions::new(format!("{out}/student")),
        ..TrainJob::default()
    }
    .run(&mut session)?;
    if let Some(trained) = trained {
        println!("the student is in {}", trained.folder.path().display());
    }
    Ok(())
}
