//! The rows that have a bar.

use serde_json::{Value, json};

use crate::{
    RUNS, Result,
    calibration::{Prices, mask_roofline},
    clock::{Steps, median, median_run},
    cohort::{Cohort, Shape},
    operations::Operations,
    privacy,
    report::{self, Bar, Row},
    round, speed,
};

/// Measures all of them, prints the table and merges the summary.
pub fn measure() -> Result<()> {
    let mut more: Vec<(&str, Value)> = Vec::new();
    let prices = Prices::measure()?;
    prices.print();

    let shape = Shape { n: 100, dimension: 1_000_000, dropped: 0, bits: 24 };
    let (mut rows, sum) = {
        let cohort = Cohort::play(shape, true)?;
        let (mask, client) = client_beside_roofline(&cohort)?;
        print_steps("client, n = 100, d = 10^6", &client);
        let calibrated = Operations::of_client(&cohort).cost(&Prices::measure()?);
        let bar = Bar::Seconds { most: 0.15, calibrated };
        let rows = vec![
            Row { key: "mask_vs_roofline", value: mask, bar: Bar::AtMost(1.3) },
            Row { key: "client_cpu_s.n100_d1e6", value: client.total(), bar },
        ];
        (rows, speed::sum_vs_read(&cohort)?)
    };
    rows.insert(1, Row { key: "sum_vs_read", value: sum, bar: Bar::AtLeast(0.5) });

    let cohort = Cohort::play(Shape { dropped: 20, ..shape }, true)?;
    rows.push(coordinator("server_cpu_s.n100_d1e6_drop20", 1.8, &cohort)?);
    drop(cohort);

    let cohort = Cohort::play(Shape { n: 1000, dimension: 100_000, dropped: 0, bits: 24 }, true)?;
    rows.push(coordinator("server_cpu_s.n1000_d1e5", 5.0, &cohort)?);
    let runs: Vec<Steps> = (0..RUNS).map(|_| round::client(&cohort)).collect::<Result<_>>()?;
    let client = median_run(runs);
    print_steps("client, n = 1000, d = 10^5", &client);
    let calibrated = Operations::of_client(&cohort).cost(&Prices::measure()?);
    let bar = Bar::Seconds { most: 0.7, calibrated };
    rows.push(Row { key: "client_cpu_s.n1000_d1e5", value: client.total(), bar });
    drop(cohort);

    let (noise, scales) = privacy::noise()?;
    rows.extend(noise);
    more.push(("noise", scales));
    rows.extend(privacy::accountant()?);
    more.push(("calibration", calibration(&prices)));
    report::print(&rows);
    report::merge(&rows, &more)
}

/// Masking ÷ its roofline, each run beside a roofline of its own, and the client's median run.
fn client_beside_roofline(cohort: &Cohort) -> Result<(f64, Steps)> {
    let bytes = 4.0 * f64::from(cohort.shape.dimension) * f64::from(cohort.shape.n);
    let (mut ratios, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let roofline = mask_roofline() * bytes;
        let run = round::client(cohort)?;
        ratios.push(run.of(round::MASK) / roofline);
        runs.push(run);
    }
    println!("\nmasking ÷ roofline: {ratios:.3?}");
    Ok((median(ratios), median_run(runs)))
}

fn coordinator(key: &'static str, most: f64, cohort: &Cohort) -> Result<Row> {
    let runs: Vec<Steps> = (0..RUNS).map(|_| round::coordinator(cohort)).collect::<Result<_>>()?;
    let run = median_run(runs);
    print_steps(key, &run);
    let calibrated = Operations::of_coordinator(cohort).cost(&Prices::measure()?);
    Ok(Row { key, value: run.total(), bar: Bar::Seconds { most, calibrated } })
}

fn print_steps(what: &str, steps: &Steps) {
    println!("\n{what}: {:.3} s, the median of {RUNS} runs", steps.total());
    for (name, spent) in &steps.0 {
        println!("    {name:<24} {spent:>9.4} s");
    }
}

fn calibration(prices: &Prices) -> Value {
    json!({
        "aes_gb_per_s": 1e-9 / prices.aes_byte,
        "add_gb_per_s": 1e-9 / prices.add_byte,
        "sha256_gb_per_s": 1e-9 / prices.sha_byte,
        "exchange_us": 1e6 * prices.exchange,
        "verification_us": 1e6 * prices.verification,
        "multiply_add_ns": 1e9 * prices.multiply_add,
    })
}
