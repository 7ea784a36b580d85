//! The `w2s` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    w2s::cli::settle_environment();
    w2s::cli::main()
}
