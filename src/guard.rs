//! The boundary to crates that may panic on damaged input: a panic becomes one error with the file.
//!
//! It is for foreign decoders (tokenizers, Parquet, databases), not for our own bugs, and it cannot
//! stop an allocation that fails or a stack that runs over: those abort. Sizes are checked before
//! memory is asked for, and depths where a format nests.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;

use crate::error::{Error, ErrorKind, Result};

thread_local! {
    /// How many guards this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Returns whether a panic of this thread will be caught here and told as an error. A panic hook that
/// was set before the first guard is not called then; one that is set later should ask.
pub fn is_guarded() -> bool {
    DEPTH.get() > 0
}

/// Returns what `work` returns, or what it said when it panicked.
///
/// What `work` has changed by then is half done: give it values of its own and drop them.
///
/// # Errors
/// The panic's message, on one line.
pub fn caught<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    be_silent();
    DEPTH.set(DEPTH.get() + 1);
    let leave = Leave;
    let result = catch_unwind(AssertUnwindSafe(work));
    drop(leave);
    result.map_err(|panic| {
        let text = match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => match other.downcast::<&'static str>() {
                Ok(text) => (*text).to_owned(),
                // Not a message but a value that someone means to catch.
                Err(other) => resume_unwind(other),
            },
        };
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// Returns what `work` returns, or `None` when it ran out of memory of a device or of the machine.
///
/// Most operations of tch panic when they fail; other panics go on.
///
/// # Errors
/// Those of `work`.
pub(crate) fn within_memory<T>(work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    match caught(work) {
        Ok(Ok(value)) => Ok(Some(value)),
        Ok(Err(error)) if is_out_of_memory(error.message()) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(text) if is_out_of_memory(&text) => Ok(None),
        Err(text) => panic!("{text}"),
    }
}

/// Whether a message of libtorch says that there is no memory: of the allocator of CUDA, of CUDA itself,
/// of its libraries, and of the allocator of the CPU.
fn is_out_of_memory(text: &str) -> bool {
    [
        "CUDA out of memory",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "can't allocate memory",
        "not enough memory",
    ]
    .iter()
    .any(|part| text.contains(part))
}

/// Makes the panic hook say nothing of panics that are caught here, once; it says all others as it did.
fn be_silent() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !is_guarded() {
                before(info);
            }
        }));
    });
}

/// Returns what `work` returns; a panic in it is an error of `kind` about the file `path`, which
/// `reader` (such as `the Parquet reader`) could not cope with.
///
/// # Errors
/// Those of `work`, and the one for a panic.
pub fn guarded<T>(
    reader: &str,
    kind: ErrorKind,
    path: &Path,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    caught(work).unwrap_or_else(|panic| {
        Err(Error::new(kind, format!("{reader} fails on this file: {panic}"))
            .at(path)
            .hint("the file is damaged, or of a kind that its reader does not know; write or download it again"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_error_with_the_file() {
        let path = Path::new("a/b.bin");
        let error = guarded("the reader of b", ErrorKind::Data, path, || -> Result<()> {
            assert!(is_guarded());
            panic!("index {} out\n of range", 3)
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert_eq!(
            error.to_string().lines().take(2).collect::<Vec<_>>(),
            ["the reader of b fails on this file: index 3 out of range", "  in: `a/b.bin`"]
        );
        assert!(!is_guarded());
    }

    #[test]
    fn results_and_errors_pass_through_and_guards_nest() {
        let path = Path::new("x");
        let five = guarded("r", ErrorKind::Data, path, || {
            assert_eq!(caught(|| panic!("inner")), Err::<(), _>("inner".to_owned()));
            assert!(is_guarded());
            Ok(5)
        });
        assert_eq!(five.unwrap(), 5);
        let own = Error::new(ErrorKind::Io, "own");
        let error = guarded("r", ErrorKind::Data, path, || Err::<(), _>(own)).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "own"));
    }
}
