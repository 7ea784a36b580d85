//! The page that needs no other file: figures and tables of the report with the examples of its runs.
//!
//! Style, script, figures and data stand in the document; its policy forbids it to ask for anything.
//! What comes from runs is text: escaped between tags, and in the data free of `<`.

use std::fmt::Write as _;

use super::contents::{Figure, Report};
use super::document::Document;
use super::overview::Overview;
use super::svg::escape;
use super::text;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// Returns the page as an HTML document, the same bytes for the same report.
pub(super) fn page(report: &Report) -> String {
    let sections: Vec<(&str, &str, String)> = [
        ("runs", "Runs", runs(&report.overview)),
        ("notes", "Notes", notes(&report.notes)),
        ("figures", "Figures", figures(&report.figures)),
        ("tables", "Measurements", tables(&report.tables, &report.sections)),
        ("examples", "Examples", examples(report)),
        ("provenance", "How the runs were made", provenance(&report.overview)),
    ]
    .into_iter()
    .filter(|(_, _, body)| !body.is_empty())
    .collect();
    let title = escape(&report.heading);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{title} - w2s report</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<div class=\"page\">\n<header>\n\
         <p class=\"kicker\">w2s report</p>\n\
         <button id=\"theme\" type=\"button\" aria-label=\"Change between light and dark\" hidden></button>\n\
         <h1>{title}</h1>\n<p class=\"lead\">{}</p>\n<nav aria-label=\"Contents\">\n",
        escape(&lead(report))
    );
    for (id, name, _) in &sections {
        let _ = writeln!(page, "<a href=\"#{id}\">{name}</a>");
    }
    page.push_str("</nav>\n</header>\n<main>\n");
    for (id, name, body) in &sections {
        let _ = write!(
            page,
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{name}</h2>\n\
             {body}</section>\n"
        );
    }
    let _ = write!(
        page,
        "</main>\n<footer>Made by w2s {} from the files of the runs; nothing was computed for this page and \
         nothing is fetched by it.</footer>\n</div>\n",
        env!("CARGO_PKG_VERSION")
    );
    if !report.examples.is_empty() {
        let _ = writeln!(
            page,
            "<script type=\"application/json\" id=\"example-data\">{}</script>",
            inert_json(&report.examples.to_json())
        );
    }
    let _ = write!(page, "<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    page
}

/// Returns JSON that ends no script element and is JavaScript too.
pub(crate) fn inert_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            _ => text.push(letter),
        }
    }
    text
}

