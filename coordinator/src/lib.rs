//! The coordinator: it orchestrates rounds and learns the sum, and nothing else.
//!
//! - [`round`]: the round state machine, sans-IO;
//! - [`store`]: what must not be forgotten;
//! - [`service`]: sockets, TLS, gRPC, and the one thread where machine and store meet;
//! - [`cli`]: the operator's terminal;
//! - [`process`], [`config`], [`chain`], [`limits`] and [`files`]: how it starts and stops, and what it lets others use.

pub mod chain;
pub mod cli;
pub mod config;
pub mod files;
pub mod limits;
mod memory;
pub mod process;
pub mod round;
pub mod service;
pub mod store;
