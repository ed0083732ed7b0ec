//! Every attack that comes as a scenario: it ends as the scenario says, and with what stops it gone it succeeds.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use consilium_simulations::{
    log::Log,
    run::{Outcome, run},
    scenario::{Verdict, text::Draft},
};
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/attack-{name}.toml"))
}

/// Runs an attack's scenario with some fields set.
fn attack(name: &str, set: &[&str]) -> Outcome {
    let mut draft = Draft::read(&file(name)).unwrap();
    set.iter().for_each(|assignment| draft.set(assignment).unwrap());
    run(&draft.scenario().unwrap(), None, Log::default(), &mut |_| {}).unwrap()
}

/// The attack as it comes: it ends as expected, and fails or succeeds as its scenario says.
fn as_it_comes(name: &str) -> Outcome {
    let outcome = attack(name, &[]);
    assert!(outcome.result.line.expected_end, "{name}: {:?} {:?}", outcome.result.end, outcome.result.attack);
    assert_eq!(outcome.result.attack.as_ref().unwrap().kind, name);
    outcome
}

fn verdict(outcome: &Outcome) -> Verdict {
    outcome.result.attack.as_ref().unwrap().verdict
}

fn figure(outcome: &Outcome, name: &str) -> f64 {
    outcome.result.attack.as_ref().unwrap().figures[name]
}

#[test]
fn a_coordinator_that_equivocates_needs_more_colluders_than_are_tolerated() {
    let fails = as_it_comes("equivocate");
    assert_eq!(figure(&fails, "recovered"), 0.0);
    assert!(figure(&fails, "attempts") >= 1.0, "it held the victim's vector, and could not read it");
    // One story got its quorum, the other did not.
    assert_eq!((figure(&fails, "masking_key_shares"), figure(&fails, "self_mask_shares")), (3.0, 7.0));
    let succeeds = attack("equivocate", &["attack.colluders=4", "expect.attack=succeeds"]);
    assert_eq!(verdict(&succeeds), Verdict::Succeeds, "{:?}", succeeds.result.attack);
    assert!(figure(&succeeds, "recovered") >= 1.0);
    // A quorum of shares of both kinds, half of each from honest members who were told different things.
    assert_eq!((figure(&succeeds, "masking_key_shares"), figure(&succeeds, "self_mask_shares")), (7.0, 7.0));
}

#[test]
fn a_coordinator_that_isolates_needs_a_minimum_of_colluders() {
    let fails = as_it_comes("isolate");
    assert_eq!(figure(&fails, "recovered"), 0.0);
    assert!(
        figure(&fails, "self_mask_shares") <= 3.0,
        "no honest member answered: {:?}",
        fails.result.attack
    );
    let succeeds = attack("isolate", &["attack.colluders=6", "expect.attack=succeeds"]);
    assert!(succeeds.result.line.expected_end, "{:?} {:?}", succeeds.result.end, succeeds.result.attack);
    assert!(figure(&succeeds, "recovered") >= 1.0);
}

#[test]
fn a_coordinator_that_lies_about_a_survivor_meets_its_self_mask() {
    let fails = as_it_comes("lie");
    // It got the masking key, as designed, and none of the self-mask but what colluders hold.
    assert!(figure(&fails, "masking_key_shares") >= 7.0, "{:?}", fails.result.attack);
    assert_eq!(figure(&fails, "self_mask_shares"), 3.0);
    let succeeds = attack("lie", &["attack.colluders=7", "expect.attack=succeeds"]);
    assert!(succeeds.result.line.expected_end, "{:?} {:?}", succeeds.result.end, succeeds.result.attack);
    assert!(figure(&succeeds, "recovered") >= 1.0);
}

