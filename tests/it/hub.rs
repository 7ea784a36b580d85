//! Fetching data sets, from a hub on the loopback interface.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use w2s::error::ErrorKind;
use w2s::hub::{HubDataset, HubSettings};

use crate::common::project;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_made_up";

/// A hub of one data set per repository, which answers as huggingface.co does.
struct Stub {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Default)]
struct Behaviour {
    /// Path in the hub (`owner/name/file`) and contents.
    files: HashMap<String, Vec<u8>>,
    /// Repositories that need the token.
    gated: Vec<String>,
    /// Transfers that break off in the middle before one is whole.
    num_cuts: Arc<AtomicUsize>,
}

impl Stub {
    fn new(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let behaviour = behaviour.clone();
                let log = Arc::clone(&log);
                std::thread::spawn(move || answer(stream, &behaviour, &log));
            }
        });
        Self { address, asked }
    }

    fn settings(&self, cache: &Path) -> HubSettings {
        HubSettings {
            endpoint: self.address.clone(),
            cache: cache.to_path_buf(),
            token: None,
            offline: false,
        }
    }

    fn num_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn answer(mut stream: TcpStream, behaviour: &Behaviour, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    let mut range = String::new();
    let mut token = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if request.is_empty() {
            request = line.split(' ').nth(1).unwrap_or_default().to_owned();
        } else if let Some(value) = lower.strip_prefix("range: bytes=") {
            range = value.trim().to_owned();
        } else if lower.starts_with("authorization:") {
            token = line.split(' ').nth(2).map(|token| token.trim().to_owned());
        }
    }
    log.lock().unwrap().push(request.clone());
    // The client asks for the first byte to learn of a file, and then for the file.
    let is_probe = range == "0-0";
    let mut reply = |status: &str, headers: &str, body: &[u8], length: usize| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(body);
    };
    let path = request.trim_start_matches("/api").trim_start_matches("/datasets/");
    if behaviour.gated.iter().any(|repo| path.starts_with(repo)) && token.as_deref() != Some(TOKEN)
    {
        return reply("401 Unauthorized", "", b"", 0);
    }
    if let Some(repo) = path.strip_suffix("/revision/main").filter(|_| request.starts_with("/api"))
    {
        let names: Vec<String> = behaviour
            .files
            .keys()
            .filter_map(|file| file.strip_prefix(&format!("{repo}/")))
            .map(|name| format!("{{\"rfilename\":\"{name}\"}}"))
            .collect();
        let body = format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{}]}}", names.join(","));
        return reply("200 OK", "Content-Type: application/json\r\n", body.as_bytes(), body.len());
    }
    let Some(bytes) = behaviour.files.get(&path.replace("/resolve/main", "")) else {
        return reply("404 Not Found", "", b"", 0);
    };
    let begin: usize = range.split('-').next().and_then(|begin| begin.parse().ok()).unwrap_or(0);
    let end = if is_probe { 1 } else { bytes.len() };
    let headers = format!(
        "ETag: \"e{}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {begin}-{}/{}\r\n",
        bytes.len(),
        end - 1,
        bytes.len()
    );
    let part = &bytes[begin..end];
    let is_cut = !is_probe
        && behaviour
            .num_cuts
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok();
    let sent = if is_cut { &part[..part.len() / 2] } else { part };
    reply("206 Partial Content", &headers, sent, part.len());
}

fn with_file(path: &str, bytes: &[u8]) -> Behaviour {
    Behaviour { files: HashMap::from([(path.to_owned(), bytes.to_vec())]), ..Behaviour::default() }
}

#[test]
fn a_file_is_fetched_once_and_then_kept() {
    let stub = Stub::new(with_file("o/d/data/t.jsonl", b"{\"text\":\"x\"}\n"));
    let cache = tempfile::tempdir().unwrap();
    let dataset = HubDataset::new(stub.settings(cache.path()), "o/d", "main").unwrap();
    assert_eq!(dataset.files().unwrap(), ["data/t.jsonl"]);
    let file = dataset.file("data/t.jsonl", false).unwrap();
    assert!(!file.was_cached);
    assert_eq!(std::fs::read(&file.path).unwrap(), b"{\"text\":\"x\"}\n");
    // The cache has the layout of Python's huggingface_hub.
    let there = cache.path().join("datasets--o--d/snapshots").join(COMMIT).join("data/t.jsonl");
    assert_eq!(file.path, there);
    let num_asked = stub.num_asked();
    let again = dataset.file("data/t.jsonl", false).unwrap();
    assert_eq!((again.was_cached, &again.path), (true, &file.path));
    assert_eq!(stub.num_asked(), num_asked);

    // Offline: the cache serves, and what it lacks is named.
    let offline = HubSettings { offline: true, ..stub.settings(cache.path()) };
    let dataset = HubDataset::new(offline.clone(), "o/d", "main").unwrap();
    assert_eq!(dataset.file("data/t.jsonl", true).unwrap().path, file.path);
    assert_eq!(dataset.files().unwrap(), ["data/t.jsonl"]);
    let by_commit = HubDataset::new(offline.clone(), "o/d", COMMIT).unwrap();
    assert_eq!(by_commit.file("data/t.jsonl", false).unwrap().path, file.path);
    let error = dataset.file("data/u.jsonl", false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Hub);
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    let other = HubDataset::new(offline, "o/other", "main").unwrap();
    assert!(other.files().is_err());
    assert_eq!(stub.num_asked(), num_asked);
}

