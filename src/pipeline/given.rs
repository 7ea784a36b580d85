//! Which options of a job or a group are given: those that are not as they are by default.
//!
//! Names and defaults are the parser's, values those of the fields, so no list of options is written
//! anywhere to ask this.

use clap::{Arg, Args, Command};
use serde::Serialize;

use super::field_values::{FieldValues, field_values};

/// Returns the long name of the first option that is given and `counts`.
pub(super) fn first_given<T: Args + Serialize>(
    options: &T,
    counts: impl Fn(&str) -> bool,
) -> Option<String> {
    let values = field_values(options);
    let parser = T::augment_args(Command::new("w2s"));
    let mut names = parser.get_arguments().filter(|arg| !given(arg, &values).is_empty());
    names.find_map(|arg| arg.get_long().filter(|name| counts(name)).map(str::to_owned))
}

/// The values of an option; none if it is as by default.
pub(super) fn given<'a>(arg: &Arg, values: &'a FieldValues) -> &'a [String] {
    let Some(texts) = values.get(arg.get_id().as_str()) else { return &[] };
    let is_default = match arg.get_action().takes_values() {
        true => arg.get_default_values().iter().eq(texts),
        false => texts.iter().all(|text| text != "true"),
    };
    if is_default { &[] } else { texts }
}
