//! Chat templates against jinja2 3.1.6 in the form transformers uses it: a sandboxed environment with
//! `trim_blocks`, `lstrip_blocks` and `raise_exception`.

use w2s::error::ErrorKind;
use w2s::lm::{ChatTemplate, Message, Tokenizer};

use crate::common::{model, project};

fn message(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into() }
}

fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    folder
}

#[test]
fn templates_render_as_jinja2_renders_them() {
    let place = folder(r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}"#);
    let template = project().join("tests/data/chat_template.jinja");
    std::fs::copy(template, place.path().join("chat_template.jinja")).unwrap();
    let chat = ChatTemplate::open(place.path()).unwrap().unwrap();
    let talk = [
        message("system", "  Be brief. "),
        message("user", "Is 1 + 1 = 2?\n"),
        message("assistant", "Yes."),
        message("user", "And 3?"),
    ];
    assert_eq!(
        chat.render(&talk, true).unwrap(),
        "<s>\n[USER]Be brief.\nIs 1 + 1 = 2?</s>\n[ASSISTANT]Yes.</s>\n[USER]And 3?</s>\n[ASSISTANT]"
    );
    assert_eq!(chat.render(&talk[1..2], false).unwrap(), "<s>\n[USER]Is 1 + 1 = 2?</s>\n");
    let error = chat.render(&[talk[2].clone(), talk[1].clone()], true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tokenizer);
    assert!(error.message().contains("must take turns"), "{error}");
}

#[test]
fn a_real_models_template_renders_and_a_base_model_has_none() {
    let folder = model("smollm2-135m-instruct");
    let chat = ChatTemplate::open(&folder).unwrap().unwrap();
    let text = chat.render(&[message("user", "Is 1 + 1 = 2?\n")], true).unwrap();
    assert_eq!(
        text,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nIs 1 + 1 = 2?\n<|im_end|>\n<|im_start|>assistant\n"
    );
    // This tokenizer adds nothing, so the opening of the first turn must stay.
    let tokenizer = Tokenizer::open(&folder).unwrap();
    assert_eq!(tokenizer.without_prefix(&text), text);
    let base = model("gemma-3-270m");
    assert_eq!(ChatTemplate::open(&base).unwrap(), None);
    let tokenizer = Tokenizer::open(&base).unwrap();
    assert_eq!(tokenizer.without_prefix("<bos>Hello <bos>"), "Hello <bos>");
}

/// By hand, in the forms of Mistral's templates (a blank before an answer) and of Qwen3's.
#[test]
fn the_text_before_an_answer_ends_where_its_words_begin() {
    let open = |template: &str| {
        let config = serde_json::json!({ "chat_template": template }).to_string();
        ChatTemplate::open(folder(&config).path()).unwrap().unwrap()
    };
    let asked = [message("user", "Is it?")];
    let turns = |answer: &str| {
        format!(
            "{{% for m in messages %}}{{% if m.role == 'user' %}}[INST] {{{{ m.content }}}} [/INST]\
             {{% else %}}{answer}</s>{{% endif %}}{{% endfor %}}"
        )
    };
    for (answer, expected) in [
        (" {{ m.content }}", "[INST] Is it? [/INST] "),
        ("{{ m.content }}", "[INST] Is it? [/INST]"),
        // An answer that is shown in another form tells nothing.
        (" <{{ m.content }}>", "[INST] Is it? [/INST]"),
        ("{{ raise_exception('no answers') }}", "[INST] Is it? [/INST]"),
    ] {
        assert_eq!(open(&turns(answer)).before_answer(&asked).unwrap(), expected, "{answer}");
    }
    let thinks = open(
        "{{ messages[0].content }}{% if add_generation_prompt %}|{% if enable_thinking is defined and \
         enable_thinking is false %}<think></think>{% endif %}{% endif %}",
    );
    assert_eq!(thinks.before_answer(&asked).unwrap(), "Is it?|");
    let quick = thinks.with_variable("enable_thinking", false);
    assert_eq!(quick.before_answer(&asked).unwrap(), "Is it?|<think></think>");
}

#[test]
fn broken_templates_are_named() {
    let open = |config: &str| ChatTemplate::open(folder(config).path());
    assert_eq!(open("{").unwrap_err().place().unwrap().1, Some(1));
    assert!(open(r#"{"chat_template": 3}"#).unwrap_err().message().contains("neither text"));
    let named = r#"{"chat_template": [{"name": "tool_use", "template": "x"}]}"#;
    assert!(open(named).unwrap_err().message().contains("`default`"));
    let named = named.replace("tool_use", "default");
    assert_eq!(open(&named).unwrap().unwrap().render(&[], false).unwrap(), "x");
    let chat = open(r#"{"chat_template": "{% for m in messages %}"}"#).unwrap().unwrap();
    assert_eq!(chat.render(&[], false).unwrap_err().kind(), ErrorKind::Tokenizer);
}
