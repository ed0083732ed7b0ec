//! An adapter as an organization hands it on: does its signed manifest hold, and are its tensors the ones that follow from the
//! sums?

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use consilium_crypto::{
    release::AdapterState,
    sign::{Signature, verify},
};
use consilium_proto::{ids::Id, plan::VerifiedPlan, roster::VerifiedRoster};
use serde::Deserialize;

use super::{
    contents::{measure, walk},
    verify::{Broken, broken, read, text},
};

const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "manifest.json.sig";
const SIGNED_AS: &str = "result-manifest";
/// Where tensors stand.
const TENSORS: [&str; 2] = ["adapter/adapter_model.safetensors", "head.safetensors"];
const MAX_HEADER_BYTES: usize = 16 << 20;
const MAX_TENSORS_BYTES: u64 = 2 << 30;

/// What is read of a result's manifest; it says more.
#[derive(Deserialize)]
struct Manifest {
    organization: Id,
    plan: String,
    round: u32,
    adapter_digest: String,
    files: Vec<FileEntry>,
}

#[derive(Deserialize)]
struct FileEntry {
    path: String,
    sha256: String,
}

/// Whose result a folder is, and after which round.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) organization: Id,
    pub(super) round: u32,
}

/// Checks a result folder against the adapter after its round. `state` is asked for that.
pub(super) fn check<'a>(
    folder: &Path,
    roster: &VerifiedRoster,
    plan: &VerifiedPlan,
    state: impl FnOnce(u32) -> Option<&'a AdapterState>,
) -> Result<Handed, Broken> {
    let manifest_text = text(folder, MANIFEST)?;
    let manifest: Manifest = serde_json::from_str(&manifest_text)
        .map_err(|e| broken(MANIFEST, format!("it does not parse: {e}")))?;
    signed(folder, &manifest_text, &manifest, roster, plan)?;
    if manifest.plan != plan.digest().to_string() {
        return Err(broken(MANIFEST, "it is of another plan"));
    }
    let mut listed: BTreeSet<String> = [MANIFEST, SIGNATURE].map(str::to_owned).into();
    for file in &manifest.files {
        let found = walk_safe(folder, &file.path)?;
        if found != file.sha256 {
            return Err(broken(
                &file.path,
                format!("its SHA-256 is {found}, its manifest says {}", file.sha256),
            ));
        }
        listed.insert(file.path.clone());
    }
    let there = walk(folder).map_err(|e| broken("the result", e))?;
    if let Some(strange) = there.iter().find(|path| !listed.contains(*path)) {
        return Err(broken(strange, "its manifest does not list it"));
    }
    let round = manifest.round;
    let state = state(round)
        .ok_or_else(|| broken(MANIFEST, format!("it is of round {round}, and the record ends elsewhere")))?;
    let own = state.adapter_digest().to_string();
    if own != manifest.adapter_digest {
        let why = format!("it names adapter {}, and the sums give {own}", manifest.adapter_digest);
        return Err(broken(MANIFEST, why));
    }
    tensors(folder, state, &listed)?;
    Ok(Handed { organization: manifest.organization, round })
}

fn walk_safe(folder: &Path, path: &str) -> Result<String, Broken> {
    let plain = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain {
        return Err(broken(path, "a path that leads out of the folder"));
    }
    let listed = measure(&folder.join(path)).map_err(|e| broken(path, e))?;
    Ok(listed.digest.to_string())
}

fn signed(
    folder: &Path,
    manifest_text: &str,
    manifest: &Manifest,
    roster: &VerifiedRoster,
    plan: &VerifiedPlan,
) -> Result<(), Broken> {
    let line = text(folder, SIGNATURE)?;
    let id = &manifest.organization;
    let party = roster
        .organization(id)
        .ok_or_else(|| broken(MANIFEST, format!("{id} is not an organization of the roster")))?;
    let mut bytes = [0; 64];
    let digits = line.strip_prefix(id.as_str()).and_then(|rest| rest.strip_prefix(' '));
    let digits = digits.and_then(|rest| rest.strip_suffix('\n')).unwrap_or_default();
    let form = hex::decode_to_slice(digits, &mut bytes).is_ok() && hex::encode(bytes) == digits;
    let body = manifest_text.as_bytes();
    let by =
        verify(&party.signing_key, SIGNED_AS, &plan.digest(), id.as_str(), body, &Signature(bytes)).is_ok();
    if form && by { Ok(()) } else { Err(broken(SIGNATURE, format!("{id} did not sign this manifest"))) }
}

/// Every tensor of the files is one of the adapter's, with its very values, and none is missing.
fn tensors(folder: &Path, state: &AdapterState, listed: &BTreeSet<String>) -> Result<(), Broken> {
    let mut wanted: BTreeMap<&str, &[f32]> =
        state.tensors().map(|(tensor, values)| (tensor.name.as_str(), values)).collect();
    for path in TENSORS.iter().filter(|path| listed.contains(**path)) {
        let bytes = read(folder, path, MAX_TENSORS_BYTES)?;
        let bad = |why: &str| broken(path, why);
        let (length, rest) =
            bytes.split_first_chunk::<8>().ok_or_else(|| bad("it is no safetensors file"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let header = rest.get(..length).filter(|_| length <= MAX_HEADER_BYTES);
        let header = header.ok_or_else(|| bad("its header is cut short"))?;
        let header: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(header).map_err(|_| bad("its header does not parse"))?;
        let data = rest.get(length..).unwrap_or_default();
        for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
            let values = wanted
                .remove(name.as_str())
                .ok_or_else(|| bad(&format!("tensor {name} is not the plan's")))?;
            let offset = |at: usize| usize::try_from(entry["data_offsets"][at].as_u64()?).ok();
            let stored = offset(0).zip(offset(1)).and_then(|(from, to)| data.get(from..to));
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            if entry["dtype"] != "F32" || stored != Some(bytes.as_slice()) {
                return Err(bad(&format!("tensor {name} is not what the sums give")));
            }
        }
    }
    match wanted.first_key_value() {
        Some((name, _)) => Err(broken("the result", format!("tensor {name} stands in none of its files"))),
        None => Ok(()),
    }
}
