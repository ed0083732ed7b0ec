//! What a simulated round costs, held against its bars:
//! `cargo bench -p consilium-simulations --bench rounds [-- plain|secure|large]`; without a word, all.
//!
//! Every party's own keys, shares, masks and releases are computed for itself (what all are shown alike, an announcement, a step's
//! headers or a release's head, is verified once); training is the synthetic task's, one patient a lot. Of a job of three rounds the middle of the second and third counts (of a thousand organizations, where a round takes
//! minutes, the second of two): in the first, organizations also prove that their state is the newest.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../../crypto/benches/cost/report.rs"]
#[allow(dead_code)]
mod report;

use consilium_simulations::{
    Scenario, World,
    log::Log,
    out::{
        result::cpu_seconds,
        rounds::{Rounds, Row},
    },
    scenario::{Protocol, TaskKind},
};
use report::Bar;
use serde_json::json;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |word: &str| words.is_empty() || words.iter().any(|it| it == word);
    let (mut rows, mut more) = (Vec::new(), Vec::new());
    if wanted("plain") {
        let seconds = middle(&rounds(Protocol::Plain, 1000, 10, 7)?, |row| row.seconds);
        rows.push(report::Row { key: "sim_plain_round_s.n1000", value: seconds, bar: Bar::AtMost(0.25) });
        let seconds = middle(&rounds(Protocol::Plain, 10_000, 10, 3)?, |row| row.seconds);
        rows.push(report::Row { key: "sim_plain_round_s.n10000", value: seconds, bar: Bar::AtMost(3.0) });
    }
    if wanted("secure") {
        let measured = rounds(Protocol::Secure, 100, 100_000, 3)?;
        let cpu = middle(&measured, |row| row.cpu_seconds);
        let key = "sim_secure_round_cpu_s.n100_d1e5";
        rows.push(report::Row { key, value: cpu, bar: Bar::AtMost(4.0) });
        more.push(("sim_secure_first_round_cpu_s.n100_d1e5", json!(measured[0].cpu_seconds)));
    }
    if wanted("large") {
        forget_peak();
        let measured = rounds(Protocol::Secure, 1000, 1000, 2)?;
        let key = "sim_secure_round_s.n1000_d1e3";
        rows.push(report::Row { key, value: measured[1].seconds, bar: Bar::AtMost(300.0) });
        more.push(("sim_secure_first_round_s.n1000_d1e3", json!(measured[0].seconds)));
        if let Some(value) = peak_mb() {
            rows.push(report::Row { key: "sim_peak_mb.n1000_d1e3", value, bar: Bar::AtMost(4096.0) });
        }
    }
    report::print(&rows);
    println!();
    for (key, value) in &more {
        println!("{key:<46} {value}");
    }
    report::merge(&rows, &more)
}

/// Runs so many rounds of the synthetic task, all of which are released.
fn rounds(protocol: Protocol, organizations: u32, dimension: u32, rounds: u32) -> Result<Vec<Row>> {
    let mut scenario = Scenario { protocol, ..Scenario::new(organizations, rounds) };
    scenario.task = TaskKind::Synthetic { dimension };
    scenario.privacy.lot = 1.0;
    // Evaluation is no part of a round.
    scenario.evaluation.every_rounds = rounds + 1;
    let began = cpu_seconds();
    let mut world = World::new(scenario, Log::default())?;
    let mut rows = Rounds::new(&world);
    let mut seen = Vec::new();
    while let Some(attempt) = world.next_attempt()? {
        seen.extend(rows.attempt(&world, attempt).map_err(|error| error.to_string())?);
    }
    world.report()?;
    assert!(seen.iter().all(|row| row.outcome == "released" && row.dropped == 0));
    eprintln!(
        "{organizations} organizations, d = {dimension}: {:.1} CPU-seconds in all",
        cpu_seconds() - began
    );
    Ok(seen)
}

/// The middle value, the first round left out.
fn middle(rows: &[Row], of: impl Fn(&Row) -> f64) -> f64 {
    let mut values: Vec<f64> = rows.iter().skip(1).map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get((values.len() - 1) / 2).copied().unwrap_or(f64::NAN)
}

/// What this process needed before does not count (`proc(5)`).
fn forget_peak() {
    // Where that cannot be written, the peak is the whole process's, which is more.
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

/// Most memory that this process has had, megabytes.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
