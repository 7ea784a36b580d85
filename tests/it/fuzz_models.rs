//! Readers of model folders under damaged input.
