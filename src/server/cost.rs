//! What requests cost: counts, and money where a price table is given.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::reply::Reply;
use crate::error::{Error, ErrorKind, Result};

/// What a model costs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// For a million tokens of prompts.
    pub input_per_million: f64,
    /// For a million tokens of prompts that the server remembers; as `input_per_million` without.
    #[serde(default)]
    pub cached_input_per_million: Option<f64>,
    /// For a million tokens that the model writes.
    pub output_per_million: f64,
    /// For a request, whatever its length.
    #[serde(default)]
    pub per_request: f64,
}

impl Price {
    fn of(&self, input: u64, cached: u64, output: u64) -> f64 {
        let million = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        let cached = cached.min(input);
        self.per_request
            + million(input - cached, self.input_per_million)
            + million(cached, self.cached_input_per_million.unwrap_or(self.input_per_million))
            + million(output, self.output_per_million)
    }
}

/// A price table, from a TOML file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// What the prices are in, such as `USD`.
    pub currency: String,
    /// The prices by a model's name.
    pub models: BTreeMap<String, Price>,
}

impl Prices {
    /// Returns the table in a file.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a file that is none, and for a price below zero.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
        let fail = |line: Option<usize>, message: String| {
            let error = Error::new(ErrorKind::Usage, message);
            let error = match line {
                Some(line) => error.at_line(path, line),
                None => error.at(path),
            };
            error.hint("expected `currency = \"USD\"` and, for each model, a table `[models.\"NAME\"]` with `input_per_million` and `output_per_million`")
        };
        let prices: Self = toml::from_str(&text).map_err(|e| {
            let line = e.span().map(|span| 1 + text[..span.start].matches('\n').count());
            fail(line, e.message().lines().next().unwrap_or_default().to_owned())
        })?;
        for (name, price) in &prices.models {
            let all = [
                price.input_per_million,
                price.output_per_million,
                price.per_request,
                price.cached_input_per_million.unwrap_or(0.0),
            ];
            if all.iter().any(|x| !x.is_finite() || *x < 0.0) {
                return Err(fail(None, format!("a price of `{name}` is not a number from 0 up")));
            }
        }
        Ok(prices)
    }

    /// Returns the price of a model.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is not in the table; says which are.
    pub fn of(&self, model: &str) -> Result<Price> {
        self.models.get(model).copied().ok_or_else(|| {
            let names: Vec<&str> = self.models.keys().map(String::as_str).collect();
            Error::new(ErrorKind::Usage, format!("the price table has no model `{model}`"))
                .hint(format!("it has: {}", names.join(", ")))
        })
    }
}

/// What was asked and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Requests that were answered.
    pub num_requests: u64,
    /// Answers that were there already and cost nothing.
    pub num_kept: u64,
    /// Tokens of the prompts, as the server counts them.
    pub tokens_in: u64,
    /// Of these, what the server remembered.
    pub tokens_in_remembered: u64,
    /// Tokens written.
    pub tokens_out: u64,
    /// Cost by the price table.
    pub cost: Option<f64>,
    /// Cost as the server says it.
    pub cost_by_server: Option<f64>,
    /// What costs are in.
    pub currency: Option<String>,
}

