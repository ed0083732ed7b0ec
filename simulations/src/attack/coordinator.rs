//! A corrupt coordinator: the deployed round, with a collector of its own behind it, which listens to every body and, where its
//! attack says so, shows members what is not.
//!
//! - It **lies**: a member whose vector arrived is called dropped, to everybody alike.
//! - It **equivocates**: half of the honest members are told that everybody survived, the others that the victim did not.
//! - It **isolates**: the victim is told that only it and the colluders survived.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use consilium_crypto::{
    codec::Writer,
    digest::Digest,
    protocol::{Accusation, Broken, Collecting, Joined, Protocol, Unaccepted, Unmasking},
    secagg::{Attempt, LedgerHead, Position, SetupError, Step},
    sign::{self, SigningKey},
};
use consilium_proto::{identity::Identity, ids::Id};
use rand::CryptoRng;

use super::{Mind, knowledge::Knowledge, lock};

/// Which story the collector tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Story {
    Lies,
    Equivocates,
    Isolates,
}

/// The coordinator's side of a corrupt protocol; members' is the honest one.
pub(super) struct Corrupt {
    pub(super) honest: Arc<dyn Protocol>,
    pub(super) story: Story,
    pub(super) mind: Arc<Mutex<Mind>>,
    pub(super) victim: Id,
    /// Colluders, with the keys with which they sign whatever is asked of them.
    pub(super) colluders: Vec<Arc<Identity>>,
}

impl std::fmt::Debug for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Corrupt").field("story", &self.story).finish_non_exhaustive()
    }
}

impl Protocol for Corrupt {
    fn collect(&self, attempt: Arc<Attempt>) -> Box<dyn Collecting> {
        lock(&self.mind).attempt(&attempt);
        let found = |id: &Id| attempt.members().iter().position(|member| member.id.as_str() == id.as_str());
        let position = |id: &Id| found(id).and_then(|at| u16::try_from(at).ok());
        let victim = position(&self.victim).unwrap_or(u16::MAX);
        let colluder = |it: &Arc<Identity>| Some((position(&it.id)?, it.clone()));
        let colluders = self.colluders.iter().filter_map(colluder).collect();
        let (inner, story, mind) = (self.honest.collect(attempt.clone()), self.story, self.mind.clone());
        Box::new(Collector { inner, attempt, story, mind, victim, colluders, own: None })
    }

    fn join(
        &self,
        attempt: Arc<Attempt>,
        me: Position,
        key: &SigningKey,
        ledger: LedgerHead,
        rng: &mut dyn CryptoRng,
    ) -> Result<Joined, SetupError> {
        self.honest.join(attempt, me, key, ledger, rng)
    }

    fn carries_ledgers(&self) -> bool {
        self.honest.carries_ledgers()
    }
}

struct Collector {
    inner: Box<dyn Collecting>,
    attempt: Arc<Attempt>,
    story: Story,
    mind: Arc<Mutex<Mind>>,
    victim: u16,
    colluders: BTreeMap<u16, Arc<Identity>>,
    /// Votes and answers, where they are not collected honestly.
    own: Option<Own>,
}

/// The last two steps, without the protocol's rules.
struct Own {
    step: Step,
    /// Whose bodies of this step are here.
    received: BTreeSet<Position>,
    expected: BTreeSet<Position>,
    /// Votes as they came.
    votes: BTreeMap<u16, Vec<u8>>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("story", &self.story).finish_non_exhaustive()
    }
}

/// Bytes of an input header, of what precedes a headers hash in a vote, and of a signature.
const INPUT_HEADER: usize = 141;
const BALLOT_FRONT: usize = 3 + 32 + 32;
const SIGNATURE: usize = 64;

impl Collector {
    fn everybody(&self) -> BTreeSet<u16> {
        self.inner.survivors().iter().map(|position| position.0).collect()
    }

    /// The survivors that a member is told of.
    fn told(&self, to: Position) -> BTreeSet<u16> {
        let mut everybody = self.everybody();
        match self.story {
            Story::Lies => everybody,
            Story::Isolates => self.colluders.keys().copied().chain([self.victim]).collect(),
            Story::Equivocates => {
                let honest = everybody.iter().filter(|one| !self.colluders.contains_key(*one));
                // In turns, so that both stories have as many voters as can be; the victim is told that it survived.
                let before = honest.filter(|one| **one < to.0).count();
                if to.0 != self.victim && before % 2 == 1 {
                    everybody.remove(&self.victim);
                }
                everybody
            }
        }
    }

