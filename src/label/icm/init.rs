//! The labels a search starts from.
//!
//! The examples that start are the same for every [`Init`] of one seed; only their labels differ, so
//! that runs from different starts can be compared. Labels that the caller gives are plain data here:
//! where they come from is for the caller to know and to record.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// How the first examples are labelled.
///
/// # Source
/// Wen et al. 2025, section 5 (random, golden, worst) and section 2.3 (zero-shot predictions); the
/// neutral-prompt fork draws labels without balance.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Init {
    /// At random, each label as often as the others.
    #[default]
    Balanced,
    /// At random, each label by itself: all may be the same.
    Unbalanced,
    /// As the model answers without demonstrations, calibrated as the search is.
    ZeroShot,
    /// As the caller says.
    Given(GivenLabels),
}

impl Init {
    /// Returns the name in commands and files.
    pub fn name(&self) -> &str {
        match self {
            Self::Balanced => "random",
            Self::Unbalanced => "unbalanced",
            Self::ZeroShot => "zero-shot",
            Self::Given(given) => &given.name,
        }
    }
}

impl Serialize for Init {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Labels to start from, by id; only examples that have one can start.
#[derive(Clone, PartialEq)]
pub struct GivenLabels {
    /// What records of the run call them.
    pub name: String,
    /// Places in the task's labels.
    pub labels: Arc<HashMap<String, usize>>,
}

/// Shows the count only: the labels may be gold.
impl fmt::Debug for GivenLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GivenLabels({}, {} sealed)", self.name, self.labels.len())
    }
}
