//! What an operator tells the coordinator to do: signed by the person's own key, numbered, and kept in the job's record.
//!
//! An instruction names its job (by the plan's digest) and its number among the job's instructions, so that one that was
//! carried out cannot be repeated, and one that was signed in the belief of another order is refused. None can open an
//! update: they hold a job, end an attempt, or leave a member out of the next ones.

use consilium_crypto::{
    digest::Digest,
    sign::{Signature, SigningKey, sign, verify},
};
use prost::Message as _;
use thiserror::Error;

use crate::{ids::Id, roster::VerifiedRoster, wire};

/// What is signed, part of the signature.
const WHAT: &str = "operator-action";
/// Most characters of a reason.
pub const MAX_REASON: usize = 200;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Begin a job that waits to be started.
    JobStart,
    /// Begin no new attempt; one that runs goes on to its end.
    JobPause,
    /// Go on after a pause.
    JobResume,
    /// End the job for good once no attempt runs.
    JobStop,
    /// End the running attempt without a sum.
    RoundAbort {
        /// Which: another one is not ended by mistake.
        round: u32,
        /// Which.
        attempt: u32,
    },
    /// Leave a member out of the next attempts.
    MemberSuspend(Id),
    /// Invite it again.
    MemberResume(Id),
}

impl What {
    /// The word in the record.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::JobStart => "job-start",
            Self::JobPause => "job-pause",
            Self::JobResume => "job-resume",
            Self::JobStop => "job-stop",
            Self::RoundAbort { .. } => "round-abort",
            Self::MemberSuspend(_) => "member-suspend",
            Self::MemberResume(_) => "member-resume",
        }
    }

    /// The member that it is about.
    pub fn member(&self) -> Option<&Id> {
        match self {
            Self::MemberSuspend(id) | Self::MemberResume(id) => Some(id),
            _ => None,
        }
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its place among the job's instructions, from 1.
    pub number: u64,
    /// Who gives it.
    pub operator: Id,
    /// When, Unix milliseconds of the operator's clock.
    pub at_ms: u64,
    /// What is to be done.
    pub what: What,
    /// Why.
    pub reason: String,
}

/// Why an instruction was refused before anybody looked at what it says.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ActionError {
    /// Its fields do not hold.
    #[error("the instruction's {0}")]
    Malformed(&'static str),
    /// It is about another job.
    #[error(
        "the instruction is about the plan {got}, and this job's is {own}; give the plan that the coordinator runs"
    )]
    OtherPlan {
        /// In the instruction.
        got: Digest,
        /// At hand.
        own: Digest,
    },
    /// Whoever signs it is not an operator.
    #[error(
        "the roster lists no operator {0}; viewers look and do not act: use an operator's identity, or ask one"
    )]
    NotAnOperator(String),
    /// The signature does not fit.
    #[error("the signature of the instruction does not fit the key that the roster lists for {0}")]
    Signature(Id),
}

/// Refuses a reason that is empty, too long, or would upset a terminal.
///
/// # Errors
///
/// [`ActionError::Malformed`].
pub fn check_reason(reason: &str) -> Result<(), ActionError> {
    let length = reason.chars().count();
    if !(1..=MAX_REASON).contains(&length) || reason.trim().is_empty() || reason.chars().any(char::is_control)
    {
        return Err(ActionError::Malformed("reason must have 1 to 200 characters and no control characters"));
    }
    Ok(())
}

impl Action {
    /// The bytes, not signed: for a dry run, and to be signed.
    pub fn encode(&self, plan: &Digest) -> Vec<u8> {
        let (round, attempt) = match self.what {
            What::RoundAbort { round, attempt } => (round, attempt),
            _ => (0, 0),
        };
        wire::Action {
            plan_digest: plan.0.to_vec(),
            number: self.number,
            operator: self.operator.to_string(),
            at_ms: self.at_ms,
            verb: self.what.verb().into(),
            member: self.what.member().map(Id::to_string).unwrap_or_default(),
            round,
            attempt,
            reason: self.reason.clone(),
        }
        .encode_to_vec()
    }

    /// Signs it for the job with this plan.
    pub fn sign(&self, plan: &Digest, key: &SigningKey) -> wire::SignedAction {
        let action = self.encode(plan);
        let signature = sign(key, WHAT, plan, self.operator.as_str(), &action).0.to_vec();
        wire::SignedAction { action, signature }
    }

