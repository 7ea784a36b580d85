//! The values of a job's fields, each as the texts that the command line would take for it.
//!
//! A job says by `Serialize` what its fields hold; fields of flattened groups are the job's own. Neither
//! flags nor defaults are known here.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::ser::{Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

/// Stands for what no text can say, such as a path that is not UTF-8.
const NO_TEXT: &str = "(not text)";

/// The texts of each field: none where it is left out, several for a list.
pub(super) type FieldValues = BTreeMap<String, Vec<String>>;

/// Returns the values of a job's fields by name.
pub(super) fn field_values(job: &impl Serialize) -> FieldValues {
    match job.serialize(Collector) {
        Ok(Found::Fields(fields)) => fields,
        _ => FieldValues::new(),
    }
}

/// Writes pairs as `NAME=VALUE`.
pub(super) fn pairs<S: Serializer>(
    pairs: &[(String, impl Display)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(pairs.iter().map(|(name, value)| format!("{name}={value}")))
}

/// Writes two numbers as `A,B`.
pub(super) fn comma<S: Serializer>(
    numbers: &Option<(f64, f64)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match numbers {
        Some((first, second)) => serializer.collect_str(&format_args!("{first},{second}")),
        None => serializer.serialize_none(),
    }
}

/// What a value turned out to be.
enum Found {
    Texts(Vec<String>),
    Fields(FieldValues),
}

impl Found {
    /// The texts of a value that is no job; those of one that has none say so.
    fn texts(value: &(impl Serialize + ?Sized)) -> Vec<String> {
        match value.serialize(Collector) {
            Ok(Self::Texts(texts)) => texts,
            _ => vec![NO_TEXT.to_owned()],
        }
    }
}

/// Why a value has no text.
#[derive(Debug)]
struct NoText;

impl Display for NoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NO_TEXT)
    }
}

impl std::error::Error for NoText {}

impl serde::ser::Error for NoText {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// Collects the texts of a value, or the fields of a struct.
struct Collector;

macro_rules! by_display {
    ($($method:ident: $type:ty),+ $(,)?) => {$(
        fn $method(self, value: $type) -> Result<Found, NoText> {
            Ok(Found::Texts(vec![value.to_string()]))
        }
    )+};
}

impl Serializer for Collector {
    type Ok = Found;
    type Error = NoText;
    type SerializeSeq = List;
    type SerializeTuple = Impossible<Found, NoText>;
    type SerializeTupleStruct = Impossible<Found, NoText>;
    type SerializeTupleVariant = Impossible<Found, NoText>;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Impossible<Found, NoText>;

    by_display! {
        serialize_bool: bool, serialize_char: char, serialize_str: &str,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_f32: f32, serialize_f64: f64,
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Found, NoText> {
        Err(NoText)
    }

    fn serialize_none(self) -> Result<Found, NoText> {
        Ok(Found::Texts(Vec::new()))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Found, NoText> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Found, NoText> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Found, NoText> {
        Err(NoText)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Found, NoText> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Found, NoText> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Found, NoText> {
        Err(NoText)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List, NoText> {
        Ok(List(Vec::new()))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, NoText> {
        Err(NoText)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, NoText> {
        Err(NoText)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, NoText> {
        Err(NoText)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields, NoText> {
        Ok(Fields::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, NoText> {
        Ok(Fields::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, NoText> {
        Err(NoText)
    }
}

/// The texts of a list.
struct List(Vec<String>);

impl SerializeSeq for List {
    type Ok = Found;
    type Error = NoText;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoText> {
        self.0.extend(Found::texts(value));
        Ok(())
    }

    fn end(self) -> Result<Found, NoText> {
        Ok(Found::Texts(self.0))
    }
}

/// The fields of a struct; one with flattened groups comes as a map.
#[derive(Default)]
struct Fields {
    found: FieldValues,
    key: String,
}

impl SerializeStruct for Fields {
    type Ok = Found;
    type Error = NoText;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), NoText> {
        self.found.insert(name.to_owned(), Found::texts(value));
        Ok(())
    }

    fn end(self) -> Result<Found, NoText> {
        Ok(Found::Fields(self.found))
    }
}

impl SerializeMap for Fields {
    type Ok = Found;
    type Error = NoText;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NoText> {
        self.key = Found::texts(key).concat();
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoText> {
        self.found.insert(std::mem::take(&mut self.key), Found::texts(value));
        Ok(())
    }

    fn end(self) -> Result<Found, NoText> {
        Ok(Found::Fields(self.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Group {
        rate: f64,
        powers: Option<f64>,
    }

    #[derive(serde::Serialize)]
    struct Whole {
        name: &'static str,
        files: Vec<std::path::PathBuf>,
        #[serde(flatten)]
        group: Group,
        #[serde(flatten)]
        none: Option<Group>,
        #[serde(serialize_with = "pairs")]
        parts: Vec<(String, usize)>,
        on: bool,
    }

    #[test]
    fn fields_of_groups_are_the_jobs_own() {
        let whole = Whole {
            name: "a b",
            files: vec!["x".into(), "y".into()],
            group: Group { rate: 5e-5, powers: None },
            none: None,
            parts: vec![("gold".into(), 48)],
            on: true,
        };
        let found = field_values(&whole);
        let expected: [(&str, &[&str]); 6] = [
            ("files", &["x", "y"]),
            ("name", &["a b"]),
            ("on", &["true"]),
            ("parts", &["gold=48"]),
            ("powers", &[]),
            ("rate", &["0.00005"]),
        ];
        let expected: FieldValues = expected
            .into_iter()
            .map(|(name, texts)| (name.to_owned(), texts.iter().map(|&t| t.to_owned()).collect()))
            .collect();
        assert_eq!(found, expected);
        // What is no number is one to the parser.
        let odd = field_values(&Group { rate: f64::INFINITY, powers: Some(f64::NAN) });
        assert_eq!((odd["rate"][0].as_str(), odd["powers"][0].as_str()), ("inf", "NaN"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_text_does_not_take_the_rest_along() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        #[derive(serde::Serialize)]
        struct Job {
            out: std::path::PathBuf,
            seed: u64,
        }
        let out = OsStr::from_bytes(b"r\xff").into();
        let found = field_values(&Job { out, seed: 3 });
        assert_eq!((found["out"][0].as_str(), found["seed"][0].as_str()), (NO_TEXT, "3"));
    }
}
