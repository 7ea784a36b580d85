//! What a server answered, reduced to what is used of it: completions and chat completions, in the
//! forms of OpenAI, vLLM, llama.cpp and llama-cpp-python.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One of the most likely tokens at a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopToken {
    /// The token's text.
    pub text: String,
    /// Its number, where the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Its log-probability in nats.
    pub logprob: f64,
}

/// A token of a prompt or of what was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplyToken {
    /// The token's text.
    pub text: String,
    /// Its number, where the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Its log-probability in nats; the first of a prompt has none.
    pub logprob: Option<f64>,
    /// The most likely tokens at its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TopToken>,
    /// What was said of those that were left out, if any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<WholeTop>,
}

/// A list of most likely tokens of which a part was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WholeTop {
    /// How many tokens there were.
    pub num: usize,
    /// The log-probability of the least likely, in nats.
    pub least: f64,
    /// The probability of all together.
    pub sum: f64,
    /// The SHA-256 of the list: texts, numbers and log-probabilities, the likeliest first.
    pub digest: String,
}

/// An answer to a completion or a chat completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The model that answered, by its own word.
    pub model: Option<String>,
    /// What was written, without the prompt.
    pub text: String,
    /// Why it ended.
    pub finish: Option<String>,
    /// Tokens of the prompt.
    pub tokens_in: Option<u64>,
    /// Of these, what the server remembered.
    pub tokens_remembered: Option<u64>,
    /// Tokens written.
    pub tokens_out: Option<u64>,
    /// What the server says the request cost.
    pub cost: Option<f64>,
    /// How many tokens of the prompt came back; 0 without echo.
    pub num_prompt: usize,
    /// The last of them, with their log-probabilities.
    pub prompt: Vec<ReplyToken>,
    /// The tokens that were written.
    pub written: Vec<ReplyToken>,
}

/// Tokens of a prompt that are kept: more than any label has.
const KEPT: usize = 64;

impl Reply {
    /// Returns the answer to a completion whose prompt was `prompt`; `echoed` if it was asked to come
    /// back.
    ///
    /// # Errors
    /// What of the answer is not as it should be.
    pub fn completion(json: &Value, prompt: &str, echoed: bool) -> Result<Self, String> {
        let choice = json.pointer("/choices/0").ok_or("it has no `choices`")?;
        let mut reply = Self::begin(json, choice);
        let whole = choice.get("text").and_then(Value::as_str).ok_or("it has no `text`")?;
        let rest = whole.strip_prefix(prompt).filter(|_| echoed);
        reply.text = rest.unwrap_or(whole).to_owned();
        let mut tokens = logprobs(choice.get("logprobs").unwrap_or(&Value::Null))?;
        // Together: the prompt has a place of its own.
        let apart = json.pointer("/prompt/0/logprobs").filter(|value| echoed && value.is_object());
        if let Some(apart) = apart {
            reply.written = tokens;
            reply.keep_prompt(logprobs(apart)?);
        } else if echoed {
            // The server's count of what it wrote; without it, whether there is anything.
            let num_written = match reply.tokens_out {
                Some(num) => num as usize,
                None => usize::from(rest.is_some_and(|rest| !rest.is_empty())),
            };
            let at = tokens.len().saturating_sub(num_written);
            reply.written = tokens.split_off(at);
            reply.keep_prompt(tokens);
        } else {
            reply.written = tokens;
        }
        if let Some(list) = choice.get("prompt_logprobs").and_then(Value::as_array) {
            let tokens = list.iter().map(prompt_logprob).collect::<Result<Vec<_>, _>>()?;
            reply.keep_prompt(tokens);
        }
        Ok(reply)
    }

    /// Returns the answer to a chat completion.
    ///
    /// # Errors
    /// What of the answer is not as it should be.
    pub fn chat(json: &Value) -> Result<Self, String> {
        let choice = json.pointer("/choices/0").ok_or("it has no `choices`")?;
        let mut reply = Self::begin(json, choice);
        // Null where nothing was written but thoughts.
        let text = choice.pointer("/message/content").ok_or("it has no `message.content`")?;
        reply.text = text.as_str().unwrap_or_default().to_owned();
        reply.written = logprobs(choice.get("logprobs").unwrap_or(&Value::Null))?;
        Ok(reply)
    }

