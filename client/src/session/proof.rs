//! Whether this client's state is as new as what its peers hold of it: asked once a process, before the first attempt is joined.
//!
//! A fresh nonce goes to every other member; each answers with the last adverts of this client that it holds, signed. A copy
//! counts for what it says only if this organization's own key signed it, so neither the coordinator nor a peer can make a
//! healthy client stop; and no attempt is joined before `Params::witnesses` members have answered, so the coordinator cannot
//! let a restored one go on by losing the answers that matter. Peers answer before they are proven themselves: a
//! consortium that starts for the first time holds nothing, says so, and begins.

use std::collections::BTreeMap;

use consilium_crypto::{
    digest::Digest,
    sign::{Signature, sign, verify},
};
use consilium_proto::{
    announcement::Announcement,
    ids::Id,
    wire::{self, client_message::Kind as Say},
};
use prost::Message as _;
use rand::CryptoRng;

use super::{Effect, Event, Lost, Session, held::OwnWord};

/// What a statement's signature is over, beside the statement.
const SIGNED_AS: &str = "state-statement";
const NONCE: usize = 32;

/// Where the question stands.
#[derive(Debug, Default)]
pub(super) struct Proof {
    nonce: Option<[u8; NONCE]>,
    /// The attempt that waits, or waited, for the answers.
    waited: Option<(u32, u32)>,
    /// Who has answered with a valid statement.
    heard: BTreeMap<Id, ()>,
    /// The furthest of this client's own adverts that anybody holds, by plan.
    words: BTreeMap<Digest, OwnWord>,
    verdict: Option<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Proven,
    Restored,
}

impl Proof {
    /// The verdict of an earlier process, which only `state recover` changes.
    pub(super) fn restored() -> Self {
        Self { verdict: Some(Verdict::Restored), ..Self::default() }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.verdict == Some(Verdict::Proven)
    }

    pub(super) fn is_restored(&self) -> bool {
        self.verdict == Some(Verdict::Restored)
    }
}

impl Session {
    /// Asks, unless the answer is known. The nonce is the process's, so that answers from before a reconnect count.
    pub(super) fn ask(&mut self, rng: &mut impl CryptoRng, effects: &mut Vec<Effect>) {
        if self.proof.verdict.is_some() || !self.protocol.carries_ledgers() {
            return;
        }
        let nonce = *self.proof.nonce.get_or_insert_with(|| {
            let mut nonce = [0; NONCE];
            rng.fill_bytes(&mut nonce);
            nonce
        });
        let query = wire::StateQuery { about: String::new(), nonce: nonce.to_vec() };
        effects.push(Effect::Say(Say::StateQuery(query)));
    }

