//! One job both ways: simulated, and exported to real clients and a real coordinator, with the same seeds. The adapters are equal.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use consilium_proto::{plan::PrivacyUnit, signed::Kind};
use consilium_simulations::{
    export::export,
    log::Log,
    out::Folder,
    run::run,
    scenario::{Scenario, text::Draft},
    seeds::Seeds,
};
use consilium_tests::{Consortium, Process, Shape};

const CHAPTERS: [&str; 21] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI",
    "XVII", "XVIII", "XIX", "XX", "XXI",
];

/// Titles of made-up codes: twelve categories of five codes in each chapter.
fn titles(path: &Path) {
    let mut text = "code,category,chapter,title\n".to_owned();
    for (number, chapter) in CHAPTERS.iter().enumerate() {
        for category in 0..12 {
            for code in 0..5 {
                let word = ["acute", "chronic", "left", "right", "other"][code];
                let place = ["eye", "heart", "skin"][(number + category) % 3];
                writeln!(
                    text,
                    "{chapter}{category:02}{code},{chapter}{category:02},{chapter},\"{word} {place} disease {number} of {category}\""
                )
                .unwrap();
            }
        }
    }
    std::fs::write(path, text).unwrap();
}

fn scenario(folder: &Path, aggregation: &str) -> Scenario {
    titles(&folder.join("titles.csv"));
    let text = format!(
        "name = \"both ways\"\nseed = 11\norganizations = 5\nrounds = 3\n\
         [task]\nkind = \"texts\"\nmodel = \"{}/vectors/trainer/tiny\"\ntitles = \"{}/titles.csv\"\nper_label = 30\n\
         test_per_label = 5\nrank = 4\nalpha = 8.0\nlayers = [1]\nmax_tokens = 16\naggregation = \"{aggregation}\"\n\
         [partition]\nkind = \"dirichlet\"\nalpha = 1.0\n[cohort]\ncolluders = 1\nmin_survivors = 4\n\
         [privacy]\nlot = 20.0\ndelta = 1e-5\n\
         [optimizer]\nkind = \"adam\"\nlearning_rate = 0.02\nbeta1 = 0.9\nbeta2 = 0.999\nepsilon = 1e-8\n\
         [evaluation]\norganizations = true\n",
        env!("CARGO_MANIFEST_DIR"),
        folder.display(),
    );
    Draft::parse(&text, "this test").unwrap().scenario().unwrap()
}

/// What a client's test build draws its lots from: as the simulated organization did.
fn lot_seeds(scenario: &Scenario, organization: u64) -> String {
    let mut lines = String::new();
    for round in 1..=u64::from(scenario.rounds) {
        for attempt in 1..=u64::from(scenario.cohort.max_attempts) {
            let seed = Seeds::new(scenario.seed).bytes("lot", organization, round << 32 | attempt);
            write!(lines, "{round} {attempt} ").unwrap();
            seed.iter().for_each(|byte| write!(lines, "{byte:02x}").unwrap());
            lines.push('\n');
        }
    }
    lines
}

/// The adapter that five real clients and a real coordinator come to under the exported plan.
fn deployed(consortium: &Consortium, scenario: &Scenario) -> BTreeSet<String> {
    let roster = std::fs::read_to_string(consortium.path("roster.toml")).unwrap();
    let exported = export(scenario, &roster, "both-ways".parse().unwrap(), &consortium.path("job")).unwrap();
    assert_eq!(exported.warning, None);
    consortium.sign(Kind::Plan, "plan.toml", &std::fs::read_to_string(&exported.path).unwrap());
    let mut clients = Vec::new();
    let coordinator = consortium.path("coordinator.toml").display().to_string();
    let mut coordinator = Process::start(
        env!("CARGO_BIN_EXE_hooked-coordinator"),
        &["--config", &coordinator],
        consortium.path("coordinator.log"),
    );
    for site in 1..=5usize {
        consortium.configure(site, "plan.toml");
        // The records that the organization had in the simulation.
        let config = std::fs::read_to_string(consortium.path(&format!("site-{site}.toml"))).unwrap();
        let config = config
            .replace(&format!("path = \"site-{site}.csv\""), &format!("path = \"job/data/site-{site}.csv\""))
            .replace("path = \"test.csv\"", "path = \"job/data/test.csv\"")
            .replace("patient_column = \"patient\"", "patient_column = \"patient_id\"");
        consortium.write(&format!("site-{site}.toml"), &config);
        consortium.write(&format!("site-{site}.seeds"), &lot_seeds(scenario, site as u64 - 1));
        let path = |name: &str| consortium.path(&format!("site-{site}.{name}"));
        let (config, seeds) = (path("toml").display().to_string(), path("seeds").display().to_string());
        clients.push(Process::start_with(
            env!("CARGO_BIN_EXE_hooked-client"),
            &["run", "--config", &config],
            &[("CONSILIUM_TEST_LOT_SEEDS", &seeds)],
            path("log"),
        ));
    }
    let mut adapters = BTreeSet::new();
    for client in &mut clients {
        assert!(client.wait().success(), "{}", client.text());
        let applied = client.events_of("applied");
        assert_eq!(applied.len(), 3, "{}", client.text());
        adapters.insert(applied[2]["adapter"].as_str().unwrap().to_owned());
    }
    assert!(coordinator.terminate().success(), "{}", coordinator.text());
    adapters
}

#[test]
fn a_job_comes_to_the_same_adapter_simulated_and_deployed() {
    for (aggregation, heads_at_home) in [("ffa", false), ("alternate", false), ("ffa", true)] {
        let consortium = Consortium::found(&Shape::default());
        let mut scenario = scenario(&consortium.path(""), aggregation);
        if heads_at_home {
            // Through what each trains at home alone, the shared factors differ if a head does.
            scenario.adapter.local = vec!["head".into()];
            (scenario.privacy.unit, scenario.privacy.local_steps) = (PrivacyUnit::None, 3);
            scenario.optimizer = None;
        }
        let out = Folder::create(&consortium.path("simulated"), false).unwrap();
        let outcome = run(&scenario, Some(&out), Log::default(), &mut |_| {}).unwrap();
        let line = &outcome.result.line;
        assert!(line.expected_end, "{:?}", outcome.result.why);
        assert_eq!(line.rounds, 3);
        let simulated = BTreeSet::from([line.adapter_digest.clone().unwrap()]);
        assert_eq!(
            deployed(&consortium, &scenario),
            simulated,
            "{aggregation}, heads at home: {heads_at_home}"
        );
    }
}
