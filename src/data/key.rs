//! Consistency keys, read from an example's text alone.
//!
//! Within a group, equal keys say the same and different keys exclude each other (what follows for
//! the labels is the task's rules). A key computed from gold, as the authors' code does for
//! TruthfulQA and Alpaca, would tell the search which claims agree in gold; nothing here can.
//! Where the text shows no key there is none: a wrong key is worse, it constrains wrongly.

use std::collections::BTreeMap;

use super::record::sha256_hex;

/// How the key of an example is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyRule {
    /// The whole text of a field.
    Text { field: String },
    /// The `yes` or `no` a field begins with.
    YesNo { field: String },
    /// The final number of a field.
    FinalNumber { field: String },
    /// The order of two fields: one pair stored both ways gives two keys in one group.
    Order { first: String, second: String },
    /// The order of the two parts of one field: `A is larger than B` and `B is larger than A` are
    /// one pair stored both ways.
    Split { field: String, at: String },
    /// A column of the record.
    Column { column: String },
}

impl KeyRule {
    /// Returns the key that `fields` show; `column` is the text of a `column` rule's column.
    pub(super) fn key(
        &self,
        fields: &BTreeMap<String, String>,
        column: Option<String>,
    ) -> Option<String> {
        match self {
            Self::Text { field } => {
                Some(folded(fields.get(field)?)).filter(|text| !text.is_empty())
            }
            Self::YesNo { field } => yes_or_no(fields.get(field)?).map(str::to_owned),
            Self::FinalNumber { field } => final_number(fields.get(field)?),
            Self::Order { .. } | Self::Split { .. } => {
                let [first, second] = self.pair(fields)?;
                match first.cmp(&second) {
                    std::cmp::Ordering::Less => Some("A>B".to_owned()),
                    std::cmp::Ordering::Greater => Some("B>A".to_owned()),
                    std::cmp::Ordering::Equal => None,
                }
            }
            Self::Column { .. } => column,
        }
    }

    /// Returns the two texts that the rule puts in order.
    fn pair(&self, fields: &BTreeMap<String, String>) -> Option<[String; 2]> {
        match self {
            Self::Order { first, second } => {
                Some([folded(fields.get(first)?), folded(fields.get(second)?)])
            }
            Self::Split { field, at } => {
                let text = folded(fields.get(field)?);
                let (first, second) = text.split_once(&format!(" {} ", folded(at)))?;
                Some([bare(first), bare(second)])
            }
            _ => None,
        }
    }

    /// Returns the group of an example whose group column says `group`.
    ///
    /// For a rule of order the unordered pair is part of the group, so that only the two ways of
    /// one pair meet; without a group column the other fields stand in for it where the pair is of
    /// two fields.
    pub(super) fn group(
        &self,
        fields: &BTreeMap<String, String>,
        group: Option<String>,
    ) -> Option<String> {
        if !matches!(self, Self::Order { .. } | Self::Split { .. }) {
            return group;
        }
        let mut pair = self.pair(fields)?;
        pair.sort();
        let mut parts = pair.to_vec();
        if let (None, Self::Order { first, second }) = (&group, self) {
            let others = fields.iter().filter(|(name, _)| *name != first && *name != second);
            parts.extend(others.map(|(_, text)| folded(text)));
        }
        // U+001F is no white space and in no ordinary text, so it keeps the parts apart.
        let digest = &sha256_hex(parts.join("\u{1f}").as_bytes())[..PAIR_DIGITS];
        Some(match group {
            Some(group) => format!("{group}/{digest}"),
            None => digest.to_owned(),
        })
    }
}

/// Hexadecimal digits of a pair's digest: 64 bits, no collision in any file that fits in memory.
const PAIR_DIGITS: usize = 16;

/// Returns `text` trimmed, runs of white space as one space, lower case.
pub(super) fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Returns `text` without the marks and blanks round it.
fn bare(text: &str) -> String {
    text.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
}

/// Returns `yes` or `no` if the text begins with that answer.
///
/// "No animals were hurt" begins with a determiner, not with an answer: after `no` a comma, full
/// stop or the like must follow, or the end.
fn yes_or_no(text: &str) -> Option<&'static str> {
    let text = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.eq_ignore_ascii_case("yes") {
        return Some("yes");
    }
    let next = rest.trim_start().chars().next();
    (word.eq_ignore_ascii_case("no") && next.is_none_or(|c| !c.is_alphanumeric())).then_some("no")
}

