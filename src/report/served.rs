//! What a report says of runs on servers and of explanations: from `server.json` and
//! `explanation.json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::document::Document;
use super::files::read_json;
use super::words::percent;
use crate::error::Result;
use crate::run::EXPLANATION;

#[derive(Deserialize)]
struct Served {
    url: String,
    model: String,
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    route: Option<String>,
    misses: Misses,
    spent: Spent,
}

#[derive(Deserialize)]
struct Misses {
    num_labels: u64,
    num_missed: u64,
}

#[derive(Deserialize)]
struct Spent {
    num_requests: u64,
    num_kept: u64,
    tokens_in: u64,
    tokens_out: u64,
    cost: Option<f64>,
    cost_by_server: Option<f64>,
    currency: Option<String>,
}

#[derive(Deserialize)]
struct Explanation {
    text: String,
    model: String,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    letter: String,
    label: String,
    ids: Vec<String>,
}

/// The sections of the page, or nothing.
///
/// # Errors
/// When a file is broken.
pub(super) fn sections(runs: &[PathBuf], names: &[String]) -> Result<Document> {
    let (mut servers, mut explanations) = (Vec::new(), Document::default());
    for (dir, name) in runs.iter().zip(names) {
        if let Some(served) = read::<Served>(dir, "server.json")? {
            servers.push(served.row(name));
        }
        if let Some(explanation) = read::<Explanation>(dir, EXPLANATION)? {
            explanation.add_to(&mut explanations, name);
        }
    }
    let mut all = Document::default();
    if !servers.is_empty() {
        all.heading(2, "Servers");
        let head = ["run", "model", "route", "labels missed", "requests", "kept answers"];
        let costs = ["tokens in", "tokens out", "cost"];
        all.table_with_words(&[&head[..], &costs].concat(), &[0, 1, 2]);
        servers.iter().for_each(|row| all.row(row));
        all.say(
            "A label that a server did not name among its most likely tokens was given the most that \
             it can have.",
        );
    }
    if !explanations.is_empty() {
        all.heading(2, "What the labels seem to mean");
        all.say("A chat model's reading of a sample of each run's labels; no measurement.");
        all.append(explanations);
    }
    Ok(all)
}

fn read<T: serde::de::DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    let path = dir.join(name);
    if path.exists() { read_json(&path, "").map(Some) } else { Ok(None) }
}

impl Served {
    fn row(&self, name: &str) -> Vec<String> {
        let Self { url, model, server, route, misses, spent } = self;
        let by = server.as_ref().map_or_else(String::new, |server| format!(" ({server})"));
        let missed = match misses.num_labels {
            0 => "-".to_owned(),
            num => format!(
                "{} of {num} ({}%)",
                misses.num_missed,
                percent(misses.num_missed as f64 / num as f64)
            ),
        };
        let money = spent.cost.or(spent.cost_by_server);
        let cost = money.map_or_else(
            || "-".to_owned(),
            |cost| format!("{cost:.4} {}", spent.currency.as_deref().unwrap_or("")),
        );
        vec![
            name.to_owned(),
            format!("{model} at {url}{by}"),
            route.as_deref().unwrap_or("texts").to_owned(),
            missed,
            spent.num_requests.to_string(),
            spent.num_kept.to_string(),
            spent.tokens_in.to_string(),
            spent.tokens_out.to_string(),
            cost.trim().to_owned(),
        ]
    }
}

impl Explanation {
    fn add_to(&self, page: &mut Document, name: &str) {
        let groups: Vec<String> = self
            .groups
            .iter()
            .map(|g| format!("{} is {} ({} shown)", g.letter, g.label, g.ids.len()))
            .collect();
        page.heading(3, name);
        page.say(&format!("By {}; {}.", self.model, groups.join(", ")));
        for line in self.text.lines().filter(|line| !line.trim().is_empty()) {
            page.say(line);
        }
    }
}
