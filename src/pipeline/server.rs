//! The options of commands that can ask a server instead of a local model.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Serialize, Serializer};

use super::given::first_given;
use super::usage::wrong;
use crate::error::Result;
use crate::score::{HttpScorer, HttpScorerOptions, RouteKind};
use crate::server::{
    AnswerStore, ApiKey, ClientOptions, DEADLINES, Meter, PACES, Prices, ServerAddress, Service,
    ServiceOptions,
};

/// How a model behind a server is asked.
#[derive(Clone, Debug, Args, Serialize)]
#[command(
    next_help_heading = "Server (with `--model http://HOST:8000/v1#NAME`; the API key is read from W2S_API_KEY or OPENAI_API_KEY)"
)]
pub struct ServerOptions {
    /// How to obtain log-probabilities: auto takes the best that works, in this order: token-ids (exact,
    /// and the server's prefix cache is read; the tokens come from --tokenizer or from the server), echo
    /// and prompt-logprobs (exact, the whole prompt is computed for every label), top-k (the label must
    /// be among the most likely next tokens), chat-top-k (among the first tokens of a chat's answer)
    /// [default: auto]
    #[arg(long, value_name = "ROUTE", value_parser = route)]
    pub route: Option<RouteChoice>,
    /// Next tokens to ask for on the routes top-k and chat-top-k; where a label is not among them, more
    /// are asked for, as far as the server gives them [default: 20]
    #[arg(long, value_name = "K")]
    pub top_k: Option<NonZeroUsize>,
    /// Share of labels that may be missing among these; more stop the run [default: 0.05]
    #[arg(long, value_name = "SHARE")]
    pub max_misses: Option<f64>,
    /// The served model's tokenizer.json, or its folder: exact borders of labels, the tokens
    /// of the route token-ids, labels of several tokens on the route top-k, and the chat template where there is one [default: none]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// File that holds the API key and nothing else [default: the environment]
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Most requests under way at once [default: 8]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<NonZeroUsize>,
    /// Most requests begun in a second [default: no limit]
    #[arg(long, value_name = "N")]
    pub requests_per_second: Option<f64>,
    /// Longest time for one request [default: 120]
    #[arg(long, value_name = "SECONDS")]
    pub deadline: Option<f64>,
    /// Times a request is sent again after 429, 5xx, a broken connection or an answer that is none,
    /// with growing waits
    /// [default: 6]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Folder where answers are kept for all runs, or off; an answer that is there costs nothing.
    /// With off, a run that is interrupted asks some of them again
    /// [default: w2s in the user's folder of caches]
    #[arg(long, value_name = "DIR|off")]
    pub response_cache: Option<PathBuf>,
    /// Price table (TOML): `currency = "USD"` and, for each model, `[models."NAME"]` with
    /// `input_per_million` and `output_per_million` [default: none]
    #[arg(long, value_name = "FILE.toml")]
    pub prices: Option<PathBuf>,
    /// Stop before the request that could make the run cost more, by the price table
    #[arg(long, value_name = "AMOUNT", requires = "prices")]
    pub max_cost: Option<f64>,
}

/// A route, or the best there is.
#[derive(Clone, Copy, Debug)]
pub struct RouteChoice(pub Option<RouteKind>);

impl Serialize for RouteChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_str("auto"),
            Some(route) => route.serialize(serializer),
        }
    }
}

fn route(text: &str) -> std::result::Result<RouteChoice, String> {
    match text {
        "auto" => Ok(RouteChoice(None)),
        name => name.parse().map(|route| RouteChoice(Some(route))),
    }
}

impl ServerOptions {
    /// Refuses these options where the model is a folder.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Usage`] with the first that is given.
    pub(super) fn forbid(&self) -> Result<()> {
        match first_given(self, |_| true) {
            Some(name) => Err(wrong(
                format!("`--{name}` is of a server, and none is asked"),
                "leave it out, or name a server: `--model http://HOST:8000/v1#NAME`",
            )),
            None => Ok(()),
        }
    }

