//! Trains on labels and listens: every step's loss, and the settings the run resolved.
//!
//!     cargo run --example watch -- models/gemma-3-270m sentiment data/demo/reviews.jsonl labels.jsonl runs/student

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to who runs it")]

use w2s::error::Result;
use w2s::pipeline::{Event, ModelOptions, RunOptions, Session, TrainJob};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, task, data, labels, out] = args.as_slice() else {
        eprintln!("usage: watch MODEL TASK DATA LABELS OUT");
        std::process::exit(2);
    };
    let mut losses = Vec::new();
    let mut session = Session::new(|event: &Event<'_>| {
        match event {
            Event::Settings(manifest) => println!("{} settings", manifest.settings.len()),
            Event::Warning(warning) => eprintln!("{warning:?}"),
            Event::Step { report, tokens_per_second } => {
                losses.push(report.loss);
                println!("{} {:.4} ({tokens_per_second:.0} tokens/s)", report.step, report.loss);
            }
            Event::Trained { summary, .. } => println!("{} items learnt", summary.num_items),
            _ => {}
        }
        Ok(())
    });
    let job = TrainJob {
        model: ModelOptions::folder(model),
        task: task.clone(),
        data: data.into(),
        labels: vec![labels.into()],
        run: RunOptions::new(out),
        ..TrainJob::default()
    };
    job.run(&mut session)?;
    drop(session);
    println!("{} steps", losses.len());
    Ok(())
}
