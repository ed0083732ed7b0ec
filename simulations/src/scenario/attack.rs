//! An attack: who attacks, how, and with whose help.

use serde::{Deserialize, Serialize};

use super::{Protocol, Refused, Scenario, TaskKind, range};

/// An attack. Attackers and colluders are the last organizations of the cohort; the victim is the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Attack {
    /// The coordinator tells half of the members that everybody survived, and the others that the victim did not.
    Equivocate {
        /// Members that give it their keys and sign whatever it asks.
        #[serde(default)]
        colluders: u32,
    },
    /// The coordinator tells the victim that only it and the colluders survived.
    Isolate {
        /// As above.
        #[serde(default)]
        colluders: u32,
    },
    /// The coordinator holds the victim's vector and tells everybody that the victim dropped out.
    Lie {
        /// As above.
        #[serde(default)]
        colluders: u32,
    },
    /// The coordinator says everything again that it said in the first round.
    Replay {
        /// Whether the victim's process dies after it has sent its vector, and has lost its disk when it comes back: journal,
        /// ledger and adapter.
        #[serde(default)]
        lost_disk: bool,
        /// Members that then say that they hold nothing of the victim. The coordinator passes on their answers alone, and hides every
        /// release from it.
        #[serde(default)]
        colluders: u32,
    },
    /// Members whose words are random bytes from one step on.
    Garbage {
        /// How many.
        #[serde(default = "one")]
        attackers: u32,
        /// From which step on: 1 advertise, 2 share, 3 input, 4 vote, 5 unmask.
        #[serde(default = "second")]
        step: u8,
    },
    /// Members that send their update multiplied.
    Scaled {
        /// How many.
        #[serde(default = "one")]
        attackers: u32,
        /// By what.
        #[serde(default = "factor")]
        factor: i32,
    },
    /// Members that call every label by the next one's name.
    Flipped {
        /// How many.
        #[serde(default = "one")]
        attackers: u32,
    },
    /// Members that release shares which they were not dealt.
    BadShares {
        /// How many.
        #[serde(default = "one")]
        attackers: u32,
    },
    /// The coordinator takes the victim's patients back out of what it sees.
    Inversion {},
    /// The coordinator tells who is among the victim's patients from what it sees.
    Membership {},
}

fn one() -> u32 {
    1
}

fn second() -> u8 {
    2
}

fn factor() -> i32 {
    -20
}

/// Whether an attack comes to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It gets what it is after.
    Succeeds,
    /// It does not.
    Fails,
    /// It was never made.
    NeverTried,
}

impl Attack {
    /// The word in a scenario.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Equivocate { .. } => "equivocate",
            Self::Isolate { .. } => "isolate",
            Self::Lie { .. } => "lie",
            Self::Replay { .. } => "replay",
            Self::Garbage { .. } => "garbage",
            Self::Scaled { .. } => "scaled",
            Self::Flipped { .. } => "flipped",
            Self::BadShares { .. } => "bad-shares",
            Self::Inversion {} => "inversion",
            Self::Membership {} => "membership",
        }
    }

    /// Members that work for the attack.
    pub fn members(&self) -> u32 {
        match self {
            Self::Equivocate { colluders }
            | Self::Isolate { colluders }
            | Self::Lie { colluders }
            | Self::Replay { colluders, .. } => *colluders,
            Self::Garbage { attackers, .. }
            | Self::Scaled { attackers, .. }
            | Self::Flipped { attackers }
            | Self::BadShares { attackers } => *attackers,
            Self::Inversion {} | Self::Membership {} => 0,
        }
    }

    /// Whether the coordinator is the attacker, through the protocol that it runs.
    pub fn is_coordinators(&self) -> bool {
        matches!(self, Self::Equivocate { .. } | Self::Isolate { .. } | Self::Lie { .. })
    }

    /// Checks that the attack can be made.
    ///
    /// # Errors
    ///
    /// [`Refused::Range`].
    pub(super) fn check(&self, scenario: &Scenario) -> Result<(), Refused> {
        let (members, n) = (self.members(), scenario.organizations);
        range(members < n, "attack", &format!("of {members} members"), || {
            format!("the first of {n} organizations is the victim: at most {} may attack", n - 1)
        })?;
        let theirs = matches!(
            self,
            Self::Garbage { .. } | Self::Scaled { .. } | Self::Flipped { .. } | Self::BadShares { .. }
        );
        range(members > 0 || !theirs, "attack.attackers", &members, || {
            "without members nobody attacks".into()
        })?;
        let replays = matches!(self, Self::Replay { .. });
        range(scenario.rounds > 1 || !replays, "rounds", &scenario.rounds, || {
            "a coordinator that says old things again needs a round that is old: at least 2".into()
        })?;
        let secure = scenario.protocol == Protocol::Secure;
        let steps = self.is_coordinators() || matches!(self, Self::BadShares { .. });
        range(secure || !steps, "attack.kind", &self.name(), || {
            "protocol = \"plain\" has neither survivors to agree on nor shares".into()
        })?;
        if let Self::Replay { lost_disk, colluders } = self {
            range(*colluders == 0 || (*lost_disk && secure), "attack.colluders", colluders, || {
                "they deny what they hold of a victim that has lost its disk, as protocol = \"secure\" has members do: set \
                 attack.lost_disk = true"
                    .into()
            })?;
        }
        if let Self::Garbage { step, .. } = self {
            range((1..=5).contains(step), "attack.step", step, || "steps are numbered 1 to 5".into())?;
        }
        let reads = matches!(self, Self::Flipped { .. } | Self::Inversion {} | Self::Membership {});
        let convex = matches!(scenario.task, TaskKind::Convex { .. });
        range(convex || !reads, "attack.kind", &self.name(), || {
            "it is written for task.kind = \"convex\" alone".into()
        })
    }
}
