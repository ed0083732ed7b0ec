//! What parties sign and store: roster, plan, signatures, identity, announcement, release, wire messages, events.

use std::{collections::BTreeMap, fs, sync::OnceLock};

use consilium_coordinator::round::Event;
use consilium_crypto::{
    digest::Digest,
    release::AdapterState,
    ring::RingWidth,
    sign::{SigningKey, sign},
};
use consilium_proto::{
    announcement::Announcement,
    identity::Identity,
    ids::Id,
    plan::{Plan, VerifiedPlan},
    release::{VerifiedHead, apply_sum, initial_state, unpack_sum},
    roster::{Roster, VerifiedRoster},
    signed::Signatures,
    wire,
};
use prost::Message;

use crate::{select, selected, support::Consortium};

/// A consortium of three with a verified roster and plan.
pub(crate) struct World {
    /// What it has on disk, by name.
    files: BTreeMap<String, Vec<u8>>,
    identities: Vec<Identity>,
    pub(crate) roster: VerifiedRoster,
    pub(crate) plan: VerifiedPlan,
    state: AdapterState,
}

pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let consortium = Consortium::new();
        let (roster, plan) = consortium.verified();
        let state = initial_state(&plan).unwrap();
        let entries = fs::read_dir(consortium.folder.path()).unwrap().map(|entry| entry.unwrap());
        let read =
            |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        // The folder itself goes with the consortium: nothing in a static is ever dropped.
        World { files: entries.map(read).collect(), identities: consortium.identities, roster, plan, state }
    })
}

/// One of the consortium's files.
pub(crate) fn file(name: &str) -> Vec<u8> {
    world().files[name].clone()
}

fn coordinator_key() -> &'static SigningKey {
    let roster = world().roster.coordinator();
    world().identities.iter().find(|identity| identity.id == roster.id).unwrap().signing_key()
}

/// Bytes signed by the roster's coordinator for this plan: what is behind the signature is what is fuzzed.
fn signature(what: &'static str, bytes: &[u8]) -> Vec<u8> {
    let World { roster, plan, .. } = world();
    sign(coordinator_key(), what, &plan.digest(), roster.coordinator().id.as_str(), bytes).0.to_vec()
}

