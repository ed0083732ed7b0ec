//! The demo's task with the tiny encoder that ships with the tests: real training in libtorch, without anything to fetch.

use std::{fmt::Write as _, fs, path::Path};

use consilium_proto::plan::AdapterMode;
use consilium_simulations::{
    World,
    log::Log,
    out::Folder,
    run::run,
    scenario::{Partition, Scenario, TaskKind, Texts},
    task::Study,
};
use serde_json::Value;

const CHAPTERS: [&str; 21] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI",
    "XVII", "XVIII", "XIX", "XX", "XXI",
];

/// Titles of made-up codes, twelve categories of five codes in each chapter; a word tells the chapter.
fn titles(path: &Path) {
    let mut text = "code,category,chapter,title\n".to_owned();
    for (number, chapter) in CHAPTERS.iter().enumerate() {
        let word: String = (0..3).map(|_| (b'a' + number as u8) as char).collect();
        for category in 0..12 {
            for code in 0..5 {
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
    titles(&folder.join("titles.csv"));
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
