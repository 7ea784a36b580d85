//! One model of one server, with its store of answers and its meter.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::address::ServerAddress;
use super::answer::Answer;
use super::canary::Now;
use super::client::{Client, ClientOptions, FEW_TRIES};
use super::cost::Meter;
use super::kind::Software;
use super::refusal;
use super::reply::Reply;
use super::request::{Endpoint, Prompt, Request};
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
    pub(super) address: ServerAddress,
    pub(super) model: String,
    /// Other names of the model, by the server's list.
    aliases: Vec<String>,
    /// What the server's list says of the model besides its name: another model may stand behind the
    /// same name later.
    pub(super) identity: Value,
    pub(super) software: Option<Software>,
    files: Files,
    max_tokens: Option<usize>,
    /// Whether it was reached.
    is_there: bool,
    concurrency: usize,
    pub(super) store: Option<AnswerStore>,
    meter: Meter,
    /// Which model it is that stands behind the name now, once it was asked.
    pub(super) now: Mutex<Option<Now>>,
}

/// Where a server says that its files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The model's folder or file, or its name on the hub.
    pub model: Option<String>,
    /// The adapter's, where the model's name is one's.
    pub adapter: Option<String>,
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
        // vLLM lists adapters with the model that they belong to.
        let parent = text("parent").map(|parent| {
            let entry = entries.iter().find(|entry| id(entry).as_ref() == Some(&parent));
            let root = entry.and_then(|entry| entry.get("root")).and_then(Value::as_str);
            root.map_or(parent.clone(), str::to_owned)
        });
        let files = match parent {
            Some(model) => Files { model: Some(model), adapter: text("root") },
            None => {
                let model = software.as_ref().and_then(|software| software.path.clone());
                Files { model: model.or_else(|| text("root")), adapter: None }
            }
        };
        // An adapter's context is its model's.
        let base = entries.iter().find(|base| id(base).is_some() && id(base) == text("parent"));
        let number = |name: &str| {
            let of = |entry: &Value| entry.get(name)?.as_u64().map(|n| n as usize);
            entry.and_then(of).or_else(|| base.and_then(of))
        };
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
            files,
            max_tokens,
            is_there: true,
            concurrency: options.concurrency.max(1),
            store: options.store,
            meter: options.meter,
            now: Mutex::new(None),
        })
    }

    /// Returns the model that the address names; where nobody answers there, one that can be counted for
    /// but not asked.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), but for a server that cannot be reached.
    pub fn connect_or_suppose(address: &ServerAddress, options: ServiceOptions) -> Result<Self> {
        let client = Client::new(&address.url, options.client.clone())?;
        if client.try_once(&format!("{}/models", address.url), None).is_some() {
            return Self::connect(address, options);
        }
        let model = address.model.clone().unwrap_or_default();
        Ok(Self {
            client,
            address: address.clone(),
            model,
            aliases: Vec::new(),
            identity: Value::Null,
            software: None,
            files: Files::default(),
            max_tokens: None,
            is_there: false,
            concurrency: options.concurrency.max(1),
            store: options.store,
            meter: options.meter,
            now: Mutex::new(None),
        })
    }

    /// Returns whether the server was reached.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Returns whether answers are kept.
    pub fn keeps(&self) -> bool {
        self.store.is_some()
    }

    /// Of a server that does not list its models.
    fn unlisted(client: &Client, address: &ServerAddress, answer: &Answer) -> Result<Value> {
        match answer.status {
            401 | 403 => Err(refusal::wrong_key(client, &address.url, answer)),
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

    /// Returns where the server says that the model's files are.
    pub fn files(&self) -> &Files {
        &self.files
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
        self.answer(&Request::completion(prompt, more))
    }

    /// Returns the answer to a chat completion of `messages`.
    ///
    /// # Errors
    /// As [`Service::completion`].
    pub fn chat(&self, messages: &Value, more: &Value) -> Result<Reply> {
        self.answer(&Request::chat(messages, more))
    }

    /// Returns the answer to a request, which is kept.
    pub(crate) fn answer(&self, request: &Request) -> Result<Reply> {
        self.ask(request, true)?.map_err(|answer| self.refused(&answer))
    }

    /// OpenRouter sends requests to providers that ignore what they do not know, unless it is told not
    /// to; and it says what a request cost if it is asked.
    fn extend_for_provider(&self, body: &mut Value) {
        if self.software.as_ref().is_some_and(|software| software.name == "OpenRouter") {
            body["provider"] = json!({ "require_parameters": true });
            body["usage"] = json!({ "include": true });
        }
    }

    /// Returns the answer to a request, from those that are kept where `kept` says so, or what the
    /// server says against it.
    pub(crate) fn ask(&self, request: &Request, kept: bool) -> Result<Asked> {
        let body = self.body(request);
        let store = self.store.as_ref().filter(|_| kept);
        let Some(store) = store else { return self.paid(request, &body, kept) };
        let key = self.answer_key(request, &body)?;
        if let Some(reply) = store.get(&key, None)? {
            self.meter.count_kept();
            return Ok(Ok(reply));
        }
        let asked = self.paid(request, &body, kept)?;
        if let Ok(reply) = &asked {
            store.put(&key, (&self.address.url, &self.model), reply)?;
        }
        Ok(asked)
    }

    /// The JSON that is sent.
    fn body(&self, request: &Request) -> Value {
        let mut body = request.body(&self.model);
        if matches!(request.endpoint, Endpoint::Completions | Endpoint::Chat) {
            self.extend_for_provider(&mut body);
        }
        body
    }

    /// The key of the answer to a request.
    fn answer_key(&self, request: &Request, body: &Value) -> Result<super::store::Key> {
        let epoch = self.now()?.epoch;
        let (_, path) = request.path();
        let asked = json!([path, body, request.wanted.key(), self.identity, epoch]);
        Ok(AnswerStore::key(&self.address.url, &self.model, &asked))
    }

    /// Returns whether the answer to a request is kept; of a server that is not there none is known.
    ///
    /// # Errors
    /// When the store cannot be read, or the server does not say which model it has.
    pub(crate) fn is_kept(&self, request: &Request) -> Result<bool> {
        let Some(store) = self.store.as_ref().filter(|_| self.is_there) else { return Ok(false) };
        let key = self.answer_key(request, &self.body(request))?;
        Ok(store.get::<Reply>(&key, None)?.is_some())
    }

    /// Sends a request, whatever is kept.
    fn paid(&self, request: &Request, body: &Value, kept: bool) -> Result<Asked> {
        let reserved =
            self.meter.reserve(request.most_tokens() + MOST_ADDED, request.most_written())?;
        // What is only tried may be what the server cannot do.
        let most_forms = if kept { u32::MAX } else { FEW_TRIES };
        let asked = self.send(request, body, most_forms);
        self.meter.settle(&reserved, asked.as_ref().ok().and_then(|asked| asked.as_ref().ok()));
        let mut asked = asked?;
        if let Ok(reply) = &mut asked {
            reply.reduce(&request.wanted);
        }
        Ok(asked)
    }

    fn send(&self, request: &Request, body: &Value, most_forms: u32) -> Result<Asked> {
        let (at_root, path) = request.path();
        let base = if at_root { self.address.root() } else { &self.address.url };
        let url = format!("{base}/{path}");
        let echoed = body.get("echo").and_then(Value::as_bool).unwrap_or(false);
        let labels: Vec<u32> = body
            .get("label_token_ids")
            .and_then(Value::as_array)
            .map(|ids| ids.iter().filter_map(|id| id.as_u64().map(|id| id as u32)).collect())
            .unwrap_or_default();
        let text = match &request.prompt {
            Prompt::Text(text) => text.as_str(),
            _ => "",
        };
        let read = |json: &Value| match request.endpoint {
            Endpoint::Completions => Reply::completion(json, text, echoed),
            Endpoint::Chat => Reply::chat(json),
            Endpoint::Generate => Reply::generated(json),
            Endpoint::Score => Reply::scored(json, &labels),
        };
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

    /// Returns the error for what the server says against a request.
    pub(crate) fn refused(&self, answer: &Answer) -> Error {
        refusal::refused(&self.client, &self.address.url, answer)
    }

    /// What was found out about the server lately, and while the same model stood behind the name.
    pub(super) fn remembered<T: for<'a> Deserialize<'a>>(&self, what: &Value) -> Result<Option<T>> {
        const MOST: Duration = Duration::from_secs(24 * 3600);
        let Some(store) = &self.store else { return Ok(None) };
        store.get(&self.fact_key(what)?, Some(MOST))
    }

    /// Keeps what was found out about the server.
    pub(super) fn remember<T: Serialize>(&self, what: &Value, found: &T) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        store.put(&self.fact_key(what)?, (&self.address.url, &self.model), found)
    }

    fn fact_key(&self, what: &Value) -> Result<super::store::Key> {
        let software = self.software.as_ref().map(|software| &software.name);
        let fact = json!(["found", software, what, self.identity, self.now()?.epoch]);
        Ok(AnswerStore::key(&self.address.url, &self.model, &fact))
    }
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN_MODELS);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
