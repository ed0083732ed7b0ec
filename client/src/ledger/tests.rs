//! The ledger: one debit an attempt, budgets over jobs, and `ε` that is what one composition of all entries gives.

use std::{fs, path::PathBuf, time::Instant};

use consilium_proto::plan::{PrivacyUnit, VerifiedPlan};

use super::*;
use crate::{
    config::support::{Consortium, id, set_unit},
    journal::JournalError,
};

const SALT: [u8; 32] = [9; 32];

fn plan_of(job: &str, noise_multiplier: f64) -> VerifiedPlan {
    let consortium = Consortium::with(|draft| {
        draft.plan.job = id(job);
        draft.plan.privacy.noise_multiplier = noise_multiplier;
    });
    consortium.verified().1
}

fn state() -> LedgerState {
    LedgerState::new(id("titles"), SALT)
}

fn debits(plan: &VerifiedPlan, rounds: std::ops::RangeInclusive<u32>) -> Vec<Debit> {
    rounds.map(|round| Debit::of(plan, round, 1)).collect()
}

#[test]
fn an_attempt_is_debited_once() {
    let plan = plan_of("demo", 1.0);
    let mut ledger = state();
    ledger.debit(Debit::of(&plan, 1, 1)).unwrap();
    let (head, spent) = (ledger.salted_head(), ledger.spent(&id("demo")));
    assert_eq!(ledger.debit(Debit::of(&plan, 1, 1)), Err(LedgerRefusal::Twice { round: 1, attempt: 1 }));
    assert_eq!((ledger.salted_head(), ledger.spent(&id("demo"))), (head, spent), "a refusal changes nothing");
    assert!(ledger.has(&plan, 1, 1) && !ledger.has(&plan, 1, 2));
    ledger.debit(Debit::of(&plan, 1, 2)).unwrap();
    ledger.debit(Debit::of(&plan, 2, 1)).unwrap();
    ledger.debit(Debit::of(&plan_of("demo", 1.5), 1, 1)).unwrap();
    assert_eq!(ledger.length(), 4);
}

#[test]
fn what_was_spent_is_one_composition_of_everything() {
    let plan = plan_of("demo", 1.0);
    let ledger = LedgerState::from_debits(id("titles"), SALT, debits(&plan, 1..=12)).unwrap();
    let all = plan.derived().guarantees(12, 1e-5).unwrap();
    let spent = ledger.spent(&id("demo"));
    assert_eq!((spent.epsilon, spent.epsilon_local, spent.delta), (all.central, all.local, 1e-5));
    assert_eq!(spent.debits, 12);
    let one = plan.derived().guarantees(1, 1e-5).unwrap();
    assert!(
        spent.epsilon < 12.0 * one.central / 2.0,
        "{} is no sum of twelve times {}",
        spent.epsilon,
        one.central
    );
    let nothing = ledger.spent(&id("another-job"));
    assert_eq!((nothing.epsilon, nothing.epsilon_local, nothing.debits), (0.0, 0.0, 0));
}

#[test]
fn jobs_are_composed_together_however_they_were_interleaved() {
    let (first, second) = (plan_of("first", 1.0), plan_of("second", 2.0));
    let mut mixed = state();
    for round in 1..=6 {
        mixed.debit(Debit::of(&first, round, 1)).unwrap();
        mixed.debit(Debit::of(&second, round, 1)).unwrap();
    }
    let mut one_shot = consilium_crypto::privacy::Composition::new();
    for plan in [&first, &second] {
        one_shot.push(plan.derived().mechanisms.unwrap().attempts(6).0).unwrap();
    }
    let all = mixed.spent_in_all(None);
    assert_eq!((all.epsilon, all.debits), (one_shot.epsilon(1e-5).unwrap(), 12));
    let parts = mixed.spent(&id("first")).epsilon + mixed.spent(&id("second")).epsilon;
    assert!(all.epsilon < parts, "{} and {parts}: values of ε are not added", all.epsilon);
    assert!(mixed.spent_in_all(Some(1e-3)).epsilon < all.epsilon);
}

