//! Regular expressions of Python, which adapters' settings hold: matched as `re` matches them, or
//! refused.
//!
//! The crate's syntax is nearly Python's. Where the two differ an expression is rewritten (classes,
//! braces, `\Z`, escaped punctuation) or refused (flags in the middle, verbose expressions, escapes
//! that Python does not have): never matched by other rules.

use std::iter::Peekable;
use std::str::Chars;

use fancy_regex::{Regex, RegexBuilder};

/// Steps back before a match is given up; names of modules are short.
const MOST_STEPS: usize = 1_000_000;

/// A compiled expression that matches from the beginning of a text to its end.
#[derive(Debug)]
pub(super) struct PythonRegex {
    source: String,
    regex: Regex,
}

impl PythonRegex {
    /// Returns the expression for `re.fullmatch(pattern, ..)`.
    ///
    /// # Errors
    /// What cannot be compiled, in a sentence.
    pub(super) fn full(pattern: &str) -> Result<Self, String> {
        Self::compile(pattern, "^(?:", ")$", true)
    }

    /// Returns the expression for `re.match(rf"(.*\.)?({pattern})$", ..)`, by which PEFT finds the
    /// keys of `rank_pattern` and `alpha_pattern`.
    ///
    /// # Errors
    /// As [`PythonRegex::full`].
    pub(super) fn suffix(pattern: &str) -> Result<Self, String> {
        Self::compile(pattern, r"^(.*\.)?(", ")$", false)
    }

    /// Returns the expression for `re.match(rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", ..)`, by which
    /// PEFT finds the number of a layer.
    ///
    /// # Errors
    /// As [`PythonRegex::full`].
    pub(super) fn layer(pattern: &str) -> Result<Self, String> {
        Self::compile(pattern, r"^(?:^|.*?\.)", r"\.(?P<idx>\d+)\.", false)
    }

    /// Returns the expression for `re.match(r".*?\.[^.]*\.(?P<idx>\d+)\.", ..)`, PEFT's for layers
    /// whose list has no name of its own.
    ///
    /// # Errors
    /// Never.
    pub(super) fn bare_layer() -> Result<Self, String> {
        Self::compile("", r"^.*?\.[^.]*\.(?P<idx>\d+)\.", "", false)
    }

    fn compile(pattern: &str, before: &str, after: &str, flags: bool) -> Result<Self, String> {
        let fault = |why: &str| {
            format!("`{pattern}` is no regular expression that is understood here: {why}")
        };
        let body = translate(pattern, flags).map_err(|why| fault(&why))?;
        // By itself first: brackets that close the group round it would be another expression.
        let build = |text: &str| {
            RegexBuilder::new(text).backtrack_limit(MOST_STEPS).build().map_err(|e| {
                let text = e.to_string();
                fault(text.lines().next_back().unwrap_or_default().trim())
            })
        };
        if !pattern.contains('\\') {
            build(&body)?;
        }
        let regex = build(&format!("{before}{body}{after}"))?;
        Ok(Self { source: pattern.to_owned(), regex })
    }

    /// Returns whether the expression matches `text`.
    ///
    /// # Errors
    /// When it takes too many steps, in a sentence.
    pub(super) fn is_match(&self, text: &str) -> Result<bool, String> {
        self.regex.is_match(text).map_err(|_| self.too_long(text))
    }

    /// Returns the number in the group `idx`, if the expression matches.
    ///
    /// # Errors
    /// As [`PythonRegex::is_match`].
    pub(super) fn index(&self, text: &str) -> Result<Option<usize>, String> {
        let found = self.regex.captures(text).map_err(|_| self.too_long(text))?;
        Ok(found.and_then(|found| found.name("idx")?.as_str().parse().ok()))
    }

    fn too_long(&self, text: &str) -> String {
        format!("`{}` takes too long to match `{text}`", self.source)
    }
}

