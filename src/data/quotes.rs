//! What quotes mean in a table: they enclose whole fields, or nothing.
//!
//! Readers that take a quote for the beginning of a field wherever a field begins with one read on over
//! line ends to the next quote, and rows vanish into one text. Here a quoted field ends in a quote that a
//! delimiter or a line end follows, or the table is refused with the line; tab-separated files that hold
//! quotes as plain characters (as GLUE's do, whose own readers know no quoting) are read so.

/// How quotes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// A field in quotes is what stands between them; two quotes inside are one.
    Enclosing,
    /// A quote is a character.
    Plain,
}

/// Why a table's quotes make no sense.
#[derive(Debug)]
pub(super) struct Fault {
    /// One-based.
    pub(super) line: usize,
    pub(super) what: &'static str,
    pub(super) hint: &'static str,
}

/// Returns how the quotes of a table are read.
///
/// # Errors
/// With the line, for a quote that is not closed, or behind which a field goes on.
pub(super) fn quoting(text: &str, delimiter: u8) -> Result<Quoting, Fault> {
    let is_tabbed = delimiter == b'\t';
    match enclosing(text, delimiter) {
        // A field over several lines that are rows by themselves is no field.
        Ok(true) if is_tabbed && is_rectangular(text, delimiter) => Ok(Quoting::Plain),
        Ok(_) => Ok(Quoting::Enclosing),
        Err(_) if is_tabbed && is_rectangular(text, delimiter) => Ok(Quoting::Plain),
        Err(fault) => Err(fault),
    }
}

/// Returns whether a quoted field holds a line end, where all quotes that begin a field enclose it.
fn enclosing(text: &str, delimiter: u8) -> Result<bool, Fault> {
    let bytes = text.as_bytes();
    let mut spans_lines = false;
    let (mut at, mut line) = (0, 1);
    let mut field_begins = true;
    while at < bytes.len() {
        let byte = bytes[at];
        if !(field_begins && byte == b'"') {
            line += usize::from(byte == b'\n');
            field_begins = byte == delimiter || byte == b'\n' || byte == b'\r';
            at += 1;
            continue;
        }
        let opened = line;
        at += 1;
        loop {
            match bytes.get(at) {
                None => {
                    return Err(Fault {
                        line: opened,
                        what: "quoted field is not closed",
                        hint: "inside a quoted field a quote is written twice",
                    });
                }
                Some(b'"') if bytes.get(at + 1) == Some(&b'"') => at += 2,
                Some(b'"') => break,
                Some(byte) => {
                    line += usize::from(*byte == b'\n');
                    spans_lines |= *byte == b'\n';
                    at += 1;
                }
            }
        }
        at += 1;
        match bytes.get(at) {
            None | Some(b'\n' | b'\r') => {}
            Some(byte) if *byte == delimiter => {}
            Some(_) => {
                return Err(Fault {
                    line,
                    what: "text goes on behind the closing quote of a field",
                    hint: "a quote at a field's begin must enclose the whole field, with quotes inside written twice; write the table with a CSV library, or as JSON lines",
                });
            }
        }
        field_begins = false;
    }
    Ok(spans_lines)
}

/// Returns whether every line has as many fields as the first, two or more, with quotes as characters.
fn is_rectangular(text: &str, delimiter: u8) -> bool {
    let num = |line: &str| line.bytes().filter(|byte| *byte == delimiter).count();
    let mut lines = text.lines().filter(|line| !line.is_empty()).map(num);
    lines.next().is_some_and(|first| first > 0 && lines.all(|line| line == first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_enclose_whole_fields() {
        for text in ["a,b\n\"x, \"\"y\"\"\",1\r\n", "\"a\",\"b\"", "5\" pipe,b\n", "a\n\"x\ny\"\n"]
        {
            assert_eq!(quoting(text, b',').unwrap(), Quoting::Enclosing, "{text:?}");
        }
        for (text, line) in [
            ("a,b\n\" a film,1\nhe said \" so \" and left,1\n", 3),
            ("a,b\n\"x\" y,1\n", 2),
            ("a,b\nx,\"1\n", 2),
            ("a,b\n\"x\n\ny\" z,1\n", 4),
        ] {
            assert_eq!(quoting(text, b',').unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn tabbed_tables_of_plain_quotes_are_read_line_by_line() {
        // As GLUE's files; the last closes a quote before a tab, so that enclosing makes sense too.
        for text in [
            "s\tl\n\" a film\t1\nhe said \" so \" and left\t1\n",
            "s\tl\n\"open\t1\nfine\t0\n",
            "s\tl\n\"open\t1\nfine\t0\nend\"\t1\n",
        ] {
            assert_eq!(quoting(text, b'\t').unwrap(), Quoting::Plain, "{text:?}");
        }
        assert_eq!(quoting("s\tl\n\"a\tb\"\t1\n", b'\t').unwrap(), Quoting::Enclosing);
        assert_eq!(quoting("s\tl\n\"a\nb\"\t1\n", b'\t').unwrap(), Quoting::Enclosing);
        // Neither way makes sense.
        assert_eq!(quoting("s\tl\n\"a\" b\t1\nc\n", b'\t').unwrap_err().line, 2);
    }
}
