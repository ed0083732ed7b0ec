//! What people at this organization decided about a job: approved, rejected, paused, resumed, stopped, left.
//!
//! One [`crate::journal`] for the organization, in the state folder; every entry is signed with the organization's key and names who
//! decided and why. Commands append to it; a running client reads it several times a second and acts at once. Nobody else can write
//! into it a permission: what allows something counts only under the organization's present key. What forbids something counts
//! under any key that it ever had, so that a change of keys revives nothing.
//!
//! - A plan is approved by its fingerprint: another text is another plan, and waits again.
//! - `pause` and `stop` hold for the job until `resume`; `leave` holds for the job for good, unless a *later* plan of that name is
//!   approved by its own fingerprint.

use std::path::{Path, PathBuf};

use consilium_crypto::{
    digest::Digest,
    sign::{Signature, VerifyingKey, sign, verify},
};
use consilium_proto::{identity::Identity, ids::Id};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    files::FileError,
    journal::{Journal, JournalError},
};

/// Name of the journal's file in the state folder.
pub const DECISIONS_FILE: &str = "decisions.journal";
/// Most characters of a name or a reason.
pub const MAX_WORDS: usize = 500;

const WHAT: &str = "decision";

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// The plan with this fingerprint may run.
    Approve,
    /// It may not.
    Reject,
    /// The client stays connected and takes part in nothing.
    Pause,
    /// A pause or a stop is over.
    Resume,
    /// The client ends, and does not start until it is resumed.
    Stop,
    /// The client ends and takes no part in this job any more.
    Leave,
}

impl Act {
    /// Whether it permits something.
    fn permits(self) -> bool {
        matches!(self, Self::Approve | Self::Resume)
    }

    /// The code with which attempts are refused while it holds.
    pub fn code(self) -> &'static str {
        match self {
            Self::Approve | Self::Resume => "",
            Self::Reject => "rejected",
            Self::Pause => "paused",
            Self::Stop => "stopped",
            Self::Leave => "left",
        }
    }
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// When, by this machine's clock.
    pub time: Timestamp,
    /// What.
    pub act: Act,
    /// About which job.
    pub job: Id,
    /// The fingerprint of its plan at that time, 64 hexadecimal digits.
    pub plan: String,
    /// Who decided.
    pub by: String,
    /// Why; may be empty where it permits.
    pub reason: String,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What is signed.
    pub decided: Decided,
    /// The organization's key that signed, 64 hexadecimal digits.
    pub key: String,
    /// Its signature, 128 hexadecimal digits.
    pub signature: String,
}

/// Why decisions cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecisionError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A signature that does not fit.
    #[error(
        "{}, decision {number}: its signature does not fit; somebody else has written to this file: restore the state folder from its \
         backup",
        path.display()
    )]
    Forged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        number: usize,
    },
    /// A name or reason that is too long or spans lines.
    #[error("{field}: write at most {MAX_WORDS} characters, in one line")]
    Words {
        /// "--by" or "--reason".
        field: &'static str,
    },
}

impl Decided {
    fn bytes(&self) -> Vec<u8> {
        // Unwrap safety: six plain fields serialize to JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn plan_digest(&self) -> Digest {
        self.plan.parse().unwrap_or(Digest([0; 32]))
    }
}

impl Decision {
    fn sign(decided: Decided, identity: &Identity) -> Self {
        let key = identity.signing_key();
        let signature = sign(key, WHAT, &decided.plan_digest(), identity.id.as_str(), &decided.bytes());
        let key = hex::encode(key.verifying_key().as_bytes());
        Self { decided, key, signature: hex::encode(signature.0) }
    }

    fn is_signed(&self, organization: &Id) -> bool {
        let (mut key, mut signature) = ([0; 32], [0; 64]);
        let decoded = hex::decode_to_slice(&self.key, &mut key)
            .and_then(|()| hex::decode_to_slice(&self.signature, &mut signature));
        let Ok(key) = VerifyingKey::from_bytes(key) else { return false };
        let (digest, bytes) = (self.decided.plan_digest(), self.decided.bytes());
        decoded.is_ok()
            && verify(&key, WHAT, &digest, organization.as_str(), &bytes, &Signature(signature)).is_ok()
    }
}

/// All decisions of an organization, verified, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Decisions(Vec<Decision>);

