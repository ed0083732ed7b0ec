//! Step 4: votes. Who survived, signed over everything that went before.
//!
//! ```text
//! ballot   = head(4, member) ‖ step 1 hash 32 ‖ step 2 hash 32 ‖ headers hash 32 ‖ count u32 ‖ survivors u16 each, sorted
//! vote     = ballot ‖ signature 64
//! delivery = head(5, coordinator) ‖ headers hash 32 ‖ count u32 ‖ survivors u16 each
//!            ‖ count u32 ‖ for each voter by position: position u16 ‖ signature 64
//! ```
//!
//! All voters sign the same ballot, each under its own id.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::{
    Flaw, Speaker, check_signature, read_head, read_next, read_positions, sign_and_append, write_head,
    write_positions,
};
use crate::{
    codec::{CodecError, Reader, Writer},
    digest::Digest,
    secagg::{Attempt, Position, Refusal, Step},
    sign::{Signature, SigningKey},
};

/// What is voted on: a survivor set and the transcripts it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::secagg) struct Ballot {
    pub(in crate::secagg) step1: Digest,
    pub(in crate::secagg) step2: Digest,
    pub(in crate::secagg) headers: Digest,
    /// Sorted.
    pub(in crate::secagg) survivors: Vec<Position>,
}

impl Ballot {
    fn write(&self, w: &mut Writer) {
        write_head(w, Step::Vote, Speaker::Member);
        w.digest(&self.step1).digest(&self.step2).digest(&self.headers);
        write_positions(w, self.survivors.iter());
    }

    fn bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    pub(in crate::secagg) fn has(&self, position: Position) -> bool {
        self.survivors.binary_search(&position).is_ok()
    }

    /// Reads an authenticated vote. Any well-formed set passes; whether it is the right one is for the caller
    /// to compare.
    pub(in crate::secagg) fn parse(attempt: &Attempt, body: &[u8]) -> Result<(Self, Signature), Flaw> {
        let mut r = Reader::new(body);
        read_head(&mut r, Step::Vote, Speaker::Member)?;
        let ballot = Self {
            step1: r.digest("step 1 hash")?,
            step2: r.digest("step 2 hash")?,
            headers: r.digest("headers hash")?,
            survivors: read_positions(&mut r, attempt)?,
        };
        let signature = Signature(r.array("signature")?);
        r.finish()?;

        Ok((ballot, signature))
    }
}

/// Writes and signs a vote.
pub(in crate::secagg) fn vote_body(
    attempt: &Attempt,
    me: Position,
    ballot: &Ballot,
    key: &SigningKey,
) -> Vec<u8> {
    let mut w = Writer::new();
    ballot.write(&mut w);
    sign_and_append(&mut w, Step::Vote, attempt, me, key);
    w.finish()
}

/// A ballot with a quorum of votes.
#[derive(Clone, Debug)]
pub(in crate::secagg) struct Votes {
    ballot: Ballot,
    votes: BTreeMap<Position, Signature>,
}

impl Votes {
    /// Closes a set of verified votes on one ballot.
    pub(in crate::secagg) fn new(ballot: Ballot, votes: BTreeMap<Position, Signature>) -> Self {
        Self { ballot, votes }
    }

    /// Reads and verifies a delivery: the survivors are dealers and enough, the voters are survivors and a
    /// quorum, and every signature holds. `dealers` tells whether a member is in step 2's set, the one that `step2` is the hash of.
    pub(in crate::secagg) fn verify(
        attempt: &Attempt,
        step1: &Digest,
        step2: &Digest,
        dealers: impl Fn(Position) -> bool,
        delivery: &[u8],
    ) -> Result<Arc<Self>, Refusal> {
        let known = &attempt.shown().votes;
        let hashes = [*step1, *step2];
        let same = |(of, shown): &([Digest; 2], Vec<u8>)| *of == hashes && shown == delivery;
        let judge = || Self::judge(attempt, step1, step2, dealers, delivery).map(Arc::new);
        known.or_else(same, || (hashes, delivery.to_vec()), judge)
    }

    fn judge(
        attempt: &Attempt,
        step1: &Digest,
        step2: &Digest,
        dealers: impl Fn(Position) -> bool,
        delivery: &[u8],
    ) -> Result<Self, Refusal> {
        let (headers, survivors, votes) =
            read_delivery(delivery, attempt).map_err(Refusal::malformed(Step::Vote))?;
        if let Some(member) = survivors.iter().find(|member| !dealers(**member)) {
            return Err(Refusal::Outsider { step: Step::Vote, member: *member });
        }
        let least = attempt.params().m_min();
        if survivors.len() < usize::from(least) {
            return Err(Refusal::TooFew { step: Step::Vote, got: survivors.len(), least });
        }
        let ballot = Ballot { step1: *step1, step2: *step2, headers, survivors };
        if !wall!(attempt, votes) {
            return Ok(Self { ballot, votes });
        }
        if let Some(voter) = votes.keys().find(|voter| !ballot.has(**voter)) {
            return Err(Refusal::VoterNotSurvivor { voter: *voter });
        }
        let quorum = attempt.params().quorum();
        if votes.len() < usize::from(quorum) {
            return Err(Refusal::NoQuorum { votes: votes.len(), quorum });
        }
        let signed = ballot.bytes();
        for (voter, signature) in &votes {
            check_signature(&signed, Step::Vote, attempt, *voter, signature)
                .map_err(|flaw| Refusal::shown(Step::Vote, *voter, flaw))?;
        }
        Ok(Self { ballot, votes })
    }

    /// The delivery that shows these votes.
    pub(in crate::secagg) fn delivery(&self) -> Vec<u8> {
        let mut w = Writer::new();
        write_head(&mut w, Step::Unmask, Speaker::Coordinator);
        w.digest(&self.ballot.headers);
        write_positions(&mut w, self.ballot.survivors.iter());
        w.count(self.votes.len());
        for (voter, signature) in &self.votes {
            w.u16(voter.0).raw(&signature.0);
        }
        w.finish()
    }

    pub(in crate::secagg) fn ballot(&self) -> &Ballot {
        &self.ballot
    }
}

type Parts = (Digest, Vec<Position>, BTreeMap<Position, Signature>);

fn read_delivery(delivery: &[u8], attempt: &Attempt) -> Result<Parts, CodecError> {
    let mut r = Reader::new(delivery);
    read_head(&mut r, Step::Unmask, Speaker::Coordinator)?;
    let headers = r.digest("headers hash")?;
    let survivors = read_positions(&mut r, attempt)?;
    let count = r.count("votes", usize::from(attempt.params().n()), 2 + Signature::LEN)?;
    let (mut last, mut votes) = (None, BTreeMap::new());
    for _ in 0..count {
        let voter = read_next(&mut r, attempt, &mut last)?;
        votes.insert(voter, Signature(r.array("vote")?));
    }
    r.finish()?;
    Ok((headers, survivors, votes))
}
