//! Peak resident memory of a coordinator process over a whole round with vectors of 10⁷ elements, and that it does not
//! grow with the cohort. Adam, whose moments triple the state, is the largest optimizer there is.

use consilium_proto::release::unpack_sum;
use serde_json::{Value, json};

use crate::{
    Result, cohort,
    generator::{Shape, expected_sum},
    report::{Bar, Row},
    server::Server,
    tmpfs,
};

const DIMENSION: u32 = 10_000_000;

pub async fn measure(more: &mut Vec<(&'static str, Value)>) -> Result<Vec<Row>> {
    let few = peak(10).await?;
    let many = peak(100).await?;
    more.push(("server_rss_mb.n10_d1e7", json!(few)));
    Ok(vec![
        Row { key: "server_rss_mb.n100_d1e7", value: many, bar: Bar::AtMost(200.0) },
        Row { key: "server_rss_growth.n10_to_n100_d1e7", value: many / few, bar: Bar::AtMost(1.1) },
    ])
}

/// Megabytes at most, after a round of so many members and after each has read the sum.
async fn peak(count: u16) -> Result<f64> {
    let shape = Shape { adam: true, ..cohort::shape(count, DIMENSION, 1) };
    let mut server = Server::start_in(&tmpfs(), cohort::coordinator(), &shape, "");
    let members = cohort::connect(&server, count).await?;
    let (members, _, took) = cohort::all(members, cohort::round).await?;
    let round = server.memory_kib("VmHWM");
    println!("memory: a round of {count} took {:.1} s, at most {round} KiB", took.as_secs_f64());
    let plan = server.consortium.plan.clone();
    cohort::all(members, |mut member| {
        let plan = plan.clone();
        async move {
            // Like a real client, which reads the sum and computes the next adapter for itself.
            let sum = member.sum(1).await?;
            if member.index == 0 {
                let sum = unpack_sum(&plan, &sum).map_err(crate::generator::Failed)?;
                let expected = expected_sum(&plan, 0..usize::from(count));
                cohort::check_sum(&sum, expected, 1)
                    .map_err(|error| crate::generator::Failed(error.to_string()))?;
            }
            Ok((member, ()))
        }
    })
    .await?;
    let peak = server.memory_kib("VmHWM");
    println!("memory: after all have read the sum, at most {peak} KiB");
    server.terminate();
    if !server.end().success() {
        return Err(format!("the coordinator failed:\n{}", server.text()).into());
    }
    Ok(peak as f64 * 1024.0 / 1e6)
}
