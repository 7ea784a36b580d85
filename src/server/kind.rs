//! Which program a server is: for the record, and for advice that fits.

use serde_json::Value;

use super::address::ServerAddress;
use super::client::Client;

/// A server program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Software {
    /// Its name and version, as far as it says them.
    pub name: String,
    /// The longest prompt in tokens, where this is how it says so.
    pub max_tokens: Option<usize>,
    /// Where it has the model's files, where it says so.
    pub path: Option<String>,
}

impl Software {
    /// Returns what the server says it is; asks for what costs nothing.
    pub fn find(client: &Client, address: &ServerAddress, owner: Option<&str>) -> Option<Self> {
        let root = address.root();
        let named = |name: String| Some(Self { name, max_tokens: None, path: None });
        if root.contains("openrouter.ai") {
            return named("OpenRouter".into());
        }
        if root.contains("api.openai.com") {
            return named("OpenAI".into());
        }
        let get = |path: &str| -> Option<(Value, Option<String>)> {
            let answer = client.try_once(&format!("{root}{path}"), None)?;
            let json = answer.json().ok().filter(|_| answer.status == 200)?;
            Some((json, answer.server))
        };
        if owner == Some("vllm") {
            let version = get("/version").and_then(|(json, _)| text(&json, "/version"));
            return named(with_version("vLLM", version));
        }
        if owner == Some("sglang") {
            let info = get("/get_server_info").map(|(json, _)| json).unwrap_or_default();
            let name = with_version("SGLang", text(&info, "/version"));
            return Some(Self { name, max_tokens: None, path: path_of(&info) });
        }
        if owner == Some("llamacpp") {
            let props = get("/props").map(|(json, _)| json).unwrap_or_default();
            let max_tokens = props
                .pointer("/default_generation_settings/n_ctx")
                .and_then(Value::as_u64)
                .map(|n| n as usize);
            let name = with_version("llama.cpp", text(&props, "/build_info"));
            return Some(Self { name, max_tokens, path: path_of(&props) });
        }
        // FastAPI describes itself; llama-cpp-python is known by it.
        let (json, _) = get("/openapi.json")?;
        let title = text(&json, "/info/title")?;
        let title = match title.contains("llama.cpp Python") {
            true => "llama-cpp-python".to_owned(),
            false => title,
        };
        named(with_version(&title, text(&json, "/info/version")))
    }

    /// Returns whether it is vLLM.
    pub fn is_vllm(&self) -> bool {
        self.name.starts_with("vLLM")
    }

    /// Returns whether it is SGLang.
    pub fn is_sglang(&self) -> bool {
        self.name.starts_with("SGLang")
    }

    /// Returns whether it is llama.cpp's own server.
    pub fn is_llama_cpp(&self) -> bool {
        self.name == "llama.cpp" || self.name.starts_with("llama.cpp ")
    }

    /// Returns whether it is a service that is known to have OpenAI's endpoints alone.
    pub fn is_hosted(&self) -> bool {
        matches!(self.name.as_str(), "OpenRouter" | "OpenAI")
    }
}

fn text(json: &Value, pointer: &str) -> Option<String> {
    json.pointer(pointer).and_then(Value::as_str).map(|text| text.chars().take(80).collect())
}

fn path_of(json: &Value) -> Option<String> {
    json.get("model_path").and_then(Value::as_str).map(str::to_owned)
}

fn with_version(name: &str, version: Option<String>) -> String {
    match version {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    }
}