/// Returns the sum of the costs that are known.
pub(crate) fn sum_of_known(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

impl Spent {
    /// Returns both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            num_requests: self.num_requests + other.num_requests,
            num_kept: self.num_kept + other.num_kept,
            tokens_in: self.tokens_in + other.tokens_in,
            tokens_in_remembered: self.tokens_in_remembered + other.tokens_in_remembered,
            tokens_out: self.tokens_out + other.tokens_out,
            cost: sum_of_known(self.cost, other.cost),
            cost_by_server: sum_of_known(self.cost_by_server, other.cost_by_server),
            currency: self.currency.clone().or_else(|| other.currency.clone()),
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    spent: Spent,
    /// The most that the requests under way can cost.
    reserved: f64,
}

/// Counts requests and what they cost, and stops before too much is spent.
#[derive(Debug, Default)]
pub struct Meter {
    price: Option<Price>,
    most: Option<f64>,
    counts: Mutex<Counts>,
}

/// The most that a request under way can cost.
#[derive(Debug)]
pub(super) struct Reserved(f64);

impl Meter {
    /// Returns a meter with a price, and the most that may be spent.
    pub fn new(price: Option<(Price, String)>, most: Option<f64>) -> Self {
        let currency = price.as_ref().map(|(_, currency)| currency.clone());
        let price = price.map(|(price, _)| price);
        let spent = Spent { currency, cost: price.map(|_| 0.0), ..Spent::default() };
        Self { price, most, counts: Mutex::new(Counts { spent, reserved: 0.0 }) }
    }

    /// Returns a meter with the same price that has counted nothing and stops nothing.
    #[must_use]
    pub fn anew(&self) -> Self {
        let currency = self.spent().currency.unwrap_or_default();
        Self::new(self.price.map(|price| (price, currency)), None)
    }

    /// Counts a request of so many tokens, of which the server remembers some, as if it had been
    /// answered.
    pub(crate) fn count(&self, sent: u64, remembered: u64, written: u64) {
        let reply = Reply {
            tokens_in: Some(sent),
            tokens_remembered: Some(remembered),
            tokens_out: Some(written),
            ..Reply::default()
        };
        self.settle(&Reserved(0.0), Some(&reply));
    }

    /// Returns what was spent so far.
    pub fn spent(&self) -> Spent {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).spent.clone()
    }

    /// Makes room for a request of at most so many tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when it could cost more than is left.
    pub(super) fn reserve(&self, most_in: u64, most_out: u64) -> Result<Reserved> {
        let Some(price) = self.price else { return Ok(Reserved(0.0)) };
        let bound = price.of(most_in, 0, most_out);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = counts.spent.cost.unwrap_or(0.0);
        if let Some(most) = self.most
            && spent + counts.reserved + bound > most
        {
            let currency = counts.spent.currency.clone().unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Server,
                format!(
                    "the next request could cost up to {bound:.6} {currency} and pass `--max-cost {most}`: {spent:.6} {currency} is spent, {:.6} under way",
                    counts.reserved
                ),
            )
            .hint("what was answered is kept; go on with the same command and a larger `--max-cost`"));
        }
        counts.reserved += bound;
        Ok(Reserved(bound))
    }

    /// Counts an answer, or gives back what was reserved for none.
    pub(super) fn settle(&self, reserved: &Reserved, reply: Option<&Reply>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.reserved = (counts.reserved - reserved.0).max(0.0);
        let Some(reply) = reply else { return };
        let (input, cached, output) = (
            reply.tokens_in.unwrap_or(0),
            reply.tokens_remembered.unwrap_or(0),
            reply.tokens_out.unwrap_or(0),
        );
        let spent = &mut counts.spent;
        spent.num_requests += 1;
        spent.tokens_in += input;
        spent.tokens_in_remembered += cached;
        spent.tokens_out += output;
        if let Some(price) = self.price {
            // Without the server's count, the bound is what is known.
            let cost = match reply.tokens_in {
                Some(_) => price.of(input, cached, output),
                None => reserved.0,
            };
            spent.cost = Some(spent.cost.unwrap_or(0.0) + cost);
        }
        if let Some(cost) = reply.cost {
            spent.cost_by_server = Some(spent.cost_by_server.unwrap_or(0.0) + cost);
        }
    }

    /// Counts an answer that was there already.
    pub(crate) fn count_kept(&self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).spent.num_kept += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(tokens_in: u64, cached: u64, tokens_out: u64) -> Reply {
        Reply {
            tokens_in: Some(tokens_in),
            tokens_remembered: Some(cached),
            tokens_out: Some(tokens_out),
            ..Reply::default()
        }
    }

    #[test]
    fn a_price_table_is_read_and_counted_by() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prices.toml");
        let text = "currency = \"USD\"\n[models.\"a/b\"]\ninput_per_million = 2\noutput_per_million = 8.0\ncached_input_per_million = 0.5\n";
        std::fs::write(&path, text).unwrap();
        let prices = Prices::read(&path).unwrap();
        assert!(prices.of("c").unwrap_err().to_string().contains("a/b"));
        let meter = Meter::new(Some((prices.of("a/b").unwrap(), prices.currency)), Some(3.0));
        // 0.4 million at 2, 0.6 million at 0.5, 0.1 million at 8.
        let reserved = meter.reserve(1_000_000, 100_000).unwrap();
        assert!(meter.reserve(500_000, 0).is_err(), "2.8 are under way already");
        meter.settle(&reserved, Some(&reply(1_000_000, 600_000, 100_000)));
        let spent = meter.spent();
        assert!((spent.cost.unwrap() - 1.9).abs() < 1e-12);
        assert_eq!(
            (spent.num_requests, spent.tokens_in, spent.tokens_out),
            (1, 1_000_000, 100_000)
        );
        let reserved = meter.reserve(500_000, 0).unwrap();
        meter.settle(&reserved, None);
        let error = meter.reserve(600_000, 0).unwrap_err().to_string();
        assert!(error.contains("--max-cost 3") && error.contains("1.9"), "{error}");
        for (bad, word) in [
            ("currency = \"USD\"\n[models.x]\ninput_per_milion = 1\n", ", line 3"),
            (
                "currency = \"USD\"\n[models.x]\ninput_per_million = -1\noutput_per_million = 1\n",
                "from 0 up",
            ),
            ("models = 3", ", line 1"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = Prices::read(&path).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("currency"), "{error}");
        }
    }
}
