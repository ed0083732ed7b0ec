//! The client: the process an organization runs beside its data.
//!
//! - [`config`], [`policy`], [`files`]: what it reads at its start;
//! - [`data`], [`model`], [`trainer`]: records in, clipping-ready per-patient gradients out;
//! - [`rehearse`]: what would leave, before it does;
//! - [`session`]: the state machine, sans-IO; [`journal`] and [`ledger`]: what it must not forget; [`recover`]: when it has;
//! - [`link`], [`egress`], [`run`]: the way to the coordinator, the journal of what goes there, and the loop;
//! - [`kept`]: what the coordinator published, for when it has lost it; [`threads`]: hands for masking;
//! - [`decisions`], [`live`]: what people here decided, and what the client is doing;
//! - [`result`] and [`export`]: the adapter as the files everybody already has, with its signed manifest;
//! - `cli`: the commands of `consilium-client`.
//!
//! Only [`trainer`], behind the feature `torch`, links libtorch.

#[cfg(feature = "torch")]
pub mod cli;
pub mod config;
pub mod data;
pub mod decisions;
pub mod egress;
pub mod export;
pub mod files;
pub mod journal;
pub mod kept;
pub mod ledger;
pub mod link;
pub mod live;
pub mod model;
pub mod policy;
pub mod recover;
pub mod rehearse;
pub mod result;
pub mod run;
pub mod session;
pub mod threads;
pub mod trainer;
