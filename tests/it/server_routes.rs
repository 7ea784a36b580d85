//! The route token-ids: each way to name tokens gives the local numbers, a way with wrong numbers is
//! none, and what a server computes for it is little more than the tree has tokens.

use serde_json::{Value, json};
use w2s::error::ErrorKind;
use w2s::score::{HttpScorer, HttpScorerOptions, RouteKind, Scorer};
use w2s::server::{AnswerStore, NamedBy, Verdict};

use crate::common::tiny;
use crate::server::{LONG, assert_same, forest, with};
use crate::server_stub::{
    ALL, Has, Model, Say, Stub, at_once, connect, local, of_model, score, scorer,
};

/// A server that names tokens in one way.
fn naming(way: NamedBy) -> Has {
    let named: &'static [NamedBy] = match way {
        NamedBy::LogprobTokenIds => &[NamedBy::LogprobTokenIds],
        NamedBy::Generate => &[NamedBy::Generate],
        NamedBy::Score => &[NamedBy::Score],
        NamedBy::Grammar => &[NamedBy::Grammar],
        NamedBy::AllowedTokenIds => &[NamedBy::AllowedTokenIds],
        NamedBy::LogitBias => &[NamedBy::LogitBias],
    };
    Has { named, ..ALL }
}

#[test]
fn each_way_to_name_tokens_gives_the_local_numbers() {
    for name in ["llama", "gpt2"] {
        let tree = forest(&LONG);
        let expected = score(&mut local(name), &tree).unwrap();
        for way in NamedBy::ALL {
            for tokenizes in [true, false] {
                let stub = of_model(name, Has { tokenizes, ..naming(way) });
                let tokenizer = (!tokenizes).then(|| tiny(name));
                let options = HttpScorerOptions { tokenizer, ..HttpScorerOptions::default() };
                let mut there = scorer(&stub, options);
                let found = score(&mut there, &tree).unwrap();
                let what = format!("{name}, {way}, tokens of the server {tokenizes}");
                assert_eq!(
                    there.route_taken(),
                    Some(RouteKind::TokenIds),
                    "{what}: {:?}",
                    there.found()
                );
                assert_eq!(there.found().named_by, Some(way), "{what}");
                assert_same(&found, &expected, &what);
                assert_eq!(there.misses().num_labels, 0);
            }
        }
    }
}

/// A single label begins where the prompt's tokens end or change, whoever cuts them.
#[test]
fn one_label_begins_where_the_prompt_ends() {
    for label in ["True", " Unknown, perhaps"] {
        let tree = forest(&[label]);
        let expected = score(&mut local("llama"), &tree).unwrap();
        let stub = of_model("llama", Has { tokenizes: true, ..naming(NamedBy::LogprobTokenIds) });
        let found = score(&mut scorer(&stub, HttpScorerOptions::default()), &tree).unwrap();
        assert_same(&found, &expected, label);
    }
}

