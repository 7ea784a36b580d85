//! The ways in which a server gives the log-probability of a label.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{Error, ErrorKind};
use crate::server::{Abilities, ServerAddress, Verdict};

/// A way to the log-probability of a label, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// The tokens of the labels are named, and have their log-probabilities after the prompt: exact.
    TokenIds,
    /// The prompt with the label comes back with the log-probabilities of its tokens: exact.
    Echo,
    /// As vLLM's `prompt_logprobs`: exact.
    PromptLogprobs,
    /// The most likely next tokens after the prompt, if the label is among them.
    TopK,
    /// The most likely first tokens of a chat model's answer, if the label is among them.
    Chat,
}

impl RouteKind {
    /// All routes, the best first.
    pub const ALL: [Self; 5] =
        [Self::TokenIds, Self::Echo, Self::PromptLogprobs, Self::TopK, Self::Chat];

    /// Returns its name on the command line and in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenIds => "token-ids",
            Self::Echo => "echo",
            Self::PromptLogprobs => "prompt-logprobs",
            Self::TopK => "top-k",
            Self::Chat => "chat-top-k",
        }
    }

    /// Returns whether every label gets its own log-probability.
    pub fn is_exact(self) -> bool {
        matches!(self, Self::TokenIds | Self::Echo | Self::PromptLogprobs)
    }

    /// Returns what was found out about it.
    pub fn verdict(self, found: &Abilities) -> &Option<Verdict> {
        match self {
            Self::TokenIds => &found.named,
            Self::Echo => &found.echo,
            Self::PromptLogprobs => &found.prompt_logprobs,
            Self::TopK => &found.next_tokens,
            Self::Chat => &found.chat,
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RouteKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|route| route.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|route| route.name()).collect();
            format!("expected auto, {}", names.join(", "))
        })
    }
}

impl Serialize for RouteKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The error of a server that does not have the route, or none at all.
pub(super) fn no_route(
    wanted: Option<RouteKind>,
    found: &Abilities,
    address: &ServerAddress,
) -> Error {
    let of = |route: RouteKind| match route.verdict(found) {
        Some(Verdict::No(why)) => why.clone(),
        _ => "not tried".to_owned(),
    };
    let message = match wanted {
        Some(route) => format!("{address} has no route `{route}`: {}", of(route)),
        None => {
            let all: Vec<String> =
                RouteKind::ALL.iter().map(|&route| format!("{route}: {}", of(route))).collect();
            format!("{address} gives no log-probabilities ({})", all.join("; "))
        }
    };
    Error::new(ErrorKind::Server, message).hint(
        "llama-cpp-python gives them with `--logits_all true`; providers behind OpenRouter differ; where there are none, `w2s filter --answers votes` works without",
    )
}

/// The error of a question with nothing before the label.
pub(super) fn empty_prompt() -> Error {
    Error::new(ErrorKind::Data, "the prompt is empty, so the label has nothing to follow")
}
