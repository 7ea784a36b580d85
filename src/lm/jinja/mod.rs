//! The Jinja in which transformers renders chat templates, as it is in Python, and within bounds.
//!
//! Templates come from strangers. Steps, the text that is made on the way and recursion are bounded,
//! so that one without an end is an error.

mod budget;
mod filters;
mod generation;
mod methods;
mod python;
mod slice;
mod strftime;

use std::sync::Arc;

use minijinja::machinery::{
    CompiledTemplate, Instruction, Instructions, TemplateConfig, Vm, WhitespaceConfig,
    make_string_output,
};
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

pub use strftime::Moment;

use budget::{Budget, ENTRY_BYTES};

/// Steps of one rendering; a template of a real model takes some thousands.
const STEPS: u64 = 2_000_000;
/// Bytes of text that one rendering may make besides what grows with its input.
const TEXT_BYTES: usize = 16 << 20;
/// The same for each byte of its input.
const TEXT_PER_BYTE: usize = 64;
/// The longest source of a template, in bytes; real ones have up to some twenty thousand.
const SOURCE_BYTES: usize = 1 << 20;

/// Returns the text of a template.
///
/// # Errors
/// What the template, or this program, does not allow.
pub fn render(
    source: &str,
    variables: Value,
    input_bytes: usize,
    moment: Option<Moment>,
) -> Result<String, Error> {
    if source.len() > SOURCE_BYTES {
        let message = format!("it is {} bytes long, expected at most {SOURCE_BYTES}", source.len());
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let allowed = TEXT_BYTES.saturating_add(TEXT_PER_BYTE.saturating_mul(input_bytes));
    let budget = Budget::new(allowed);
    let source = generation::as_scopes(&source.replace("\r\n", "\n").replace('\r', "\n"));
    let environment = environment(&budget, moment);
    let config = TemplateConfig {
        syntax_config: minijinja::syntax::SyntaxConfig,
        ws_config: WhitespaceConfig {
            keep_trailing_newline: false,
            lstrip_blocks: true,
            trim_blocks: true,
        },
        default_auto_escape: Arc::new(|_| AutoEscape::None),
    };
    let mut compiled = CompiledTemplate::new("chat", &source, &config)?;
    replace_operators(&mut compiled.instructions);
    compiled.blocks.values_mut().for_each(replace_operators);
    let mut text = String::new();
    let mut out = make_string_output(&mut text);
    Vm::new(&environment).eval(
        &compiled.instructions,
        variables,
        &compiled.blocks,
        &mut out,
        AutoEscape::None,
    )?;
    drop(out);
    Ok(text)
}

/// Names that no template can write, and the operators that they are.
const OPERATORS: [&str; 6] =
    ["binary ~", "binary +", "binary *", "binary %", "binary //", "slice [::]"];

/// Lets functions do what operators do otherwise, so that texts are Python's and are counted.
fn replace_operators(instructions: &mut Instructions<'_>) {
    for place in 0..instructions.len() as u32 {
        let Some(instruction) = instructions.get_mut(place) else { return };
        let (name, num_args) = match instruction {
            Instruction::StringConcat => (OPERATORS[0], 2),
            Instruction::Add => (OPERATORS[1], 2),
            Instruction::Mul => (OPERATORS[2], 2),
            Instruction::Rem => (OPERATORS[3], 2),
            Instruction::IntDiv => (OPERATORS[4], 2),
            Instruction::Slice => (OPERATORS[5], 4),
            _ => continue,
        };
        *instruction = Instruction::CallFunction(name, Some(num_args));
    }
}

fn environment<'e>(budget: &Budget, moment: Option<Moment>) -> Environment<'e> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(STEPS));
    let own = budget.clone();
    environment.set_formatter(move |out, _, value| {
        let text = python::text(value);
        own.take(text.len())?;
        out.write_str(&text).map_err(Error::from)
    });
    environment.add_function("raise_exception", |message: Value| {
        Err::<Value, _>(Error::new(
            ErrorKind::InvalidOperation,
            python::text(&message).into_owned(),
        ))
    });
    environment.add_function("strftime_now", move |format: String| match &moment {
        Some(moment) => strftime::strftime(moment, &format)
            .map_err(|message| Error::new(ErrorKind::InvalidOperation, message)),
        None => Err(Error::new(
            ErrorKind::InvalidOperation,
            "it asks for the date (`strftime_now`), and no date was given",
        )),
    });
    operators(&mut environment, budget);
    filters::add(&mut environment, budget);
    methods::add(&mut environment, budget);
    environment
}

