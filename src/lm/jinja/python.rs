//! Values as Python writes them: `str`, `repr`, `json.dumps` and `%`.
//!
//! There are no tuples here: a printed pair of `dictsort` or `items` is `['a', 1]`, in Python `('a', 1)`.

use std::borrow::Cow;
use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Returns `str(value)`; nothing for what is undefined.
pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value.kind() {
        ValueKind::Undefined => Cow::Borrowed(""),
        ValueKind::String => match value.as_str() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(value.to_string()),
        },
        _ => Cow::Owned(repr(value)),
    }
}

/// Returns `repr(value)`.
pub(super) fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => "Undefined".to_owned(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let entries = value.try_iter().into_iter().flatten();
            let entries: Vec<String> = entries.map(|entry| repr(&entry)).collect();
            format!("[{}]", entries.join(", "))
        }
        ValueKind::Map => {
            let pairs: Vec<String> = pairs(value)
                .map(|(key, entry)| format!("{}: {}", repr(&key), repr(&entry)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        _ => value.to_string(),
    }
}

fn pairs(map: &Value) -> impl Iterator<Item = (Value, Value)> + '_ {
    let keys = map.try_iter().into_iter().flatten();
    keys.map(|key| {
        let entry = map.get_item(&key).unwrap_or_default();
        (key, entry)
    })
}

/// A float by its shortest digits; with an exponent where Python has one.
fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut made = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => made.push_str("\\\\"),
            '\n' => made.push_str("\\n"),
            '\r' => made.push_str("\\r"),
            '\t' => made.push_str("\\t"),
            c if c == quote => {
                made.push('\\');
                made.push(c);
            }
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                let _ = write!(made, "\\x{:02x}", c as u32);
            }
            c => made.push(c),
        }
    }
    made.push(quote);
    made
}

/// How `json.dumps` is asked to write.
pub(super) struct Dumps {
    pub(super) ensure_ascii: bool,
    /// What one level is indented by.
    pub(super) indent: Option<String>,
    /// Between entries, and behind keys.
    pub(super) separators: (String, String),
    pub(super) sort_keys: bool,
}

impl Dumps {
    /// Returns `json.dumps(value)`.
    ///
    /// # Errors
    /// For what JSON cannot hold.
    pub(super) fn dumps(&self, value: &Value) -> Result<String, Error> {
        let mut made = String::new();
        self.write(value, 0, &mut made)?;
        Ok(made)
    }

    fn write(&self, value: &Value, level: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => match repr(value).as_str() {
                "nan" => out.push_str("NaN"),
                "inf" => out.push_str("Infinity"),
                "-inf" => out.push_str("-Infinity"),
                number => out.push_str(number),
            },
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let entries: Vec<Value> = value.try_iter()?.collect();
                self.bracketed(('[', ']'), entries.len(), level, out, |i, out| {
                    self.write(&entries[i], level + 1, out)
                })?;
            }
            ValueKind::Map => {
                let mut pairs: Vec<(Value, Value)> = pairs(value).collect();
                if self.sort_keys {
                    pairs.sort_by(|a, b| text(&a.0).cmp(&text(&b.0)));
                }
                self.bracketed(('{', '}'), pairs.len(), level, out, |i, out| {
                    let (key, entry) = &pairs[i];
                    let key = match key.kind() {
                        ValueKind::None => Cow::Borrowed("null"),
                        ValueKind::Bool if key.is_true() => Cow::Borrowed("true"),
                        ValueKind::Bool => Cow::Borrowed("false"),
                        _ => text(key),
                    };
                    self.string(&key, out);
                    out.push_str(&self.separators.1);
                    self.write(entry, level + 1, out)
                })?;
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "`tojson` of something that is undefined or no JSON",
                ));
            }
        }
        Ok(())
    }

    fn bracketed(
        &self,
        (open, close): (char, char),
        num: usize,
        level: usize,
        out: &mut String,
        mut entry: impl FnMut(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        let line = |out: &mut String, level: usize| {
            if let (Some(indent), true) = (&self.indent, num > 0) {
                out.push('\n');
                out.push_str(&indent.repeat(level));
            }
        };
        for i in 0..num {
            if i > 0 {
                out.push_str(&self.separators.0);
            }
            line(out, level + 1);
            entry(i, out)?;
        }
        line(out, level);
        out.push(close);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ensure_ascii && (c as u32) > 0x7e) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Returns `format % args`, for plain places.
///
/// # Errors
/// For places and counts that Python refuses, and for widths, which no chat template has.
pub(super) fn percent(format: &str, args: &[Value]) -> Result<String, Error> {
    let fail = |message: &str| Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()));
    let (mut made, mut args) = (String::new(), args.iter());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            made.push(c);
            continue;
        }
        let place = chars.next();
        if place == Some('%') {
            made.push('%');
            continue;
        }
        let Some(arg) = args.next() else { return fail("not enough arguments for format string") };
        match place {
            Some('s') => made.push_str(&text(arg)),
            Some('r') => made.push_str(&repr(arg)),
            Some('d' | 'i') if arg.is_integer() => made.push_str(&arg.to_string()),
            _ => return fail("a format with `%` other than %s, %r and %d of whole numbers"),
        }
    }
    match args.next() {
        None => Ok(made),
        Some(_) => fail("not all arguments converted during string formatting"),
    }
}

/// The error of an operator between values that do not have it.
pub(super) fn unsupported(sign: &str, left: &Value, right: &Value) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!(
            "`{sign}` between a value of kind {} and one of kind {}",
            left.kind(),
            right.kind()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Python 3.
    #[test]
    fn values_are_written_as_python_writes_them() {
        for (x, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123_456_789.125, "123456789.125"),
            (1e15, "1000000000000000.0"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(float(x), expected);
        }
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted("it's \"x\"\n\\\u{1}\u{e9}"), "'it\\'s \"x\"\\n\\\\\\x01\u{e9}'");
        let list = Value::from(vec![Value::from(()), Value::from(true), Value::from("a")]);
        assert_eq!(repr(&list), "[None, True, 'a']");
        assert_eq!(percent("%s is %d%%", &[Value::from("x"), Value::from(3)]).unwrap(), "x is 3%");
        assert!(percent("%s", &[]).is_err() && percent("", &[Value::from(1)]).is_err());
    }
}
