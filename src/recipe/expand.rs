//! From a recipe and the values of a scale to command lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::Value;

use super::file::{Recipe, StepTable, stays_below};
use super::words;
use crate::error::{Error, ErrorKind, Result};

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

/// The steps of a recipe at a scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Expanded {
    /// In the order they are run in.
    pub steps: Vec<RecipeStep>,
    /// The values of the scale, with those that were set instead.
    pub values: BTreeMap<String, Value>,
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

struct Filling<'a> {
    recipe: &'a Recipe,
    values: &'a BTreeMap<String, Value>,
    data: &'a Path,
    out: &'a Path,
}

impl Recipe {
    /// Returns the steps at a scale. `set` gives values instead of the scale's; `data` is the folder of
    /// the data files and `out` that of the results.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a scale or value that the recipe does not have, [`ErrorKind::Task`] with
    /// file and line for a command with a name that stands for nothing.
    pub fn expand(
        &self,
        scale: &str,
        set: &[(String, String)],
        data: &Path,
        out: &Path,
    ) -> Result<Expanded> {
        let mut values = self.scale(scale)?.values.clone();
        for (name, text) in set {
            let Some(old) = values.get_mut(name) else {
                let names: Vec<&str> = values.keys().map(String::as_str).collect();
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("scale `{scale}` of recipe `{}` has no value `{name}`", self.name),
                )
                .hint(format!("it has {}", names.join(", "))));
            };
            *old = replaced(old, text).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("`{name}` cannot be set to `{text}`"))
                    .hint("expected a value as the recipe has it; lists parted by commas")
            })?;
        }
        let filling = Filling { recipe: self, values: &values, data, out };
        let mut steps = Vec::new();
        let mut folders = BTreeSet::new();
        // Steps of one data set, seed and so on stay together as far as the recipe's order lets them:
        // the order is the recipe's, and each step goes through its arrays.
        for (line, step) in &self.steps {
            if !step.scales.is_empty() && !step.scales.iter().any(|name| name == scale) {
                continue;
            }
            for bound in filling.bindings(*line, step)? {
                let step = filling.step(*line, step, bound)?;
                if !folders.insert(step.name.clone()) {
                    return Err(self
                        .fault(*line, format!("two runs would have the folder `{}`", step.name))
                        .hint("entries of a list need names of their own"));
                }
                steps.push(step);
            }
            if steps.len() > MAX_RUNS {
                let message = format!("the recipe comes to more than {MAX_RUNS} runs");
                return Err(self.fault(*line, message).hint("shorten a list"));
            }
        }
        Ok(Expanded { steps, values })
    }
}

/// Most runs of a recipe; more is a slip, such as a list too many.
const MAX_RUNS: usize = 10_000;

