//! A hub that redirects, names files oddly, lies or breaks off: the token stays at the hub, files get
//! their own names, and nothing is written outside of the cache.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use w2s::error::ErrorKind;
use w2s::hub::{HubDataset, HubSettings};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_made_up";
const BYTES: &[u8] = b"{\"text\":\"good\"}\n{\"text\":\"bad\"}\n";

#[derive(Clone, Debug)]
struct Asked {
    path: String,
    range: Option<String>,
    has_token: bool,
}

impl Asked {
    /// The answer that has the part of the bytes that is asked for.
    fn part(&self, headers: &str, bytes: &[u8]) -> (u16, String, Vec<u8>) {
        let Some(range) = self.range.as_deref().and_then(|range| range.strip_prefix("bytes="))
        else {
            return (200, headers.to_owned(), bytes.to_vec());
        };
        let (begin, end) = range.split_once('-').unwrap();
        let begin: usize = begin.parse().unwrap();
        if begin >= bytes.len() {
            let headers = format!("{headers}Content-Range: bytes */{}\r\n", bytes.len());
            return (416, headers, Vec::new());
        }
        let end = end.parse::<usize>().map_or(bytes.len(), |end| (end + 1).min(bytes.len()));
        let range = format!("Content-Range: bytes {begin}-{}/{}\r\n", end - 1, bytes.len());
        (206, format!("{headers}{range}"), bytes[begin..end].to_vec())
    }
}

/// A server that answers as told: status, headers, body.
struct Hub {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Hub {
    fn new(answer: impl Fn(&Asked) -> (u16, String, Vec<u8>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let Some(request) = read(&stream) else { continue };
                log.lock().unwrap().push(request.clone());
                let (status, headers, body) = answer(&request);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&body);
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn dataset(&self, cache: &Path) -> HubDataset {
        let settings = HubSettings {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            cache: cache.to_path_buf(),
            token: Some(TOKEN.to_owned()),
            offline: false,
        };
        HubDataset::new(settings, "own/set", "main").unwrap()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut asked = Asked { path, range: None, has_token: false };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = Some(value.trim().to_owned()),
            "authorization" => asked.has_token = value.contains(TOKEN),
            _ => {}
        }
    }
    Some(asked)
}

fn facts(etag: &str) -> String {
    format!("ETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n")
}

/// All files and links below a folder, by their paths in it.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(at) = open.pop() {
        for path in std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() && !path.is_symlink() {
                true => open.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().to_path_buf()),
            }
        }
    }
    found.sort();
    found
}

/// Where the hub sends for the bytes, by the port of the other server and of itself.
type Location = fn(u16, u16) -> String;

/// The token goes to the scheme, host and port of the hub, and to nobody after another was asked.
#[test]
fn the_token_stays_at_the_hub() {
    let cases: [(&str, Location, bool); 5] = [
        ("another port", |other, _| format!("http://127.0.0.1:{other}/cdn/x?sig=1"), false),
        ("another name", |_, own| format!("http://localhost:{own}/cdn/x?sig=1"), false),
        ("there and back", |other, _| format!("http://127.0.0.1:{other}/back"), false),
        ("a relative path", |_, _| "/cdn/x?sig=1".to_owned(), true),
        ("its own address", |_, own| format!("http://127.0.0.1:{own}/cdn/x"), true),
    ];
    for (name, location, has_token) in cases {
        let own_port = Arc::new(Mutex::new(0));
        let back = Arc::clone(&own_port);
        let other = Hub::new(move |asked| match asked.path.as_str() {
            "/back" => {
                let port = *back.lock().unwrap();
                (302, format!("Location: http://127.0.0.1:{port}/cdn/x\r\n"), Vec::new())
            }
            _ => asked.part("ETag: \"cdn\"\r\n", BYTES),
        });
        let (other_port, port) = (other.port, Arc::clone(&own_port));
        let hub = Hub::new(move |asked| {
            if asked.path.starts_with("/cdn/") {
                return asked.part("ETag: \"abc\"\r\n", BYTES);
            }
            let location = location(other_port, *port.lock().unwrap());
            let headers = format!(
                "Location: {location}\r\nX-Repo-Commit: {COMMIT}\r\nX-Linked-ETag: \"abc\"\r\nX-Linked-Size: {}\r\nETag: \"redirect\"\r\n",
                BYTES.len()
            );
            (302, headers, Vec::new())
        });
        *own_port.lock().unwrap() = hub.port;
        let cache = tempfile::tempdir().unwrap();
        let file = hub.dataset(cache.path()).file("data/t.jsonl", false).unwrap();
        assert_eq!(std::fs::read(&file.path).unwrap(), BYTES, "{name}");
        assert!(cache.path().join("datasets--own--set/blobs/abc").is_file(), "{name}");
        assert!(other.asked().iter().all(|asked| !asked.has_token), "{name}: {:?}", other.asked());
        for asked in hub.asked() {
            let expected = has_token || !asked.path.starts_with("/cdn/");
            assert_eq!(asked.has_token, expected, "{name}: {asked:?}");
        }
        let sent = hub.asked().len() + other.asked().len();
        assert!(sent >= 3, "{name}");
    }
    // A hub that moved to another port, without facts of its own: asked there, without the token.
    let new = Hub::new(|asked| asked.part(&facts("moved"), BYTES));
    let port = new.port;
    let hub = Hub::new(move |asked| {
        (308, format!("Location: http://127.0.0.1:{port}{}\r\n", asked.path), Vec::new())
    });
    let cache = tempfile::tempdir().unwrap();
    let file = hub.dataset(cache.path()).file("t.jsonl", false).unwrap();
    assert_eq!(std::fs::read(file.path).unwrap(), BYTES);
    assert!(new.asked().iter().all(|asked| !asked.has_token));
}

