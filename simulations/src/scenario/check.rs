//! What cannot work, refused before it starts, with the arithmetic. What the plan checks anyway is left to it.

use std::{collections::BTreeSet, time::Duration};

use consilium_crypto::secagg::Params;
use consilium_proto::{plan::PrivacyUnit, roster::DEPLOYED_COHORT};
use thiserror::Error;

use crate::out::OutError;

use super::{Network, Partition, Profile, Protocol, Scenario, TaskKind, part, quorum};

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
    /// The task cannot be set up.
    #[error("the task cannot be set up: {0}")]
    Task(String),
    /// The task's records could not be written.
    #[error(transparent)]
    Write(#[from] OutError),
}

/// Training times are drawn from this part to that part of what the scenario says.
pub(crate) const SPREAD: (f64, f64) = (0.8, 1.2);

pub(crate) fn range(
    holds: bool,
    field: &'static str,
    value: &dyn ToString,
    rule: impl FnOnce() -> String,
) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused::Range { field, value: value.to_string(), rule: rule() }) }
}

fn a_part(field: &'static str, value: f64) -> Result<(), Refused> {
    range((0.0..1.0).contains(&value), field, &value, || "it must be at least 0 and below 1".into())
}

fn seconds(field: &'static str, value: f64) -> Result<(), Refused> {
    range((0.0..=1e9).contains(&value), field, &value, || "it must be 0 to 10⁹ seconds".into())
}

impl Scenario {
    /// Checks that the scenario can work.
    ///
    /// # Errors
    ///
    /// [`Refused::Range`], with the arithmetic.
    pub fn check(&self) -> Result<(), Refused> {
        let n = self.organizations;
        let (low, high, of) = match self.protocol {
            Protocol::Secure => (Params::MIN_COHORT, DEPLOYED_COHORT, "secure"),
            Protocol::Plain => (Params::MIN_COHORT, Params::MAX_COHORT, "plain"),
        };
        range((u32::from(low)..=u32::from(high)).contains(&n), "organizations", &n, || {
            format!("a cohort has {low} to {high} with protocol = \"{of}\"")
        })?;
        self.check_lines(&self.network)?;
        self.check_clients()?;
        self.check_profiles()?;
        self.check_study()?;
        let (t_c, m_min) = (self.colluders(), self.min_survivors());
        let r = quorum(n, t_c);
        range(r <= n, "cohort.colluders", &t_c, || {
            let most = n.saturating_sub(2);
            format!(
                "r = ⌊(n + t_c)/2⌋ + 1 = ⌊({n} + {t_c})/2⌋ + 1 = {r} votes are more than the {n} organizations; at most {most} fit"
            )
        })?;
        range((r..=n).contains(&m_min), "cohort.min_survivors", &m_min, || {
            format!("it must be from r = ⌊({n} + {t_c})/2⌋ + 1 = {r} to n = {n}")
        })?;
        self.check_sampling(n, m_min)?;
        self.check_silent(n, m_min)?;
        let aimless = self.attack.is_none() && self.expect.attack.is_some();
        range(!aimless, "expect.attack", &"set", || "there is no attack to come to anything".into())?;
        self.attack.as_ref().map_or(Ok(()), |attack| attack.check(self))?;
        self.check_numbers(n)
    }

    fn check_lines(&self, network: &Network) -> Result<(), Refused> {
        a_part("network.loss", network.loss)?;
        latency("network.latency_ms", network.latency_ms)?;
        bandwidth("network.bandwidth_mbit", network.bandwidth_mbit)?;
        for cut in &network.cuts {
            let times = format!("{} to {}", cut.from_s, cut.until_s);
            let holds = cut.from_s >= 0.0 && cut.until_s > cut.from_s && cut.until_s <= 1e9;
            range(holds, "network.cut", &times, || "it must end after it begins, within 10⁹ seconds".into())?;
            let named = !cut.organizations.is_empty();
            range(named != (cut.part > 0.0), "network.cut.part", &cut.part, || {
                "a cut names its organizations or a part of all, not both and not neither".into()
            })?;
            range((0.0..=1.0).contains(&cut.part), "network.cut.part", &cut.part, || {
                "it must be above 0 and at most 1".into()
            })?;
        }
        Ok(())
    }

