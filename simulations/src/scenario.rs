//! What is to be simulated, in numbers; refused with the arithmetic when it cannot work.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use consilium_crypto::secagg::{Params, Step};
use consilium_proto::plan::PrivacyUnit;
use thiserror::Error;

/// One simulation. Everything but the numbers follows from the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Decides keys, data, lots, noise, network and who drops out when.
    pub seed: u64,
    /// Organizations `n`, all of them in every cohort: 3 to 1000.
    pub organizations: u32,
    /// Rounds.
    pub rounds: u32,
    /// Trained parameters wanted; the task has the next number that it can have, see [`crate::task::shape`].
    pub dimension: u32,
    /// Corrupt members that the plan tolerates, `t_c`.
    pub colluders: u32,
    /// Fewest survivors, `m_min`.
    pub min_survivors: u32,
    /// Attempts a round may take.
    pub max_attempts: u32,
    /// Part of the organizations whose process dies in each attempt after it has dealt its shares: `⌈dropout · n⌉` of them,
    /// drawn anew each time. They start again after [`Scenario::restart`].
    pub dropout: f64,
    /// Part of the organizations that train `straggle` times slower than the others.
    pub stragglers: f64,
    /// How many times slower.
    pub straggle: f64,
    /// Probability with which a message breaks its connection instead of arriving.
    pub connection_loss: f64,
    /// One-way latency, least and greatest; each organization has its own within.
    pub latency: (Duration, Duration),
    /// Bytes a second of each organization's line, each way.
    pub bandwidth: u64,
    /// How long an ordinary organization trains a lot.
    pub training: Duration,
    /// How long a process that died stays away.
    pub restart: Duration,
    /// Expected lot of each organization, patients.
    pub lot: f64,
    /// Poisson sampling rate of patients.
    pub sampling_rate: f64,
    /// Noise multiplier `z` of the guaranteed honest survivors' noise together.
    pub noise_multiplier: f64,
    /// Whom the plan protects.
    pub unit: PrivacyUnit,
    /// Steps that each organization takes by itself in a round, where the unit has any.
    pub local_steps: u32,
    /// Step size of those.
    pub local_rate: f64,
    /// How long each step may take.
    pub deadlines: consilium_proto::plan::Deadlines,
    /// Faults at exact places, beside the drawn ones.
    pub faults: Faults,
}

/// Faults at exact places. Organizations are numbered from 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// The coordinator dies after it has recorded so many events, counted over the whole job.
    pub coordinator: BTreeSet<u64>,
    /// An organization dies after so many of its own records and debits, counted over the whole job.
    pub clients: BTreeMap<usize, BTreeSet<u64>>,
    /// Organizations that come this much later than the others; [`Duration::MAX`]: never.
    pub late: BTreeMap<usize, Duration>,
    /// Organizations that lose the adapter they kept whenever they die, and catch up from the first round.
    pub forgetful: BTreeSet<usize>,
    /// What happens to single messages.
    pub mishaps: Vec<Mishap>,
}

/// Something that happens to the first message that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mishap {
    /// Whose line.
    pub organization: usize,
    /// In which round.
    pub round: u32,
    /// A protocol message of this step.
    pub step: Step,
    /// Towards the coordinator, or from it.
    pub up: bool,
    /// What happens.
    pub what: Accident,
}

/// What can happen to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accident {
    /// The connection breaks and the message is gone.
    Lost,
    /// The message arrives, and the connection breaks before anything else does.
    LostAfter,
    /// It arrives twice.
    Twice,
}