/// Returns the number a solution ends on, in one spelling (`$27`, `27.0` and `27` are `27`).
///
/// After the last "answer is" or "####" it is the first number; without such words it is the last
/// number of the text. Either way, if an `=` stands before numbers in that sentence, the first
/// number after the last such `=` is meant. A said answer that is no number gives `None`.
pub fn final_number(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let said = ["answer is", "answer:", "####"]
        .iter()
        .filter_map(|words| lower.rfind(words).map(|at| at + words.len()))
        .max();
    let numbers = numbers(text);
    let (from, meant) = match said {
        Some(from) => (from, numbers.iter().find(|number| number.begin >= from)?),
        None => {
            let last = numbers.last()?;
            (sentence_begin(&text[..last.begin]), last)
        }
    };
    let end = sentence_end(text, meant.end);
    let sum = numbers.iter().rev().filter(|number| number.end <= end).find_map(|number| {
        let equals = from + text[from..number.begin.max(from)].rfind('=')?;
        numbers.iter().find(|number| number.begin > equals)
    });
    Some(sum.unwrap_or(meant).spelled.clone())
}

/// Marks between sentences; a point inside a number is none.
const SENTENCE_ENDS: [&str; 3] = [". ", ".\n", "\n"];

/// Returns where the sentence that `before` breaks off in begins.
fn sentence_begin(before: &str) -> usize {
    SENTENCE_ENDS
        .iter()
        .filter_map(|mark| Some(before.rfind(mark)? + mark.len()))
        .max()
        .unwrap_or(0)
}

/// Returns where the sentence that runs over `from` ends.
fn sentence_end(text: &str, from: usize) -> usize {
    let rest = &text[from..];
    let stop = SENTENCE_ENDS.iter().filter_map(|mark| rest.find(mark)).min();
    stop.map_or(text.len(), |stop| from + stop)
}

struct Number {
    begin: usize,
    end: usize,
    spelled: String,
}

/// Returns the numbers of `text`, left to right.
fn numbers(text: &str) -> Vec<Number> {
    let bytes = text.as_bytes();
    let num_digits =
        |at: usize| bytes.iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count();
    let mut found: Vec<Number> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let begins = num_digits(at) > 0 || (bytes[at] == b'.' && num_digits(at + 1) > 0);
        if !begins {
            at += 1;
            continue;
        }
        let begin = at;
        at += num_digits(at);
        let mut whole = text[begin..at].to_owned();
        if (1..=3).contains(&whole.len()) {
            while bytes.get(at) == Some(&b',') && num_digits(at + 1) == 3 {
                whole.push_str(&text[at + 1..at + 4]);
                at += 4;
            }
        }
        let mut fraction = "";
        if bytes.get(at) == Some(&b'.') && num_digits(at + 1) > 0 {
            let end = at + 1 + num_digits(at + 1);
            fraction = &text[at + 1..end];
            at = end;
        }
        // A ratio, a time or a date is kept as it is written.
        let joined = at;
        while matches!(bytes.get(at), Some(b'/' | b':')) && num_digits(at + 1) > 0 {
            at += 1 + num_digits(at + 1);
        }
        let sign = if is_negative(&text[..begin]) { "-" } else { "" };
        let spelled = if at > joined {
            format!("{sign}{}", &text[begin..at])
        } else {
            spelled(sign, &whole, fraction)
        };
        found.push(Number { begin, end: at, spelled });
    }
    found
}

/// Returns whether the text before a number ends in its minus sign; in `10-5` and `10 - 5` the
/// dash is a subtraction.
fn is_negative(before: &str) -> bool {
    let before = before.trim_end_matches(['$', '\u{20ac}', '\u{a3}']);
    let Some(before) = before.strip_suffix(['-', '\u{2212}']) else { return false };
    before.is_empty() || before.ends_with(|c: char| c.is_whitespace() || "(=:$*".contains(c))
}

