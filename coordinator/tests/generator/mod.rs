//! Generated members that speak the real protocol to a real coordinator: real keys, real TLS, real masks, no training.
//!
//! Used by the coordinator's service tests and by the bench, so that what is measured and what is attacked is the same.
//! A member's update is a written function of its number, so the exact sum is known without adding anything up.

mod consortium;
mod dial;
mod member;

pub use consortium::{Consortium, Shape};
pub use dial::{Wire, channel, tls};
pub use member::{Failed, Kept, Member, Said, expected_sum, update};
