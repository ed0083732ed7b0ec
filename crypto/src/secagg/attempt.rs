//! The public facts of an attempt: who takes part, under which keys, with which numbers, in which context.

use alloc::{collections::BTreeSet, string::String, sync::Arc, vec::Vec};
use core::{fmt, str::FromStr};

use super::{Params, ParamsError, SUITE, messages::Shown};
use crate::{
    digest::{Digest, Transcript},
    group::BadPoint,
    sign::VerifyingKey,
};

/// An organization's id: 1 to 63 characters of `a-z`, `0-9` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(String);

impl MemberId {
    /// Longest id.
    pub const MAX_LEN: usize = 63;

    /// Checks an id.
    ///
    /// # Errors
    ///
    /// When it is empty, too long, or has other characters.
    pub fn new(id: &str) -> Result<Self, BadMemberId> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if id.is_empty() || id.len() > Self::MAX_LEN || !id.bytes().all(allowed) {
            return Err(BadMemberId(id.chars().take(80).collect()));
        }
        Ok(Self(id.into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MemberId {
    type Err = BadMemberId;

    fn from_str(id: &str) -> Result<Self, BadMemberId> {
        Self::new(id)
    }
}

impl AsRef<str> for MemberId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no organization's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMemberId(String);

impl fmt::Display for BadMemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "organization id {:?} is not 1 to 63 characters of a-z, 0-9 and -", self.0)
    }
}

impl core::error::Error for BadMemberId {}

/// A member's place in the cohort, sorted by id: 0 to n-1. Its Shamir `x` is one more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u16);

impl Position {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Where a polynomial is evaluated for this member's share.
    pub(crate) const fn x(self) -> u64 {
        self.0 as u64 + 1
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A cohort member: id and signing key, from the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// The key that verifies its messages.
    pub key: VerifyingKey,
}

/// Everything an attempt depends on. Its digest reaches every signature, share and mask, so that
/// organizations that were shown different models or plans cannot be unmasked together (Pasquini et al., CCS
/// 2022).
#[derive(Clone, Debug)]
pub struct Context {
    /// Digest of the roster.
    pub roster: Digest,
    /// Digest of the job plan.
    pub plan: Digest,
    /// Round number.
    pub round: u64,
    /// Attempt number within the round.
    pub attempt: u64,
    /// The cohort's ids, sorted.
    pub cohort: Vec<MemberId>,
    /// Digest of the adapter the round starts from.
    pub adapter: Digest,
    /// Digest of the optimizer's state the round starts from.
    pub optimizer: Digest,
}

impl Context {
    /// `ctx = H(suite, roster, plan, round, attempt, cohort, adapter, optimizer)`.
    pub fn digest(&self) -> Digest {
        let head = Transcript::new("consilium/1/context")
            .bytes(SUITE.as_bytes())
            .digest(&self.roster)
            .digest(&self.plan)
            .u64(self.round)
            .u64(self.attempt)
            .u64(self.cohort.len() as u64);
        self.cohort
            .iter()
            .fold(head, |transcript, id| transcript.bytes(id.as_str().as_bytes()))
            .digest(&self.adapter)
            .digest(&self.optimizer)
            .finish()
    }
}

/// The public facts of one attempt. Shared by every party; holds no secret.
#[derive(Clone, Debug)]
pub struct Attempt {
    ctx: Digest,
    params: Params,
    members: Arc<[Member]>,
    /// Members whose key has been revoked: they keep their place and may not speak.
    silenced: BTreeSet<Position>,
    /// What was shown last and accepted: whoever holds this attempt, or a clone of it, need not verify it again.
    shown: Arc<Shown>,
    #[cfg(feature = "test-walls")]
    walls: super::walls::Walls,
}

impl Attempt {
    /// Puts the facts together. `ctx` is a [`Context::digest`]; `members` is the cohort, sorted by id.
    ///
    /// # Errors
    ///
    /// When there are not exactly `n` members, they are not sorted by id without repetition, or two share a
    /// key.
    pub fn new(ctx: Digest, params: Params, members: Vec<Member>) -> Result<Self, SetupError> {
        if members.len() != usize::from(params.n()) {
            return Err(SetupError::CohortSize { expected: params.n(), got: members.len() });
        }
        for pair in members.windows(2) {
            if let [left, right] = pair
                && left.id >= right.id
            {
                return Err(SetupError::Unsorted { id: right.id.clone() });
            }
        }
        let mut keys: Vec<_> = members.iter().map(|member| &member.key).collect();
        keys.sort();
        for pair in keys.windows(2) {
            if let [left, right] = pair
                && left == right
            {
                return Err(SetupError::SharedKey { key: *right.as_bytes() });
            }
        }
        Ok(Self {
            ctx,
            params,
            members: members.into(),
            silenced: BTreeSet::new(),
            shown: Arc::default(),
            #[cfg(feature = "test-walls")]
            walls: super::walls::Walls::standing(),
        })
    }

