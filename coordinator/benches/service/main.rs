//! What the coordinator costs through its real service, held against its bars:
//! `cargo bench -p consilium-coordinator --bench service [-- memory|wire|plain|idle|recovery]`; without a word, all.
//!
//! The coordinator is the release binary, as a process of its own, with TLS, chunk files and SQLite. Its members are
//! generated (see `tests/generator`): they speak the real protocol with real keys and real masks, and know the exact sum,
//! against which every round's published sum is checked. State is on tmpfs (`/dev/shm`) unless a row says otherwise.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../../tests/generator/mod.rs"]
#[allow(dead_code, unused_imports)]
mod generator;
#[path = "../../../crypto/benches/cost/report.rs"]
#[allow(dead_code)]
mod report;
#[path = "../../tests/service/server.rs"]
#[allow(dead_code)]
mod server;

mod cohort;
mod idle;
mod memory;
mod plain;
mod plain_server;
mod recovery;
mod wire;

use std::path::Path;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Measurements of which the median counts.
const RUNS: usize = 7;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, flag, config] = words.as_slice()
        && (word.as_str(), flag.as_str()) == (plain_server::WORD, "--config")
    {
        return plain_server::serve(Path::new(config));
    }
    let words: Vec<_> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let wanted = |word: &str| words.is_empty() || words.iter().any(|it| *it == word);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut rows, mut more) = (Vec::new(), Vec::new());
    // Small things first, so that what takes long disturbs nobody.
    if wanted("wire") {
        rows.extend(runtime.block_on(wire::measure(&mut more))?);
    }
    if wanted("plain") {
        rows.extend(runtime.block_on(plain::measure(&mut more))?);
    }
    if wanted("recovery") {
        rows.extend(runtime.block_on(recovery::measure(&mut more))?);
    }
    if wanted("idle") {
        rows.extend(runtime.block_on(idle::measure(&mut more))?);
    }
    if wanted("memory") {
        rows.extend(runtime.block_on(memory::measure(&mut more))?);
    }
    report::print(&rows);
    println!();
    for (key, value) in &more {
        println!("{key:<46} {value}");
    }
    report::merge(&rows, &more)
}

/// The middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Where state is kept in memory; the system's folder for temporary files where there is no such place.
fn tmpfs() -> std::path::PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

/// A folder on the disk that this was built on.
fn disk() -> Result<std::path::PathBuf> {
    report::folder()
}