#[test]
fn a_way_whose_numbers_are_wrong_is_none() {
    // OpenAI's numbers are those with the bias.
    let has = Has { bias_is_in: true, tokenizes: true, ..naming(NamedBy::LogitBias) };
    let stub = of_model("llama", has);
    let there = scorer(&stub, HttpScorerOptions::default());
    assert_eq!(there.route().unwrap(), RouteKind::Echo);
    let Some(Verdict::No(why)) = there.found().named.clone() else { panic!("{:?}", there.found()) };
    assert!(why.contains("logit_bias: its numbers are wrong"), "{why}");
    // A parameter that is not known is not looked at, as most servers do.
    assert!(
        why.contains("logprob_token_ids: it has no number for a token that was named"),
        "{why}"
    );
    // Nobody tells the tokens.
    let stub = of_model("llama", naming(NamedBy::LogprobTokenIds));
    let error = scorer(&stub, with(RouteKind::TokenIds, None)).route().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
    assert!(error.to_string().contains("`--tokenizer FILE` does"), "{error}");
    // Another model's tokenizer, which knows no merges: the same text is other tokens.
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tokenizer.json");
    let text = std::fs::read_to_string(tiny("llama").join("tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["model"]["merges"] = json!([]);
    std::fs::write(&file, json.to_string()).unwrap();
    let stub = of_model("llama", naming(NamedBy::LogprobTokenIds));
    let options = HttpScorerOptions { tokenizer: Some(file), ..with(RouteKind::TokenIds, None) };
    let error = scorer(&stub, options).route().unwrap_err().to_string();
    assert!(error.contains("is the tokenizer that of the served model?"), "{error}");
}

/// A label that is not among the first tokens is looked for among more, as far as the server gives them;
/// what is kept of a long list is little, and a second run goes the same way for nothing.
#[test]
fn more_tokens_are_asked_for_where_a_label_is_missed() {
    let tree = forest(&LONG);
    let expected = score(&mut local("llama"), &tree).unwrap();
    let place = tempfile::tempdir().unwrap();
    let stub = of_model("llama", ALL);
    let run = || {
        let store = AnswerStore::open(place.path()).unwrap();
        let service = connect(&stub, at_once(), Some(store)).unwrap();
        let options = HttpScorerOptions { top_k: 5, ..with(RouteKind::TopK, Some("llama")) };
        let mut there = HttpScorer::new(service, options).unwrap();
        let found = there.score(&tree).unwrap();
        assert_eq!(there.misses().num_missed, 0);
        (found, there.service().meter().spent())
    };
    let ((first, usage), spent) = run();
    assert_same(&first, &expected, "top-k");
    // 5, 160, and all 384 of the vocabulary.
    let asked = |k: u64| stub.asked().iter().filter(|asked| asked.body["logprobs"] == k).count();
    assert!(asked(5) > 0 && asked(160) > 0 && asked(384) > 0, "{} {}", asked(5), asked(160));
    let ((second, again), kept) = run();
    assert_eq!((first, usage), (second, again));
    assert_eq!((kept.num_requests, kept.num_kept), (1, spent.num_requests - 2));
    let sizes = AnswerStore::open(place.path()).unwrap().sizes().unwrap();
    assert!(sizes[0].num_bytes < 4000 * sizes[0].num_answers, "{sizes:?}");
}

/// Where the server gives no more, that is the end.
#[test]
fn a_server_may_give_no_more_tokens() {
    let stub = of_model("llama", Has { most_top: 20, ..ALL });
    let options = HttpScorerOptions { top_k: 20, ..with(RouteKind::TopK, Some("llama")) };
    let mut there = scorer(&stub, options);
    let error = score(&mut there, &forest(&LONG)).unwrap_err().to_string();
    assert!(error.contains("are not among the 20 most likely next tokens"), "{error}");
    assert!(error.contains("larger `--max-logprobs`"), "{error}");
    // After the first refusal nobody asks for so many again, but those under way.
    let refused = stub.asked().iter().filter(|asked| asked.body["logprobs"] == 640).count();
    assert!((1..=3).contains(&refused), "{refused}");
}

/// Together AI's echo: the prompt comes in a place of its own, with the numbers of its tokens.
#[test]
fn an_echo_may_come_apart_from_what_is_written() {
    let tree = forest(&LONG);
    for name in ["llama", "gpt2"] {
        let expected = score(&mut local(name), &tree).unwrap();
        let model = Model::new(name, ALL);
        let stub = Stub::new(move |asked| {
            let Say::Json(mut json) = model.answer(asked) else { return model.answer(asked) };
            if asked.body["echo"] == true {
                let choice = &mut json["choices"][0];
                let written = choice["text"].as_str().unwrap()[asked.prompt().len()..].to_owned();
                let num = choice["logprobs"]["tokens"].as_array().unwrap().len() - 1;
                let part = |logprobs: &Value, from: usize, to: usize| {
                    let list = |name: &str| logprobs[name].as_array().unwrap()[from..to].to_vec();
                    json!({ "tokens": list("tokens"), "token_logprobs": list("token_logprobs") })
                };
                let (before, after) =
                    (part(&choice["logprobs"], 0, num), part(&choice["logprobs"], num, num + 1));
                *choice = json!({ "text": written, "finish_reason": "length", "logprobs": after });
                json["prompt"] = json!([{ "text": asked.prompt(), "logprobs": before }]);
            }
            Say::Json(json)
        });
        let found = score(&mut scorer(&stub, with(RouteKind::Echo, None)), &tree).unwrap();
        assert_same(&found, &expected, name);
    }
}
