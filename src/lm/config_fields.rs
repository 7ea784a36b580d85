//! Typed fields of `config.json`, with the family's defaults and errors that name field and file.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::Activation;
use super::config_defaults::Absent;
use crate::error::{Error, ErrorKind, Result};

/// The fields of one file.
pub(super) struct Fields<'a> {
    pub(super) map: &'a Map<String, Value>,
    pub(super) path: &'a Path,
    pub(super) family: &'a str,
}

impl Fields<'_> {
    pub(super) fn fail(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, message).at(self.path)
    }

    pub(super) fn unsupported(&self, key: &str, value: &str) -> Error {
        self.fail(format!("`{key}` is {value}, which is not supported"))
            .hint("this model computes something that this program does not; choose another model")
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, key: &str, value: &Value) -> Result<T> {
        T::deserialize(value).map_err(|e| self.fail(format!("`{key}` cannot be read: {e}")))
    }

    /// Returns a field that every file must have.
    pub(super) fn need<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<T> {
        match self.map.get(key) {
            None | Some(Value::Null) => Err(self
                .fail(format!("`{key}` is missing"))
                .hint("check that this is the model's own `config.json`, complete")),
            Some(value) => self.read(key, value),
        }
    }

    /// Returns a field or, where the file lacks it, its default in the family; `None` where that is
    /// null, or the family does not have the key and transformers ignores it.
    pub(super) fn optional<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<Option<T>> {
        let default = Absent::of(self.family, key);
        if default == Absent::Unknown {
            return Ok(None);
        }
        let absent = default.value();
        match self.map.get(key).unwrap_or(&absent) {
            Value::Null if default.takes_null() => Ok(None),
            Value::Null => Err(self.fail(format!("`{key}` is null")).hint(format!(
                "leave the key out for the default of `{}`, {}",
                self.family,
                default.value()
            ))),
            value => self.read(key, value).map(Some),
        }
    }

    /// Returns a field or its default, which is not null.
    pub(super) fn get<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<T> {
        self.optional(key)?.ok_or_else(|| self.fail(format!("`{key}` is missing")))
    }

    /// Returns a field or its default; off where the family does not have the key.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.optional(key)?.unwrap_or(false))
    }

    /// Returns a size that every file must have, from 1 to `most`.
    pub(super) fn size(&self, key: &str, most: usize) -> Result<usize> {
        let size = self.need(key)?;
        self.check_size(key, size, most)
    }

    /// Refuses a size of 0 and one that no model has: memory would be asked for by it.
    pub(super) fn check_size(&self, key: &str, size: usize, most: usize) -> Result<usize> {
        if (1..=most).contains(&size) {
            return Ok(size);
        }
        Err(self
            .fail(format!("`{key}` is {size}, expected 1 to {most}"))
            .hint("the file is damaged, or of no model that this program can run"))
    }

    /// Returns the non-linearity that `key` names.
    pub(super) fn activation(&self, key: &str) -> Result<Activation> {
        match self.get::<String>(key)?.as_str() {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
            other => Err(self.unsupported(key, &format!("`{other}`"))),
        }
    }

    /// Returns the constant under the root of norms.
    pub(super) fn epsilon(&self, key: &str) -> Result<f64> {
        let epsilon: f64 = self.get(key)?;
        if epsilon.is_finite() && epsilon >= 0.0 {
            return Ok(epsilon);
        }
        Err(self.fail(format!("`{key}` is {epsilon}, expected a number that is not negative")))
    }
}
