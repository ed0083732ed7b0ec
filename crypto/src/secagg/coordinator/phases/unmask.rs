//! Step 5: collecting answers, and putting the secrets together.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};

use super::{Failed, Phase, Roll, vote::Dealt};
use crate::{
    digest::Digest,
    group::scalar_from_bytes,
    secagg::{
        Attempt, Flaw, Position, Revealed, Step,
        coordinator::{Failure, Fault, Why, Words},
        evidence::{self, Conviction, Offence, Opened, Proof, Shown},
        messages::{Adverts, Answer, DealHeaders, InputHeaders, Votes},
        opening::{Kind, Place, Revelation},
        revealed::Published,
    },
    secret::Secret,
    shamir::Weights,
};
use curve25519_dalek::scalar::Scalar;

#[derive(Debug)]
pub(in crate::secagg::coordinator) struct Unmask {
    pub(super) roll: Roll,
    pub(super) adverts: Adverts,
    pub(super) chunks: BTreeMap<Position, Vec<Digest>>,
    dealers: DealHeaders,
    dealt: Dealt,
    headers: InputHeaders,
    votes: Votes,
    /// By member that answered: its share of each dealer, by position. None where the bytes, though committed
    /// to, are no scalar.
    answers: BTreeMap<Position, Vec<Option<Secret<Scalar>>>>,
}

impl Unmask {
    pub(super) fn new(
        adverts: Adverts,
        dealers: DealHeaders,
        dealt: Dealt,
        headers: InputHeaders,
        votes: Votes,
        chunks: BTreeMap<Position, Vec<Digest>>,
    ) -> Self {
        let roll = Roll::of(dealers.dealers());
        let answers = BTreeMap::new();
        Self { roll, adverts, chunks, dealers, dealt, headers, votes, answers }
    }

    pub(super) fn accept(&mut self, attempt: &Attempt, from: Position, body: &[u8]) -> Result<(), Fault> {
        let answer = Answer::parse(attempt, self.dealers.dealers().len(), body)?;

        if answer.headers != self.votes.ballot().headers {
            return Err(Flaw::OtherTranscript { hash: "headers hash" }.into());
        }
        let rank = self.adverts.rank(from);
        for (dealer, revelation) in self.dealers.dealers().zip(&answer.revelations) {
            let place = Place { attempt, dealer, recipient: from };
            if !rank.is_some_and(|rank| self.is_committed(&place, rank, revelation)) {
                return Err(Fault::BadShare { dealer });
            }
        }
        let shares = answer.revelations.iter().map(|shown| scalar_from_bytes(shown.share())).collect();
        self.answers.insert(from, shares);
        self.roll.received.insert(from);
        Ok(())
    }

    fn kind(&self, dealer: Position) -> Kind {
        Kind::for_survivor(self.votes.ballot().has(dealer))
    }

    fn is_committed(&self, place: &Place<'_>, rank: usize, shown: &Revelation) -> bool {
        let kind = self.kind(place.dealer);
        let committed = self.dealt.get(&place.dealer).and_then(|dealt| dealt.commitments(rank));
        committed.is_some_and(|committed| *committed.of(kind) == shown.commitment(place, kind))
    }

    /// Proof that an authenticated answer holds a share of `dealer` that is not the committed one.
    pub(super) fn bad_share(
        &self,
        attempt: &Attempt,
        from: Position,
        body: &[u8],
        dealer: Position,
    ) -> Option<Vec<u8>> {
        let shown = Shown { adverts: &self.adverts, dealers: &self.dealers, headers: &self.headers };
        let leaf = self.dealt.get(&dealer)?.leaves(attempt, &self.adverts, &[from]).pop()?;
        Some(evidence::of_bad_share(&shown, from, body, dealer, &leaf))
    }

