//! A server on the loopback interface that answers as OpenAI-compatible ones do, from a local model
//! or as a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tch::Tensor;
use w2s::lm::{DeviceChoice, DtypeChoice, NewTokens};
use w2s::score::{HttpScorer, HttpScorerOptions, LmScorer, LmScorerOptions, Scorer};
use w2s::server::NamedBy;
use w2s::server::{AnswerStore, ClientOptions, Meter, ServerAddress, Service, ServiceOptions};

use crate::common::tiny;

pub const NAME: &str = "org/tiny";

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub body: Value,
    pub authorization: Option<String>,
}

impl Asked {
    /// Whether it only asks which model it is, as each run with a store does once.
    pub fn is_canary(&self) -> bool {
        let text = "Question: Does the moon";
        let chat = self.body["messages"][0]["content"].as_str().unwrap_or_default();
        // As a text; as tokens it is one of the probe's.
        self.prompt().starts_with(text) || chat.starts_with(text)
    }

    /// Whether it asks for what a run wants.
    pub fn is_paid(&self) -> bool {
        !self.is_canary() && self.is_endpoint()
    }

    fn is_endpoint(&self) -> bool {
        self.path.ends_with("completions")
            || ["/generate", "/v1/score"].contains(&self.path.as_str())
    }

    pub fn prompt(&self) -> &str {
        self.body["prompt"].as_str().unwrap_or_default()
    }
}

/// What the server does.
pub enum Say {
    Json(Value),
    Status(u16, &'static str, Value),
    Text(&'static str),
    Page(String),
    /// Half an answer, and the line is cut.
    Cut,
    /// No answer at all, ever.
    Silence,
}

pub struct Stub {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// A server that does what `answer` says, one request after the other.
    pub fn new(mut answer: impl FnMut(&Asked) -> Say + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let Some(request) = read(&stream) else { continue };
                log.lock().unwrap().push(request.clone());
                match answer(&request) {
                    Say::Json(body) => send(&mut stream, 200, "", &body.to_string()),
                    Say::Status(status, head, body) => {
                        send(&mut stream, status, head, &body.to_string());
                    }
                    Say::Text(body) => send(&mut stream, 200, "", body),
                    Say::Page(body) => send(&mut stream, 200, "", &body),
                    Say::Cut => {
                        let head = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"choices\"";
                        let _ = stream.write_all(head.as_bytes());
                    }
                    Say::Silence => silent.push(stream),
                }
            }
        });
        Self { address, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Requests that would have cost something.
    pub fn num_paid(&self) -> usize {
        self.asked().iter().filter(|asked| asked.is_paid()).count()
    }

    /// The address with the model's name.
    pub fn model(&self) -> String {
        format!("{}#{NAME}", self.address)
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Asked { path, body, authorization })
}

fn send(stream: &mut TcpStream, status: u16, head: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{head}\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes());
}

/// What a server that answers from a local model has.
#[derive(Clone, Copy, Debug)]
pub struct Has {
    pub echo: bool,
    /// Echo's numbers are those of the token before.
    pub echo_is_off: bool,
    pub prompt_logprobs: bool,
    pub most_top: usize,
    pub completions: bool,
    pub chat: bool,
    /// Whether tokens have texts only.
    pub no_ids: bool,
    /// Ways to name tokens.
    pub named: &'static [NamedBy],
    /// Whether `logit_bias` is in the numbers, as with OpenAI.
    pub bias_is_in: bool,
    /// Whether it tells the tokens of a text.
    pub tokenizes: bool,
}

pub const ALL: Has = Has {
    echo: true,
    echo_is_off: false,
    prompt_logprobs: true,
    most_top: 384,
    completions: true,
    chat: false,
    no_ids: false,
    named: &[],
    bias_is_in: false,
    tokenizes: false,
};

/// A local model as its server sees it.
pub struct Model {
    lm: LmScorer,
    has: Has,
}

impl Model {
    pub fn new(name: &str, has: Has) -> Self {
        Self { lm: local(name), has }
    }

    /// The model with an adapter.
    pub fn with_adapter(name: &str, has: Has, adapter: &std::path::Path) -> Self {
        Self { lm: local(name).with_adapter(adapter).unwrap(), has }
    }

