//! The resolved settings of a run, for people; the manifest holds the same.

use serde_json::{Map, Value};
use w2s::pipeline::given_options;
use w2s::run::Manifest;

/// Most characters of a line.
const WIDTH: usize = 100;

fn head(preset: Option<&str>) -> String {
    match preset {
        Some(name) => format!("settings (preset {name}):"),
        None => "settings:".to_owned(),
    }
}

/// The name of a number type that libtorch calls otherwise.
pub(super) fn dtype_name(name: &str) -> &str {
    match name {
        "float" => "float32",
        "half" => "float16",
        other => other,
    }
}

/// Returns what a person wants to know of the settings of a run: what it is of, and what differs from the
/// defaults.
pub(super) fn brief(manifest: &Manifest) -> String {
    let Some(given) = given_options(&manifest.command_line) else {
        return block(&manifest.settings, manifest.seed);
    };
    let setting = |name: &str| manifest.settings.get(name).and_then(Value::as_str);
    let named = |name: &str| setting(name).map(|value| format!("{name} {value}"));
    let mut items: Vec<String> =
        ["method", "task", "data", "model", "adapter"].into_iter().filter_map(named).collect();
    let dtype = setting("dtype").map(dtype_name);
    items
        .extend(setting("device").zip(dtype).map(|(device, dtype)| format!("{device} in {dtype}")));
    // Where the layers of a model lie that is spread over several devices.
    items.extend(named("blocks"));
    items.push(format!("seed {}", manifest.seed));
    let mut text = head(setting("preset"));
    paragraph(&mut text, "", items);
    let rest = match given.as_slice() {
        [] => "all else by default (--verbose shows it)".to_owned(),
        given => format!("{}; all else by default (--verbose shows it)", given.join(" ")),
    };
    let rest = rest.split(' ').map(str::to_owned).collect();
    lines(&mut text, "", rest);
    text
}

/// Returns the settings as a block of text: one paragraph of those by themselves, and one of
/// each group.
pub(super) fn block(settings: &Map<String, Value>, seed: u64) -> String {
    let preset = settings.get("preset").and_then(Value::as_str);
    let mut text = head(preset);
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
fn paragraph(text: &mut String, head: &str, mut items: Vec<String>) {
    let last = items.len().saturating_sub(1);
    items.iter_mut().take(last).for_each(|item| item.push(','));
    lines(text, head, items);
}

/// Adds items, broken at the width.
fn lines(text: &mut String, head: &str, items: Vec<String>) {
    let mut line = format!("  {head}");
    for item in items {
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
