//! What one organization can make the coordinator keep, on its disk and in its memory.

use std::{fs, path::Path, time::Duration};

use consilium_proto::wire::UploadPart;
use tokio::{io::AsyncWriteExt as _, time::sleep};

use crate::{
    generator::{Said, Shape, Wire, tls},
    raw,
    server::{Server, wait_for},
};

/// Bytes in all files below a folder.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(it) if it.is_dir() => size(&entry.path()),
            Ok(it) => it.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Whatever it sends again, past its end, or for attempts that there are not: one vector an attempt, and none once it is over.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_fills_no_more_of_the_disk_than_its_vector() {
    let server = Server::start(&Shape::default(), "calls_per_s = 1000");
    let mut members = server.members(0..5).await;
    let mut greedy = members.remove(0);
    let others: Vec<_> =
        members.into_iter().map(|mut it| tokio::spawn(async move { it.round().await.map(|_| it) })).collect();
    assert_eq!(greedy.go().await.unwrap(), Said::UploadWanted(0));
    let masked = greedy.masked.clone().unwrap();
    let (vector, chunks): (u64, _) =
        (masked.chunks.iter().map(|chunk| chunk.len() as u64).sum(), masked.chunks.len());
    // A few bytes a chunk are the store's own.
    let most = vector + 64 * chunks as u64;
    let inputs = server.state().join("inputs");
    let file = server.input("org-0000", 1);
    let held = || file.metadata().map_or(0, |file| file.len());
    for turn in 0..40u32 {
        let upto = chunks as u32 - 1;
        let mut parts: Vec<_> = (0..upto).map(|index| greedy.part(index)).collect();
        match turn % 4 {
            0 => {}
            // Past its end, in another attempt, in another round.
            1 => parts.push(UploadPart { index: chunks as u32 + turn, ..greedy.part(0) }),
            2 => parts.iter_mut().for_each(|part| part.attempt += turn),
            _ => parts.iter_mut().for_each(|part| part.round += turn),
        }
        assert!(greedy.send(parts).await.is_err(), "turn {turn}");
        assert!(held() < most, "turn {turn}: {} bytes are kept of a vector of {vector}", held());
        let all = size(&inputs);
        assert!(all <= 5 * most, "turn {turn}: {all} bytes are kept of five vectors of {vector}");
    }
    greedy.upload(chunks as u32 - 1).await.unwrap();
    greedy.round().await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    // Told that the round is published, and a moment later nothing of it is kept.
    wait_for("the inputs to go", || server.text(), || (size(&inputs) == 0).then_some(()));
    // Nor can anything be put where no attempt is.
    assert!(greedy.send(vec![greedy.part(0)]).await.is_err());
    assert_eq!(size(&inputs), 0);
    server.check(&mut greedy, 1, &[0, 1, 2, 3, 4]).await;
}

/// It holds open all that it may, each call with most of a long message that never ends: its windows bound it.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_leaves_everything_half_said_holds_little_memory() {
    let server = Server::start(&Shape { members: 7, ..Shape::default() }, "");
    let (roster, greedy) = (server.consortium.roster.clone(), server.consortium.organizations[6].clone());
    let before = server.memory_kib("VmRSS");
    let mut held = Vec::new();
    for _ in 0..12 {
        let mut stream = tls(server.address, &greedy, roster.clone(), Wire::default().into()).await.unwrap();
        let mut said = raw::opening();
        for number in 0..12u32 {
            let stream = 2 * number + 1;
            said.extend(raw::frame(raw::HEADERS, raw::END_HEADERS, stream, &raw::call("Aggregation/Upload")));
            let half = raw::message(190_000, &[7; 5_000]);
            said.extend(raw::frame(raw::DATA, 0, stream, &half));
        }
        // Its oldest connections are closed as it opens more than four.
        if stream.write_all(&said).await.is_ok() {
            drop(stream.flush().await);
            held.push(stream);
        }
    }
    // Of uploads the newest counts, so that it holds one.
    server.refused("upload-replaced", "org-0006", 1);
    server.refused("connection-replaced", "org-0006", 8);
    sleep(Duration::from_secs(1)).await;
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB for one organization");
    let members = server.members(0..6).await;
    server.complete(members, 1).await;
    drop(held);
}