/// Each part of a name is encoded in the address, and the file has its own name in the cache.
#[test]
fn odd_names_are_encoded_and_kept() {
    // By Python's urllib.parse.quote.
    let names = [
        ("data/train #1 \u{e9}.jsonl", "data/train%20%231%20%C3%A9.jsonl"),
        ("a?b.jsonl", "a%3Fb.jsonl"),
        ("100%25 + x.jsonl", "100%2525%20%2B%20x.jsonl"),
        ("c=d&e/f;g.jsonl", "c%3Dd%26e/f%3Bg.jsonl"),
        ("..hidden/x..jsonl", "..hidden/x..jsonl"),
        ("%2e%2e/x.jsonl", "%252e%252e/x.jsonl"),
    ];
    let hub = Hub::new(|asked| {
        if asked.path.starts_with("/api/") {
            let list =
                serde_json::json!({ "siblings": [{ "rfilename": "data/train #1 \u{e9}.jsonl" }] });
            return (200, String::new(), list.to_string().into_bytes());
        }
        asked.part(&facts("abc"), asked.path.as_bytes())
    });
    let cache = tempfile::tempdir().unwrap();
    let dataset = hub.dataset(cache.path());
    assert_eq!(dataset.files().unwrap(), [names[0].0]);
    for (name, encoded) in names {
        let fresh = tempfile::tempdir().unwrap();
        let file = hub.dataset(fresh.path()).file(name, false).unwrap();
        let snapshot = fresh.path().join("datasets--own--set/snapshots").join(COMMIT);
        assert_eq!(file.path, snapshot.join(name));
        let asked = std::fs::read_to_string(&file.path).unwrap();
        assert_eq!(asked, format!("/datasets/own/set/resolve/main/{encoded}"));
        // From the cache, without a request.
        let num = hub.asked().len();
        assert!(hub.dataset(fresh.path()).file(name, false).unwrap().was_cached);
        assert_eq!(hub.asked().len(), num);
    }
}

