//! What the whole-system tests share: a consortium on disk, and its processes.
//!
//! Everything is real but small: the tiny encoder that ships with the tests, generated records, real keys, real TLS over
//! loopback, real processes that are killed for real.

pub mod audit;
mod consortium;
pub mod inspector;
pub mod line;
mod process;
pub mod shuffle;
mod trial;

pub use consortium::{Consortium, LABELS, Shape, model};
pub use process::{Process, wait_until};
pub use trial::Trial;
