//! Filters and tests where minijinja's differ from Jinja's or are missing, and those that make text.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::budget::Budget;
use super::python::{self, Dumps};

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

pub(super) fn add(environment: &mut Environment<'_>, budget: &Budget) {
    let own = budget.clone();
    environment.add_filter("tojson", move |value: Value, args: Rest<Value>, kwargs: Kwargs| {
        own.made(Value::from(tojson(&value, &args, &kwargs)?))
    });
    let own = budget.clone();
    environment.add_filter("string", move |value: Value| {
        own.made(Value::from(python::text(&value).into_owned()))
    });
    let own = budget.clone();
    environment.add_filter("list", move |state: &State, value: Value| {
        own.made(filters::list(state, value)?)
    });
    let own = budget.clone();
    environment.add_filter(
        "join",
        move |state: &State, value: Value, joiner: Option<Value>, kwargs: Kwargs| {
            let joiner = joiner.or(kwargs.get("d")?);
            let attribute: Option<Value> = kwargs.get("attribute")?;
            kwargs.assert_all_used()?;
            let value = match attribute {
                Some(name) => {
                    let attributes = [("attribute", name)].into_iter().collect::<Kwargs>();
                    state.apply_filter("map", &[value, attributes.into()])?
                }
                None => value,
            };
            let joiner = joiner.unwrap_or_else(|| Value::from(""));
            own.made(Value::from(join(&own, &python::text(&joiner), &value)?))
        },
    );
    let own = budget.clone();
    environment.add_filter(
        "replace",
        move |value: Value, from: Value, to: Value, num: Option<i64>| {
            let (value, from, to) = (python::text(&value), python::text(&from), python::text(&to));
            own.made(Value::from(replaced(&own, &value, &from, &to, num)?))
        },
    );
    let own = budget.clone();
    environment.add_filter("format", move |format: String, args: Rest<Value>| {
        own.made(Value::from(python::percent(&format, &args)?))
    });
    let own = budget.clone();
    environment.add_filter(
        "indent",
        move |value: String,
              width: Option<Value>,
              first: Option<bool>,
              blank: Option<bool>,
              kwargs: Kwargs| {
            let width = width.or(kwargs.get("width")?).unwrap_or_else(|| Value::from(4));
            let first = first.or(kwargs.get("first")?).unwrap_or(false);
            let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            let by = match (width.as_str(), width.as_usize()) {
                (Some(text), _) => text.to_owned(),
                (None, Some(width)) => {
                    own.take(width)?;
                    " ".repeat(width)
                }
                _ => return Err(refused("`indent` by no whole number")),
            };
            own.take(by.len().saturating_mul(1 + value.matches('\n').count()))?;
            own.made(Value::from(indented(&value, &by, first, blank)))
        },
    );
    let own = budget.clone();
    environment.add_filter("center", move |value: String, width: Option<usize>| {
        let (num, width) = (value.chars().count(), width.unwrap_or(80));
        let missing = width.saturating_sub(num);
        own.take(missing)?;
        // As CPython: the odd blank is on the left where the width is odd.
        let left = missing / 2 + (missing & width & 1);
        own.made(Value::from(format!("{}{value}{}", " ".repeat(left), " ".repeat(missing - left))))
    });
    environment.add_filter("wordcount", |value: String| {
        value.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).count()
    });
    environment.add_filter("truncate", |value: String, args: Rest<Value>, kwargs: Kwargs| {
        truncated(value, &args, &kwargs)
    });
    // Everything with a length and places, texts too.
    environment.add_test("sequence", |value: Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
    });
    environment.add_test("iterable", |value: Value| {
        value.kind() == ValueKind::Undefined || value.try_iter().is_ok()
    });
    environment.add_test("number", |value: Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.add_test("callable", |value: Value| {
        value.as_object().is_some()
            && !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)
    });
}

fn tojson(value: &Value, args: &[Value], kwargs: &Kwargs) -> Result<String, Error> {
    let arg = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = kwargs.get(name)?;
        Ok(args.get(place).cloned().or(named).filter(|v| !v.is_none() && !v.is_undefined()))
    };
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ensure_ascii = is_true(arg(0, "ensure_ascii")?);
    let indent = match arg(1, "indent")? {
        None => None,
        Some(indent) => Some(match (indent.as_str(), indent.as_i64()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(num)) if num <= 64 => " ".repeat(num.max(0) as usize),
            _ => return Err(refused("`tojson` with an indent that is no small number")),
        }),
    };
    let separators = match arg(2, "separators")? {
        Some(pair) => {
            let pair: Vec<String> =
                pair.try_iter()?.map(|text| python::text(&text).into_owned()).collect();
            let [entries, keys] = pair.try_into().map_err(|_| refused("`separators` are two"))?;
            (entries, keys)
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let sort_keys = is_true(arg(3, "sort_keys")?);
    kwargs.assert_all_used()?;
    Dumps { ensure_ascii, indent, separators, sort_keys }.dumps(value)
}

pub(super) fn join(budget: &Budget, joiner: &str, entries: &Value) -> Result<String, Error> {
    let mut made = String::new();
    if entries.is_undefined() {
        return Ok(made);
    }
    for (i, entry) in entries.try_iter()?.enumerate() {
        let entry = python::text(&entry);
        budget.take(entry.len() + joiner.len())?;
        if i > 0 {
            made.push_str(joiner);
        }
        made.push_str(&entry);
    }
    Ok(made)
}

pub(super) fn replaced(
    budget: &Budget,
    text: &str,
    from: &str,
    to: &str,
    num: Option<i64>,
) -> Result<String, Error> {
    let most = num.and_then(|num| usize::try_from(num).ok()).unwrap_or(usize::MAX);
    let times = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
    budget.take(times.min(most).saturating_mul(to.len()))?;
    Ok(text.replacen(from, to, most))
}

fn indented(text: &str, by: &str, first: bool, blank: bool) -> String {
    let mut made = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            made.push('\n');
        }
        if if i == 0 { first } else { blank || !line.is_empty() } {
            made.push_str(by);
        }
        made.push_str(line);
    }
    made
}

/// Jinja's `truncate(length=255, killwords=False, end='...', leeway=5)`.
fn truncated(text: String, args: &[Value], kwargs: &Kwargs) -> Result<String, Error> {
    let arg = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = kwargs.get(name)?;
        Ok(args.get(place).cloned().or(named))
    };
    let whole = |value: Option<Value>, otherwise: usize| match value {
        Some(value) => value.as_usize().ok_or_else(|| refused("`truncate` to no whole number")),
        None => Ok(otherwise),
    };
    let length = whole(arg(0, "length")?, 255)?;
    let kills = arg(1, "killwords")?.is_some_and(|value| value.is_true());
    let end =
        arg(2, "end")?.map_or_else(|| "...".to_owned(), |end| python::text(&end).into_owned());
    let leeway = whole(arg(3, "leeway")?, 5)?;
    kwargs.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = match kept.rsplit_once(' ').filter(|_| !kills) {
        Some((words, _)) => words.to_owned(),
        None => kept,
    };
    Ok(kept + &end)
}