    /// The list of models, and completions by the model's numbers.
    pub fn answer(&self, asked: &Asked) -> Say {
        match asked.path.as_str() {
            "/v1/models" => models(),
            "/v1/completions" if self.has.completions => self.completion(&asked.body),
            "/v1/chat/completions" if self.has.chat => self.chat(&asked.body),
            "/tokenize" if self.has.tokenizes => self.tokenize(&asked.body),
            "/generate" if self.has.named.contains(&NamedBy::Generate) => {
                self.generate(&asked.body)
            }
            "/v1/score" if self.has.named.contains(&NamedBy::Score) => self.score(&asked.body),
            _ => Say::Status(404, "", json!({ "detail": "Not Found" })),
        }
    }

    fn text_of(&self, id: u32) -> String {
        self.lm.tokenizer().decode(&[id]).unwrap()
    }

    fn name_of(&self, id: u32, body: &Value) -> String {
        match body["return_tokens_as_token_ids"] == true && !self.has.no_ids {
            true => format!("token_id:{id}"),
            false => self.text_of(id),
        }
    }

    /// The tokens of a prompt: as they were sent, or of a text with the special ones before it.
    fn ids(&self, prompt: &Value) -> Vec<u32> {
        if let Some(ids) = prompt.as_array() {
            return ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
        }
        let tokenizer = self.lm.tokenizer();
        let tokens = tokenizer.encode(prompt.as_str().unwrap()).unwrap();
        [tokenizer.prefix(), &tokens.ids].concat()
    }

    /// The tokens of a prompt, and all log-probabilities after each.
    fn run(&self, prompt: &Value) -> (Vec<u32>, Tensor) {
        let (decoder, ids) = (self.lm.decoder(), self.ids(prompt));
        let parents: Vec<Option<usize>> = (0..ids.len()).map(|i| i.checked_sub(1)).collect();
        let new = NewTokens { ids: &ids, parents: &parents };
        let _no_grad = tch::no_grad_guard();
        let x_ld = decoder.forward(new, &mut decoder.new_cache()).unwrap();
        (ids, decoder.log_probs(&x_ld))
    }

    fn top(&self, logprobs_lv: &Tensor, at: usize, num: usize) -> Vec<(u32, f64)> {
        let row = logprobs_lv.get(at as i64);
        let all: Vec<f64> = Vec::try_from(row.to_kind(tch::Kind::Double)).unwrap();
        let mut all: Vec<(u32, f64)> = (0..).zip(all).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(num);
        all
    }

    fn completion(&self, body: &Value) -> Say {
        let refuse =
            |what: &str| Say::Status(400, "", json!({ "error": { "message": what, "code": 400 } }));
        let num_top = body["logprobs"].as_u64().unwrap_or(0) as usize;
        if num_top > self.has.most_top {
            let most = self.has.most_top;
            return refuse(&format!(
                "Requested sample logprobs of {num_top}, which is greater than max allowed: {most}"
            ));
        }
        if body["echo"] == true && !self.has.echo {
            return refuse("echo is not supported");
        }
        if let Some(say) = self.named(body) {
            return say;
        }
        let prompt = body["prompt"].as_str().unwrap_or_default();
        let (ids, logprobs_lv) = self.run(&body["prompt"]);
        if ids.len() > 500 {
            return refuse("This model's maximum context length is 500 tokens.");
        }
        let value = |at: usize| logprobs_lv.double_value(&[at as i64 - 1, i64::from(ids[at])]);
        let last = ids.len() - 1;
        let next = self.top(&logprobs_lv, last, num_top.max(1));
        let (mut tokens, mut values, mut tops) = (Vec::new(), Vec::new(), Vec::new());
        if body["echo"] == true {
            for (at, id) in ids.iter().enumerate() {
                tokens.push(self.name_of(*id, body));
                let shifted = if self.has.echo_is_off { at.saturating_sub(1) } else { at };
                values.push(if at == 0 || shifted == 0 {
                    Value::Null
                } else {
                    value(shifted).into()
                });
                tops.push(Value::Null);
            }
        }
        tokens.push(self.name_of(next[0].0, body));
        values.push(next[0].1.into());
        let top: Map<String, Value> =
            next.iter().map(|(id, lp)| (self.name_of(*id, body), (*lp).into())).collect();
        tops.push(top.into());
        let written = self.text_of(next[0].0);
        let echoed = if body["echo"] == true { prompt } else { "" };
        let mut choice = json!({ "text": format!("{echoed}{written}"), "finish_reason": "length" });
        if body.get("logprobs").is_some() {
            choice["logprobs"] =
                json!({ "tokens": tokens, "token_logprobs": values, "top_logprobs": tops });
        }
        if let (Some(num), true) = (body["prompt_logprobs"].as_u64(), self.has.prompt_logprobs) {
            let place = |at: usize| {
                if at == 0 {
                    return Value::Null;
                }
                let entry = |id: u32, lp: f64, rank: usize| json!({ "logprob": lp, "rank": rank, "decoded_token": self.text_of(id) });
                let all = self.top(&logprobs_lv, at - 1, usize::MAX);
                let rank = all.iter().position(|(id, _)| *id == ids[at]).unwrap();
                let mut map = Map::new();
                for (rank, (id, lp)) in all.iter().enumerate().take(num as usize) {
                    map.insert(id.to_string(), entry(*id, *lp, rank + 1));
                }
                map.insert(ids[at].to_string(), entry(ids[at], value(at), rank + 1));
                map.into()
            };
            choice["prompt_logprobs"] = (0..ids.len()).map(place).collect::<Vec<_>>().into();
        }
        Say::Json(json!({
            "model": NAME,
            "choices": [choice],
            "usage": { "prompt_tokens": ids.len(), "completion_tokens": 1 },
        }))
    }