    fn check_clients(&self) -> Result<(), Refused> {
        let clients = &self.clients;
        a_part("clients.dropout", clients.dropout)?;
        a_part("clients.stragglers", clients.stragglers)?;
        let straggle = clients.straggle;
        range((1.0..=1e6).contains(&straggle), "clients.straggle", &straggle, || {
            "stragglers are at least as slow as the others: 1 or more".into()
        })?;
        seconds("clients.training_s", clients.training_s)?;
        seconds("clients.restart_s", clients.restart_s)
    }

    fn check_profiles(&self) -> Result<(), Refused> {
        let mut seen = BTreeSet::new();
        for profile in &self.profiles {
            let named = !profile.organizations.is_empty();
            range(named != (profile.part > 0.0), "profile.part", &profile.part, || {
                format!(
                    "profile {:?} names its organizations or a part of all, not both and not neither",
                    profile.name
                )
            })?;
            a_part("profile.part", profile.part)?;
            a_part("profile.dropout", profile.dropout)?;
            a_part("profile.loss", profile.loss.unwrap_or(0.0))?;
            latency("profile.latency_ms", profile.latency_ms.unwrap_or((0.0, 0.0)))?;
            bandwidth("profile.bandwidth_mbit", profile.bandwidth_mbit.unwrap_or(1.0))?;
            seconds("profile.training_s", profile.training_s.unwrap_or(0.0))?;
            seconds("profile.restart_s", profile.restart_s.unwrap_or(0.0))?;
            let twice = profile.organizations.iter().find(|index| !seen.insert(**index));
            range(twice.is_none(), "profile.organizations", &twice.map_or(0, |it| it + 1), || {
                "an organization has at most one profile".into()
            })?;
        }
        let special: u32 = self.profiles.iter().map(|profile| self.size(profile)).sum();
        let n = self.organizations;
        range(special <= n, "profile.part", &special, || {
            let sizes: Vec<_> = self.profiles.iter().map(|profile| self.size(profile).to_string()).collect();
            format!("{} organizations would have a profile, and there are {n}", sizes.join(" + "))
        })
    }

    fn check_study(&self) -> Result<(), Refused> {
        let privacy = &self.privacy;
        range(privacy.lot > 0.0 && privacy.lot <= 1e6, "privacy.lot", &privacy.lot, || {
            "above 0, at most a million".into()
        })?;
        range(
            privacy.proximal == 0.0 || privacy.unit.sends_deltas(),
            "privacy.proximal",
            &privacy.proximal,
            || {
                "FedProx holds an organization's local steps to where the round starts, and in unit = \"patient\" there are none: all \
             organizations take one step a round together. Leave it out, or take another unit"
                .into()
            },
        )?;
        self.check_adapter()?;
        let rate = privacy.sampling_rate;
        match &self.task {
            TaskKind::Convex { dimension } | TaskKind::Synthetic { dimension } => {
                range((1..=100_000_000).contains(dimension), "task.dimension", dimension, || {
                    "1 to a hundred million".into()
                })?;
                let rate = rate.unwrap_or(DEFAULT_RATE);
                range(rate > 0.0 && rate <= 1.0, "privacy.sampling_rate", &rate, || {
                    "above 0, at most 1".into()
                })?;
            }
            TaskKind::Texts(texts) => {
                range(rate.is_none(), "privacy.sampling_rate", &rate.unwrap_or(0.0), || {
                    "this task has real records and samples them at the rate that gives the lot: leave it out"
                        .into()
                })?;
                range(texts.per_label >= 1, "task.per_label", &texts.per_label, || "at least 1".into())?;
            }
        }
        match self.partition {
            Partition::Dirichlet { alpha } | Partition::Quantity { alpha } => {
                range((1e-3..=1e6).contains(&alpha), "partition.alpha", &alpha, || {
                    "0.001 to a million".into()
                })?;
            }
            Partition::FeatureShift { strength } => {
                range((0.0..=100.0).contains(&strength), "partition.strength", &strength, || {
                    "0 to 100".into()
                })?;
            }
            Partition::Iid | Partition::Natural => {}
        }
        let evaluation = &self.evaluation;
        range(evaluation.every_rounds >= 1, "evaluation.every_rounds", &evaluation.every_rounds, || {
            "at least 1".into()
        })?;
        let alone = &evaluation.alone;
        range((1..=100_000).contains(&alone.epochs), "evaluation.alone.epochs", &alone.epochs, || {
            "1 to 100000".into()
        })?;
        let epochs = alone.fine_tune_epochs;
        range((1..=100_000).contains(&epochs), "evaluation.alone.fine_tune_epochs", &epochs, || {
            "1 to 100000".into()
        })?;
        range(alone.lot >= 1, "evaluation.alone.lot", &alone.lot, || "at least 1".into())?;
        let rate = alone.learning_rate;
        range(rate > 0.0 && rate <= 1e3, "evaluation.alone.learning_rate", &rate, || {
            "above 0, at most 1000".into()
        })?;
        let own = evaluation.own_test;
        range(own > 0.0 && own <= 0.5, "evaluation.own_test", &own, || "above 0, at most a half".into())
    }

