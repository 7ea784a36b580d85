//! Which model it is that stands behind a name now: by a canary, asked once a run.

use std::sync::PoisonError;

use serde_json::{Value, json};

use super::canary::{self, Canary, Epoch, Now};
use super::request::Request;
use super::service::Service;
use super::store::AnswerStore;
use crate::error::Result;

impl Service {
    /// Returns why answers that were kept are not used: another model stands behind the name now.
    /// `None` if they are, or if there are none. Sends one request if that is not known yet.
    ///
    /// # Errors
    /// When the server cannot be reached, or the store cannot be used.
    pub fn change(&self) -> Result<Option<String>> {
        if self.store.is_none() {
            return Ok(None);
        }
        Ok(self.now()?.change)
    }

    /// Which model it is, by the canary: asked once a run.
    pub(super) fn now(&self) -> Result<Now> {
        let mut held = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(now) = &*held {
            return Ok(now.clone());
        }
        let now = self.look()?;
        *held = Some(now.clone());
        Ok(now)
    }

    fn look(&self) -> Result<Now> {
        let Some(store) = &self.store else {
            return Ok(Now { epoch: String::new(), change: None });
        };
        let key =
            AnswerStore::key(&self.address.url, &self.model, &json!(["canary", self.identity]));
        let mut epochs: Vec<Epoch> = store.get(&key, None)?.unwrap_or_default();
        let Some(canary) = self.canary(epochs.last().map(|epoch| &epoch.canary))? else {
            // A server without log-probabilities: nothing to compare by.
            let what = "it gives no log-probabilities any more to know the model by";
            let change = (!epochs.is_empty()).then(|| what.to_owned());
            return Ok(Now { epoch: String::new(), change });
        };
        let mut change = None;
        // The newest first: what a message tells is how it differs from that.
        for epoch in epochs.iter().rev() {
            match epoch.canary.moved(&canary) {
                None => return Ok(Now { epoch: epoch.name.clone(), change: None }),
                Some(what) => change = change.or(Some(what)),
            }
        }
        let epoch = canary.name();
        epochs.push(Epoch { name: epoch.clone(), canary });
        store.put(&key, (&self.address.url, &self.model), &epochs)?;
        Ok(Now { epoch, change })
    }

    /// The next tokens of the canary's text, asked as the last time first.
    fn canary(&self, last: Option<&Canary>) -> Result<Option<Canary>> {
        let by_chat = last.is_some_and(|last| last.by_chat);
        let messages = json!([{ "role": "user", "content": canary::TEXT }]);
        for by_chat in [by_chat, !by_chat] {
            let counts = last.map(|last| last.top_k).into_iter().chain(canary::COUNTS);
            let mut tried = Vec::new();
            for top_k in counts {
                if tried.contains(&top_k) {
                    continue;
                }
                tried.push(top_k);
                let mut request = match by_chat {
                    true => Request::chat(&messages, &super::request::chat_parameters(top_k)),
                    false => {
                        let more = json!({ "max_tokens": 1, "temperature": 0, "logprobs": top_k });
                        Request::completion(canary::TEXT, &more)
                    }
                };
                self.skip_cache(&mut request.more);
                match self.ask(&request, false)? {
                    Ok(reply) => match Canary::new(&reply, top_k, by_chat) {
                        Some(canary) => return Ok(Some(canary)),
                        // It does not give any here.
                        None => break,
                    },
                    Err(answer) if matches!(answer.status, 401 | 403) => {
                        return Err(self.refused(&answer));
                    }
                    Err(answer) if matches!(answer.status, 404 | 405) => break,
                    Err(_) => {}
                }
            }
        }
        Ok(None)
    }

    /// Says that the server should compute the prompt anew, where it is known how.
    fn skip_cache(&self, more: &mut Value) {
        let Some(software) = &self.software else { return };
        if software.is_vllm() {
            more["cache_salt"] = format!("{:032x}", rand::random::<u128>()).into();
        } else if software.is_llama_cpp() {
            more["cache_prompt"] = false.into();
        }
    }
}
