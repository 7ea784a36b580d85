//! Names that are meant where another was typed.

/// Least similarity of two names of which one may be a slip for the other, as clap takes it.
const LEAST_SIMILARITY: f64 = 0.7;

/// Returns the name that is most like `typed`, or holds it, if one is like it at all.
pub fn closest<'n, S: AsRef<str>>(typed: &str, names: &'n [S]) -> Option<&'n str> {
    let typed = typed.to_lowercase();
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        match typed.chars().count() > 2 && name.contains(&typed) {
            true => 1.0,
            false => strsim::jaro(&typed, &name),
        }
    };
    names
        .iter()
        .map(|name| (likeness(name.as_ref()), name.as_ref()))
        .filter(|(likeness, _)| *likeness > LEAST_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Returns the beginning of a hint that asks for the name that is most like `typed`; empty where none is.
pub fn did_you_mean<S: AsRef<str>>(typed: &str, names: &[S]) -> String {
    closest(typed, names).map_or_else(String::new, |name| format!("did you mean `{name}`? "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_names_are_not() {
        let names = ["sentiment", "statements", "truthfulqa"];
        for (typed, expected) in [
            ("sentimnt", Some("sentiment")),
            ("statement", Some("statements")),
            ("TruthfulQA", Some("truthfulqa")),
            ("truth", Some("truthfulqa")),
            ("mmlu", None),
        ] {
            assert_eq!(closest(typed, &names), expected, "{typed}");
        }
        assert_eq!(did_you_mean("x", &names), "");
    }
}
