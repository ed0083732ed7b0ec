//! The demo's path in small: real processes, real TLS, a SIGKILL, a rejoin, and a sum that is exactly the survivors'.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs};

use consilium_coordinator::store::{InputLayout, SqliteStore, Store as _, StoredJob};
use consilium_proto::{
    plan::Plan,
    release::{VerifiedHead, unpack_sum},
    roster::Roster,
    signed::{Kind, Signatures, fingerprint},
    wire::SignedReleaseHead,
};
use consilium_tests::{Consortium, Process, Shape, wait_until};

fn coordinator(consortium: &Consortium) -> Process {
    let config = consortium.path("coordinator.toml");
    let log = consortium.path("coordinator.log");
    Process::start(env!("CARGO_BIN_EXE_hooked-coordinator"), &["--config", config.to_str().unwrap()], log)
}

fn client(consortium: &Consortium, site: usize) -> Process {
    let config = consortium.path(&format!("site-{site}.toml"));
    let log = consortium.path(&format!("site-{site}.log"));
    Process::start(env!("CARGO_BIN_EXE_hooked-client"), &["run", "--config", config.to_str().unwrap()], log)
}

/// The published heads and sums, from the stopped coordinator's store.
fn releases(consortium: &Consortium) -> Vec<(VerifiedHead, Vec<u32>)> {
    let text = |name: &str| fs::read_to_string(consortium.path(name)).unwrap();
    let signatures = |name: &str| Signatures::parse(&text(name)).unwrap();
    let pin = fingerprint(Kind::Roster, &text("roster.toml"));
    let roster = Roster::verify(&text("roster.toml"), &signatures("roster.toml.sig"), &pin).unwrap();
    let plan = Plan::verify(&text("plan.toml"), &signatures("plan.toml.sig"), &roster).unwrap();
    let job = StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) };
    let store = SqliteStore::open(&consortium.path("coordinator"), &job).unwrap();
    let rounds = store.releases_from(1).unwrap();
    rounds
        .into_iter()
        .map(|round| {
            let row = store.release(round).unwrap().unwrap();
            let signed = SignedReleaseHead { head: row.head, signature: row.signature };
            let head = VerifiedHead::verify(&signed, &roster, &plan).unwrap();
            (head, unpack_sum(&plan, &row.sum).unwrap())
        })
        .collect()
}

/// What a client encoded, from its test hook.
fn encoded(consortium: &Consortium, site: &str, round: u32, attempt: u32) -> Vec<u32> {
    let number = site.strip_prefix("site-").unwrap();
    let name = format!("encoded-{round}-{attempt}.u32");
    let state = consortium.path(&format!("state-{number}"));
    let path = [state.join("small").join(&name), state.join(&name)].into_iter().find(|path| path.exists());
    let bytes = fs::read(path.unwrap_or_else(|| panic!("{site} kept nothing of round {round}"))).unwrap();
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn five_processes_one_death_and_the_exact_sum() {
    let consortium = Consortium::found(&Shape { rounds: 6, ..Shape::default() });
    let mut coordinator = coordinator(&consortium);
    let mut clients: Vec<_> = (1..=5).map(|site| client(&consortium, site)).collect();

    // One dies right after it has dealt its shares, and comes back after the round was released without it.
    let killed = clients[3].wait_for("shared", 3)["round"].as_u64().unwrap();
    clients[3].kill();
    clients[0].wait_for("applied", killed);
    clients[3] = client(&consortium, 4);

    for client in &mut clients {
        assert!(client.wait().success(), "{}", client.text());
    }
    assert!(coordinator.terminate().success(), "{}", coordinator.text());

    let releases = releases(&consortium);
    assert_eq!(releases.iter().map(|(head, _)| head.round).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let survivors: Vec<_> = releases.iter().map(|(head, _)| head.survivors.len()).collect();
    assert_eq!(survivors[killed as usize - 1], 4, "{survivors:?}");
    assert_eq!(survivors.last(), Some(&5), "the killed client takes part again: {survivors:?}");

    let mask = u32::MAX >> (32 - consortium.plan.encoding.ring_bits);
    for (head, sum) in &releases {
        let mut plain = vec![0u32; sum.len()];
        for site in head.survivors.iter() {
            for (total, value) in
                plain.iter_mut().zip(encoded(&consortium, site.as_str(), head.round, head.attempt))
            {
                *total = total.wrapping_add(value) & mask;
            }
        }
        assert!(
            plain == *sum,
            "round {}: the released sum is not the plain sum of what the survivors encoded",
            head.round
        );
    }

    let last = |process: &Process| {
        process.events_of("applied").pop().unwrap()["adapter"].as_str().unwrap().to_owned()
    };
    let adapters: BTreeSet<_> = clients.iter().map(last).collect();
    let expected: BTreeSet<_> = [releases.last().unwrap().0.after.to_string()].into();
    assert_eq!(adapters, expected, "every client computed the published adapter for itself");
}

#[test]
fn a_killed_coordinator_goes_on_in_the_same_round() {
    let consortium = Consortium::found(&Shape::default());
    let mut first = coordinator(&consortium);
    let mut clients: Vec<_> = (1..=5).map(|site| client(&consortium, site)).collect();
    clients[0].wait_for("shared", 2);
    first.kill();
    let mut second = coordinator(&consortium);
    for client in &mut clients {
        assert!(client.wait().success(), "{}", client.text());
    }
    assert!(second.terminate().success());
    let releases = releases(&consortium);
    assert_eq!(
        releases.iter().map(|(head, _)| (head.round, head.attempt)).collect::<Vec<_>>(),
        [(1, 1), (2, 1), (3, 1), (4, 1)]
    );
}

#[test]
fn too_few_members_fail_the_round_cleanly_and_the_next_begins() {
    let consortium = Consortium::found(&Shape { wait_s: 2, rounds: 12, ..Shape::default() });
    let mut coordinator = coordinator(&consortium);
    let mut clients: Vec<_> = (1..=3).map(|site| client(&consortium, site)).collect();
    let rounds = || coordinator.text();
    wait_until("a failed round", rounds, || rounds().contains("too-few-online").then_some(()));
    clients.extend((4..=5).map(|site| client(&consortium, site)));
    for client in &mut clients {
        assert!(client.wait().success(), "{}", client.text());
    }
    assert!(coordinator.terminate().success());
    let releases = releases(&consortium);
    assert!(
        !releases.is_empty() && releases[0].0.round > 1,
        "the first round failed, a later one was released"
    );
}

#[test]
fn a_client_with_another_plan_or_model_refuses() {
    let consortium = Consortium::found(&Shape::default());
    let _coordinator = coordinator(&consortium);

    // Another plan, properly signed: the client and the coordinator find out at the first word.
    let mut other = consortium.plan.clone();
    other.adapter.seed.0[0] ^= 1;
    consortium.sign(Kind::Plan, "other.toml", &other.to_text().unwrap());
    consortium.configure(2, "other.toml");
    let mut stranger = client(&consortium, 2);
    assert!(!stranger.wait().success());
    assert!(stranger.text().contains("another roster or plan"), "{}", stranger.text());

    // Another model than the plan names: refused before anything is dialled.
    other = consortium.plan.clone();
    other.model.weights.0[0] ^= 1;
    consortium.sign(Kind::Plan, "model.toml", &other.to_text().unwrap());
    consortium.configure(3, "model.toml");
    let mut wrong = client(&consortium, 3);
    assert!(!wrong.wait().success());
    assert!(wrong.text().contains("model.safetensors"), "{}", wrong.text());
}
