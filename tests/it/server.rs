//! Servers: their numbers are the local scorer's on every route, and each fault has its error.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use w2s::error::{Error, ErrorKind};
use w2s::score::{HttpScorer, HttpScorerOptions, LabelScores, PromptTree, RouteKind, Scorer};
use w2s::server::{AnswerStore, ApiKey, ClientOptions};

use crate::common::tiny;
use crate::server_stub::{
    ALL, Has, NAME, Say, Stub, at_once, connect, local, models, of_model, score, scorer,
};

/// Prompts that share beginnings, end in a blank, and labels of one token and of several.
pub fn forest(labels: &[&str]) -> PromptTree {
    let labels = PromptTree::labels(labels.iter().copied());
    let mut tree = PromptTree::new();
    let start = tree.child(PromptTree::ROOT, "Judge every claim.\n\n");
    let mut node = start;
    for i in 0..3 {
        let item = tree.child(node, format!("Claim: {i} + {i} = {}\nThis claim is ", 2 * i));
        tree.ask(item, format!("sum {i}"), &labels);
        let other = tree.child(node, format!("Claim: {i} is odd, naive cafe\nThis is"));
        tree.ask(other, format!("odd {i}"), &labels);
        node = tree.child(node, format!("Claim: {i} > {}\nThis claim is True\n\n", i + 1));
    }
    tree
}

pub const LONG: [&str; 3] = [" True", " False", " Unknown, perhaps"];

pub fn assert_same(ours: &[LabelScores], theirs: &[LabelScores], what: &str) {
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        assert_eq!(a.num_tokens, b.num_tokens, "{what}");
        assert_eq!(a.num_prompt_tokens, b.num_prompt_tokens, "{what}");
        for (x, y) in a.logprobs.iter().zip(&b.logprobs) {
            assert!((x - y).abs() < 1e-4, "{what}: {x} and {y}");
        }
    }
}

pub fn with(route: RouteKind, tokenizer: Option<&str>) -> HttpScorerOptions {
    HttpScorerOptions {
        route: Some(route),
        top_k: 384,
        max_misses: 0.0,
        tokenizer: tokenizer.map(tiny),
        ..HttpScorerOptions::default()
    }
}

/// The numbers of a model over HTTP are those of the model here, whichever way they are got.
#[test]
fn every_route_gives_the_local_numbers() {
    for name in ["llama", "gpt2"] {
        let tree = forest(&LONG);
        let expected = score(&mut local(name), &tree).unwrap();
        let stub = of_model(name, ALL);
        for route in [RouteKind::Echo, RouteKind::PromptLogprobs, RouteKind::TopK] {
            let mut there = scorer(&stub, with(route, Some(name)));
            let found = score(&mut there, &tree).unwrap();
            assert_same(&found, &expected, &format!("{name}, {route}, tokenizer"));
            assert_eq!(there.route_taken(), Some(route));
            assert_eq!(there.misses().num_missed, 0);
        }
        for route in [RouteKind::Echo, RouteKind::PromptLogprobs] {
            let found = score(&mut scorer(&stub, with(route, None)), &tree).unwrap();
            assert_same(&found, &expected, &format!("{name}, {route}"));
        }
        // By texts only, as most servers tell tokens.
        let texts = of_model(name, Has { no_ids: true, ..ALL });
        let found = score(&mut scorer(&texts, with(RouteKind::TopK, Some(name))), &tree).unwrap();
        assert_same(&found, &expected, &format!("{name}, top-k by texts"));
    }
}

