use std::time::Duration;

use consilium_proto::plan::PrivacyUnit;

use super::super::{Attack, Cut, End, Profile, Protocol, Scenario, Texts};
use super::*;

fn message(change: &dyn Fn(&mut Scenario)) -> String {
    let mut scenario = Scenario::new(50, 3);
    change(&mut scenario);
    scenario.check().unwrap_err().to_string()
}

#[test]
fn what_cannot_work_is_refused_with_the_arithmetic() {
    let good = Scenario::new(50, 3);
    good.check().unwrap();
    assert_eq!(
        message(&|it| it.clients.dropout = 0.34),
        "clients.dropout is 0.34: ⌈0.34 · 50⌉ = 17 organizations would drop out, and n − m_min = 50 − 34 = 16 may be silent"
    );
    let mut most = good.clone();
    most.clients.dropout = 0.32;
    most.check().unwrap();
    assert_eq!(most.dropouts(), 16);
    let refused = message(&|it| (it.cohort.colluders, it.cohort.min_survivors) = (Some(49), Some(34)));
    assert!(refused.contains("⌊(50 + 49)/2⌋ + 1 = 50"), "{refused}");
    let refused = message(&|it| it.cohort.colluders = Some(51));
    assert!(refused.contains("= 51 votes are more than the 50 organizations"), "{refused}");
    for (expected, change) in [
        ("to n = 50", &(|it: &mut Scenario| it.cohort.min_survivors = Some(51)) as &dyn Fn(&mut Scenario)),
        ("3 to 1000", &|it| it.organizations = 2),
        ("below 1", &|it| it.clients.dropout = 1.0),
        ("the step has 600 s", &|it| it.clients.training_s = 600.0),
        ("numbered 1 to 50", &|it| it.faults.forgetful = [50].into()),
        ("faults.late is 1000000000000000: it must be 0 to 10⁹ seconds", &|it| {
            it.faults.late = [(3, Duration::from_secs(1_000_000_000_000_000))].into();
        }),
        ("evaluation.alone.learning_rate is NaN", &|it| it.evaluation.alone.learning_rate = f64::NAN),
        ("evaluation.alone.lot is 0", &|it| it.evaluation.alone.lot = 0),
        ("evaluation.alone.epochs is 0", &|it| it.evaluation.alone.epochs = 0),
        ("evaluation.alone.fine_tune_epochs is 0", &|it| it.evaluation.alone.fine_tune_epochs = 0),
        ("attack.attackers is 0: without members nobody attacks", &|it| {
            it.attack = Some(Attack::Flipped { attackers: 0 });
        }),
        ("needs a round that is old: at least 2", &|it| {
            it.rounds = 1;
            it.attack = Some(Attack::Replay { lost_disk: false, colluders: 0 });
        }),
        ("must end after it begins", &|it| {
            it.network.cuts = vec![Cut { from_s: 5.0, until_s: 5.0, organizations: vec![0], part: 0.0 }];
        }),
        ("leave it out", &|it| {
            it.task = TaskKind::Texts(Texts::default());
            it.privacy.sampling_rate = Some(0.1);
        }),
        ("there are none: all organizations take one step a round together", &|it| it.privacy.proximal = 0.1),
        ("adapter.local is [\"head\"]: this task's parameters are a head and nothing else", &|it| {
            it.adapter.local = vec!["head".into()];
        }),
        (
            "k = ⌈0.3 · 50⌉ = 15 organizations would take part in a round, and a sum takes m_min = 34",
            &|it| {
                it.cohort.sampling = 0.3;
            },
        ),
        (
            "= ⌊(50 + 16)/2⌋ + 1 = 34 of all 50, whoever sits out. The least sampling is 34/50 = 0.680",
            &|it| {
                it.cohort.sampling = 0.3;
            },
        ),
        (
            "⌈0.2 · 40⌉ = 8 organizations would drop out, and k − m_min = 40 − 34 = 6 may be silent",
            &|it| {
                (it.cohort.sampling, it.clients.dropout) = (0.8, 0.2);
            },
        ),
        ("protocol = \"plain\" has one step", &|it| {
            (it.cohort.sampling, it.protocol) = (0.8, Protocol::Plain);
        }),
        ("attackers and victim take part in every round", &|it| {
            it.cohort.sampling = 0.8;
            it.attack = Some(Attack::Lie { colluders: 1 });
        }),
        ("above 0, at most 1, which is all", &|it| it.cohort.sampling = 0.0),
        ("above 0, at most 1, which is all", &|it| it.cohort.sampling = f64::NAN),
        ("at most one profile", &|it| {
            let profile = Profile { organizations: vec![3], ..Profile::default() };
            it.profiles = vec![profile.clone(), profile];
        }),
        ("25 + 30 organizations would have a profile, and there are 50", &|it| {
            let profile = |part| Profile { part, ..Profile::default() };
            it.profiles = vec![profile(0.5), profile(0.6)];
        }),
        ("⌈0.3 · 25⌉ + ⌈0.4 · 25⌉ = 18 organizations would drop out", &|it| {
            it.clients.dropout = 0.3;
            it.profiles = vec![Profile { part: 0.5, dropout: 0.4, ..Profile::default() }];
        }),
    ] {
        let refused = message(change);
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
}

#[test]
fn a_head_stays_at_home_where_there_is_more_to_share_and_no_patient_is_promised_anything() {
    let texts = |it: &mut Scenario| {
        it.task = TaskKind::Texts(Texts::default());
        it.adapter.local = vec!["head".into()];
    };
    for unit in [PrivacyUnit::Patient, PrivacyUnit::PatientLocal] {
        let refused = message(&|it| {
            texts(it);
            it.privacy.unit = unit;
        });
        assert!(refused.contains("promises something to single patients"), "{refused}");
    }
    let refused = message(&|it| {
        texts(it);
        it.adapter.local = vec!["lora_A".into()];
    });
    assert!(refused.contains("adapter.local is [\"lora_A\"]: the head alone can stay at home"), "{refused}");
    let refused = message(&|it| {
        texts(it);
        it.task = TaskKind::Texts(Texts { target_modules: Vec::new(), ..Texts::default() });
    });
    assert!(refused.contains("without task.target_modules"), "{refused}");
    for unit in [PrivacyUnit::Organization, PrivacyUnit::None] {
        let mut good = Scenario::new(50, 3);
        texts(&mut good);
        good.privacy.unit = unit;
        good.check().unwrap();
    }
}

#[test]
fn who_is_too_slow_or_never_comes_counts_as_silent() {
    let slow = |it: &mut Scenario| (it.clients.stragglers, it.clients.straggle) = (0.4, 100.0);
    assert!(message(&slow).contains("20 of 50 train up to 1200 s, longer than the 600 s"));
    let profile = Profile { part: 0.4, training_s: Some(1000.0), ..Profile::default() };
    let refused = message(&|it| it.profiles = vec![profile.clone()]);
    assert!(refused.contains("20 of 50 train up to 1200 s"), "{refused}");
    let never = |it: &mut Scenario| it.faults.late = (0..17).map(|index| (index, Duration::MAX)).collect();
    assert!(message(&never).contains("17 never come and 0 drop out"));
    let mut meant = Scenario::new(50, 3);
    never(&mut meant);
    meant.expect.end = End::GaveUp;
    meant.check().unwrap();
}