    fn begin(json: &Value, choice: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let count = |pointer: &str| json.pointer(pointer).and_then(Value::as_u64);
        Self {
            model: text(json.get("model")),
            finish: text(choice.get("finish_reason")),
            tokens_in: count("/usage/prompt_tokens"),
            tokens_remembered: count("/usage/prompt_tokens_details/cached_tokens"),
            tokens_out: count("/usage/completion_tokens"),
            cost: json.pointer("/usage/cost").and_then(Value::as_f64).filter(|cost| *cost >= 0.0),
            ..Self::default()
        }
    }

    fn keep_prompt(&mut self, mut tokens: Vec<ReplyToken>) {
        self.num_prompt = tokens.len();
        self.prompt = tokens.split_off(tokens.len().saturating_sub(KEPT));
    }

    /// Returns how many of the last tokens of the prompt `text` belong to what follows its first
    /// `num_bytes`, by the texts of the tokens; `None` when these do not join to the text.
    ///
    /// The rule is that of [`crate::lm::Tokens::boundary`]: a token that begins in the prompt and ends
    /// in the label is the label's.
    pub fn num_after(&self, text: &str, num_bytes: usize) -> Option<usize> {
        let mut end = text.len();
        let mut num = 0;
        for token in self.prompt.iter().rev() {
            if end <= num_bytes {
                return Some(num);
            }
            // Tokens of a part of a character have no text of their own.
            if token.text.is_empty() || token.text.contains('\u{fffd}') {
                return None;
            }
            let before = &text[..end];
            let own = before
                .strip_suffix(token.text.as_str())
                .or_else(|| before.strip_suffix(token.text.replace('\u{2581}', " ").as_str()))?;
            end = own.len();
            num += 1;
        }
        (end <= num_bytes).then_some(num)
    }
}

/// Reads log-probabilities of either form.
fn logprobs(value: &Value) -> Result<Vec<ReplyToken>, String> {
    if let Some(content) = value.get("content").and_then(Value::as_array) {
        return content.iter().map(content_token).collect();
    }
    let Some(tokens) = value.get("tokens").and_then(Value::as_array) else { return Ok(Vec::new()) };
    let logprobs = value
        .get("token_logprobs")
        .and_then(Value::as_array)
        .filter(|list| list.len() == tokens.len())
        .ok_or("`token_logprobs` is not as long as `tokens`")?;
    let top = value.get("top_logprobs").and_then(Value::as_array);
    let ids = value.get("token_ids").and_then(Value::as_array);
    let mut read = Vec::with_capacity(tokens.len());
    for (at, (token, logprob)) in tokens.iter().zip(logprobs).enumerate() {
        let (text, id) = named(text_of(token)?);
        let id = id.or_else(|| number_of(ids?.get(at)));
        let top = match top.and_then(|top| top.get(at)) {
            Some(Value::Object(map)) => top_of_map(map)?,
            Some(Value::Array(list)) => top_of_list(list)?,
            _ => Vec::new(),
        };
        let logprob = logprob_of(logprob)?;
        read.push(ReplyToken { text, id, logprob, top, whole: None });
    }
    Ok(read)
}

/// What a sum of probabilities may pass 1 by because servers round it, in nats.
const ROUNDING: f64 = 1e-3;

/// A log-probability; `None` for what is no number, as servers write of a token that cannot be.
///
/// # Errors
/// Of a number above 0: it is no log-probability, and nobody knows what it is.
pub(super) fn logprob_of(value: &Value) -> Result<Option<f64>, String> {
    let Some(logprob) = value.as_f64().filter(|number| !number.is_nan()) else { return Ok(None) };
    if logprob > ROUNDING {
        return Err(format!("a log-probability is {logprob}, expected at most 0"));
    }
    // Not -0, which servers round to.
    Ok(Some(if logprob >= 0.0 { 0.0 } else { logprob }))
}

/// A token's text; one that has none keeps its place.
fn text_of(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        _ => Err("a token has no text".to_owned()),
    }
}

/// vLLM can say a token's number in the place of its text.
fn named(text: &str) -> (String, Option<u32>) {
    match text.strip_prefix("token_id:").and_then(|id| id.parse().ok()) {
        Some(id) => (String::new(), Some(id)),
        None => (text.to_owned(), None),
    }
}