/// Without a tokenizer a blank goes with its word, as the rule of the border says.
#[test]
fn single_tokens_need_no_tokenizer() {
    let lm = local("llama");
    let words: Vec<String> = ["a", "t", "c", "s", "w", "b", "f", "m"]
        .iter()
        .filter(|word| {
            let joint = lm.tokenizer().encode(&format!("is {word}")).unwrap();
            joint.ids.len() - joint.boundary("is ".len()) == 1
                && joint.text[joint.ends[joint.ids.len() - 2]..] == format!(" {word}")
        })
        .map(|word| (*word).to_owned())
        .collect();
    assert!(words.len() >= 2, "{words:?}");
    let mut tree = PromptTree::new();
    let labels = PromptTree::labels(words[..2].iter().cloned());
    for i in 0..3 {
        let node = tree.child(PromptTree::ROOT, format!("Number {i} is "));
        tree.ask(node, format!("{i}"), &labels);
    }
    let expected = score(&mut local("llama"), &tree).unwrap();
    let stub = of_model("llama", ALL);
    let found = score(&mut scorer(&stub, with(RouteKind::TopK, None)), &tree).unwrap();
    assert_same(&found, &expected, "top-k");
    // One request a prompt for both labels, in depth-first order, after the one of the probe.
    let prompts: Vec<String> = stub
        .asked()
        .iter()
        .filter(|a| a.is_paid())
        .skip(1)
        .map(|a| a.prompt().to_owned())
        .collect();
    assert_eq!(prompts.len(), 3);
    assert!(prompts.iter().all(|prompt| prompt.ends_with(" is")), "{prompts:?}");
}