#[test]
fn nobody_answers_a_replay() {
    let fails = as_it_comes("replay");
    // To each of six: the announcement, and the deliveries of four steps.
    assert!(figure(&fails, "replayed") >= 30.0, "{:?}", fails.result.attack);
    assert_eq!(figure(&fails, "second_words"), 0.0);
    // Who has lost journal, ledger and adapter knows nothing of the first round; its peers do.
    let set =
        ["attack.lost_disk=true", "expect.end=stopped", "expect.because=older than what its peers hold"];
    let stopped = attack("replay", &set);
    assert!(stopped.result.line.expected_end, "{:?} {:?}", stopped.result.end, stopped.result.why);
}

#[test]
fn a_replay_to_who_has_lost_its_disk_needs_all_its_witnesses() {
    // Of six, three must say what they hold; whoever lost its disk counts as the one corrupt member that is tolerated.
    let set = |colluders: u32| format!("attack.colluders={colluders}");
    for colluders in [1, 2] {
        let more = [&set(colluders), "attack.lost_disk=true", "expect.end=stuck"];
        let waits = attack("replay", &more);
        assert!(waits.result.line.expected_end, "{:?} {:?}", waits.result.end, waits.result.attack);
        assert_eq!(figure(&waits, "second_words"), 0.0);
        assert!(figure(&waits, "replayed") > 0.0);
    }
    let more = [&set(3), "attack.lost_disk=true", "expect.end=broken", "expect.attack=succeeds"];
    let succeeds = attack("replay", &more);
    assert!(succeeds.result.line.expected_end, "{:?} {:?}", succeeds.result.end, succeeds.result.attack);
    let why = succeeds.result.why.as_deref().unwrap();
    assert!(why.contains("organization 0 said two different things in step 1 of round 1 attempt 1"), "{why}");
}

#[test]
fn garbage_is_refused_at_every_step_and_costs_nobody_a_round() {
    as_it_comes("garbage");
    for step in 1..=5 {
        let outcome = attack("garbage", &[&format!("attack.step={step}")]);
        assert!(
            outcome.result.line.expected_end,
            "step {step}: {:?} {:?}",
            outcome.result.end, outcome.result.attack
        );
        assert_eq!(figure(&outcome, "released"), 2.0, "step {step}");
    }
    // It is the number that keeps rounds alive: with more of them than may be silent none is released.
    let many = attack("garbage", &["attack.attackers=4", "expect.attack=succeeds", "expect.end=gave-up"]);
    assert!(many.result.line.expected_end, "{:?} {:?}", many.result.end, many.result.attack);
}

#[test]
fn who_releases_bad_shares_is_convicted_and_the_sum_is_right() {
    let outcome = as_it_comes("bad-shares");
    assert!(figure(&outcome, "convicted") >= 1.0, "{:?}", outcome.result.attack);
    assert_eq!((figure(&outcome, "honest_convicted"), figure(&outcome, "wrong_sums")), (0.0, 0.0));
    // A quorum of right shares is what takes masks off: n − r = 3 of ten may be wrong, and with one more no round comes to an end.
    let many = attack("bad-shares", &["attack.attackers=4", "expect.attack=succeeds", "expect.end=gave-up"]);
    assert!(many.result.line.expected_end, "{:?} {:?}", many.result.end, many.result.attack);
    assert_eq!(figure(&many, "released"), 0.0);
    // No sum is wrong even then, and nobody is taken for an attacker who is none.
    assert_eq!((figure(&many, "honest_convicted"), figure(&many, "wrong_sums")), (0.0, 0.0));
}

#[test]
fn a_scaled_update_does_damage_and_nothing_stops_it() {
    let succeeds = as_it_comes("scaled");
    assert_eq!(verdict(&succeeds), Verdict::Succeeds);
    assert!(figure(&succeeds, "accuracy_without") > 0.4, "{:?}", succeeds.result.attack);
    let harmless = attack("scaled", &["attack.factor=1", "expect.attack=fails"]);
    assert_eq!(figure(&harmless, "lost"), 0.0, "once is what everybody sends");
}

#[test]
fn flipped_labels_have_their_share_of_the_say() {
    let fails = as_it_comes("flipped");
    let most = attack("flipped", &["attack.attackers=7", "expect.attack=succeeds"]);
    assert_eq!(verdict(&most), Verdict::Succeeds, "{:?}", most.result.attack);
    assert!(figure(&most, "lost") > figure(&fails, "lost"));
}

