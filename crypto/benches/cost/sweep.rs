//! Client and coordinator over cohorts of 10 to 1000 and vectors of 10⁴ to 10⁷ elements, nobody dropped.

use serde_json::json;

use crate::{
    RUNS, Result,
    clock::{Steps, median},
    cohort::{Cohort, Shape},
    plot::{self, Line},
    report, round,
};

const COHORTS: [u16; 5] = [10, 30, 100, 300, 1000];
const DIMENSIONS: [u32; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// Above this many seconds a point is measured once.
const LONG: f64 = 1.0;

/// Measures, prints, draws.
pub fn measure() -> Result<()> {
    println!(
        "\nsweep, 24 bits, nobody dropped; seconds of processor time, medians of {RUNS}, or one run if above {LONG} s"
    );
    println!("{:>6} {:>10} {:>10} {:>12}", "n", "d", "client", "coordinator");
    let (mut clients, mut coordinators, mut points) = (Vec::new(), Vec::new(), Vec::new());
    for n in COHORTS {
        let (mut client, mut coordinator) = (Vec::new(), Vec::new());
        for dimension in DIMENSIONS {
            let cohort = Cohort::play(Shape { n, dimension, dropped: 0, bits: 24 }, false)?;
            let (c, s) = (middle(|| round::client(&cohort))?, middle(|| round::coordinator(&cohort))?);
            println!("{n:>6} {dimension:>10} {c:>10.4} {s:>12.4}");
            client.push((f64::from(dimension), c));
            coordinator.push((f64::from(dimension), s));
            points.push(json!({ "n": n, "d": dimension, "client_cpu_s": c, "server_cpu_s": s }));
        }
        clients.push(Line { name: format!("n = {n}"), points: client });
        coordinators.push(Line { name: format!("n = {n}"), points: coordinator });
    }
    let svg = plot::draw(
        "Secure aggregation, one round, one thread, nobody dropped",
        [("one client", &clients), ("the coordinator", &coordinators)],
    );
    let path = report::folder()?.join("secure-aggregation.svg");
    std::fs::write(&path, svg)?;
    println!("{}", path.display());
    report::merge(&[], &[("sweep", json!(points))])
}

fn middle(run: impl Fn() -> Result<Steps>) -> Result<f64> {
    let mut runs = vec![run()?.total()];
    while runs.len() < RUNS && runs[0] < LONG {
        runs.push(run()?.total());
    }
    Ok(median(runs))
}
