//! A step of a recipe with its names filled in: values of the scale, entries of arrays, folders of other steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Value;

use super::file::{Recipe, StepTable, stays_below};
use super::words;
use crate::error::Result;

/// Most runs of a recipe; more is a slip, such as a list too many.
pub(super) const MAX_RUNS: usize = 10_000;

/// What the arrays that a step is run for stand for in it.
pub type Bound = BTreeMap<String, Value>;

/// A command of a recipe with its names filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipeStep {
    /// Its folder below that of the results, such as `sst2/seed-0/naive`.
    pub name: String,
    /// The step of the recipe that it is of.
    pub of: String,
    /// What its arrays stand for.
    pub bound: Bound,
    /// The command line without the program's name, `--out` included.
    pub argv: Vec<String>,
    /// The folder.
    pub out: PathBuf,
}

impl RecipeStep {
    /// Returns what it is run for, such as `sst2`: its folder without its own name.
    pub fn group(&self) -> &str {
        self.name.rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// Returns the name under which numbers were published for what it is run for.
    pub fn published_set(&self) -> Option<&str> {
        published_set(&self.bound)
    }
}

fn published_set(bound: &Bound) -> Option<&str> {
    bound.values().find_map(|value| value.get("published")?.as_str())
}

/// Returns whether a command has a folder of its own.
fn takes_out(argv: &[String]) -> bool {
    match argv.first().map(String::as_str) {
        Some("eval") => words::is_given(argv, "--test"),
        _ => true,
    }
}

pub(super) struct Filling<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) values: &'a BTreeMap<String, Value>,
    pub(super) data: &'a Path,
    pub(super) out: &'a Path,
}

/// Returns a value as an argument.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

