//! What a server says against a request, as errors that say what to do.

use super::answer::Answer;
use super::client::Client;
use crate::error::{Error, ErrorKind};

/// Returns the error for what a server says against a request.
pub(super) fn refused(client: &Client, url: &str, answer: &Answer) -> Error {
    let said = answer.message();
    if answer.is_too_long() {
        return Error::new(
            ErrorKind::Context,
            format!("the prompt is too long for the server: {said}"),
        )
        .hint("use fewer demonstrations or shorter examples, set `--max-context` to what the server takes, or start it with a longer context");
    }
    if let Some(what) = &answer.fault {
        let error = Error::new(
            ErrorKind::Server,
            format!("{url} answered with something that is no completion: {what}"),
        );
        return error.hint(match what.contains("content_filter") {
            true => "leave the example out, or use a provider without a filter; the other answers are kept",
            false => "is the address that of an OpenAI-compatible API? `w2s serve-check URL` says what it can do",
        });
    }
    match answer.status {
        401 | 403 => wrong_key(client, url, answer),
        404 => Error::new(ErrorKind::Server, format!("{url} has no such thing (404): {said}"))
            .hint("check the address and the model's name; `w2s serve-check URL` says what the server can do"),
        402 => Error::new(ErrorKind::Server, format!("{url} wants to be paid (402): {said}"))
            .hint("what was answered is kept; go on with the same command later"),
        status => Error::new(ErrorKind::Server, format!("{url} refuses ({status}): {said}"))
            .hint("`w2s serve-check URL` says what the server can do"),
    }
}

/// Returns the error for a key that a server does not take.
pub(super) fn wrong_key(client: &Client, url: &str, answer: &Answer) -> Error {
    let (status, said) = (answer.status, answer.message());
    let error =
        |what: &str| Error::new(ErrorKind::Server, format!("{url} {what} ({status}): {said}"));
    match client.options().key {
        Some(_) => error("does not take the key")
            .hint("check W2S_API_KEY, OPENAI_API_KEY or the file of `--api-key-file`"),
        None => error("wants a key").hint(
            "set W2S_API_KEY or OPENAI_API_KEY, or give `--api-key-file FILE`; a key on the command line would be written down",
        ),
    }
}