#[test]
fn a_job_ends_where_its_plan_says_and_the_outlook_knew_it() {
    let plan = plan_of("demo", 0.75);
    let mut ledger = state();
    let foreseen = ledger.admits(&plan, None).unwrap().rounds_left + 1;
    let mut taken = 0;
    let refusal = loop {
        match ledger.admits(&plan, None) {
            Ok(outlook) => {
                // A ledger that kept no answers says the same.
                let fresh = LedgerState::from_debits(id("titles"), SALT, ledger.debits().to_vec()).unwrap();
                if taken % 7 == 0 {
                    assert_eq!(fresh.admits(&plan, None).unwrap(), outlook);
                }
                assert!(outlook.epsilon_after <= 6.0, "{outlook:?}");
                taken += 1;
                assert_eq!(taken + outlook.rounds_left, foreseen);
                ledger.debit(Debit::of(&plan, taken as u32, 1)).unwrap();
                assert_eq!(ledger.spent(&id("demo")).epsilon, outlook.epsilon_after);
            }
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(taken, foreseen);
    let text = refusal.to_string();
    let LedgerRefusal::JobBudget { epsilon, debits, .. } = refusal else { panic!("{text}") };
    assert!(epsilon > 6.0 && debits == taken, "{text}");
    assert!(text.contains("job demo") && text.contains("allows 6") && text.contains("1e-5"), "{text}");
}

#[test]
fn a_budget_against_everybody_else_counts_this_organizations_noise_alone() {
    let plan = plan_of("demo", 1.0);
    let spent = |attempts| plan.derived().guarantees(attempts, 1e-5).unwrap();
    let budget = Budget { epsilon: spent(3).local + 0.01, delta: 1e-5 };
    assert!(spent(4).central < budget.epsilon, "the other guarantee alone would let a fourth pass");
    let mut ledger = state();
    for debit in debits(&plan, 1..=3) {
        let after = ledger.admits_against_everybody_else(&plan, budget).unwrap();
        ledger.debit(debit).unwrap();
        assert_eq!(ledger.spent_in_all(Some(1e-5)).epsilon_local, after);
    }
    let refusal = ledger.admits_against_everybody_else(&plan, budget).unwrap_err();
    assert!(matches!(refusal, LedgerRefusal::EverybodyElse { debits: 3, .. }), "{refusal}");
    assert!(refusal.to_string().contains("epsilon_total_everybody_else"), "{refusal}");
}

#[test]
fn the_organizations_own_budget_counts_all_jobs() {
    let (first, second) = (plan_of("first", 1.0), plan_of("second", 1.0));
    let mut ledger = state();
    let alone = second.derived().guarantees(1, 1e-5).unwrap().central;
    let total = Some((alone * 1.2, 1e-5));
    assert!(ledger.admits(&second, total).is_ok());
    for debit in debits(&first, 1..=8) {
        ledger.debit(debit).unwrap();
    }
    assert!(ledger.admits(&second, None).is_ok(), "its own plan's budget is untouched");
    let refusal = ledger.admits(&second, total).unwrap_err();
    let text = refusal.to_string();
    assert!(matches!(refusal, LedgerRefusal::TotalBudget { debits: 8, .. }), "{text}");
    assert!(text.contains("policy.epsilon_total"), "{text}");
    let wide = ledger.admits(&second, Some((6.0, 1e-5))).unwrap();
    let narrow = ledger.admits(&second, Some((4.0, 1e-5))).unwrap();
    assert!(narrow.rounds_left < wide.rounds_left, "{narrow:?} {wide:?}");
    assert_eq!(narrow.total_after, wide.total_after);
    assert!(wide.total_after.unwrap() > wide.epsilon_after);
}

#[test]
fn asking_before_every_round_is_cheap() {
    let plan = plan_of("demo", 4.0);
    let mut ledger = state();
    let begin = Instant::now();
    for round in 1..=20 {
        let total = Some((20.0, 1e-6));
        ledger.admits(&plan, total).unwrap();
        ledger.admits(&plan, total).unwrap();
        ledger.debit(Debit::of(&plan, round, 1)).unwrap();
        ledger.spent(&id("demo"));
    }
    assert!(begin.elapsed().as_secs() < 20, "{:?} for twenty rounds", begin.elapsed());
}

#[test]
fn a_debit_that_contradicts_itself_is_refused() {
    let good = Debit::of(&plan_of("demo", 1.0), 1, 1);
    type Bend = fn(&mut Debit);
    let bent: [(&str, Bend); 8] = [
        ("noise_multiplier", |debit| debit.noise_multiplier *= 1.01),
        ("local_multiplier", |debit| debit.local_multiplier *= 1.01),
        ("noise_multiplier", |debit| debit.noise_multiplier = f64::NAN),
        ("plan", |debit| debit.plan.make_ascii_uppercase()),
        ("round", |debit| debit.round = 0),
        ("steps", |debit| debit.steps = 0),
        ("delta", |debit| debit.delta = 0.0),
        ("sampling_rate", |debit| debit.sampling_rate = -0.1),
    ];
    for (field, bend) in bent {
        let mut debit = good.clone();
        bend(&mut debit);
        let text = state().debit(debit).unwrap_err().to_string();
        assert!(text.contains(field), "{field}: {text}");
    }
    assert_eq!(state().debit(good), Ok(()));
}

#[test]
fn peers_learn_a_head_that_only_the_salt_explains() {
    let plan = plan_of("demo", 1.0);
    let fill = |salt| LedgerState::from_debits(id("titles"), salt, debits(&plan, 1..=3)).unwrap();
    let (ledger, other) = (fill([1; 32]), fill([2; 32]));
    assert_eq!(ledger.digest(), other.digest());
    assert_ne!(ledger.salted_head(), other.salted_head());
    assert_eq!((ledger.head().length, ledger.head().salted_head), (3, ledger.salted_head()));
    assert_eq!(ledger.salted_head_at(3), Some(ledger.salted_head()));
    assert_eq!(ledger.salted_head_at(4), None);
    let shorter = LedgerState::from_debits(id("titles"), [1; 32], debits(&plan, 1..=2)).unwrap();
    assert_eq!(
        ledger.salted_head_at(2),
        Some(shorter.salted_head()),
        "what peers held before is found again"
    );
    let elsewhere = LedgerState::from_debits(id("titles"), [1; 32], debits(&plan, 2..=3)).unwrap();
    assert_ne!(elsewhere.salted_head_at(2), Some(shorter.salted_head()));
    assert!(!format!("{ledger:?}").contains("1, 1, 1"), "the salt is not printed");
}

struct Disk {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LEDGER_FILE);
        Self { _folder: folder, path }
    }

    fn open(&self) -> Result<(LedgerFile, LedgerState), LedgerError> {
        LedgerFile::open(&self.path, &id("titles"), &mut rand::rng())
    }
}

