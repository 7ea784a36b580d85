//! Named numbers: a map in JSON, a list here, because the order of the labels is the task's.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};

pub(super) fn serialize<S: Serializer>(
    entries: &[(String, f64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (name, number) in entries {
        map.serialize_entry(name, number)?;
    }
    map.end()
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, f64)>, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, f64)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of names and numbers")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = access.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(Entries)
}

/// The same, or null.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, Serializer};

    #[derive(serde::Deserialize)]
    struct InOrder(#[serde(with = "super")] Vec<(String, f64)>);

    #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(in crate::data) fn serialize<S: Serializer>(
        entries: &Option<Vec<(String, f64)>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match entries {
            Some(entries) => super::serialize(entries, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::data) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<(String, f64)>>, D::Error> {
        Ok(Option::<InOrder>::deserialize(deserializer)?.map(|entries| entries.0))
    }
}