    /// The headers of those who survived in this story, as they signed them.
    fn headers(&self, to: Position) -> Option<Vec<u8>> {
        let honest = self.inner.delivery(to)?;
        let told = self.told(to);
        let of =
            |header: &[u8]| header.get(3..5).and_then(|it| Some(u16::from_le_bytes(it.try_into().ok()?)));
        let all = honest.get(7..)?.chunks_exact(INPUT_HEADER);
        let kept: Vec<&[u8]> =
            all.filter(|header| of(header).is_some_and(|who| told.contains(&who))).collect();
        let mut writer = Writer::new();
        writer.raw(honest.get(..3)?).count(kept.len());
        kept.iter().for_each(|header| {
            writer.raw(header);
        });
        Some(writer.finish())
    }

    /// The votes on a member's story: those that came, and the colluders', who vote for every story.
    fn votes(&self, own: &Own, to: Position) -> Option<Vec<u8>> {
        // A ballot on the same story; its own first, if it voted.
        let told = self.told(to);
        let same = |vote: &&Vec<u8>| ballot(vote).is_some_and(|(_, survivors)| survivors == told);
        let model = own.votes.get(&to.0).into_iter().chain(own.votes.values()).find(same)?;
        let signed = model.get(..model.len().checked_sub(SIGNATURE)?)?;
        let (headers, survivors) = ballot(model)?;
        let mut signatures: BTreeMap<u16, [u8; SIGNATURE]> = BTreeMap::new();
        for (voter, vote) in &own.votes {
            if vote.get(..signed.len()) == Some(signed) {
                signatures.insert(*voter, vote.get(signed.len()..)?.try_into().ok()?);
            }
        }
        for (colluder, identity) in
            self.colluders.iter().filter(|(colluder, _)| survivors.contains(*colluder))
        {
            let id = self.attempt.member(Position(*colluder))?.id.as_str();
            signatures.insert(
                *colluder,
                sign::sign(identity.signing_key(), "vote", self.attempt.ctx(), id, signed).0,
            );
        }
        let mut writer = Writer::new();
        writer.u8(1).u8(Step::Unmask.number()).u8(1).digest(&headers).count(survivors.len());
        survivors.iter().for_each(|survivor| {
            writer.u16(*survivor);
        });
        writer.count(signatures.len());
        for (voter, signature) in &signatures {
            writer.u16(*voter).raw(signature);
        }
        Some(writer.finish())
    }

    fn knows<T>(&self, change: impl FnOnce(&mut Knowledge) -> T) -> Option<T> {
        lock(&self.mind).of(self.attempt.ctx()).map(change)
    }
}

/// A vote's headers hash and survivors.
fn ballot(vote: &[u8]) -> Option<(Digest, BTreeSet<u16>)> {
    let headers = Digest(vote.get(BALLOT_FRONT..BALLOT_FRONT + 32)?.try_into().ok()?);
    let survivors = vote.get(BALLOT_FRONT + 32 + 4..vote.len().checked_sub(SIGNATURE)?)?;
    let number = |pair: &[u8]| Some(u16::from_le_bytes(pair.try_into().ok()?));
    Some((headers, survivors.chunks_exact(2).filter_map(number).collect()))
}

impl Collecting for Collector {
    fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    fn step(&self) -> Step {
        self.own.as_ref().map_or_else(|| self.inner.step(), |own| own.step)
    }

    fn expected(&self) -> &BTreeSet<Position> {
        self.own.as_ref().map_or_else(|| self.inner.expected(), |own| &own.expected)
    }

    fn received(&self) -> &BTreeSet<Position> {
        self.own.as_ref().map_or_else(|| self.inner.received(), |own| &own.received)
    }

    fn needed(&self) -> usize {
        match &self.own {
            None => self.inner.needed(),
            // It waits for votes until the deadline, and goes on with whatever it got.
            Some(own) if own.step == Step::Vote => 0,
            // One more than came: for as long as anybody might still answer.
            Some(own) => own.received.len() + 1,
        }
    }

