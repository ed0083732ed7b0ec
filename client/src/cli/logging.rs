//! The log on standard error.

use std::io;

use crate::config::LogFormat;
use tracing_subscriber::EnvFilter;

/// Environment variable that overrides how much is logged, as in `consilium_client=debug`.
const LEVEL: &str = "CONSILIUM_LOG";

/// Starts logging; once a process.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env(LEVEL).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init()
        }
        LogFormat::Text => builder.with_target(false).init(),
    }
}
