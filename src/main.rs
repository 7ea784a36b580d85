//! The `w2s` program: the command line of the library.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    w2s::lm::settle_environment();
    cli::main()
}
