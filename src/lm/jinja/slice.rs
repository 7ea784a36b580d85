//! Slices as Python has them: any step, ends beyond the value, whole numbers only.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::budget::Budget;

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Returns `value[start:stop:step]`, each of the three none where it is not given.
///
/// # Source
/// `PySlice_AdjustIndices` of CPython.
pub(super) fn slice(
    value: &Value,
    [start, stop, step]: [&Value; 3],
    budget: &Budget,
) -> Result<Value, Error> {
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(refused("the step of a slice is 0"));
    }
    let (start, stop) = (bound(start)?, bound(stop)?);
    let places = |len: usize| places(len, start, stop, step);
    if let Some(text) = value.as_str() {
        let all: Vec<char> = text.chars().collect();
        let taken: String = places(all.len()).map(|place| all[place]).collect();
        return budget.made(Value::from(taken));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let all: Vec<Value> = value.try_iter()?.collect();
            let taken: Vec<Value> = places(all.len()).map(|place| all[place].clone()).collect();
            budget.made(Value::from(taken))
        }
        kind => Err(refused(format!("a value of type {kind} has no slices"))),
    }
}

/// A bound of a slice; one beyond the whole numbers of 64 bits is as good as the last of them.
fn bound(value: &Value) -> Result<Option<i64>, Error> {
    if value.is_none() {
        return Ok(None);
    }
    if !value.is_integer() && value.kind() != ValueKind::Bool {
        return Err(refused(format!(
            "a slice needs whole numbers, got a value of type {}",
            value.kind()
        )));
    }
    let number = i128::try_from(value.clone()).unwrap_or(i128::MAX);
    Ok(Some(number.clamp(i64::MIN.into(), i64::MAX.into()) as i64))
}

/// The places that a slice of `len` entries takes, in its order.
fn places(
    len: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    let (len, step) = (len as i128, i128::from(step));
    // The first place, and the one behind the last, in the direction of the step.
    let (least, most) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let place = |bound: Option<i64>, otherwise: i128| match bound.map(i128::from) {
        None => otherwise,
        Some(bound) if bound < 0 => (bound + len).clamp(least, most),
        Some(bound) => bound.clamp(least, most),
    };
    let (first, end) = if step > 0 { (least, most) } else { (most, least) };
    let (start, stop) = (place(start, first), place(stop, end));
    let inside = move |place: &i128| if step > 0 { *place < stop } else { *place > stop };
    std::iter::successors(Some(start), move |place| Some(place + step))
        .take_while(inside)
        .map(|place| place as usize)
}