pub(super) fn number_of(value: Option<&Value>) -> Option<u32> {
    value.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok())
}

/// The most likely tokens; those without a number are left out, as if the server had not told of them.
fn top_of_map(map: &Map<String, Value>) -> Result<Vec<TopToken>, String> {
    let mut top = Vec::with_capacity(map.len());
    for (text, logprob) in map {
        let (text, id) = named(text);
        if let Some(logprob) = logprob_of(logprob)? {
            top.push(TopToken { text, id, logprob });
        }
    }
    Ok(top)
}

fn top_of_list(list: &[Value]) -> Result<Vec<TopToken>, String> {
    let mut top = Vec::with_capacity(list.len());
    for value in list {
        let Some(text) = value.get("token").and_then(Value::as_str) else { continue };
        let (text, id) = named(text);
        let id = id.or_else(|| number_of(value.get("id")));
        if let Some(logprob) = logprob_of(value.get("logprob").unwrap_or(&Value::Null))? {
            top.push(TopToken { text, id, logprob });
        }
    }
    Ok(top)
}

fn content_token(value: &Value) -> Result<ReplyToken, String> {
    let (text, id) = named(text_of(value.get("token").unwrap_or(&Value::Null))?);
    let id = id.or_else(|| number_of(value.get("id")));
    let logprob = logprob_of(value.get("logprob").unwrap_or(&Value::Null))?;
    let top = match value.get("top_logprobs").and_then(Value::as_array) {
        Some(list) => top_of_list(list)?,
        None => Vec::new(),
    };
    Ok(ReplyToken { text, id, logprob, top, whole: None })
}

