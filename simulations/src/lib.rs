//! Simulations: virtual organizations, networks and time over the machines that hospitals run.
//!
//! Everything that decides is the deployed code: [`consilium_coordinator::round::Job`] and
//! [`consilium_client::session::Session`] with the protocol, encoding, noise, accounting and release behind them. What is
//! simulated is what surrounds them: processes ([`coordinator_host`], [`client_host`]), disks ([`disk`]), lines
//! ([`network`]), the clock ([`world`]), and whose records are trained on ([`task`], [`partition`]). One number, the seed,
//! decides all of it: the same seed gives the same bytes.
//!
//! Meanwhile [`watch`] sees everything, also what no party may see, and holds everybody to what was promised.
//!
//! Not simulated: TLS, the gRPC framing, the time that computing takes.

mod at_home;
pub mod attack;
pub mod behaviour;
pub mod cli;
pub mod client_host;
pub mod consortium;
pub mod coordinator_host;
pub mod disk;
pub mod export;
pub mod left;
pub mod log;
pub mod network;
pub mod out;
pub mod page;
pub mod partition;
pub mod plain;
pub mod report;
pub mod run;
pub mod scenario;
pub mod scores;
pub mod seeds;
pub mod stats;
pub mod sweep;
pub mod table;
pub mod task;
pub mod watch;
pub mod world;

pub use report::Report;
pub use scenario::{Accident, Faults, Mishap, Refused, Scenario};
pub use world::{SimulationError, World};
