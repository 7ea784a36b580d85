//! Adapters that a server takes while it runs, as vLLM does.

use serde_json::{Value, json};

use super::client::FEW_TRIES;
use super::service::Service;
use crate::error::{Error, ErrorKind, Result};

/// What to start a server with, so that it takes adapters.
const HOW: &str = "start vLLM with `--enable-lora --max-lora-rank R` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment";

impl Service {
    /// Where adapters are taken and given up.
    fn adapters_url(&self, what: &str) -> String {
        format!("{}/{what}_lora_adapter", self.address().url)
    }

    /// Refuses a server that takes no adapters while it runs. Loads nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when it does not, or cannot be reached.
    pub fn check_adapters(&self) -> Result<()> {
        let url = self.adapters_url("load");
        if self.software().is_some_and(super::Software::is_sglang) {
            return Err(Error::new(
                ErrorKind::Server,
                "SGLang names adapters in requests in a way that is not spoken here",
            )
            .hint(HOW));
        }
        // A request that names nothing: a server that has the path says what is missing.
        let Some(answer) = self.client().try_once(&url, Some(&json!({}))) else {
            return Err(away(&url));
        };
        match answer.status {
            401 | 403 => Err(self.refused(&answer)),
            404 | 405 | 501 => Err(Error::new(
                ErrorKind::Server,
                format!(
                    "{} takes no adapters while it runs ({url}: {})",
                    self.address(),
                    answer.status
                ),
            )
            .hint(HOW)),
            _ => Ok(()),
        }
    }

    /// Returns the names of the models and adapters that the server has now.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when it cannot be reached or refuses to say.
    pub fn served_names(&self) -> Result<Vec<String>> {
        let url = format!("{}/models", self.address().url);
        let asked = self.client().ask(&url, None, FEW_TRIES, |json: &Value| Ok(json.clone()))?;
        let list = asked.map_err(|answer| self.refused(&answer))?;
        let entries = list.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let name = |entry: &Value| entry.get("id").and_then(Value::as_str).map(str::to_owned);
        Ok(entries.iter().filter_map(name).collect())
    }

    /// Has the server take the adapter in a folder that it sees, under a name. A server that has the name
    /// is not asked.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when it does not, with what it says.
    pub fn load_adapter(&self, name: &str, folder: &str) -> Result<()> {
        if self.served_names()?.iter().any(|known| known == name) {
            return Ok(());
        }
        let url = self.adapters_url("load");
        let body = json!({ "lora_name": name, "lora_path": folder });
        let Some(answer) = self.client().try_once(&url, Some(&body)) else {
            return Err(away(&url));
        };
        let said = answer.message();
        match answer.status {
            200 => Ok(()),
            // Taken by a request whose answer was lost.
            400 if said.contains("already") => Ok(()),
            401 | 403 => Err(self.refused(&answer)),
            status => {
                // 404 is said by a server without the path, and by vLLM of a folder that it does not see.
                self.check_adapters()?;
                let address = self.address();
                Err(Error::new(
                    ErrorKind::Server,
                    format!("{address} does not take the adapter `{folder}` ({status}): {said}"),
                )
                .hint(format!(
                    "does the server see this folder (`--labeller-folder`), and does it take adapters of this rank? {HOW}; then go on with `--resume`"
                )))
            }
        }
    }

    /// Has the server give an adapter up, if it has it.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when the server cannot be reached.
    pub fn unload_adapter(&self, name: &str) -> Result<()> {
        let url = self.adapters_url("unload");
        let body = json!({ "lora_name": name });
        self.client().try_once(&url, Some(&body)).map(drop).ok_or_else(|| away(&url))
    }
}

fn away(url: &str) -> Error {
    Error::new(ErrorKind::Server, format!("{url} cannot be reached")).hint(
        "check that the server runs; with the same command and `--resume` nothing is done twice",
    )
}
