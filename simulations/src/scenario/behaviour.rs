//! Lines and processes: how fast, how far, how reliable.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::faults::by_number;

/// Lines between organizations and the coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// One-way latency, least and greatest, milliseconds; each organization has its own within. Default: 5, 120.
    pub latency_ms: (f64, f64),
    /// Bandwidth of each organization's line, megabits a second each way. Default: 100.
    pub bandwidth_mbit: f64,
    /// Probability with which a message breaks its connection instead of arriving. Default: 0.
    pub loss: f64,
    /// Times during which some organizations cannot reach the coordinator.
    #[serde(rename = "cut", skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
}

impl Default for Network {
    fn default() -> Self {
        Self { latency_ms: (5.0, 120.0), bandwidth_mbit: 100.0, loss: 0.0, cuts: Vec::new() }
    }
}

/// A partition of the network: connections break when it begins, and none opens until it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// When it begins, virtual seconds.
    pub from_s: f64,
    /// When it ends.
    pub until_s: f64,
    /// Whom it cuts off: organization 1 is `org-0001`.
    #[serde(with = "by_number", default, skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<usize>,
    /// Instead of naming them: a part of all, drawn.
    #[serde(default)]
    pub part: f64,
}

/// How organizations behave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clients {
    /// Part of the organizations whose process dies in each attempt after it has dealt its shares: `⌈dropout · n⌉` of them,
    /// drawn anew each time. They start again after `restart_s`. Default: 0.
    pub dropout: f64,
    /// Part of the organizations that train `straggle` times slower than the others. Default: 0.
    pub stragglers: f64,
    /// How many times slower. Default: 3.
    pub straggle: f64,
    /// How long an ordinary organization trains, virtual seconds; each time within a fifth of it. Default: 10.
    pub training_s: f64,
    /// How long a process that died stays away, virtual seconds. Default: 3.
    pub restart_s: f64,
}

impl Default for Clients {
    fn default() -> Self {
        Self { dropout: 0.0, stragglers: 0.0, straggle: 3.0, training_s: 10.0, restart_s: 3.0 }
    }
}

/// Organizations that differ from the others. An organization has at most one profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// A name for people.
    pub name: String,
    /// Which organizations: organization 1 is `org-0001`.
    #[serde(with = "by_number", skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<usize>,
    /// Instead of naming them: a part of all, drawn. Default: 0.
    pub part: f64,
    /// Their latencies, milliseconds. Default: as everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<(f64, f64)>,
    /// Their bandwidth, megabits a second. Default: as everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbit: Option<f64>,
    /// Their loss. Default: as everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// How long they train, virtual seconds. Default: as everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_s: Option<f64>,
    /// Part of them that dies in each attempt. Default: 0.
    pub dropout: f64,
    /// How long they stay away then, virtual seconds. Default: as everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_s: Option<f64>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "unnamed".into(),
            organizations: Vec::new(),
            part: 0.0,
            latency_ms: None,
            bandwidth_mbit: None,
            loss: None,
            training_s: None,
            dropout: 0.0,
            restart_s: None,
        }
    }
}

/// Virtual microseconds of so many seconds; what is no duration is the longest.
pub(crate) fn micros(seconds: f64) -> u64 {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
