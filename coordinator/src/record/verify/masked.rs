//! A sum from the masked vectors behind it, where a record holds them.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use consilium_crypto::{
    digest::Digest,
    ring,
    secagg::{Position, Revealed, chunk_digest},
};
use consilium_proto::{ids::Id, plan::VerifiedPlan};

use super::{super::input_path, Broken, broken};
use crate::record::Contents;

/// Which survivors' masked vectors of an attempt are missing; all of them where none was kept.
pub(super) fn missing(contents: &Contents, round: u32, attempt: u32, survivors: &[Id]) -> usize {
    let kept = |id: &&Id| contents.get(&input_path(round, attempt, id.as_str())).is_some();
    survivors.len() - survivors.iter().filter(kept).count()
}

/// Recomputes a sum: every vector is the one that its member's signed header commits to, and together, without the masks, they
/// are the sum that was published.
pub(super) fn check(
    folder: &Path,
    plan: &VerifiedPlan,
    revealed: &Revealed,
    (round, attempt): (u32, u32),
    survivors: &[Id],
    sum: &[u8],
) -> Result<(), Broken> {
    let params = *revealed.attempt().params();
    let chunks = params.chunk_count();
    let offset = |index: u32| (0..index).map(|before| params.chunk_len(before) as u64).sum::<u64>();
    let total: u64 = offset(chunks);
    let mut vectors = Vec::new();
    for (position, id) in revealed.survivors().iter().zip(survivors) {
        let path = input_path(round, attempt, id.as_str());
        let file = File::open(folder.join(&path)).map_err(|e| broken(&path, e))?;
        if file.metadata().map_err(|e| broken(&path, e))?.len() != total {
            return Err(broken(&path, format!("a masked vector of this plan has {total} bytes")));
        }
        let mut digests: Vec<Digest> = Vec::new();
        let mut chunk = Vec::new();
        for index in 0..chunks {
            chunk.resize(params.chunk_len(index), 0);
            file.read_exact_at(&mut chunk, offset(index)).map_err(|e| broken(&path, e))?;
            digests.push(chunk_digest(&chunk));
        }
        if !revealed.commits_to(*position, &digests) {
            return Err(broken(&path, format!("it is not the vector that {id} signed for")));
        }
        vectors.push((*position, file));
    }
    let (mut values, mut packed) = (Vec::new(), Vec::new());
    for index in 0..chunks {
        let read = |position: Position, out: &mut Vec<u8>| -> Result<(), String> {
            let (_, file) = vectors.iter().find(|(it, _)| *it == position).ok_or("a vector is missing")?;
            out.resize(params.chunk_len(index), 0);
            file.read_exact_at(out, offset(index)).map_err(|e| e.to_string())
        };
        let what = format!("the masked inputs of round {round}");
        revealed.unmask_chunk(index, read, &mut values).map_err(|e| broken(&what, e))?;
        packed.clear();
        ring::pack(plan.derived().ring, &values, &mut packed);
        let from = usize::try_from(offset(index)).unwrap_or(usize::MAX);
        if sum.get(from..from.saturating_add(packed.len())) != Some(packed.as_slice()) {
            let what = super::super::sum_path(round);
            return Err(broken(what, "the masked inputs add up to another sum"));
        }
    }
    Ok(())
}
