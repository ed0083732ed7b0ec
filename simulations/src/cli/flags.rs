//! Short names for the fields that are turned most.

use clap::Args;

/// Each sets one field of the scenario; `--set` sets any.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Organizations in every cohort, 3 to 1000; to 10000 with the plain protocol.
    #[arg(long, value_name = "N")]
    organizations: Option<u32>,
    /// Rounds.
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Trained parameters, at least (task.dimension).
    #[arg(long, value_name = "N")]
    dimension: Option<u32>,
    /// secure or plain.
    #[arg(long, value_name = "WORD")]
    protocol: Option<String>,
    /// Corrupt members tolerated beside the coordinator.
    #[arg(long, value_name = "N")]
    colluders: Option<u32>,
    /// Fewest survivors of a round.
    #[arg(long, value_name = "N")]
    min_survivors: Option<u32>,
    /// Part of the organizations that die in each attempt after dealing their shares, and come back.
    #[arg(long, value_name = "PART")]
    dropout: Option<f64>,
    /// Part of the organizations that train slowly.
    #[arg(long, value_name = "PART")]
    stragglers: Option<f64>,
    /// How many times slower stragglers train.
    #[arg(long, value_name = "FACTOR")]
    straggle: Option<f64>,
    /// Probability with which a message breaks its connection.
    #[arg(long, value_name = "PROBABILITY")]
    loss: Option<f64>,
    /// The coordinator dies after its n-th recorded event, and comes back; may be given several times.
    #[arg(long, value_name = "N")]
    crash: Vec<u64>,
    /// One-way latencies, least and greatest, milliseconds.
    #[arg(long, num_args = 2, value_names = ["LEAST", "MOST"])]
    latency_ms: Option<Vec<f64>>,
    /// Bandwidth of an organization's line, megabits a second each way.
    #[arg(long, value_name = "MBIT")]
    bandwidth: Option<f64>,
    /// How long an ordinary organization trains, virtual seconds.
    #[arg(long, value_name = "SECONDS")]
    training: Option<f64>,
    /// Expected lot of an organization, patients.
    #[arg(long, value_name = "PATIENTS")]
    lot: Option<f64>,
    /// Whom the plan protects: patient, patient-local, organization, none.
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Steps that each organization takes by itself in a round; every unit but patient.
    #[arg(long, value_name = "N")]
    local_steps: Option<u32>,
    /// Step size of those.
    #[arg(long, value_name = "RATE")]
    local_rate: Option<f64>,
    /// Decides everything that is drawn.
    #[arg(long)]
    seed: Option<u64>,
}

impl Flags {
    /// As `field=value`, in an order that does not matter.
    pub(super) fn assignments(&self) -> Vec<String> {
        fn one<T: ToString>(field: &str, value: Option<&T>) -> Option<String> {
            value.map(|value| format!("{field}={}", value.to_string()))
        }
        let number = |field, value: &Option<f64>| value.map(|value| format!("{field}={value:?}"));
        let crash = (!self.crash.is_empty()).then(|| format!("faults.coordinator={:?}", self.crash));
        [
            one("organizations", self.organizations.as_ref()),
            one("rounds", self.rounds.as_ref()),
            one("task.dimension", self.dimension.as_ref()),
            one("protocol", self.protocol.as_ref()),
            one("cohort.colluders", self.colluders.as_ref()),
            one("cohort.min_survivors", self.min_survivors.as_ref()),
            number("clients.dropout", &self.dropout),
            number("clients.stragglers", &self.stragglers),
            number("clients.straggle", &self.straggle),
            number("network.loss", &self.loss),
            crash,
            self.latency_ms.as_ref().map(|both| format!("network.latency_ms={both:?}")),
            number("network.bandwidth_mbit", &self.bandwidth),
            number("clients.training_s", &self.training),
            number("privacy.lot", &self.lot),
            one("privacy.unit", self.unit.as_ref()),
            one("privacy.local_steps", self.local_steps.as_ref()),
            number("privacy.local_rate", &self.local_rate),
            one("seed", self.seed.as_ref()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
