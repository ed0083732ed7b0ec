//! The demo's task with the tiny encoder that ships with the tests: real training in libtorch, without anything to fetch.

use std::{fmt::Write as _, fs, path::Path};

use consilium_proto::plan::{AdapterMode, PrivacyUnit};
use consilium_simulations::{
    World,
    consortium::Consortium,
    log::Log,
    out::Folder,
    run::run,
    scenario::{Attack, End, Partition, Scenario, TaskKind, Texts},
    task::Study,
};
use serde_json::Value;

const CHAPTERS: [&str; 21] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI",
    "XVII", "XVIII", "XIX", "XX", "XXI",
];

/// Titles of made-up codes, so many categories of so many codes in each chapter; a word tells the chapter.
fn titles(path: &Path, (categories, codes): (usize, usize)) {
    let mut text = "code,category,chapter,title\n".to_owned();
    for (number, chapter) in CHAPTERS.iter().enumerate() {
        let word: String = (0..3).map(|_| (b'a' + number as u8) as char).collect();
        for category in 0..categories {
            for code in 0..codes {
                writeln!(
                    text,
                    "{chapter}{category:02}{code},{chapter}{category:02},{chapter},{word} {category} {code}"
                )
                .unwrap();
            }
        }
    }
    fs::write(path, text).unwrap();
}

fn tiny(folder: &Path, organizations: u32, rounds: u32) -> Scenario {
    titles(&folder.join("titles.csv"), (12, 5));
    let mut scenario = Scenario::new(organizations, rounds);
    scenario.task = TaskKind::Texts(Texts {
        model: Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/trainer/tiny"),
        titles: folder.join("titles.csv"),
        per_label: 40,
        test_per_label: 5,
        rank: 4,
        layers: vec![1],
        max_tokens: 16,
        ..Texts::default()
    });
    (scenario.cohort.colluders, scenario.privacy.lot) = (Some(1), 20.0);
    scenario
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn real_training_is_repeated_to_the_bit_and_scored_for_each_organization() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = tiny(folder.path(), 5, 3);
    scenario.partition = Partition::Dirichlet { alpha: 1.0 };
    scenario.evaluation.organizations = true;
    let once = |name: &str| {
        let out = Folder::create(&folder.path().join(name), false).unwrap();
        run(&scenario, Some(&out), Log::default(), &mut |_| {}).unwrap().result
    };
    let (one, two) = (once("one"), once("two"));
    assert!(one.line.expected_end, "{:?}", one.why);
    assert_eq!((one.line.rounds, one.dimension), (3, 2 * 32 * 4 + 21 * 33));
    assert_eq!(one.line.adapter_digest, two.line.adapter_digest);
    assert_eq!(one.line.log_digest, two.line.log_digest);
    let organizations = lines(&folder.path().join("one/organizations.jsonl"));
    assert_eq!(organizations, lines(&folder.path().join("two/organizations.jsonl")));
    assert_eq!(organizations.len(), 5);
    for organization in &organizations {
        let tested = organization["test_examples"].as_u64().unwrap();
        assert!(tested > 0);
        for way in ["alone", "federated", "federated_then_fine_tuned"] {
            let score = &organization[way];
            assert_eq!(score["examples"].as_u64(), Some(tested), "{organization}");
            for field in ["accuracy", "macro_f1"] {
                assert!((0.0..=1.0).contains(&score[field].as_f64().unwrap()), "{organization}");
            }
        }
        // Twenty epochs on its own records do better than three noisy rounds on everybody's, and three more epochs help.
        let loss = |way: &str| organization[way]["loss"].as_f64().unwrap();
        assert!(loss("federated_then_fine_tuned") < loss("federated"), "{organization}");
    }
}

/// A head at home, under a unit that allows it.
fn at_home(folder: &Path, organizations: u32, rounds: u32) -> Scenario {
    let mut scenario = tiny(folder, organizations, rounds);
    scenario.adapter.local = vec!["head".into()];
    scenario.privacy.unit = PrivacyUnit::None;
    (scenario.privacy.local_steps, scenario.privacy.local_rate) = (5, 0.5);
    scenario.partition = Partition::Dirichlet { alpha: 0.3 };
    scenario.evaluation.organizations = true;
    scenario
}

#[test]
fn heads_stay_at_home_and_each_organization_is_scored_with_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = at_home(folder.path(), 5, 4);
    let once = |name: &str, scenario: &Scenario| {
        let out = Folder::create(&folder.path().join(name), false).unwrap();
        let result = run(scenario, Some(&out), Log::default(), &mut |_| {}).unwrap().result;
        assert!(result.line.expected_end, "{:?}", result.why);
        (result, lines(&folder.path().join(name).join("organizations.jsonl")))
    };
    let ((one, members), (two, again)) = (once("one", &scenario), once("two", &scenario));
    // The factors alone are summed: two of rank 4 on 32.
    assert_eq!(one.dimension, 2 * 32 * 4);
    assert_eq!(
        (one.line.adapter_digest, one.line.log_digest),
        (two.line.adapter_digest, two.line.log_digest)
    );
    assert_eq!(members, again);
    let mut shared = scenario.clone();
    shared.adapter.local.clear();
    let (with_shared, everybody) = once("shared", &shared);
    assert_eq!(with_shared.dimension, 2 * 32 * 4 + 21 * 33);
    let loss = |member: &Value, way: &str| member[way]["loss"].as_f64().unwrap();
    for (own, common) in members.iter().zip(&everybody) {
        // Alone they start and end where they do when everything is shared.
        assert_eq!(own["alone"], common["alone"]);
        // With few labels of its own, a head of one's own fits better than everybody's, and training on helps.
        assert!(loss(own, "federated") < loss(common, "federated"), "{own} {common}");
        assert!(loss(own, "federated_then_fine_tuned") < loss(own, "federated"), "{own}");
    }
    // Nothing of a head is in what everybody ends with; and each has another one.
    let study = Study::new(&scenario, &folder.path().join("data")).unwrap();
    let mut world = World::with_study(scenario, study, Log::default()).unwrap();
    world.run(&mut |_| {}).unwrap();
    let state = world.coordinator().job().unwrap().state().clone();
    assert!(state.tensors().all(|(tensor, _)| !tensor.name.starts_with("head.")));
    let head = |index: usize| world.clients()[index].complete(&state).values("head.bias").unwrap().to_vec();
    for index in 1..5 {
        assert_ne!(head(0), head(index));
    }
}