    /// An attempt is announced, and too few have answered. The first one waits; with every further one the question is put again, in
    /// case it or its answers were lost.
    pub(super) fn wait_for_witnesses(
        &mut self,
        round: u32,
        attempt: u32,
        rng: &mut impl CryptoRng,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Reached { round, attempt, what: "waits-for-witnesses" });
        let before = self.proof.waited.replace((round, attempt));
        if before.is_some_and(|before| before != (round, attempt)) {
            self.ask(rng, effects);
        }
    }

    /// Says what this client holds of those who ask.
    pub(super) fn asked(&self, queries: &wire::StateQueries, effects: &mut Vec<Effect>) {
        let mut statements = Vec::new();
        for query in &queries.queries {
            let Ok(about) = query.about.parse::<Id>() else { continue };
            if about == self.identity.id
                || self.roster.organization(&about).is_none()
                || query.nonce.len() != NONCE
            {
                continue;
            }
            let held = self.held.of(&about);
            let statement =
                wire::StateStatement { about: query.about.clone(), nonce: query.nonce.clone(), held }
                    .encode_to_vec();
            let (key, me) = (self.identity.signing_key(), self.identity.id.as_str());
            let signature = sign(key, SIGNED_AS, &self.plan.digest(), me, &statement).0.to_vec();
            statements.push(wire::SignedStateStatement { from: String::new(), statement, signature });
        }
        if !statements.is_empty() {
            effects.push(Effect::Say(Say::StateStatements(wire::StateStatements { statements })));
        }
    }

    /// Takes answers, and decides once there are enough.
    pub(super) fn answered(
        &mut self,
        statements: &wire::StateStatements,
        rng: &mut impl CryptoRng,
        effects: &mut Vec<Effect>,
    ) {
        let Some(nonce) = self.proof.nonce.filter(|_| self.proof.verdict.is_none()) else { return };
        for signed in &statements.statements {
            self.note(signed, &nonce);
        }
        let needed = usize::from(self.plan.derived().parameters.witnesses());
        if self.proof.heard.len() < needed {
            // What was passed on is not enough, or not valid: whatever else there is is wanted too.
            return self.ask(rng, effects);
        }
        let lost: Vec<Lost> = self.proof.words.values().filter_map(|word| self.behind(word)).collect();
        if lost.is_empty() {
            self.proof.verdict = Some(Verdict::Proven);
            return self.announced(rng, effects);
        }
        self.proof.verdict = Some(Verdict::Restored);
        let why = restored(&lost);
        self.record(Event::Restored { lost }, effects);
        if let Some(signed) = self.pending.take()
            && let Ok(Announcement { round, attempt, .. }) =
                Announcement::verify(&signed, &self.roster, &self.plan)
        {
            let code = "state-restored".to_owned();
            effects.push(Effect::Declined { round, attempt, code: code.clone(), why: why.clone() });
            effects.push(Effect::Say(Say::Refusal(wire::Refusal {
                round,
                attempt,
                code,
                complaint: Vec::new(),
            })));
        }
        effects.push(Effect::Stop(why));
    }

    fn note(&mut self, signed: &wire::SignedStateStatement, nonce: &[u8; NONCE]) -> Option<()> {
        let from: Id = signed.from.parse().ok()?;
        let key = self.roster.organization(&from).filter(|_| from != self.identity.id)?.signing_key;
        let signature = Signature(signed.signature.as_slice().try_into().ok()?);
        verify(&key, SIGNED_AS, &self.plan.digest(), from.as_str(), &signed.statement, &signature).ok()?;
        let statement = wire::StateStatement::decode(signed.statement.as_slice()).ok()?;
        if statement.about != self.identity.id.as_str() || statement.nonce != nonce {
            return None;
        }
        for held in &statement.held {
            let beyond = |word: &OwnWord| (held.round, held.attempt) > (word.round, word.attempt);
            let known = held
                .plan_digest
                .as_slice()
                .try_into()
                .ok()
                .and_then(|plan| self.proof.words.get(&Digest(plan)));
            // Most peers hold the same copy, and checking one is enough. Of another plan round and attempt are only claimed,
            // so there every copy is looked at.
            if known.is_some_and(|word| word.plan == self.plan.digest() && !beyond(word)) {
                continue;
            }
            let Some(word) = OwnWord::verify(held, &self.identity.id, &self.roster, &self.plan) else {
                continue;
            };
            let further = |before: &OwnWord| {
                if word.plan == self.plan.digest() {
                    beyond(before)
                } else {
                    word.ledger.length > before.ledger.length
                }
            };
            if self.proof.words.get(&word.plan).is_none_or(further) {
                self.proof.words.insert(word.plan, word);
            }
        }
        self.proof.heard.insert(from, ());
        Some(())
    }

    /// How this client's state is behind one of its own words, if it is.
    fn behind(&self, word: &OwnWord) -> Option<Lost> {
        let own_plan = word.plan == self.plan.digest();
        let fenced = !own_plan || (word.round, word.attempt) <= self.recorded.fence;
        let foreign = self.recorded.other_data_sets.contains(&word.plan.to_string());
        let long_enough = word.ledger.length <= self.ledger.length();
        let same = self.ledger.told_at(word.ledger.length).is_none_or(|head| head == word.ledger.salted_head);
        if fenced && (foreign || (long_enough && same)) {
            return None;
        }
        Some(Lost {
            job: word.job.clone(),
            plan: word.plan.to_string(),
            round: word.round,
            attempt: word.attempt,
            length: word.ledger.length,
            head: word.ledger.salted_head.to_string(),
        })
    }
}

/// What is wrong and what to do, for the organization's operator.
pub fn restored(lost: &[Lost]) -> String {
    let one = |lost: &Lost| {
        format!(
            "in round {} attempt {} of job {} this organization signed a ledger of {} debits",
            lost.round, lost.attempt, lost.job, lost.length
        )
    };
    format!(
        "this client's state is older than what its peers hold of it, or is another data set's: {}; it takes part in nothing \
         until `consilium-client state recover` has debited what was lost, or until the newest backup of the state folder is \
         back in its place",
        lost.iter().map(one).collect::<Vec<_>>().join("; ")
    )
}