impl Decisions {
    /// Reads them, whether or not a client is running; none, if there is no file.
    ///
    /// # Errors
    ///
    /// [`DecisionError::Journal`], [`DecisionError::Forged`].
    pub fn read(state: &Path, organization: &Id) -> Result<Self, DecisionError> {
        let path = state.join(DECISIONS_FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let all: Vec<Decision> = Journal::read(&path, &owner(organization))?.records;
        match all.iter().position(|decision| !decision.is_signed(organization)) {
            Some(at) => Err(DecisionError::Forged { path, number: at + 1 }),
            None => Ok(Self(all)),
        }
    }

    /// Signs a decision and makes it durable.
    ///
    /// # Errors
    ///
    /// [`DecisionError`].
    pub fn append(state: &Path, identity: &Identity, decided: Decided) -> Result<Decision, DecisionError> {
        for (field, words) in [("--by", &decided.by), ("--reason", &decided.reason)] {
            if words.chars().count() > MAX_WORDS || words.contains(char::is_control) {
                return Err(DecisionError::Words { field });
            }
        }
        std::fs::create_dir_all(state)
            .map_err(|source| JournalError::File(FileError::io("create", state, source)))?;
        let path = state.join(DECISIONS_FILE);
        let (mut journal, _) = Journal::open(&path, &owner(&identity.id))?;
        let decision = Decision::sign(decided, identity);
        journal.append(std::slice::from_ref(&decision))?;
        Ok(decision)
    }

    /// Every entry.
    pub fn all(&self) -> &[Decision] {
        &self.0
    }

    /// What holds for a plan of a job, where `key` is the organization's present one.
    pub fn standing(&self, job: &Id, plan: &Digest, key: &VerifyingKey) -> Standing {
        let (plan, key) = (plan.to_string(), hex::encode(key.as_bytes()));
        let mut standing = Standing::default();
        for decision in &self.0 {
            let Decided { act, job: about, plan: of, .. } = &decision.decided;
            if about != job || (act.permits() && decision.key != key) {
                continue;
            }
            let left = standing.halted().is_some_and(|it| it.act == Act::Leave);
            match act {
                Act::Approve if *of == plan => {
                    let elsewhere = standing.halted().is_some_and(|it| it.plan != plan);
                    standing.answer = Some(decision.clone());
                    if left && elsewhere {
                        standing.halt = None;
                    }
                }
                Act::Reject if *of == plan => standing.answer = Some(decision.clone()),
                Act::Approve | Act::Reject => {}
                Act::Pause | Act::Stop if left => {}
                Act::Pause | Act::Stop | Act::Leave => standing.halt = Some(decision.clone()),
                Act::Resume if left => {}
                Act::Resume => standing.halt = None,
            }
        }
        standing
    }
}

/// What holds for one plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    answer: Option<Decision>,
    halt: Option<Decision>,
}

/// What a client may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Take part.
    Go,
    /// Nobody has answered yet.
    Wait,
    /// Be connected, and take part in nothing.
    Pause(Decided),
    /// End.
    End(Decided),
}

impl Standing {
    /// The approval of the plan, or its rejection.
    pub fn answer(&self) -> Option<&Decided> {
        self.answer.as_ref().map(|decision| &decision.decided)
    }

    /// The pause, stop or leave that holds.
    pub fn halted(&self) -> Option<&Decided> {
        self.halt.as_ref().map(|decision| &decision.decided)
    }

    /// What the client may do, where `asks` says whether a plan needs an approval at all.
    pub fn leave(&self, asks: bool) -> Leave {
        match (self.halted(), self.answer()) {
            (Some(halt), _) if halt.act != Act::Pause => Leave::End(halt.clone()),
            (_, Some(answer)) if answer.act == Act::Reject => Leave::End(answer.clone()),
            (_, None) if asks => Leave::Wait,
            (Some(pause), _) => Leave::Pause(pause.clone()),
            (None, _) => Leave::Go,
        }
    }
}

/// Notices new decisions about one plan.
#[derive(Debug)]
pub struct Watch {
    state: PathBuf,
    organization: Id,
    job: Id,
    plan: Digest,
    key: VerifyingKey,
    asks: bool,
    /// Length of the file when it was read.
    seen: Option<u64>,
}

impl Watch {
    /// Watches the decisions in a state folder about a plan.
    pub fn new(state: &Path, identity: &Identity, job: &Id, plan: Digest, asks: bool) -> Self {
        let (organization, key) = (identity.id.clone(), identity.signing_key().verifying_key());
        Self { state: state.to_path_buf(), organization, job: job.clone(), plan, key, asks, seen: None }
    }

