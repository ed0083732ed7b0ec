//! Peers that are slow on purpose, at every depth of the protocol stack, all at once; a round completes beside them.

use std::time::Duration;

use consilium_proto::wire::{ClientMessage, CoordinatorMessage, UploadPart};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::{
    generator::{Said, Shape, Wire, tls},
    raw,
    server::Server,
};

/// One byte every so often, until the other side has had enough.
async fn trickle(mut to: impl AsyncWrite + Unpin, bytes: Vec<u8>) {
    for byte in bytes {
        if to.write_all(&[byte]).await.is_err() || to.flush().await.is_err() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(600)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_peers_are_cut_by_name_at_every_depth_while_a_round_completes() {
    let limits = "handshake_s = 2\nhello_s = 1\nstall_s = 2\nkeepalive_s = 1";
    let server = Server::start(&Shape { members: 10, ..Shape::default() }, limits);
    let before = server.memory_kib("VmRSS");
    let identity = |index: usize| server.consortium.organizations[index].clone();
    let connect = async |index| {
        tls(server.address, &identity(index), server.consortium.roster.clone(), Wire::default().into())
            .await
            .unwrap()
    };

    // Nothing at all; a TLS record whose rest trickles; TLS and then nothing; a preface that trickles.
    let silent: Vec<_> = {
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        silent
    };
    let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], [0; 200].as_slice()].concat();
    for _ in 0..5 {
        tokio::spawn(trickle(TcpStream::connect(server.address).await.unwrap(), hello.clone()));
    }
    let unspoken = connect(7).await;
    tokio::spawn(trickle(connect(7).await, raw::PREFACE.to_vec()));

    // Headers that trickle; a frame whose payload trickles: neither lets its sender answer a ping.
    let mut headers = raw::frame(raw::HEADERS, 0, 1, &raw::call("Aggregation/Session"));
    headers.extend(raw::frame(raw::CONTINUATION, 0, 1, &[0; 100]));
    let mut stream = connect(8).await;
    stream.write_all(&raw::opening()).await.unwrap();
    tokio::spawn(trickle(stream, headers));
    let mut stream = connect(9).await;
    let call = raw::frame(raw::HEADERS, raw::END_HEADERS, 1, &raw::call("Aggregation/Upload"));
    stream.write_all(&[raw::opening(), call].concat()).await.unwrap();
    tokio::spawn(trickle(stream, raw::frame(raw::DATA, 0, 1, &[0; 4000])));

    // A session that never greets, on a connection that is otherwise fine.
    let mut mute = server.member(6).await;
    let (_say, outgoing) = mpsc::channel::<ClientMessage>(1);
    let mut unanswered: Streaming<CoordinatorMessage> =
        mute.client.session(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let told = unanswered.message().await.unwrap_err();
    assert!(told.code() == Code::InvalidArgument && told.message().starts_with("hello-late"), "{told}");

    for code in ["handshake-late", "connection-dead", "hello-late"] {
        let (who, times): (&[&str], _) = match code {
            "handshake-late" => (&[""], 12),
            "hello-late" => (&["org-0006"], 1),
            _ => (&["org-0008", "org-0009"], 1),
        };
        who.iter().for_each(|who| server.refused(code, who, times));
    }
    drop((silent, unspoken, mute));

    // Seven honest members, of whom one stalls in the middle of its upload and comes back.
    let mut members = server.members(0..7).await;
    let mut staller = members.remove(0);
    let others: Vec<_> =
        members.into_iter().map(|mut it| tokio::spawn(async move { it.round().await.map(|_| it) })).collect();
    assert_eq!(staller.go().await.unwrap(), Said::UploadWanted(0));
    let (parts, stalled) = mpsc::channel::<UploadPart>(1);
    parts.send(staller.part(0)).await.unwrap();
    let error = staller.client.upload(ReceiverStream::new(stalled)).await.unwrap_err();
    assert!(
        error.code() == Code::DeadlineExceeded && error.message().starts_with("upload-stalled"),
        "{error}"
    );
    server.refused("upload-stalled", "org-0000", 1);
    staller.upload(1).await.unwrap();
    staller.round().await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    server.check(&mut staller, 1, &[0, 1, 2, 3, 4, 5, 6]).await;
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more than before");
}

/// Members that trickle their uploads hold no turn that others need.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_trickle_do_not_hold_up_the_others() {
    let server = Server::start(&Shape { members: 10, ..Shape::default() }, "uploads = 1\nstall_s = 600");
    let mut members = server.members(0..10).await;
    let slow = members.split_off(7);
    let fast: Vec<_> =
        members.into_iter().map(|mut it| tokio::spawn(async move { it.round().await.map(|_| it) })).collect();
    let slow: Vec<_> = slow
        .into_iter()
        .map(|mut it| {
            tokio::spawn(async move {
                assert_eq!(it.go().await.unwrap(), Said::UploadWanted(0));
                let (parts, outgoing) = mpsc::channel::<UploadPart>(1);
                parts.send(it.part(0)).await.unwrap();
                let mut client = it.client.clone();
                let call = tokio::spawn(async move { client.upload(ReceiverStream::new(outgoing)).await });
                (it, parts, call)
            })
        })
        .collect();
    let mut open = Vec::new();
    for member in slow {
        open.push(member.await.unwrap());
    }
    // All three are open, with one turn for everybody; now they hang up, and the round goes on without them.
    sleep(Duration::from_secs(2)).await;
    assert!(open.iter().all(|(_, _, call)| !call.is_finished()), "a slow upload within its time is not cut");
    drop(open);
    let mut back = Vec::new();
    for member in fast {
        back.push(member.await.unwrap().unwrap());
    }
    server.check(&mut back[0], 1, &[0, 1, 2, 3, 4, 5, 6]).await;
}

/// A reader of published sums that does not read holds a few parts and is cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_cut_by_name() {
    // Larger than what the reader's side takes in unasked.
    let server = Server::start(&Shape { dimension: 2_000_000, ..Shape::default() }, "stall_s = 1");
    let mut members = server.complete(server.members(0..5).await, 1).await;
    let request = consilium_proto::wire::ReleasesRequest { from_round: 1 };
    let unread = members[3].client.releases(request).await.unwrap();
    server.refused("reader-stalled", "org-0003", 1);
    drop(unread);
    server.complete(members, 2).await;
}