#[test]
fn the_file_gives_back_the_same_ledger_to_the_last_bit() {
    let disk = Disk::new();
    let (mut file, mut state) = disk.open().unwrap();
    let plans = [plan_of("first", 1.0), plan_of("second", 1.1)];
    for round in 1..=5 {
        for plan in &plans {
            let debit = Debit::of(plan, round, 1);
            state.debit(debit.clone()).unwrap();
            file.append(&debit).unwrap();
        }
    }
    let again = file.append(&Debit::of(&plans[0], 5, 1)).unwrap_err();
    assert!(matches!(again, LedgerError::Refused(LedgerRefusal::Twice { .. })), "{again}");
    drop(file);
    let (mut file, back) = disk.open().unwrap();
    assert_eq!(back.debits(), state.debits());
    assert_eq!(back.salted_head(), state.salted_head(), "the salt is the file's, drawn once");
    assert_eq!(back.spent_in_all(None), state.spent_in_all(None));
    let again = file.append(&Debit::of(&plans[1], 1, 1)).unwrap_err();
    assert!(
        matches!(again, LedgerError::Refused(LedgerRefusal::Twice { .. })),
        "also after a restart: {again}"
    );
    let (read, torn) = LedgerFile::read(&disk.path, &id("titles")).unwrap();
    assert_eq!((read.salted_head(), torn), (state.salted_head(), None));
    let other = Disk::new();
    let unsalted = LedgerState::new(id("titles"), [0; 32]).salted_head();
    let (first, second) =
        (other.open().unwrap().1.salted_head(), Disk::new().open().unwrap().1.salted_head());
    assert!(first != second && first != unsalted && second != unsalted, "every ledger has a salt of its own");
}

#[test]
fn another_data_sets_ledger_is_refused_by_name() {
    let disk = Disk::new();
    disk.open().unwrap();
    let error = LedgerFile::open(&disk.path, &id("scans"), &mut rand::rng()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, LedgerError::Journal(JournalError::Foreign { .. })), "{text}");
    assert!(text.contains("the data set titles") && text.contains("the data set scans"), "{text}");
}

