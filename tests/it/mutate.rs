//! Damaged inputs by the thousand: seeds are mutated, and what reads them must give a value or an
//! error, never a panic and never memory without bound.
//!
//! The mutations of one name are the same on every machine and in every run, so a number names an
//! input. `W2S_FUZZ_EXECUTIONS` sets how many are tried, `W2S_FUZZ_SEED` starts another series.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Once;
use std::time::Instant;

/// Mutations of one reader without `W2S_FUZZ_EXECUTIONS`: seconds, not minutes.
const EXECUTIONS: usize = 3000;
/// No mutation grows an input beyond its seed by more than this, in bytes.
const MOST_GROWTH: usize = 64 * 1024;

/// What is written over numbers, and between tokens of text.
const TEXTS: &[&str] = &[
    "0",
    "-1",
    "1",
    "-0.0",
    "1e308",
    "1e-308",
    "1e999",
    "NaN",
    "Infinity",
    "255",
    "65536",
    "2147483647",
    "2147483648",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "0.5",
    "true",
    "false",
    "null",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"a\":",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{0}",
    "\u{1b}[31m",
    "\r\n",
    "..",
    "/",
    "*",
    "(?",
    "(a*)*",
    "'",
    "\"",
    "\"\"\"",
    ",,,",
    "\t",
    "{{",
    "}}",
    "{%",
    "\u{202e}",
    "\u{10ffff}",
];
/// What is written over bytes of binary files.
const WORDS: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

thread_local! {
    /// Panics of this thread are expected and reported by `run`.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls `check` with mutations of `seeds`, and with the seeds themselves. `check` reads the bytes
/// and may assert what must hold of anything; a panic in it fails the test, with the input.
///
/// # Panics
/// When `check` panicked for an input: names the number of the mutation and the file with the input.
pub fn run(name: &str, seeds: &[Vec<u8>], mut check: impl FnMut(&[u8])) {
    assert!(!seeds.is_empty(), "{name}: no seeds");
    let number = |key: &str| std::env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
    let executions = number("W2S_FUZZ_EXECUTIONS").map_or(EXECUTIONS, |n| n as usize);
    let series = number("W2S_FUZZ_SEED").unwrap_or(0);
    be_quiet();
    let begun = Instant::now();
    let mut slowest = (0.0, 0);
    let mut failures: Vec<(usize, String, Vec<u8>)> = Vec::new();
    for index in 0..seeds.len() + executions {
        let input = match seeds.get(index) {
            Some(seed) => seed.clone(),
            None => Mutator::new(name, series, index as u64).mutation(seeds),
        };
        let started = Instant::now();
        QUIET.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| check(&input)));
        QUIET.set(false);
        let seconds = started.elapsed().as_secs_f64();
        if seconds > slowest.0 {
            slowest = (seconds, index);
        }
        if let Err(panic) = result {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            failures.push((index, text, input));
        }
    }
    println!(
        "fuzz {name}: {} executions of {} seeds, {} panics, {:.1} s, the slowest {:.0} ms (number {})",
        seeds.len() + executions,
        seeds.len(),
        failures.len(),
        begun.elapsed().as_secs_f64(),
        1e3 * slowest.0,
        slowest.1
    );
    let Some((index, text, input)) = failures.first() else { return };
    let path = std::env::temp_dir().join(format!("w2s-fuzz-{name}-{index}"));
    let _ = std::fs::write(&path, input);
    let start: String = input.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    panic_any(format!(
        "{name}: {} of {} inputs panic, the first is number {index}: {text}\n  in: `{}` ({} bytes: {start}..)",
        failures.len(),
        seeds.len() + executions,
        path.display(),
        input.len()
    ));
}

/// Keeps panics that `run` reports out of the test's output; all others are printed as before.
fn be_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
}

/// One mutation, drawn from its name and number.
struct Mutator {
    state: u64,
}

impl Mutator {
    fn new(name: &str, series: u64, index: u64) -> Self {
        // FNV-1a of the name.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        Self { state: hash ^ series.rotate_left(32) ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    /// SplitMix64 (Steele et al. 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where there is none.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn mutation(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds[self.below(seeds.len())].clone();
        let most = data.len() + MOST_GROWTH;
        // One fault most of the time: the deepest code is reached by inputs that are nearly right.
        let faults = 1 << self.below(4);
        for _ in 0..1 + self.below(faults) {
            self.fault(&mut data, seeds);
            data.truncate(most);
        }
        data
    }

