//! The member's side: one type for each step.
//!
//! ```text
//! Advertised ──adverts──→ Dealt ──deals──→ Ready ──update──→ Masked ──headers──→ Voted
//!                                            └──────────── votes ──┴───────────────┘──→ answer
//! ```
//!
//! A step consumes its type and returns the next, with the bytes to say. What a step needs no longer is wiped
//! when its type is dropped: a [`Ready`] holds masks but neither masking key nor self-mask seed, a [`Masked`] no
//! masks either, and after an answer nothing is left. There is no way to mask twice, vote twice or answer twice, because there is
//! nothing left to do it with.
//!
//! [`Participant`] holds whichever type is current, for callers that keep one machine.
//!
//! # Security
//!
//! These types hold the round's secrets and are deliberately neither `Clone` nor serializable: a process that
//! restarts sits the rest of the attempt out, repeating what it recorded and nothing else. The caller must
//! persist what a step returns *before* sending it.

mod advertised;
mod dealt;
mod holding;
mod masked;
mod participant;
mod ready;
mod voted;

use alloc::sync::Arc;

pub use advertised::Advertised;
pub use dealt::Dealt;
pub use masked::Masked;
pub use participant::{Participant, Reply};
pub use ready::{MaskedInput, Ready};
pub use voted::Voted;

use super::{
    Attempt, LedgerHead, Position, Refusal, SetupError, Step,
    messages::{Advert, Adverts},
};

/// Who a client is in which attempt.
#[derive(Clone, Debug)]
struct Seat {
    attempt: Arc<Attempt>,
    me: Position,
}