    /// The same attempt, in which nothing that these members sign counts: their keys have been revoked. The context does not
    /// change, for parties may learn of a revocation one after another.
    #[must_use]
    pub fn without(mut self, revoked: impl IntoIterator<Item = Position>) -> Self {
        self.silenced.extend(revoked);
        self.shown = Arc::default();
        self
    }

    /// What was shown last and accepted.
    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Whether nothing that a member signs counts.
    pub(crate) fn is_silenced(&self, position: Position) -> bool {
        self.silenced.contains(&position)
    }

    /// The context digest.
    pub fn ctx(&self) -> &Digest {
        if wall!(self, context) { &self.ctx } else { &Digest([0; 32]) }
    }

    /// The numbers.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The cohort, sorted by id; a member's index is its [`Position`].
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member at a position.
    pub fn member(&self, position: Position) -> Option<&Member> {
        self.members.get(position.index())
    }

    /// Where in the cohort an organization stands.
    pub fn position_of(&self, id: &MemberId) -> Option<Position> {
        let index = self.members.binary_search_by(|member| member.id.cmp(id)).ok()?;
        u16::try_from(index).ok().map(Position)
    }

    /// All positions, in order.
    pub fn positions(&self) -> impl Iterator<Item = Position> + use<> {
        (0..self.params.n()).map(Position)
    }

    /// A member's id, or the empty text for a position outside the cohort.
    pub(crate) fn id(&self, position: Position) -> &str {
        self.member(position).map_or("", |member| member.id.as_str())
    }

    #[cfg(feature = "test-walls")]
    pub(crate) fn walls(&self) -> &super::walls::Walls {
        &self.walls
    }

    /// The same attempt with some walls taken down.
    #[cfg(feature = "test-walls")]
    #[must_use]
    pub fn with_walls(mut self, walls: super::walls::Walls) -> Self {
        self.walls = walls;
        self.shown = Arc::default();
        self
    }
}

/// An attempt that cannot begin: a local fault, before anything was said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupError {
    /// Numbers that do not fit together.
    Params(ParamsError),
    /// A number of members that is not `n`.
    CohortSize {
        /// `n`.
        expected: u16,
        /// Members given.
        got: usize,
    },
    /// A member whose id does not come after the one before it.
    Unsorted {
        /// Its id.
        id: MemberId,
    },
    /// Two members with one signing key.
    SharedKey {
        /// The key, as its 32 bytes.
        key: [u8; 32],
    },
    /// A position outside the cohort.
    NotAMember {
        /// The position.
        position: Position,
    },
    /// A signing key that is not the one the roster names for this position.
    WrongKey {
        /// The key the roster names, as its 32 bytes.
        expected: [u8; 32],
        /// The public half of the key given, as its 32 bytes.
        got: [u8; 32],
    },
    /// A generator that gave an unusable or repeated key: it is broken.
    Randomness(BadPoint),
}