/// The best route that works is taken, and one whose numbers are wrong does not work.
#[test]
fn the_probe_takes_the_best_route_that_is_right() {
    let route = |has: Has| scorer(&of_model("llama", has), HttpScorerOptions::default()).route();
    assert_eq!(route(ALL).unwrap(), RouteKind::Echo);
    assert_eq!(route(Has { echo: false, ..ALL }).unwrap(), RouteKind::PromptLogprobs);
    assert_eq!(route(Has { echo_is_off: true, ..ALL }).unwrap(), RouteKind::PromptLogprobs);
    let few = Has { echo_is_off: true, prompt_logprobs: false, most_top: 5, ..ALL };
    let stub = of_model("llama", few);
    let there = scorer(&stub, HttpScorerOptions::default());
    assert_eq!(there.route().unwrap(), RouteKind::TopK);
    assert_eq!(there.found().top_k, 5);
    let no = format!("{:?}", there.found().echo);
    assert!(no.contains("its numbers are wrong"), "{no}");
    let chat = Has { completions: false, chat: true, ..ALL };
    assert_eq!(route(chat).unwrap(), RouteKind::Chat);
    let error = route(Has { completions: false, ..ALL }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
    let text = error.to_string();
    assert!(text.contains("no log-probabilities") && text.contains("echo: 404"), "{text}");
}

/// A chat's first tokens: the label's share is that of all tokens that begin it.
#[test]
fn chats_are_asked_for_their_first_token() {
    let has = Has { completions: false, chat: true, ..ALL };
    let stub = of_model("llama", has);
    let options = HttpScorerOptions { top_k: 384, max_misses: 1.0, ..HttpScorerOptions::default() };
    let mut there = scorer(&stub, options);
    let prompt = there.chat("Is it so?").unwrap();
    let labels = PromptTree::labels(["e", "t"]);
    let mut tree = PromptTree::new();
    let node = tree.child(PromptTree::ROOT, prompt);
    tree.ask(node, "q", &labels);
    let found = score(&mut there, &tree).unwrap();
    assert_eq!(there.route_taken(), Some(RouteKind::Chat));
    // By hand: all tokens that are the word but for blanks.
    let lm = local("llama");
    let mut plain = PromptTree::new();
    let node = plain.child(PromptTree::ROOT, "Is it so?");
    let both = PromptTree::labels(["e", " e"]);
    plain.ask(node, "q", &both);
    let is_one = |word: &str| lm.tokenizer().encode(word).unwrap().ids.len() == 1;
    assert!(is_one("e"));
    let expected = score(&mut local("llama"), &plain).unwrap();
    let mut sum = expected[0].logprobs[0].exp();
    if is_one(" e") {
        sum += expected[0].logprobs[1].exp();
    }
    assert!((found[0].logprobs[0] - sum.ln()).abs() < 1e-4, "{found:?}");
    let last = stub.asked().last().unwrap().clone();
    assert_eq!(last.body["messages"], json!([{ "role": "user", "content": "Is it so?" }]));
}

/// A stub whose completions fail as told, and otherwise answer that ` a` and ` b` are likely.
fn faulty(mut fault: impl FnMut(usize) -> Option<Say> + Send + 'static) -> Stub {
    let mut num = 0;
    Stub::new(move |asked| {
        if !asked.is_paid() {
            return match asked.path.as_str() {
                "/v1/models" => models(),
                "/v1/completions" => Say::Json(likely(asked.prompt(), NAME)),
                _ => not_found(),
            };
        }
        num += 1;
        fault(num).unwrap_or_else(|| Say::Json(likely(asked.prompt(), NAME)))
    })
}

fn not_found() -> Say {
    Say::Status(404, "", json!({ "detail": "Not Found" }))
}

fn likely(prompt: &str, model: &str) -> Value {
    json!({
        "model": model,
        "choices": [{ "text": " a", "finish_reason": "length", "logprobs": {
            "tokens": [" a"], "token_logprobs": [-0.5],
            "top_logprobs": [{ " a": -0.5, " b": -1.5 }] } }],
        "usage": { "prompt_tokens": prompt.len(), "completion_tokens": 1 },
    })
}

fn question(prompt: &str, labels: [&str; 2]) -> PromptTree {
    let mut tree = PromptTree::new();
    let node = tree.child(PromptTree::ROOT, prompt);
    tree.ask(node, "item-7", &PromptTree::labels(labels));
    tree
}

fn top_k() -> HttpScorerOptions {
    HttpScorerOptions {
        route: Some(RouteKind::TopK),
        max_misses: 0.0,
        ..HttpScorerOptions::default()
    }
}

/// Scores a question at a stub with these options.
fn ask(stub: &Stub, client: ClientOptions, labels: [&str; 2]) -> Result<Vec<LabelScores>, Error> {
    let service = connect(stub, client, None)?;
    score(&mut HttpScorer::new(service, top_k()).unwrap(), &question("It is ", labels))
}

#[test]
fn what_passes_is_tried_again_and_waited_for() {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&waits);
    let client = ClientOptions {
        sleep: Arc::new(move |wait| log.lock().unwrap().push(wait)),
        num_retries: 4,
        ..at_once()
    };
    let stub = faulty(|num| match num {
        2 => Some(Say::Status(429, "Retry-After: 7\r\n", json!({ "error": "slow down" }))),
        3 => Some(Say::Status(500, "", json!({ "error": { "message": "oops" } }))),
        4 => Some(Say::Cut),
        _ => None,
    });
    let found = ask(&stub, client, ["a", "b"]).unwrap();
    assert_eq!(found[0].logprobs, [-0.5, -1.5]);
    assert_eq!(stub.num_paid(), 5);
    let waits = waits.lock().unwrap();
    assert_eq!(waits.len(), 3);
    // No sooner than the server says, and with jitter that grows: 0.5 s, 1 s, 2 s at most.
    assert!(waits[0] >= Duration::from_secs(7) && waits[0] <= Duration::from_millis(7500));
    assert!(waits[1] <= Duration::from_secs(1) && waits[2] <= Duration::from_secs(2));
}

