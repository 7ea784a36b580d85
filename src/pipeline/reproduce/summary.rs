//! What a recipe came to.

use std::path::PathBuf;

use crate::report::RecipeResult;

/// What `w2s reproduce` did, by what it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Reproduction {
    /// No recipe was named: those that are built in.
    Recipes(Vec<RecipeListing>),
    /// Nothing was to be done: the recipe's steps, as they are typed.
    Steps(Vec<String>),
    /// All steps were run.
    Results {
        /// Each method on each data set, beside the published number.
        results: Vec<RecipeResult>,
        /// The folder of the runs and of the results.
        folder: PathBuf,
    },
}

/// A recipe that is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeListing {
    /// Its name.
    pub name: String,
    /// The scales at which it can be run.
    pub scales: Vec<String>,
    /// What it reproduces.
    pub title: String,
}
