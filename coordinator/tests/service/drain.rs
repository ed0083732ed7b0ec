//! SIGTERM: what was accepted is finished, the log says so, the exit code is 0, and a restart goes on.

use consilium_proto::wire::UploadPart;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    generator::{Failed, Said, Shape},
    server::{Server, wait_for},
};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_mid_upload_keeps_what_was_acknowledged_and_exits_0() {
    let mut server = Server::start(&Shape::default(), "drain_s = 5");
    let mut members = server.members(0..5).await;
    let mut slow = members.remove(0);
    let others: Vec<_> = members
        .into_iter()
        .map(|mut it| {
            tokio::spawn(async move {
                assert_eq!(it.go().await.unwrap(), Said::UploadWanted(0));
                it.upload(0).await.unwrap();
                it
            })
        })
        .collect();
    assert_eq!(slow.go().await.unwrap(), Said::UploadWanted(0));
    let mut members = Vec::new();
    for other in others {
        members.push(other.await.unwrap());
    }
    let (parts, outgoing) = mpsc::channel::<UploadPart>(1);
    let mut client = slow.client.clone();
    let call = tokio::spawn(async move { client.upload(ReceiverStream::new(outgoing)).await });
    for index in 0..2 {
        parts.send(slow.part(index)).await.unwrap();
    }
    // Both are with the coordinator, and the call is open.
    let (file, frame) = (server.input("org-0000", 1), slow.part(0).chunk.len() as u64 + 4);
    wait_for("two chunks", || server.text(), || (file_length(&file) >= 2 * frame).then_some(()));
    server.terminate();
    let told = call.await.unwrap().unwrap_err();
    assert_eq!(told.code(), Code::Unavailable, "{told}");
    let Err(Failed(why)) = slow.go().await else { panic!("the session went on") };
    assert!(why.starts_with("Unavailable") && why.contains("stopping"), "{why}");
    for mut member in members {
        assert!(member.go().await.is_err(), "a step ended");
    }
    assert_eq!(server.end().code(), Some(0), "{}", server.text());
    for message in ["draining", "drained", "stopped"] {
        assert_eq!(server.lines(message).len(), 1, "{message}:\n{}", server.text());
    }

    // The same attempt goes on: what was acknowledged is not asked for again.
    server.again();
    let mut again = slow.reconnect(&server.consortium, server.address).await.unwrap();
    assert_eq!(again.go().await.unwrap(), Said::UploadWanted(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_do_not_end_are_cut_when_their_time_is_up() {
    let mut server = Server::start(&Shape { dimension: 2_000_000, ..Shape::default() }, "drain_s = 1");
    let mut members = server.complete(server.members(0..5).await, 1).await;
    // A reader that does not read would hold the process for ever.
    let request = consilium_proto::wire::ReleasesRequest { from_round: 1 };
    let unread = members[0].client.releases(request).await.unwrap();
    server.terminate();
    assert_eq!(server.end().code(), Some(0), "{}", server.text());
    drop(unread);
    assert_eq!(server.lines("stopped").len(), 1);
}

fn file_length(path: &std::path::Path) -> u64 {
    path.metadata().map_or(0, |file| file.len())
}