#[test]
fn each_fault_has_its_error() {
    let client = at_once;
    let fails = |stub: Stub, client: ClientOptions, kind: ErrorKind, words: &[&str]| {
        let error = ask(&stub, client, ["a", "b"]).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    let always = |say: fn() -> Say| faulty(move |num| (num > 1).then(say));
    fails(
        always(|| Say::Status(429, "Retry-After: 1\r\n", json!({ "message": "busy" }))),
        client(),
        ErrorKind::Server,
        &["asked too often after 3 tries", "429", "busy", "--requests-per-second"],
    );
    fails(
        always(|| Say::Status(429, "Retry-After: 86400\r\n", json!({}))),
        client(),
        ErrorKind::Server,
        &["86400 s"],
    );
    fails(
        always(|| Say::Status(500, "", json!({ "error": { "message": "oops" } }))),
        client(),
        ErrorKind::Server,
        &["fails after 3 tries (500): oops"],
    );
    fails(always(|| Say::Cut), client(), ErrorKind::Server, &["cannot be reached after 3 tries"]);
    let slow = ClientOptions { deadline: Duration::from_millis(150), num_retries: 1, ..client() };
    fails(
        always(|| Say::Silence),
        slow,
        ErrorKind::Server,
        &["no answer within 0.15 s after 2 tries", "--deadline"],
    );
    fails(
        always(|| Say::Text("<html>hello</html>")),
        client(),
        ErrorKind::Server,
        &["not JSON", "<html>hello"],
    );
    fails(
        always(|| Say::Json(json!({ "hello": 1 }))),
        client(),
        ErrorKind::Server,
        &["no completion", "`choices`"],
    );
    // Some providers drop them without a word.
    fails(
        always(|| Say::Json(json!({ "choices": [{ "text": " a", "finish_reason": "length" }] }))),
        client(),
        ErrorKind::Server,
        &["example `item-7`", "lacks the log-probabilities"],
    );
    fails(
        always(|| Say::Json(likely("", "another-7b"))),
        client(),
        ErrorKind::Server,
        &["`another-7b` answered, expected the model `org/tiny`"],
    );
    for status in [400, 500] {
        let stub = faulty(move |num| {
            let message = "Requested tokens (9000) exceed context window of 512";
            let body = json!({ "error": { "message": message } });
            (num > 1).then(|| Say::Status(status, "", body))
        });
        let words = ["example `item-7`", "too long for the server", "of 512", "--max-context"];
        fails(stub, client(), ErrorKind::Context, &words);
    }
}

#[test]
fn a_label_outside_the_top_is_counted_and_never_zero() {
    let stub = faulty(|_| None);
    let error = ask(&stub, at_once(), ["a", "c"]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("1 of 2 labels are not among the 2 most likely"), "{text}");
    assert!(text.contains("--max-misses 0"), "{text}");
    let service = connect(&stub, at_once(), None).unwrap();
    let lenient = HttpScorerOptions { max_misses: 0.5, ..top_k() };
    let mut there = HttpScorer::new(service, lenient).unwrap();
    let found = score(&mut there, &question("It is ", ["a", "c"])).unwrap();
    // No more than ` b`, and than what ` a` and ` b` leave.
    let left = (1.0 - (-0.5_f64).exp() - (-1.5_f64).exp()).ln();
    assert_eq!(found[0].logprobs[0], -0.5);
    assert!((found[0].logprobs[1] - left).abs() < 1e-12 && left < -1.5, "{found:?}");
    assert_eq!((there.misses().num_labels, there.misses().num_missed), (2, 1));
}

#[test]
fn servers_are_known_before_anything_is_paid() {
    // Nobody listens there: the port was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gone = w2s::server::ServerAddress::parse(&format!("http://127.0.0.1:{port}/v1#x")).unwrap();
    let service = |address: w2s::server::ServerAddress, client| {
        let (store, meter) = (None, w2s::server::Meter::default());
        let options = w2s::server::ServiceOptions { client, concurrency: 1, store, meter };
        w2s::server::Service::connect(&address, options)
    };
    let error = service(gone, at_once()).unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains("check the address"), "{error}");

    let stub = faulty(|_| None);
    let at =
        |name: &str| w2s::server::ServerAddress::parse(&format!("{}{name}", stub.address)).unwrap();
    let error = service(at("#org/large"), at_once()).unwrap_err().to_string();
    assert!(error.contains("does not serve the model `org/large`"), "{error}");
    assert!(error.contains("it serves: other, org/tiny"), "{error}");
    let error = service(at(""), at_once()).unwrap_err().to_string();
    assert!(error.contains("serves 2 models; name one"), "{error}");
    assert_eq!(stub.num_paid(), 0);
}

const KEY: &str = "sk-very-secret-0123456789";