    fn accept(&mut self, from: Position, step: Step, body: &[u8]) -> Result<(), Unaccepted> {
        let told: BTreeSet<u16> = match &self.own {
            // Everybody is told what the honest collector found.
            None => self.everybody(),
            Some(_) => self.told(from),
        };
        match &mut self.own {
            None => self.inner.accept(from, step, body)?,
            Some(own) => {
                own.received.insert(from);
                if step == Step::Vote {
                    own.votes.insert(from.0, body.to_vec());
                }
            }
        }
        self.knows(|known| match step {
            Step::Advertise => known.advertised(from.0, body),
            Step::Share => known.dealt(from.0, body),
            Step::Unmask => known.answered(from.0, body, &told),
            Step::Input | Step::Vote => {}
        });
        Ok(())
    }

    fn complain(&mut self, from: Position, complaint: &[u8]) -> bool {
        self.inner.complain(from, complaint)
    }

    fn proofs(&self) -> Vec<Accusation<'_>> {
        self.inner.proofs()
    }

    fn chunk_digest(&self, from: Position, index: u32) -> Option<Digest> {
        self.inner.chunk_digest(from, index)
    }

    fn input_complete(&mut self, from: Position) {
        if from.0 == self.victim
            && let Some(first) = self.inner.chunk_digest(from, 0)
        {
            lock(&self.mind).holds(self.attempt.ctx(), first);
            if self.story == Story::Lies {
                return;
            }
        }
        self.inner.input_complete(from);
    }

    fn close(&mut self) -> Result<(), Broken> {
        if let Some(own) = &mut self.own {
            if own.step == Step::Unmask {
                return Err(Broken);
            }
            own.step = Step::Unmask;
            own.received.clear();
            return Ok(());
        }
        self.inner.close()?;
        if self.inner.step() == Step::Input {
            self.knows(Knowledge::open_boxes);
        }
        if self.inner.step() == Step::Vote && self.story != Story::Lies {
            // Whom it isolates is alone with it.
            let hears = |one: &Position| self.story != Story::Isolates || one.0 == self.victim;
            let honest = self.inner.survivors().iter().copied();
            let honest = honest.filter(|one| !self.colluders.contains_key(&one.0));
            let expected = honest.filter(hears).collect();
            let (received, votes) = Default::default();
            self.own = Some(Own { step: Step::Vote, received, expected, votes });
        }
        Ok(())
    }

    fn delivery(&self, to: Position) -> Option<Vec<u8>> {
        match &self.own {
            None => self.inner.delivery(to),
            Some(own) if own.step == Step::Vote => self.headers(to),
            Some(own) => self.votes(own, to),
        }
    }

    fn survivors(&self) -> &[Position] {
        self.inner.survivors()
    }

    fn sum(&self) -> Option<Arc<dyn Unmasking>> {
        if self.own.is_some() { None } else { self.inner.sum() }
    }
}

/// A colluding member: it takes part honestly, with keys that the coordinator has too.
#[derive(Debug)]
pub(super) struct Colluding {
    pub(super) honest: Arc<dyn Protocol>,
    pub(super) mind: Arc<Mutex<Mind>>,
}

impl Protocol for Colluding {
    fn collect(&self, attempt: Arc<Attempt>) -> Box<dyn Collecting> {
        self.honest.collect(attempt)
    }

    fn join(
        &self,
        attempt: Arc<Attempt>,
        me: Position,
        key: &SigningKey,
        ledger: LedgerHead,
        rng: &mut dyn CryptoRng,
    ) -> Result<Joined, SetupError> {
        use consilium_crypto::group::KeyPair;
        use rand::SeedableRng as _;

        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let mut mine = chacha20::ChaCha20Rng::from_seed(seed);
        // What a member draws first: its keys for sealing, masking and the self-mask.
        let mut same = chacha20::ChaCha20Rng::from_seed(seed);
        let drawn = [(); 3].map(|()| KeyPair::generate(&mut same));
        if let [Ok(sealing), Ok(masking), Ok(own)] = drawn {
            lock(&self.mind).attempt(&attempt).colludes(me.0, [sealing, masking, own]);
        }
        self.honest.join(attempt, me, key, ledger, &mut mine)
    }

    fn carries_ledgers(&self) -> bool {
        self.honest.carries_ledgers()
    }
}
