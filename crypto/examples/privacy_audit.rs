//! Audits the mechanism as built, and mechanisms that are broken on purpose: the table of the manual's privacy page.
//!
//! `cargo run --release -p consilium-crypto --example privacy_audit -- [SEED]`

#[path = "../tests/audit/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod audit;

use audit::{Build, DELTA, MULTIPLIER, RATE, RISK, ROUNDS, audit};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed: u8 = std::env::args().nth(1).map_or(Ok(1), |text| text.parse())?;
    println!(
        "{ROUNDS} rounds, q = {RATE}, z = {MULTIPLIER}, δ = {DELTA:e}; bounds hold with {} %",
        100.0 * (1.0 - RISK)
    );
    println!();
    println!("{:36} {:>8} {:>9}  {:>14}  verdict", "mechanism", "promised", "at least", "hits in, out");
    let mut wrong = 0;
    for build in Build::ALL {
        let finding = audit(build, seed);
        wrong += u32::from(finding.caught() == build.is_right());
        println!(
            "{:36} {:8.3} {:9.3}  {:6}, {:6}  {}",
            build.name(),
            finding.promised,
            finding.measured,
            finding.hits.0,
            finding.hits.1,
            if finding.caught() { "CAUGHT" } else { "holds" }
        );
    }
    println!("\nof {} jobs with the canary and as many without", audit::JOBS);
    if wrong > 0 { Err(format!("{wrong} verdicts are not as expected").into()) } else { Ok(()) }
}
