//! The trainer beside an organization's records, with a head of its own where the plan keeps heads at home.
//!
//! As in a deployed client, the head completes every adapter and learns with every lot. What a client keeps in a file is kept in memory
//! here: it outlives the process, and is lost with the disk.

use consilium_client::{
    config::adapter_tensors_of,
    model::AdapterTensors,
    trainer::{Home, Personal, Trainer},
};
use consilium_crypto::release::AdapterState;
use consilium_proto::plan::VerifiedPlan;

use crate::task::TaskError;

/// A trainer, and what of the adapter it alone has.
pub(crate) enum Beside {
    /// Everything is shared.
    Shared(Box<dyn Trainer>),
    /// The head stays at home.
    Personal(Box<Personal<Box<dyn Trainer>>>),
}

impl Beside {
    /// The trainer under a plan.
    pub(crate) fn of(plan: &VerifiedPlan, trainer: Box<dyn Trainer>) -> Result<Self, TaskError> {
        Ok(match drawn(plan)? {
            Some(home) => Self::Personal(Box::new(Personal::new(trainer, home, plan))),
            None => Self::Shared(trainer),
        })
    }

    /// For lots and evaluations of what is shared.
    pub(crate) fn trainer(&mut self) -> &mut dyn Trainer {
        match self {
            Self::Shared(trainer) => trainer.as_mut(),
            Self::Personal(trainer) => trainer.as_mut(),
        }
    }

    /// An adapter as this organization uses it: completed by its own head.
    pub(crate) fn complete(&self, shared: &AdapterState) -> AdapterTensors {
        let shared = adapter_tensors_of(shared);
        match self {
            Self::Shared(_) => shared,
            Self::Personal(trainer) => trainer.home().complete(&shared),
        }
    }

    /// The disk is lost: the head is again as the plan's seed draws it.
    pub(crate) fn loses_disk(&mut self, plan: &VerifiedPlan) {
        // What could be drawn once can be drawn again.
        if let (Self::Personal(trainer), Ok(Some(home))) = (self, drawn(plan)) {
            trainer.goes_on_from(home);
        }
    }
}

/// An adapter as every organization starts with it: the head that stays at home is drawn alike everywhere.
pub(crate) fn at_first(plan: &VerifiedPlan, shared: &AdapterState) -> Result<AdapterTensors, TaskError> {
    let shared = adapter_tensors_of(shared);
    Ok(drawn(plan)?.map_or_else(|| shared.clone(), |home| home.complete(&shared)))
}

fn drawn(plan: &VerifiedPlan) -> Result<Option<Home>, TaskError> {
    Home::drawn(plan).map_err(|error| TaskError(error.to_string()))
}
