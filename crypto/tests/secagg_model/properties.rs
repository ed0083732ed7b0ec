//! What must hold in every reachable state.

use crate::{
    algebra::{known, shares},
    ballots::settled,
    rules::Rules,
    state::{HONEST, Known, State},
};

/// A claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// At most one survivor set has a quorum of votes in an attempt, and nobody answers for another.
    OneSet,
    /// Nobody has a quorum of shares of both secrets of one honest member.
    OneKind,
    /// No honest member sends two vectors under one mask.
    OneVector,
    /// The round gives away nothing, or the sum over the honest survivors of one settled set, who are at least two
    /// and were shown the model that all were shown: no other combination of honest vectors.
    OnlyTheSum,
    /// No honest member's vector can be had alone. (Weaker than the one before.)
    NobodyAlone,
}

impl Property {
    pub(crate) const ALL: [Self; 5] =
        [Self::OneSet, Self::OneKind, Self::OneVector, Self::OnlyTheSum, Self::NobodyAlone];

    pub(crate) fn holds(self, rules: &Rules, state: &State) -> bool {
        match self {
            Self::OneSet => settled(rules, state).len() <= 1,
            Self::OneKind => !state.all().any(|(who, number, _)| {
                let shares = shares(rules, state, who, number);
                shares.mask.count_ones() >= rules.quorum && shares.seed.count_ones() >= rules.quorum
            }),
            Self::OneVector => !state.all().any(|(_, _, life)| life.vectors == [true; 2]),
            Self::OnlyTheSum => match known(rules, state) {
                Known::Nothing => true,
                Known::More { .. } => false,
                Known::Sum(of) => of.count_ones() >= 2 && is_agreed(rules, state, of),
            },
            Self::NobodyAlone => match known(rules, state) {
                Known::Nothing | Known::More { alone: false } => true,
                Known::More { alone: true } => false,
                Known::Sum(of) => of.count_ones() != 1,
            },
        }
    }
}

/// Whether these are the honest survivors of a set settled in this attempt, or what the one before gave.
fn is_agreed(rules: &Rules, state: &State, of: u8) -> bool {
    state.known == Known::Sum(of)
        || settled(rules, state)
            .iter()
            .any(|ballot| (0..HONEST).all(|who| (of >> who & 1 == 1) == ballot.survivors.has(who)))
}
