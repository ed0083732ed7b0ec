//! What happened, as it is recorded before anything follows from it.
//!
//! Replaying the events of a job in order rebuilds the machine, so a restarted coordinator goes on in the same step of
//! the same round. Bodies are prost messages; kinds are words that `consilium` and a person with `sqlite3` can read.

use consilium_proto::{
    ids::Id,
    wire::{self, SignedAuditEntry},
};
use prost::Message;
use thiserror::Error;

/// One recorded fact.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An attempt began with this announcement.
    Opened(wire::SignedAnnouncement),
    /// A member's message was accepted.
    Accepted {
        /// Who sent it.
        from: Id,
        /// Step it answers.
        step: u32,
        /// The protocol's bytes.
        body: Vec<u8>,
    },
    /// All chunks of a member's masked input are held durably.
    Stored {
        /// Whose.
        from: Id,
        /// Bytes of all chunks together.
        bytes: u64,
    },
    /// A step's set was frozen and the next step began.
    Closed {
        /// The step that ended.
        step: u32,
    },
    /// The sum was published; it stands in the store's releases.
    Released {
        /// Organizations in the sum.
        survivors: Vec<Id>,
        /// Its entry of the signed log; none in what was recorded before there was one.
        logged: Option<SignedAuditEntry>,
    },
    /// A member broke the protocol, provably.
    Blamed {
        /// Whom the evidence convicts.
        culprit: Id,
        /// The number of the check in the manual's table.
        check: String,
        /// What convicts it: see [`consilium_crypto::secagg::evidence`].
        evidence: Vec<u8>,
    },
    /// The attempt ended without a sum.
    Failed {
        /// Why, from [`super::code`].
        code: String,
        /// Organizations that the evidence names.
        culprits: Vec<Id>,
        /// Its entry of the signed log; none in what was recorded before there was one.
        logged: Option<SignedAuditEntry>,
    },
    /// The evaluator's result for a round's adapter.
    Evaluated(wire::Evaluation),
    /// A release came back from a client, after this coordinator had lost it; it stands in the store's releases.
    Returned {
        /// Organizations in the sum.
        survivors: Vec<Id>,
        /// Attempts debited by then, the unknown ones included.
        debited: u64,
        /// Its entry of the signed log.
        logged: Option<SignedAuditEntry>,
    },
    /// A member has seen this attempt, and this coordinator had not: it goes on behind it.
    Seen {
        /// Attempts debited by then, the unknown ones included.
        debited: u64,
        /// Its entry of the signed log.
        logged: Option<SignedAuditEntry>,
    },
    /// An entry of the signed log that belongs to no attempt's end.
    Logged(SignedAuditEntry),
    /// A member declined the attempt.
    Declined {
        /// Who.
        from: Id,
        /// Its reason's code.
        code: String,
    },
    /// Members that sit rounds out are invited to this one: it cannot do without them.
    Pardoned,
    /// An operator gave an instruction; this is its signature.
    Acted(wire::SignedAction),
}

/// A record that does not hold an event: the store was written by other software, or damaged.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an event of kind \"{0}\" in the store cannot be read; restore the state folder from its backup")]
pub struct BadEvent(String);

#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(string, tag = "1")]
    from: String,
    #[prost(uint32, tag = "2")]
    step: u32,
    #[prost(bytes = "vec", tag = "3")]
    body: Vec<u8>,
    #[prost(uint64, tag = "4")]
    bytes: u64,
    #[prost(string, repeated, tag = "5")]
    ids: Vec<String>,
    #[prost(string, tag = "6")]
    code: String,
    #[prost(message, optional, tag = "7")]
    logged: Option<SignedAuditEntry>,
}

impl Event {
    /// The entry of the signed log that came with it.
    pub fn logged(&self) -> Option<&SignedAuditEntry> {
        match self {
            Self::Released { logged, .. }
            | Self::Failed { logged, .. }
            | Self::Returned { logged, .. }
            | Self::Seen { logged, .. } => logged.as_ref(),
            Self::Logged(entry) => Some(entry),
            _ => None,
        }
    }