#[test]
fn a_head_outlives_its_process_and_not_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let head_after = |change: &dyn Fn(&mut Scenario)| {
        let mut scenario = at_home(folder.path(), 4, 2);
        (scenario.evaluation.organizations, scenario.privacy.lot) = (false, 40.0);
        change(&mut scenario);
        let study = Study::new(&scenario, &folder.path().join("data")).unwrap();
        let mut world = World::with_study(scenario, study, Log::default()).unwrap();
        let end = world.run(&mut |_| {}).map(|_| ()).map_err(|error| error.to_string());
        let drawn = consilium_client::trainer::Home::drawn(&world.consortium().plan).unwrap().unwrap();
        let first = drawn.values().values("head.bias").unwrap().to_vec();
        let state = world.coordinator().job().unwrap().state();
        let own = |index: usize| world.clients()[index].complete(state).values("head.bias").unwrap().to_vec();
        (end, own(0) == first, own(1) == first)
    };
    // The second dies with its vector on its way, in the first round, and takes part in no other.
    let dies = |scenario: &mut Scenario| {
        scenario.faults.clients = [(1, [4].into())].into();
        scenario.clients.restart_s = 1e4;
        scenario.expect.end = End::GaveUp;
    };
    assert_eq!(head_after(&dies), (Ok(()), false, false));
    // The victim of a replay loses its disk, and the head with it.
    let (end, victims, anothers) =
        head_after(&|scenario| scenario.attack = Some(Attack::Replay { lost_disk: true, colluders: 0 }));
    assert!(end.unwrap_err().contains("older than what its peers hold"));
    assert_eq!((victims, anothers), (true, false));
}

#[test]
fn a_score_with_a_head_of_ones_own_is_told_where_nothing_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    for (unit, told) in [(PrivacyUnit::None, true), (PrivacyUnit::Organization, false)] {
        let mut scenario = at_home(folder.path(), 4, 1);
        (scenario.privacy.unit, scenario.privacy.delta) = (unit, 1e-3);
        let study = Study::new(&scenario, &folder.path().join("data")).unwrap();
        let mut world = World::with_study(scenario, study, Log::default()).unwrap();
        let report = world.run(&mut |_| {}).unwrap();
        assert_eq!(report.attempts[0].test_accuracy.is_some(), told, "{unit}");
    }
}

#[test]
fn the_budget_of_the_demos_scenario_lasts_longer_than_its_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/demo.toml");
    let mut demo: Scenario = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    // What a round costs follows from how many titles there are and not from what they say, nor from the encoder.
    let TaskKind::Texts(texts) = &mut demo.task else { panic!("another task") };
    let tiny = tiny(folder.path(), 5, 1).task;
    let TaskKind::Texts(tiny) = tiny else { panic!("another task") };
    (texts.model, texts.titles, texts.layers, texts.rank) = (tiny.model, tiny.titles, tiny.layers, tiny.rank);
    texts.max_tokens = tiny.max_tokens;
    titles(&texts.titles, (80, 8));
    let study = Study::new(&demo, &folder.path().join("data")).unwrap();
    assert!((9400..=9660).contains(&study.dealt.labels.len()), "{}", study.dealt.labels.len());
    let plan = Consortium::found(&demo, &study).unwrap().plan;
    let after = |attempts| plan.derived().guarantees(attempts, demo.privacy.delta).unwrap().central;
    let rounds = u64::from(demo.rounds);
    assert!(after(rounds + 10) < demo.privacy.epsilon, "{} {}", after(rounds), after(rounds + 10));
}

#[test]
fn each_way_of_averaging_the_factors_is_a_job_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let of = |aggregation: AdapterMode| {
        let mut scenario = tiny(folder.path(), 4, 2);
        if let TaskKind::Texts(texts) = &mut scenario.task {
            texts.aggregation = aggregation;
        }
        let study = Study::new(&scenario, &folder.path().join("data")).unwrap();
        let mut world = World::with_study(scenario, study, Log::default()).unwrap();
        let report = world.run(&mut |_| {}).unwrap();
        assert_eq!(report.released().count(), 2, "{aggregation:?}");
        let state = world.coordinator().job().unwrap().state().clone();
        let moved = |factor: &str| {
            let initial = consilium_proto::release::initial_state(&world.consortium().plan).unwrap();
            let pairs = state.tensors().zip(initial.tensors());
            pairs
                .filter(|((tensor, _), _)| tensor.name.contains(factor))
                .any(|((_, now), (_, then))| now != then)
        };
        (report.adapter_digest, moved("lora_A"), moved("lora_B"))
    };
    let (ffa, alternate, both) = (of(AdapterMode::Ffa), of(AdapterMode::Alternate), of(AdapterMode::Both));
    assert_eq!((ffa.1, ffa.2), (false, true));
    assert_eq!((alternate.1, alternate.2), (true, true));
    assert_eq!((both.1, both.2), (true, true));
    assert!(ffa.0 != alternate.0 && alternate.0 != both.0);
}
