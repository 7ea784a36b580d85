//! Sending requests: deadline, retries, pace, proxies. Knows HTTP and nothing of models.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use ureq::tls::{PemItem, RootCerts, TlsConfig};

use super::answer::{Answer, json_of};
use super::inside::Unusable;
use super::key::ApiKey;
use crate::error::{Error, ErrorKind, Result};

/// How requests are sent.
#[derive(Clone)]
pub struct ClientOptions {
    /// The key, where the server wants one.
    pub key: Option<ApiKey>,
    /// The longest time for one request, its answer included.
    pub deadline: Duration,
    /// Times that a request is sent again after 408, 429, 5xx, a broken connection or a broken answer.
    pub num_retries: u32,
    /// Most requests begun in a second; `None`: no limit.
    pub requests_per_second: Option<f64>,
    /// The longest wait before the first retry; it doubles with each.
    pub backoff: Duration,
    /// How to wait; tests do not.
    pub sleep: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            key: None,
            deadline: Duration::from_secs(120),
            num_retries: 6,
            requests_per_second: None,
            backoff: Duration::from_millis(500),
            sleep: Arc::new(std::thread::sleep),
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("key", &self.key)
            .field("deadline", &self.deadline)
            .field("num_retries", &self.num_retries)
            .field("requests_per_second", &self.requests_per_second)
            .finish_non_exhaustive()
    }
}

/// The longest wait between two tries.
const MOST_BACKOFF: Duration = Duration::from_secs(60);
/// A server that asks to wait for longer is left alone.
const MOST_RETRY_AFTER: Duration = Duration::from_secs(600);
/// The largest answer that is read, in bytes: all of a vocabulary's logprobs are a few megabytes.
const MOST_ANSWER: u64 = 256 << 20;
/// Time to connect; a host that is not there should not take the whole deadline.
const CONNECT: Duration = Duration::from_secs(15);

/// The slowest pace that makes sense, and the fastest, in requests begun in a second.
pub const PACES: std::ops::RangeInclusive<f64> = 0.001..=1e6;
/// The shortest time for a request that makes sense, and the longest, in seconds.
pub const DEADLINES: std::ops::RangeInclusive<f64> = 0.001..=1e6;
/// Times that an address which is only looked at is asked again for an answer that is none: it is
/// probably wrong.
pub(super) const FEW_TRIES: u32 = 1;

/// Sends requests to one server. Many threads may use it.
pub struct Client {
    agent: ureq::Agent,
    options: ClientOptions,
    /// When the next request may begin, by the pace.
    next: Mutex<Instant>,
    /// Until when the server wants to be left alone.
    hold: Mutex<Option<Instant>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Why a try failed in a way that may pass.
enum Passing {
    Status(Answer, Option<Duration>),
    Broken(String),
}

impl Client {
    /// Returns a client for the server at `url`. Proxies are those of the environment (`HTTP_PROXY`,
    /// `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), never for this machine itself; `SSL_CERT_FILE` names
    /// certificates to trust instead of the built-in ones.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a proxy or a file of certificates that cannot be used.
    pub fn new(url: &str, options: ClientOptions) -> Result<Self> {
        let variable = |name: &str| {
            let value = std::env::var(name).or_else(|_| std::env::var(name.to_lowercase()));
            value.ok().filter(|value| !value.is_empty())
        };
        let proxy = proxy(url, variable)?;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(options.deadline))
            .timeout_connect(Some(CONNECT.min(options.deadline)))
            .user_agent(concat!("w2s/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections_per_host(64)
            .proxy(proxy);
        if let Some(path) = variable("SSL_CERT_FILE").filter(|_| url.starts_with("https:")) {
            config = config.tls_config(TlsConfig::builder().root_certs(roots(&path)?).build());
        }
        Ok(Self {
            agent: config.build().into(),
            options,
            next: Mutex::new(Instant::now()),
            hold: Mutex::new(None),
        })
    }

    /// Returns the options.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Returns the answer to a GET.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn get(&self, url: &str) -> Result<Answer> {
        self.send(url, None, 0, |answer| Ok(answer.clone())).map(|sent| sent.unwrap_or_else(|a| a))
    }

    /// Returns the answer to a POST of JSON, which may be a refusal.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when the server cannot be reached, keeps failing or does not answer in
    /// time, after all retries.
    pub fn post(&self, url: &str, body: &Value) -> Result<Answer> {
        let sent = self.send(url, Some(body), 0, |answer| Ok(answer.clone()));
        sent.map(|sent| sent.unwrap_or_else(|a| a))
    }

    /// Returns what `read` makes of the JSON of an answer, or the answer that cannot be used: a refusal,
    /// or the last of those whose form was wrong. An error in an answer of status 200 counts as the
    /// status that it carries. What is no JSON is asked for again as after a failure, and what is JSON
    /// of another form at most `most_forms` times.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub(super) fn ask<T>(
        &self,
        url: &str,
        body: Option<&Value>,
        most_forms: u32,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Result<T, Answer>> {
        self.send(url, body, most_forms, |answer| read(&json_of(answer)?).map_err(Unusable::Form))
    }