    /// Connects to the model of a server.
    pub(super) fn connect(&self, address: &ServerAddress) -> Result<Service> {
        Service::connect(address, self.service_options(address)?)
    }

    /// Connects to the model of a server, or makes one up to be counted for where it cannot be reached.
    pub(super) fn connect_or_suppose(&self, address: &ServerAddress) -> Result<Service> {
        Service::connect_or_suppose(address, self.service_options(address)?)
    }

    fn service_options(&self, address: &ServerAddress) -> Result<ServiceOptions> {
        let default = ClientOptions::default();
        let deadline = within("deadline", self.deadline, DEADLINES)?;
        let client = ClientOptions {
            key: ApiKey::find(self.api_key_file.as_deref())?,
            deadline: deadline.map_or(default.deadline, Duration::from_secs_f64),
            num_retries: self.retries.unwrap_or(default.num_retries),
            requests_per_second: within("requests-per-second", self.requests_per_second, PACES)?,
            ..default
        };
        if let Some(amount) = self.max_cost
            && !(amount >= 0.0 && amount.is_finite())
        {
            return Err(wrong(
                format!("`--max-cost` is {amount}, expected 0 or more"),
                "choose another",
            ));
        }
        let prices = self.prices.as_deref().map(Prices::read).transpose()?;
        // The name may be known from the server's list only.
        let named = match (&prices, &address.model) {
            (Some(_), None) => {
                return Err(wrong("a price table needs the model's name", "`--model URL#NAME`"));
            }
            (Some(prices), Some(model)) => Some((prices.of(model)?, prices.currency.clone())),
            (None, _) => None,
        };
        Ok(ServiceOptions {
            client,
            concurrency: self.concurrency.map_or(8, NonZeroUsize::get),
            store: self.store()?,
            meter: Meter::new(named, self.max_cost),
        })
    }

    fn store(&self) -> Result<Option<AnswerStore>> {
        store(self.response_cache.as_ref())
    }

    /// How the scorer asks.
    pub(super) fn scorer(&self, service: Service, context: Option<usize>) -> Result<HttpScorer> {
        let default = HttpScorerOptions::default();
        let max_misses = self.max_misses.unwrap_or(default.max_misses);
        if !(0.0..=1.0).contains(&max_misses) {
            return Err(wrong(
                format!("`--max-misses` is {max_misses}, expected a share from 0 to 1"),
                "0 stops at the first miss",
            ));
        }
        HttpScorer::new(
            service,
            HttpScorerOptions {
                route: self.route.and_then(|route| route.0),
                top_k: self.top_k.map_or(default.top_k, NonZeroUsize::get),
                max_misses,
                max_context_tokens: context,
                tokenizer: self.tokenizer.clone(),
            },
        )
    }

    /// Share of labels that may be missing.
    pub(super) fn max_misses(&self) -> f64 {
        self.max_misses.unwrap_or(HttpScorerOptions::default().max_misses)
    }
}

/// The store that an option names: a folder, none, or the user's own.
pub(super) fn store(option: Option<&PathBuf>) -> Result<Option<AnswerStore>> {
    match option {
        Some(path) if path.as_os_str() == "off" => Ok(None),
        Some(path) => AnswerStore::open(path).map(Some),
        None => match AnswerStore::default_folder() {
            Some(folder) => AnswerStore::open(&folder).map(Some),
            None => Err(wrong(
                "there is no home folder to keep answers in",
                "name a folder with `--response-cache DIR`, or `--response-cache off`",
            )),
        },
    }
}

/// Refuses a number that makes no sense: times and paces are made from it.
pub fn within(name: &str, value: Option<f64>, range: RangeInclusive<f64>) -> Result<Option<f64>> {
    match value {
        Some(x) if !range.contains(&x) => Err(wrong(
            format!("`--{name}` is {x:?}, expected {} to {}", range.start(), range.end()),
            "choose another",
        )),
        value => Ok(value),
    }
}
