//! The `w2s` program: everything is in the library.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    settle_threads();
    w2s::cli::main()
}

/// Starts the program again with OpenMP threads that sleep while they wait, unless the user chose.
///
/// OpenMP reads the variable when libtorch is loaded, before `main`, so it cannot be set from here.
/// Threads that spin while waiting halve the speed of a machine that has anything else to do.
fn settle_threads() {
    const POLICY: &str = "OMP_WAIT_POLICY";
    if std::env::var_os(POLICY).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());
        // `exec` returns only when it fails; then the program goes on as it was started.
        let _ = Command::new(program).arg0(name).args(arguments).env(POLICY, "passive").exec();
    }
}
