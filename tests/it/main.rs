//! The integration tests, in one binary because every test binary links libtorch again.

mod common;
mod parity;
