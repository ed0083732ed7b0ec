//! What the whole-system tests share: a consortium on disk, and its processes.
//!
//! Everything is real but small: the tiny encoder that ships with the tests, generated records, real keys, real TLS over
//! loopback, real processes that are killed for real.

mod consortium;
mod process;

pub use consortium::{Consortium, LABELS, Shape};
pub use process::{Process, wait_until};