/// Returns the crate's form of a Python expression.
fn translate(pattern: &str, flags: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        match c {
            '\\' => out += &escape(&mut chars, false)?,
            '[' => out += &class(&mut chars)?,
            '(' => {
                depth += 1;
                let is_first = out.is_empty();
                if chars.peek() == Some(&'?') {
                    chars.next();
                    group(&mut chars, &mut out, flags && is_first, &mut depth)?;
                } else {
                    out.push('(');
                }
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or("a bracket closes nothing")?;
                out.push(')');
            }
            '{' => out += &repetition(&mut chars),
            '}' => out += r"\}",
            c => out.push(c),
        }
    }
    if depth > 0 {
        return Err("a bracket is not closed".into());
    }
    Ok(out)
}

/// What follows `(?`.
fn group(
    chars: &mut Peekable<Chars<'_>>,
    out: &mut String,
    flags: bool,
    depth: &mut usize,
) -> Result<(), String> {
    match chars.next() {
        Some(c @ (':' | '=' | '!' | '>')) => {
            out.push_str("(?");
            out.push(c);
        }
        Some('<') => match chars.next() {
            Some(c @ ('=' | '!')) => {
                out.push_str("(?<");
                out.push(c);
            }
            _ => return Err("`(?<` begins no look-behind".into()),
        },
        Some('P') => match chars.next() {
            Some('<') => out.push_str("(?P<"),
            Some('=') => {
                let name: String = chars.by_ref().take_while(|c| *c != ')').collect();
                *depth -= 1;
                *out += &format!("(?P={name})");
            }
            _ => return Err("`(?P` begins no group".into()),
        },
        Some('#') => {
            if chars.by_ref().all(|c| c != ')') {
                return Err("a comment is not closed".into());
            }
            *depth -= 1;
        }
        Some('(') => return Err("conditional groups are not supported".into()),
        Some(first) => {
            let mut text = first.to_string();
            let end = loop {
                match chars.next() {
                    Some(c @ (':' | ')')) => break c,
                    Some(c) => text.push(c),
                    None => return Err("a bracket is not closed".into()),
                }
            };
            if !text.chars().all(|c| "ims-".contains(c)) {
                return Err(format!("`(?{text}` is not supported"));
            }
            if end == ')' {
                if !flags {
                    return Err(format!(
                        "`(?{text})` stands for the whole, but not at its beginning"
                    ));
                }
                *depth -= 1;
            }
            *out += &format!("(?{text}{end}");
        }
        None => return Err("a bracket is not closed".into()),
    }
    Ok(())
}

/// What follows a backslash.
fn escape(chars: &mut Peekable<Chars<'_>>, in_class: bool) -> Result<String, String> {
    let c = chars.next().ok_or("a backslash ends it")?;
    let mut hex = |num: usize| {
        let digits: String = chars.by_ref().take(num).collect();
        let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == num);
        code.map(|code| format!("\\x{{{code:x}}}")).ok_or_else(|| format!("`\\{c}{digits}`"))
    };
    match c {
        'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'a' | 'f' | 'n' | 'r' | 't' | 'v' => {
            Ok(format!("\\{c}"))
        }
        'b' if in_class => Ok(r"\x08".into()),
        'A' | 'b' | 'B' if !in_class => Ok(format!("\\{c}")),
        'Z' if !in_class => Ok(r"\z".into()),
        'x' => hex(2),
        'u' => hex(4),
        '1'..='9' if !in_class => Ok(format!("\\{c}")),
        c if c.is_ascii_alphanumeric() => Err(format!("`\\{c}` is not supported")),
        c => Ok(format!("\\x{{{:x}}}", c as u32)),
    }
}

