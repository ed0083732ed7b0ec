//! The nearest plan that works, for one that does not.
//!
//! Broken rules are cured one after another, each by the least change of one field; where the budget ends too early there
//! is more than one way out (more noise, fewer rounds, a larger budget), and people must choose. Every proposal is
//! written out, read again and checked whole before it is shown. What only people can know (who takes part, the model,
//! how many patients there are) is not guessed: then there is no proposal.

use std::fmt;

use consilium_crypto::privacy::{Composition, noise_multiplier};

use super::{Derived, Plan, PlanError, PrivacyUnit, attempts_to_pay, hours};

/// One field's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The field, as the text names it.
    pub field: String,
    /// What the plan has.
    pub from: String,
    /// What it would have to have.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} (was {})", self.field, self.to, self.from)
    }
}

/// A plan that passes [`Plan::check`], and how it differs from the one that did not.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The changes, all of which are needed.
    pub changes: Vec<Change>,
    /// The plan with them.
    pub plan: Plan,
    /// What follows from it.
    pub derived: Derived,
}

/// Cures in a row before a plan is given up.
const MOST_CURES: usize = 64;

impl Plan {
    /// Plans that work, near this one, which does not: empty if a person must know better, and for a plan that works.
    pub fn proposals(&self) -> Vec<Proposal> {
        if self.check().is_ok() {
            return Vec::new();
        }
        if self.privacy.unit == PrivacyUnit::None {
            // There is no budget to keep.
            return self.cured().and_then(|plan| self.proposal(plan)).into_iter().collect();
        }
        let budget = self.privacy.epsilon;
        let usable = budget.is_finite() && budget > 0.0;
        let mut sound = self.clone();
        if !usable {
            // Cured last: what it must be is what the rest costs.
            sound.privacy.epsilon = f64::MAX;
        }
        let Some(mut sound) = sound.cured() else { return Vec::new() };
        let broken_budget = match sound.check() {
            Ok(_) => !usable,
            Err(PlanError::Rule { field: "privacy.epsilon", .. }) => true,
            Err(_) => return Vec::new(),
        };
        if !broken_budget {
            return self.proposal(sound).into_iter().collect();
        }
        sound.privacy.epsilon = budget;
        let ways: [fn(&Self) -> Option<Self>; 3] =
            [Self::with_more_noise, Self::with_fewer_rounds, Self::with_budget];
        ways.iter().filter_map(|way| way(&sound)).filter_map(|plan| self.proposal(plan)).collect()
    }

    /// All rules but the budget's cured.
    fn cured(&self) -> Option<Self> {
        let mut plan = self.clone();
        for _ in 0..MOST_CURES {
            let broken = match plan.derive().and_then(|_| plan.check_lots()) {
                Ok(()) => return Some(plan),
                Err(PlanError::Rule { field, .. }) => field,
                Err(_) => return None,
            };
            let before = plan.clone();
            plan.cure(broken)?;
            // A cure that changes nothing is none.
            if plan == before {
                return None;
            }
        }
        None
    }

