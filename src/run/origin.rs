//! When, where and by what a run was begun: what tells nothing of its results.
//!
//! It stands in the manifest for people, and has no part in digests, in going on, or in reuse.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::files::MANIFEST;

/// When and where a run was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The time in UTC, such as `2026-11-30T19:40:05Z`.
    pub date: String,
    /// The machine's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The working folder, which relative paths of the run begin at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// The commit that the program was built from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

impl Origin {
    /// Returns what is true now.
    pub(super) fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        Self {
            date: format!("{}:{:02}Z", utc(now).replace(' ', "T"), now % 60),
            host: host.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
            folder: std::env::current_dir().ok(),
            commit: option_env!("W2S_COMMIT").map(str::to_owned),
        }
    }

    /// Returns what the manifest of a run says of it; none of runs of earlier versions.
    pub fn of_run(run: &Path) -> Option<Self> {
        #[derive(Deserialize)]
        struct Written {
            origin: Option<Origin>,
        }
        let text = std::fs::read_to_string(run.join(MANIFEST)).ok()?;
        serde_json::from_str::<Written>(&text).ok()?.origin
    }

    /// Returns where a path that a run names lies: as it is, or in the folder that the run began in.
    pub fn find(run: &Path, path: &Path) -> PathBuf {
        if path.exists() {
            return path.to_path_buf();
        }
        let folder = Self::of_run(run).and_then(|origin| origin.folder);
        let there = folder.map(|folder| folder.join(path)).filter(|there| there.exists());
        there.unwrap_or_else(|| path.to_path_buf())
    }
}

/// Returns seconds since 1970 as `2026-11-21 16:40`, in UTC.
pub fn utc(seconds: u64) -> String {
    // A clock that is wrong by centuries is no reason to fail.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let seconds = if seconds > now + 100 * 365 * 86_400 { 0 } else { seconds };
    let (mut days, minutes) = (seconds / 86_400, seconds % 86_400 / 60);
    let is_leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02} {:02}:{:02}", month + 1, days + 1, minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `date -u -d @N '+%Y-%m-%d %H:%M'` of GNU coreutils.
    #[test]
    fn dates_are_those_of_coreutils() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_340, "2000-02-28 23:59"),
            (951_868_800, "2000-03-01 00:00"),
            (1_709_208_000, "2024-02-29 12:00"),
            (1_735_689_599, "2024-12-31 23:59"),
            (1_735_689_600, "2025-01-01 00:00"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