    /// Returns the answer to a request that may well fail: it is sent once, and `None` if there is no
    /// answer.
    pub(super) fn try_once(&self, url: &str, body: Option<&Value>) -> Option<Answer> {
        self.wait_for_turn();
        self.once(url, body).ok().map(|(answer, _)| answer)
    }

    fn send<T>(
        &self,
        url: &str,
        body: Option<&Value>,
        most_forms: u32,
        read: impl Fn(&Answer) -> Result<T, Unusable>,
    ) -> Result<Result<T, Answer>> {
        let mut tries = 0;
        loop {
            self.wait_for_turn();
            let mut most_tries = self.options.num_retries;
            let passing = match self.once(url, body) {
                Ok((mut answer, after)) => {
                    // Whether another try may help, and whether what is wrong is the caller's affair.
                    let (mut passes, mut is_told) = (true, false);
                    let unusable = match answer.status {
                        200 => match read(&answer) {
                            Ok(value) => return Ok(Ok(value)),
                            Err(unusable) => Some(unusable),
                        },
                        _ => None,
                    };
                    match unusable {
                        None => {}
                        Some(Unusable::Status(status)) => answer.status = status,
                        Some(Unusable::Broken(what)) => {
                            answer.fault = Some(what);
                            if body.is_none() {
                                most_tries = most_tries.min(FEW_TRIES);
                            }
                        }
                        Some(Unusable::Form(what)) => {
                            answer.fault = Some(what);
                            passes = tries < most_forms;
                            is_told = true;
                        }
                        Some(Unusable::Final(what)) => {
                            answer.fault = Some(what);
                            passes = false;
                        }
                    }
                    if answer.fault.is_none() {
                        passes = matches!(answer.status, 408 | 429 | 500..);
                    }
                    // Some servers answer a prompt that is too long with 500.
                    if !passes || answer.is_too_long() || (is_told && tries >= most_tries) {
                        return Ok(Err(answer));
                    }
                    Passing::Status(answer, after)
                }
                Err(reason) => Passing::Broken(reason),
            };
            if tries >= most_tries {
                return Err(self.gave_up(url, &passing, tries));
            }
            let wait = self.wait(tries, &passing);
            let Some(wait) = wait else { return Err(self.gave_up(url, &passing, tries)) };
            (self.options.sleep)(wait);
            *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tries += 1;
        }
    }

    /// Full jitter, and no sooner than the server says; `None` if it says far too long.
    fn wait(&self, tries: u32, passing: &Passing) -> Option<Duration> {
        let most = self.options.backoff.saturating_mul(1 << tries.min(16)).min(MOST_BACKOFF);
        let jitter = most.mul_f64(rand::random::<f64>());
        let Passing::Status(_, Some(after)) = passing else { return Some(jitter) };
        if *after > MOST_RETRY_AFTER {
            return None;
        }
        // What one request is told holds for all of them.
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        *hold = (*hold).max(Some(Instant::now() + *after));
        Some(*after + jitter)
    }

    fn wait_for_turn(&self) {
        let now = Instant::now();
        let hold = *self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = hold.and_then(|until| until.checked_duration_since(now)) {
            (self.options.sleep)(wait);
        }
        let Some(rate) = self.options.requests_per_second else { return };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now);
        // Of a rate that makes no sense the nearest that does.
        let rate = rate.max(*PACES.start());
        let apart = Duration::try_from_secs_f64(1.0 / rate).unwrap_or_default();
        *next = turn.checked_add(apart).unwrap_or(turn);
        drop(next);
        if turn > now {
            (self.options.sleep)(turn - now);
        }
    }

    /// Sends once. `Err` says what broke.
    fn once(&self, url: &str, body: Option<&Value>) -> Result<(Answer, Option<Duration>), String> {
        let began = Instant::now();
        let bearer = self.options.key.as_ref().map(ApiKey::header);
        let sent = match body {
            None => {
                let mut request = self.agent.get(url);
                if let Some(bearer) = &bearer {
                    request = request.header("Authorization", bearer);
                }
                request.call()
            }
            Some(body) => {
                let mut request = self.agent.post(url).content_type("application/json");
                if let Some(bearer) = &bearer {
                    request = request.header("Authorization", bearer);
                }
                request.send(body.to_string())
            }
        };
        let hide = |text: String| match &self.options.key {
            Some(key) => key.hide(&text),
            None => text,
        };
        let mut response = sent.map_err(|e| hide(self.reason(&e)))?;
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (server, after) = (header("server"), header("retry-after"));
        let status = response.status().as_u16();
        let bytes = response.body_mut().with_config().limit(MOST_ANSWER).read_to_vec();
        let bytes = bytes.map_err(|e| hide(self.reason(&e)))?;
        // The body is data: nothing is cut out of it, whatever the key is.
        let body = String::from_utf8_lossy(&bytes).into_owned();
        let (elapsed, key) = (began.elapsed(), self.options.key.clone());
        let answer = Answer { server, elapsed, key, ..Answer::new(status, body) };
        Ok((answer, after.and_then(|text| retry_after(&text, SystemTime::now()))))
    }

