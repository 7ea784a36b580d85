//! From a recipe and the values of a scale to command lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::Value;

use super::file::Recipe;
use super::filling::{Filling, MAX_RUNS, RecipeStep};
use crate::error::{Error, ErrorKind, Result};

/// The steps of a recipe at a scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Expanded {
    /// In the order they are run in.
    pub steps: Vec<RecipeStep>,
    /// The values of the scale, with those that were set instead.
    pub values: BTreeMap<String, Value>,
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