    fn tokenize(&self, body: &Value) -> Say {
        let ids = self.ids(&body["prompt"]);
        let skipped = match body["add_special_tokens"] == false {
            true => self.lm.tokenizer().prefix().len(),
            false => 0,
        };
        Say::Json(json!({ "count": ids.len() - skipped, "max_model_len": 500,
            "tokens": &ids[skipped..] }))
    }

    fn after(&self, prompt: &Value) -> (Vec<u32>, impl Fn(u32) -> f64 + use<>) {
        let (ids, logprobs_lv) = self.run(prompt);
        let last = ids.len() as i64 - 1;
        (ids, move |id: u32| logprobs_lv.double_value(&[last, i64::from(id)]))
    }

    /// An answer by one of the ways to name tokens, if the request is one and the server has it; it is
    /// not looked at if not.
    fn named(&self, body: &Value) -> Option<Say> {
        let has =
            |way: NamedBy, name: &str| self.has.named.contains(&way) && body[name] != Value::Null;
        let list = |name: &str| -> Vec<u32> {
            let ids = body[name].as_array().into_iter().flatten();
            ids.map(|id| id.as_u64().unwrap() as u32).collect()
        };
        let mut prompt: Vec<u32> = self.ids(&body["prompt"]);
        let num_in = prompt.len();
        let after = |prompt: &[u32]| self.after(&json!(prompt)).1;
        let (mut written, mut top) = (Vec::new(), Map::new());
        if has(NamedBy::LogprobTokenIds, "logprob_token_ids") {
            // The token that is written, and those that are named.
            let (_, all) = self.run(&body["prompt"]);
            let (first, logprob) = self.top(&all, num_in - 1, 1)[0];
            let value = after(&prompt);
            written.push((first, logprob));
            for id in list("logprob_token_ids").into_iter().chain([first]) {
                top.insert(self.name_of(id, body), value(id).into());
            }
        } else if has(NamedBy::AllowedTokenIds, "allowed_token_ids") {
            let id = list("allowed_token_ids")[0];
            written.push((id, after(&prompt)(id)));
        } else if has(NamedBy::LogitBias, "logit_bias") {
            let id =
                body["logit_bias"].as_object().unwrap().keys().next().unwrap().parse().unwrap();
            let raw = after(&prompt)(id);
            written.push((id, if self.has.bias_is_in { -1e-9 } else { raw }));
        } else if has(NamedBy::Grammar, "grammar") {
            for part in body["grammar"].as_str().unwrap().split("<[").skip(1) {
                let id = part.split(']').next().unwrap().parse().unwrap();
                written.push((id, after(&prompt)(id)));
                prompt.push(id);
            }
        } else {
            return None;
        }
        let entry = |(id, logprob): &(u32, f64)| {
            json!({ "id": id, "token": self.text_of(*id),
            "logprob": logprob, "top_logprobs": [] })
        };
        let logprobs = match has(NamedBy::Grammar, "grammar") {
            true => json!({ "content": written.iter().map(entry).collect::<Vec<_>>() }),
            false => json!({ "tokens": [self.name_of(written[0].0, body)],
                "token_logprobs": [written[0].1], "top_logprobs": [top] }),
        };
        Some(Say::Json(json!({
            "model": NAME,
            "choices": [{ "text": self.text_of(written[0].0), "finish_reason": "length",
                "logprobs": logprobs }],
            "usage": { "prompt_tokens": num_in, "completion_tokens": written.len() },
        })))
    }

