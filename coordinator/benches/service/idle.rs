//! A thousand clients that are connected and have nothing to do, and an operator who asks how it goes.

use std::{
    fs,
    time::{Duration, Instant},
};

use consilium_proto::wire::{StatusRequest, operator_client::OperatorClient};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    Result, cohort,
    generator::{Wire, channel},
    median,
    report::{Bar, Row},
    server::Server,
    tmpfs,
};

const MEMBERS: u16 = 1000;
/// How long they are watched, three times as long as between two keepalives.
const WATCHED: Duration = Duration::from_secs(30);

pub async fn measure(more: &mut Vec<(&'static str, Value)>) -> Result<Vec<Row>> {
    let server = Server::start_in(&tmpfs(), cohort::coordinator(), &cohort::shape(MEMBERS, 100_000, 1), "");
    let members = cohort::connect(&server, MEMBERS).await?;
    // Invited, they do not answer: the step has an hour.
    sleep(Duration::from_secs(5)).await;
    let (used, began) = (processor_seconds(server.id())?, Instant::now());
    sleep(WATCHED).await;
    let share = 100.0 * (processor_seconds(server.id())? - used) / began.elapsed().as_secs_f64();
    let memory = server.memory_kib("VmRSS") as f64 * 1024.0 / 1e6;
    let peak = server.memory_kib("VmHWM") as f64 * 1024.0 / 1e6;
    let (roster, wire) = (server.consortium.roster.clone(), Wire::default());
    let operator = channel(server.address, &server.consortium.operator, roster, wire.into()).await;
    let mut operator = OperatorClient::new(operator.map_err(|error| error.to_string())?);
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        let status = operator.status(StatusRequest {}).await?.into_inner();
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        let online = status.members.iter().filter(|member| member.online).count();
        if online != members.len() {
            return Err(format!("{online} of {} are online", members.len()).into());
        }
        // Within what an operator may ask.
        sleep(Duration::from_millis(25)).await;
    }
    more.push(("idle_rss_peak_mb.n1000", json!(peak)));
    Ok(vec![
        Row { key: "idle_rss_mb.n1000", value: memory, bar: Bar::AtMost(150.0) },
        Row { key: "idle_cpu_percent.n1000", value: share, bar: Bar::AtMost(5.0) },
        Row { key: "status_ms", value: median(times), bar: Bar::AtMost(5.0) },
    ])
}

/// Processor time that a process has used; the kernel counts in hundredths of a second.
fn processor_seconds(id: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}