#[test]
fn refusals_say_what_to_do() {
    let mut behaviour = with_file("o/d/t.csv", b"text\nx\n");
    behaviour.files.insert("o/gated/t.csv".to_owned(), b"text\nx\n".to_vec());
    behaviour.gated.push("o/gated".to_owned());
    let stub = Stub::new(behaviour);
    let cache = tempfile::tempdir().unwrap();
    let settings = stub.settings(cache.path());
    let error = |settings: &HubSettings, name: &str, file: &str| {
        let dataset = HubDataset::new(settings.clone(), name, "main").unwrap();
        let error = dataset.file(file, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Hub);
        error.to_string()
    };
    let missing = error(&settings, "o/d", "u.csv");
    assert!(missing.contains("no `u.csv` of data set `o/d` at revision `main` (404)"), "{missing}");
    let gated = error(&settings, "o/gated", "t.csv");
    assert!(gated.contains("(401)") && gated.contains("HF_TOKEN"), "{gated}");
    let listed = HubDataset::new(settings.clone(), "o/gated", "main").unwrap().files().unwrap_err();
    assert!(listed.to_string().contains("HF_TOKEN"), "{listed}");
    let wrong = HubSettings { token: Some("hf_wrong".to_owned()), ..settings.clone() };
    let wrong = error(&wrong, "o/gated", "t.csv");
    assert!(wrong.contains("the token has no access") && !wrong.contains("hf_wrong"), "{wrong}");
    let right = HubSettings { token: Some(TOKEN.to_owned()), ..settings.clone() };
    let dataset = HubDataset::new(right, "o/gated", "main").unwrap();
    assert!(dataset.file("t.csv", false).is_ok());
    // Nobody listens there: the port was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = HubSettings { endpoint: format!("http://127.0.0.1:{port}"), ..settings };
    let silent = error(&silent, "o/d", "t.csv");
    assert!(silent.contains("check the connection"), "{silent}");
}

#[test]
fn a_transfer_that_breaks_off_is_taken_up_again() {
    let bytes: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
    for (num_cuts, ends_well) in [(1, true), (99, false)] {
        let mut behaviour = with_file("o/d/t.parquet", &bytes);
        behaviour.num_cuts = Arc::new(AtomicUsize::new(num_cuts));
        let stub = Stub::new(behaviour.clone());
        let cache = tempfile::tempdir().unwrap();
        let dataset = HubDataset::new(stub.settings(cache.path()), "o/d", "main").unwrap();
        let fetched = dataset.file("t.parquet", false);
        if ends_well {
            assert!(std::fs::read(fetched.unwrap().path).unwrap() == bytes);
            continue;
        }
        let error = fetched.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Hub);
        assert!(error.to_string().contains("goes on where it stopped"), "{error}");
        // A broken file is never taken for a whole one.
        let offline = HubSettings { offline: true, ..stub.settings(cache.path()) };
        assert!(HubDataset::new(offline, "o/d", "main").unwrap().file("t.parquet", false).is_err());
    }
}

fn w2s(stub: &Stub, home: &Path, more: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", &stub.address).env("HF_HOME", home).envs(more.iter().copied());
    command.args(args).output().unwrap()
}

/// A task's data set is pulled by its name and read by the same task.
#[test]
fn pull_gives_a_file_that_the_task_reads() {
    let parquet = std::fs::read(project().join("tests/data/questions.snappy.parquet")).unwrap();
    let path = "truthfulqa/truthful_qa/multiple_choice/validation-00000-of-00001.parquet";
    let stub = Stub::new(with_file(path, &parquet));
    let home = tempfile::tempdir().unwrap();
    let run = |more: &[(&str, &str)], args: &[&str]| w2s(&stub, home.path(), more, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let fail = |output: &Output, status: i32, words: &str| {
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{message}");
        assert!(message.contains(words), "{message}");
        assert!(output.stdout.is_empty());
    };
    let offline = [("HF_HUB_OFFLINE", "1")];
    fail(&run(&offline, &["data", "pull", "truthfulqa"]), 1, "HF_HUB_OFFLINE");
    let pulled = run(&[], &["data", "pull", "truthfulqa"]);
    assert!(pulled.status.success(), "{}", text(&pulled.stderr));
    let printed = text(&pulled.stdout);
    assert_eq!(std::fs::read(&printed).unwrap(), parquet);
    let pulled = run(&offline, &["data", "pull", "truthfulqa"]);
    assert_eq!(text(&pulled.stdout), printed);

    let out = home.path().join("claims.jsonl");
    let out = out.to_str().unwrap();
    let pulled = run(&offline, &["data", "pull", "truthfulqa", "--out", out]);
    assert_eq!(text(&pulled.stdout), out);
    let task = w2s::data::Task::load("truthfulqa").unwrap();
    let fields = |path: &str| {
        let data = w2s::data::Dataset::read(path, &task).unwrap();
        data.examples.into_iter().map(|example| example.fields).collect::<Vec<_>>()
    };
    assert_eq!(fields(out), fields(&printed));
    fail(&run(&[], &["data", "pull", "truthfulqa", "--out", out]), 2, "there already");
    let csv = home.path().join("claims.csv");
    let csv = csv.to_str().unwrap();
    fail(&run(&[], &["data", "pull", "truthfulqa", "--out", csv]), 2, "cannot be written");

    let name = "truthfulqa/truthful_qa";
    let by_name = run(&[], &["data", "pull", name, "--split", "validation"]);
    assert_eq!(text(&by_name.stdout), printed);
    fail(&run(&[], &["data", "pull", name, "--split", "train"]), 2, "--split, --config or --file");
    fail(&run(&[], &["data", "pull", "truthfulqa", "--split", "train"]), 2, "`multiple_choice`");
    fail(&run(&[], &["data", "pull", "truthfulqa", "--split", "generation"]), 1, "(404)");
    fail(&run(&[], &["data", "pull", "topic"]), 2, "names no data set on the hub");
    fail(&run(&[], &["data", "pull", "truthful"]), 1, "unknown task `truthful`");
}
