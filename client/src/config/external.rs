//! `[external]`: where a trainer of the organization's own listens.

use std::{path::PathBuf, time::Duration};

use consilium_crypto::digest::Digest;
use serde::{Deserialize, Deserializer};

use super::{Config, ConfigError};
use crate::trainer::external::{Place, tls};

/// Who computes gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainerKind {
    /// The client, in its own process.
    #[default]
    BuiltIn,
    /// Another process, which clips them too. `[external]` says where it listens.
    External,
}

/// `[external]`: where it listens, and what is asked of it. Either `socket`, or `address` with `keys`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// Its Unix socket.
    pub socket: Option<PathBuf>,
    /// User id of the process behind the socket. Absent: the client's own. A process of anybody else's is not asked.
    pub user: Option<u32>,
    /// Its node, `host:port`: TLS with the two keys in `keys`, and nobody else is let in on either side.
    pub address: Option<String>,
    /// Folder that `consilium-client trainer keys` made, without the trainer's own key.
    pub keys: Option<PathBuf>,
    /// SHA-256 of its code, as `consilium-client trainer check` prints it: another one is not asked. Absent: whichever answers is,
    /// and the result's manifest says which it was.
    #[serde(default, deserialize_with = "pinned")]
    pub digest: Option<Digest>,
    /// Longest wait for one answer, seconds. Absent: the plan's `deadlines.input_s`. A hung trainer keeps the client from nothing
    /// else than the rest of the round.
    pub answer_s: Option<u32>,
}

fn pinned<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Digest>, D::Error> {
    super::digest(from).map(Some)
}

impl External {
    /// [`External::answer_s`] as a duration.
    pub fn answer(&self) -> Option<Duration> {
        self.answer_s.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Where it listens, with the keys read.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TrainerKeys`].
    pub fn place(&self) -> Result<Place, ConfigError> {
        Ok(match (&self.address, &self.keys) {
            (Some(address), Some(keys)) => {
                Place::Tcp { address: address.clone(), tls: tls::client_config(keys)? }
            }
            // `check_trainer` has refused what has neither.
            _ => Place::Socket { path: self.socket.clone().unwrap_or_default(), user: self.user },
        })
    }
}

impl Config {
    /// Whether a process outside the client trains.
    pub fn is_external(&self) -> bool {
        self.training.trainer == TrainerKind::External
    }

    /// What belongs to one kind of trainer and not to the other.
    pub(super) fn check_trainer(&self) -> Result<(), ConfigError> {
        let refuse =
            |field, value: &str, rule| Err(ConfigError::Value { field, value: value.to_owned(), rule });
        match (self.training.trainer, &self.external) {
            (TrainerKind::BuiltIn, Some(_)) => {
                refuse("external", "given", "write training.trainer = \"external\", or leave [external] out")
            }
            (TrainerKind::External, None) => refuse(
                "external",
                "absent",
                "training.trainer = \"external\" needs [external] with socket or address",
            ),
            (TrainerKind::External, Some(external)) => {
                match (&external.socket, &external.address, &external.keys) {
                    (Some(_), None, None) => answer_in_range(external.answer_s),
                    (None, Some(_), Some(_)) if external.user.is_none() => answer_in_range(external.answer_s),
                    (None, Some(_), None) => refuse(
                        "external.keys",
                        "absent",
                        "a trainer on another node needs the folder that consilium-client trainer keys makes",
                    ),
                    _ => refuse(
                        "external",
                        "contradictory",
                        "write either socket (and user), or address and keys",
                    ),
                }
            }
            (TrainerKind::BuiltIn, None) => {
                if self.data.text_column.is_empty() {
                    return refuse("data.text_column", "", "the built-in trainer needs it: name the column");
                }
                match self.model {
                    Some(_) => Ok(()),
                    None => {
                        refuse("model", "absent", "the built-in trainer needs it: name the model's folder")
                    }
                }
            }
        }
    }
}

fn answer_in_range(seconds: Option<u32>) -> Result<(), ConfigError> {
    match seconds {
        Some(seconds) if !(1..=86_400).contains(&seconds) => Err(ConfigError::Value {
            field: "external.answer_s",
            value: seconds.to_string(),
            rule: "it must be 1 to 86400",
        }),
        _ => Ok(()),
    }
}
