//! What a session has going on beside its stream: uploads of masked vectors, and fetching what was published.

use std::sync::Arc;

use consilium_proto::wire::{ReleasesRequest, SignedReleaseHead, UploadPart, release_part};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{BACKOFF, Client, LinkEvent, words};

pub(super) async fn upload(
    mut client: Client,
    round: u32,
    attempt: u32,
    chunks: &Arc<Vec<Vec<u8>>>,
    from: u32,
) -> Result<(), Status> {
    let (out, parts) = mpsc::channel(2);
    let chunks = chunks.clone();
    tokio::spawn(async move {
        for (index, chunk) in (0..).zip(chunks.iter()).skip(from as usize) {
            if out.send(UploadPart { round, attempt, index, chunk: chunk.clone() }).await.is_err() {
                return;
            }
        }
    });
    match client.upload(ReceiverStream::new(parts)).await {
        // The attempt ended meanwhile: nothing to mend.
        Err(status) if status.code() == tonic::Code::FailedPrecondition => {
            tracing::info!(round, attempt, refused = status.message(), "upload refused");
            Ok(())
        }
        other => other.map(drop),
    }
}

pub(super) async fn fetch(
    mut client: Client,
    from_round: u32,
    sum_bytes: usize,
    report: mpsc::Sender<LinkEvent>,
) {
    if let Err(status) = fetch_all(&mut client, from_round, sum_bytes, &report).await {
        tracing::warn!(why = words(&status), "fetching releases stopped");
        sleep(BACKOFF.0).await;
    }
    drop(report.send(LinkEvent::ReleasesEnded).await);
}

async fn fetch_all(
    client: &mut Client,
    from_round: u32,
    sum_bytes: usize,
    report: &mpsc::Sender<LinkEvent>,
) -> Result<(), Status> {
    let mut parts = client.releases(ReleasesRequest { from_round }).await?.into_inner();
    let mut current: Option<(SignedReleaseHead, Vec<u8>)> = None;
    while let Some(part) = parts.message().await? {
        match part.kind {
            Some(release_part::Kind::Head(head)) => current = Some((head, Vec::with_capacity(sum_bytes))),
            Some(release_part::Kind::Sum(bytes)) => {
                let (_, sum) = current.as_mut().ok_or_else(|| Status::data_loss("a sum without a head"))?;
                if sum.len() + bytes.len() > sum_bytes {
                    return Err(Status::data_loss("a sum longer than the plan's"));
                }
                sum.extend_from_slice(&bytes);
            }
            None => {}
        }
        if current.as_ref().is_some_and(|(_, sum)| sum.len() == sum_bytes)
            && let Some((head, sum)) = current.take()
        {
            drop(report.send(LinkEvent::Release { head, sum }).await);
        }
    }
    Ok(())
}