fn spelled(sign: &str, whole: &str, fraction: &str) -> String {
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    match (whole, fraction) {
        ("0", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn final_numbers_by_hand() {
        let cases = [
            // One number, many spellings.
            ("$27", Some("27")),
            ("27", Some("27")),
            ("27.0", Some("27")),
            ("27.", Some("27")),
            ("027", Some("27")),
            ("27 dollars", Some("27")),
            ("27 \u{20ac}", Some("27")),
            ("It costs 27.00 dollars.", Some("27")),
            ("\\boxed{27}", Some("27")),
            ("3,000", Some("3000")),
            ("3000", Some("3000")),
            ("1,234,567.50", Some("1234567.5")),
            (".5", Some("0.5")),
            ("0.50", Some("0.5")),
            ("0.0", Some("0")),
            ("-0", Some("0")),
            ("50%", Some("50")),
            // Signs.
            ("-5", Some("-5")),
            ("-$5", Some("-5")),
            ("$-5", Some("-5")),
            ("The answer is \u{2212}5.", Some("-5")),
            ("he has 10-5", Some("5")),
            ("he has 10 - 5", Some("5")),
            // Commas and joins that are no thousands and no fractions.
            ("1, 2", Some("2")),
            ("1,2", Some("2")),
            ("1000,200", Some("200")),
            ("3/4", Some("3/4")),
            ("at 5:30", Some("5:30")),
            ("$5/hour", Some("5")),
            // Words that point at the answer.
            ("75 x 8 = 600. The answer is 600.", Some("600")),
            ("The answer is 600. There were 3 bushes.", Some("600")),
            ("The answer is 20 in 5 days.", Some("20")),
            ("The answer is 3 * 4 = 12 in 2 days.", Some("12")),
            ("The answer is 12. 12 = 3 * 4.", Some("12")),
            ("The ANSWER IS $1,080", Some("1080")),
            ("so 12 / 4 = 3\n#### 3", Some("3")),
            ("The answer is 4. Wait. The answer is 5.", Some("5")),
            ("There are 3. The answer is unknown.", None),
            ("The answer is", None),
            // No such words.
            ("In all 75 x 8 = 600 thorns on 3 bushes", Some("600")),
            ("First 3 * 4 = 12. Then 5 of them go, which leaves 7.", Some("7")),
            ("1 + 1 = 2\n2 + 2 = 4", Some("4")),
            ("He eats 2 = a pair", Some("2")),
            ("no number here", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(final_number(text).as_deref(), expected, "text {text:?}");
        }
    }

    #[test]
    fn yes_and_no_by_hand() {
        for (text, expected) in [
            ("Yes.", Some("yes")),
            ("yes, it is", Some("yes")),
            ("\"Yes\" it is", Some("yes")),
            ("Yes it can", Some("yes")),
            ("No", Some("no")),
            (" NO, never", Some("no")),
            ("No - not at all", Some("no")),
            ("No animals were harmed", None),
            ("No one knows", None),
            ("Nobody", None),
            ("Yesterday", None),
            ("It is. Yes.", None),
            ("", None),
        ] {
            assert_eq!(yes_or_no(text), expected, "text {text:?}");
        }
    }

    #[test]
    fn mirrored_pairs_have_turned_keys_in_one_group() {
        let rule = KeyRule::Order { first: "a".to_owned(), second: "b".to_owned() };
        let one = fields(&[("q", "Which?"), ("a", "Apples  are\nfine"), ("b", "Pears")]);
        let two = fields(&[("q", "Which?"), ("a", "pears"), ("b", "apples are fine")]);
        assert_eq!(rule.key(&one, None).as_deref(), Some("A>B"));
        assert_eq!(rule.key(&two, None).as_deref(), Some("B>A"));
        for group in [None, Some("7".to_owned())] {
            let joint = rule.group(&one, group.clone());
            assert!(joint.is_some());
            assert_eq!(joint, rule.group(&two, group));
        }
        // Another pair of the same group, and the same pair under another question, stay apart.
        let three = fields(&[("q", "Which?"), ("a", "Plums"), ("b", "Pears")]);
        let seven = Some("7".to_owned());
        assert_ne!(rule.group(&one, seven.clone()), rule.group(&three, seven));
        let four = fields(&[("q", "What?"), ("a", "Pears"), ("b", "apples are fine")]);
        assert_ne!(rule.group(&one, None), rule.group(&four, None));
        // Two equal texts have no order.
        let five = fields(&[("q", "Which?"), ("a", "Pears"), ("b", " pears ")]);
        assert_eq!(rule.key(&five, None), None);
    }

    #[test]
    fn claims_of_order_are_split() {
        let rule = KeyRule::Split { field: "c".to_owned(), at: "is larger than".to_owned() };
        let claim = |text: &str| fields(&[("q", text), ("c", text)]);
        let up = claim("Sixty is larger than twelve.");
        let down = claim("Twelve  is larger\nthan sixty");
        assert_eq!(rule.key(&up, None).as_deref(), Some("A>B"));
        assert_eq!(rule.key(&down, None).as_deref(), Some("B>A"));
        assert!(rule.group(&up, None).is_some());
        assert_eq!(rule.group(&up, None), rule.group(&down, None));
        let other = claim("Sixty is larger than ten.");
        assert_ne!(rule.group(&up, None), rule.group(&other, None));
        for text in ["Sixty is less than twelve.", "Six is larger than six.", ""] {
            assert_eq!(rule.key(&claim(text), None), None, "{text}");
        }
        assert_eq!(rule.group(&claim("Sixty is small."), Some("7".to_owned())), None);
    }

    #[test]
    fn whole_texts_are_folded() {
        let rule = KeyRule::Text { field: "a".to_owned() };
        assert_eq!(
            rule.key(&fields(&[("a", " Two\n Words ")]), None).as_deref(),
            Some("two words")
        );
        assert_eq!(rule.key(&fields(&[("a", "  ")]), None), None);
        assert_eq!(rule.group(&fields(&[]), Some("g".to_owned())).as_deref(), Some("g"));
    }
}
