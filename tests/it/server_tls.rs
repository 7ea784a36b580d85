//! Servers behind TLS, with an authority made here, and behind proxies: what the environment says is what
//! counts, and what is wrong with it is said.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::server_stub::{ALL, NAME, Stub, of_model};

/// A certificate authority, and its certificate as a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server's side of TLS, as the hosts that are named.
    fn config(&self, hosts: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

/// One request, as it came.
fn request(stream: &mut impl Read) -> Option<Vec<u8>> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some([bytes, body].concat())
}

fn answered(target: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(target).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// TLS before a plain server; returns the port.
fn before(target: String, config: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            // `None`: whoever called does not like the certificate.
            let Some(request) = request(&mut stream) else { continue };
            let _ = stream.write_all(&answered(&target, &request));
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

/// A proxy: whatever host it is asked for, it is one of these two.
fn proxy(plain: String, safe: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some(first) = request(&mut stream) else { continue };
            let text = String::from_utf8_lossy(&first).into_owned();
            let line = text.lines().next().unwrap().to_owned();
            log.lock().unwrap().push(line.clone());
            let Some(host) = line.strip_prefix("CONNECT ") else {
                // `POST http://host/path`
                let begin = line.split(' ').nth(1).unwrap().split('/').take(3).collect::<Vec<_>>();
                let direct = text.replacen(&begin.join("/"), "", 1);
                let _ = stream.write_all(&answered(&plain, direct.as_bytes()));
                continue;
            };
            let target = match host.contains(":443 ") {
                true => format!("127.0.0.1:{safe}"),
                false => plain.clone(),
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let there = TcpStream::connect(target).unwrap();
            let copy = |from: &TcpStream, to: &TcpStream| {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                })
            };
            let both = [copy(&stream, &there), copy(&there, &stream)];
            both.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
    (port, seen)
}

fn plain(stub: &Stub) -> String {
    stub.address.trim_start_matches("http://").trim_end_matches("/v1").to_owned()
}

/// Scores a question by a server: what is written, or the error.
fn score(place: &Path, url: &str, environment: &[(&str, &str)]) -> Result<String, String> {
    let input = place.join("in.jsonl");
    let line = json!({ "id": "a", "prompt": "2 + 2 = 4 is ", "labels": ["True", "False"] });
    std::fs::write(&input, format!("{line}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
    for name in ["SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(environment.iter().copied());
    command.args(["score", "--model", &format!("{url}#{NAME}"), "--response-cache", "off"]);
    let output = command.args(["--retries", "0", "--input"]).arg(&input).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

#[test]
fn certificates_are_those_that_the_environment_trusts() {
    let place = tempfile::tempdir().unwrap();
    let stub = of_model("llama", ALL);
    let (ours, other) = (Authority::new(), Authority::new());
    let expected = score(place.path(), &stub.address, &[]).unwrap();
    let port = before(plain(&stub), ours.config(&["127.0.0.1", "localhost"]));
    let file = |authority: &Authority| authority.file().to_str().unwrap().to_owned();
    let with = |port: u16, file: &str| {
        let url = format!("https://127.0.0.1:{port}/v1");
        score(place.path(), &url, &[("SSL_CERT_FILE", file)])
    };
    assert_eq!(with(port, &file(&ours)).unwrap(), expected);
    // An authority that did not sign it; those that are built in.
    for said in [
        with(port, &file(&other)).unwrap_err(),
        score(place.path(), &format!("https://127.0.0.1:{port}/v1"), &[]).unwrap_err(),
    ] {
        assert!(said.contains("cannot be reached") && said.contains("ertificate"), "{said}");
    }
    // The right authority, for another host.
    let elsewhere = before(plain(&stub), ours.config(&["other.example"]));
    let said = with(elsewhere, &file(&ours)).unwrap_err();
    assert!(said.contains("cannot be reached") && said.contains("not valid for name"), "{said}");
    // Files that are none.
    let empty = place.path().join("empty.pem");
    std::fs::write(&empty, "no certificate\n").unwrap();
    let said = with(port, empty.to_str().unwrap()).unwrap_err();
    assert!(
        said.contains("SSL_CERT_FILE holds no certificate") && said.contains("empty.pem"),
        "{said}"
    );
    let said = with(port, "/nowhere/ca.pem").unwrap_err();
    assert!(said.contains("/nowhere/ca.pem"), "{said}");
}

#[test]
fn proxies_are_gone_through() {
    let place = tempfile::tempdir().unwrap();
    let stub = of_model("llama", ALL);
    let authority = Authority::new();
    let expected = score(place.path(), &stub.address, &[]).unwrap();
    let safe = before(plain(&stub), authority.config(&["models.example"]));
    let (port, seen) = proxy(plain(&stub), safe);
    let address = format!("http://127.0.0.1:{port}");
    let file = authority.file();
    let trusted = ("SSL_CERT_FILE", file.to_str().unwrap());
    // A name that nobody resolves but the proxy.
    for (url, variable) in [
        ("http://models.example/v1", "HTTP_PROXY"),
        ("http://models.example/v1", "all_proxy"),
        ("https://models.example/v1", "HTTPS_PROXY"),
    ] {
        let before = seen.lock().unwrap().len();
        let environment = [(variable, address.as_str()), trusted];
        assert_eq!(
            score(place.path(), url, &environment).unwrap(),
            expected,
            "{url} by {variable}"
        );
        let seen = seen.lock().unwrap()[before..].to_vec();
        assert!(
            !seen.is_empty() && seen.iter().all(|line| line.contains("models.example")),
            "{seen:?}"
        );
    }
    // Those that are spared, and this machine, are asked themselves.
    let before = seen.lock().unwrap().len();
    let spared = [("HTTP_PROXY", address.as_str()), ("NO_PROXY", ".example")];
    let said = score(place.path(), "http://models.example/v1", &spared).unwrap_err();
    assert!(said.contains("cannot be reached"), "{said}");
    let all = [("ALL_PROXY", address.as_str())];
    assert_eq!(score(place.path(), &stub.address, &all).unwrap(), expected);
    assert_eq!(seen.lock().unwrap().len(), before);
    let said =
        score(place.path(), "http://models.example/v1", &[("HTTP_PROXY", "::")]).unwrap_err();
    assert!(said.contains("the proxy in HTTP_PROXY or ALL_PROXY cannot be used"), "{said}");
}
