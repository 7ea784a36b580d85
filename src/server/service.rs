//! One model of one server, with its store of answers and its meter.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::address::ServerAddress;
use super::answer::Answer;
use super::client::{Client, ClientOptions, FEW_TRIES};
use super::cost::Meter;
use super::kind::Software;
use super::reply::Reply;
use super::store::AnswerStore;
use crate::error::{Error, ErrorKind, Result};

/// How a [`Service`] is used.
#[derive(Debug)]
pub struct ServiceOptions {
    /// How requests are sent.
    pub client: ClientOptions,
    /// Most requests under way at once.
    pub concurrency: usize,
    /// Where answers are kept; `None`: nowhere.
    pub store: Option<AnswerStore>,
    /// Counts what is spent; the model's price is in it.
    pub meter: Meter,
}

/// A model behind a server.
pub struct Service {
    client: Client,
    address: ServerAddress,
    model: String,
    /// Other names of the model, by the server's list.
    aliases: Vec<String>,
    /// What the server's list says of the model besides its name: another model may stand behind the
    /// same name later.
    identity: Value,
    software: Option<Software>,
    max_tokens: Option<usize>,
    concurrency: usize,
    store: Option<AnswerStore>,
    meter: Meter,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Names of models that an error lists.
const SHOWN_MODELS: usize = 12;
/// Special tokens and words of a chat template that a prompt may get on the server.
const MOST_ADDED: u64 = 64;

/// A reply, or what the server says against the request.
pub(crate) type Asked = Result<Reply, Answer>;

impl Service {
    /// Returns the model that the address names, after the server was asked what it has.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when the server cannot be reached, wants another key, or does not serve
    /// the model (lists those it does).
    pub fn connect(address: &ServerAddress, options: ServiceOptions) -> Result<Self> {
        let client = Client::new(&address.url, options.client)?;
        let asked = client
            .ask(&format!("{}/models", address.url), None, FEW_TRIES, |json| Ok(json.clone()))?;
        let list = match asked {
            Ok(list) => list,
            Err(answer) => Self::unlisted(&client, address, &answer)?,
        };
        let entries = list.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let id = |entry: &Value| entry.get("id").and_then(Value::as_str).map(str::to_owned);
        let names: Vec<String> = entries.iter().filter_map(id).collect();
        let model = match (&address.model, names.as_slice()) {
            (Some(model), []) => model.clone(),
            (Some(model), names) if names.contains(model) => model.clone(),
            (None, [only]) => only.clone(),
            (Some(model), names) => {
                return Err(Error::new(
                    ErrorKind::Server,
                    format!("{} does not serve the model `{model}`", address.url),
                )
                .hint(format!("it serves: {}", listed(names))));
            }
            (None, names) => {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("{} serves {} models; name one", address.url, names.len()),
                )
                .hint(format!(
                    "`--model {}#NAME`; it serves: {}",
                    address.url,
                    listed(names)
                )));
            }
        };
        let entry = entries.iter().find(|entry| id(entry).as_deref() == Some(&model));
        let text = |name: &str| entry?.get(name)?.as_str().map(str::to_owned);
        let owner = text("owned_by");
        let software = Software::find(&client, address, owner.as_deref());
        let number = |name: &str| entry?.get(name)?.as_u64().map(|n| n as usize);
        let max_tokens = number("max_model_len")
            .or_else(|| number("context_length"))
            .or_else(|| software.as_ref()?.max_tokens);
        Ok(Self {
            client,
            address: address.with_model(&model),
            model,
            aliases: ["root", "canonical_slug"].into_iter().filter_map(text).collect(),
            identity: json!([text("root"), entry.and_then(|entry| entry.get("meta"))]),
            software,
            max_tokens,
            concurrency: options.concurrency.max(1),
            store: options.store,
            meter: options.meter,
        })
    }

    /// Of a server that does not list its models.
    fn unlisted(client: &Client, address: &ServerAddress, answer: &Answer) -> Result<Value> {
        match answer.status {
            401 | 403 => Err(wrong_key(client, &address.url, answer)),
            // Not every server does.
            _ if address.model.is_some() => Ok(Value::Null),
            status => Err(Error::new(
                ErrorKind::Server,
                format!("{} does not list its models ({status})", address.url),
            )
            .hint("name one: `--model URL#NAME`; is the address that of the API, such as `http://host:8000/v1`?")),
        }
    }

    /// Returns the address with the model's name.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Returns the model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Returns which program the server is, where it says so.
    pub fn software(&self) -> Option<&Software> {
        self.software.as_ref()
    }

    /// Returns the longest prompt in tokens, where the server says so.
    pub fn max_tokens(&self) -> Option<usize> {
        self.max_tokens
    }

    /// Returns how many requests may be under way at once.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Returns what sends the requests.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns what counts the cost.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Returns the answer to a completion of `prompt`; `more` are its other parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when there is none, or one that cannot be read; [`ErrorKind::Context`]
    /// when the prompt is too long for the server.
    pub fn completion(&self, prompt: &str, more: &Value) -> Result<Reply> {
        self.ask_completion(prompt, more, true)?.map_err(|answer| self.refused(&answer))
    }

    /// Returns the answer to a chat completion of `messages`.
    ///
    /// # Errors
    /// As [`Service::completion`].
    pub fn chat(&self, messages: &Value, more: &Value) -> Result<Reply> {
        self.ask_chat(messages, more, true)?.map_err(|answer| self.refused(&answer))
    }

    pub(crate) fn ask_completion(&self, prompt: &str, more: &Value, kept: bool) -> Result<Asked> {
        let mut body = json!({ "model": self.model, "prompt": prompt });
        extend(&mut body, more);
        self.extend_for_provider(&mut body);
        let echoed = body.get("echo").and_then(Value::as_bool).unwrap_or(false);
        self.ask("completions", &body, prompt.len(), kept, |json| {
            Reply::completion(json, prompt, echoed)
        })
    }

    pub(crate) fn ask_chat(&self, messages: &Value, more: &Value, kept: bool) -> Result<Asked> {
        let mut body = json!({ "model": self.model, "messages": messages });
        extend(&mut body, more);
        self.extend_for_provider(&mut body);
        let length = messages.to_string().len();
        self.ask("chat/completions", &body, length, kept, Reply::chat)
    }

    /// OpenRouter sends requests to providers that ignore what they do not know, unless it is told not
    /// to; and it says what a request cost if it is asked.
    fn extend_for_provider(&self, body: &mut Value) {
        if self.software.as_ref().is_some_and(|software| software.name == "OpenRouter") {
            body["provider"] = json!({ "require_parameters": true });
            body["usage"] = json!({ "include": true });
        }
    }

    fn ask(
        &self,
        endpoint: &str,
        body: &Value,
        num_bytes: usize,
        kept: bool,
        read: impl Fn(&Value) -> Result<Reply, String>,
    ) -> Result<Asked> {
        let store = self.store.as_ref().filter(|_| kept);
        let key = AnswerStore::key(
            &self.address.url,
            &self.model,
            &json!([endpoint, body, self.identity]),
        );
        if let Some(reply) = store.map(|store| store.get(&key, None)).transpose()?.flatten() {
            self.meter.count_kept();
            return Ok(Ok(reply));
        }
        let most_out = body.get("max_tokens").and_then(Value::as_u64).unwrap_or(1);
        // A token has a byte at least.
        let reserved = self.meter.reserve(num_bytes as u64 + MOST_ADDED, most_out)?;
        // What is only tried may be what the server cannot do.
        let most_forms = if kept { u32::MAX } else { FEW_TRIES };
        let asked = self.send(endpoint, body, most_forms, read);
        self.meter.settle(&reserved, asked.as_ref().ok().and_then(|asked| asked.as_ref().ok()));
        let asked = asked?;
        if let (Ok(reply), Some(store)) = (&asked, store) {
            store.put(&key, (&self.address.url, &self.model), reply)?;
        }
        Ok(asked)
    }

    fn send(
        &self,
        endpoint: &str,
        body: &Value,
        most_forms: u32,
        read: impl Fn(&Value) -> Result<Reply, String>,
    ) -> Result<Asked> {
        let url = format!("{}/{endpoint}", self.address.url);
        let reply = match self.client.ask(&url, Some(body), most_forms, read)? {
            Ok(reply) => reply,
            Err(answer) => return Ok(Err(answer)),
        };
        if let Some(model) = reply.model.as_deref().filter(|model| !self.is_model(model)) {
            return Err(Error::new(
                ErrorKind::Server,
                format!("`{model}` answered, expected the model `{}`", self.model),
            )
            .hint(
                "the server gives another model than it was asked for; its answers are not used",
            ));
        }
        Ok(Ok(reply))
    }

    /// Whether a name may stand for the model: the name itself, a version of it, or the path of its
    /// files.
    fn is_model(&self, name: &str) -> bool {
        let ours: Vec<&str> =
            std::iter::once(&self.model).chain(&self.aliases).map(String::as_str).collect();
        let last = |name: &str| {
            name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_lowercase()
        };
        ours.iter().any(|own| {
            let (own, name) = (last(own), last(name));
            own == name
                || name
                    .strip_prefix(&own)
                    .is_some_and(|rest| rest.starts_with(['-', ':', '@', '.']))
                || own.strip_prefix(&name).is_some_and(|rest| rest.starts_with([':', '@', '.']))
        })
    }

    /// Returns the error for what a server says against a request.
    pub(crate) fn refused(&self, answer: &Answer) -> Error {
        let url = &self.address.url;
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
            401 | 403 => wrong_key(&self.client, url, answer),
            404 => Error::new(ErrorKind::Server, format!("{url} has no such thing (404): {said}"))
                .hint("check the address and the model's name; `w2s serve-check URL` says what the server can do"),
            402 => Error::new(ErrorKind::Server, format!("{url} wants to be paid (402): {said}"))
                .hint("what was answered is kept; go on with the same command later"),
            status => Error::new(ErrorKind::Server, format!("{url} refuses ({status}): {said}"))
                .hint("`w2s serve-check URL` says what the server can do"),
        }
    }

    /// What was found out about the server lately.
    pub(super) fn remembered<T: for<'a> Deserialize<'a>>(&self, what: &Value) -> Result<Option<T>> {
        const MOST: Duration = Duration::from_secs(24 * 3600);
        let Some(store) = &self.store else { return Ok(None) };
        store.get(&self.fact_key(what), Some(MOST))
    }

    /// Keeps what was found out about the server.
    pub(super) fn remember<T: Serialize>(&self, what: &Value, found: &T) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        store.put(&self.fact_key(what), (&self.address.url, &self.model), found)
    }

    fn fact_key(&self, what: &Value) -> super::store::Key {
        let software = self.software.as_ref().map(|software| &software.name);
        AnswerStore::key(
            &self.address.url,
            &self.model,
            &json!(["found", software, what, self.identity]),
        )
    }
}

fn extend(body: &mut Value, more: &Value) {
    if let (Value::Object(body), Value::Object(more)) = (body, more) {
        body.extend(more.clone());
    }
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN_MODELS);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn wrong_key(client: &Client, url: &str, answer: &Answer) -> Error {
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