/// Protocol and unit: in the clear or masked, without noise or with it.
const WALLS: [[&str; 3]; 4] = [
    ["protocol=plain", "privacy.unit=none", "privacy.local_steps=1"],
    ["protocol=plain", "privacy.unit=patient", "privacy.local_steps=1"],
    ["protocol=secure", "privacy.unit=none", "privacy.local_steps=1"],
    ["protocol=secure", "privacy.unit=patient", "privacy.local_steps=1"],
];

#[test]
fn features_are_read_out_of_a_gradient_without_protection_and_not_with_it() {
    as_it_comes("inversion");
    let [bare, noisy, masked, both] = WALLS.map(|walls| attack("inversion", &walls));
    assert_eq!(verdict(&bare), Verdict::Succeeds, "{:?}", bare.result.attack);
    assert!(figure(&bare, "cosine_upload") > 0.99, "{:?}", bare.result.attack);
    for protected in [&noisy, &masked, &both] {
        assert_eq!(verdict(protected), Verdict::Fails, "{:?}", protected.result.attack);
    }
    // What is masked is nothing: random directions in 49 dimensions, the best of ten.
    assert!(figure(&masked, "cosine_upload") < 0.6, "{:?}", masked.result.attack);
    assert!(figure(&both, "cosine_sum") < figure(&masked, "cosine_sum"), "noise protects the sum");
}

#[test]
fn members_are_told_from_others_without_protection_and_not_with_it() {
    as_it_comes("membership");
    let [bare, noisy, masked, both] = WALLS.map(|walls| attack("membership", &walls));
    assert_eq!(verdict(&bare), Verdict::Succeeds, "{:?}", bare.result.attack);
    assert!(figure(&bare, "auc_upload") > 0.9, "{:?}", bare.result.attack);
    // Masks hide what a hospital sends from whoever counts on that alone; noise hides who is in it.
    assert!(figure(&masked, "auc_upload") < 0.75, "{:?}", masked.result.attack);
    assert!(figure(&masked, "auc_sum") > 0.75, "without noise the sum tells: {:?}", masked.result.attack);
    assert!(figure(&noisy, "auc_upload") < figure(&bare, "auc_upload"), "{:?}", noisy.result.attack);
    assert_eq!(verdict(&both), Verdict::Fails, "{:?}", both.result.attack);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (name, set, expected) in [
        ("equivocate", "attack.colluders=10", "at most 9 may attack"),
        ("lie", "protocol=plain", "neither survivors to agree on nor shares"),
        ("replay", "attack.colluders=1", "set attack.lost_disk = true"),
        ("garbage", "attack.step=6", "steps are numbered 1 to 5"),
        ("flipped", "task.kind=synthetic", "written for task.kind = \"convex\" alone"),
    ] {
        let mut draft = Draft::read(&file(name)).unwrap();
        draft.set(set).unwrap();
        let error = draft.scenario().unwrap().check().unwrap_err().to_string();
        assert!(error.contains(expected), "{name} {set}: {error}");
    }
}

#[test]
fn the_command_says_what_came_of_it_and_its_exit_code_follows() {
    let sim = |more: &[&str]| {
        let path = file("garbage");
        let mut words = vec!["run", path.to_str().unwrap(), "--json"];
        words.extend(more);
        Command::new(env!("CARGO_BIN_EXE_consilium-sim")).args(words).output().unwrap()
    };
    let line = |output: &std::process::Output| -> Value {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    };
    let (good, bad) = (sim(&[]), sim(&["--set", "expect.attack=succeeds"]));
    assert_eq!((good.status.code(), bad.status.code()), (Some(0), Some(1)));
    assert_eq!((&line(&good)["expected_end"], &line(&bad)["expected_end"]), (&true.into(), &false.into()));
    let said = String::from_utf8(bad.stderr).unwrap();
    assert!(said.contains("the attack fails") && said.contains("again with"), "{said}");
}
