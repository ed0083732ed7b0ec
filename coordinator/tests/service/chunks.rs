//! Uploads that lie about lengths, order, number and round.

use consilium_proto::wire::UploadPart;
use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tonic::Code;

use crate::{
    generator::{Said, Shape, Wire, tls},
    raw,
    server::Server,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_about_chunks_is_refused_by_name_and_the_honest_upload_is_taken() {
    let server = Server::start(&Shape::default(), "");
    let mut liar = server.member(0).await;
    let early = liar.send(vec![UploadPart { round: 1, attempt: 1, ..Default::default() }]).await;
    assert_eq!(early.unwrap_err().message(), "no-attempt");
    let others: Vec<_> = server
        .members(1..5)
        .await
        .into_iter()
        .map(|mut it| tokio::spawn(async move { it.round().await.map(|_| it) }))
        .collect();
    assert_eq!(liar.go().await.unwrap(), Said::UploadWanted(0));
    assert_eq!(liar.masked.as_ref().unwrap().chunks.len(), 4);
    let who = liar.identity.id.to_string();

    let good = |index: u32| liar.part(index);
    let bent = |index, bend: fn(&mut UploadPart)| {
        let mut part = good(index);
        bend(&mut part);
        part
    };
    let lies = [
        (vec![bent(0, |part| part.chunk.truncate(100))], "wrong-length"),
        (vec![bent(0, |part| part.chunk.push(0))], "wrong-length"),
        (vec![bent(0, |part| part.chunk[7] ^= 1)], "not-as-announced"),
        (vec![good(1)], "out-of-order"),
        (vec![bent(0, |part| part.index = u32::MAX)], "out-of-order"),
        (vec![bent(0, |part| part.attempt = 2)], "no-attempt"),
        (vec![bent(0, |part| part.round = 2)], "no-attempt"),
        (vec![bent(0, |part| part.chunk = vec![0; 3 << 20])], "too-large"),
        (vec![good(0), good(0)], "chunk-repeated"),
        (vec![good(1), good(3)], "out-of-order"),
        (vec![good(2), good(1)], "chunk-repeated"),
    ];
    for (parts, code) in lies {
        let told: Vec<_> = parts.iter().map(|part| (part.index, part.chunk.len())).collect();
        let error = liar.send(parts).await.unwrap_err();
        let expected = if code == "too-large" { Code::OutOfRange } else { Code::FailedPrecondition };
        assert_eq!(error.code(), expected, "{told:?}: {error}");
        assert!(code == "too-large" || error.message().starts_with(code), "{told:?}: {error}");
        server.refused(code, &who, 1);
    }
    // Three chunks came through on the way; the last one is all that is wanted.
    liar.upload(3).await.unwrap();
    liar.round().await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    server.check(&mut liar, 1, &[0, 1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_chunks_are_named_and_asked_for_again() {
    let server = Server::start(&Shape::default(), "");
    let mut members = server.members(0..5).await;
    let mut forgetful = members.remove(0);
    let others: Vec<_> =
        members.into_iter().map(|mut it| tokio::spawn(async move { it.round().await.map(|_| it) })).collect();
    assert_eq!(forgetful.go().await.unwrap(), Said::UploadWanted(0));
    let who = forgetful.identity.id.to_string();
    let error = forgetful.send(vec![forgetful.part(0), forgetful.part(1)]).await.unwrap_err();
    assert_eq!(error.code(), Code::Aborted, "{error}");
    server.refused("chunks-missing", &who, 1);
    // As the real client does: a new session, which is asked for the rest alone.
    let mut again = forgetful.reconnect(&server.consortium, server.address).await.unwrap();
    let wanted = again.go().await.unwrap();
    assert_eq!(wanted, Said::UploadWanted(2), "what was acknowledged is not asked for again");
    again.upload(2).await.unwrap();
    again.round().await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    server.check(&mut again, 1, &[0, 1, 2, 3, 4]).await;
}

/// Lengths in gRPC's own framing, where no library would let us lie.
#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_lie_in_the_framing_are_refused_by_name() {
    let server = Server::start(&Shape::default(), "");
    let before = server.memory_kib("VmRSS");
    let part = UploadPart { round: 1, attempt: 1, index: 0, chunk: vec![7; 100] }.encode_to_vec();
    let whole = part.len() as u32;
    let mut inner = part.clone();
    // The chunk's own length, inside the message: it claims far more than follows.
    let place = inner.len() - 101;
    assert_eq!(inner[place], 100);
    inner[place] = 0x7f;
    for (who, claimed, bytes, code) in [
        ("org-0000", u32::MAX, &part, "too-large"),
        ("org-0001", 5 << 20, &part, "too-large"),
        ("org-0002", whole + 1, &part, "not-decodable"),
        ("org-0003", whole - 1, &part, "not-decodable"),
        ("org-0004", whole, &inner, "not-decodable"),
    ] {
        let index = who[4..].parse::<usize>().unwrap();
        let identity = &server.consortium.organizations[index];
        let roster = server.consortium.roster.clone();
        let mut stream = tls(server.address, identity, roster, Wire::default().into()).await.unwrap();
        let said = [
            raw::opening(),
            raw::frame(raw::HEADERS, raw::END_HEADERS, 1, &raw::call("Aggregation/Upload")),
            raw::frame(raw::DATA, raw::END_STREAM, 1, &raw::message(claimed, bytes)),
        ];
        stream.write_all(&said.concat()).await.unwrap();
        stream.flush().await.unwrap();
        server.refused(code, who, 1);
    }
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more than before");
    let members = server.members(0..5).await;
    server.complete(members, 1).await;
}