    fn fault(&mut self, data: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(data.len());
        match self.below(14) {
            0 if !data.is_empty() => data[at] ^= 1 << self.below(8),
            1 if !data.is_empty() => data[at] = self.next() as u8,
            2 => data.truncate(at),
            3 => drop(data.drain(..at)),
            4 => {
                let end = at + self.below((data.len() - at).min(64) + 1);
                data.drain(at..end);
            }
            5 => {
                // A part of another seed, or of this one.
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                let length = self.below((other.len() - from).min(4096) + 1);
                let end = if self.below(2) == 0 { at } else { (at + length).min(data.len()) };
                data.splice(at..end, other[from..from + length].iter().copied());
            }
            6 => {
                // The end of another seed behind the beginning of this one.
                let other = &seeds[self.below(seeds.len())];
                data.truncate(at);
                data.extend_from_slice(&other[self.below(other.len())..]);
            }
            7 => {
                let part = data[at..(at + 1 + self.below(32)).min(data.len())].to_vec();
                for _ in 0..1 << self.below(8) {
                    data.splice(at..at, part.iter().copied());
                }
            }
            8 | 9 => {
                let (from, to) = number_near(data, at);
                let text = self.pick(TEXTS);
                data.splice(from..to, text.bytes());
            }
            10 => {
                let text = self.pick(TEXTS);
                data.splice(at..at, text.bytes());
            }
            11 => {
                let word = WORDS[self.below(WORDS.len())];
                let size = 1 << self.below(4);
                let bytes = if self.below(2) == 0 {
                    word.to_le_bytes()[..size].to_vec()
                } else {
                    word.to_be_bytes()[8 - size..].to_vec()
                };
                let end = (at + size).min(data.len());
                data.splice(at..end, bytes);
            }
            12 => {
                // A token, key or line again.
                let (from, to) = token_near(data, at);
                let token = data[from..to].to_vec();
                let place = token_near(data, self.below(data.len())).0;
                data.splice(place..place, token);
            }
            _ => {
                // Two tokens change places, or one takes the other's.
                let (a, b) = (token_near(data, at), token_near(data, self.below(data.len())));
                let (first, second) = if a.0 <= b.0 { (a, b) } else { (b, a) };
                if first.1 <= second.0 {
                    let (x, y) =
                        (data[first.0..first.1].to_vec(), data[second.0..second.1].to_vec());
                    data.splice(second.0..second.1, x.iter().copied());
                    if self.below(2) == 0 {
                        data.splice(first.0..first.1, y.iter().copied());
                    }
                }
            }
        }
    }
}

/// The next number after `at`, its bounds; nothing at `at` where there is none.
fn number_near(data: &[u8], at: usize) -> (usize, usize) {
    let Some(from) = data[at..].iter().position(u8::is_ascii_digit).map(|i| at + i) else {
        return (at, at);
    };
    let is_part = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    let to = data[from..].iter().position(|b| !is_part(b)).map_or(data.len(), |i| from + i);
    (from, to)
}

/// The token around `at`: what lies between commas, brackets, braces, line ends and the like.
fn token_near(data: &[u8], at: usize) -> (usize, usize) {
    let is_end = |b: &u8| matches!(b, b',' | b'\n' | b'{' | b'}' | b'[' | b']' | b'\t' | b';');
    let from = data[..at].iter().rposition(is_end).map_or(0, |i| i + 1);
    let to = data[at..].iter().position(is_end).map_or(data.len(), |i| at + i);
    (from, to.max(from))
}

#[test]
fn mutations_are_the_same_in_every_run_and_differ_from_their_seeds() {
    let seeds = vec![br#"{"a": [1, 2.5e3], "b": "text"}"#.to_vec(), vec![0_u8; 40], Vec::new()];
    let draw = |i| Mutator::new("law", 0, i).mutation(&seeds);
    let first: Vec<_> = (0..500).map(draw).collect();
    assert_eq!(first, (0..500).map(draw).collect::<Vec<_>>());
    let changed = first.iter().filter(|m| !seeds.contains(m)).count();
    assert!(changed > 400, "{changed} of 500 differ from their seeds");
    assert!(first.iter().any(|m| m.len() > 100) && first.iter().any(|m| m.len() < 10));
}

#[test]
fn a_panic_fails_the_test_and_names_the_input() {
    let result = catch_unwind(|| {
        run("law-of-panics", &[b"abc".to_vec()], |input| assert!(input.len() < 5, "too long"));
    });
    let text = *result.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("too long") && text.contains("w2s-fuzz-law-of-panics-"), "{text}");
}
