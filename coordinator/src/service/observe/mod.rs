//! What other machines may watch: `/metrics` for Prometheus, and traces for OpenTelemetry.
//!
//! Both say what [`wire::JobStatus`](consilium_proto::wire::JobStatus) says to an operator and nothing else, so what the
//! coordinator may know of one member has one list. Off unless `[observe]` of `coordinator.toml` names them.

pub(super) mod http;
mod metrics;
pub(super) mod traces;
