//! Requests to a hub: redirects followed by hand, so that the token goes to the hub's own origin and
//! nowhere else, and what passes is tried again.

use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};
use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// Why the hub gave nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// It refused, with this status.
    Status(u16),
    /// It does not answer as the hub does; in what.
    Strange(String),
    /// The connection broke, or there was none.
    Broken(String),
    /// Something on this machine.
    Local(Error),
}

/// Times a request or a transfer is taken up again.
pub(super) const NUM_RETRIES: u32 = 2;
/// The wait before the first time; it doubles with each.
const PAUSE: Duration = Duration::from_millis(300);
/// A hub that asks to wait for longer is told of.
const MOST_RETRY_AFTER: u64 = 30;
const MOST_REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(15);
/// The longest time until an answer begins.
const BEGIN: Duration = Duration::from_secs(60);
/// The longest time for one answer; a transfer that takes longer is taken up again where it is.
const BODY: Duration = Duration::from_secs(300);

/// A hub, and what it is asked with.
pub(super) struct Requester {
    agent: Agent,
    endpoint: Url,
    token: Option<String>,
}

/// An answer, and where it came from after all redirects.
pub(super) struct Found {
    pub(super) response: Response<Body>,
    /// Whether only the hub itself was asked.
    pub(super) is_own: bool,
}

/// An answer that sends on.
pub(super) struct Redirect<'a> {
    pub(super) headers: &'a HeaderMap,
    /// Whether it comes from the hub itself.
    pub(super) is_own: bool,
    /// Whether it leads away from the hub.
    pub(super) leads_away: bool,
}

impl Requester {
    /// Returns what asks the hub at `endpoint`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an address or a token that cannot be one; the token is not shown.
    pub(super) fn new(endpoint: &str, token: Option<&str>) -> Result<Self> {
        let url = Url::parse(endpoint).ok();
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let Some(endpoint) = url.filter(is_http) else {
            return Err(Error::new(ErrorKind::Usage, "HF_ENDPOINT is not the address of a hub")
                .hint("expected an address such as `https://huggingface.co`"));
        };
        if token.is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::new(
                ErrorKind::Usage,
                "the hub's token has characters that no token has",
            )
            .hint("check HF_TOKEN, or the file that `hf auth login` wrote"));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(BEGIN))
            .timeout_recv_body(Some(BODY))
            .user_agent(concat!("w2s/", env!("CARGO_PKG_VERSION")));
        Ok(Self { agent: config.build().into(), endpoint, token: token.map(str::to_owned) })
    }

    /// Returns the address for messages: without a password.
    pub(super) fn shown(&self) -> String {
        let path = self.endpoint.path().trim_end_matches('/');
        format!("{}{path}", self.endpoint.origin().ascii_serialization())
    }

    /// Returns the address of a path of the hub, whose parts are encoded.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/{path}", self.endpoint.path().trim_end_matches('/')));
        url
    }

    /// Returns the answer to a request for a part of what lies at `url`, after all redirects, or that
    /// of the first redirect that `stop` says to be enough.
    ///
    /// # Errors
    /// When there is none, after some tries. Refusals are answers.
    pub(super) fn get(
        &self,
        url: &Url,
        range: Option<&str>,
        mut stop: impl FnMut(&Redirect<'_>) -> bool,
    ) -> Result<Found, Fault> {
        let mut url = url.clone();
        let mut is_own = true;
        for _ in 0..=MOST_REDIRECTS {
            is_own &= url.origin() == self.endpoint.origin();
            let response = self.patient(&url, range, is_own)?;
            let location = response
                .headers()
                .get("location")
                .filter(|_| matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308));
            let Some(location) = location else { return Ok(Found { response, is_own }) };
            let next = std::str::from_utf8(location.as_bytes()).ok();
            let next = next
                .and_then(|text| url.join(text).ok())
                .filter(|next| matches!(next.scheme(), "http" | "https") && next.has_host());
            let Some(mut next) = next else {
                return Err(Fault::Strange("it redirects to what is no address".to_owned()));
            };
            next.set_fragment(None);
            let leads_away = next.origin() != self.endpoint.origin();
            if stop(&Redirect { headers: response.headers(), is_own, leads_away }) {
                return Ok(Found { response, is_own });
            }
            url = next;
        }
        Err(Fault::Strange(format!("it redirects more than {MOST_REDIRECTS} times")))
    }

    /// Sends until there is an answer that does not pass.
    fn patient(
        &self,
        url: &Url,
        range: Option<&str>,
        with_token: bool,
    ) -> Result<Response<Body>, Fault> {
        let mut tries = 0;
        loop {
            let mut request = self.agent.get(url.as_str()).header("Accept-Encoding", "identity");
            if let Some(range) = range {
                request = request.header("Range", range);
            }
            if let Some(token) = self.token.as_ref().filter(|_| with_token) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let (sent, after) = match request.call() {
                Ok(response) if !matches!(response.status().as_u16(), 408 | 429 | 500..) => {
                    return Ok(response);
                }
                Ok(response) => {
                    let after = response.headers().get("retry-after");
                    let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
                    (Ok(response), after.unwrap_or(0))
                }
                Err(error) => (Err(Fault::Broken(error.to_string())), 0),
            };
            if tries == NUM_RETRIES || after > MOST_RETRY_AFTER {
                return sent;
            }
            pause(tries, after);
            tries += 1;
        }
    }
}

/// Waits before another try.
pub(super) fn pause(tries: u32, at_least_s: u64) {
    std::thread::sleep(Duration::from_secs(at_least_s).max(PAUSE * 2_u32.pow(tries.min(5))));
}

/// Returns a path with each of its parts encoded, as Python's `quote` does it.
pub(super) fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_as_python_does() {
        // urllib.parse.quote of Python 3.
        for (path, expected) in [
            ("data/train #1 é.jsonl", "data/train%20%231%20%C3%A9.jsonl"),
            ("a?b=c&d+e%20f", "a%3Fb%3Dc%26d%2Be%2520f"),
            (
                "x[1]{2}\\^`|\"<>'()*!$@:;,~",
                "x%5B1%5D%7B2%7D%5C%5E%60%7C%22%3C%3E%27%28%29%2A%21%24%40%3A%3B%2C~",
            ),
        ] {
            assert_eq!(encoded(path), expected);
            let hub = Requester::new("http://h:1/hub/", None).unwrap();
            assert_eq!(hub.url(&encoded(path)).as_str(), format!("http://h:1/hub/{expected}"));
        }
    }

    #[test]
    fn addresses_and_tokens_that_are_none_are_refused_and_not_shown() {
        for (endpoint, token) in [("hub", None), ("ftp://h", None), ("http://h", Some("hf_x\ny"))] {
            let Err(error) = Requester::new(endpoint, token) else { panic!("{endpoint}") };
            assert!(!error.to_string().contains("hf_x"), "{error}");
        }
        let hub = Requester::new("http://me:secret@h:80/x/", None).unwrap();
        assert_eq!(hub.shown(), "http://h/x");
    }
}
