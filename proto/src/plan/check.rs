//! What a plan must pass before anybody is asked to sign it: every rule of [`Plan::derive`], and those that take the
//! accountant or say only that the plan would come to nothing.

use consilium_crypto::privacy::{Composition, PrivacyError};

use super::{Derived, Plan, PlanError, PrivacyUnit, Retries, rule};

/// Attempts that a budget must pay for, each a debit of its own: every round once, and the [reserve](Retries::reserve).
pub fn attempts_to_pay(rounds: u32, retries: &Retries) -> u64 {
    u64::from(rounds) + retries.reserve(rounds)
}

impl Plan {
    /// Every rule, and: lots that fit the cohort; a budget that lasts until the last round, with the reserve of
    /// [`attempts_to_pay`]. A second at most. Whoever runs a signed plan needs [`Plan::derive`] alone, which is quick: a
    /// client refuses the attempt that would pass its budget whatever was planned.
    ///
    /// # Errors
    ///
    /// The first [`PlanError::Rule`] broken, with the arithmetic.
    pub fn check(&self) -> Result<Derived, PlanError> {
        let derived = self.derive()?;
        self.check_lots()?;
        self.check_budget(&derived)?;
        Ok(derived)
    }

    /// The lots of all organizations together lie between that of the largest and `n` times it; only `patient` names both.
    pub(super) fn check_lots(&self) -> Result<(), PlanError> {
        let (p, n) = (&self.privacy, self.cohort.organizations);
        if p.unit != PrivacyUnit::Patient {
            return Ok(());
        }
        rule(p.largest_lot <= p.expected_lot, "privacy.largest_lot", &p.largest_lot, || {
            format!(
                "one organization's lot is no larger than that of all together, expected_lot = {}",
                p.expected_lot
            )
        })?;
        let most = p.largest_lot * f64::from(n);
        // Rates times patients, rounded by a person: a part in a thousand is not a contradiction.
        rule(p.expected_lot <= most * 1.001, "privacy.largest_lot", &p.largest_lot, || {
            format!(
                "{n} organizations with lots of at most {} make {most}, and expected_lot is {}; the clamp would cut what \
                 the largest sends: it must be at least expected_lot / n = {}",
                p.largest_lot,
                p.expected_lot,
                p.expected_lot / f64::from(n)
            )
        })
    }

    /// The budget lasts, where there is one.
    fn check_budget(&self, derived: &Derived) -> Result<(), PlanError> {
        let p = &self.privacy;
        let Some(mechanisms) = &derived.mechanisms else { return Ok(()) };
        let refused = |error: PrivacyError| PlanError::Rule {
            field: "privacy",
            value: "not usable".into(),
            rule: error.to_string(),
        };
        let attempts = attempts_to_pay(self.rounds, &self.retries);
        let (step, params) = (mechanisms.attempts(1).0, mechanisms.central.params());
        let spent = derived.guarantees(attempts, p.delta).map_err(refused)?.central;
        if spent <= p.epsilon {
            return Ok(());
        }
        let pays = Composition::new().remaining(step, p.epsilon, p.delta, attempts).map_err(refused)?;
        Err(PlanError::Rule {
            field: "privacy.epsilon",
            value: p.epsilon.to_string(),
            rule: format!(
                "it pays for {pays} attempts, and the plan needs {attempts}: {} rounds and {} in reserve for retries, which \
                 at q = {}, {} a round, z_eff = √(h·σ_i² − 6.25)/Δ = √({}·{:.2}² − 6.25)/{:.2} = {:.4} and δ = {:e} spend \
                 ε = {:.4}",
                self.rounds,
                attempts - u64::from(self.rounds),
                params.sampling_rate,
                if mechanisms.steps == 1 { "one step".into() } else { format!("{} steps", mechanisms.steps) },
                params.shares,
                derived.sigma_share,
                params.sensitivity,
                step.noise_multiplier,
                p.delta,
                spent
            ),
        })
    }
}
