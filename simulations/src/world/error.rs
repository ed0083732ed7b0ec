//! Why a simulation did not come to its end.

use consilium_proto::ids::Id;
use thiserror::Error;

use crate::{
    scenario::{End, Refused},
    watch::Violation,
};

/// Why a simulation did not come to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The scenario cannot work.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A promise was broken.
    #[error("a promise was broken: {0}")]
    Violation(Violation),
    /// A process could not start from its own disk.
    #[error("{who} could not start again: {why}")]
    Start {
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// An organization stopped for good.
    #[error("{who} stopped: {why}")]
    Stopped {
        /// Who.
        who: Id,
        /// Why.
        why: String,
    },
    /// Two organizations, or one and the coordinator, ended with different adapters.
    #[error("{who} ended with another adapter than the coordinator")]
    Apart {
        /// Who.
        who: Id,
    },
    /// Nothing more can happen, and the job is not over; or it takes longer than all deadlines together.
    #[error("nothing more happens after {0:.0} virtual seconds, and the job is not over")]
    Stuck(f64),
}

impl SimulationError {
    /// The kind of end that this is; none for a scenario that never began.
    pub fn end(&self) -> Option<End> {
        match self {
            Self::Refused(_) => None,
            Self::Violation(_) => Some(End::Broken),
            Self::Start { .. } => Some(End::NoStart),
            Self::Stopped { .. } => Some(End::Stopped),
            Self::Apart { .. } => Some(End::Apart),
            Self::Stuck(_) => Some(End::Stuck),
        }
    }
}
