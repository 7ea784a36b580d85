//! Errors inside of answers that have the status 200, and answers that are none.
//!
//! Gateways answer before they know whether the model will: an error comes as JSON under a status
//! that says all is well, a web page in the place of JSON, or nothing. Each counts as what it carries.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// Why an answer with status 200 cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It holds an error that has this status of its own.
    Status(u16),
    /// It is no answer; what is wrong with it. Another try may bring one.
    Broken(String),
    /// It is JSON, but not of a form that can be used; what is wrong with it.
    Form(String),
    /// It is an answer that cannot be used, and would be so again.
    Final(String),
}

/// Returns why the JSON of an answer with status 200 is none; `message` is what it says to people.
pub(super) fn error_in(json: &Value, message: impl Fn() -> String) -> Option<Unusable> {
    let choice = json.pointer("/choices/0");
    let finish = choice.and_then(|choice| choice.get("finish_reason")).and_then(Value::as_str);
    let of_choice = choice.and_then(|choice| choice.get("error")).filter(|error| is_said(error));
    let said = json.get("error").filter(|error| is_said(error)).or(of_choice);
    // Older vLLM: the error is all there is. FastAPI: `detail`.
    let is_error = json.get("object").and_then(Value::as_str) == Some("error")
        || (choice.is_none() && json.get("detail").is_some_and(is_said));
    let error = match (said, is_error, finish) {
        (Some(error), ..) => error,
        (None, true, _) => json,
        (None, false, Some("error")) => choice?,
        (None, false, Some("content_filter")) => {
            let what =
                "the server's content filter cut it short (`finish_reason` is `content_filter`)";
            return Some(Unusable::Final(what.to_owned()));
        }
        _ => return None,
    };
    Some(match status_of(error, json) {
        Some(status) => Unusable::Status(status),
        None => Unusable::Form(format!("it holds an error: {}", message())),
    })
}

/// Whether a value says anything: null, false, and what is empty are the absence of an error.
fn is_said(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

/// The HTTP status that an error carries, as a number or in words.
fn status_of(error: &Value, json: &Value) -> Option<u16> {
    const NAMES: [&str; 5] = ["code", "status", "status_code", "http_status", "error_code"];
    let fields = [error, json].into_iter().flat_map(|of| NAMES.iter().filter_map(|n| of.get(n)));
    let number = fields.clone().find_map(|value| match value {
        Value::Number(number) => number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as u16),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    if let Some(status) = number.filter(|status| (400..600).contains(status)) {
        return Some(status);
    }
    let kinds = ["type", "code", "status"];
    let kinds = [error, json].into_iter().flat_map(|of| kinds.iter().filter_map(|n| of.get(n)));
    if let Some(status) = kinds.filter_map(Value::as_str).find_map(status_of_kind) {
        return Some(status);
    }
    // `429 Too Many Requests`, `Error code: 502 - ..`
    static STATUS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:^\s*|\b(?:http(?:/[\d.]+)?|error|code|status)[\s:=(]*)([45]\d\d)\b")
            .ok()
    });
    let texts = [Some(error), error.get("message"), json.get("message"), json.get("detail")];
    let mut texts = texts.into_iter().flatten().filter_map(Value::as_str);
    texts.find_map(|text| {
        let stated = STATUS.as_ref()?.captures(text).and_then(|found| found.get(1));
        stated.and_then(|status| status.as_str().parse().ok()).or_else(|| status_of_words(text))
    })
}

/// What a message means that says neither a status nor a kind.
fn status_of_words(text: &str) -> Option<u16> {
    const WORDS: [(&str, u16); 10] = [
        ("rate limit", 429),
        ("too many requests", 429),
        ("slow down", 429),
        ("overloaded", 503),
        ("at capacity", 503),
        ("temporarily", 503),
        ("try again", 503),
        ("unavailable", 503),
        ("timed out", 504),
        ("unexpected endpoint", 404),
    ];
    let text = text.to_lowercase();
    WORDS.iter().find(|(words, _)| text.contains(words)).map(|(_, status)| *status)
}

