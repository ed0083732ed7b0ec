//! Rubbish before TLS, inside TLS, inside HTTP/2, and keys that nobody knows.

use std::sync::Arc;

use consilium_proto::{
    identity::Identity,
    wire::{ClientMessage, Hello, ProtocolMessage, StatusRequest, client_message::Kind as Say},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    generator::{Failed, Shape, Wire, channel, tls},
    raw,
    server::Server,
};

/// Bytes without any order, but always the same.
fn rubbish(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_refused_by_name_at_every_depth_while_a_round_completes() {
    let server = Server::start(&Shape::default(), "");
    let (roster, organizations) = (server.consortium.roster.clone(), &server.consortium.organizations);
    let before = server.memory_kib("VmRSS");

    // Before TLS: noise, another protocol, TLS that is none.
    for said in [rubbish(4096), b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![22; 20_000], vec![0; 5]] {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        drop(tcp.write_all(&said).await);
        drop(tcp.read(&mut [0; 64]).await);
    }
    server.refused("handshake-bad", "", 4);

    // A key that the roster does not list: named in the log.
    let stranger = Identity::generate("stranger".parse().unwrap(), [99; 32]).unwrap();
    let mut unlisted = tls(server.address, &stranger, roster.clone(), Wire::default().into()).await.unwrap();
    let alert = unlisted.read(&mut [0; 64]).await;
    assert!(matches!(alert, Err(_) | Ok(0)), "{alert:?}");
    server.refused("handshake-bad", "", 5);

    // After TLS: not HTTP/2; then, after its preface, not frames; frames that are forbidden.
    let connect = async |index: usize| {
        tls(server.address, &organizations[index], roster.clone(), Wire::default().into()).await.unwrap()
    };
    let mut inside = connect(0).await;
    inside.write_all(&rubbish(4096)).await.unwrap();
    server.refused("not-http2", "", 1);
    for (index, said) in [
        (1, rubbish(4096)),
        // Data for a stream that nobody opened; a window of nothing.
        (2, raw::frame(raw::DATA, 0, 77, b"hello")),
        (3, [raw::frame(raw::SETTINGS, 0, 0, &[]), raw::frame(8, 0, 0, &[0; 4])].concat()),
    ] {
        let mut inside = connect(index).await;
        drop(inside.write_all(&[raw::opening(), said].concat()).await);
        drop(inside.flush().await);
        server.refused("http2-broken", &format!("org-{index:04}"), 1);
    }

    // In the service: a message of no kind, a second greeting, no greeting, a call that is not for this caller.
    let mut members = server.members(0..5).await;
    members[0].say(Say::Hello(Hello::default())).await.unwrap();
    server.refused("out-of-place", "org-0000", 1);
    let told = until_it_ends(&mut members[0]).await;
    assert!(told.contains("out-of-place"), "{told}");
    let empty = members[1].client.session(tokio_stream::iter([ClientMessage { kind: None }])).await;
    drop(empty);
    server.refused("not-decodable", "org-0001", 1);
    let early = Say::Protocol(ProtocolMessage::default());
    drop(members[2].client.session(tokio_stream::iter([ClientMessage { kind: Some(early) }])).await);
    server.refused("out-of-place", "org-0002", 1);
    let large = ProtocolMessage { round: 1, attempt: 1, step: 1, body: vec![7; 50_000] };
    drop(members[3].say(Say::Protocol(large)).await);
    server.refused("too-large", "org-0003", 1);
    drop(members);

    let as_member =
        channel(server.address, &organizations[4], roster.clone(), Wire::default().into()).await.unwrap();
    let mut operator = consilium_proto::wire::operator_client::OperatorClient::new(as_member);
    let refused = operator.status(StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    server.refused("not-allowed", "org-0004", 1);

    let mut members = server.members(0..5).await;
    // Words for another attempt, another step, and words that say nothing: dropped, named, and no harm done.
    for (message, code) in [
        (ProtocolMessage { round: 9, attempt: 1, step: 1, body: Vec::new() }, "other-attempt"),
        (ProtocolMessage { round: 1, attempt: 1, step: 4, body: Vec::new() }, "other-step"),
        (ProtocolMessage { round: 1, attempt: 1, step: 1, body: rubbish(300) }, "C5"),
    ] {
        members[4].say(Say::Protocol(message)).await.unwrap();
        server.refused(code, "org-0004", 1);
    }
    members = server.complete(members, 1).await;
    server.complete(members, 2).await;
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more than before");
}

async fn until_it_ends(member: &mut crate::generator::Member) -> String {
    loop {
        if let Err(Failed(why)) = member.hear().await {
            return why;
        }
    }
}

/// Whatever a member's key is used for, it is that member's.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_roster_opens_no_other_organizations_door() {
    let server = Server::start(&Shape::default(), "");
    let one: Arc<Identity> = server.consortium.organizations[1].clone();
    // Another id with the first one's TLS key: the roster's name for the key counts, not the certificate's.
    let mut stream =
        tls(server.address, &one, server.consortium.roster.clone(), Wire::default().into()).await.unwrap();
    let call = raw::frame(raw::HEADERS, raw::END_HEADERS, 1, &raw::call("Aggregation/Session"));
    let junk = raw::frame(raw::DATA, raw::END_STREAM, 1, &raw::message(4, b"junk"));
    stream.write_all(&[raw::opening(), call, junk].concat()).await.unwrap();
    server.refused("not-decodable", "org-0001", 1);
    assert_eq!(server.total("not-decodable", "org-0000"), 0);
}