/// Returns what `text` says in the form of the value it replaces.
fn replaced(old: &Value, text: &str) -> Option<Value> {
    match old {
        Value::String(_) => Some(Value::String(text.to_owned())),
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Float(_) => text.parse().ok().map(Value::Float),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        // A part of the tables, by their names.
        Value::Array(all) if all.iter().any(Value::is_table) => {
            let named = |name: &str| {
                all.iter().find(|v| v.get("name").and_then(Value::as_str) == Some(name)).cloned()
            };
            text.split(',').map(|name| named(name.trim())).collect::<Option<_>>().map(Value::Array)
        }
        Value::Array(all) => {
            let first = all.first()?;
            let parts = text.split(',').map(|part| replaced(first, part.trim()));
            parts.collect::<Option<_>>().map(Value::Array)
        }
        _ => None,
    }
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
    fn bindings(&self, line: usize, step: &StepTable) -> Result<Vec<Bound>> {
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

    fn step(&self, line: usize, step: &StepTable, bound: Bound) -> Result<RecipeStep> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    const TEXT: &str = r#"
title = "T"
about = "A"
source = "S"
[[published]]
set = "p"
method = "naive"
percent = 78.4
model = "M"
[scale.small]
about = "few"
weak = "models/weak"
options = "--lr 1e-3 --epochs 2"
seed = [0, 1]
[[scale.small.set]]
name = "one"
published = "p"
file = "{data}/one.jsonl"
[[steps]]
name = "draw"
for = ["set", "seed"]
run = "data draw {set.file} --seed {seed}"
[[steps]]
name = "weak"
for = ["set", "seed"]
run = "train --model {weak} --data {@draw}/a.jsonl {*options}"
[[steps]]
name = "compare"
for = ["set"]
run = "compare --weak {@weak[seed]} {published}"
"#;

    fn recipe(text: &str) -> Recipe {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Recipe::load(file.path().to_str().unwrap()).unwrap()
    }

    fn lines(expanded: &Expanded) -> Vec<String> {
        expanded.steps.iter().map(|step| step.argv.join(" ")).collect()
    }

    #[test]
    fn names_stand_for_values_and_folders() {
        let expanded = recipe(TEXT).expand("small", &[], Path::new("d"), Path::new("o")).unwrap();
        assert_eq!(
            lines(&expanded),
            [
                "data draw d/one.jsonl --seed 0 --out o/one/seed-0/draw",
                "data draw d/one.jsonl --seed 1 --out o/one/seed-1/draw",
                "train --model models/weak --data o/one/seed-0/draw/a.jsonl --lr 1e-3 --epochs 2 --out o/one/seed-0/weak",
                "train --model models/weak --data o/one/seed-1/draw/a.jsonl --lr 1e-3 --epochs 2 --out o/one/seed-1/weak",
                "compare --weak o/one/seed-0/weak,o/one/seed-1/weak --published naive=78.4 --out o/one/compare",
            ]
        );
        assert_eq!(expanded.steps[4].group(), "one");
        assert_eq!(expanded.steps[4].published_set(), Some("p"));
    }

    #[test]
    fn values_are_set_instead() {
        let set = [("weak".to_owned(), "w w".to_owned()), ("seed".to_owned(), "7".to_owned())];
        let expanded = recipe(TEXT).expand("small", &set, Path::new("d"), Path::new("o")).unwrap();
        assert_eq!(expanded.steps.len(), 3);
        assert_eq!(expanded.steps[1].argv[2], "w w");
        assert!(expanded.steps[1].name.ends_with("seed-7/weak"));
        let unknown = [("strong".to_owned(), "x".to_owned())];
        let error =
            recipe(TEXT).expand("small", &unknown, Path::new("d"), Path::new("o")).unwrap_err();
        assert!(error.to_string().contains("options, seed, set, weak"), "{error}");
    }

    #[test]
    fn a_name_that_stands_for_nothing_is_refused_with_its_line() {
        for (from, to, says) in [
            ("{weak} --data", "{wek} --data", "`{wek}` of step `weak` stands for nothing"),
            ("{@draw}", "{@drew}", "`drew`, which is no step"),
            ("{@weak[seed]}", "{@weak}", "write `{@weak[seed]}` for all of them"),
        ] {
            let error = recipe(&TEXT.replace(from, to))
                .expand("small", &[], Path::new("d"), Path::new("o"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{error}");
            assert!(error.contains(".toml`, line "), "{error}");
        }
    }

    fn refused(from: &str, to: &str) -> String {
        recipe(&TEXT.replace(from, to))
            .expand("small", &[], Path::new("d"), Path::new("o"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn no_name_leaves_the_folder_of_the_results() {
        for name in ["../../evil", "/etc", "a/../../b", "", ".", "a\\nb"] {
            let says = refused("name = \"one\"", &format!("name = \"{name}\""));
            assert!(says.contains("would have the folder `"), "{name}: {says}");
            assert!(says.contains(".toml`, line 19"), "{name}: {says}");
        }
        // A plain value makes a folder too.
        let says = refused("seed = [0, 1]", "seed = [\"x/../../..\"]");
        assert!(says.contains("leave out `..`"), "{says}");
        for (from, to) in [
            ("{data}/one.jsonl", "{data}/../../secret.jsonl"),
            ("{@draw}/a.jsonl", "{@draw}/../../a.jsonl"),
        ] {
            let says = refused(from, to);
            assert!(says.contains("leaves its folder by `..`"), "{says}");
        }
    }

    #[test]
    fn no_data_file_leaves_the_folder_of_data() {
        for path in ["../x.jsonl", "/etc/passwd", "a/../../x"] {
            let text = TEXT
                .replace("[scale.small]", &format!("[[inputs]]\nfile = \"{path}\"\n[scale.small]"));
            let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let says = Recipe::load(file.path().to_str().unwrap()).unwrap_err().to_string();
            assert!(says.contains("is not below the folder of data"), "{says}");
            assert!(says.contains("line 10"), "{says}");
        }
    }

    #[test]
    fn lists_that_multiply_are_counted_before_they_are_gone_through() {
        // Six lists of 100 would be 10^12 runs.
        let list: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let lists: String = ["a", "b", "c", "e", "f", "g"]
            .map(|n| format!("{n} = [{}]\n", list.join(", ")))
            .concat();
        let text = TEXT.replace("seed = [0, 1]", &format!("seed = [0, 1]\n{lists}")).replacen(
            "for = [\"set\", \"seed\"]",
            "for = [\"a\", \"b\", \"c\", \"e\", \"f\", \"g\"]",
            1,
        );
        let error = recipe(&text).expand("small", &[], Path::new("d"), Path::new("o")).unwrap_err();
        let says = error.to_string();
        assert!(
            says.contains("step `draw` would be run more than 10000 times: a has 100"),
            "{says}"
        );
        let says = refused("for = [\"set\", \"seed\"]", "for = [\"seed\", \"seed\"]");
        assert!(says.contains("is for `seed` twice"), "{says}");
        let says = refused("seed = [0, 1]", "seed = [1, 1]");
        assert!(says.contains("two runs would have the folder `one/seed-1/draw`"), "{says}");
    }

    #[test]
    fn built_in_recipes_expand_at_every_scale() {
        for (name, _) in Recipe::built_in() {
            let recipe = Recipe::load(name).unwrap();
            for scale in recipe.scales.keys() {
                let expanded = recipe.expand(scale, &[], Path::new("d"), Path::new("o")).unwrap();
                assert!(!expanded.steps.is_empty());
            }
            for number in &recipe.published {
                let known = recipe.scales.values().any(|scale| {
                    let sets = scale.values.get("set").and_then(Value::as_array);
                    sets.is_some_and(|sets| {
                        sets.iter().any(|set| {
                            set.get("published").and_then(Value::as_str)
                                == Some(number.set.as_str())
                        })
                    })
                });
                assert!(known, "{name}: {}", number.set);
            }
        }
    }
}