    /// What the client may do, if that may have changed since the last look.
    ///
    /// # Errors
    ///
    /// As [`Decisions::read`]. Whoever cannot read what was decided must not go on.
    pub fn look(&mut self) -> Result<Option<Leave>, DecisionError> {
        let length = std::fs::metadata(self.state.join(DECISIONS_FILE)).map_or(0, |file| file.len());
        if self.seen == Some(length) {
            return Ok(None);
        }
        let decisions = Decisions::read(&self.state, &self.organization)?;
        self.seen = Some(length);
        Ok(Some(decisions.standing(&self.job, &self.plan, &self.key).leave(self.asks)))
    }
}

fn owner(organization: &Id) -> String {
    format!("decisions of {organization}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seed: u8) -> Identity {
        Identity::generate("site-1".parse().unwrap(), [seed; 32]).unwrap()
    }

    fn decided(act: Act, plan: u8) -> Decided {
        let (job, plan) = ("demo".parse().unwrap(), Digest([plan; 32]).to_string());
        Decided { time: Timestamp::UNIX_EPOCH, act, job, plan, by: "Dr Ada".into(), reason: "test".into() }
    }

    /// What holds for plan 1 after these decisions about plans.
    fn after(acts: &[(Act, u8)], asks: bool) -> Leave {
        let folder = tempfile::tempdir().unwrap();
        for (act, plan) in acts {
            Decisions::append(folder.path(), &identity(1), decided(*act, *plan)).unwrap();
        }
        let mut watch =
            Watch::new(folder.path(), &identity(1), &"demo".parse().unwrap(), Digest([1; 32]), asks);
        let leave = watch.look().unwrap().unwrap();
        assert_eq!(watch.look().unwrap(), None, "nothing new");
        leave
    }

    #[test]
    fn what_holds_follows_from_what_was_decided() {
        use Act::{Approve, Leave as Gone, Pause, Reject, Resume, Stop};
        let end = |act, plan| Leave::End(decided(act, plan));
        let pause = Leave::Pause(decided(Pause, 1));
        for (acts, asks, expected) in [
            (vec![], true, Leave::Wait),
            (vec![], false, Leave::Go),
            (vec![(Approve, 1)], true, Leave::Go),
            (vec![(Approve, 2)], true, Leave::Wait),
            (vec![(Approve, 1), (Reject, 1)], true, end(Reject, 1)),
            (vec![(Reject, 1)], false, end(Reject, 1)),
            (vec![(Reject, 1), (Approve, 1)], true, Leave::Go),
            (vec![(Reject, 2)], false, Leave::Go),
            (vec![(Pause, 1)], true, Leave::Wait),
            (vec![(Approve, 1), (Pause, 1)], true, pause.clone()),
            (vec![(Approve, 1), (Pause, 1), (Resume, 1)], true, Leave::Go),
            (vec![(Approve, 1), (Pause, 1), (Stop, 1)], true, end(Stop, 1)),
            (vec![(Approve, 1), (Stop, 1), (Resume, 1)], true, Leave::Go),
            (vec![(Approve, 1), (Gone, 1), (Resume, 1), (Approve, 1), (Pause, 1)], true, end(Gone, 1)),
            (vec![(Approve, 2), (Gone, 2)], false, end(Gone, 2)),
            (vec![(Approve, 2), (Gone, 2), (Approve, 1)], true, Leave::Go),
        ] {
            assert_eq!(after(&acts, asks), expected, "{acts:?}");
        }
    }

    #[test]
    fn a_permission_counts_only_under_the_present_key_and_a_prohibition_under_every() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (identity(1), identity(2));
        let job = "demo".parse().unwrap();
        let leave = |asks| {
            let all = Decisions::read(folder.path(), &new.id).unwrap();
            all.standing(&job, &Digest([1; 32]), &new.signing_key().verifying_key()).leave(asks)
        };
        Decisions::append(folder.path(), &old, decided(Act::Approve, 1)).unwrap();
        assert_eq!(leave(true), Leave::Wait);
        Decisions::append(folder.path(), &old, decided(Act::Leave, 1)).unwrap();
        assert_eq!(leave(false), Leave::End(decided(Act::Leave, 1)));
    }

    #[test]
    fn a_forged_decision_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let me = identity(1);
        Decisions::append(folder.path(), &me, decided(Act::Pause, 1)).unwrap();
        // Whoever can write the file can write a chain that fits, and cannot sign.
        let forged =
            Decision { decided: decided(Act::Approve, 1), ..Decision::sign(decided(Act::Reject, 1), &me) };
        let path = folder.path().join(DECISIONS_FILE);
        Journal::open(&path, &owner(&me.id)).unwrap().0.append(&[forged]).unwrap();
        let error = Decisions::read(folder.path(), &me.id).unwrap_err();
        assert!(matches!(error, DecisionError::Forged { number: 2, .. }), "{error}");
    }
}
