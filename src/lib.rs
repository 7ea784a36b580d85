//! w2s
pub mod error;
pub mod lm;
pub mod run;
pub mod score;
