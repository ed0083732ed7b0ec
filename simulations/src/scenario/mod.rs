//! What is to be simulated, in numbers; refused with the arithmetic when it cannot work.
//!
//! A scenario is a TOML file ([`text`]) of the tables below. Whatever it leaves out has the default that stands in the type's
//! documentation; unknown fields are refused. Everything that is not written follows from the seed.

mod attack;
mod behaviour;
pub(crate) mod check;
mod faults;
mod study;
mod sweep;
pub mod text;

use consilium_proto::plan::{self, Optimizer, PrivacyUnit};
use serde::{Deserialize, Serialize};

pub use attack::{Attack, Verdict};
pub(crate) use behaviour::micros;
pub use behaviour::{Clients, Cut, Network, Profile};
pub use check::Refused;
pub(crate) use check::{DEFAULT_RATE, SPREAD, cut_size, empty, range};
pub use faults::{Accident, Faults, Mishap, Never};
pub use study::{Alone, End, Evaluation, Expect, Partition, TaskKind, Texts};
pub use sweep::{Seeds as SweptSeeds, Sweep, flat};

/// One simulation. Everything but the numbers follows from the seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// A name for people.
    pub name: String,
    /// Decides keys, data, lots, noise, network and who drops out when. Default: 1.
    pub seed: u64,
    /// Organizations `n`, all of them in every cohort: 3 to 1000, or to 10000 with `protocol = "plain"`. Default: 50.
    pub organizations: u32,
    /// Rounds. Default: 3.
    pub rounds: u32,
    /// How updates are added up.
    pub protocol: Protocol,
    /// Who may be silent or corrupt.
    pub cohort: Cohort,
    /// What is learned.
    pub task: TaskKind,
    /// Which of its tensors are shared.
    #[serde(skip_serializing_if = "Adapter::is_default")]
    pub adapter: Adapter,
    /// How records are dealt to organizations.
    pub partition: Partition,
    /// Whom the plan protects, and how.
    pub privacy: Privacy,
    /// What the mean does to the adapter; absent: gradient descent at rate 2, or plain averaging where organizations send deltas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// Lines.
    pub network: Network,
    /// How organizations behave, unless a profile says otherwise.
    pub clients: Clients,
    /// Organizations that differ from the others.
    #[serde(rename = "profile", skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
    /// Faults at exact places, beside the drawn ones.
    pub faults: Faults,
    /// How long each step may take.
    pub deadlines: Deadlines,
    /// What is measured beside the protocol.
    pub evaluation: Evaluation,
    /// Who attacks, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<Attack>,
    /// How this simulation should end.
    pub expect: Expect,
    /// What a sweep over this scenario varies.
    #[serde(skip_serializing_if = "Sweep::is_default")]
    pub sweep: Sweep,
}

/// How updates are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Secure aggregation in five steps, as deployed.
    #[default]
    Secure,
    /// The same machines and the same wire, but vectors travel in the clear and there is nothing to agree on: what
    /// federated learning without secure aggregation would cost. No deployment has it.
    Plain,
}

/// Who may be silent or corrupt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cohort {
    /// Corrupt members that the plan tolerates beside the coordinator, `t_c`. Default: a third.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colluders: Option<u32>,
    /// Fewest survivors, `m_min`. [the quorum `⌊(n + t_c)/2⌋ + 1`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_survivors: Option<u32>,
    /// Attempts a round may take. Default: 3.
    pub max_attempts: u32,
    /// Part of the organizations that take part in a round, drawn anew for each; the others decline it. Default: 1, all.
    #[serde(skip_serializing_if = "is_one")]
    pub sampling: f64,
}

impl Default for Cohort {
    fn default() -> Self {
        Self { colluders: None, min_survivors: None, max_attempts: 3, sampling: 1.0 }
    }
}

/// Which of the adapter's tensors are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adapter {
    /// What stays at home, as a plan's `adapter.local`: `["head"]`, and every organization trains a head of its own. Only of `texts`,
    /// and with `privacy.unit` "organization" or "none". Default: nothing, everything is shared.
    pub local: Vec<String>,
}

impl Adapter {
    fn is_default(&self) -> bool {
        self.local.is_empty()
    }
}

/// Whom the plan protects, and how. As in a plan; what a plan derives from the data is derived here too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Privacy {
    /// Whose participation is hidden. Default: "patient".
    pub unit: PrivacyUnit,
    /// `δ`. Default: 1e-6.
    pub delta: f64,
    /// The job's budget. Wide by default: most simulations study something else. Default: 10000.
    pub epsilon: f64,
    /// Noise multiplier `z`. Default: 1.
    pub noise_multiplier: f64,
    /// Poisson sampling rate of patients. Only where the task makes up its patients; a task with real records samples them
    /// at the rate that gives the lot. Default: 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_rate: Option<f64>,
    /// Expected lot of an organization, patients; the mean over organizations, where they are of different sizes. Default: 30.
    pub lot: f64,
    /// Clipping norm `C`. [1; `steps` where an organization's delta is clipped]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Steps that each organization takes by itself in a round, in every unit but `patient`. Default: 4.
    pub local_steps: u32,
    /// Step size of those. Default: 1.
    pub local_rate: f64,
    /// FedProx's `μ`, which holds local steps to where the round starts; not in `patient`. Default: 0, none.
    #[serde(skip_serializing_if = "is_zero")]
    pub proximal: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            unit: PrivacyUnit::Patient,
            delta: 1e-6,
            epsilon: 1e4,
            noise_multiplier: 1.0,
            sampling_rate: None,
            lot: 30.0,
            clip: None,
            local_steps: 4,
            local_rate: 1.0,
            proximal: 0.0,
        }
    }
}