impl Filling<'_> {
    /// Returns the lists that a step is for. How many runs they make is told before any is made.
    fn lists(&self, line: usize, step: &StepTable) -> Result<Vec<(&String, &Vec<Value>)>> {
        let fault = |message: String| self.recipe.fault(line, message);
        let mut lists: Vec<(&String, &Vec<Value>)> = Vec::new();
        for name in &step.each {
            let Some((name, Value::Array(values))) = self.values.get_key_value(name) else {
                return Err(fault(format!(
                    "step `{}` is for `{name}`, which is no list of the scale",
                    step.name
                )));
            };
            if lists.iter().any(|(other, _)| *other == name) {
                return Err(fault(format!("step `{}` is for `{name}` twice", step.name)));
            }
            lists.push((name, values));
        }
        let num = lists.iter().try_fold(1_usize, |num, (_, list)| num.checked_mul(list.len()));
        if num.is_none_or(|num| num > MAX_RUNS) {
            let sizes: Vec<String> =
                lists.iter().map(|(name, list)| format!("{name} has {}", list.len())).collect();
            return Err(fault(format!(
                "step `{}` would be run more than {MAX_RUNS} times: {}",
                step.name,
                sizes.join(", ")
            ))
            .hint("every entry of a list is run with every entry of the others; shorten one"));
        }
        Ok(lists)
    }

    /// Returns every choice of the arrays that a step is for.
    pub(super) fn bindings(&self, line: usize, step: &StepTable) -> Result<Vec<Bound>> {
        let mut all = vec![Bound::new()];
        for (name, values) in self.lists(line, step)? {
            all = all
                .into_iter()
                .flat_map(|bound| {
                    values.iter().map(move |value| {
                        let mut bound = bound.clone();
                        bound.insert(name.clone(), value.clone());
                        bound
                    })
                })
                .collect();
        }
        Ok(all)
    }

    /// Returns the folder of a step below that of the results.
    fn folder(&self, step: &StepTable, bound: &Bound) -> String {
        let part = |name: &String| {
            let value = bound.get(name);
            let named = value.and_then(|v| v.get("name")).and_then(plain);
            match (named, value.and_then(plain)) {
                (Some(text), _) => text,
                (None, Some(text)) => format!("{name}-{text}"),
                (None, None) => name.clone(),
            }
        };
        let parts: Vec<String> = step.each.iter().map(part).chain([step.name.clone()]).collect();
        parts.join("/")
    }

    pub(super) fn step(&self, line: usize, step: &StepTable, bound: Bound) -> Result<RecipeStep> {
        let typed = shell_words::split(&step.run).map_err(|_| {
            self.recipe
                .fault(line, format!("the command of step `{}` has an open quote", step.name))
        })?;
        let mut argv: Vec<String> = Vec::new();
        for word in typed {
            if let Some(name) = word.strip_prefix("{*").and_then(|rest| rest.strip_suffix('}')) {
                let text = self.value(line, step, &bound, name)?;
                let more = shell_words::split(&text)
                    .map_err(|_| self.recipe.fault(line, format!("`{name}` has an open quote")))?;
                argv.extend(more);
            } else if word == "{published}" {
                argv.extend(self.published(&bound));
            } else {
                argv.push(self.fill(line, step, &bound, &word)?);
            }
        }
        let name = self.folder(step, &bound);
        if !stays_below(&name) {
            let message = format!("a run of step `{}` would have the folder `{name}`", step.name);
            return Err(self.recipe.fault(line, message).hint(
                "names in lists become folders below `--out`: leave out `..`, and give a table with a `name` for other values",
            ));
        }
        let out = self.out.join(&name);
        if words::is_given(&argv, "--out") {
            let message = format!("the command of step `{}` sets `--out`", step.name);
            return Err(self.recipe.fault(line, message).hint(
                "leave it out: a run's folder is named by its step and its lists, below the recipe's `--out`",
            ));
        }
        if takes_out(&argv) {
            words::set(&mut argv, "--out", &out.display().to_string());
        }
        Ok(RecipeStep { name, of: step.name.clone(), bound, argv, out })
    }

    /// Returns the numbers that were published for the step's data set, as options of a comparison.
    fn published(&self, bound: &Bound) -> Vec<String> {
        let set = published_set(bound);
        let mine = self.recipe.published.iter().filter(|number| Some(number.set.as_str()) == set);
        mine.flat_map(|number| {
            ["--published".to_owned(), format!("{}={}", number.method, number.percent)]
        })
        .collect()
    }

    fn fill(&self, line: usize, step: &StepTable, bound: &Bound, word: &str) -> Result<String> {
        self.check_below(line, word)?;
        let mut out = String::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, end)) = after.split_once('}') else {
                return Err(self.recipe.fault(line, format!("`{word}` has an open brace")));
            };
            out += before;
            out += &match name.strip_prefix('@') {
                Some(name) => self.folders(line, step, bound, name)?,
                None => self.value(line, step, bound, name)?,
            };
            rest = end;
        }
        Ok(out + rest)
    }

    fn value(&self, line: usize, step: &StepTable, bound: &Bound, name: &str) -> Result<String> {
        match name {
            "data" => return Ok(self.data.display().to_string()),
            "out" => return Ok(self.out.display().to_string()),
            _ => {}
        }
        let (first, entry) = match name.split_once('.') {
            Some((first, entry)) => (first, Some(entry)),
            None => (name, None),
        };
        let value = bound.get(first).or_else(|| self.values.get(first));
        let value = match entry {
            Some(entry) => value.and_then(|table| table.get(entry)),
            None => value,
        };
        let text = value.and_then(plain).ok_or_else(|| {
            let message = format!("`{{{name}}}` of step `{}` stands for nothing", step.name);
            self.recipe.fault(line, message).hint("give the scale a value of that name")
        })?;
        // A value may speak of the folder of data.
        if text.contains("{data}") {
            self.check_below(line, &text)?;
            return Ok(text.replace("{data}", &self.data.display().to_string()));
        }
        Ok(text)
    }

    /// Refuses a path that begins at a folder of the recipe and leaves it.
    fn check_below(&self, line: usize, text: &str) -> Result<()> {
        let begins = ["{data}", "{out}", "{@"].iter().any(|begin| text.contains(begin));
        if begins && text.split(['/', ',', '=']).any(|part| part == "..") {
            return Err(self
                .recipe
                .fault(line, format!("`{text}` leaves its folder by `..`"))
                .hint("a recipe reads below its folder of data and its results; name other files without them"));
        }
        Ok(())
    }

    /// Returns the folders of another step: for the same choices, and all of the arrays in brackets.
    fn folders(&self, line: usize, step: &StepTable, bound: &Bound, name: &str) -> Result<String> {
        let (name, all) = match name.split_once('[') {
            Some((name, over)) => (name, over.strip_suffix(']')),
            None => (name, None),
        };
        let fault = |message: String| self.recipe.fault(line, message);
        let Some((_, other)) = self.recipe.steps.iter().find(|(_, other)| other.name == name)
        else {
            return Err(fault(format!(
                "step `{}` speaks of `{name}`, which is no step",
                step.name
            )));
        };
        let mut folders = Vec::new();
        for choice in self.bindings(line, other)? {
            let fits = |(key, value): (&String, &Value)| match bound.get(key) {
                Some(own) => own == value,
                None => all == Some(key.as_str()),
            };
            if let Some(key) =
                choice.keys().find(|key| !bound.contains_key(*key) && all != Some(key.as_str()))
            {
                return Err(fault(format!(
                    "step `{name}` is run for every {key}, and step `{}` does not say which",
                    step.name
                ))
                .hint(format!("write `{{@{name}[{key}]}}` for all of them")));
            }
            if choice.iter().all(fits) {
                folders.push(self.out.join(self.folder(other, &choice)).display().to_string());
            }
        }
        Ok(folders.join(","))
    }
}
