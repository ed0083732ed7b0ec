//! More connections, calls, streams and messages than allowed.

use std::collections::BTreeSet;

use consilium_proto::wire::{
    StatusRequest, UploadPart, client_message::Kind as Say, operator_client::OperatorClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    generator::{Shape, Wire, channel, tls},
    raw,
    server::{Server, wait_for},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_wants_too_much_harms_itself_alone() {
    let limits = "connections = 3\ncalls = 4\ncalls_per_s = 20\nmessages_per_s = 20";
    let server = Server::start(&Shape { members: 7, ..Shape::default() }, limits);
    let roster = server.consortium.roster.clone();
    let greedy = server.consortium.organizations[6].clone();
    let connect =
        async || tls(server.address, &greedy, roster.clone(), Wire::default().into()).await.unwrap();

    // Connections: the oldest makes room, whatever its age.
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = connect().await;
        stream.write_all(&raw::opening()).await.unwrap();
        held.push(stream);
    }
    server.refused("connection-replaced", "org-0006", 5);
    let mut first = Vec::new();
    assert!(held[0].read_to_end(&mut first).await.is_ok() || !first.is_empty());

    // Calls of an operator that watches and watches: each beyond the fourth is refused, and told so.
    let operator = &server.consortium.operator;
    let mut stream = tls(server.address, operator, roster.clone(), Wire::default().into()).await.unwrap();
    let mut said = raw::opening();
    for stream in 0..30 {
        said.extend(raw::frame(raw::HEADERS, raw::END_HEADERS, 2 * stream + 1, &raw::call("Operator/Watch")));
        said.extend(raw::frame(raw::DATA, raw::END_STREAM, 2 * stream + 1, &raw::message(0, &[])));
    }
    stream.write_all(&said).await.unwrap();
    server.refused("too-many-calls", "operator", 1);
    let (mut heard, mut part) = (Vec::new(), [0; 4096]);
    while ended(&heard).len() < 26 {
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "the connection ended, and {:?} streams", ended(&heard));
        heard.extend_from_slice(&part[..read]);
    }
    drop((held, stream));

    // Calls a second.
    let wire = Wire::default();
    let operator =
        channel(server.address, &server.consortium.operator, roster.clone(), wire.into()).await.unwrap();
    let mut operator = OperatorClient::new(operator);
    let mut refused = 0;
    for _ in 0..200 {
        if let Err(status) = operator.status(StatusRequest {}).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            refused += u32::from(status.message().starts_with("calls-too-fast"));
        }
    }
    assert!(refused > 0);
    server.refused("calls-too-fast", "operator", 1);

    // Messages: they wait, in the sender's own connection.
    let member = server.member(6).await;
    let refusal =
        consilium_proto::wire::Refusal { round: 7, attempt: 1, code: "none".into(), complaint: Vec::new() };
    for _ in 0..60 {
        member.say(Say::Refusal(refusal.clone())).await.unwrap();
    }
    server.refused("messages-too-fast", "org-0006", 1);

    // A second upload takes the place of the first.
    let (_parts, outgoing) = mpsc::channel::<UploadPart>(1);
    let mut client = member.client.clone();
    let first = tokio::spawn(async move { client.upload(ReceiverStream::new(outgoing)).await });
    let replaced = loop {
        let (_none, outgoing) = mpsc::channel::<UploadPart>(1);
        let mut client = member.client.clone();
        let second = tokio::spawn(async move { client.upload(ReceiverStream::new(outgoing)).await });
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        second.abort();
        if first.is_finished() {
            break first.await.unwrap().unwrap_err();
        }
    };
    assert!(replaced.message().starts_with("upload-replaced"), "{replaced}");
    drop(member);

    let members = server.members(0..6).await;
    server.complete(members, 1).await;
}

/// Streams that the other side has ended.
fn ended(mut bytes: &[u8]) -> BTreeSet<u32> {
    let mut streams = BTreeSet::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let [_, _, _, kind, flags, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if kind == raw::RST_STREAM || (kind == raw::HEADERS && flags & raw::END_STREAM != 0) {
            streams.insert(u32::from_be_bytes(stream));
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    streams
}

/// Streams that are opened and reset at once, again and again (CVE-2023-44487).
#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection_and_nothing_else() {
    let server = Server::start(&Shape::default(), "");
    let before = server.memory_kib("VmRSS");
    let identity = &server.consortium.organizations[0];
    let roster = server.consortium.roster.clone();
    let mut stream = tls(server.address, identity, roster, Wire::default().into()).await.unwrap();
    stream.write_all(&raw::opening()).await.unwrap();
    let mut number = 1;
    let ended = loop {
        let mut said = Vec::new();
        for _ in 0..100 {
            said.extend(raw::frame(raw::HEADERS, raw::END_HEADERS, number, &raw::call("Aggregation/Upload")));
            said.extend(raw::frame(raw::RST_STREAM, 0, number, &[0, 0, 0, 8]));
            number += 2;
        }
        if stream.write_all(&said).await.is_err() || stream.flush().await.is_err() || number > 2_000_000 {
            break number;
        }
    };
    assert!(ended < 2_000_000, "nobody minded");
    wait_for(
        "a name for it",
        || server.text(),
        || {
            let named =
                ["http2-broken", "calls-too-fast"].iter().any(|code| server.total(code, "org-0000") > 0);
            named.then_some(())
        },
    );
    let members = server.members(0..5).await;
    server.complete(members, 1).await;
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more than before");
}
