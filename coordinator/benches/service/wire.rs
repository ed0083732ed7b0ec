//! Bytes that an upload puts on the wire, everything counted that goes through the client's socket: gRPC, HTTP/2, TLS.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::{
    Result, cohort, median,
    report::{Bar, Row},
    server::Server,
    tmpfs,
};

const MEMBERS: u16 = 100;
const DIMENSION: u32 = 1_000_000;

pub async fn measure(more: &mut Vec<(&'static str, Value)>) -> Result<Vec<Row>> {
    let shape = cohort::shape(MEMBERS, DIMENSION, 1);
    let mut server = Server::start_in(&tmpfs(), cohort::coordinator(), &shape, "");
    let members = cohort::connect(&server, MEMBERS).await?;
    let (members, uploaded, _) = cohort::all(members, cohort::round).await?;
    let d = f64::from(DIMENSION);
    let upload = median(uploaded.iter().map(|bytes| *bytes as f64 / d).collect());
    let sent = |member: &crate::generator::Member| member.wire.sent.load(Ordering::Relaxed) as f64 / d;
    let whole = median(members.iter().map(sent).collect());
    drop(members);
    server.terminate();
    server.end();
    cohort::check_sums(&server, &server.state(), MEMBERS, 1)?;
    let bare = f64::from(shape.ring_bits) / 8.0;
    more.push(("upload_bytes_per_param_bare", json!(bare)));
    more.push(("sent_bytes_per_param_whole_round", json!(whole)));
    Ok(vec![Row { key: "upload_bytes_per_param", value: upload, bar: Bar::AtMost(1.02 * bare) }])
}
