//! Connections that die without a word, and lines that forget idle ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    time::{sleep, timeout},
};

use crate::{
    generator::{Member, Said, Shape},
    server::Server,
};

/// A line on the way to the coordinator. Once cut, it passes nothing on and closes nothing; with `idle`, it closes a
/// connection over which nothing went for so long, as firewalls do.
async fn line(server: std::net::SocketAddr, idle: Duration) -> (std::net::SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, cut) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let is_cut = cut.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = TcpStream::connect(server).await.unwrap().into_split();
            tokio::spawn(pass(near_read, far_write, idle, is_cut.clone()));
            tokio::spawn(pass(far_read, near_write, idle, is_cut.clone()));
        }
    });
    (address, cut)
}

async fn pass(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    idle: Duration,
    cut: Arc<AtomicBool>,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = match timeout(idle, from.read(&mut bytes)).await {
            Ok(Ok(read)) if read > 0 => read,
            _ if cut.load(Ordering::Relaxed) => 0,
            _ => return,
        };
        if cut.load(Ordering::Relaxed) {
            // Half open: both ends believe in it.
            sleep(Duration::from_secs(600)).await;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_found_and_ends_its_members_step_after_the_grace() {
    // Ten minutes for each step: only the grace can end them in time.
    let server = Server::start(&Shape { deadline_s: 600, grace_s: 1, ..Shape::default() }, "keepalive_s = 1");
    let (address, cut) = line(server.address, Duration::from_secs(600)).await;
    let mut lost = Member::connect(&server.consortium, 0, address).await.unwrap();
    let others: Vec<_> = server
        .members(1..5)
        .await
        .into_iter()
        .map(|mut it| tokio::spawn(async move { it.round().await.map(|_| it) }))
        .collect();
    assert_eq!(lost.go().await.unwrap(), Said::UploadWanted(0));
    cut.store(true, Ordering::Relaxed);
    server.refused("connection-dead", "org-0000", 1);
    let mut back = Vec::new();
    for other in others {
        back.push(other.await.unwrap().unwrap());
    }
    server.check(&mut back[0], 1, &[1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_ends_its_members_step_after_the_grace() {
    let server = Server::start(&Shape { deadline_s: 600, grace_s: 1, ..Shape::default() }, "");
    let mut members = server.members(0..5).await;
    let mut leaver = members.remove(0);
    let others: Vec<_> =
        members.into_iter().map(|mut it| tokio::spawn(async move { it.round().await.map(|_| it) })).collect();
    assert_eq!(leaver.go().await.unwrap(), Said::UploadWanted(0));
    drop(leaver);
    let mut back = Vec::new();
    for other in others {
        back.push(other.await.unwrap().unwrap());
    }
    server.check(&mut back[0], 1, &[1, 2, 3, 4]).await;
}

/// The default asks every 10 s, and lines forget after minutes; here the same in seconds.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_survives_a_line_that_forgets_idle_connections() {
    let server = Server::start(&Shape::default(), "keepalive_s = 1");
    let (address, _) = line(server.address, Duration::from_secs(4)).await;
    let mut idle = Member::connect(&server.consortium, 0, address).await.unwrap();
    // Nobody else is there: nothing is said for three times as long as the line remembers.
    let heard = timeout(Duration::from_secs(12), idle.hear()).await;
    assert!(heard.is_err(), "the session ended, or something was said: {heard:?}");
    let mut members = server.members(1..5).await;
    members.push(idle);
    server.complete(members, 1).await;
}