#[test]
fn a_wrong_key_is_named_and_never_shown() {
    let stub = Stub::new(|asked| match asked.authorization.as_deref() {
        Some("Bearer right-key-right-key") => models(),
        other => {
            // Servers repeat the key, or a part of it.
            let said = format!("bad key {}, sk-very-****23456789", other.unwrap_or("(none)"));
            Say::Status(401, "", json!({ "error": { "message": said } }))
        }
    });
    let with = |key: Option<&str>| {
        let key = key.map(|key| ApiKey::new(key).unwrap());
        connect(&stub, ClientOptions { key, ..at_once() }, None)
    };
    let error = with(Some(KEY)).unwrap_err().to_string();
    assert!(error.contains("does not take the key (401)"), "{error}");
    assert!(!error.contains("very-secret") && !error.contains("23456789"), "{error}");
    let error = with(None).unwrap_err().to_string();
    assert!(error.contains("wants a key") && error.contains("W2S_API_KEY"), "{error}");
    assert!(with(Some("right-key-right-key")).is_ok());
}

#[test]
fn another_models_tokenizer_is_found_out() {
    // A tokenizer that knows no merges cuts the words in letters.
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tokenizer.json");
    let text = std::fs::read_to_string(tiny("llama").join("tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["model"]["merges"] = json!([]);
    std::fs::write(&file, json.to_string()).unwrap();
    let stub = of_model("llama", ALL);
    for route in [RouteKind::Echo, RouteKind::PromptLogprobs, RouteKind::TopK] {
        let options = HttpScorerOptions { tokenizer: Some(file.clone()), ..with(route, None) };
        let error = score(&mut scorer(&stub, options), &forest(&LONG)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tokenizer, "{error}");
        assert!(error.to_string().contains("not that of the served model"), "{error}");
    }
}

/// What was answered is on the disk before it is used: a second run asks nothing, whoever runs it,
/// and a run that failed half-way pays for the other half only.
#[test]
fn nothing_is_paid_twice() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Some(AnswerStore::open(folder.path()).unwrap());
    let tree = forest(&LONG);
    let stub = faulty(|num| (num > 5).then(|| Say::Status(400, "", json!({ "message": "stop" }))));
    // One by one: of several at once it is chance which are answered before one fails.
    let run = |stub: &Stub| {
        let address = w2s::server::ServerAddress::parse(&stub.model()).unwrap();
        let meter = w2s::server::Meter::default();
        let options =
            w2s::server::ServiceOptions { client: at_once(), concurrency: 1, store: open(), meter };
        let service = w2s::server::Service::connect(&address, options).unwrap();
        let mut there =
            HttpScorer::new(service, HttpScorerOptions { max_misses: 1.0, ..top_k() }).unwrap();
        let found = score(&mut there, &tree);
        (found, there.service().meter().spent())
    };
    assert!(run(&stub).0.is_err());
    let paid = run(&stub).1;
    assert_eq!(paid.num_kept, 4, "the probe and the first answers are there");

    let folder = tempfile::tempdir().unwrap();
    let open = || Some(AnswerStore::open(folder.path()).unwrap());
    let stub = of_model("llama", ALL);
    let mut found = Vec::new();
    for round in 0..2 {
        let service = connect(&stub, at_once(), open()).unwrap();
        let mut there = HttpScorer::new(service, HttpScorerOptions::default()).unwrap();
        let before = stub.num_paid();
        found.push(there.score(&tree).unwrap());
        let spent = there.service().meter().spent();
        let num = 3 * tree.questions().len() as u64;
        match round {
            0 => assert!(spent.num_requests > num && stub.num_paid() > before),
            _ => {
                assert_eq!((spent.num_requests, spent.num_kept), (1, num), "the canary");
                assert_eq!(stub.num_paid(), before, "not even the probe");
            }
        }
    }
    // The same scores and the same usage, so that files made from them are the same bytes.
    assert_eq!(found[0], found[1]);
    // Under another name the answers are another model's.
    let sizes = open().unwrap().sizes().unwrap();
    assert_eq!((sizes.len(), sizes[0].model.as_str()), (1, NAME));
}
