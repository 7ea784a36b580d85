//! The resolved settings of a run, for people; the manifest holds the same.

use serde_json::{Map, Value};

/// Most characters of a line.
const WIDTH: usize = 100;

/// Returns the settings as a short block of text: one paragraph of those by themselves, and one of
/// each group.
pub(super) fn block(settings: &Map<String, Value>, seed: u64) -> String {
    let preset = settings.get("preset").and_then(Value::as_str);
    let mut text = match preset {
        Some(name) => format!("settings (preset {name}):"),
        None => "settings:".to_owned(),
    };
    let (groups, alone): (Vec<_>, Vec<_>) = settings
        .iter()
        .filter(|(key, _)| *key != "preset")
        .partition(|(_, value)| value.is_object());
    let mut items = vec![format!("seed {seed}")];
    for (key, value) in alone {
        flatten(&words(key), value, &mut items);
    }
    paragraph(&mut text, "", items);
    for (key, group) in groups {
        let mut items = Vec::new();
        for (key, value) in group.as_object().into_iter().flatten() {
            flatten(&words(key), value, &mut items);
        }
        paragraph(&mut text, &format!("{}: ", words(key)), items);
    }
    text
}

fn words(key: &str) -> String {
    key.replace('_', " ")
}

/// `name value` of everything in `value`; a thing within a group bears the group's name.
fn flatten(name: &str, value: &Value, items: &mut Vec<String>) {
    let text = match value {
        Value::Object(map) => {
            for (key, value) in map {
                // The form of the score is its own best name.
                let name = match name {
                    "form" => words(key),
                    _ => format!("{name} {}", words(key)),
                };
                flatten(&name, value, items);
            }
            return;
        }
        Value::Null => "none".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.as_f64().map_or_else(String::new, |x| x.to_string()),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => {
            let text =
                |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
            list.iter().map(text).collect::<Vec<_>>().join(" + ")
        }
    };
    items.push(format!("{name} {text}"));
}

/// Adds `items` with commas, broken at the width.
fn paragraph(text: &mut String, head: &str, items: Vec<String>) {
    let mut line = format!("  {head}");
    let num = items.len();
    for (i, item) in items.into_iter().enumerate() {
        let item = if i + 1 < num { item + "," } else { item };
        if line.trim_end().len() + 1 + item.len() > WIDTH && !line.trim().is_empty() {
            *text += "\n";
            *text += line.trim_end();
            line = "    ".to_owned();
        }
        line += &item;
        line += " ";
    }
    if !line.trim().is_empty() {
        *text += "\n";
        *text += line.trim_end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_read_as_a_block() {
        let settings = json!({
            "task": "claims", "preset": "icm-code", "limit": null,
            "search": {
                "form": {"objective": "log-odds", "alpha": 30.0}, "schedule": {"kind": "log"},
                "stop_when_stable": false
            },
            "consistency": ["contradiction", "implication"]
        });
        assert_eq!(
            block(settings.as_object().unwrap(), 7),
            "settings (preset icm-code):\n  \
             seed 7, task claims, limit none, consistency contradiction + implication\n  \
             search: objective log-odds, alpha 30, schedule kind log, stop when stable no"
        );
        let long: Map<String, Value> =
            (0..40).map(|i| (format!("name_{i}"), Value::from("value"))).collect();
        let text = block(&long, 0);
        assert!(text.lines().count() > 5 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.matches("value").count(), 40);
    }
}