impl From<ParamsError> for SetupError {
    fn from(error: ParamsError) -> Self {
        Self::Params(error)
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Params(error) => error.fmt(f),
            Self::CohortSize { expected, got } => {
                write!(f, "cohort has {got} members, the plan says n = {expected}")
            }
            Self::Unsorted { id } => {
                write!(f, "cohort member {id} does not come after the one before it; sort by id")
            }
            Self::SharedKey { key } => {
                write!(f, "two cohort members share the signing key {}; mend the roster", Digest(*key))
            }
            Self::NotAMember { position } => write!(f, "position {position} is outside the cohort"),
            Self::WrongKey { expected, got } => write!(
                f,
                "the signing key's public half is {}, the roster names {}; load the right key file",
                Digest(*got),
                Digest(*expected)
            ),
            Self::Randomness(error) => {
                write!(f, "the random generator is broken: it gave {error} or repeated itself")
            }
        }
    }
}

impl core::error::Error for SetupError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ring::RingWidth, sign::SigningKey};
    use alloc::{string::ToString, vec};

    fn member(id: &str, seed: u8) -> Member {
        let key = SigningKey::from_seed([seed; 32]).verifying_key();
        Member { id: MemberId::new(id).unwrap(), key }
    }

    #[test]
    fn ids_are_short_lowercase_and_plain() {
        assert_eq!(MemberId::new("st-mary-2").unwrap().to_string(), "st-mary-2");
        assert!(MemberId::new(&"a".repeat(63)).is_ok());
        for bad in ["", "A", "a b", "a_b", "ä", "a/b", "a\0", &"a".repeat(64)] {
            assert!(MemberId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_cohort_is_whole_sorted_and_has_distinct_keys() {
        let params = Params::new(3, 1, 3, RingWidth::new(16).unwrap(), 4).unwrap();
        let new = |members| Attempt::new(Digest([0; 32]), params, members);
        let [a, b, c] = [member("a", 1), member("b", 2), member("c", 3)];
        let attempt = new(vec![a.clone(), b.clone(), c.clone()]).unwrap();
        assert_eq!(attempt.position_of(&b.id), Some(Position(1)));
        assert_eq!(attempt.position_of(&MemberId::new("x").unwrap()), None);
        assert_eq!(attempt.member(Position(3)), None);

        let refused = |members| new(members).unwrap_err();
        let error = refused(vec![a.clone(), b.clone()]);
        assert_eq!(error, SetupError::CohortSize { expected: 3, got: 2 });
        let error = refused(vec![a.clone(), c.clone(), b.clone()]);
        assert_eq!(error, SetupError::Unsorted { id: b.id.clone() });
        let error = refused(vec![a.clone(), a.clone(), b.clone()]);
        assert_eq!(error, SetupError::Unsorted { id: a.id.clone() });
        let error = refused(vec![a.clone(), b, member("c", 1)]);
        assert_eq!(error, SetupError::SharedKey { key: *a.key.as_bytes() });
    }

    #[test]
    fn every_part_of_the_context_counts() {
        let base = Context {
            roster: Digest([1; 32]),
            plan: Digest([2; 32]),
            round: 3,
            attempt: 4,
            cohort: vec![MemberId::new("a").unwrap(), MemberId::new("b").unwrap()],
            adapter: Digest([5; 32]),
            optimizer: Digest([6; 32]),
        };
        let other = Digest([9; 32]);
        let variants = [
            Context { roster: other, ..base.clone() },
            Context { plan: other, ..base.clone() },
            Context { round: 9, ..base.clone() },
            Context { attempt: 9, ..base.clone() },
            Context { cohort: vec![MemberId::new("ab").unwrap()], ..base.clone() },
            Context { adapter: other, ..base.clone() },
            Context { optimizer: other, ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.digest(), base.digest(), "{variant:?}");
        }
    }
}
