//! The scenarios that ship: each parses, and can work.

use std::{fs, path::Path};

use consilium_simulations::scenario::text::{BadText, Draft};

#[test]
fn every_ready_scenario_can_work() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut seen = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        match Draft::read(&path).unwrap_or_else(|why| panic!("{name}: {why}")).scenario() {
            Ok(scenario) => {
                assert_eq!(scenario.name, name);
                scenario.check().unwrap_or_else(|why| panic!("{name}: {why}"));
            }
            // Model and titles are fetched by make setup.
            Err(BadText::NoFile { .. }) => assert_eq!(name, "demo"),
            Err(why) => panic!("{name}: {why}"),
        }
        seen.push(name);
    }
    for name in ["demo", "hospitals-100", "organizations-1000", "epsilon-sweep"] {
        assert!(seen.iter().any(|it| it == name), "{name}");
    }
}