/// Why a scenario cannot work. Nothing was simulated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refused {
    /// A number is out of its range.
    #[error("{field} is {value}: {rule}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold, with the arithmetic.
        rule: String,
    },
    /// The plan that follows from the numbers is refused.
    #[error("no plan follows from this scenario: {0}")]
    Plan(#[from] consilium_proto::plan::PlanError),
    /// The roster is refused.
    #[error("no roster follows from this scenario: {0}")]
    Roster(#[from] consilium_proto::roster::RosterError),
    /// Keys cannot be made.
    #[error("no keys could be made: {0}")]
    Keys(#[from] consilium_proto::identity::IdentityError),
}

impl Scenario {
    /// A quiet network of `organizations`, with the default colluders and the fewest survivors they allow.
    pub fn new(organizations: u32, rounds: u32) -> Self {
        let colluders = organizations.saturating_sub(1).div_euclid(3).max(1);
        Self {
            seed: 1,
            organizations,
            rounds,
            dimension: 1000,
            colluders,
            min_survivors: quorum(organizations, colluders),
            max_attempts: 3,
            dropout: 0.0,
            stragglers: 0.0,
            straggle: 3.0,
            connection_loss: 0.0,
            latency: (Duration::from_millis(5), Duration::from_millis(120)),
            bandwidth: 12_500_000,
            training: Duration::from_secs(10),
            restart: Duration::from_secs(3),
            lot: 30.0,
            sampling_rate: 0.5,
            noise_multiplier: 1.0,
            unit: PrivacyUnit::Patient,
            local_steps: 4,
            local_rate: 1.0,
            deadlines: consilium_proto::plan::Deadlines {
                wait_s: 120,
                advertise_s: 30,
                share_s: 60,
                input_s: 600,
                vote_s: 30,
                unmask_s: 30,
                grace_s: 2,
            },
            faults: Faults::default(),
        }
    }

    /// How many organizations drop out of each attempt.
    pub fn dropouts(&self) -> u32 {
        part(self.dropout, self.organizations)
    }

    /// How many organizations are slow.
    pub fn slow(&self) -> u32 {
        part(self.stragglers, self.organizations)
    }

    /// Checks that the scenario can work. What the plan checks anyway is left to it.
    ///
    /// # Errors
    ///
    /// [`Refused::Range`], with the arithmetic.
    pub fn check(&self) -> Result<(), Refused> {
        let n = self.organizations;
        let (low, high) = (u32::from(Params::MIN_COHORT), u32::from(Params::MAX_COHORT));
        range((low..=high).contains(&n), "organizations", &n, || format!("a cohort has {low} to {high}"))?;
        for (field, value) in
            [("dropout", self.dropout), ("stragglers", self.stragglers), ("loss", self.connection_loss)]
        {
            range((0.0..1.0).contains(&value), field, &value, || "it must be at least 0 and below 1".into())?;
        }
        range(self.straggle >= 1.0 && self.straggle.is_finite(), "straggle", &self.straggle, || {
            "stragglers are at least as slow as the others: 1 or more".into()
        })?;
        range(self.latency.0 <= self.latency.1, "latency", &format!("{:?}", self.latency), || {
            "the least comes first".into()
        })?;
        range(self.bandwidth >= 1000, "bandwidth", &self.bandwidth, || {
            "at least 1000 bytes a second".into()
        })?;
        range(self.lot > 0.0 && self.lot <= 1e6, "lot", &self.lot, || "above 0, at most a million".into())?;
        range(self.sampling_rate > 0.0 && self.sampling_rate <= 1.0, "rate", &self.sampling_rate, || {
            "above 0, at most 1".into()
        })?;
        let (t_c, r, m_min) = (self.colluders, quorum(n, self.colluders), self.min_survivors);
        range(r <= n, "colluders", &t_c, || {
            let most = n.saturating_sub(2);
            format!(
                "r = ⌊(n + t_c)/2⌋ + 1 = ⌊({n} + {t_c})/2⌋ + 1 = {r} votes are more than the {n} organizations; at most {most} fit"
            )
        })?;
        range((r..=n).contains(&m_min), "min-survivors", &m_min, || {
            format!("it must be from r = ⌊({n} + {t_c})/2⌋ + 1 = {r} to n = {n}")
        })?;
        self.check_silent(n, m_min)?;
        let absent = self.faults.late.values().filter(|late| **late == Duration::MAX).count();
        range(u32::try_from(absent).is_ok_and(|absent| absent <= n), "late", &absent, || {
            "at most all".into()
        })?;
        let known = |organization: &usize| *organization < n as usize;
        let named = self.faults.clients.keys().chain(self.faults.late.keys()).chain(&self.faults.forgetful);
        let strange =
            named.chain(self.faults.mishaps.iter().map(|it| &it.organization)).find(|it| !known(it));
        range(strange.is_none(), "faults", &strange.unwrap_or(&0), || {
            format!("organizations are numbered 0 to {}", n - 1)
        })
    }

    /// Whoever drops out and whoever is too slow must fit into what the quorum allows.
    fn check_silent(&self, n: u32, m_min: u32) -> Result<(), Refused> {
        let spare = n - m_min;
        let dropouts = self.dropouts();
        let slowest = self.training.as_secs_f64() * self.straggle * SPREAD.1;
        let input = f64::from(self.deadlines.input_s);
        let late = if slowest > input { self.slow() } else { 0 };
        range(dropouts <= spare, "dropout", &self.dropout, || {
            format!(
                "⌈{} · {n}⌉ = {dropouts} organizations would drop out, and n − m_min = {n} − {m_min} = {spare} may be silent",
                self.dropout
            )
        })?;
        range(dropouts + late <= spare, "stragglers", &self.stragglers, || {
            format!(
                "{late} of {n} train up to {slowest:.0} s, longer than the {input:.0} s of the step, and {dropouts} drop out: \
                 {} would be silent, and n − m_min = {n} − {m_min} = {spare} may be",
                dropouts + late
            )
        })?;
        let ordinary = self.training.as_secs_f64() * SPREAD.1;
        range(ordinary <= input, "training", &format!("{:?}", self.training), || {
            format!("ordinary organizations would train up to {ordinary:.0} s, and the step has {input:.0} s")
        })
    }
}

/// Training times are drawn from this part to that part of [`Scenario::training`].
pub(crate) const SPREAD: (f64, f64) = (0.8, 1.2);

/// `r = ⌊(n + t_c)/2⌋ + 1`.
pub fn quorum(organizations: u32, colluders: u32) -> u32 {
    organizations.saturating_add(colluders) / 2 + 1
}

/// `⌈share · n⌉`, where a product that only rounding lifts above a whole number does not count as more.
fn part(share: f64, n: u32) -> u32 {
    let exact = share * f64::from(n);
    (exact - 1e-9).ceil().max(0.0) as u32
}

fn range(
    holds: bool,
    field: &'static str,
    value: &dyn ToString,
    rule: impl FnOnce() -> String,
) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused::Range { field, value: value.to_string(), rule: rule() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_the_arithmetic() {
        let good = Scenario::new(50, 3);
        good.check().unwrap();
        assert_eq!((good.colluders, good.min_survivors), (16, 34));
        let message = |change: &dyn Fn(&mut Scenario)| {
            let mut scenario = good.clone();
            change(&mut scenario);
            scenario.check().unwrap_err().to_string()
        };
        assert_eq!(
            message(&|it| it.dropout = 0.34),
            "dropout is 0.34: ⌈0.34 · 50⌉ = 17 organizations would drop out, and n − m_min = 50 − 34 = 16 may be silent"
        );
        let mut most = good.clone();
        most.dropout = 0.32;
        most.check().unwrap();
        assert_eq!(most.dropouts(), 16);
        assert!(
            message(&|it| it.colluders = 49).contains("⌊(50 + 49)/2⌋ + 1 = 50"),
            "{}",
            message(&|it| it.colluders = 49)
        );
        assert!(message(&|it| it.colluders = 51).contains("= 51 votes are more than the 50 organizations"));
        assert!(message(&|it| it.min_survivors = 51).contains("to n = 50"));
        assert!(message(&|it| it.organizations = 2).contains("3 to 1000"));
        assert!(message(&|it| it.dropout = 1.0).contains("below 1"));
        assert!(
            message(&|it| {
                it.stragglers = 0.4;
                it.straggle = 100.0
            })
            .contains("may be")
        );
        assert!(message(&|it| it.training = Duration::from_secs(600)).contains("the step has 600 s"));
        assert!(
            message(&|it| {
                it.faults.forgetful.insert(50);
            })
            .contains("0 to 49")
        );
    }

    #[test]
    fn a_share_of_organizations_is_a_whole_number() {
        assert_eq!((part(0.1, 50), part(0.0, 50), part(0.11, 50), part(0.3, 10)), (5, 0, 6, 3));
    }
}