    /// Heads stay at home where there is something else to share, and nothing is promised to single patients.
    fn check_adapter(&self) -> Result<(), Refused> {
        let (local, unit) = (&self.adapter.local, self.privacy.unit);
        if local.is_empty() {
            return Ok(());
        }
        let refuse = |holds, rule: &str| range(holds, "adapter.local", &format!("{local:?}"), || rule.into());
        refuse(*local == ["head"], "the head alone can stay at home: write [\"head\"], or leave it out")?;
        let shares = match &self.task {
            TaskKind::Convex { .. } | TaskKind::Synthetic { .. } => {
                return refuse(
                    false,
                    "this task's parameters are a head and nothing else, so nothing would be left to share: set task.kind = \"texts\", or \
                     leave it out",
                );
            }
            TaskKind::Texts(texts) => !texts.target_modules.is_empty(),
        };
        refuse(
            shares,
            "without task.target_modules the head is all that is trained: nothing would be left to share",
        )?;
        range(
            matches!(unit, PrivacyUnit::Organization | PrivacyUnit::None),
            "adapter.local",
            &"[\"head\"]",
            || {
                format!(
                    "privacy.unit = \"{unit}\" promises something to single patients, and a head at home learns from them without noise, \
                 while all gradients are computed through it: set privacy.unit = \"organization\" or \"none\""
                )
            },
        )
    }

    /// Enough organizations must take part in every round.
    fn check_sampling(&self, n: u32, m_min: u32) -> Result<(), Refused> {
        let sampling = self.cohort.sampling;
        range(sampling > 0.0 && sampling <= 1.0, "cohort.sampling", &sampling, || {
            "above 0, at most 1, which is all".into()
        })?;
        let (k, t_c) = (self.sampled(), self.colluders());
        range(k >= m_min, "cohort.sampling", &sampling, || {
            let (r, least) = (quorum(n, t_c), f64::from(m_min) / f64::from(n));
            format!(
                "k = ⌈{sampling} · {n}⌉ = {k} organizations would take part in a round, and a sum takes m_min = {m_min}. Every \
                 organization of the roster is invited to every round, so that any two quorums have an honest member in common: m_min \
                 is at least r = ⌊(n + t_c)/2⌋ + 1 = ⌊({n} + {t_c})/2⌋ + 1 = {r} of all {n}, whoever sits out. The least sampling is \
                 {m_min}/{n} = {least:.3}; fewer colluders or a smaller min_survivors allow less"
            )
        })?;
        range(k == n || self.protocol == Protocol::Secure, "cohort.sampling", &sampling, || {
            "protocol = \"plain\" has one step, and the coordinator takes whoever declines it for one that let the attempt down, and \
             has it sit rounds out: leave sampling out, or set protocol = \"secure\""
                .into()
        })?;
        range(k == n || self.attack.is_none(), "cohort.sampling", &sampling, || {
            "attackers and victim take part in every round: leave it out where there is an attack".into()
        })
    }