pub(crate) fn roster(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Roster::parse(text) {
        Ok(roster) => {
            let written = roster.to_text().unwrap();
            assert_eq!(Roster::parse(&written).unwrap().to_text().unwrap(), written);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

pub(crate) fn roster_seeds() -> Vec<Vec<u8>> {
    let seeds = vec![file("roster.toml")];
    assert!(Roster::parse(str::from_utf8(&seeds[0]).unwrap()).is_ok());
    seeds
}

pub(crate) fn plan(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Plan::parse(text) {
        Ok((plan, _)) => {
            let written = plan.to_text().unwrap();
            assert_eq!(Plan::parse(&written).unwrap().0.to_text().unwrap(), written);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

pub(crate) fn plan_seeds() -> Vec<Vec<u8>> {
    let seeds = vec![file("plan.toml")];
    assert!(Plan::parse(str::from_utf8(&seeds[0]).unwrap()).is_ok());
    seeds
}

pub(crate) fn signatures(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(signatures) = Signatures::parse(text) {
        let written = signatures.to_text();
        assert_eq!(Signatures::parse(&written).unwrap().to_text(), written);
    }
    // Ids stand in signatures, rosters, messages and paths.
    if let Ok(id) = text.parse::<Id>() {
        assert_eq!(id.as_str(), text);
        assert!(text.len() <= 63 && !text.contains(['/', '.', '\0']));
    }
    let _ = text.parse::<Digest>().map(|digest| assert_eq!(digest.to_string(), text));
}

pub(crate) fn signature_seeds() -> Vec<Vec<u8>> {
    vec![file("roster.toml.sig"), file("plan.toml.sig"), b"st-mary-2".to_vec(), "5a".repeat(32).into_bytes()]
}

pub(crate) fn identity(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(identity) = Identity::parse(text) {
        let written = identity.to_text();
        assert!(Identity::parse(written.expose()).is_ok());
        assert!(format!("{identity:?}").ends_with("<redacted>)"));
        identity.party(crate::support::valid_until());
    }
}

pub(crate) fn identity_seeds() -> Vec<Vec<u8>> {
    vec![file("site-1.key"), file("coordinator.key")]
}

/// An announcement whose signature is good, or a signed announcement as it comes from the wire.
pub(crate) fn announcement(data: &[u8]) {
    let World { roster, plan, .. } = world();
    let Some((which, bytes)) = select(data, 2) else { return };
    let signed = if which == 0 {
        wire::SignedAnnouncement { announcement: bytes.to_vec(), signature: signature("announcement", bytes) }
    } else {
        let Ok(signed) = wire::SignedAnnouncement::decode(bytes) else { return };
        signed
    };
    match Announcement::verify(&signed, roster, plan) {
        Ok(announcement) => drop(announcement.facts(roster, plan).unwrap()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn honest_announcement() -> wire::SignedAnnouncement {
    let World { roster, plan, state, .. } = world();
    let announcement = Announcement {
        round: 1,
        attempt: 1,
        cohort: plan.whole_cohort(),
        adapter: state.adapter_digest(),
        optimizer: state.optimizer_digest(),
    };
    announcement.sign(roster, plan, coordinator_key())
}

pub(crate) fn announcement_seeds() -> Vec<Vec<u8>> {
    let signed = honest_announcement();
    assert!(Announcement::verify(&signed, &world().roster, &world().plan).is_ok());
    vec![selected(0, &signed.announcement), selected(1, signed.encode_to_vec())]
}

/// A head whose signature is good, or a signed head as it comes from the wire.
pub(crate) fn release_head(data: &[u8]) {
    let World { roster, plan, .. } = world();
    let Some((which, bytes)) = select(data, 2) else { return };
    let signed = if which == 0 {
        wire::SignedReleaseHead { head: bytes.to_vec(), signature: signature("release", bytes) }
    } else {
        let Ok(signed) = wire::SignedReleaseHead::decode(bytes) else { return };
        signed
    };
    match VerifiedHead::verify(&signed, roster, plan) {
        Ok(head) => assert!(head.survivors.len() <= plan.cohort().len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A packed sum of the plan's length, every element the same.
fn sum_of(element: u32) -> Vec<u8> {
    let derived = world().plan.derived();
    let mut packed = Vec::new();
    consilium_crypto::ring::pack(derived.ring, &vec![element; derived.vector_len], &mut packed);
    packed
}

fn honest_head(sum: &[u8]) -> wire::ReleaseHead {
    let World { plan, state, .. } = world();
    let mut after = state.clone();
    apply_sum(plan, &mut after, sum, 3).unwrap();
    wire::ReleaseHead {
        plan_digest: plan.digest().0.to_vec(),
        round: 1,
        attempt: 1,
        survivors: plan.cohort().iter().map(Id::to_string).collect(),
        sum_digest: Digest::of(sum).0.to_vec(),
        sum_bytes: sum.len() as u64,
        adapter_before: state.adapter_digest().0.to_vec(),
        adapter_after: after.adapter_digest().0.to_vec(),
        optimizer_after: after.optimizer_digest().0.to_vec(),
        ..Default::default()
    }
}

pub(crate) fn release_head_seeds() -> Vec<Vec<u8>> {
    let head = honest_head(&sum_of(1)).encode_to_vec();
    let signed = wire::SignedReleaseHead { signature: signature("release", &head), head: head.clone() };
    assert!(VerifiedHead::verify(&signed, &world().roster, &world().plan).is_ok());
    vec![selected(0, &head), selected(1, signed.encode_to_vec())]
}

/// A sum under an honest head: only the honest one replays. And any sum, applied: the step is taken whole or not at all.
pub(crate) fn release_replay(data: &[u8]) {
    let World { roster, plan, state, .. } = world();
    let Some((survivors, sum)) = select(data, 5) else { return };
    let mut next = state.clone();
    match apply_sum(plan, &mut next, sum, survivors) {
        Ok(_) => assert_ne!(next.steps(), state.steps()),
        Err(_) => assert_eq!(&next, state, "a step that fails changes nothing"),
    }
    let honest = sum_of(1);
    assert_eq!(
        unpack_sum(plan, sum).is_ok(),
        plan.derived().ring.packed_len(plan.derived().vector_len) == sum.len() && padding_is_zero(sum)
    );
    static HEAD: OnceLock<VerifiedHead> = OnceLock::new();
    let head = HEAD.get_or_init(|| {
        let head = honest_head(&honest).encode_to_vec();
        let signed = wire::SignedReleaseHead { signature: signature("release", &head), head };
        VerifiedHead::verify(&signed, roster, plan).unwrap()
    });
    let mut next = state.clone();
    let replayed = head.replay(plan, &mut next, sum).is_ok();
    assert_eq!(replayed, sum == honest, "only the sum that the head names replays");
    assert!(replayed || &next == state);
}

/// Whether the bits behind the last element are zero, by counting them.
fn padding_is_zero(sum: &[u8]) -> bool {
    let derived = world().plan.derived();
    let ring: RingWidth = derived.ring;
    let used = derived.vector_len * ring.bits() as usize % 8;
    used == 0 || sum.last().is_some_and(|last| last >> used == 0)
}

pub(crate) fn release_replay_seeds() -> Vec<Vec<u8>> {
    [0, 1, 1 << 20, 1 << 23].map(|element| selected(3, sum_of(element))).to_vec()
}

/// A stored adapter, which a returning client may be given by anybody.
pub(crate) fn adapter_state(data: &[u8]) {
    let manifest = world().state.manifest();
    if let Ok(state) = AdapterState::from_bytes(manifest, data) {
        assert_eq!(state.to_bytes(), data, "a state has one spelling");
    }
}

pub(crate) fn adapter_state_seeds() -> Vec<Vec<u8>> {
    let World { plan, state, .. } = world();
    let mut later = state.clone();
    apply_sum(plan, &mut later, &sum_of(5), 3).unwrap();
    vec![state.to_bytes(), later.to_bytes()]
}

/// Every message of the wire, by what decodes.
pub(crate) fn wire_messages(data: &[u8]) {
    fn read<M: Message + Default + PartialEq>(bytes: &[u8]) {
        if let Ok(message) = M::decode(bytes) {
            // Not `==`: a NaN is no equal of its own.
            let again = message.encode_to_vec();
            assert_eq!(M::decode(again.as_slice()).unwrap().encode_to_vec(), again);
        }
    }
    let Some((which, bytes)) = select(data, 8) else { return };
    match which {
        0 => read::<wire::ClientMessage>(bytes),
        1 => read::<wire::CoordinatorMessage>(bytes),
        2 => read::<wire::ReleasesRequest>(bytes),
        3 => read::<wire::ReleasePart>(bytes),
        4 => read::<wire::JobStatus>(bytes),
        5 => read::<wire::RoundsReply>(bytes),
        6 => read::<wire::SignedAnnouncement>(bytes),
        _ => read::<wire::SignedReleaseHead>(bytes),
    }
}

pub(crate) fn wire_seeds() -> Vec<Vec<u8>> {
    use wire::{client_message::Kind as FromClient, coordinator_message::Kind as FromCoordinator};
    let client = |kind| selected(0, wire::ClientMessage { kind: Some(kind) }.encode_to_vec());
    let coordinator = |kind| selected(1, wire::CoordinatorMessage { kind: Some(kind) }.encode_to_vec());
    let protocol = wire::ProtocolMessage { body: vec![7; 40], ..Default::default() };
    vec![
        client(FromClient::Hello(wire::Hello::default())),
        client(FromClient::Protocol(protocol.clone())),
        coordinator(FromCoordinator::Announcement(honest_announcement())),
        coordinator(FromCoordinator::Protocol(protocol)),
        selected(6, honest_announcement().encode_to_vec()),
        selected(4, wire::JobStatus::default().encode_to_vec()),
    ]
}

const KINDS: [&str; 8] =
    ["opened", "accepted", "stored", "closed", "released", "failed", "evaluated", "strange"];

/// An event's kind, then its bytes, as the coordinator's store holds them.
pub(crate) fn store_event(data: &[u8]) {
    let Some((which, bytes)) = select(data, KINDS.len()) else { return };
    match Event::decode(KINDS[which], bytes) {
        Ok(event) => {
            assert_eq!(event.kind(), KINDS[which]);
            let again = event.encode();
            assert_eq!(Event::decode(event.kind(), &again).unwrap().encode(), again);
        }
        Err(error) => assert!(error.to_string().contains(KINDS[which])),
    }
}

pub(crate) fn store_event_seeds() -> Vec<Vec<u8>> {
    let id = || world().plan.cohort()[0].clone();
    [
        Event::Opened(honest_announcement()),
        Event::Accepted { from: id(), step: 2, body: vec![9; 30] },
        Event::Stored { from: id(), bytes: 1 << 40 },
        Event::Closed { step: 3 },
        Event::Released { survivors: world().plan.cohort().to_vec(), logged: None },
        Event::Failed { code: "too-few".into(), culprits: vec![id()], logged: None },
        Event::Evaluated(wire::Evaluation { round: 3, loss: 0.5, ..Default::default() }),
    ]
    .iter()
    .map(|event| {
        let which = KINDS.iter().position(|kind| *kind == event.kind()).unwrap();
        selected(which, event.encode())
    })
    .collect()
}
