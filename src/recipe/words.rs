//! Words of a command line: what an option is set to in them, in both of its forms.
//!
//! Knows no command and no option: of `--out DIR` and `--out=DIR` it is told the name. What a command
//! makes of its words is for its parser to say.

/// Where an option's value stands among the words.
enum Place {
    /// Behind the equals sign of this word.
    Within(usize),
    /// The word behind this one, if there is one.
    Behind(usize),
}

/// Returns the places where the option `name` is given, without those behind `--`, which ends options.
fn places(argv: &[String], name: &str) -> Vec<Place> {
    let options = argv.iter().take_while(|word| *word != "--").enumerate();
    let place = |(at, word): (usize, &String)| match word.strip_prefix(name)? {
        "" => Some(Place::Behind(at)),
        rest => rest.starts_with('=').then_some(Place::Within(at)),
    };
    options.filter_map(place).collect()
}

/// Returns whether the words set the option `name`, such as `--out`.
pub fn is_given(argv: &[String], name: &str) -> bool {
    !places(argv, name).is_empty()
}

/// Returns what the words set the option `name` to: the first value, where there are several.
pub fn value<'a>(argv: &'a [String], name: &str) -> Option<&'a str> {
    places(argv, name).into_iter().find_map(|place| match place {
        Place::Within(at) => argv[at].get(name.len() + 1..),
        Place::Behind(at) => argv.get(at + 1).map(String::as_str),
    })
}

/// Sets the option `name` to `value` in place of what the words say of it, or adds it.
///
/// A name that its value does not follow stays as it is, and one that is given twice stays there twice:
/// the command's parser refuses both.
pub fn set(argv: &mut Vec<String>, name: &str, value: &str) {
    let places = places(argv, name);
    for place in &places {
        match *place {
            Place::Within(at) => argv[at] = format!("{name}={value}"),
            Place::Behind(at) if at + 1 < argv.len() => value.clone_into(&mut argv[at + 1]),
            Place::Behind(_) => {}
        }
    }
    if places.is_empty() {
        let end = argv.iter().position(|word| word == "--").unwrap_or(argv.len());
        argv.splice(end..end, [name.to_owned(), value.to_owned()]);
    }
}

/// Returns whether the words speak of the file at `path`: by itself, as an option's value, or among the
/// parts of one (`--method naive=FILE`, `--gold FILE,FILE`).
pub fn speak_of(argv: &[String], path: &std::path::Path) -> bool {
    let is_it = |text: &str| !text.is_empty() && std::path::Path::new(text) == path;
    // Names may hold the marks that part a value, so that every beginning and end is tried.
    let spoken = |word: &String| {
        let marks = || word.match_indices(['=', ',']).map(|(at, _)| at);
        let starts = std::iter::once(0).chain(marks().map(|at| at + 1));
        starts.into_iter().any(|start| {
            let ends = marks().filter(|end| *end >= start).chain([word.len()]);
            ends.into_iter().any(|end| is_it(&word[start..end]))
        })
    };
    argv.iter().any(spoken)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn both_forms_are_read() {
        for (line, expected) in [
            ("label --out a --seed 1", Some("a")),
            ("label --out=a --seed 1", Some("a")),
            ("label --out=a=b", Some("a=b")),
            ("label --out=", Some("")),
            ("label --output a", None),
            ("label --outer=a", None),
            ("label --out", None),
            ("draw -- --out a", None),
            ("label", None),
        ] {
            assert_eq!(value(&words(line), "--out"), expected, "{line}");
        }
        assert!(is_given(&words("label --out"), "--out"));
        assert!(!is_given(&words("draw -- --out"), "--out"));
    }

    #[test]
    fn both_forms_are_set() {
        for (line, expected) in [
            ("label --out a --seed 1", "label --out x --seed 1"),
            ("label --out=a --seed 1", "label --out=x --seed 1"),
            ("label --seed 1", "label --seed 1 --out x"),
            ("draw a -- b", "draw a --out x -- b"),
            // These are refused by the parser, as they are when they are typed.
            ("label --out", "label --out"),
            ("label --out a --out=b", "label --out x --out=x"),
        ] {
            let mut argv = words(line);
            set(&mut argv, "--out", "x");
            assert_eq!(argv, words(expected), "{line}");
        }
    }

    #[test]
    fn files_are_found_within_values() {
        for (line, expected) in [
            ("train --data d/a.jsonl", true),
            ("train --data=d/a.jsonl", true),
            ("compare --method naive=d/a.jsonl,d/b.jsonl", true),
            ("compare --method=naive=d/b.jsonl,d/a.jsonl", true),
            ("train --data ./d/a.jsonl", false),
            ("train --data e/d/a.jsonl", false),
            ("train --data d/a.jsonl.gz", false),
        ] {
            assert_eq!(speak_of(&words(line), Path::new("d/a.jsonl")), expected, "{line}");
        }
        assert!(speak_of(&words("train --data=d/a=b,c.jsonl"), Path::new("d/a=b,c.jsonl")));
    }
}
