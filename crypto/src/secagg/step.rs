//! The five steps of an attempt.

use core::fmt;

/// A step of the protocol. Numbered as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Step {
    /// Clients advertise fresh public keys.
    Advertise = 1,
    /// Clients deal sealed shares of their secrets.
    Share = 2,
    /// Clients upload masked vectors.
    Input = 3,
    /// Clients vote on who survived.
    Vote = 4,
    /// Clients answer with the shares that take the masks off.
    Unmask = 5,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 5] = [Self::Advertise, Self::Share, Self::Input, Self::Vote, Self::Unmask];

    /// The step with this number, 1 to 5.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.number() == number)
    }

    /// The step's number, 1 to 5.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Advertise => "advertise",
            Self::Share => "share",
            Self::Input => "input",
            Self::Vote => "vote",
            Self::Unmask => "unmask",
        })
    }
}