#[test]
fn a_debit_that_was_never_confirmed_is_cut_off_and_a_changed_one_is_not() {
    let disk = Disk::new();
    let plan = plan_of("demo", 1.0);
    let (mut file, _) = disk.open().unwrap();
    for debit in debits(&plan, 1..=3) {
        file.append(&debit).unwrap();
    }
    drop(file);
    let whole = fs::read(&disk.path).unwrap();
    fs::write(&disk.path, &whole[..whole.len() - 20]).unwrap();
    let (file, state) = disk.open().unwrap();
    assert_eq!((state.length(), file.torn().is_some()), (2, true));
    drop(file);
    let cheaper = String::from_utf8(whole).unwrap().replacen("\"round\":2", "\"round\":9", 1);
    fs::write(&disk.path, cheaper).unwrap();
    let error = disk.open().unwrap_err();
    assert!(error.to_string().contains("line 4"), "{error}");
}

#[test]
fn entries_in_the_wrong_place_are_refused() {
    use serde_json::json;
    let salt = "ab".repeat(32);
    let opened = json!({"opened": {"data_set": "titles", "salt": salt}});
    let debit = serde_json::to_value(Debit::of(&plan_of("demo", 1.0), 1, 1)).unwrap();
    let debit = json!({ "debit": debit });
    let elsewhere = json!({"opened": {"data_set": "scans", "salt": salt}});
    let cases = [
        (vec![&debit], "line 2", "open the ledger"),
        (vec![&elsewhere], "line 2", "open the ledger"),
        (vec![&opened, &opened], "line 3", "once"),
        (vec![&opened, &debit, &debit], "line 4", "debited already"),
    ];
    for (entries, line, problem) in cases {
        let disk = Disk::new();
        let (mut journal, _) =
            crate::journal::Journal::<serde_json::Value>::open(&disk.path, "the data set titles").unwrap();
        journal.append(&entries.into_iter().cloned().collect::<Vec<_>>()).unwrap();
        drop(journal);
        let text = disk.open().unwrap_err().to_string();
        assert!(text.contains(line) && text.contains(problem), "{text}");
    }
}

fn plan_in(unit: PrivacyUnit, job: &str) -> VerifiedPlan {
    let consortium = Consortium::with(|draft| {
        draft.plan.job = id(job);
        set_unit(&mut draft.plan, unit);
    });
    consortium.verified().1
}

#[test]
fn a_local_attempt_debits_its_steps_and_fits_or_not_as_a_whole() {
    let plan = plan_in(PrivacyUnit::PatientLocal, "demo");
    let debit = Debit::of(&plan, 1, 1);
    assert_eq!((debit.steps, debit.shares, debit.noise_multiplier), (3, 1, debit.local_multiplier));
    assert_eq!(debit.sampling_rate, 0.1);
    let mut ledger = state();
    let foreseen = ledger.admits(&plan, None).unwrap().rounds_left + 1;
    let mut taken = 0;
    while let Ok(outlook) = ledger.admits(&plan, None) {
        taken += 1;
        assert_eq!(taken + outlook.rounds_left, foreseen);
        ledger.debit(Debit::of(&plan, taken as u32, 1)).unwrap();
        let spent = ledger.spent(&id("demo"));
        assert_eq!((spent.epsilon, spent.epsilon), (outlook.epsilon_after, spent.epsilon_local));
        assert!(spent.epsilon <= 6.0);
    }
    assert_eq!(taken, foreseen);
    let all = plan.derived().guarantees(taken, 1e-5).unwrap();
    assert_eq!(ledger.spent(&id("demo")).epsilon, all.central);
    // One more step might fit; one more attempt, of three, does not.
    assert!(plan.derived().guarantees(taken + 1, 1e-5).unwrap().central > 6.0);
    // 3 · taken steps, entered one by one.
    let mut steps = consilium_crypto::privacy::Composition::new();
    steps.push(plan.derived().mechanisms.unwrap().central.steps(3 * taken)).unwrap();
    assert_eq!(steps.epsilon(1e-5).unwrap(), all.central);
}

#[test]
fn an_organizations_attempt_is_one_full_step_and_counts_twice_as_far_for_a_patient() {
    let plan = plan_in(PrivacyUnit::Organization, "demo");
    let debit = Debit::of(&plan, 1, 1);
    assert_eq!((debit.steps, debit.sampling_rate, debit.shares), (1, 1.0, 2));
    let ledger = LedgerState::from_debits(id("titles"), SALT, [debit.clone()]).unwrap();
    let one = plan.derived().guarantees(1, 1e-5).unwrap();
    let spent = ledger.spent(&id("demo"));
    assert_eq!((spent.epsilon, spent.epsilon_local), (one.central, one.local));
    // z = 1 for the organization's own replacement by zero, 1/2 for one patient's: μ = 2, and 9.9973 in closed form.
    let all = ledger.spent_in_all(None);
    assert!(all.epsilon > one.central && (all.epsilon / 9.9973 - 1.0).abs() < 0.01, "{}", all.epsilon);
    // The total budget is a patient's.
    let between = (one.central + all.epsilon) / 2.0;
    let fresh = state();
    let wide = LedgerState::new(id("titles"), SALT);
    assert!(wide.admits(&plan, Some((all.epsilon + 0.01, 1e-5))).is_ok());
    let refused = fresh.admits(&plan, Some((between, 1e-5))).unwrap_err();
    assert!(matches!(refused, LedgerRefusal::TotalBudget { .. }), "{refused}");
}