    /// The word it is stored under.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Opened(_) => "opened",
            Self::Accepted { .. } => "accepted",
            Self::Stored { .. } => "stored",
            Self::Closed { .. } => "closed",
            Self::Released { .. } => "released",
            Self::Blamed { .. } => "blamed",
            Self::Failed { .. } => "failed",
            Self::Evaluated(_) => "evaluated",
            Self::Logged(_) => "logged",
            Self::Returned { .. } => "returned",
            Self::Seen { .. } => "seen",
            Self::Declined { .. } => "declined",
            Self::Pardoned => "pardoned",
            Self::Acted(_) => "acted",
        }
    }

    /// The bytes it is stored as.
    pub fn encode(&self) -> Vec<u8> {
        let ids = |ids: &[Id]| ids.iter().map(Id::to_string).collect();
        match self {
            Self::Opened(announcement) => announcement.encode_to_vec(),
            Self::Evaluated(evaluation) => evaluation.encode_to_vec(),
            Self::Logged(entry) => entry.encode_to_vec(),
            Self::Acted(action) => action.encode_to_vec(),
            Self::Pardoned => Vec::new(),
            Self::Declined { from, code } => {
                Body { from: from.to_string(), code: code.clone(), ..Body::default() }.encode_to_vec()
            }
            Self::Accepted { from, step, body } => {
                Body { from: from.to_string(), step: *step, body: body.clone(), ..Body::default() }
                    .encode_to_vec()
            }
            Self::Stored { from, bytes } => {
                Body { from: from.to_string(), bytes: *bytes, ..Body::default() }.encode_to_vec()
            }
            Self::Closed { step } => Body { step: *step, ..Body::default() }.encode_to_vec(),
            Self::Released { survivors, logged } => {
                Body { ids: ids(survivors), logged: logged.clone(), ..Body::default() }.encode_to_vec()
            }
            Self::Blamed { culprit, check, evidence } => Body {
                from: culprit.to_string(),
                code: check.clone(),
                body: evidence.clone(),
                ..Body::default()
            }
            .encode_to_vec(),
            Self::Returned { survivors, debited, logged } => {
                let (bytes, logged) = (*debited, logged.clone());
                Body { ids: ids(survivors), bytes, logged, ..Body::default() }.encode_to_vec()
            }
            Self::Seen { debited, logged } => {
                Body { bytes: *debited, logged: logged.clone(), ..Body::default() }.encode_to_vec()
            }
            Self::Failed { code, culprits, logged } => {
                let (code, logged) = (code.clone(), logged.clone());
                Body { code, ids: ids(culprits), logged, ..Body::default() }.encode_to_vec()
            }
        }
    }

    /// Reads what [`Event::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`BadEvent`] names the kind.
    pub fn decode(kind: &str, bytes: &[u8]) -> Result<Self, BadEvent> {
        let bad = || BadEvent(kind.chars().take(40).collect());
        let id = |text: &str| text.parse::<Id>().map_err(|_| bad());
        let body = || Body::decode(bytes).map_err(|_| bad());
        let ids = |texts: &[String]| texts.iter().map(|text| id(text)).collect::<Result<Vec<_>, _>>();
        Ok(match kind {
            "opened" => Self::Opened(wire::SignedAnnouncement::decode(bytes).map_err(|_| bad())?),
            "evaluated" => Self::Evaluated(wire::Evaluation::decode(bytes).map_err(|_| bad())?),
            "acted" => Self::Acted(wire::SignedAction::decode(bytes).map_err(|_| bad())?),
            "pardoned" => Self::Pardoned,
            "declined" => {
                let Body { from, code, .. } = body()?;
                Self::Declined { from: id(&from)?, code }
            }
            "accepted" => {
                let Body { from, step, body, .. } = body()?;
                Self::Accepted { from: id(&from)?, step, body }
            }
            "stored" => {
                let Body { from, bytes, .. } = body()?;
                Self::Stored { from: id(&from)?, bytes }
            }
            "closed" => Self::Closed { step: body()?.step },
            "logged" => Self::Logged(SignedAuditEntry::decode(bytes).map_err(|_| bad())?),
            "released" => {
                let Body { ids: survivors, logged, .. } = body()?;
                Self::Released { survivors: ids(&survivors)?, logged }
            }
            "returned" => {
                let Body { ids: survivors, bytes: debited, logged, .. } = body()?;
                Self::Returned { survivors: ids(&survivors)?, debited, logged }
            }
            "seen" => {
                let Body { bytes: debited, logged, .. } = body()?;
                Self::Seen { debited, logged }
            }
            "blamed" => {
                let Body { from, code: check, body: evidence, .. } = body()?;
                Self::Blamed { culprit: id(&from)?, check, evidence }
            }
            "failed" => {
                let Body { code, ids: culprits, logged, .. } = body()?;
                Self::Failed { code, culprits: ids(&culprits)?, logged }
            }
            _ => return Err(bad()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_store() {
        let a: Id = "a".parse().unwrap();
        let entry = SignedAuditEntry { entry: vec![4, 5], signature: vec![6; 64] };
        for event in [
            Event::Opened(wire::SignedAnnouncement { announcement: vec![1, 2], signature: vec![3] }),
            Event::Accepted { from: a.clone(), step: 2, body: vec![9; 5] },
            Event::Stored { from: a.clone(), bytes: 1 << 40 },
            Event::Closed { step: 3 },
            Event::Released { survivors: vec![a.clone()], logged: None },
            Event::Released { survivors: vec![a.clone()], logged: Some(entry.clone()) },
            Event::Blamed { culprit: a.clone(), check: "C3".into(), evidence: vec![7; 9] },
            Event::Failed { code: "too-few".into(), culprits: vec![a.clone()], logged: Some(entry.clone()) },
            Event::Returned { survivors: Vec::new(), debited: 9, logged: Some(entry.clone()) },
            Event::Seen { debited: 7, logged: Some(entry.clone()) },
            Event::Logged(entry),
            Event::Declined { from: a, code: "budget".into() },
            Event::Pardoned,
            Event::Acted(wire::SignedAction { action: vec![1, 2], signature: vec![3; 64] }),
            Event::Evaluated(wire::Evaluation { round: 3, loss: 0.5, ..Default::default() }),
        ] {
            assert_eq!(Event::decode(event.kind(), &event.encode()), Ok(event));
        }
        assert!(Event::decode("strange", &[]).is_err());
    }
}