    /// Proof that what `dealer` committed to is not its secret, from answers that hold what it dealt.
    fn no_secret(&self, attempt: &Attempt, dealer: Position, words: &Words) -> Option<Proof> {
        let quorum = usize::from(attempt.params().quorum());
        let dealers = self.dealers.dealers().len();
        let index = self.dealers.dealers().position(|of| of == dealer)?;
        let recipients: Vec<_> = self.answers.keys().take(quorum).copied().collect();
        let leaves = self.dealt.get(&dealer)?.leaves(attempt, &self.adverts, &recipients);
        let mut opened = Vec::with_capacity(quorum);
        for (recipient, leaf) in recipients.into_iter().zip(leaves) {
            let answer = Answer::parse(attempt, dealers, words.of(Step::Unmask, recipient)?).ok()?;
            let revelation = answer.revelations.into_iter().nth(index)?;
            opened.push(Opened { recipient, leaf, revelation });
        }
        let (header, kind) = (self.dealers.of(dealer)?, self.kind(dealer));
        let evidence = evidence::of_no_secret(&self.adverts, header, kind, opened.into_iter());
        let conviction = Conviction { culprit: dealer, offence: Offence::InconsistentShares };
        Some(Proof { conviction, evidence })
    }

    pub(super) fn close(self, attempt: &Arc<Attempt>, words: &Words) -> Result<Done, Failed> {
        match self.reconstruct(attempt) {
            Ok(secrets) => {
                let Self { roll, adverts, chunks, dealers, headers, votes, .. } = self;
                let published = Published {
                    adverts: Arc::new(adverts),
                    dealers: Arc::new(dealers),
                    headers: Arc::new(headers),
                    votes: Arc::new(votes),
                };
                let revealed = Revealed::new(attempt.clone(), published, secrets);
                Ok(Done { roll, chunks, revealed: Arc::new(revealed) })
            }
            Err(culprits) => {
                let proofs = culprits.iter().filter_map(|dealer| self.no_secret(attempt, *dealer, words));
                let proofs = proofs.collect();
                let failed = Phase::Failed { step: Step::Unmask, roll: self.roll };
                Err((Box::new(failed), Failure { why: Why::InconsistentShares, culprits }, proofs))
            }
        }
    }

    /// One secret for each dealer, checked against its public point; or the dealers whose shares do not give
    /// it.
    fn reconstruct(&self, attempt: &Attempt) -> Result<Vec<Secret<Scalar>>, Vec<Position>> {
        // Every answer has a share of every dealer, so one set of answers serves for all.
        let quorum = usize::from(attempt.params().quorum());
        let answers: Vec<_> = self.answers.iter().take(quorum).collect();
        let parties: Vec<u64> = answers.iter().map(|(member, _)| member.x()).collect();
        let weights = Weights::new(&parties).map_err(|_| Vec::new())?;
        let (mut secrets, mut culprits) = (Vec::new(), Vec::new());
        for (index, dealer) in self.dealers.dealers().enumerate() {
            let shares: Option<Vec<&Secret<Scalar>>> =
                answers.iter().map(|(_, shares)| shares.get(index)?.as_ref()).collect();
            let secret = shares.and_then(|shares| weights.combine(shares.into_iter()).ok());
            let point = self.adverts.of(dealer).map(|advert| match self.kind(dealer) {
                Kind::Mask => &advert.mask,
                Kind::Seed => &advert.commitment,
            });
            match (secret, point) {
                (Some(secret), Some(point)) if point.belongs_to(&secret) => secrets.push(secret),
                _ => culprits.push(dealer),
            }
        }
        if culprits.is_empty() { Ok(secrets) } else { Err(culprits) }
    }

    pub(super) fn delivery(&self) -> Vec<u8> {
        self.votes.delivery()
    }
}

/// The end: the masks can be taken off.
#[derive(Debug)]
pub(in crate::secagg::coordinator) struct Done {
    pub(super) roll: Roll,
    pub(super) chunks: BTreeMap<Position, Vec<Digest>>,
    pub(in crate::secagg::coordinator) revealed: Arc<Revealed>,
}