#[test]
fn an_attempt_without_noise_is_entered_and_nothing_bounds_what_it_cost() {
    let plan = plan_in(PrivacyUnit::None, "open");
    let mut ledger = state();
    let outlook = ledger.admits(&plan, None).unwrap();
    assert!(outlook.epsilon_after.is_infinite() && outlook.rounds_left == 59, "{outlook:?}");
    let refused = ledger.admits(&plan, Some((1e9, 1e-5))).unwrap_err();
    assert_eq!(refused, LedgerRefusal::NoGuarantee { job: id("open") });
    ledger.debit(Debit::of(&plan, 1, 1)).unwrap();
    let spent = ledger.spent(&id("open"));
    assert!(spent.epsilon.is_infinite() && spent.epsilon_local.is_infinite() && spent.debits == 1);
    assert_eq!(serde_json::to_value(spent.epsilon).unwrap(), serde_json::Value::Null);
    // From then on the data set's total is none, and an organization with a total budget takes part in nothing more.
    let patient = plan_of("demo", 1.0);
    assert!(ledger.spent_in_all(None).epsilon.is_infinite());
    assert!(ledger.admits(&patient, None).is_ok());
    let refused = ledger.admits(&patient, Some((1e9, 1e-5))).unwrap_err();
    assert!(matches!(refused, LedgerRefusal::TotalBudget { .. }), "{refused}");
    // An entry that promises nothing must not look as if it did, and the other way round.
    let mut sly = Debit::of(&plan, 2, 1);
    sly.noise_multiplier = 1.0;
    assert!(matches!(ledger.debit(sly), Err(LedgerRefusal::Malformed { field: "noise_multiplier", .. })));
    let mut bare = Debit::of(&patient, 1, 1);
    bare.unit = PrivacyUnit::None;
    assert!(matches!(ledger.debit(bare), Err(LedgerRefusal::Malformed { .. })));
}

#[test]
fn a_job_that_changes_whom_it_protects_has_no_bound_in_one_number() {
    let (patients, local) = (plan_of("demo", 1.0), plan_in(PrivacyUnit::PatientLocal, "demo"));
    let same =
        LedgerState::from_debits(id("titles"), SALT, [Debit::of(&patients, 1, 1), Debit::of(&local, 1, 1)]);
    assert!(same.unwrap().spent(&id("demo")).epsilon.is_finite(), "both protect one patient");
    let organizations = plan_in(PrivacyUnit::Organization, "demo");
    let mixed = [Debit::of(&patients, 1, 1), Debit::of(&organizations, 1, 1)];
    let mixed = LedgerState::from_debits(id("titles"), SALT, mixed).unwrap();
    assert!(mixed.spent(&id("demo")).epsilon.is_infinite());
    assert!(mixed.spent_in_all(None).epsilon.is_finite(), "as one patient's it has one");
    assert!(matches!(mixed.admits(&patients, None), Err(LedgerRefusal::JobBudget { .. })));
}

#[test]
fn units_are_in_the_head_and_survive_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LEDGER_FILE);
    let plans = [PrivacyUnit::PatientLocal, PrivacyUnit::Organization, PrivacyUnit::None]
        .map(|unit| plan_in(unit, unit.name()));
    let (mut file, mut ledger) = LedgerFile::open(&path, &id("titles"), &mut rand::rng()).unwrap();
    for plan in &plans {
        let debit = Debit::of(plan, 1, 1);
        ledger.debit(debit.clone()).unwrap();
        file.append(&debit).unwrap();
    }
    let (read, _) = LedgerFile::read(&path, &id("titles")).unwrap();
    assert_eq!(read.debits(), ledger.debits());
    assert_eq!(read.digest(), ledger.digest());
    let mut other = ledger.debits().to_vec();
    other[0].unit = PrivacyUnit::Patient;
    assert_ne!(LedgerState::from_debits(id("titles"), SALT, other).unwrap().digest(), read.digest());
}