fn operators(environment: &mut Environment<'_>, budget: &Budget) {
    let own = budget.clone();
    environment.add_function(OPERATORS[0], move |left: Value, right: Value| {
        let (left, right) = (python::text(&left), python::text(&right));
        own.take(left.len() + right.len())?;
        Ok::<_, Error>(Value::from([left, right].concat()))
    });
    let own = budget.clone();
    environment.add_function(OPERATORS[1], move |left: Value, right: Value| {
        if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
            own.take(a.len() + b.len())?;
            return Ok(Value::from([a, b].concat()));
        }
        let is_list = |v: &Value| matches!(v.kind(), ValueKind::Seq | ValueKind::Iterable);
        if is_list(&left) && is_list(&right) {
            let all: Vec<Value> = left.try_iter()?.chain(right.try_iter()?).collect();
            return own.made(Value::from(all));
        }
        number(&left, &right, "+", |a, b| a.checked_add(b), |a, b| a + b)
    });
    let own = budget.clone();
    environment.add_function(OPERATORS[2], move |left: Value, right: Value| {
        let (what, times) = match (left.kind(), right.kind()) {
            (ValueKind::String | ValueKind::Seq, _) => (&left, &right),
            (_, ValueKind::String | ValueKind::Seq) => (&right, &left),
            _ => return number(&left, &right, "*", |a, b| a.checked_mul(b), |a, b| a * b),
        };
        let Some(times) = times.as_i64().map(|times| times.max(0) as usize) else {
            return Err(python::unsupported("*", &left, &right));
        };
        if let Some(text) = what.as_str() {
            own.take(text.len().saturating_mul(times))?;
            return Ok(Value::from(text.repeat(times)));
        }
        let entries: Vec<Value> = what.try_iter()?.collect();
        own.take(entries.len().saturating_mul(times).saturating_mul(ENTRY_BYTES))?;
        let num = entries.len() * times;
        Ok(Value::from(entries.into_iter().cycle().take(num).collect::<Vec<Value>>()))
    });
    let own = budget.clone();
    environment.add_function(OPERATORS[3], move |left: Value, right: Value| {
        if let Some(format) = left.as_str() {
            let args: Vec<Value> = match right.kind() {
                ValueKind::Seq => right.try_iter()?.collect(),
                _ => vec![right],
            };
            return own.made(Value::from(python::percent(format, &args)?));
        }
        let floor = |a: i128, b: i128| {
            a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r })
        };
        number(&left, &right, "%", floor, |a, b| a - b * (a / b).floor())
    });
    environment.add_function(OPERATORS[4], |left: Value, right: Value| {
        let floor = |a: i128, b: i128| {
            let quotient = a.checked_div(b)?;
            Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
        };
        number(&left, &right, "//", floor, |a, b| (a / b).floor())
    });
    let own = budget.clone();
    environment.add_function(
        OPERATORS[5],
        move |value: Value, start: Value, stop: Value, step: Value| {
            slice::slice(&value, [&start, &stop, &step], &own)
        },
    );
}

/// A number of two numbers, as Python has it: truth values count, and only two integers make one.
fn number(
    left: &Value,
    right: &Value,
    sign: &str,
    of_integers: impl Fn(i128, i128) -> Option<i128>,
    of_floats: impl Fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    let is_integer = |v: &Value| v.is_integer() || v.kind() == ValueKind::Bool;
    let integer = |v: &Value| i128::try_from(v.clone()).ok();
    let failed = || python::unsupported(sign, left, right);
    if is_integer(left) && is_integer(right) {
        let made = integer(left).zip(integer(right)).and_then(|(a, b)| of_integers(a, b));
        let made = made.ok_or_else(failed)?;
        return Ok(i64::try_from(made).map_or_else(|_| Value::from(made), Value::from));
    }
    let float = |v: &Value| match v.kind() {
        ValueKind::Number | ValueKind::Bool => f64::try_from(v.clone()).ok(),
        _ => None,
    };
    let made = float(left).zip(float(right)).map(|(a, b)| of_floats(a, b));
    Ok(Value::from(made.ok_or_else(failed)?))
}
