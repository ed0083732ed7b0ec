//! The coordinator: it orchestrates rounds and learns the sum, and nothing else.
//!
//! - [`round`]: the round state machine, sans-IO;
//! - [`store`]: what must not be forgotten;
//! - [`record`]: what others can check afterwards;
//! - [`service`]: sockets, TLS, gRPC, and the one thread where machine and store meet;
//! - [`backup`]: a copy of its state, made while it serves;
//! - [`disk`] and [`prune`]: room for what is to come, and what may go;
//! - [`cli`]: the operator's terminal;
//! - [`process`], [`config`], [`chain`], [`limits`] and [`files`]: how it starts and stops, and what it lets others use.

pub mod backup;
pub mod chain;
pub mod cli;
pub mod config;
pub mod disk;
pub mod files;
pub mod limits;
mod memory;
pub mod process;
pub mod prune;
pub mod record;
pub mod round;
pub mod service;
pub mod store;