#[test]
fn nothing_leaves_the_cache() {
    let place = tempfile::tempdir().unwrap();
    let cache = place.path().join("deep/cache");
    for (what, headers) in [
        ("an ETag that climbs", format!("ETag: \"../../../../x\"\r\nX-Repo-Commit: {COMMIT}\r\n")),
        ("an absolute ETag", format!("ETag: \"/tmp/w2s-x\"\r\nX-Repo-Commit: {COMMIT}\r\n")),
        ("a commit that climbs", "ETag: \"a\"\r\nX-Repo-Commit: ../../../../x\r\n".to_owned()),
        ("no commit", "ETag: \"a\"\r\n".to_owned()),
        ("no ETag", format!("X-Repo-Commit: {COMMIT}\r\n")),
        ("an empty ETag", format!("ETag: \"\"\r\nX-Repo-Commit: {COMMIT}\r\n")),
    ] {
        let hub = Hub::new(move |asked| asked.part(&headers, BYTES));
        match hub.dataset(&cache).file("t.jsonl", true) {
            Ok(file) => assert_eq!(std::fs::read(file.path).unwrap(), BYTES, "{what}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Hub, "{what}: {error}");
                assert!(error.to_string().contains("does not answer like the hub"), "{error}");
            }
        }
        assert!(below(place.path()).iter().all(|path| path.starts_with("deep/cache")), "{what}");
    }
    let hub =
        Hub::new(|_| (200, String::new(), br#"{"siblings":[{"rfilename":"../../x"}]}"#.to_vec()));
    let error = hub.dataset(&cache).files().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Hub);
    assert!(error.to_string().contains("`../../x`, which is no path"), "{error}");
    for location in ["file:///etc/passwd", "http://", "ftp://h/x", "\u{1}"] {
        let hub = Hub::new(move |_| (302, format!("Location: {location}\r\n"), Vec::new()));
        assert_eq!(hub.dataset(&cache).file("t.jsonl", true).unwrap_err().kind(), ErrorKind::Hub);
    }
    let hub = Hub::new(|_| (302, "Location: /again\r\n".to_owned(), Vec::new()));
    let error = hub.dataset(&cache).file("t.jsonl", true).unwrap_err().to_string();
    assert!(error.contains("redirects more than"), "{error}");
}

/// Files of large file storage have their digest as ETag, and are held against it.
#[test]
fn bytes_are_what_the_hub_says() {
    let digest = format!("{:x}", Sha256::digest(BYTES));
    let etag = digest.clone();
    let hub = Hub::new(move |asked| asked.part(&facts(&etag), BYTES));
    let cache = tempfile::tempdir().unwrap();
    let blobs = cache.path().join("datasets--own--set/blobs");
    // A part from before is taken up; one that is damaged is fetched anew.
    for (part, num_bytes) in [(&BYTES[..9], BYTES.len() - 9), (b"something", BYTES.len())] {
        let _ = std::fs::remove_dir_all(cache.path().join("datasets--own--set"));
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{digest}.incomplete")), part).unwrap();
        let file = hub.dataset(cache.path()).file("t.jsonl", false).unwrap();
        assert_eq!(std::fs::read(&file.path).unwrap(), BYTES);
        let last = hub.asked().last().unwrap().clone();
        let begin = BYTES.len() - num_bytes;
        assert_eq!(last.range, (begin > 0).then(|| format!("bytes={begin}-")));
        assert_eq!(std::fs::read_dir(&blobs).unwrap().count(), 1);
    }
    // A blob that was damaged here is fetched again when the newest is asked for.
    std::fs::write(blobs.join(&digest), vec![b'x'; BYTES.len()]).unwrap();
    let file = hub.dataset(cache.path()).file("t.jsonl", true).unwrap();
    assert_eq!(std::fs::read(&file.path).unwrap(), BYTES);

    let wrong = "0".repeat(64);
    let hub = Hub::new(move |asked| asked.part(&facts(&wrong), BYTES));
    let cache = tempfile::tempdir().unwrap();
    let error = hub.dataset(cache.path()).file("t.jsonl", false).unwrap_err().to_string();
    assert!(error.contains(&digest) && error.contains("SHA-256"), "{error}");
    let left = below(cache.path());
    assert!(left.iter().all(|path| path.starts_with(".locks")), "{left:?}");

    // More or fewer bytes than were promised.
    for size in [BYTES.len() - 1, BYTES.len() + 1] {
        let hub = Hub::new(move |asked| asked.part("", BYTES));
        let port = hub.port;
        let front = Hub::new(move |_| {
            let location = format!("Location: http://127.0.0.1:{port}/cdn\r\n");
            (302, format!("{}X-Linked-Size: {size}\r\n{location}", facts("a")), Vec::new())
        });
        let cache = tempfile::tempdir().unwrap();
        let error = front.dataset(cache.path()).file("t.jsonl", false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Hub, "{size}: {error}");
        assert!(!cache.path().join("datasets--own--set/snapshots").exists());
    }
    // An empty file has no first byte.
    let hub = Hub::new(|asked| asked.part(&facts("empty"), b""));
    let file = hub.dataset(cache.path()).file("e.jsonl", false).unwrap();
    assert_eq!(std::fs::read(file.path).unwrap(), b"");
}

/// A link in the place of a part is not written through; a hub that is busy is asked again.
#[cfg(unix)]
#[test]
fn links_are_not_followed_and_what_passes_is_waited_for() {
    let num = Mutex::new(0);
    let hub = Hub::new(move |asked| {
        let mut num = num.lock().unwrap();
        *num += 1;
        match *num % 2 {
            1 => (503, "Retry-After: 0\r\n".to_owned(), Vec::new()),
            _ => asked.part(&facts("abc"), BYTES),
        }
    });
    let place = tempfile::tempdir().unwrap();
    let cache = place.path().join("cache");
    let file = hub.dataset(&cache).file("t.jsonl", false).unwrap();
    assert_eq!(std::fs::read(&file.path).unwrap(), BYTES);
    let blobs = cache.join("datasets--own--set/blobs");
    std::fs::remove_file(blobs.join("abc")).unwrap();
    let target = place.path().join("precious");
    std::fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, blobs.join("abc.incomplete")).unwrap();
    let error = hub.dataset(&cache).file("t.jsonl", true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
}