/// The status of a kind of error, by the names that OpenAI, vLLM, Anthropic and Google give.
fn status_of_kind(kind: &str) -> Option<u16> {
    let kind: String = kind.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    const KINDS: [(&str, u16); 26] = [
        ("ratelimit", 429),
        ("toomanyrequests", 429),
        ("resourceexhausted", 429),
        ("throttl", 429),
        ("overloaded", 503),
        ("unavailable", 503),
        ("timeout", 504),
        ("deadlineexceeded", 504),
        ("badgateway", 502),
        ("servererror", 500),
        ("internal", 500),
        ("apierror", 500),
        ("insufficientquota", 402),
        ("insufficientcredit", 402),
        ("billing", 402),
        ("payment", 402),
        ("authenticat", 401),
        ("unauthorized", 401),
        ("apikey", 401),
        ("permission", 403),
        ("forbidden", 403),
        ("notfound", 404),
        ("contextlength", 400),
        ("badrequest", 400),
        ("invalidrequest", 400),
        ("invalidargument", 400),
    ];
    KINDS.iter().find(|(name, _)| kind.contains(name)).map(|(_, status)| *status)
}

/// Returns a text with `NaN` and the infinities, which Python writes and JSON does not know, as null;
/// `None` if there are none.
pub(super) fn without_nan(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut is_text, mut found) = (text, false, false);
    while let Some(c) = rest.chars().next() {
        let name = ["-Infinity", "Infinity", "NaN"].into_iter().find(|name| rest.starts_with(name));
        let num = match (is_text, c, name) {
            (false, _, Some(name)) => {
                found = true;
                out.push_str("null");
                rest = &rest[name.len()..];
                continue;
            }
            (true, '\\', _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => c.len_utf8(),
        };
        if c == '"' {
            is_text = !is_text;
        }
        out.push_str(&rest[..num]);
        rest = &rest[num..];
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_count_as_what_they_carry() {
        let status = |json: Value| match error_in(&json, String::new) {
            Some(Unusable::Status(status)) => status,
            Some(_) => 0,
            None => 200,
        };
        let text = json!([{ "text": "x" }]);
        for (json, expected) in [
            // OpenRouter, with and without an empty list of choices; in the choice.
            (json!({ "error": { "message": "m", "code": 502 }, "user_id": "u" }), 502),
            (json!({ "choices": [], "error": { "message": "overloaded", "code": 429 } }), 429),
            (
                json!({ "choices": [{ "text": "", "finish_reason": "error", "error": { "code": 503 } }] }),
                503,
            ),
            (json!({ "choices": [{ "text": "", "finish_reason": "error" }] }), 0),
            (json!({ "error": { "code": "429", "message": "m" } }), 429),
            (json!({ "error": { "code": 400.0 } }), 400),
            // OpenAI and vLLM by kinds.
            (json!({ "error": { "code": "rate_limit_exceeded", "type": "requests" } }), 429),
            (json!({ "error": { "code": null, "type": "invalid_request_error" } }), 400),
            (
                json!({ "error": { "code": "insufficient_quota", "type": "insufficient_quota" } }),
                402,
            ),
            (json!({ "object": "error", "type": "BadRequestError", "code": 400 }), 400),
            (json!({ "object": "error", "type": "InternalServerError" }), 500),
            (json!({ "error": "Error code: 502 - bad gateway" }), 502),
            (json!({ "error": "429 Too Many Requests" }), 429),
            (json!({ "error": "at most 500 tokens" }), 0),
            (json!({ "error": "Slow down" }), 429),
            (json!({ "error": { "status": "UNAVAILABLE", "message": "m" } }), 503),
            (json!({ "detail": "Not Found", "status": 404 }), 404),
            (json!({ "detail": [{ "msg": "x" }] }), 0),
            (json!({ "error": { "code": 1301 } }), 0),
            // No errors.
            (json!({ "error": null, "choices": text }), 200),
            (json!({ "error": "", "choices": text }), 200),
            (json!({ "choices": text, "detail": "x" }), 200),
            (json!({ "data": [] }), 200),
            (json!({}), 200),
        ] {
            assert_eq!(status(json.clone()), expected, "{json}");
        }
        let filtered = json!({ "choices": [{ "text": "", "finish_reason": "content_filter" }] });
        assert!(matches!(error_in(&filtered, String::new), Some(Unusable::Final(_))));
    }

    #[test]
    fn numbers_of_python_become_null() {
        let text = r#"{"a": NaN, "b\"NaN": ["-Infinity", -Infinity, Infinity, "\\"], "c": NaN}"#;
        let found = without_nan(text).unwrap();
        let expected = json!({ "a": null, "b\"NaN": ["-Infinity", null, null, "\\"], "c": null });
        assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), expected);
        assert_eq!(without_nan(r#"{"a": "NaN"}"#), None);
        assert_eq!(without_nan("\"\\"), None);
    }
}