    /// One change that the rule on `field` asks for.
    fn cure(&mut self, field: &str) -> Option<()> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let n = self.cohort.organizations;
        match field {
            "rounds" => self.rounds = self.rounds.clamp(1, 100_000),
            "retries.max_attempts" => self.retries.max_attempts = self.retries.max_attempts.clamp(1, 16),
            "evaluation.every_rounds" => {
                self.evaluation.every_rounds = self.evaluation.every_rounds.clamp(1, 100_000)
            }
            "evaluation.max_examples" => {
                self.evaluation.max_examples = self.evaluation.max_examples.clamp(1, 1_000_000);
            }
            "deadlines.upload_grace_s" => {
                let least = self.deadlines.grace_s;
                self.deadlines.upload_grace_s =
                    self.deadlines.upload_grace_s.map(|it| it.clamp(least, 604_800));
            }
            "deadlines.grace_s" => self.deadlines.grace_s = self.deadlines.grace_s.min(3600),
            _ if field.starts_with("deadlines.") => {
                let d = &mut self.deadlines;
                for seconds in [
                    &mut d.wait_s,
                    &mut d.advertise_s,
                    &mut d.share_s,
                    &mut d.input_s,
                    &mut d.vote_s,
                    &mut d.unmask_s,
                ] {
                    *seconds = (*seconds).clamp(1, 604_800);
                }
            }
            "cohort.colluders" => self.cohort.colluders = self.cohort.colluders.min(n.checked_sub(2)?).max(1),
            "cohort.min_survivors" => {
                let t_c = self.cohort.colluders;
                let c = &mut self.cohort;
                let least = (n.saturating_add(t_c) / 2 + 1).max(t_c.max(1).saturating_add(2));
                if least > n {
                    c.colluders = t_c.checked_sub(1)?;
                } else {
                    c.min_survivors = c.min_survivors.clamp(least, n);
                }
            }
            "privacy.clip" => self.privacy.clip = 1.0,
            "privacy.noise_multiplier" if !positive(self.privacy.noise_multiplier) => {
                self.privacy.noise_multiplier = 1.0;
            }
            // σ_i is too small in ring units: finer units make it larger.
            "privacy.noise_multiplier" => self.encoding.scale *= 2.0,
            // So little noise that no ε is reported.
            "privacy" => self.privacy.noise_multiplier *= 2.0,
            "privacy.sampling_rate" if self.privacy.sampling_rate > 1.0 => self.privacy.sampling_rate = 1.0,
            "privacy.delta" if self.privacy.unit == PrivacyUnit::Organization => {
                self.privacy.delta = below(1.0 / f64::from(n))?;
            }
            "privacy.delta" => {
                self.privacy.delta = below(self.privacy.sampling_rate / self.privacy.expected_lot)?
            }
            "privacy.largest_lot" if self.privacy.unit != PrivacyUnit::Patient => {
                self.privacy.largest_lot = 0.0
            }
            "privacy.largest_lot" => {
                let p = &mut self.privacy;
                let least = p.expected_lot / f64::from(n);
                let wanted = if positive(p.largest_lot) { p.largest_lot } else { least };
                p.largest_lot = wanted.max(least.ceil()).min(p.expected_lot);
            }
            "encoding" | "encoding.scale" => self.cure_encoding()?,
            "encoding.rounding_beta" => self.encoding.rounding_beta = 0.01,
            "encoding.ring_bits" => {
                let mut widest = self.clone();
                widest.encoding.ring_bits = 32;
                let needed = widest.derive().ok()?.ring_needed;
                self.encoding.ring_bits = needed.max(consilium_crypto::ring::RingWidth::MIN);
            }
            "hours" => self.hours = hours::widened(&self.hours, self.attempt_minutes())?,
            _ => return None,
        }
        Some(())
    }

    fn cure_encoding(&mut self) -> Option<()> {
        let p = &self.privacy;
        let dimension: f64 = (self.adapter.shared().filter(|tensor| tensor.trained))
            .map(|tensor| tensor.shape.iter().map(|&axis| f64::from(axis)).product::<f64>())
            .sum();
        let least = (4.0 * dimension.sqrt() / p.clip).log2().ceil().exp2();
        let e = &mut self.encoding;
        if !(e.metrics_share > 0.0 && e.metrics_share < 1.0) {
            e.metrics_share = 0.05;
        } else if !(e.loss_max.is_finite() && e.loss_max > 0.0) {
            e.loss_max = self.task.kind.loss_max(self.task.labels.len());
        } else if !(1e-30..=0.5).contains(&e.rounding_beta) {
            e.rounding_beta = 0.01;
        } else if !(1.0..=268_435_456.0).contains(&(e.scale * p.clip)) {
            e.scale = least;
        } else if e.scale > least {
            // No ring is wide enough: coarser units need fewer bits.
            e.scale = (e.scale / 2.0).max(least);
        } else {
            return None;
        }
        Some(())
    }

    /// The least noise with which the budget lasts.
    fn with_more_noise(&self) -> Option<Self> {
        let p = &self.privacy;
        let attempts = attempts_to_pay(self.rounds, &self.retries);
        let mechanisms = self.derive().ok()?.mechanisms?;
        let rate = mechanisms.central.params().sampling_rate;
        let least =
            noise_multiplier(p.epsilon, p.delta, rate, attempts.saturating_mul(mechanisms.steps)).ok()?;
        // The gap of the discrete Gaussian and a rounding down may ask for the next thousandth.
        (0..4).find_map(|thousandths| {
            let mut plan = self.clone();
            plan.privacy.noise_multiplier = (least * 1000.0 + f64::from(thousandths)).round() / 1000.0;
            plan.cured().filter(|plan| plan.check().is_ok())
        })
    }

    /// The most rounds that the budget pays for.
    fn with_fewer_rounds(&self) -> Option<Self> {
        let p = &self.privacy;
        let step = self.derive().ok()?.mechanisms?.attempts(1).0;
        let wanted = attempts_to_pay(self.rounds, &self.retries);
        let pays = Composition::new().remaining(step, p.epsilon, p.delta, wanted).ok()?;
        let fits = |rounds: &u32| attempts_to_pay(*rounds, &self.retries) <= pays;
        let rounds = (1..self.rounds).rev().find(fits)?;
        Some(Self { rounds, ..self.clone() })
    }

    /// The least budget, in hundredths, that pays for all rounds.
    fn with_budget(&self) -> Option<Self> {
        let mut plan = self.clone();
        plan.privacy.epsilon = f64::MAX;
        let attempts = attempts_to_pay(self.rounds, &self.retries);
        let spent = plan.derive().ok()?.guarantees(attempts, self.privacy.delta).ok()?.central;
        plan.privacy.epsilon = (spent * 100.0).ceil() / 100.0;
        Some(plan)
    }

    /// `plan` as a proposal, if it holds after being written and read.
    fn proposal(&self, plan: Self) -> Option<Proposal> {
        let (plan, _) = Self::parse(&plan.to_text().ok()?).ok()?;
        let derived = plan.check().ok()?;
        Some(Proposal { changes: changes(self, &plan), plan, derived })
    }
}

