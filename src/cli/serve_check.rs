//! `w2s serve-check`: what a server can do, before anything is run on it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use w2s::pipeline::within;

use super::terminal;
use super::words::count;
use w2s::error::Result;
use w2s::score::{LocalTokenizer, RouteKind};
use w2s::server::{
    Abilities, ApiKey, ClientOptions, DEADLINES, Meter, Pace, Probe, ServerAddress, Service,
    ServiceOptions, Software, Verdict, agreement, pace,
};

/// Check a server's log-probability support, and how to start one
///
/// Tries every route to log-probabilities and holds their numbers against each other, compares the
/// server's tokens with those of a local tokenizer (needed for labels of several tokens on the route
/// top-k), times requests, and sees whether the server's prefix cache is read: by the counters of
/// `/metrics`, by what it says of each request, or by the time. Sends about forty requests, of which
/// ten are long; none is kept.
///
/// Examples:
///   w2s serve-check http://localhost:8000/v1
///   w2s serve-check http://localhost:8000/v1#NAME --tokenizer models/NAME
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ServeCheckArgs {
    /// Address of the server's API, with the model's name if it has several
    #[arg(value_name = "URL[#NAME]")]
    address: String,
    /// The served model's tokenizer.json, or its folder [default: tokens are not compared]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// File that holds the API key and nothing else [default: W2S_API_KEY or OPENAI_API_KEY]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Next tokens to ask for
    #[arg(long, value_name = "K", default_value_t = NonZeroUsize::new(20).unwrap_or(NonZeroUsize::MIN))]
    top_k: NonZeroUsize,
    /// Longest time for one request
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    deadline: f64,
    /// Leave out what is timed
    #[arg(long)]
    no_timing: bool,
}

pub(super) fn run(args: ServeCheckArgs) -> Result<()> {
    let address = ServerAddress::parse(&args.address)?;
    let local = args.tokenizer.as_deref().map(LocalTokenizer::open).transpose()?;
    within("deadline", Some(args.deadline), DEADLINES)?;
    let client = ClientOptions {
        key: ApiKey::find(args.api_key_file.as_deref())?,
        deadline: Duration::from_secs_f64(args.deadline),
        num_retries: 2,
        ..ClientOptions::default()
    };
    let options = ServiceOptions { client, concurrency: 1, store: None, meter: Meter::default() };
    let service = Service::connect(&address, options)?;
    let software = service.software().map_or("unknown", |software| software.name.as_str());
    terminal::print(format_args!("server: {software} at {}", service.address().url))?;
    terminal::print(format_args!("model: {}", service.model()))?;
    if let Some(most) = service.max_tokens() {
        terminal::print(format_args!("context: {} tokens", count(most as u64)))?;
    }
    let spinner = terminal::wait("trying the routes");
    let mut probe =
        Probe::new(&service, args.top_k.get(), local.as_ref().map(LocalTokenizer::tokenizer));
    probe.named()?;
    probe.echo()?;
    probe.prompt_logprobs()?;
    probe.next_tokens()?;
    probe.chat()?;
    probe.prefill()?;
    let found = probe.found().clone();
    drop(spinner);
    let best = tell_routes(&found)?;
    if let Some(local) = &local {
        tell_agreement(&service, local)?;
    }
    if !args.no_timing {
        let spinner = terminal::wait("timing requests");
        let measured = pace(&service);
        drop(spinner);
        match measured {
            Ok(measured) => tell_pace(&measured)?,
            Err(error) => terminal::print(format_args!("pace: not measured: {}", error.message()))?,
        }
    }
    advise(&service, best)
}

fn tell_routes(found: &Abilities) -> Result<Option<RouteKind>> {
    let say = |verdict: &Option<Verdict>, more: String| match verdict {
        Some(Verdict::Yes) => format!("yes{more}"),
        Some(Verdict::No(why)) => format!("no: {why}"),
        None => "not tried".into(),
    };
    let exact = || ", exact".to_owned();
    let by = found.named_by.map_or_else(String::new, |way| format!(" by {way}"));
    let top = |num: usize| format!(", the {num} most likely tokens");
    let mut best = None;
    for route in RouteKind::ALL {
        let verdict = route.verdict(found);
        let more = match route {
            RouteKind::TokenIds => format!("{}{by}", exact()),
            RouteKind::Echo | RouteKind::PromptLogprobs => exact(),
            RouteKind::TopK => top(found.top_k_given),
            RouteKind::Chat => top(found.chat_top_k_given),
        };
        if best.is_none() && *verdict == Some(Verdict::Yes) {
            best = Some(route);
        }
        terminal::print(format_args!("route {route}: {}", say(verdict, more)))?;
    }
    let more = ", an answer can be begun for the model".to_owned();
    terminal::print(format_args!("prefill of chats: {}", say(&found.prefill, more)))?;
    match best {
        Some(route) => terminal::print(format_args!("best route: {route}"))?,
        None => terminal::print(format_args!("best route: none; texts only"))?,
    }
    Ok(best)
}

