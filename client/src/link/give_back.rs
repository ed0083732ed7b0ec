//! Releases on their way back to a coordinator that has lost them, part by part from the files they are kept in.

use std::io::Read as _;

use consilium_proto::wire::{ReleasePart, release_part::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Client;
use crate::kept::Kept;

/// Bytes of a sum in one part.
const PART: usize = 64 << 10;

/// Sends releases in order; ends at the first that cannot be read, since the next does not follow without it.
pub(super) async fn give_back(mut client: Client, releases: Vec<Kept>) -> Result<(), Status> {
    let (out, parts) = mpsc::channel(2);
    let reader = tokio::task::spawn_blocking(move || {
        for kept in releases {
            if let Err(why) = send(&kept, &out) {
                tracing::warn!(round = kept.round, why, "a kept release cannot be given back");
                return;
            }
        }
    });
    let receipt = client.restore(ReceiverStream::new(parts)).await?.into_inner();
    drop(reader.await);
    tracing::info!(event = "gave-back", releases = receipt.taken);
    Ok(())
}

fn send(kept: &Kept, out: &mpsc::Sender<ReleasePart>) -> Result<(), String> {
    let send = |kind| out.blocking_send(ReleasePart { kind: Some(kind) }).map_err(|_| "the stream closed");
    send(Kind::Head(kept.read_head().map_err(|e| e.to_string())?))?;
    let mut file = std::fs::File::open(&kept.sum).map_err(|e| e.to_string())?;
    loop {
        let mut part = Vec::new();
        std::io::Read::by_ref(&mut file)
            .take(PART as u64)
            .read_to_end(&mut part)
            .map_err(|e| e.to_string())?;
        if part.is_empty() {
            return Ok(());
        }
        send(Kind::Sum(part))?;
    }
}