/// What follows an opening square bracket.
fn class(chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut out = String::from("[");
    if chars.peek() == Some(&'^') {
        chars.next();
        out.push('^');
    }
    let mut is_first = true;
    loop {
        let c = chars.next().ok_or("a class is not closed")?;
        match c {
            ']' if !is_first => break,
            '\\' => out += &escape(chars, true)?,
            '-' if chars.peek() == Some(&'-') || out.ends_with('-') => {
                return Err("`--` in a class is not supported".into());
            }
            '-' => out.push('-'),
            c if c.is_ascii_punctuation() || c.is_whitespace() => {
                out += &format!("\\x{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
        is_first = false;
    }
    out.push(']');
    Ok(out)
}

/// What follows an opening brace: a number of repetitions, or the brace itself.
fn repetition(chars: &mut Peekable<Chars<'_>>) -> String {
    let ahead: String = chars.clone().take_while(|c| *c != '}').collect();
    let is_closed = chars.clone().any(|c| c == '}');
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let text = match ahead.split_once(',') {
        Some((from, to)) if digits(from) && digits(to) => {
            format!("{{{},{to}}}", if from.is_empty() { "0" } else { from })
        }
        None if !ahead.is_empty() && digits(&ahead) => format!("{{{ahead}}}"),
        _ => String::new(),
    };
    if text.is_empty() || !is_closed {
        return r"\{".into();
    }
    // The closing one too.
    for _ in 0..=ahead.chars().count() {
        chars.next();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are Python's: `bool(re.fullmatch(pattern, text))`, and an error where
    /// `re` raises one or the expression is refused here (`None`).
    #[test]
    fn expressions_match_as_in_python() {
        for (pattern, text, expected) in [
            (r".*q_proj", "model.layers.0.self_attn.q_proj", Some(true)),
            (r"q_proj", "model.layers.0.self_attn.q_proj", Some(false)),
            (r"a|ab", "ab", Some(true)),
            (r"(?!model\.layers\.0).*q_proj", "model.layers.0.q_proj", Some(false)),
            (r"(?!model\.layers\.0).*q_proj", "model.layers.1.q_proj", Some(true)),
            (r".*(?<!k)_proj", "q_proj", Some(true)),
            (r".*(?<!k)_proj", "k_proj", Some(false)),
            (r"(?P<x>a+)-(?P=x)", "aa-aa", Some(true)),
            (r"(?P<x>a+)-(?P=x)", "aa-a", Some(false)),
            (r"(a|b)\1", "aa", Some(true)),
            (r"(?i).*Q_PROJ", "x.q_proj", Some(true)),
            (r"x(?i)Q", "xq", None),
            (r"(?i:Q)_proj", "q_proj", Some(true)),
            (r"[[a]b", "[b", Some(true)),
            (r"[a&&b]+", "a&b", Some(true)),
            (r"[]x]+", "]x", Some(true)),
            (r"[^]x]", "a", Some(true)),
            (r"[a\-z]+", "a-z", Some(true)),
            (r"[q-v]_proj", "s_proj", Some(true)),
            (r"x{,2}", "xx", Some(true)),
            (r"x{,2}", "xxx", Some(false)),
            (r"x{2}", "xx", Some(true)),
            (r"x{a}", "x{a}", Some(true)),
            (r"x{", "x{", Some(true)),
            (r"a\Z", "a", Some(true)),
            (r"\<a", "<a", Some(true)),
            (r"a\.b", "a.b", Some(true)),
            (r"a\.b", "axb", Some(false)),
            (r"a(?#a comment)b", "ab", Some(true)),
            (r"\p{L}", "a", None),
            (r"\Q", "Q", None),
            (r"(?<x>a)", "a", None),
            (r"(", "(", None),
            (r")(", ")(", None),
            (r"a)|(b", "a", None),
            (r"[a", "[a", None),
            (r"*a", "*a", None),
            (r"a\", "a", None),
            (r"\u0061", "a", Some(true)),
            (r"\x61", "a", Some(true)),
            (r"(?x)a b", "ab", None),
            (r".*\.[0-3]\..*", "model.layers.2.mlp", Some(true)),
            (r"", "", Some(true)),
        ] {
            let found = PythonRegex::full(pattern).ok().map(|regex| regex.is_match(text).unwrap());
            assert_eq!(found, expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn an_expression_without_end_is_an_error() {
        let regex = PythonRegex::full(r"(?=(a*)*b)\1(a|a)*").unwrap();
        let outcome = regex.is_match(&"a".repeat(40));
        assert!(outcome.is_ok_and(|found| !found) || regex.is_match("a").is_ok());
        assert!(PythonRegex::full(r"((a{1000}){1000}){1000}").is_err());
    }
}
