//! Chat templates against transformers' own renderer, and templates without an end.

use serde_json::Value;
use w2s::lm::{ChatTemplate, Message, Moment};

use crate::common::project;

fn open(config: &Value) -> ChatTemplate {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    ChatTemplate::open(folder.path()).unwrap().unwrap()
}

/// By `scripts/bench/parity_chat_templates.py`.
#[test]
fn templates_render_as_transformers_renders_them() {
    let path = project().join("tests/parity/chat_templates.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for case in all["cases"].as_array().unwrap() {
        let mut config = all["tokens"].clone();
        config["chat_template"] = case["template"].clone();
        let text = |m: &Value, name: &str| m[name].as_str().unwrap().to_owned();
        let messages = case["messages"].as_array().unwrap().iter();
        let messages: Vec<Message> = messages
            .map(|m| Message { role: text(m, "role"), content: text(m, "content") })
            .collect();
        let found = open(&config).render(&messages, true);
        if found.as_ref().ok().map(String::as_str) != case["text"].as_str() {
            wrong.push(format!(
                "{}\n  found    {found:?}\n  expected {:?}",
                case["template"], case["text"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn templates_without_an_end_are_errors_within_seconds() {
    let began = std::time::Instant::now();
    for template in [
        "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
        "{{ 'a' * 99999999999 }}",
        "{{ 'a'.center(99999999999) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ] {
        let chat = open(&serde_json::json!({ "chat_template": template }));
        let error = chat.render(&[], true).unwrap_err().to_string();
        assert!(error.contains("the chat template failed"), "{template}: {error}");
    }
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn a_message_is_not_dropped_and_a_date_is_given() {
    let asked = [Message { role: "user".into(), content: "Is it?".into() }];
    let error =
        open(&serde_json::json!({ "chat_template": "Hello" })).before_answer(&asked).unwrap_err();
    assert!(error.message().contains("drops the message of role `user`"), "{error}");
    let dated = open(&serde_json::json!({ "chat_template": "{{ strftime_now('%d %b %Y') }}" }));
    assert!(dated.render(&asked, true).unwrap_err().message().contains("no date was given"));
    let dated = dated.with_moment(Moment::from_unix(1_709_210_709));
    assert_eq!(dated.render(&asked, true).unwrap(), "29 Feb 2024");
}

#[test]
fn special_tokens_come_from_the_map_of_older_saves() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "tokenizer_config.json",
        r#"{"chat_template": "{{ bos_token }}{{ image_token }}", "image_token": "<i>"}"#,
    );
    write("special_tokens_map.json", r#"{"bos_token": {"content": "<s>", "lstrip": false}}"#);
    let chat = ChatTemplate::open(folder.path()).unwrap().unwrap();
    assert_eq!(chat.render(&[], true).unwrap(), "<s><i>");
}

/// Each slice of `abcdef` is CPython's, and so is that of the list of 1 to 6.
#[test]
fn slices_and_whole_quotients_are_pythons() {
    let render = |template: String| {
        let chat = open(&serde_json::json!({ "chat_template": template }));
        chat.render(&[], true).map_err(|e| e.to_string())
    };
    for (slice, expected) in [
        ("[::-1]", "fedcba"),
        // A stop at the first place is none that is left out.
        ("[:0:-1]", "fedcb"),
        ("[4:0:-2]", "ec"),
        ("[5:1:-1]", "fedc"),
        ("[1:5]", "bcde"),
        ("[-3:]", "def"),
        ("[:-2]", "abcd"),
        ("[::2]", "ace"),
        ("[-2::-1]", "edcba"),
        ("[2:4:-1]", ""),
        ("[:-9:-1]", "fedcba"),
        ("[9::-4]", "fb"),
        ("[-9:9]", "abcdef"),
        ("[::-9223372036854775808]", "f"),
        ("[::9223372036854775807]", "a"),
        ("[::-99999999999999999999]", "f"),
        ("[true:4]", "bcd"),
        ("[3:3]", ""),
        ("[none:2]", "ab"),
    ] {
        assert_eq!(render(format!("{{{{ 'abcdef'{slice} }}}}")).unwrap(), expected, "{slice}");
        let numbers = expected.bytes().map(|b| char::from(b - b'a' + b'1')).collect::<String>();
        let list = format!("{{% for n in [1, 2, 3, 4, 5, 6]{slice} %}}{{{{ n }}}}{{% endfor %}}");
        assert_eq!(render(list).unwrap(), numbers, "{slice}");
    }
    for (a, b, expected) in [
        ("7", "-2", "-4"),
        ("-7", "2", "-4"),
        ("-7", "-2", "3"),
        ("7", "2", "3"),
        ("7.5", "-2", "-4.0"),
    ] {
        let template = format!("{{% set a = {a} %}}{{{{ a // {b} }}}}");
        assert_eq!(render(template).unwrap(), expected, "{a} // {b}");
    }
    for wrong in ["'ab'[::0]", "'ab'[0.5:]", "none[:1]", "nothing[:1]", "{'a': 1}[:1]", "1 // 0"] {
        let error = render(format!("{{{{ {wrong} }}}}")).unwrap_err();
        assert!(error.contains("the chat template failed"), "{wrong}: {error}");
    }
}
