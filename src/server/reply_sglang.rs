//! Answers of SGLang's own endpoints: `/generate` with `token_ids_logprob`, and `/v1/score`.

use serde_json::Value;

use super::reply::{Reply, ReplyToken, TopToken, logprob_of, number_of};

impl Reply {
    /// Returns the answer of `/generate` to a prompt, with the log-probabilities of the tokens that
    /// were asked for as the most likely ones of what was written.
    ///
    /// # Errors
    /// What of the answer is not as it should be.
    pub fn generated(json: &Value) -> Result<Self, String> {
        // A list of one where a list was sent.
        let json = json.get(0).unwrap_or(json);
        let meta = json.get("meta_info").ok_or("it has no `meta_info`")?;
        let count = |name: &str| meta.get(name).and_then(Value::as_u64);
        let mut reply = Self {
            text: json.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
            finish: meta.pointer("/finish_reason/type").and_then(Value::as_str).map(str::to_owned),
            tokens_in: count("prompt_tokens"),
            tokens_remembered: count("cached_tokens"),
            tokens_out: count("completion_tokens"),
            ..Self::default()
        };
        let named = meta.get("output_token_ids_logprobs").and_then(Value::as_array);
        let named = named.ok_or("it has no `output_token_ids_logprobs`")?;
        let own = meta.get("output_token_logprobs").and_then(Value::as_array);
        for (at, place) in named.iter().enumerate() {
            let mut token = ReplyToken::default();
            for entry in place.as_array().into_iter().flatten() {
                token.top.extend(triple(entry)?);
            }
            if let Some(written) =
                own.and_then(|own| own.get(at)).map(triple).transpose()?.flatten()
            {
                (token.text, token.id, token.logprob) =
                    (written.text, written.id, Some(written.logprob));
            }
            reply.written.push(token);
        }
        Ok(reply)
    }

    /// Returns the answer of `/v1/score` for tokens that may follow a prompt. SGLang gives their
    /// probabilities there, whatever it is told but to share them out among the tokens.
    ///
    /// # Errors
    /// What of the answer is not as it should be.
    pub fn scored(json: &Value, ids: &[u32]) -> Result<Self, String> {
        let scores = json.pointer("/scores/0").and_then(Value::as_array);
        let scores = scores.filter(|scores| scores.len() == ids.len());
        let scores = scores.ok_or("it has no `scores` for the tokens that were asked for")?;
        let mut token = ReplyToken::default();
        for (score, &id) in scores.iter().zip(ids) {
            let probability = score.as_f64().ok_or("a score is no number")?;
            if !(0.0..=1.0 + 1e-3).contains(&probability) {
                return Err(format!("a score is {probability}, expected a probability"));
            }
            if probability > 0.0 {
                let logprob = probability.ln().min(0.0);
                token.top.push(TopToken { text: String::new(), id: Some(id), logprob });
            }
        }
        Ok(Self {
            model: json.get("model").and_then(Value::as_str).map(str::to_owned),
            tokens_in: json.pointer("/usage/prompt_tokens").and_then(Value::as_u64),
            tokens_out: json.pointer("/usage/completion_tokens").and_then(Value::as_u64),
            written: vec![token],
            ..Self::default()
        })
    }
}

/// A log-probability, a token's number and perhaps its text.
fn triple(value: &Value) -> Result<Option<TopToken>, String> {
    let text = value.get(2).and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = number_of(value.get(1));
    let logprob = logprob_of(value.get(0).unwrap_or(&Value::Null))?;
    Ok(logprob.map(|logprob| TopToken { text, id, logprob }))
}
