//! A round's announcement, and the attempt that follows from it.
//!
//! Every field reaches the attempt's [`Context`], and through it every signature, seal and mask, so organizations that were
//! shown different models, plans or cohorts cannot be unmasked (Pasquini, Francati, Ateniese, CCS 2022).

use std::sync::Arc;

use consilium_crypto::{
    digest::Digest,
    secagg::{Attempt, Context, Member, MemberId, Position},
    sign::{Signature, SigningKey, sign},
};
use prost::Message;
use thiserror::Error;

use crate::{ids::Id, plan::VerifiedPlan, roster::VerifiedRoster, wire};

const WHAT: &str = "announcement";

/// What a round's invitation says. All of it is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Round, from 1.
    pub round: u32,
    /// Attempt within the round, from 1.
    pub attempt: u32,
    /// Sorted ids of the invited organizations.
    pub cohort: Arc<[Id]>,
    /// Adapter that the round starts from.
    pub adapter: Digest,
    /// Optimizer state that the round starts from.
    pub optimizer: Digest,
}

/// Why an announcement was refused. The coordinator is to blame for each of them.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AnnouncementError {
    /// Not an announcement.
    #[error("the announcement is not well formed: {0}")]
    Malformed(&'static str),
    /// Not signed by the roster's coordinator.
    #[error("the announcement is not signed by the roster's coordinator")]
    Signature,
    /// It names another plan or roster.
    #[error(
        "the announcement names {what} {got}, and this client verified {own}; somebody runs another {what}"
    )]
    Other {
        /// "plan" or "roster".
        what: &'static str,
        /// In the announcement.
        got: Digest,
        /// At hand.
        own: Digest,
    },
    /// The cohort is not the plan's.
    #[error("the announced cohort does not follow from the plan, which invites the whole roster")]
    Cohort,
    /// Round or attempt out of the plan's range.
    #[error(
        "round {round} attempt {attempt} is not in the plan, which has {rounds} rounds of {attempts} attempts"
    )]
    Range {
        /// Announced.
        round: u32,
        /// Announced.
        attempt: u32,
        /// In the plan.
        rounds: u32,
        /// In the plan.
        attempts: u32,
    },
}

impl AnnouncementError {
    /// The number of the check in the manual's table.
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "S1",
            Self::Signature => "S2",
            Self::Other { .. } => "S3",
            Self::Cohort => "S4",
            Self::Range { .. } => "S5",
        }
    }
}

impl Announcement {
    /// Signs the announcement as the coordinator of `roster`.
    pub fn sign(
        &self,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
        key: &SigningKey,
    ) -> wire::SignedAnnouncement {
        let announcement = wire::Announcement {
            plan_digest: plan.digest().0.to_vec(),
            roster_digest: roster.digest().0.to_vec(),
            round: self.round,
            attempt: self.attempt,
            cohort: self.cohort.iter().map(Id::to_string).collect(),
            adapter_digest: self.adapter.0.to_vec(),
            optimizer_digest: self.optimizer.0.to_vec(),
        }
        .encode_to_vec();
        let sender = roster.coordinator().id.as_str();
        let signature = sign(key, WHAT, &plan.digest(), sender, &announcement).0.to_vec();
        wire::SignedAnnouncement { announcement, signature }
    }

    /// Checks that the coordinator signed it and that it follows from the plan. Whether it is the next one, and whether
    /// its digests are the client's own, is for the session to say.
    ///
    /// # Errors
    ///
    /// [`AnnouncementError`].
    pub fn verify(
        signed: &wire::SignedAnnouncement,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
    ) -> Result<Self, AnnouncementError> {
        let of = roster.digest();
        let same = |(roster, known): &(Digest, wire::SignedAnnouncement)| *roster == of && known == signed;
        plan.known().announcement.or_else(same, || (of, signed.clone()), || Self::judge(signed, roster, plan))
    }

