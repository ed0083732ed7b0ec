//! One struct for each step, holding what is true in that step and nothing else.

mod advertise;
mod input;
mod share;
mod unmask;
mod vote;

use alloc::{boxed::Box, collections::BTreeSet, sync::Arc, vec::Vec};

pub(super) use advertise::Advertise;
pub(super) use input::Input;
pub(super) use share::Share;
pub(super) use unmask::{Done, Unmask};
pub(super) use vote::Vote;

use super::{Failure, Fault, Words};
use crate::{
    digest::Digest,
    secagg::{Attempt, Position, Step, evidence::Proof, messages::Adverts},
};

/// Who may speak in a step and who has.
#[derive(Clone, Debug, Default)]
pub(super) struct Roll {
    pub(super) expected: BTreeSet<Position>,
    pub(super) received: BTreeSet<Position>,
}

impl Roll {
    fn of(expected: impl IntoIterator<Item = Position>) -> Self {
        Self { expected: expected.into_iter().collect(), received: BTreeSet::new() }
    }
}

/// Where an attempt is.
#[derive(Debug)]
pub(super) enum Phase {
    Advertise(Advertise),
    Share(Share),
    Input(Box<Input>),
    Vote(Box<Vote>),
    Unmask(Box<Unmask>),
    Done(Box<Done>),
    /// Ended without a sum, in this step.
    Failed {
        step: Step,
        roll: Roll,
    },
}

impl Default for Phase {
    /// Stands in while a phase is being consumed.
    fn default() -> Self {
        Self::Failed { step: Step::Advertise, roll: Roll::default() }
    }
}

/// How closing a phase fails: where that leaves the attempt, why, and what proves it.
pub(super) type Failed = (Box<Phase>, Failure, Vec<Proof>);

impl Phase {
    pub(super) fn step(&self) -> Step {
        match self {
            Self::Advertise(_) => Step::Advertise,
            Self::Share(_) => Step::Share,
            Self::Input(_) => Step::Input,
            Self::Vote(_) => Step::Vote,
            Self::Unmask(_) | Self::Done(_) => Step::Unmask,
            Self::Failed { step, .. } => *step,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed { .. })
    }

    fn roll(&self) -> &Roll {
        match self {
            Self::Advertise(phase) => &phase.roll,
            Self::Share(phase) => &phase.roll,
            Self::Input(phase) => &phase.roll,
            Self::Vote(phase) => &phase.roll,
            Self::Unmask(phase) => &phase.roll,
            Self::Done(phase) => &phase.roll,
            Self::Failed { roll, .. } => roll,
        }
    }

    pub(super) fn expected(&self) -> &BTreeSet<Position> {
        &self.roll().expected
    }

    pub(super) fn received(&self) -> &BTreeSet<Position> {
        &self.roll().received
    }

    /// Takes a body of the open step from a member the step is open to.
    pub(super) fn accept(&mut self, attempt: &Attempt, from: Position, body: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Advertise(phase) => phase.accept(attempt, from, body),
            Self::Share(phase) => phase.accept(attempt, from, body),
            Self::Input(phase) => phase.accept(attempt, from, body),
            Self::Vote(phase) => phase.accept(attempt, from, body),
            Self::Unmask(phase) => phase.accept(attempt, from, body),
            Self::Done(_) | Self::Failed { .. } => {
                Err(Fault::OutOfTurn { now: self.step(), got: self.step() })
            }
        }
    }

    /// Proof that an authenticated answer holds a share of `dealer` that is not the committed one.
    pub(super) fn bad_share(
        &self,
        attempt: &Attempt,
        from: Position,
        body: &[u8],
        dealer: Position,
    ) -> Option<Vec<u8>> {
        match self {
            Self::Unmask(phase) => phase.bad_share(attempt, from, body, dealer),
            _ => None,
        }
    }

    pub(super) fn close(self, attempt: &Arc<Attempt>, words: &Words) -> Result<Self, Failed> {
        match self {
            Self::Advertise(phase) => phase.close(attempt).map(Self::Share),
            Self::Share(phase) => Ok(Self::Input(Box::new(phase.close()))),
            Self::Input(phase) => Ok(Self::Vote(Box::new(phase.close()))),
            Self::Vote(phase) => Ok(Self::Unmask(Box::new(phase.close()))),
            Self::Unmask(phase) => phase.close(attempt, words).map(|done| Self::Done(Box::new(done))),
            ended @ (Self::Done(_) | Self::Failed { .. }) => Ok(ended),
        }
    }

    pub(super) fn fail(&mut self) {
        let (step, roll) = (self.step(), self.roll().clone());
        *self = Self::Failed { step, roll };
    }

    pub(super) fn delivery(&self, to: Position) -> Option<Vec<u8>> {
        match self {
            Self::Share(phase) => Some(phase.delivery()),
            Self::Input(phase) => phase.delivery(to),
            Self::Vote(phase) => Some(phase.delivery()),
            Self::Unmask(phase) => Some(phase.delivery()),
            Self::Advertise(_) | Self::Done(_) | Self::Failed { .. } => None,
        }
    }

    pub(super) fn adverts(&self) -> Option<&Adverts> {
        match self {
            Self::Share(phase) => Some(&phase.adverts),
            Self::Input(phase) => Some(&phase.adverts),
            Self::Vote(phase) => Some(&phase.adverts),
            Self::Unmask(phase) => Some(&phase.adverts),
            Self::Advertise(_) | Self::Done(_) | Self::Failed { .. } => None,
        }
    }

    pub(super) fn chunks(&self, from: Position) -> Option<&[Digest]> {
        let chunks = match self {
            Self::Input(phase) => &phase.chunks,
            Self::Vote(phase) => &phase.chunks,
            Self::Unmask(phase) => &phase.chunks,
            Self::Done(phase) => &phase.chunks,
            Self::Advertise(_) | Self::Share(_) | Self::Failed { .. } => return None,
        };
        chunks.get(&from).map(Vec::as_slice)
    }

    pub(super) fn input_complete(&mut self, from: Position) {
        if let Self::Input(phase) = self {
            phase.input_complete(from);
        }
    }

    pub(super) fn survivors(&self) -> Option<&[Position]> {
        match self {
            Self::Vote(phase) => Some(phase.survivors()),
            _ => None,
        }
    }
}
