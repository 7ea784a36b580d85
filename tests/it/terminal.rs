//! What a person sees on a terminal: one bar at a time.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};

use crate::cli::Place;
use crate::common::{project, tiny};

/// A terminal of 120 columns: what is written to the second file is read from the first.
#[expect(unsafe_code, reason = "the standard library opens no pseudo-terminals")]
fn terminal() -> (File, File) {
    let (mut reader, mut writer) = (-1, -1);
    let mut size = libc::winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointers are to live variables, and a null name and settings are allowed.
    let failed = unsafe {
        libc::openpty(
            &raw mut reader,
            &raw mut writer,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &raw mut size,
        )
    };
    assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both are open and nobody else's.
    unsafe { (File::from_raw_fd(reader), File::from_raw_fd(writer)) }
}

/// Runs the program with a terminal as its stderr, and returns what is drawn on it.
fn seen(args: &[&str]) -> String {
    let (mut reader, writer) = terminal();
    let mut child = Command::new(env!("CARGO_BIN_EXE_w2s"))
        .args(args)
        .env("OMP_NUM_THREADS", "1")
        .env("TERM", "xterm")
        .current_dir(project())
        .stdout(Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut bytes = Vec::new();
    // The end of a terminal whose other end is closed reads as an error on Linux.
    let _ = reader.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(child.wait().unwrap().success(), "{args:?}\n{text}");
    text
}

#[test]
fn a_plan_draws_one_bar() {
    let place = Place::new();
    let (model, data) = (tiny("llama").display().to_string(), place.path("claims.jsonl"));
    let out = place.path("run");
    for (method, bar) in [("icm", " iterations, "), ("zero-shot", " examples, ")] {
        let label = [
            "label",
            "--model",
            &model,
            "--task",
            "gsm8k-verification",
            "--data",
            &data,
            "--method",
            method,
            "--out",
            &out,
            "--force",
        ];
        let planned = seen(&[&["plan", "--measure", "0", "--"][..], &label].concat());
        assert!(planned.contains("counting"), "{planned:?}");
        assert!(!planned.contains(bar), "{planned:?}");
        // By itself it draws its bar.
        let labelled = seen(&label);
        assert!(labelled.contains(bar), "{labelled:?}");
    }
}
