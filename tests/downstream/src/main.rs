//! Labels, trains and evaluates: `downstream MODEL TASK DATA OUT`, where DATA holds gold for the evaluation.

use w2s::error::Result;
use w2s::pipeline::{EvaluateJob, LabelJob, ModelOptions, RunOptions, Session, TrainJob};
use w2s::run::files::LABELS;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, task, data, out] = args.as_slice() else { panic!("MODEL TASK DATA OUT") };
    let mut session = Session::default();
    let labelled = LabelJob {
        model: ModelOptions::folder(model),
        task: task.clone(),
        data: data.into(),
        run: RunOptions::new(format!("{out}/labels")),
        ..LabelJob::default()
    }
    .run(&mut session)?;
    TrainJob {
        model: ModelOptions::folder(model),
        task: task.clone(),
        data: data.into(),
        labels: vec![labelled.folder.file(LABELS)],
        run: RunOptions::new(format!("{out}/student")),
        ..TrainJob::default()
    }
    .run(&mut session)?;
    let found = EvaluateJob {
        runs: vec![labelled.folder.path().to_path_buf()],
        gold: data.into(),
        ..EvaluateJob::default()
    }
    .run(&mut session)?;
    let [(_, labels)] = found.labels.as_slice() else { panic!("one run was evaluated") };
    assert_eq!(labels.num_with_gold, labelled.summary.num_examples);
    Ok(())
}
