//! Runs of `w2s` in which the n-th change of a file fails, or the process is killed there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// What becomes of a change of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It fails, once.
    Error,
    /// A write is made in half, and from then on there is no space.
    Full,
    /// A write is made in half, as the system may do.
    Short,
    /// The process is killed before it.
    Kill,
    /// A write is made in half and the process is killed.
    Torn,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Error, Self::Full, Self::Short, Self::Kill, Self::Torn];

    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Full => "full",
            Self::Short => "short",
            Self::Kill => "kill",
            Self::Torn => "torn",
        }
    }

    /// Whether it is another thing than `Error` or `Kill` at such a change.
    pub fn applies(self, call: &str) -> bool {
        match self {
            Self::Error | Self::Kill => true,
            Self::Full => {
                matches!(call, "write" | "pwrite" | "open" | "mkdir" | "copy" | "truncate")
            }
            Self::Short | Self::Torn => matches!(call, "write" | "pwrite"),
        }
    }
}

/// A change of a file: the call and the path below the folder of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub call: String,
    pub path: String,
}

/// The library that makes changes fail, built once from `fault.c`.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fault.c");
        let out =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fault-{}.so", std::process::id()));
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
            .args([&out, &source])
            .output()
            .expect("cc is needed to build tests/it/fault.c");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        out
    })
}

/// A command line of `w2s`, to be run many times: the program is loaded once and runs in a copy of the
/// process, as loading libtorch takes longer than all else that a run on a tiny model does.
pub struct Runs {
    process: Child,
    orders: ChildStdin,
    statuses: BufReader<ChildStdout>,
}

impl Runs {
    pub fn new(args: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
        command.args(args).envs(SETTINGS).env("LD_PRELOAD", library()).env("W2S_FAULT_SERVE", "1");
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let orders = process.stdin.take().expect("piped");
        let statuses = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, orders, statuses }
    }

    /// Runs in `folder`; with `fault` the change of that number becomes that. Killed after two minutes.
    pub fn run(&mut self, folder: &Path, fault: Option<(Kind, usize)>) -> Output {
        let folder = fs::canonicalize(folder).unwrap();
        let (kind, at) = fault.map_or(("none", 0), |(kind, at)| (kind.name(), at));
        writeln!(self.orders, "{at} {kind} {}", folder.display()).unwrap();
        let mut status = String::new();
        self.statuses.read_line(&mut status).unwrap();
        let read = |ending: &str| fs::read(beside(&folder, ending)).unwrap();
        Output {
            status: ExitStatus::from_raw(status.trim().parse().unwrap()),
            stdout: read(".out"),
            stderr: read(".err"),
        }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// All that `w2s` would start itself again for, so that it need not.
const SETTINGS: [(&str, &str); 6] = [
    ("OMP_WAIT_POLICY", "passive"),
    ("GOMP_SPINCOUNT", "5000"),
    ("OMP_NUM_THREADS", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "268435456"),
    ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
];

/// Runs `w2s` in `folder`; with `fault` the change of that number becomes that. Ended after two
/// minutes, with status 124.
pub fn run(folder: &Path, args: &[String], fault: Option<(Kind, usize)>) -> Output {
    let mut command = command(folder, args);
    if let Some((kind, at)) = fault {
        command.env("W2S_FAULT_KIND", kind.name()).env("W2S_FAULT_AT", at.to_string());
    }
    command.output().unwrap()
}

/// Runs `w2s` in `folder` where files cannot be locked.
pub fn run_without_locks(folder: &Path, args: &[String]) -> Output {
    command(folder, args).env("W2S_FAULT_KIND", "locks").output().unwrap()
}

fn command(folder: &Path, args: &[String]) -> Command {
    let folder = fs::canonicalize(folder).unwrap();
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "120", env!("CARGO_BIN_EXE_w2s")]).args(args).current_dir(&folder);
    command
        .envs(SETTINGS)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("W2S_FAULT_ROOTS", &folder)
        .env("W2S_FAULT_LOG", beside(&folder, ".log"))
        .env("LD_PRELOAD", library());
    command
}

/// A file beside the folder: what is in it is compared.
fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap().to_os_string();
    name.push(ending);
    folder.with_file_name(name)
}

/// The changes that the last run in `folder` made, in order.
pub fn changes(folder: &Path) -> Vec<Change> {
    let folder = fs::canonicalize(folder).unwrap();
    let text = fs::read_to_string(beside(&folder, ".log")).unwrap();
    let root = format!("{}/", folder.display());
    let change = |line: &str| {
        let mut words = line.splitn(3, ' ').skip(1);
        let call = words.next().unwrap().to_owned();
        let path = words.next().unwrap().replacen(&root, "", 1);
        Change { call, path }
    };
    text.lines().map(change).collect()
}

/// The path without what differs from run to run: numbers of processes, times.
pub fn plain(path: &str) -> String {
    let name = path
        .strip_suffix(".partial")
        .map_or(path, |whole| whole.rsplit_once('.').map_or(whole, |(name, _)| name));
    match name.split_once("events.out.tfevents.") {
        Some((head, _)) => format!("{head}events"),
        None => name.to_owned(),
    }
}

/// What a run found, by file: all bytes but those that tell of time and of asking twice.
pub fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let last = path.file_name().unwrap().to_string_lossy().into_owned();
            if name == "cache" || last == "timing.json" || last.starts_with("events.out.") {
                continue;
            }
            if path.is_dir() {
                walk(root, &path, out);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let bytes = match last.as_str() {
                "rounds.jsonl" => without(&bytes, "seconds"),
                "server.json" => without(&bytes, "spent"),
                // Two runs begin at two times.
                "manifest.json" => without(&bytes, "origin"),
                _ => bytes,
            };
            out.insert(name, bytes);
        }
    }
    let mut out = BTreeMap::new();
    walk(folder, folder, &mut out);
    out
}

fn without(bytes: &[u8], key: &str) -> Vec<u8> {
    let values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let text = values.map(|value| {
        let mut value = value.unwrap();
        value.as_object_mut().unwrap().remove(key).unwrap();
        format!("{value}\n")
    });
    text.collect::<String>().into_bytes()
}
