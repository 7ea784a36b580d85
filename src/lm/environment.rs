//! How the libraries under libtorch are set before they are loaded.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// What the libraries under libtorch read from the environment when they are loaded, before `main`,
/// so that it cannot be set from here.
///
/// OpenMP's threads sleep while they wait, after a moment of looking: threads that never sleep halve
/// the speed of a machine that has anything else to do; threads that sleep at once take a third
/// longer over a step of decoding. The memory of tensors up to 32 MB is kept for the next and not
/// given back to the system each time; that of larger ones is given
/// back at once. CUDA's products repeat to the bit with workspaces of this size only.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("OMP_WAIT_POLICY", "passive"),
    ("GOMP_SPINCOUNT", "5000"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "268435456"),
    ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
];

/// Starts the program again with settings that its libraries read before `main`, where the user has
/// not chosen.
///
/// For the beginning of a `main` function.
pub fn settle_environment() {
    let missing: Vec<_> =
        ENVIRONMENT.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());
        // `exec` returns only when it fails; then the program goes on as it was started.
        let _ = Command::new(program).arg0(name).args(arguments).envs(missing).exec();
    }
}
