//! Reading what a model wrote: from a text to one of the answers there are, or to none.
//!
//! A text that names two answers, or none, is not an answer: it is counted as unread and never
//! guessed at. The `published` parsers are those of arXiv 2406.19032's code, kept to reproduce it.

use crate::data::{ParserName, final_number, option_letter};

/// What an answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Choices<'a> {
    /// The words that may be answered: letters of options, or label words.
    pub words: &'a [&'a str],
    /// The texts of options in the order shown; empty for tasks without options.
    pub options: &'a [&'a str],
}

/// An answer that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The place of a word or option.
    Choice(usize),
    /// The text of an open answer, in one spelling.
    Text(String),
}

/// Marks that stand round an answer and mean nothing.
const MARKS: [char; 14] = ['.', ',', '?', '!', '\'', '"', '-', '_', '(', ')', '[', ']', ':', '*'];

/// Returns the answer that a text gives; `None` if it gives none or more than one.
pub fn parse(parser: ParserName, text: &str, choices: Choices<'_>) -> Option<Parsed> {
    match parser {
        ParserName::OptionLetter => option(text, choices).map(Parsed::Choice),
        ParserName::PublishedLetter => published_letter(text, choices.words).map(Parsed::Choice),
        ParserName::LabelWord => label_word(text, choices.words).map(Parsed::Choice),
        ParserName::PublishedWord => published_word(text, choices.words).map(Parsed::Choice),
        ParserName::FirstLineNumber => final_number(first_line(text)?).map(Parsed::Text),
        ParserName::FinalNumber => final_number(text).map(Parsed::Text),
        ParserName::PublishedInteger => {
            let number: i64 = text.trim().lines().next()?.trim().parse().ok()?;
            Some(Parsed::Text(number.to_string()))
        }
    }
}

fn first_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty())
}

/// As published: the first character behind marks and blanks, in either case.
fn published_letter(text: &str, words: &[&str]) -> Option<usize> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || ".-_".contains(c));
    let first: String = text.chars().next()?.to_uppercase().collect();
    words.iter().position(|word| *word == first)
}

/// As published: the first word of the first line without its marks.
fn published_word(text: &str, words: &[&str]) -> Option<usize> {
    let line = text.trim().split('\n').next()?;
    let first = line.split(' ').next()?.trim().trim_matches(['.', ',']).to_lowercase();
    words.iter().position(|word| word.to_lowercase() == first)
}

/// Returns the one option that the first line names: by its letter at the beginning, by a letter that
/// is said to be the answer, or by its text.
fn option(text: &str, choices: Choices<'_>) -> Option<usize> {
    let line = first_line(text)?;
    let letters = named_letters(line, choices.options.len().max(choices.words.len()));
    let quoted = quoted_option(line, choices.options);
    match (letters.as_slice(), quoted) {
        ([one], None) => Some(*one),
        // `B. the text of B` is one answer, `B. the text of C` is two.
        ([one], Some(text)) => (*one == text).then_some(text),
        ([], quoted) => quoted,
        _ => None,
    }
}

/// The letters a line gives as its answer, each once: those that stand by themselves before the first
/// full stop that ends a sentence, `A` only where it is no article and `I` only where it is no pronoun.
fn named_letters(line: &str, num: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let chars: Vec<char> = line.chars().collect();
    let alone = |at: usize| {
        let glued = |c: Option<&char>| {
            c.is_some_and(|c| c.is_ascii_alphanumeric() || "'\u{2019}".contains(*c))
        };
        !glued(at.checked_sub(1).and_then(|before| chars.get(before))) && !glued(chars.get(at + 1))
    };
    let head: String =
        line.trim_start_matches(|c: char| c.is_whitespace() || MARKS.contains(&c)).to_owned();
    let begins = chars.len() - head.chars().count();
    for (at, c) in chars.iter().enumerate() {
        // What follows the sentence that answers explains it.
        if !found.is_empty() && ".!?;".contains(*c) {
            break;
        }
        let Some(place) = (0..num).find(|&place| option_letter(place) == c.to_ascii_uppercase())
        else {
            continue;
        };
        if !alone(at) {
            continue;
        }
        let rest: String = chars[at + 1..].iter().collect();
        // In lower case a letter is an answer only with a mark or nothing behind it: `b)`, `(b)`, `b`.
        let closed = rest.trim_start_matches(' ').is_empty()
            || rest.starts_with(['.', ')', ']', ':', ',', '*', '"', ';']);
        if c.is_ascii_lowercase() && !(closed && at == begins) {
            continue;
        }
        if "AI".contains(*c) && is_word(&rest) {
            continue;
        }
        if !found.contains(&place) {
            found.push(place);
        }
    }
    found
}