    /// In the form of SGLang.
    fn generate(&self, body: &Value) -> Say {
        let (ids, value) = self.after(&body["input_ids"]);
        let triple = |id: &Value| json!([value(id.as_u64().unwrap() as u32), id, null]);
        let named: Vec<Value> =
            body["token_ids_logprob"].as_array().unwrap().iter().map(triple).collect();
        Say::Json(json!({ "text": "x", "output_ids": [7], "meta_info": {
            "id": "1", "finish_reason": { "type": "length", "length": 1 },
            "prompt_tokens": ids.len(), "weight_version": "default",
            "input_token_logprobs": [], "output_token_logprobs": [[value(7), 7, null]],
            "input_token_ids_logprobs": [], "output_token_ids_logprobs": [named],
            "completion_tokens": 1, "cached_tokens": 0, "e2e_latency": 0.1 } }))
    }

    /// In the form of SGLang: probabilities.
    fn score(&self, body: &Value) -> Say {
        let joint = [&body["query"], &body["items"][0]];
        let joint: Vec<Value> =
            joint.iter().flat_map(|part| part.as_array().unwrap().clone()).collect();
        let (ids, value) = self.after(&Value::Array(joint));
        let score = |id: &Value| value(id.as_u64().unwrap() as u32).exp();
        let scores: Vec<f64> =
            body["label_token_ids"].as_array().unwrap().iter().map(score).collect();
        Say::Json(json!({ "scores": [scores], "model": NAME, "object": "scoring",
            "usage": { "prompt_tokens": ids.len(), "total_tokens": ids.len() } }))
    }

    fn chat(&self, body: &Value) -> Say {
        let (ids, logprobs_lv) = self.run(&body["messages"][0]["content"]);
        let num = body["top_logprobs"].as_u64().unwrap_or(1) as usize;
        let top = self.top(&logprobs_lv, ids.len() - 1, num.min(self.has.most_top));
        let entry = |(id, lp): &(u32, f64)| json!({ "token": self.text_of(*id), "logprob": lp });
        let all: Vec<Value> = top.iter().map(entry).collect();
        let mut first = all[0].clone();
        first["top_logprobs"] = all.into();
        Say::Json(json!({
            "model": NAME,
            "choices": [{
                "message": { "role": "assistant", "content": self.text_of(top[0].0) },
                "finish_reason": "length",
                "logprobs": { "content": [first] },
            }],
            "usage": { "prompt_tokens": ids.len(), "completion_tokens": 1 },
        }))
    }
}

pub fn models() -> Say {
    Say::Json(
        json!({ "data": [{ "id": "other" }, { "id": NAME, "owned_by": "me", "max_model_len": 500 }] }),
    )
}

pub fn local(name: &str) -> LmScorer {
    let options = LmScorerOptions {
        device: DeviceChoice::Cpu,
        dtype: DtypeChoice::F32,
        ..LmScorerOptions::default()
    };
    LmScorer::open(&tiny(name), options).unwrap()
}

/// A server that answers from a tiny model.
pub fn of_model(name: &'static str, has: Has) -> Stub {
    // Opened here: libtorch's first use should not be in a thread that nobody waits for.
    let model = Model::new(name, has);
    Stub::new(move |asked| model.answer(asked))
}

/// Waits for nothing, and retries at once.
pub fn at_once() -> ClientOptions {
    ClientOptions {
        sleep: Arc::new(|_| {}),
        num_retries: 2,
        deadline: Duration::from_secs(30),
        ..ClientOptions::default()
    }
}

pub fn connect(
    stub: &Stub,
    client: ClientOptions,
    store: Option<AnswerStore>,
) -> w2s::error::Result<Service> {
    let address = ServerAddress::parse(&stub.model())?;
    Service::connect(
        &address,
        ServiceOptions { client, concurrency: 3, store, meter: Meter::default() },
    )
}

pub fn scorer(stub: &Stub, options: HttpScorerOptions) -> HttpScorer {
    HttpScorer::new(connect(stub, at_once(), None).unwrap(), options).unwrap()
}

/// Forces the use of a trait's method without naming the trait in every test.
pub fn score(
    scorer: &mut impl Scorer,
    tree: &w2s::score::PromptTree,
) -> w2s::error::Result<Vec<w2s::score::LabelScores>> {
    scorer.score(tree).map(|(scores, _)| scores)
}
