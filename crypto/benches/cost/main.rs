//! What the product costs, held against its bars: `cargo bench -p consilium-crypto --bench cost [-- rows|sweep]`.
//!
//! `rows` measures the bars and writes them to `target/bench/summary.json`; `sweep` measures cohorts of 10 to 1000 and
//! vectors of 10⁴ to 10⁷ elements and draws `target/bench/secure-aggregation.svg`. Without a word, both. Everything is
//! processor time of one thread. Around one real client and one real coordinator the cohort is generated (see
//! [`cohort`]), outside of what is measured.
#![allow(missing_docs, unreachable_pub)]

mod calibration;
mod clock;
mod cohort;
mod messages;
mod operations;
mod plot;
mod privacy;
mod report;
mod round;
mod rows;
mod speed;
mod sweep;
mod vectors;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Runs of which the median counts.
const RUNS: usize = 5;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |word| words.is_empty() || words.iter().any(|it| it == word);
    if wanted("rows") {
        rows::measure()?;
    }
    if wanted("sweep") {
        sweep::measure()?;
    }
    Ok(())
}
