//! What this client keeps of its peers: each one's last advert, so that a peer whose state was restored from an old copy can be
//! shown its own later words.
//!
//! Everything that is kept was verified by the protocol's client. It is durable before this client deals its shares: so
//! whoever reaches the step in which ε is spent is held by every honest member that dealt.

use std::collections::BTreeMap;

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

/// The last advert of every peer, for every plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held(BTreeMap<(Id, Digest), HeldAdvert>);

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
    adverts: Vec<HeldAdvert>,
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
        let file = File::decode(body).map_err(|_| BadHeld)?;
        let entry =
            |held: HeldAdvert| Some(((held.member.parse().ok()?, digest_of(&held.plan_digest)?), held));
        file.adverts.into_iter().map(entry).collect::<Option<BTreeMap<_, _>>>().map(Self).ok_or(BadHeld)
    }

    /// The adverts of one plan, as one file: SHA-256 of the rest, and the rest.
    pub fn to_bytes(&self, plan: &Digest) -> Vec<u8> {
        let of_plan = |((_, of), held): (&(Id, Digest), &HeldAdvert)| (of == plan).then(|| held.clone());
        let body = File { adverts: self.0.iter().filter_map(of_plan).collect() }.encode_to_vec();
        [&Digest::of(&body).0[..], &body].concat()
    }

    /// Takes over what another file holds.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
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
        for (Position(position), advert) in delivered_adverts(delivery) {
            let Some(member) = announcement.cohort.get(usize::from(position)).filter(|id| *id != own) else {
                continue;
            };
            let held = HeldAdvert {
                member: member.to_string(),
                job: plan.document().job.to_string(),
                plan_digest: plan.digest().0.to_vec(),
                round: announcement.round,
                attempt: announcement.attempt,
                adapter_digest: announcement.adapter.0.to_vec(),
                optimizer_digest: announcement.optimizer.0.to_vec(),
                context: context.0.to_vec(),
                advert,
            };
            self.0.insert((member.clone(), plan.digest()), held);
        }
    }

    /// What is held of a member: one advert a plan.
    pub(super) fn of(&self, member: &Id) -> Vec<HeldAdvert> {
        let theirs = self.0.iter().filter(|((of, _), _)| of == member);
        theirs.take(MOST_PLANS).map(|(_, held)| held.clone()).collect()
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
