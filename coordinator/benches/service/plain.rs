//! What secrecy costs: a whole round over gRPC and TLS, without training, over a plain sum of the same ring vectors through
//! the same store, chunking and durability (see [`super::plain_server`]).
//!
//! Both coordinators are processes, alive at once; a round of the one and a round of the other take turns, so that a busy
//! machine weighs on both alike. A round is timed by its members, from the first word to when all have heard that the sum is
//! published. Neither reads the sum back.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use consilium_crypto::{
    ring,
    secagg::{CHUNK_ELEMENTS, client::MaskedInput},
};
use serde_json::{Value, json};

use crate::{
    RUNS, Result, cohort, disk,
    generator::{Failed, Member, Said, update},
    median, plain_server,
    report::{Bar, Row},
    server::Server,
    tmpfs,
};

const MEMBERS: u16 = 10;
const DIMENSION: u32 = 1_000_000;
/// Rounds whose syncs are counted, under a tracer and untimed.
const TRACED: usize = 2;

pub async fn measure(more: &mut Vec<(&'static str, Value)>) -> Result<Vec<Row>> {
    let memory = pair(&tmpfs(), false).await?;
    let on_disk = pair(&disk()?, true).await?;
    for (place, pair) in [("tmpfs", &memory), ("disk", &on_disk)] {
        println!(
            "plain: on {place}, a secure round takes {:.3} s, a plain one {:.3} s: {:.2} times",
            pair.secure, pair.plain, pair.ratio
        );
    }
    more.push(("secure_round_s.tmpfs", json!(memory.secure)));
    more.push(("plain_round_s.tmpfs", json!(memory.plain)));
    more.push(("secure_round_s.disk", json!(on_disk.secure)));
    more.push(("plain_round_s.disk", json!(on_disk.plain)));
    more.push(("secure_vs_plain_on_disk", json!(on_disk.ratio)));
    more.push(("syncs_per_round.secure", json!(on_disk.syncs.map(|syncs| syncs.0))));
    more.push(("syncs_per_round.plain", json!(on_disk.syncs.map(|syncs| syncs.1))));
    Ok(vec![Row { key: "secure_vs_plain", value: memory.ratio, bar: Bar::AtMost(2.0) }])
}

/// Medians over the same rounds, seconds; syncs a round, if they could be counted.
struct Pair {
    secure: f64,
    plain: f64,
    ratio: f64,
    syncs: Option<(f64, f64)>,
}

async fn pair(state: &Path, count_syncs: bool) -> Result<Pair> {
    // The first round warms up.
    let rounds = 1 + RUNS + if count_syncs { TRACED } else { 0 };
    let shape = cohort::shape(MEMBERS, DIMENSION, rounds as u32);
    let this = std::env::current_exe()?.to_string_lossy().into_owned();
    let mut secure = Server::start_in(state, cohort::coordinator(), &shape, "");
    let mut plain = Server::start_in(state, vec![this, plain_server::WORD.into()], &shape, "");
    let mut members = (cohort::connect(&secure, MEMBERS).await?, cohort::connect(&plain, MEMBERS).await?);
    let (mut times, mut ratios) = ((Vec::new(), Vec::new()), Vec::new());
    let mut tracers = None;
    for round in 0..rounds {
        if count_syncs && round == 1 + RUNS {
            tracers = Some((Tracer::attach(&secure), Tracer::attach(&plain)));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let (back, _, one) = cohort::all(members.0, cohort::round).await?;
        members.0 = back;
        let (back, _, other) = cohort::all(members.1, plain_round).await?;
        members.1 = back;
        if (1..=RUNS).contains(&round) {
            let (one, other) = (one.as_secs_f64(), other.as_secs_f64());
            times.0.push(one);
            times.1.push(other);
            ratios.push(one / other);
        }
    }
    let syncs = tracers.map(|(secure, plain)| (secure.count(), plain.count()));
    let syncs = syncs.and_then(|(secure, plain)| Some((secure?, plain?)));
    drop(members);
    for server in [&mut secure, &mut plain] {
        server.terminate();
        server.end();
        cohort::check_sums(server, &server.state(), MEMBERS, rounds as u32)?;
    }
    Ok(Pair { secure: median(times.0), plain: median(times.1), ratio: median(ratios), syncs })
}

/// The same vector, packed and cut in the same way, with no masks and nothing agreed on.
async fn plain_round(mut member: Member) -> Result<(Member, u64), Failed> {
    let mut uploaded = 0;
    loop {
        match member.go().await? {
            Said::UploadWanted(from) => {
                let turn = member.masking.clone();
                let _turn = match &turn {
                    Some(turns) => turns.acquire().await.ok(),
                    None => None,
                };
                let vector = update(member.plan(), member.index);
                let mut chunks = Vec::new();
                for values in vector.values().chunks(CHUNK_ELEMENTS) {
                    let mut packed = Vec::with_capacity(vector.width().packed_len(values.len()));
                    ring::pack(vector.width(), values, &mut packed);
                    chunks.push(packed);
                }
                member.masked = Some(MaskedInput { header: Vec::new(), chunks }.into());
                uploaded += member.upload(from).await?;
            }
            Said::Released(_) => return Ok((member, uploaded)),
            Said::AttemptEnded(code) => return Err(Failed(code)),
        }
    }
}

/// Counts a process's syncs from outside, so that neither program has a counter that the other lacks.
struct Tracer(Option<std::process::Child>);

impl Tracer {
    fn attach(server: &Server) -> Self {
        let traced = Command::new("strace")
            .args(["-f", "-c", "-e", "trace=fsync,fdatasync", "-p", &server.id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Self(traced.ok())
    }

    /// Syncs a round; none without a tracer.
    fn count(self) -> Option<f64> {
        let child = self.0?;
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().ok()?;
        let said = String::from_utf8_lossy(&child.wait_with_output().ok()?.stderr).into_owned();
        let calls = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let sync = matches!(fields.last(), Some(&("fsync" | "fdatasync")));
            sync.then(|| fields.get(3)?.parse::<f64>().ok()).flatten()
        };
        said.contains("% time").then(|| said.lines().filter_map(calls).sum::<f64>() / TRACED as f64)
    }
}