/// How long each step may take, seconds; as in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// For the minimum of members to come online before an attempt. Default: 120.
    pub wait_s: u32,
    /// Advertise keys. Default: 30.
    pub advertise_s: u32,
    /// Deal shares. Default: 60.
    pub share_s: u32,
    /// Train and upload. Default: 600.
    pub input_s: u32,
    /// Vote on the survivors. Default: 30.
    pub vote_s: u32,
    /// Release shares. Default: 30.
    pub unmask_s: u32,
    /// How long a closed connection is waited for. Default: 2.
    pub grace_s: u32,
    /// The same in the middle of an upload. [as long as `grace_s`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_grace_s: Option<u32>,
}

impl Default for Deadlines {
    fn default() -> Self {
        let (vote_s, unmask_s, grace_s, upload_grace_s) = (30, 30, 2, None);
        let (wait_s, advertise_s, share_s, input_s) = (120, 30, 60, 600);
        Self { wait_s, advertise_s, share_s, input_s, vote_s, unmask_s, grace_s, upload_grace_s }
    }
}

impl Deadlines {
    /// As the plan has them.
    pub fn of_plan(&self) -> plan::Deadlines {
        let Self { wait_s, advertise_s, share_s, input_s, vote_s, unmask_s, grace_s, upload_grace_s } = *self;
        plan::Deadlines { wait_s, advertise_s, share_s, input_s, vote_s, unmask_s, grace_s, upload_grace_s }
    }

    /// All steps of an attempt together, seconds.
    pub fn attempt_s(&self) -> u64 {
        let Self { wait_s, advertise_s, share_s, input_s, vote_s, unmask_s, .. } = *self;
        [wait_s, advertise_s, share_s, input_s, vote_s, unmask_s].into_iter().map(u64::from).sum()
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "unnamed".into(),
            seed: 1,
            organizations: 50,
            rounds: 3,
            protocol: Protocol::Secure,
            cohort: Cohort::default(),
            task: TaskKind::default(),
            adapter: Adapter::default(),
            partition: Partition::default(),
            privacy: Privacy::default(),
            optimizer: None,
            network: Network::default(),
            clients: Clients::default(),
            profiles: Vec::new(),
            faults: Faults::default(),
            deadlines: Deadlines::default(),
            evaluation: Evaluation::default(),
            attack: None,
            expect: Expect::default(),
            sweep: Sweep::default(),
        }
    }
}

impl Scenario {
    /// A quiet network of `organizations`, with the default colluders and the fewest survivors they allow.
    pub fn new(organizations: u32, rounds: u32) -> Self {
        Self { organizations, rounds, ..Self::default() }
    }

    /// Corrupt members tolerated, `t_c`.
    pub fn colluders(&self) -> u32 {
        let third = self.organizations.saturating_sub(1).div_euclid(3).max(1);
        self.cohort.colluders.unwrap_or(third)
    }

    /// Fewest survivors, `m_min`.
    pub fn min_survivors(&self) -> u32 {
        self.cohort.min_survivors.unwrap_or_else(|| quorum(self.organizations, self.colluders()))
    }

    /// Organizations that take part in a round, `k = ⌈sampling · n⌉`.
    pub fn sampled(&self) -> u32 {
        part(self.cohort.sampling, self.organizations)
    }

    /// How many organizations drop out of each attempt, by profile: first the ordinary ones, then each profile's. Where not all
    /// take part, the most that it can be.
    pub fn dropouts(&self) -> u32 {
        let most = |share, size: u32| part(share, size.min(self.sampled()));
        let special: u32 =
            self.profiles.iter().map(|profile| most(profile.dropout, self.size(profile))).sum();
        most(self.clients.dropout, self.ordinary()).saturating_add(special)
    }

    /// How many ordinary organizations are slow.
    pub fn slow(&self) -> u32 {
        part(self.clients.stragglers, self.ordinary())
    }

    /// Organizations of a profile.
    pub fn size(&self, profile: &Profile) -> u32 {
        if profile.organizations.is_empty() {
            part(profile.part, self.organizations)
        } else {
            u32::try_from(profile.organizations.len()).unwrap_or(u32::MAX)
        }
    }

    /// Organizations without a profile.
    pub fn ordinary(&self) -> u32 {
        let special: u32 = self.profiles.iter().map(|profile| self.size(profile)).sum();
        self.organizations.saturating_sub(special)
    }
}

/// `r = ⌊(n + t_c)/2⌋ + 1`.
pub fn quorum(organizations: u32, colluders: u32) -> u32 {
    organizations.saturating_add(colluders) / 2 + 1
}

/// `⌈share · n⌉`, where a product that only rounding lifts above a whole number does not count as more.
pub(crate) fn part(share: f64, n: u32) -> u32 {
    let exact = share * f64::from(n);
    (exact - 1e-9).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_organizations_is_a_whole_number() {
        assert_eq!((part(0.1, 50), part(0.0, 50), part(0.11, 50), part(0.3, 10)), (5, 0, 6, 3));
    }

    #[test]
    fn cohorts_have_the_plans_defaults() {
        let scenario = Scenario::new(50, 3);
        assert_eq!((scenario.colluders(), scenario.min_survivors()), (16, 34));
        let profile = Profile { part: 0.1, dropout: 0.5, ..Profile::default() };
        let mixed = Scenario { profiles: vec![profile], ..scenario };
        // Three of the five in the profile, and none of the other 45.
        assert_eq!((mixed.ordinary(), mixed.dropouts()), (45, 3));
    }
}