/// One place of vLLM's `prompt_logprobs`: by number, the token that is there and the most likely ones.
fn prompt_logprob(value: &Value) -> Result<ReplyToken, String> {
    let Value::Object(map) = value else { return Ok(ReplyToken::default()) };
    // The token itself is among them; of several, the others are likelier.
    let rank = |entry: &Value| entry.get("rank").and_then(Value::as_u64).unwrap_or(0);
    let (id, entry) = map
        .iter()
        .max_by_key(|(_, entry)| rank(entry))
        .ok_or("a place of `prompt_logprobs` is empty")?;
    let text = entry.get("decoded_token").and_then(Value::as_str).unwrap_or_default();
    // Older vLLM: the number alone.
    let logprob = logprob_of(entry.get("logprob").unwrap_or(entry))?;
    Ok(ReplyToken { text: text.to_owned(), id: id.parse().ok(), logprob, ..ReplyToken::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_echo_is_split_in_prompt_and_what_was_written() {
        let legacy = json!({"model": "m", "usage": {"prompt_tokens": 4, "completion_tokens": 1},
            "choices": [{"text": "It is True.", "logprobs": {
                "tokens": ["<s>", "It", " is", " True", "."],
                "token_logprobs": [null, -1.0, -2.0, -0.5, -0.1],
                "top_logprobs": [null, {"It": -1.0}, {}, {" True": -0.5, " False": -1.5}, null]}}]});
        let reply = Reply::completion(&legacy, "It is True", true).unwrap();
        assert_eq!((reply.num_prompt, reply.written.len(), reply.text.as_str()), (4, 1, "."));
        assert_eq!(reply.prompt[3].logprob, Some(-0.5));
        assert_eq!(reply.prompt[3].top.len(), 2);
        // ` True` begins in the prompt and ends in the label.
        assert_eq!(reply.num_after("It is True", "It is ".len()), Some(1));
        assert_eq!(reply.num_after("It is True", "It".len()), Some(2));
        assert_eq!(reply.num_after("It is not", 6), None);
        // Without a count of tokens the text says that something was written.
        let mut bare = legacy.clone();
        bare["usage"] = Value::Null;
        assert_eq!(Reply::completion(&bare, "It is True", true).unwrap().num_prompt, 4);
        bare["choices"][0]["text"] = "It is True.".into();
        assert_eq!(Reply::completion(&bare, "It is True.", true).unwrap().num_prompt, 5);
    }

    #[test]
    fn the_forms_of_servers_are_read() {
        // vLLM: the token itself is the one of the lowest rank.
        let vllm = json!({"choices": [{"text": "x", "prompt_logprobs": [null,
            {"12": {"logprob": -3.0, "rank": 9, "decoded_token": " True"},
             "7": {"logprob": -0.1, "rank": 1, "decoded_token": " False"}}]}]});
        let reply = Reply::completion(&vllm, "is True", false).unwrap();
        let token = &reply.prompt[1];
        assert_eq!((token.id, token.logprob, reply.num_prompt), (Some(12), Some(-3.0), 2));
        // llama.cpp: the chat form for completions too; numbers of tokens.
        let llama = json!({"choices": [{"text": " True", "logprobs": {"content": [
            {"id": 3, "token": " True", "logprob": -0.2, "top_logprobs": [
                {"id": 3, "token": " True", "logprob": -0.2}, {"id": 4, "token": " No", "logprob": -2.0}]}]}}]});
        let reply = Reply::completion(&llama, "is", false).unwrap();
        assert_eq!(reply.written[0].top[1].id, Some(4));
        let chat = json!({"choices": [{"message": {"content": null}, "logprobs": null}]});
        assert_eq!(Reply::chat(&chat).unwrap().text, "");
        // Numbers in the place of texts.
        let ids = json!({"choices": [{"text": "x", "logprobs": {"tokens": ["token_id:5"],
            "token_logprobs": [-1.0], "top_logprobs": [{"token_id:5": -1.0, "token_id:6": -2.0}]}}]});
        let reply = Reply::completion(&ids, "", false).unwrap();
        assert_eq!((reply.written[0].id, reply.written[0].top[1].id), (Some(5), Some(6)));
        for bad in [
            json!({}),
            json!({"choices": []}),
            json!({"choices": [{}]}),
            json!({"choices": [{"text": "x", "logprobs": {"tokens": ["a"], "token_logprobs": []}}]}),
            json!({"choices": [{"text": "x", "logprobs": {"tokens": ["a"], "token_logprobs": [1],
                "top_logprobs": [{"a": "b"}]}}]}),
            json!({"choices": [{"text": "x", "logprobs": {"tokens": ["a"], "token_logprobs": [-1],
                "top_logprobs": [{"a": 0.7}]}}]}),
            json!({"choices": [{"text": "x", "logprobs": {"content": [
                {"token": "a", "logprob": -1, "top_logprobs": [{"token": "a", "logprob": 2}]}]}}]}),
            json!({"choices": [{"text": "x", "prompt_logprobs": [null, {"1": {"logprob": 0.5}}]}]}),
        ] {
            assert!(Reply::completion(&bad, "", false).is_err(), "{bad}");
        }
    }

    /// What has no number is left out; rounding above 0 is 0.
    #[test]
    fn tokens_without_a_number_are_left_out() {
        let legacy = json!({"choices": [{"text": "x", "logprobs": {"tokens": ["a", null],
            "token_logprobs": [null, 0.0005],
            "top_logprobs": [{"a": -0.5, "b": null, "c": "-1", "d": 1e-7}, null]}}]});
        let reply = Reply::completion(&legacy, "", false).unwrap();
        let [first, second] = reply.written.as_slice() else { panic!("{reply:?}") };
        let top: Vec<_> = first.top.iter().map(|t| (t.text.as_str(), t.logprob)).collect();
        assert_eq!((first.logprob, top), (None, vec![("a", -0.5), ("d", 0.0)]));
        assert_eq!((second.text.as_str(), second.logprob), ("", Some(0.0)));
        let chat = json!({"choices": [{"message": {"content": "x"}, "logprobs": {"content": [
            {"token": "a", "id": 4_294_967_299_u64, "top_logprobs": [
                {"token": null, "logprob": -1}, {"token": "b"}, {"token": "c", "logprob": -2}, null]}]}}]});
        let reply = Reply::chat(&chat).unwrap();
        let token = &reply.written[0];
        assert_eq!((token.logprob, token.id, token.top.len()), (None, None, 1));
        let vllm = json!({"choices": [{"text": "x", "prompt_logprobs": [null, {"7": {"logprob": null}}]}]});
        assert_eq!(Reply::completion(&vllm, "", false).unwrap().prompt[1].logprob, None);
    }
}
