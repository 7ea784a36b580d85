//! How the program ends when it does not end by itself: by a signal, or by a bug.
//!
//! Everything that matters is on the disk at any instant, so the process ends at once, without its
//! destructors: other threads may be at work in libtorch, which must not be taken down under them.

use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use super::terminal;
use w2s::guard::is_guarded;

/// Signals that ask the program to end, with their names.
const SIGNALS: [(i32, &str); 3] =
    [(libc::SIGINT, "interrupted"), (libc::SIGTERM, "terminated"), (libc::SIGHUP, "hung up")];
/// Exit status of a bug.
const BUG: i32 = 2;

/// Whether the end has begun: it is told once, whoever comes second.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Makes signals and panics end the program with a word on what is lost (nothing) and how to go on.
///
/// For the beginning of the program, when it has one thread.
pub(super) fn install() {
    std::panic::set_hook(Box::new(panicked));
    // A program that cannot wait for signals ends by them without a word.
    let _ = wait_for_signals();
}

/// Blocks the signals in this thread and in all that it starts, and waits for them in one of its
/// own. A signal that is ignored, as under `nohup`, stays so.
#[expect(unsafe_code, reason = "the standard library knows no signals")]
fn wait_for_signals() -> std::io::Result<()> {
    // SAFETY: an all-zero `sigset_t` is a valid place for `sigemptyset` to write to.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid, and the numbers are those of signals.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for (signal, _) in SIGNALS {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    let wait = move || {
        let mut signal = 0;
        // SAFETY: both are valid and live as long as the call.
        if unsafe { libc::sigwait(&raw const set, &raw mut signal) } == 0 {
            signalled(signal);
        }
    };
    let spawned = std::thread::Builder::new().name("signals".into()).spawn(wait);
    if spawned.is_err() {
        // SAFETY: as above.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    }
    spawned.map(drop)
}

fn signalled(signal: i32) {
    if ENDING.swap(true, Ordering::SeqCst) {
        return;
    }
    restore_terminal();
    let name = SIGNALS.iter().find(|(number, _)| *number == signal).map_or("ended", |(_, n)| n);
    match terminal::word() {
        Some(word) => terminal::complain(format_args!("{name}; {word}")),
        None => terminal::complain(format_args!("{name}")),
    }
    exit_now(128 + signal);
}

fn panicked(info: &PanicHookInfo<'_>) {
    // It is caught where it was expected, and told as the error it is.
    if is_guarded() {
        return;
    }
    if ENDING.swap(true, Ordering::SeqCst) {
        // Another thread is telling; it ends this one too.
        loop {
            std::thread::park();
        }
    }
    restore_terminal();
    let payload = info.payload();
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    let text = owned.or_else(|| payload.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("a panic without a message");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let place = info.location().map_or_else(String::new, |place| {
        format!("\n  in: `{}`, line {}", place.file(), place.line())
    });
    let go_on = terminal::word()
        .unwrap_or_else(|| "nothing is lost: finished files and run folders are whole".to_owned());
    terminal::complain(format_args!(
        "error: a bug in w2s: {text}{place}\nhint: {go_on}\nhint: please report it with this message, the command line and `w2s --version` ({}) to {}",
        env!("CARGO_PKG_VERSION"),
        home()
    ));
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        let trace = std::backtrace::Backtrace::force_capture();
        terminal::complain(format_args!("{trace}"));
    }
    exit_now(BUG);
}

/// Where bugs are reported.
fn home() -> &'static str {
    match env!("CARGO_PKG_REPOSITORY") {
        "" => "those who gave you w2s",
        address => address,
    }
}

/// Ends a progress bar's line and shows the cursor.
fn restore_terminal() {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = stderr.write_all(b"\r\x1b[2K\x1b[?25h");
    }
}

/// Ends the process without running its destructors.
#[expect(unsafe_code, reason = "the standard library has no way to end without destructors")]
fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` may be called at any time from any thread.
    unsafe { libc::_exit(status) }
}

/// Panics if a test asks for it, to show what users see then; not in what users have.
#[cfg(debug_assertions)]
pub(super) fn rehearse() {
    match std::env::var("W2S_REHEARSE_PANIC").as_deref() {
        Ok("main") => std::panic::panic_any("a rehearsed panic"),
        Ok("thread") => {
            let threads =
                (0..4).map(|_| std::thread::spawn(|| std::panic::panic_any("a rehearsed panic")));
            threads.collect::<Vec<_>>().into_iter().for_each(|thread| drop(thread.join()));
        }
        Ok("guarded") => {
            let told = w2s::guard::caught(|| std::panic::panic_any("a rehearsed panic"));
            terminal::complain(format_args!("caught: {}", told.err().unwrap_or_default()));
        }
        _ => {}
    }
}
