//! How long a run took, and the memory that it held.

use std::fs;

use serde::Serialize;

/// `timing.json`, which marks the end.
#[derive(Serialize)]
pub(super) struct Timing {
    pub(super) session_seconds: f64,
    pub(super) work_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_tokens: Option<u64>,
    /// The most main memory that the process has held since it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_memory_bytes: Option<u64>,
}

/// Returns the most memory the process has held; none where the system does not say.
pub(super) fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|size| size * 1024)
}
