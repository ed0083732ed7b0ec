//! Every fuzz function over its seeds, its corpus and seeded mutations of both.
//!
//! `CONSILIUM_FUZZ_RUNS` sets the number of mutations for every target (an ordinary run takes about two seconds each);
//! `CONSILIUM_FUZZ_SEED` another sequence of them. An input that fails is written to the folder that the failure names;
//! copied to `corpus/<target>/` it is run for ever after.
#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use consilium_fuzz::{Mutator, TARGETS, Target, find};

/// Writes the input down if the target panics on it.
struct Witness<'a> {
    target: &'a Target,
    origin: String,
    input: &'a [u8],
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz-failures");
            let file = folder.join(format!("{}-{}", self.target.name, self.origin));
            let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, self.input));
            eprintln!(
                "{}: {} fails; input ({} bytes): {}",
                self.target.name,
                self.origin,
                self.input.len(),
                file.display()
            );
            if let Err(error) = written {
                eprintln!("it could not be written: {error}");
            }
        }
    }
}

fn run(target: &Target, origin: String, input: &[u8]) {
    let witness = Witness { target, origin, input };
    (target.run)(witness.input);
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

fn number(variable: &str, default: u64) -> u64 {
    let Ok(value) = std::env::var(variable) else { return default };
    value.parse().unwrap_or_else(|_| panic!("{variable} = {value} is not a number"))
}

fn fuzz(name: &str) {
    let target = find(name).unwrap();
    let mut inputs = (target.seeds)();
    for (index, seed) in inputs.iter().enumerate() {
        run(&target, format!("seed-{index}"), seed);
    }
    for (file, input) in corpus(name) {
        run(&target, format!("corpus-{file}"), &input);
        inputs.push(input);
    }
    let seed = number("CONSILIUM_FUZZ_SEED", 1);
    let mut mutator = Mutator::new(inputs, seed);
    for index in 0..number("CONSILIUM_FUZZ_RUNS", target.runs) {
        run(&target, format!("mutation-{seed}-{index}"), &mutator.next_input());
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

targets! {
    secagg_client, secagg_collector, secagg_complaint, secagg_record, secagg_sequence, points_and_proofs, ring, roster,
    plan, signatures, identity, announcement, release_head, release_replay, adapter_state, wire, store_event, safetensors,
    adapter_folder, model_folder, records, journal, ledger, client_config,
}

/// Writes every target's seeds where cargo-fuzz looks for a corpus.
#[test]
#[ignore = "writes files; run before cargo-fuzz"]
fn write_the_seeds_for_cargo_fuzz() {
    for target in TARGETS {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (index, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
        }
    }
}
