//! The deterministic release: ring sum → mean → optimizer → adapter bytes.
//!
//! Coordinator, client and `verify` all run this code on the same released sum, and every one of them must
//! arrive at the same bytes: the digest of the new adapter is what clients compare before they go on. So
//! the arithmetic here is scalar, in index order, in IEEE 754 binary32 (binary64 for the division that makes
//! the mean), with no fused multiply-add, no threads, and nothing from a mathematics library but the square
//! root, which IEEE 754 rounds correctly. The recipe has a number, [`ARITHMETIC_VERSION`], which the plan
//! carries; a change to any operation or to its order is a new number.
//!
//! - [`Manifest`]: which tensors an adapter has, how each starts, which are trained.
//! - [`mean_from_sum`], [`mean_of_deltas`]: the mean update out of the ring sum.
//! - [`Optimizer`] and [`AdapterState`]: one server step, its digests and its bytes.
//!
//! The optimizer sees only what is released already, so running it costs no privacy (post-processing).
//! Adam is Kingma and Ba, 2015, algorithm 1; on a sum of updates it is the server optimizer of Reddi et al.,
//! 2021, with bias correction.
//!
//! It does not decide whether a sum may be released, and it never sees one organization's update.

mod init;
mod manifest;
mod mean;
mod optimizer;
mod state;
#[cfg(test)]
mod tests;

use alloc::string::String;
use core::fmt;

pub use init::Init;
pub use manifest::{MAX_NAME_BYTES, MAX_PARAMETERS, MAX_RANK, MAX_TENSORS, Manifest, TensorSpec, Turn};
pub use mean::{mean_from_sum, mean_of_deltas};
pub use optimizer::Optimizer;
pub use state::AdapterState;

/// The recipe that this module computes. A plan that names another one cannot be followed by this build.
pub const ARITHMETIC_VERSION: u32 = 1;

/// Why a manifest, an optimizer, a mean or stored bytes were refused.
#[derive(Clone, Debug, PartialEq)]
pub enum ReleaseError {
    /// The manifest has no tensor, or more than [`MAX_TENSORS`].
    TensorCount(usize),
    /// A tensor's name is empty, too long, or holds something other than printable ASCII.
    Name(String),
    /// A name is not greater than the one before it: unsorted, or there twice.
    Order(String),
    /// A tensor has more than [`MAX_RANK`] axes, an axis of 0, or too many elements.
    Shape(String),
    /// All tensors together have more than [`MAX_PARAMETERS`] values.
    TooLarge,
    /// No tensor is trained.
    NothingTrained,
    /// A tensor's start is not a finite bound of 0 or more.
    Start(String),
    /// A number that must lie in a range does not.
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// What it held.
        value: f64,
        /// What it may hold.
        range: &'static str,
    },
    /// A vector has the wrong length.
    Length {
        /// Which vector.
        what: &'static str,
        /// Coordinates expected.
        expected: usize,
        /// Coordinates got.
        got: usize,
    },
    /// A value is infinite or not a number.
    NotFinite {
        /// Where it was found.
        what: &'static str,
        /// Its index in the vector of trained coordinates, or of all parameters.
        index: usize,
    },
    /// Stored bytes are not an adapter state of this manifest.
    Bytes(&'static str),
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TensorCount(count) => {
                write!(f, "the manifest names {count} tensors; it must name 1 to {MAX_TENSORS}")
            }
            Self::Name(name) => write!(
                f,
                "tensor name {name:?} must be 1 to {MAX_NAME_BYTES} printable ASCII characters without spaces"
            ),
            Self::Order(name) => {
                write!(f, "tensor {name:?} is out of order or named twice; sort the manifest by name")
            }
            Self::Shape(name) => write!(
                f,
                "tensor {name:?} must have at most {MAX_RANK} axes, none of length 0, and at most {MAX_PARAMETERS} values"
            ),
            Self::TooLarge => write!(
                f,
                "the manifest's tensors hold more than {MAX_PARAMETERS} values together; lower the rank or train fewer modules"
            ),
            Self::NothingTrained => f.write_str("the manifest marks no tensor as trained; mark at least one"),
            Self::Start(name) => {
                write!(f, "tensor {name:?} starts from a bound that is negative, infinite or not a number")
            }
            Self::OutOfRange { field, value, range } => {
                write!(f, "{field} is {value}; it must be {range}")
            }
            Self::Length { what, expected, got } => {
                write!(f, "{what} has {got} coordinates where {expected} are expected")
            }
            Self::NotFinite { what, index } => {
                write!(f, "{what} is infinite or not a number at coordinate {index}")
            }
            Self::Bytes(why) => write!(f, "stored adapter state refused: {why}"),
        }
    }
}

impl core::error::Error for ReleaseError {}

/// Refuses a number outside `range` (`holds` decides), naming the field.
fn require(holds: bool, field: &'static str, value: f64, range: &'static str) -> Result<(), ReleaseError> {
    if holds { Ok(()) } else { Err(ReleaseError::OutOfRange { field, value, range }) }
}
