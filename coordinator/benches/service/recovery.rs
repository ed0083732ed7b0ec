//! A coordinator killed in the middle of the uploads: how long until it serves again, and what is sent twice.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    Result, cohort, disk,
    generator::{Member, Said},
    report::{Bar, Row},
    server::Server,
};

const MEMBERS: u16 = 50;
const DIMENSION: u32 = 1_000_000;
/// Chunks that each member has acknowledged when the process dies, of 16.
const SENT: u32 = 8;

pub async fn measure(more: &mut Vec<(&'static str, Value)>) -> Result<Vec<Row>> {
    let shape = cohort::shape(MEMBERS, DIMENSION, 1);
    let mut server = Server::start_in(&disk()?, cohort::coordinator(), &shape, "");
    let members = cohort::connect(&server, MEMBERS).await?;
    let (members, _, _) = cohort::all(members, |mut member: Member| async move {
        while !matches!(member.go().await?, Said::UploadWanted(0)) {}
        // The call ends with "chunks-missing", and that is the acknowledgement of those before.
        let parts = (0..SENT).map(|index| member.part(index)).collect();
        drop(member.send(parts).await);
        Ok((member, ()))
    })
    .await?;
    server.kill();
    let began = Instant::now();
    server.again();
    let listening = began.elapsed().as_secs_f64();
    let (mut back, mut first, mut again) = (Vec::new(), None, 0);
    for member in members {
        let member = member.reconnect(&server.consortium, server.address).await.map_err(cohort::words)?;
        first.get_or_insert_with(|| began.elapsed().as_secs_f64());
        back.push(member);
    }
    let (back, wanted, _) = cohort::all(back, |mut member: Member| async move {
        let Said::UploadWanted(from) = member.go().await? else {
            return Err(crate::generator::Failed("the upload does not go on".into()));
        };
        member.upload(from).await?;
        member.round().await?;
        Ok((member, from))
    })
    .await?;
    again += wanted.iter().map(|from| SENT.saturating_sub(*from)).sum::<u32>();
    drop(back);
    server.terminate();
    server.end();
    cohort::check_sums(&server, &server.state(), MEMBERS, 1)?;
    more.push(("recovery_listening_s.n50_d1e6", json!(listening)));
    let served = first.unwrap_or(f64::INFINITY);
    Ok(vec![
        Row { key: "recovery_s.n50_d1e6", value: served, bar: Bar::AtMost(2.0) },
        Row { key: "recovery_chunks_sent_again.n50_d1e6", value: f64::from(again), bar: Bar::AtMost(0.0) },
    ])
}
