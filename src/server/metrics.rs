//! A server's counters of its prefix cache, as `/metrics` gives them for Prometheus.

use super::service::Service;

/// Tokens of prompts, and those of them that a server had computed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixCounters {
    /// Tokens of prompts that were looked for.
    pub queries: u64,
    /// Those that were there.
    pub hits: u64,
}

/// Names of the two counters, and whether the first has only what was computed: vLLM; vLLM before it
/// counted tokens by that name; SGLang; llama.cpp.
const NAMES: [(&str, &str, bool); 4] = [
    ("vllm:prefix_cache_queries", "vllm:prefix_cache_hits", false),
    ("vllm:gpu_prefix_cache_queries", "vllm:gpu_prefix_cache_hits", false),
    ("sglang:prompt_tokens", "sglang:cached_tokens", false),
    ("llamacpp:prompt_tokens", "llamacpp:prompt_tokens_cached", true),
];

impl PrefixCounters {
    /// What the server counts; `None` where it has no such counters. Costs nothing.
    pub(super) fn read(service: &Service) -> Option<Self> {
        let url = format!("{}/metrics", service.address().root());
        let answer = service.client().try_once(&url, None)?;
        (answer.status == 200).then(|| Self::parse(&answer.body)).flatten()
    }

    fn parse(text: &str) -> Option<Self> {
        NAMES.iter().find_map(|&(queries, hits, without)| {
            let (queries, hits) = (counter(text, queries)?, counter(text, hits)?);
            Some(Self { queries: if without { queries + hits } else { queries }, hits })
        })
    }

    /// What was counted since an earlier reading.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            queries: self.queries.saturating_sub(before.queries),
            hits: self.hits.saturating_sub(before.hits),
        }
    }

    /// What was counted in both.
    pub(super) fn and(self, other: Option<Self>) -> Self {
        let other = other.unwrap_or_default();
        Self { queries: self.queries + other.queries, hits: self.hits + other.hits }
    }
}

/// The sum of a counter over all its labels; some writers end its name in `_total`.
fn counter(text: &str, name: &str) -> Option<u64> {
    let mut sum = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let rest = rest.strip_prefix("_total").unwrap_or(rest);
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}').map(|(_, value)| value),
            None => rest.strip_prefix(' '),
        };
        let number = value.and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
        if let Some(number) = number.filter(|number| *number >= 0.0) {
            sum = Some(sum.unwrap_or(0) + number as u64);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the form of vLLM's and SGLang's exporters.
    #[test]
    fn counters_are_read() {
        let vllm = "# HELP vllm:prefix_cache_queries_total Prefix cache queries\n\
            # TYPE vllm:prefix_cache_queries_total counter\n\
            vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"a}b\"} 8708.0\n\
            vllm:prefix_cache_queries_total{engine=\"1\",model_name=\"m\"} 2.0\n\
            vllm:prefix_cache_queries_created{engine=\"0\",model_name=\"m\"} 1.7e+09\n\
            vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"m\"} 5344.0\n";
        let read = PrefixCounters::parse(vllm).unwrap();
        assert_eq!(read, PrefixCounters { queries: 8710, hits: 5344 });
        let sglang = "sglang:prompt_tokens_total{model_name=\"m\"} 1e+02\nsglang:cached_tokens_total{cache_source=\"device\",model_name=\"m\"} 40\n";
        assert_eq!(
            PrefixCounters::parse(sglang).unwrap(),
            PrefixCounters { queries: 100, hits: 40 }
        );
        let llama = "llamacpp:prompt_tokens_total 30\nllamacpp:prompt_tokens_cached_total 12\nllamacpp:prompt_seconds_total 1\n";
        assert_eq!(PrefixCounters::parse(llama).unwrap(), PrefixCounters { queries: 42, hits: 12 });
        assert_eq!(PrefixCounters::parse("vllm:num_requests_running 1\n"), None);
        let later = PrefixCounters { queries: 9000, hits: 5600 };
        assert_eq!(later.since(read), PrefixCounters { queries: 290, hits: 256 });
    }
}
