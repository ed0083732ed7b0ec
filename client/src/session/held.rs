//! What this client keeps of its peers: each one's last advert, so that a peer whose state was restored from an old copy can be
//! shown its own later words.
//!
//! Everything that is kept was verified by the protocol's client. It is durable before this client deals its shares: so
//! whoever reaches the step in which ε is spent is held by every honest member that dealt.

use std::{collections::BTreeMap, sync::Arc};

use consilium_crypto::{
    digest::Digest,
    secagg::{LedgerHead, Position, advertised_ledger, delivered_adverts},
};
use consilium_proto::{
    announcement::Announcement,
    ids::Id,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    wire::{self, HeldAdvert},
};
use prost::Message as _;
use thiserror::Error;

/// Most plans of which adverts are told in one answer.
const MOST_PLANS: usize = 64;

/// The last advert of every peer, by plan and member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held(BTreeMap<Digest, BTreeMap<Id, Kept>>);

/// One advert, and the attempt it was said in: one of all that were said in it.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    /// Without member and advert.
    said_in: Arc<HeldAdvert>,
    advert: Box<[u8]>,
}

/// A file of kept adverts that is not one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "it is damaged; peers whose state is restored rely on it: put the newest backup of this file back, or remove it, and \
     the client begins to keep it anew"
)]
pub struct BadHeld;

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    attempts: Vec<OfAttempt>,
}

/// What an attempt's members said in it.
#[derive(Clone, PartialEq, prost::Message)]
struct OfAttempt {
    /// Without member and advert.
    #[prost(message, required, tag = "1")]
    said_in: HeldAdvert,
    #[prost(message, repeated, tag = "2")]
    said: Vec<Said>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Said {
    #[prost(string, tag = "1")]
    member: String,
    #[prost(bytes = "vec", tag = "2")]
    advert: Vec<u8>,
}

impl Held {
    /// Reads what [`Held::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`BadHeld`].
    pub fn read(bytes: &[u8]) -> Result<Self, BadHeld> {
        let (digest, body) = bytes.split_first_chunk::<{ Digest::LEN }>().ok_or(BadHeld)?;
        if Digest::of(body).0 != *digest {
            return Err(BadHeld);
        }
        let mut held = Self::default();
        for OfAttempt { said_in, said } in File::decode(body).map_err(|_| BadHeld)?.attempts {
            let plan = digest_of(&said_in.plan_digest).ok_or(BadHeld)?;
            let (said_in, of_plan) = (Arc::new(said_in), held.0.entry(plan).or_default());
            for Said { member, advert } in said {
                let member = member.parse().map_err(|_| BadHeld)?;
                of_plan.insert(member, Kept { said_in: said_in.clone(), advert: advert.into() });
            }
        }
        Ok(held)
    }

    /// The adverts of one plan, as one file: SHA-256 of the rest, and the rest.
    pub fn to_bytes(&self, plan: &Digest) -> Vec<u8> {
        let mut attempts: Vec<OfAttempt> = Vec::new();
        for (member, kept) in self.0.get(plan).into_iter().flatten() {
            let said = Said { member: member.to_string(), advert: kept.advert.to_vec() };
            // Few: whoever was missing from the newest attempt is kept from an earlier one.
            match attempts.iter_mut().find(|attempt| attempt.said_in == *kept.said_in) {
                Some(attempt) => attempt.said.push(said),
                None => attempts.push(OfAttempt { said_in: kept.said_in.as_ref().clone(), said: vec![said] }),
            }
        }
        let body = File { attempts }.encode_to_vec();
        [&Digest::of(&body).0[..], &body].concat()
    }

    /// Takes over what another file holds.
    pub fn extend(&mut self, other: Self) {
        for (plan, adverts) in other.0 {
            self.0.entry(plan).or_default().extend(adverts);
        }
    }

    /// Keeps what a verified delivery of step 1 shows, in the place of earlier adverts.
    pub(super) fn keep(
        &mut self,
        announcement: &Announcement,
        plan: &VerifiedPlan,
        context: &Digest,
        own: &Id,
        delivery: &[u8],
    ) {
        let said_in = Arc::new(HeldAdvert {
            member: String::new(),
            job: plan.document().job.to_string(),
            plan_digest: plan.digest().0.to_vec(),
            round: announcement.round,
            attempt: announcement.attempt,
            adapter_digest: announcement.adapter.0.to_vec(),
            optimizer_digest: announcement.optimizer.0.to_vec(),
            context: context.0.to_vec(),
            advert: Vec::new(),
        });
        let of_plan = self.0.entry(plan.digest()).or_default();
        for (Position(position), advert) in delivered_adverts(delivery) {
            let Some(member) = announcement.cohort.get(usize::from(position)).filter(|id| *id != own) else {
                continue;
            };
            let kept = Kept { said_in: said_in.clone(), advert: advert.into() };
            of_plan.insert(member.clone(), kept);
        }
    }

    /// What is held of a member: one advert a plan.
    pub(super) fn of(&self, member: &Id) -> Vec<HeldAdvert> {
        let theirs = self.0.values().filter_map(|of_plan| of_plan.get(member));
        let whole = |kept: &Kept| HeldAdvert {
            member: member.to_string(),
            advert: kept.advert.to_vec(),
            ..kept.said_in.as_ref().clone()
        };
        theirs.take(MOST_PLANS).map(whole).collect()
    }
}

fn digest_of(bytes: &[u8]) -> Option<Digest> {
    bytes.try_into().ok().map(Digest)
}

/// This client's own advert, as a peer holds it, after its signature has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnWord {
    pub(super) plan: Digest,
    pub(super) job: String,
    pub(super) round: u32,
    pub(super) attempt: u32,
    pub(super) ledger: LedgerHead,
}

impl OwnWord {
    /// Reads a copy that a peer shows; `None` for what this organization's key never signed. Under the current plan round
    /// and attempt are proven by the context they lead to; of another plan's, only what the advert itself says counts.
    pub(super) fn verify(
        held: &wire::HeldAdvert,
        own: &Id,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
    ) -> Option<Self> {
        let (of, context) = (digest_of(&held.plan_digest)?, digest_of(&held.context)?);
        let key = roster.organization(own)?.signing_key;
        let member = consilium_crypto::secagg::MemberId::new(own.as_str()).ok()?;
        let ledger = advertised_ledger(&context, &member, &key, &held.advert).ok()?;
        if of == plan.digest() {
            let announcement = Announcement {
                round: held.round,
                attempt: held.attempt,
                cohort: plan.whole_cohort(),
                adapter: digest_of(&held.adapter_digest)?,
                optimizer: digest_of(&held.optimizer_digest)?,
            };
            let facts = announcement.facts(roster, plan).ok()?;
            if *facts.ctx() != context {
                return None;
            }
        }
        let job = held.job.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
        Some(Self { plan: of, job, round: held.round, attempt: held.attempt, ledger })
    }
}