    /// Whoever drops out and whoever is too slow must fit into what the quorum allows.
    fn check_silent(&self, n: u32, m_min: u32) -> Result<(), Refused> {
        let k = self.sampled();
        let (who, spare) = (if k < n { "k" } else { "n" }, k - m_min);
        let dropouts = self.dropouts();
        range(dropouts <= spare, "clients.dropout", &self.clients.dropout, || {
            let (share, ordinary) = (self.clients.dropout, self.ordinary().min(k));
            let mut sum = format!("⌈{share} · {ordinary}⌉");
            for profile in self.profiles.iter().filter(|profile| profile.dropout > 0.0) {
                sum += &format!(" + ⌈{} · {}⌉", profile.dropout, self.size(profile).min(k));
            }
            format!(
                "{sum} = {dropouts} organizations would drop out, and {who} − m_min = {k} − {m_min} = {spare} may be silent"
            )
        })?;
        let input = f64::from(self.deadlines.input_s);
        let slowest = self.clients.training_s * self.clients.straggle * SPREAD.1;
        let mut late = if slowest > input { self.slow() } else { 0 };
        let of_profile = |profile: &Profile| profile.training_s.unwrap_or(0.0) * SPREAD.1;
        late += self.profiles.iter().filter(|it| of_profile(it) > input).map(|it| self.size(it)).sum::<u32>();
        late = late.min(k);
        let slowest = self.profiles.iter().map(of_profile).fold(slowest, f64::max);
        range(dropouts + late <= spare, "clients.stragglers", &self.clients.stragglers, || {
            format!(
                "{late} of {n} train up to {slowest:.0} s, longer than the {input:.0} s of the step, and {dropouts} drop out: \
                 {} would be silent, and {who} − m_min = {k} − {m_min} = {spare} may be",
                dropouts + late
            )
        })?;
        let ordinary = self.clients.training_s * SPREAD.1;
        range(
            ordinary <= input || self.ordinary() == 0,
            "clients.training_s",
            &self.clients.training_s,
            || {
                format!(
                    "ordinary organizations would train up to {ordinary:.0} s, and the step has {input:.0} s"
                )
            },
        )?;
        let never = self.faults.late.values().filter(|late| **late == Duration::MAX).count() as u32;
        let never = never.min(k);
        let expects_all = self.expect.end == super::End::Released;
        range(!expects_all || never + dropouts <= spare, "faults.late", &never, || {
            format!(
                "{never} never come and {dropouts} drop out of each attempt, and {who} − m_min = {k} − {m_min} = {spare} may be \
                 silent; if rounds shall fail, say expect.end = \"gave-up\""
            )
        })
    }

    /// Organizations that are named exist.
    fn check_numbers(&self, n: u32) -> Result<(), Refused> {
        let faults = &self.faults;
        for late in faults.late.values().filter(|late| **late != Duration::MAX) {
            seconds("faults.late", late.as_secs_f64())?;
        }
        let named = faults.clients.keys().chain(faults.late.keys()).chain(&faults.forgetful);
        let named = named.chain(faults.mishaps.iter().map(|it| &it.organization));
        let named = named.chain(self.profiles.iter().flat_map(|profile| &profile.organizations));
        let mut named = named.chain(self.network.cuts.iter().flat_map(|cut| &cut.organizations));
        let strange = named.find(|index| **index >= n as usize);
        range(strange.is_none(), "faults", &strange.map_or(0, |index| index + 1), || {
            format!("organizations are numbered 1 to {n}")
        })
    }
}

/// Where a scenario does not say it.
pub(crate) const DEFAULT_RATE: f64 = 0.5;

fn latency(field: &'static str, (least, most): (f64, f64)) -> Result<(), Refused> {
    let holds = (0.0..=1e6).contains(&least) && least <= most && most <= 1e6;
    range(holds, field, &format!("{least} to {most}"), || {
        "the least comes first, and none is above 10⁶ milliseconds".into()
    })
}

fn bandwidth(field: &'static str, mbit: f64) -> Result<(), Refused> {
    range((0.01..=1e6).contains(&mbit), field, &mbit, || "0.01 to a million megabits a second".into())
}

/// An organization without records, or with fewer than it needs.
pub(crate) fn empty(organization: u32, records: usize, others: usize, n: u32, why: &str) -> Refused {
    let number = organization + 1;
    Refused::Range {
        field: "partition",
        value: format!("such that org-{number:04} has {records} of {others} records"),
        rule: format!(
            "{others} records for {n} organizations are {:.1} each; {why}",
            others as f64 / f64::from(n.max(1))
        ),
    }
}

/// `⌈share · n⌉` organizations of a cut.
pub(crate) fn cut_size(share: f64, n: u32) -> u32 {
    part(share, n)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
