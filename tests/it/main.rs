//! The integration tests, in one binary because every test binary links libtorch again.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]
#![expect(clippy::print_stdout, reason = "measured differences belong in the test's output")]

mod adapter;
mod baselines;
mod chat;
mod cli;
mod common;
mod compare_runs;
mod comparison;
mod data;
mod demo_data;
mod diagnostics;
mod diff;
mod eval;
mod figures;
mod filter;
mod filter_runs;
mod formats;
mod generate;
mod golden;
mod held_out;
mod hub;
mod loop_runs;
mod loss_figures;
mod optimum;
mod orders;
mod parity;
mod prequential;
mod presets;
mod priors;
mod processes;
mod random;
mod recipes;
mod report;
mod report_page;
mod restarts;
mod resume;
mod scorer;
mod search;
mod search_options;
mod server;
mod server_cli;
mod server_stub;
mod spread;
mod task_file;
mod tasks;
mod train;
mod train_golden;
mod train_runs;
mod train_samples;
mod weak_eval;
mod weak_figures;
mod weak_runs;
