//! What can go wrong while training; each message names the cause and the cure.

use super::{Device, external::ExternalError};
use crate::{data::OptOutError, export::ExportError, model::ModelError};

/// Why a lot or an evaluation did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The model, the tokenizer or the adapter's values.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The list of who has opted out.
    #[error(transparent)]
    OptOut(#[from] OptOutError),
    /// The head that stays at home could not be kept.
    #[error("the head that stays at home cannot be kept: {0}")]
    AtHome(ExportError),
    /// A patient that the data set does not have.
    #[error("patient {patient} does not exist; the data set has {patients}")]
    NoSuchPatient {
        /// The number that was asked for.
        patient: usize,
        /// How many there are.
        patients: usize,
    },
    /// The data set's label list has another length than the head.
    #[error(
        "the data has {found} labels, the plan's head has {expected}; load the data with the plan's label list"
    )]
    Labels {
        /// In the data set.
        found: usize,
        /// In the plan.
        expected: usize,
    },
    /// An evaluation without a test set.
    #[error("this trainer has no test set; name one under `evaluation` in the client's config")]
    NoTestSet,
    /// A gradient or loss overflowed.
    #[error(
        "{what} is not a finite number; the adapter's values have grown too large: lower the learning rate, or restart from an \
         earlier release"
    )]
    NotFinite {
        /// What overflowed.
        what: &'static str,
    },
    /// A setting of the trainer is out of range.
    #[error("trainer: {field} = {value}: {problem}")]
    Setting {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        problem: &'static str,
    },
    /// A device that this libtorch does not have.
    #[error(
        "training.device = {wanted}: the libtorch that this program runs with finds {count} such devices; write device = \"cpu\", or set \
         LIBTORCH to a libtorch 2.13 built for CUDA when building, and see that the driver finds the card (nvidia-smi)"
    )]
    NoDevice {
        /// What the configuration wants.
        wanted: Device,
        /// How many there are.
        count: i64,
    },
    /// A trainer of the organization's own, or the way to it.
    #[error(transparent)]
    External(#[from] ExternalError),
    /// Asked for what only a trainer that clips by itself has.
    #[error("this trainer clips nothing by itself; ask it for a lot")]
    ClipsNot,
    /// Asked for single gradients, which a trainer that clips by itself keeps to itself.
    #[error("this trainer gives sums only; ask it for a sum")]
    SumsOnly,
    /// libtorch failed: out of memory, usually.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl TrainError {
    /// What the coordinator is told of it: whether the list was missing or a trainer outside this process failed, and nothing
    /// that depends on a record.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OptOut(_) => "opt-out",
            Self::External(_) => "trainer",
            _ => "training",
        }
    }
}

#[cfg(feature = "torch")]
impl From<tch::TchError> for TrainError {
    fn from(error: tch::TchError) -> Self {
        // The first line says it; the rest is a C++ stack.
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
