//! Python's methods of texts, lists and maps.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::budget::Budget;
use super::filters::{join, replaced};
use super::python;

pub(super) fn add(environment: &mut Environment<'_>, budget: &Budget) {
    let own = budget.clone();
    environment.set_unknown_method_callback(move |state, value, method, args| {
        own.made(call(&own, state, value, method, args)?)
    });
}

fn call(
    budget: &Budget,
    state: &State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return match (value.kind(), method, args) {
            // The sandbox of transformers refuses what changes a value.
            (
                ValueKind::Seq | ValueKind::Map,
                "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "update"
                | "setdefault" | "popitem" | "sort" | "reverse",
                _,
            ) => Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("`{method}` changes a value, which chat templates may not"),
            )),
            (ValueKind::Seq, "index", [wanted]) => value
                .try_iter()?
                .position(|entry| entry == *wanted)
                .map(Value::from)
                .ok_or_else(|| fail("it is not in the list")),
            _ => unknown_method_callback(state, value, method, args),
        };
    };
    let texts: Vec<Option<&str>> = args.iter().map(Value::as_str).collect();
    Ok(match (method, texts.as_slice()) {
        ("join", _) if args.len() == 1 => Value::from(join(budget, text, &args[0])?),
        ("replace", [Some(from), Some(to), ..]) => {
            let num = args.get(2).and_then(Value::as_i64);
            Value::from(replaced(budget, text, from, to, num)?)
        }
        ("removeprefix", [Some(start)]) => text.strip_prefix(start).unwrap_or(text).into(),
        ("removesuffix", [Some(end)]) => text.strip_suffix(end).unwrap_or(text).into(),
        ("partition", [Some(at)]) if !at.is_empty() => match text.split_once(at) {
            Some((before, after)) => list(&[before, at, after]),
            None => list(&[text, "", ""]),
        },
        ("rpartition", [Some(at)]) if !at.is_empty() => match text.rsplit_once(at) {
            Some((before, after)) => list(&[before, at, after]),
            None => list(&["", "", text]),
        },
        ("rsplit", [Some(at), ..]) if !at.is_empty() => {
            let num = args.get(1).and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok());
            let most = num.map_or(usize::MAX, |num| num + 1);
            let mut parts: Vec<&str> = text.rsplitn(most, at).collect();
            parts.reverse();
            list(&parts)
        }
        ("index", [Some(part)]) => match text.find(part) {
            Some(at) => Value::from(text[..at].chars().count()),
            None => return Err(fail("substring not found")),
        },
        // Places are counted in characters, not bytes.
        ("find", [Some(part)]) => place(text, text.find(part)),
        ("rfind", [Some(part)]) => place(text, text.rfind(part)),
        ("zfill" | "ljust" | "rjust" | "center", _) => {
            let Some(width) = args.first().and_then(Value::as_usize) else {
                return Err(fail("the width is no whole number"));
            };
            let fill = texts.get(1).copied().flatten().unwrap_or(" ");
            if fill.chars().count() != 1 {
                return Err(fail("the fill is not one character"));
            }
            let missing = width.saturating_sub(text.chars().count());
            budget.take(missing.saturating_mul(fill.len()))?;
            let left = missing / 2 + (missing & width & 1);
            Value::from(match method {
                "ljust" => format!("{text}{}", fill.repeat(missing)),
                "rjust" => format!("{}{text}", fill.repeat(missing)),
                "center" => format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)),
                _ => {
                    let sign = usize::from(text.starts_with(['-', '+']));
                    format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..])
                }
            })
        }
        ("casefold", []) => text.to_lowercase().into(),
        ("swapcase", []) => {
            let swap = |c: char| match c.is_uppercase() {
                true => c.to_lowercase().collect::<String>(),
                false => c.to_uppercase().collect(),
            };
            text.chars().map(swap).collect::<String>().into()
        }
        ("title", []) => title(text).into(),
        ("isdecimal", []) => (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())).into(),
        // Of nothing, these do not hold in Python.
        ("isspace" | "isdigit" | "isnumeric" | "isalnum" | "isalpha", []) if text.is_empty() => {
            false.into()
        }
        // Of texts, at least one letter must have a case.
        ("islower", []) => {
            (text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)).into()
        }
        ("isupper", []) => {
            (text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)).into()
        }
        ("format", _) => format(text, args)?,
        _ => return unknown_method_callback(state, value, method, args),
    })
}

fn fail(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}

fn list(texts: &[&str]) -> Value {
    texts.iter().map(|text| Value::from(*text)).collect()
}

fn place(text: &str, at: Option<usize>) -> Value {
    at.map_or(Value::from(-1), |at| Value::from(text[..at].chars().count()))
}

/// `str.title`: a capital behind everything that is no letter.
fn title(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            made.extend(c.to_lowercase());
        } else {
            made.extend(c.to_uppercase());
        }
        in_word = c.is_alphabetic();
    }
    made
}

/// `str.format` of plain places: `{}` and `{0}`.
fn format(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (mut made, mut next, mut rest) = (String::new(), 0, text);
    while let Some(at) = rest.find(['{', '}']) {
        made.push_str(&rest[..at]);
        let tail = &rest[at..];
        if let Some(after) = tail.strip_prefix("{{").or_else(|| tail.strip_prefix("}}")) {
            made.push_str(&tail[..1]);
            rest = after;
            continue;
        }
        let Some((name, after)) = tail.strip_prefix('{').and_then(|tail| tail.split_once('}'))
        else {
            return Err(fail("single '{' or '}' in a format"));
        };
        let number = match name {
            "" => {
                next += 1;
                Some(next - 1)
            }
            name => name.parse().ok(),
        };
        let Some(arg) = number.and_then(|number: usize| args.get(number)) else {
            return Err(fail("a format with other places than `{}` and `{0}`, or too few values"));
        };
        made.push_str(&python::text(arg));
        rest = after;
    }
    made.push_str(rest);
    Ok(Value::from(made))
}