fn lead(report: &Report) -> String {
    let num = report.overview.len();
    let mut parts = Vec::new();
    match num {
        0 => {}
        1 => parts.push("one run".to_owned()),
        _ => parts.push(format!("{num} runs")),
    }
    let mut commands: Vec<&str> = Vec::new();
    for run in &report.overview {
        if !commands.contains(&run.command.as_str()) {
            commands.push(&run.command);
        }
    }
    if !commands.is_empty() {
        let commands: Vec<String> = commands.iter().map(|name| format!("w2s {name}")).collect();
        parts.push(format!("of {}", commands.join(", ")));
    }
    let runs = parts.join(" ");
    let comparisons = match report.num_comparisons {
        0 => String::new(),
        1 => "a comparison of methods".to_owned(),
        num => format!("{num} comparisons of methods"),
    };
    let both: Vec<String> =
        [runs, comparisons].into_iter().filter(|part| !part.is_empty()).collect();
    sentence(&both.join("; "))
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// One line for each run; what all runs share stands above.
fn runs(overview: &[Overview]) -> String {
    let Some(first) = overview.first() else { return String::new() };
    let same_data = overview.iter().all(|run| (&run.task, &run.data) == (&first.task, &first.data));
    let same_model =
        overview.iter().all(|run| (&run.model, &run.adapter) == (&first.model, &first.adapter));
    let mut page = shared(first, same_data, same_model);
    let some = |value: fn(&Overview) -> bool| overview.iter().any(value);
    let columns = [
        ("run", "", true),
        ("accuracy, 95% interval", " class=\"keep\"", true),
        ("score", " class=\"n\"", some(|run| run.score.is_some())),
        ("tokens computed", " class=\"n\"", some(|run| run.tokens.is_some())),
        ("time", " class=\"n\"", some(|run| run.seconds.is_some())),
        ("memory", " class=\"n\"", some(|run| run.peak_memory_bytes.is_some())),
        ("task and data", "", !same_data),
        ("model", "", !same_model),
        ("gold used", "", true),
    ];
    let shown = || columns.iter().enumerate().filter(|(_, (_, _, is_shown))| *is_shown);
    page.push_str("<div class=\"scroll\" tabindex=\"0\"><table class=\"wide\">\n<thead><tr>");
    for (_, (name, class, _)) in shown() {
        let _ = write!(page, "<th scope=\"col\"{class}>{name}</th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for run in overview {
        page.push_str("<tr>");
        let cells = run_cells(run);
        for (index, (_, class, _)) in shown() {
            let (tag, scope) = if index == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
            let _ = write!(page, "<{tag}{scope}{class}>{}</{tag}>", cells[index]);
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
    let mut words = vec!["Time is that of the last session."];
    if some(|run| run.peak_memory_bytes.is_some()) {
        words.push("Memory is the most main memory the process held by the end of the run.");
    }
    if some(|run| run.saved().is_some()) {
        words.push("Saved: against computing every prompt in full.");
    }
    let _ = writeln!(page, "<p class=\"small\">{}</p>", words.join(" "));
    page
}

/// The task, data and model of all runs, as far as they are the same.
fn shared(first: &Overview, same_data: bool, same_model: bool) -> String {
    let mut parts = Vec::new();
    let mut add = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            parts.push(format!("{name} <b>{}</b>", escape(value)));
        }
    };
    if same_data {
        add("task", &first.task);
        add("data", &first.data);
    }
    if same_model {
        add("model", &first.model);
        add("adapter", &first.adapter);
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!("<p class=\"shared\">{}</p>\n", sentence(&parts.join(", "))),
    }
}

/// The cells of a run, those of all columns there can be.
fn run_cells(run: &Overview) -> [String; 9] {
    let dash = |text: &Option<String>| escape(text.as_deref().unwrap_or("\u{2013}"));
    let what = match &run.method {
        Some(method) if *method != run.command => format!("w2s {}, {method}", run.command),
        _ => format!("w2s {}", run.command),
    };
    let (result, more) = run
        .result
        .clone()
        .unwrap_or_else(|| ("\u{2013}".to_owned(), "not compared with gold".to_owned()));
    let saved = run.saved().map(|share| format!("{:.0}% saved", 100.0 * share));
    let adapter = run.adapter.as_ref().map(|adapter| format!("adapter {adapter}"));
    [
        format!(
            "{}{}{}",
            escape(&run.name),
            small(Some(what.as_str())),
            small(Some(run.folder.as_str()))
        ),
        format!(
            "{}{}",
            escape(&result),
            small(Some(more.as_str()).filter(|more| !more.is_empty()))
        ),
        dash(&run.score),
        format!("{}{}", dash(&run.tokens.map(text::grouped)), small(saved.as_deref())),
        dash(&run.seconds.map(duration)),
        dash(&run.peak_memory_bytes.map(size)),
        format!("{}{}", dash(&run.task), small(run.data.as_deref())),
        format!("{}{}", dash(&run.model), small(adapter.as_deref())),
        // The notes say for what.
        if run.gold_used.is_some() { "yes" } else { "no" }.to_owned(),
    ]
}

/// Returns a size in the unit that reads best.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1000.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

fn small(text: Option<&str>) -> String {
    text.map(|text| format!("<small>{}</small>", escape(text))).unwrap_or_default()
}

/// Returns a time in the unit that reads best.
fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 10.0 => format!("{seconds:.1} s"),
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

fn notes(notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let mut page = String::from("<div class=\"notes\"><ul>\n");
    for note in notes {
        let _ = writeln!(page, "<li>{}</li>", coded(note));
    }
    page.push_str("</ul></div>\n");
    page
}

fn figures(figures: &[Figure]) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let mut page = String::from("<div class=\"figures\">\n");
    for (index, figure) in figures.iter().enumerate() {
        let Figure { stem, caption, svg } = figure;
        let _ = write!(
            page,
            "<figure id=\"figure-{number}\">\n<div class=\"scroll\" tabindex=\"0\">{}</div>\n\
             <figcaption><b>Figure {number}.</b> {}. <span class=\"fig-links\">\
             <a download=\"{}.svg\" href=\"data:image/svg+xml,{}\">SVG</a></span></figcaption>\n</figure>\n",
            inline(svg, index + 1),
            escape(caption),
            escape(stem),
            percent_encoded(svg),
            number = index + 1,
        );
    }
    page.push_str("</div>\n");
    page
}

/// Returns the figure as an element of the page: its words as a label instead of a tip over all of it,
/// and the ids of the `number`th figure its own.
fn inline(svg: &str, number: usize) -> String {
    let part = |tag: &str| {
        let (_, rest) = svg.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
    };
    let body = svg.split_once("</desc>\n").map_or(svg, |(_, body)| body);
    let head = svg.split_once('>').map_or("", |(head, _)| head);
    let head = head.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    // The text of an element is escaped for attributes as well.
    let label = [part("title"), part("desc")].into_iter().flatten().collect::<Vec<_>>().join(". ");
    format!("{head} aria-label=\"{label}\">\n{body}")
        .replace("id=\"scale\"", &format!("id=\"scale-{number}\""))
        .replace("url(#scale)", &format!("url(#scale-{number})"))
}

/// Returns text for a data address.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 5 / 4);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'/' | b'=' | b':' | b',' | b';' | b'(' | b')' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

fn tables(tables: &Document, sections: &Document) -> String {
    if tables.is_empty() && sections.is_empty() {
        return String::new();
    }
    tables.to_html(1) + &sections.to_html(1)
}

fn examples(report: &Report) -> String {
    if report.examples.is_empty() {
        return String::new();
    }
    let gold = if report.examples.has_gold() {
        "Gold was read for this table, because `--gold` asked for it."
    } else {
        "Gold is not on this page; `w2s report --gold FILE` adds it."
    };
    format!(
        "<p>Click a text to see all of it with what the run knows of it; click a column's name to sort. {}</p>\n\
         <noscript><p>The table needs JavaScript, which is switched off here.</p></noscript>\n\
         <div id=\"ex-table\" hidden>\n<div class=\"controls\">\n\
         <label>Run <select id=\"ex-run\"></select></label>\n\
         <label>Search <input id=\"ex-find\" type=\"search\" placeholder=\"words in text or id\"></label>\n\
         <label>Label <select id=\"ex-label\"></select></label>\n\
         <label>Show <select id=\"ex-show\"></select></label>\n\
         <span class=\"count\" id=\"ex-count\" role=\"status\" aria-live=\"polite\"></span>\n</div>\n\
         <div class=\"scroll\" tabindex=\"0\"><table aria-labelledby=\"examples-title\">\n\
         <thead><tr id=\"ex-head\"></tr></thead>\n<tbody id=\"ex-body\"></tbody>\n</table></div>\n\
         <div class=\"pager\"><button id=\"ex-back\" type=\"button\">Back</button>\
         <span id=\"ex-place\"></span><button id=\"ex-next\" type=\"button\">Next</button></div>\n</div>\n",
        coded(gold)
    )
}

/// Returns a sentence of ours with its back-ticks as code.
fn coded(sentence: &str) -> String {
    let parts = sentence.split('`').enumerate();
    parts
        .map(|(index, part)| match index % 2 {
            0 => escape(part),
            _ => format!("<code>{}</code>", escape(part)),
        })
        .collect()
}

fn provenance(overview: &[Overview]) -> String {
    let mut page = String::new();
    for run in overview {
        let _ = write!(
            page,
            "<details>\n<summary>{} <span class=\"digest\">{}</span></summary>\n<h3>Command</h3>\n\
             <pre><code>{}</code></pre>\n",
            escape(&run.name),
            escape(&run.folder),
            escape(&shell(&run.command_line)),
        );
        let gold = run.gold_used.as_ref().map_or_else(
            || "Gold had no part in this run.".to_owned(),
            |reason| format!("Gold was used: {reason}."),
        );
        let _ = writeln!(page, "<p>{}</p>", escape(&gold));
        pairs(&mut page, "Settings", &run.settings);
        if !run.inputs.is_empty() {
            page.push_str(
                "<h3>Files read</h3>\n<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>\
                 <th scope=\"col\">what</th><th scope=\"col\">path</th><th scope=\"col\">SHA-256</th>\
                 </tr></thead>\n<tbody>\n",
            );
            for [role, path, sha256] in &run.inputs {
                let _ = writeln!(
                    page,
                    "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"digest\"><code>{}</code></td></tr>",
                    escape(role),
                    escape(path),
                    escape(sha256)
                );
            }
            page.push_str("</tbody></table></div>\n");
        }
        pairs(&mut page, "Counts and costs", &run.costs);
        pairs(&mut page, "Versions", &run.versions);
        page.push_str("</details>\n");
    }
    page
}

fn pairs(page: &mut String, title: &str, pairs: &[(String, String)]) {
    if pairs.is_empty() {
        return;
    }
    let _ =
        write!(page, "<h3>{title}</h3>\n<div class=\"scroll\" tabindex=\"0\"><table>\n<tbody>\n");
    for (name, value) in pairs {
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escape(name),
            escape(value)
        );
    }
    page.push_str("</tbody></table></div>\n");
}

/// Returns a command line as one would type it.
fn shell(words: &[String]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,@%+".contains(letter);
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_end_no_script() {
        let text = inert_json("{\"a\":\"</script><!-- \u{2028} & é\"}");
        assert_eq!(text, "{\"a\":\"\\u003c/script\\u003e\\u003c!-- \\u2028 \\u0026 é\"}");
        let back: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(back["a"], "</script><!-- \u{2028} & é");
    }

    #[test]
    fn command_lines_can_be_typed() {
        let words = ["w2s", "label", "it's", "a b", ""].map(str::to_owned);
        assert_eq!(shell(&words), "w2s label 'it'\\''s' 'a b' ''");
    }

    #[test]
    fn times_are_short() {
        let seconds = [0.25, 61.0, 400.0, 8000.0];
        assert_eq!(seconds.map(duration), ["0.2 s", "61 s", "7 min", "2.2 h"]);
    }
}
