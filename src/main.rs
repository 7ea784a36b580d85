//! w2s
fn main() { }