    fn reason(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => {
                format!("no answer within {} s", self.options.deadline.as_secs_f64())
            }
            ureq::Error::HostNotFound => "there is no such host".into(),
            other => other.to_string(),
        }
    }

    fn gave_up(&self, url: &str, passing: &Passing, tries: u32) -> Error {
        let times = if tries == 0 { String::new() } else { format!(" after {} tries", tries + 1) };
        let (message, hint) = match passing {
            Passing::Broken(reason) if reason.starts_with("no answer") => (
                format!("{url}: {reason}{times}"),
                "raise `--deadline`, lower `--concurrency`, or see what keeps the server busy",
            ),
            Passing::Broken(reason) => (
                format!("{url} cannot be reached{times}: {reason}"),
                "check the address, that the server runs, and HTTP_PROXY; with the same command nothing that was answered is asked again",
            ),
            Passing::Status(answer, after) if answer.status == 429 => {
                let wait = after.map_or_else(String::new, |wait| {
                    format!(" (it asks to wait for {} s)", wait.as_secs())
                });
                (
                    format!("{url} was asked too often{times}{wait} (429): {}", answer.message()),
                    "lower `--requests-per-second` or `--concurrency`, and go on later with the same command",
                )
            }
            Passing::Status(Answer { fault: Some(what), .. }, _) => (
                format!("{url} answers with what is no answer{times}: {what}"),
                "is the address that of an OpenAI-compatible API? It mostly ends in `/v1`; else see the server's own log, and go on with the same command: nothing that was answered is asked again",
            ),
            Passing::Status(answer, _) => (
                format!("{url} fails{times} ({}): {}", answer.status, answer.message()),
                "see the server's own log; with the same command nothing that was answered is asked again",
            ),
        };
        Error::new(ErrorKind::Server, message).hint(hint)
    }
}

/// The wait that `Retry-After` asks for, in seconds or as a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0)
            .then(|| Duration::from_secs_f64(seconds.min(1e9)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The proxy for an address by the variables of the environment.
fn proxy(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Option<ureq::Proxy>> {
    let Some(host) = url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned))
    else {
        return Ok(None);
    };
    let bare = host.trim_matches(['[', ']']);
    let is_loopback = bare == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let spared = variable("NO_PROXY").unwrap_or_default();
    let is_spared =
        spared.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
            let entry = entry.trim_start_matches("*.").trim_start_matches('.');
            entry == "*" || bare == entry || bare.ends_with(&format!(".{entry}"))
        });
    if is_loopback || is_spared {
        return Ok(None);
    }
    let name = if url.starts_with("https:") { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some(address) = variable(name).or_else(|| variable("ALL_PROXY")) else { return Ok(None) };
    // The address may hold a password.
    let bad = |_| {
        Error::new(ErrorKind::Usage, format!("the proxy in {name} or ALL_PROXY cannot be used"))
            .hint("expected an address such as `http://proxy:3128`")
    };
    ureq::Proxy::new(&address).map(Some).map_err(bad)
}

/// The certificates of a PEM file.
fn roots(path: &str) -> Result<RootCerts> {
    let pem = std::fs::read(path).map_err(|e| Error::io("read", path.as_ref(), &e))?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "SSL_CERT_FILE holds no certificate").at(path));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("0.25", now), Some(Duration::from_millis(250)));
        let date = httpdate::fmt_http_date(now + Duration::from_secs(90));
        assert_eq!(retry_after(&date, now), Some(Duration::from_secs(90)));
        let past = httpdate::fmt_http_date(now - Duration::from_secs(90));
        assert_eq!(retry_after(&past, now), Some(Duration::ZERO));
        assert_eq!((retry_after("soon", now), retry_after("-1", now)), (None, None));
    }

    #[test]
    fn proxies_are_those_of_the_environment() {
        let of = |url: &str, set: &[(&str, &str)]| {
            let variable =
                |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            proxy(url, variable).map(|proxy| proxy.map(|proxy| proxy.host().to_owned()))
        };
        let both = [("HTTP_PROXY", "http://plain:1"), ("HTTPS_PROXY", "http://safe:2")];
        assert_eq!(of("http://h/v1", &both).unwrap().as_deref(), Some("plain"));
        assert_eq!(of("https://h/v1", &both).unwrap().as_deref(), Some("safe"));
        for own in ["http://localhost:8000/v1", "http://127.0.0.1/v1", "http://[::1]:3/v1"] {
            assert_eq!(of(own, &both).unwrap(), None, "{own}");
        }
        let spared = [both[0], ("NO_PROXY", "x, .b.c")];
        assert_eq!(of("http://a.b.c/v1", &spared).unwrap(), None);
        assert_eq!(of("http://ab.cc/v1", &spared).unwrap().as_deref(), Some("plain"));
        assert_eq!(
            of("http://h/v1", &[("ALL_PROXY", "http://all:3")]).unwrap().as_deref(),
            Some("all")
        );
    }
}