    /// Reads an instruction for this job without looking at its signature.
    ///
    /// # Errors
    ///
    /// [`ActionError::Malformed`] or [`ActionError::OtherPlan`].
    pub fn read(signed: &wire::SignedAction, plan: &Digest) -> Result<Self, ActionError> {
        let told = wire::Action::decode(signed.action.as_slice())
            .map_err(|_| ActionError::Malformed("fields do not parse"))?;
        let digest: [u8; 32] = told
            .plan_digest
            .as_slice()
            .try_into()
            .map_err(|_| ActionError::Malformed("plan digest has not 32 bytes"))?;
        if digest != plan.0 {
            return Err(ActionError::OtherPlan { got: Digest(digest), own: *plan });
        }
        let id = |text: &str, why| text.parse::<Id>().map_err(|_| ActionError::Malformed(why));
        let member = || id(&told.member, "member is not an id");
        let what = match told.verb.as_str() {
            "job-start" => What::JobStart,
            "job-pause" => What::JobPause,
            "job-resume" => What::JobResume,
            "job-stop" => What::JobStop,
            "round-abort" => What::RoundAbort { round: told.round, attempt: told.attempt },
            "member-suspend" => What::MemberSuspend(member()?),
            "member-resume" => What::MemberResume(member()?),
            _ => return Err(ActionError::Malformed("verb is none that this software knows")),
        };
        check_reason(&told.reason)?;
        let operator = id(&told.operator, "operator is not an id")?;
        Ok(Self { number: told.number, operator, at_ms: told.at_ms, what, reason: told.reason })
    }

    /// Reads an instruction that one of the roster's operators signed for this job.
    ///
    /// # Errors
    ///
    /// [`ActionError`].
    pub fn verify(
        signed: &wire::SignedAction,
        roster: &VerifiedRoster,
        plan: &Digest,
    ) -> Result<Self, ActionError> {
        let action = Self::read(signed, plan)?;
        let party = roster.document().operators.iter().find(|party| party.id == action.operator);
        let party = party.ok_or_else(|| ActionError::NotAnOperator(action.operator.to_string()))?;
        let wrong = || ActionError::Signature(action.operator.clone());
        let signature = signed.signature.as_slice().try_into().map_err(|_| wrong())?;
        let id = action.operator.as_str();
        verify(&party.signing_key, WHAT, plan, id, &signed.action, &Signature(signature))
            .map_err(|_| wrong())?;
        Ok(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        roster::{chain, revocation::Revocations},
        testing::{self, ALL, key, party},
    };

    fn roster() -> VerifiedRoster {
        let mut roster = testing::roster();
        roster.operators.push(party(&"ada".parse().unwrap(), 50));
        roster.viewers.push(party(&"vera".parse().unwrap(), 51));
        let version = testing::version(&roster, &ALL);
        chain::verify(std::slice::from_ref(&version), &testing::pin(&version), &Revocations::default())
            .unwrap()
    }

    fn action(operator: &str, what: What) -> Action {
        Action {
            number: 3,
            operator: operator.parse().unwrap(),
            at_ms: 7,
            what,
            reason: "a leaking roof".into(),
        }
    }

    #[test]
    fn every_instruction_survives_its_signature_and_only_an_operators_counts() {
        let (roster, plan) = (roster(), Digest([9; 32]));
        let site: Id = "org-1".parse().unwrap();
        for what in [
            What::JobStart,
            What::JobPause,
            What::JobResume,
            What::JobStop,
            What::RoundAbort { round: 4, attempt: 2 },
            What::MemberSuspend(site.clone()),
            What::MemberResume(site),
        ] {
            let action = action("ada", what);
            assert_eq!(Action::verify(&action.sign(&plan, &key(50)), &roster, &plan), Ok(action));
        }
        let pause = |by: &str, seed| action(by, What::JobPause).sign(&plan, &key(seed));
        let of = |signed: &wire::SignedAction| Action::verify(signed, &roster, &plan);
        assert_eq!(of(&pause("vera", 51)), Err(ActionError::NotAnOperator("vera".into())), "viewers look");
        assert_eq!(of(&pause("org-1", 2)), Err(ActionError::NotAnOperator("org-1".into())));
        assert_eq!(of(&pause("ada", 51)), Err(ActionError::Signature("ada".parse().unwrap())));
        let mut bent = pause("ada", 50);
        bent.action = action("ada", What::JobStop).encode(&plan);
        assert_eq!(of(&bent), Err(ActionError::Signature("ada".parse().unwrap())));
        let unsigned = wire::SignedAction { signature: Vec::new(), ..pause("ada", 50) };
        assert!(of(&unsigned).is_err(), "what a dry run sends is no instruction");
        let other = Digest([8; 32]);
        assert!(matches!(
            Action::verify(&pause("ada", 50), &roster, &other),
            Err(ActionError::OtherPlan { .. })
        ));
    }

    #[test]
    fn a_reason_is_one_line_for_a_person() {
        for bad in ["", "  ", "a\nb", "a\x1b[2J", &"x".repeat(MAX_REASON + 1)] {
            assert!(check_reason(bad).is_err(), "{bad:?}");
        }
        assert_eq!(check_reason(&"ü".repeat(MAX_REASON)), Ok(()));
    }
}