fn tell_agreement(service: &Service, local: &LocalTokenizer) -> Result<()> {
    let found = match agreement(service, local.tokenizer()) {
        Ok(found) => found,
        Err(error) => {
            return terminal::print(format_args!("tokenizer: not compared: {}", error.message()));
        }
    };
    let what = if found.by_tokens { "tokens" } else { "numbers of tokens" };
    if found.differ.is_empty() {
        return terminal::print(format_args!(
            "tokenizer: agrees, {what} of {} texts are the same",
            found.num_texts
        ));
    }
    terminal::print(format_args!(
        "tokenizer: DIFFERS, {what} of {} of {} texts; it is not that of the served model",
        found.differ.len(),
        found.num_texts
    ))?;
    for (text, theirs, ours) in &found.differ {
        terminal::print(format_args!("  {text:?}: {theirs} there, {ours} here"))?;
    }
    Ok(())
}

fn tell_pace(pace: &Pace) -> Result<()> {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    terminal::print(format_args!("latency: {:.0} ms, short prompts", ms(pace.short)))?;
    let verdict = if pace.has_prefix_cache() { "works" } else { "not seen" };
    let said = match (pace.counted, pace.remembered) {
        (Some(counted), _) => format!(
            "; /metrics counts {} of {} tokens as known",
            count(counted.hits),
            count(counted.queries)
        ),
        (None, Some(num)) => {
            format!("; the server says that it remembered {} tokens", count(num))
        }
        (None, None) => "; judged by the time, for the server counts nothing".to_owned(),
    };
    terminal::print(format_args!(
        "prefix cache: {verdict}; prompts of {} tokens take {:.0} ms, with a known beginning {:.0} ms{said}",
        count(pace.num_tokens),
        ms(pace.fresh),
        ms(pace.shared)
    ))
}

/// Requests side by side that an advised llama.cpp has room for: it shares its context out among them.
const SLOTS: usize = 4;

/// How to start the server for this, with the files that it says it has.
fn advise(service: &Service, best: Option<RouteKind>) -> Result<()> {
    let most = service.max_tokens().unwrap_or(8192);
    let files = service.files();
    let path = files.model.as_deref().unwrap_or(service.model());
    let software = service.software();
    let is_vllm = software.is_some_and(Software::is_vllm);
    if software.is_some_and(Software::is_llama_cpp) {
        terminal::print(format_args!(
            "to start llama.cpp: llama-server --model {path} --alias {} --ctx-size {} --parallel {SLOTS} --metrics",
            service.model(),
            most * SLOTS
        ))?;
    } else if software.is_some_and(Software::is_sglang) {
        terminal::print(format_args!(
            "to start SGLang: python -m sglang.launch_server --model-path {path} --served-model-name {} --context-length {most} --tp NUM_GPUS --enable-metrics",
            service.model()
        ))?;
    } else {
        let names = match &files.adapter {
            Some(adapter) => {
                format!(" --enable-lora --lora-modules {}={adapter}", service.model())
            }
            None if path == service.model() => String::new(),
            None => format!(" --served-model-name {}", service.model()),
        };
        terminal::print(format_args!(
            "to start vLLM: vllm serve {path}{names} --enable-prefix-caching --enable-prompt-tokens-details --tensor-parallel-size NUM_GPUS --max-model-len {most}"
        ))?;
    }
    if is_vllm && best.is_some_and(|route| route != RouteKind::TokenIds) {
        terminal::print(format_args!(
            "note: this vLLM computes log-probabilities of prompts without its prefix cache; a newer one has the route token-ids, which reads it"
        ))?;
    }
    if best.is_none_or(|route| !route.is_exact()) && !is_vllm {
        terminal::print(format_args!(
            "note: vLLM, SGLang and llama.cpp have exact routes; llama-cpp-python gives log-probabilities with `--logits_all true`"
        ))?;
    }
    Ok(())
}
