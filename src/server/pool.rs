//! Requests side by side, in an order that a server's prefix cache likes.
//!
//! Requests stand in depth-first order of their prompts, so that neighbours share most. They begin in
//! this order, never far ahead of the first that is not done. One whose beginning is being computed
//! for another waits for that other: begun together, both would compute it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::guard::caught;

/// A request and what it shares with the one before it.
#[derive(Clone, Debug)]
pub(crate) struct Job<T> {
    /// What is asked.
    pub(crate) what: T,
    /// Bytes of the prompt that the request before it begins with too.
    pub(crate) shared: usize,
}

/// Less than this is computed again rather than waited for, in bytes.
const WORTH_WAITING: usize = 1024;
/// Requests that may begin before the first one of them is done, for each that runs at once.
const AHEAD: usize = 4;

/// For each job the first one that has the same beginning, as far as it is shared with the job before.
fn leaders(shared: &[usize]) -> Vec<Option<usize>> {
    // What is shared, growing, and since which job it is.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let of = |(at, &bytes): (usize, &usize)| {
        if at == 0 {
            return None;
        }
        let mut leader = at - 1;
        while let Some(&(_, first)) = open.last().filter(|(most, _)| *most >= bytes) {
            leader = first;
            open.pop();
        }
        open.push((bytes, leader));
        (bytes >= WORTH_WAITING).then_some(leader)
    };
    shared.iter().enumerate().map(of).collect()
}

struct State<R> {
    begun: Vec<bool>,
    done: Vec<bool>,
    results: Vec<Option<R>>,
    first_open: usize,
    /// The first failure by the order of the jobs.
    failed: Option<(usize, Error)>,
}

/// Does all jobs, at most `concurrency` at once, and returns their results in their order.
///
/// # Errors
/// That of a job that fails; those under way are finished, no others are begun.
pub(crate) fn run_in_order<T: Sync, R: Send>(
    jobs: &[Job<T>],
    concurrency: usize,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    // A worker that panicked would leave the others waiting for it.
    let work = |what: &T| match catch_unwind(AssertUnwindSafe(|| caught(|| work(what)))) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(panicked(&panic)),
        Err(_) => Err(panicked("no message")),
    };
    if concurrency <= 1 || jobs.len() <= 1 {
        return jobs.iter().map(|job| work(&job.what)).collect();
    }
    let shared: Vec<usize> = jobs.iter().map(|job| job.shared).collect();
    let leaders = leaders(&shared);
    let num = jobs.len();
    let state = Mutex::new(State {
        begun: vec![false; num],
        done: vec![false; num],
        results: (0..num).map(|_| None).collect::<Vec<Option<R>>>(),
        first_open: 0,
        failed: None,
    });
    let changed = Condvar::new();
    let worker = || {
        let mut held = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if held.failed.is_some() || held.first_open == num {
                return;
            }
            let end = num.min(held.first_open + AHEAD * concurrency);
            let is_free = |at: &usize| {
                !held.begun[*at] && leaders[*at].is_none_or(|leader| held.done[leader])
            };
            let Some(at) = (held.first_open..end).find(is_free) else {
                held = changed.wait(held).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            held.begun[at] = true;
            drop(held);
            let result = work(&jobs[at].what);
            held = state.lock().unwrap_or_else(PoisonError::into_inner);
            held.done[at] = true;
            while held.first_open < num && held.done[held.first_open] {
                held.first_open += 1;
            }
            match result {
                Ok(result) => held.results[at] = Some(result),
                Err(error) if held.failed.as_ref().is_none_or(|(first, _)| at < *first) => {
                    held.failed = Some((at, error));
                }
                Err(_) => {}
            }
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..concurrency.min(num) {
            scope.spawn(worker);
        }
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, error)) = state.failed {
        return Err(error);
    }
    let missing = || Error::new(ErrorKind::Internal, "a request was never begun");
    state.results.into_iter().map(|result| result.ok_or_else(missing)).collect()
}

fn panicked(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("a worker panicked: {what}")).hint(
        "this is a bug in w2s; what was answered is kept, the same command goes on from there",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn who_computes_a_beginning_is_known() {
        let shared: Vec<usize> = [0, 2, 5, 5, 2, 4, 0, 3].iter().map(|n| n * 1000).collect();
        let none = None;
        assert_eq!(
            leaders(&shared),
            [none, Some(0), Some(1), Some(1), Some(0), Some(4), none, Some(6)]
        );
        assert_eq!(leaders(&[0, 100, 200]), [None, None, None]);
    }

    #[test]
    fn results_keep_their_order_and_waiting_is_for_the_leader() {
        let jobs: Vec<Job<usize>> =
            (0..200).map(|i| Job { what: i, shared: if i % 8 == 0 { 0 } else { 5000 } }).collect();
        let (done, running, most) =
            (Mutex::new(vec![false; 200]), AtomicUsize::new(0), AtomicUsize::new(0));
        let results = run_in_order(&jobs, 6, |&i| {
            most.fetch_max(1 + running.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            assert!(i % 8 == 0 || done.lock().unwrap()[i - i % 8], "{i} before its leader");
            std::thread::yield_now();
            done.lock().unwrap()[i] = true;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(i * i)
        });
        assert_eq!(results.unwrap(), (0..200).map(|i| i * i).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 6);
    }

    #[test]
    fn the_first_failure_ends_all() {
        for concurrency in [1, 4] {
            let jobs: Vec<Job<usize>> = (0..100).map(|i| Job { what: i, shared: 0 }).collect();
            let num = AtomicUsize::new(0);
            let failed = run_in_order(&jobs, concurrency, |&i| {
                num.fetch_add(1, Ordering::SeqCst);
                if i >= 10 { Err(Error::new(ErrorKind::Server, format!("job {i}"))) } else { Ok(i) }
            });
            assert!(failed.unwrap_err().to_string().contains("job 1"));
            assert!(num.load(Ordering::SeqCst) <= 10 + 2 * concurrency);
        }
    }

    #[test]
    fn a_panic_is_one_error_and_nobody_waits_for_it() {
        for concurrency in [1, 4] {
            for payload in [false, true] {
                // All wait for the first, which panics.
                let jobs: Vec<Job<usize>> =
                    (0..50).map(|i| Job { what: i, shared: 5000 }).collect();
                let failed = run_in_order(&jobs, concurrency, |&i| -> Result<usize> {
                    match i {
                        0 if payload => std::panic::resume_unwind(Box::new(7)),
                        0 => panic!("no such {i}"),
                        _ => Ok(i),
                    }
                });
                let error = failed.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Internal);
                let words = if payload { "panicked: no message" } else { "panicked: no such 0" };
                assert!(error.message().contains(words), "{error}");
            }
        }
    }
}
