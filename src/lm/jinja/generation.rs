//! The tag `generation` of transformers, which marks what the assistant writes.
//!
//! It renders its body and nothing else, in a scope of its own: what `with` does without assignments.
//! Its name is replaced before the template is parsed; the signs for white space stay.

/// Returns the source with `generation` and `endgeneration` as `with` and `endwith`: in tags only, not
/// in texts, comments, strings or raw blocks.
pub(super) fn as_scopes(source: &str) -> String {
    let mut made = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{").filter(|_| !rest.is_empty()) {
        let (text, tag) = rest.split_at(at);
        made.push_str(text);
        let len = match tag.as_bytes().get(1) {
            Some(b'#') => tag.find("#}").map_or(tag.len(), |end| end + 2),
            Some(b'{') => tag_len(tag, "}}"),
            Some(b'%') => {
                let len = tag_len(tag, "%}");
                let (open, name) = named(&tag[..len]);
                let after = &tag[open + name.len()..len];
                if name == "raw" {
                    let end = end_of_raw(&tag[len..]);
                    made.push_str(&tag[..len + end]);
                    rest = &tag[len + end..];
                    continue;
                }
                made.push_str(&tag[..open]);
                made.push_str(match name {
                    "generation" => "with",
                    "endgeneration" => "endwith",
                    name => name,
                });
                made.push_str(after);
                rest = &tag[len..];
                continue;
            }
            _ => 1,
        };
        made.push_str(&tag[..len]);
        rest = &tag[len..];
    }
    made.push_str(rest);
    made
}

/// The bytes of a tag up to and with its `end`, which does not count within strings and brackets.
fn tag_len(tag: &str, end: &str) -> usize {
    let bytes = tag.as_bytes();
    let (mut at, mut depth) = (2, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            _ if depth == 0 && tag[..].as_bytes()[at..].starts_with(end.as_bytes()) => {
                return at + end.len();
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    tag.len()
}

/// Where the name of a block tag begins, and the name.
fn named(tag: &str) -> (usize, &str) {
    let inside = tag[2..].strip_prefix(['-', '+']).unwrap_or(&tag[2..]);
    let name = inside.trim_start();
    let open = tag.len() - name.len();
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    (open, &name[..name.find(|c| !is_of_name(c)).unwrap_or(name.len())])
}

/// The bytes up to where a raw block ends.
fn end_of_raw(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%") {
        let tag = &text[from + at..];
        if named(tag).1 == "endraw" {
            return from + at;
        }
        from += at + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tags_are_changed() {
        for (source, expected) in [
            ("{% generation %}a{% endgeneration %}", "{% with %}a{% endwith %}"),
            ("{%- generation -%}a{%+endgeneration-%}", "{%- with -%}a{%+endwith-%}"),
            ("generation {# {% generation %} #}", "generation {# {% generation %} #}"),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            (
                "{{ {'a': {'b': \"}}{% generation %}\"}} }}",
                "{{ {'a': {'b': \"}}{% generation %}\"}} }}",
            ),
            ("{% if x == '%}{% generation %}' %}", "{% if x == '%}{% generation %}' %}"),
            (
                "{% raw %}{% generation %}{%- endraw %}{% generation %}",
                "{% raw %}{% generation %}{%- endraw %}{% with %}",
            ),
            (
                "{% set generation = 1 %}{% generations %}",
                "{% set generation = 1 %}{% generations %}",
            ),
            ("{% generation", "{% with"),
            ("{", "{"),
            ("{%", "{%"),
            ("{% raw", "{% raw"),
            ("{{ 'it\\'s' }}\u{4f60}{% generation %}", "{{ 'it\\'s' }}\u{4f60}{% with %}"),
            ("{{ '\\\u{4f60}", "{{ '\\\u{4f60}"),
        ] {
            assert_eq!(as_scopes(source), expected, "{source}");
        }
    }
}