/// The greatest number of one significant digit below `most` and below 0.01.
fn below(most: f64) -> Option<f64> {
    if !(most.is_finite() && most > 0.0) {
        return None;
    }
    let most = most.min(0.01);
    let exponent = most.log10().floor() as i32;
    // Read from decimal digits, so that it is the number that they stand for.
    let number = |digit: u32, exponent: i32| format!("{digit}e{exponent}").parse::<f64>().ok();
    (1..=9)
        .rev()
        .find_map(|digit| number(digit, exponent).filter(|&x| x < most))
        .or_else(|| number(9, exponent - 1))
}

/// The fields in which two plans differ, of those that a cure may touch.
fn changes(old: &Plan, new: &Plan) -> Vec<Change> {
    let fields = |plan: &Plan| -> Vec<(&'static str, String)> {
        let (p, e, c, d) = (&plan.privacy, &plan.encoding, &plan.cohort, &plan.deadlines);
        vec![
            ("rounds", plan.rounds.to_string()),
            ("cohort.colluders", c.colluders.to_string()),
            ("cohort.min_survivors", c.min_survivors.to_string()),
            ("privacy.epsilon", format!("{:?}", p.epsilon)),
            ("privacy.delta", format!("{:?}", p.delta)),
            ("privacy.sampling_rate", format!("{:?}", p.sampling_rate)),
            ("privacy.largest_lot", format!("{:?}", p.largest_lot)),
            ("privacy.clip", format!("{:?}", p.clip)),
            ("privacy.noise_multiplier", format!("{:?}", p.noise_multiplier)),
            ("encoding.scale", format!("{:?}", e.scale)),
            ("encoding.ring_bits", e.ring_bits.to_string()),
            ("encoding.metrics_share", format!("{:?}", e.metrics_share)),
            ("encoding.loss_max", format!("{:?}", e.loss_max)),
            ("encoding.rounding_beta", format!("{:?}", e.rounding_beta)),
            ("evaluation.every_rounds", plan.evaluation.every_rounds.to_string()),
            ("evaluation.max_examples", plan.evaluation.max_examples.to_string()),
            ("deadlines.wait_s", d.wait_s.to_string()),
            ("deadlines.advertise_s", d.advertise_s.to_string()),
            ("deadlines.share_s", d.share_s.to_string()),
            ("deadlines.input_s", d.input_s.to_string()),
            ("deadlines.vote_s", d.vote_s.to_string()),
            ("deadlines.unmask_s", d.unmask_s.to_string()),
            ("deadlines.grace_s", d.grace_s.to_string()),
            ("deadlines.upload_grace_s", d.upload_grace_s.unwrap_or(d.grace_s).to_string()),
            ("retries.max_attempts", plan.retries.max_attempts.to_string()),
        ]
    };
    let plain =
        fields(old).into_iter().zip(fields(new)).map(|((field, from), (_, to))| (field.to_owned(), from, to));
    let times = old.hours.iter().zip(&new.hours).map(|(old, new)| {
        let shown = |hours: &super::Hours| format!("{}-{}", hours.from, hours.to);
        (format!("hours of {}", old.organization), shown(old), shown(new))
    });
    let all = plain.chain(times).filter(|(_, from, to)| from != to);
    all.map(|(field, from, to)| Change { field, from, to }).collect()
}