/// Whether `A` or `I` before this text is an English word and no letter: a word in lower case follows
/// that does not speak of an answer.
fn is_word(rest: &str) -> bool {
    let Some(next) = rest.strip_prefix(' ') else { return false };
    let word: String = next.chars().take_while(|c| c.is_alphabetic()).collect();
    let speaks =
        ["because", "since", "as", "is", "and", "or", "would", "for", "due", "seems", "makes"];
    word.chars().next().is_some_and(char::is_lowercase) && !speaks.contains(&word.as_str())
}

/// Returns the option whose text the line is, begins with or ends with; the longest of several that
/// contain each other.
fn quoted_option(line: &str, options: &[&str]) -> Option<usize> {
    let folded = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").trim_matches(MARKS).to_lowercase()
    };
    let line = folded(line);
    let texts: Vec<String> = options.iter().map(|option| folded(option)).collect();
    let there =
        |text: &str| text.chars().count() > 1 && (line.starts_with(text) || line.ends_with(text));
    let mut found: Vec<usize> = (0..texts.len()).filter(|&i| there(&texts[i])).collect();
    let longest = found.iter().map(|&i| texts[i].len()).max()?;
    found.retain(|&i| texts[i].len() == longest);
    match found.as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

/// Returns the one label word of the first sentence; none if it is negated.
fn label_word(text: &str, words: &[&str]) -> Option<usize> {
    let line = first_line(text)?;
    let end = line.find(['.', '!', '?', ';']).filter(|&end| !line[..end].trim().is_empty());
    let sentence = line[..end.unwrap_or(line.len())].to_lowercase();
    let tokens: Vec<&str> = sentence
        .split(|c: char| !(c.is_alphanumeric() || "'\u{2019}-/".contains(c)))
        .filter(|token| !token.is_empty())
        .collect();
    let mut found = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let word = word.to_lowercase();
        let parts: Vec<&str> = word.split_whitespace().collect();
        for at in 0..(tokens.len() + 1).saturating_sub(parts.len().max(1)) {
            if tokens[at..at + parts.len()] == parts[..] {
                let before = tokens[..at].iter().rev().take(2);
                let negated = before.clone().any(|token| {
                    ["not", "never", "neither", "nor", "no"].contains(token)
                        || token.ends_with("n't")
                        || token.ends_with("n\u{2019}t")
                });
                if negated {
                    return None;
                }
                found.push(place);
                break;
            }
        }
    }
    match found.as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
    const ENDINGS: [&str; 4] =
        ["is ripping level tiles off.", "a cat", "starts pulling up roofing.", "a cat on a roof"];

    fn letter(text: &str) -> Option<usize> {
        match parse(ParserName::OptionLetter, text, Choices { words: &LETTERS, options: &ENDINGS })
        {
            Some(Parsed::Choice(place)) => Some(place),
            _ => None,
        }
    }

    #[test]
    fn letters_of_real_models() {
        for (text, expected) in [
            ("B.", Some(1)),
            ("(b)", Some(1)),
            ("b", Some(1)),
            ("d)", Some(3)),
            (" Answer: C because", Some(2)),
            ("C because it fits", Some(2)),
            ("**D**", Some(3)),
            ("\n\n A\nThe reason is B", Some(0)),
            ("A. is ripping level tiles off.", Some(0)),
            ("The answer is C.", Some(2)),
            ("Option D: a cat on a roof", Some(3)),
            ("D. B is wrong, since", Some(3)),
            ("Die Antwort ist B", Some(1)),
            ("\u{7b54}\u{6848}\u{662f}B\u{3002}", Some(1)),
            ("La respuesta es (A)", Some(0)),
            ("A", Some(0)),
            ("A is the best", Some(0)),
            // The text of an option in place of its letter.
            ("starts pulling up roofing", Some(2)),
            ("A cat", Some(1)),
            ("I think: a cat on a roof.", Some(3)),
            ("B. a cat", Some(1)),
            // No answer.
            ("", None),
            (" \n ", None),
            ("A man is on the roof", None),
            ("I think so", None),
            ("E", None),
            ("banana", None),
            ("Both of them", None),
            ("no sé", None),
            // Two answers.
            ("A or B", None),
            ("B and C", None),
            ("A, B, C, D", None),
            ("B. starts pulling up roofing.", None),
        ] {
            assert_eq!(letter(text), expected, "{text:?}");
        }
    }

    #[test]
    fn label_words_of_real_models() {
        let words = ["acceptable", "unacceptable"];
        let read =
            |parser, text: &str| match parse(parser, text, Choices { words: &words, options: &[] })
            {
                Some(Parsed::Choice(place)) => Some(place),
                _ => None,
            };
        for (text, expected, published) in [
            ("acceptable", Some(0), Some(0)),
            ("Unacceptable. It was cruel", Some(1), Some(1)),
            (" acceptable,\nbecause", Some(0), Some(0)),
            ("\"Unacceptable\"", Some(1), None),
            ("The story is unacceptable", Some(1), None),
            ("It is acceptable. Nobody was hurt, so not unacceptable.", Some(0), None),
            ("This is not acceptable", None, None),
            ("It isn't acceptable", None, None),
            ("acceptable or unacceptable", None, Some(0)),
            ("inaceptable", None, None),
            ("", None, None),
            ("yes", None, None),
        ] {
            assert_eq!(read(ParserName::LabelWord, text), expected, "{text:?}");
            assert_eq!(read(ParserName::PublishedWord, text), published, "published {text:?}");
        }
    }

    #[test]
    fn published_letters_and_numbers() {
        let none = Choices { words: &LETTERS, options: &[] };
        let read = |parser, text: &str| match parse(parser, text, none) {
            Some(Parsed::Choice(place)) => place.to_string(),
            Some(Parsed::Text(text)) => text,
            None => "-".to_owned(),
        };
        for (text, expected) in [(" -c", "2"), ("A man", "0"), ("(b)", "-"), ("", "-"), ("E", "-")]
        {
            assert_eq!(read(ParserName::PublishedLetter, text), expected, "{text:?}");
        }
        for (text, first, last, integer) in [
            ("8\nEach has 4, so 4 + 4 = 8.", "8", "8", "8"),
            (" 1,080 dollars", "1080", "1080", "-"),
            ("$18.00\nShe sells 9 eggs.", "18", "9", "-"),
            ("3 + 5 = 8", "8", "8", "-"),
            ("", "-", "-", "-"),
            ("I do not know", "-", "-", "-"),
            ("\n12", "12", "12", "12"),
            ("The answer is 7. There were 3.", "7", "7", "-"),
        ] {
            assert_eq!(read(ParserName::FirstLineNumber, text), first, "first {text:?}");
            assert_eq!(read(ParserName::FinalNumber, text), last, "final {text:?}");
            assert_eq!(read(ParserName::PublishedInteger, text), integer, "published {text:?}");
        }
    }
}