    fn judge(
        signed: &wire::SignedAnnouncement,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
    ) -> Result<Self, AnnouncementError> {
        let signature = signed.signature.as_slice().try_into().map_err(|_| AnnouncementError::Signature)?;
        roster
            .coordinator_signed(WHAT, &plan.digest(), &signed.announcement, &Signature(signature))
            .map_err(|_| AnnouncementError::Signature)?;
        let told = wire::Announcement::decode(signed.announcement.as_slice())
            .map_err(|_| AnnouncementError::Malformed("its fields do not parse"))?;
        let same = |what, got: &[u8], own: Digest| {
            let got = digest(got)?;
            if got == own { Ok(()) } else { Err(AnnouncementError::Other { what, got, own }) }
        };
        same("plan", &told.plan_digest, plan.digest())?;
        same("roster", &told.roster_digest, roster.digest())?;
        let (rounds, attempts) = (plan.document().rounds, plan.document().retries.max_attempts);
        let (round, attempt) = (told.round, told.attempt);
        if !(1..=rounds).contains(&round) || !(1..=attempts).contains(&attempt) {
            return Err(AnnouncementError::Range { round, attempt, rounds, attempts });
        }
        let plain = |e: &Id, told: &String| e.as_str() == told;
        let own = plan.cohort();
        if own.len() != told.cohort.len() || !own.iter().zip(&told.cohort).all(|(own, told)| plain(own, told))
        {
            return Err(AnnouncementError::Cohort);
        }
        Ok(Self {
            round,
            attempt,
            cohort: plan.whole_cohort(),
            adapter: digest(&told.adapter_digest)?,
            optimizer: digest(&told.optimizer_digest)?,
        })
    }

    /// The attempt's public facts, as the aggregation protocol takes them: the same on both sides. A member that has revoked
    /// its key keeps its place, for `n` is the plan's, and may not speak: it counts as absent.
    ///
    /// # Errors
    ///
    /// [`AnnouncementError::Cohort`] when a member is not in the roster.
    pub fn facts(&self, roster: &VerifiedRoster, plan: &VerifiedPlan) -> Result<Attempt, AnnouncementError> {
        if roster.revoked().is_empty() {
            return self.facts_as_announced(roster, plan);
        }
        let is_revoked = |id: &Id| roster.organization(id).is_some_and(|party| roster.is_revoked(party));
        let revoked =
            (0..).zip(self.cohort.iter()).filter(|(_, id)| is_revoked(id)).map(|(at, _)| Position(at));
        Ok(self.facts_as_announced(roster, plan)?.without(revoked))
    }

    /// As [`facts`](Self::facts), whatever was revoked since.
    ///
    /// # Errors
    ///
    /// As [`facts`](Self::facts).
    pub fn facts_as_announced(
        &self,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
    ) -> Result<Attempt, AnnouncementError> {
        let of = roster.digest();
        let same = |(roster, known): &(Digest, Self)| *roster == of && known == self;
        plan.known().facts.or_else(same, || (of, self.clone()), || self.put_together(roster, plan))
    }

    fn put_together(
        &self,
        roster: &VerifiedRoster,
        plan: &VerifiedPlan,
    ) -> Result<Attempt, AnnouncementError> {
        let member = |id: &Id| {
            let party = roster.organization(id).ok_or(AnnouncementError::Cohort)?;
            let id = MemberId::new(id.as_str()).map_err(|_| AnnouncementError::Cohort)?;
            Ok(Member { id, key: party.signing_key })
        };
        let members = self.cohort.iter().map(member).collect::<Result<Vec<_>, _>>()?;
        let ids = members.iter().map(|member| member.id.clone()).collect();
        Attempt::new(self.context(roster, plan, ids), plan.derived().parameters, members)
            .map_err(|_| AnnouncementError::Cohort)
    }

    /// The attempt's context.
    fn context(&self, roster: &VerifiedRoster, plan: &VerifiedPlan, cohort: Vec<MemberId>) -> Digest {
        Context {
            roster: roster.digest(),
            plan: plan.digest(),
            round: self.round.into(),
            attempt: self.attempt.into(),
            cohort,
            adapter: self.adapter,
            optimizer: self.optimizer,
        }
        .digest()
    }
}

fn digest(bytes: &[u8]) -> Result<Digest, AnnouncementError> {
    bytes.try_into().map(Digest).map_err(|_| AnnouncementError::Malformed("a digest is not 32 bytes"))
}
