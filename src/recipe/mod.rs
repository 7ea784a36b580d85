//! Recipes: whole experiments as lists of `w2s` commands, at several scales.
//!
//! A recipe is a TOML file. It has the commands of an experiment with names in place of what varies:
//! models, data sets, seeds, sizes. A *scale* gives these names values, `full` those of the paper,
//! `small` what a small machine can do. [`Recipe::expand`] puts them in and returns the steps in their
//! order, each a command line with a folder of its own.
//!
//! In a command, `{name}` is a value of the scale, `{set.name}` an entry of one of its tables, `{*name}` a
//! text whose words are arguments of their own, and `{@step}` the folder of an earlier step, for the same
//! seed and data set; `{@step[seed]}` is its folders for all seeds, parted by commas. `{data}` is the
//! folder of the data files and `{out}` that of the results.

mod expand;
mod file;
mod filling;
pub mod words;

pub use expand::Expanded;
pub use file::{InputFile, Published, Recipe, Scale};
pub use filling::{Bound, RecipeStep};
