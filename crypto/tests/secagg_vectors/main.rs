//! The frozen vectors under `tests/vectors/secagg`: whole attempts with every intermediate value, and bytes that must be
//! refused, each with the number of the check that refuses them. The folder's README is for those who write another
//! implementation.
//!
//! A vector is replayed from its inputs through the real clients and the real collector, computed a second time from
//! the manual's formulas, and compared value by value. After a change of the wire (a new version number!) write them anew:
//! `cargo test --release -p consilium-crypto --test secagg_vectors -- --ignored`.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod bad;
mod inputs;
mod manual;
mod run;
mod secrets;
mod transcript;

use std::{fs, path::PathBuf, process::Command};

use inputs::{Inputs, Shape};
use serde_json::Value;
use transcript::transcript;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/secagg")
}

fn read(name: &str) -> Value {
    let path = folder().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The good vectors: name, what is special about it, shape.
fn shapes() -> Vec<(&'static str, &'static str, Shape)> {
    let shape = |n, bits, dimension, silent, answers| {
        let t_c = consilium_crypto::secagg::Params::default_colluders(n);
        Shape { n, t_c, bits, dimension, silent, answers }
    };
    const NONE: [&[u16]; 5] = [&[]; 5];
    vec![
        ("n3", "Nobody drops out; the widest ring.", shape(3, 32, 5, NONE, &[])),
        (
            "n3-late-dropouts",
            "No colluders withstood, so that two votes and two answers are a quorum: one member sends its vector and \
             falls silent, another votes and falls silent, the first comes back to answer. The narrowest ring.",
            Shape { t_c: 0, ..shape(3, 8, 9, [&[], &[], &[], &[0], &[1]], &[0]) },
        ),
        (
            "n3-two-chunks",
            "A vector of two chunks, the second with five elements; updates are given by a rule, long vectors by their \
             ends and digests.",
            shape(3, 9, 65541, NONE, &[]),
        ),
        (
            "n5",
            "Nobody drops out. One leading coefficient is zero and is taken as drawn.",
            shape(5, 20, 7, NONE, &[]),
        ),
        (
            "n5-before-advertising",
            "One member never advertises: it has no leaf of its own, and no share of anything.",
            shape(5, 13, 11, [&[2], &[], &[], &[], &[]], &[]),
        ),
        (
            "n5-before-the-deal",
            "One member advertises and deals nothing: it is sealed to, and nobody masks with it.",
            shape(5, 16, 3, [&[], &[4], &[], &[], &[]], &[]),
        ),
        (
            "n5-before-the-input",
            "One member deals and sends no vector: its masking key is put together, and its masks come off.",
            shape(5, 24, 10, [&[], &[], &[1], &[], &[]], &[]),
        ),
        (
            "n5-after-the-input",
            "One member sends its vector and falls silent: it is in the sum.",
            shape(5, 17, 6, [&[], &[], &[], &[3], &[]], &[]),
        ),
        ("n10", "Nobody drops out.", shape(10, 31, 4, NONE, &[])),
        (
            "n10-dropouts",
            "One member falls silent before the deal, one before the input (and answers all the same), one after the \
             input.",
            shape(10, 21, 20, [&[], &[7], &[0], &[5], &[]], &[0]),
        ),
    ]
}

#[test]
fn every_vector_replays_value_by_value() {
    for (name, ..) in shapes() {
        let vector = read(&format!("{name}.json"));
        let inputs = Inputs::from_json(&vector);
        assert_eq!(inputs.name, name);
        compare(name, &transcript(&inputs), &vector);
    }
}

/// Compares two values and says where they part.
fn compare(at: &str, found: &Value, frozen: &Value) {
    match (found, frozen) {
        (Value::Object(found), Value::Object(frozen)) => {
            assert_eq!(found.keys().collect::<Vec<_>>(), frozen.keys().collect::<Vec<_>>(), "{at}");
            found.iter().for_each(|(key, value)| compare(&format!("{at}.{key}"), value, &frozen[key]));
        }
        (Value::Array(found), Value::Array(frozen)) if found.len() == frozen.len() => {
            for (index, (found, frozen)) in found.iter().zip(frozen).enumerate() {
                compare(&format!("{at}[{index}]"), found, frozen);
            }
        }
        _ => assert_eq!(found, frozen, "{at}"),
    }
}

/// The folder holds what is tested and nothing else.
#[test]
fn no_vector_is_forgotten() {
    let names =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    found.sort();
    let mut tested: Vec<String> = shapes().iter().map(|(name, ..)| format!("{name}.json")).collect();
    tested.extend(bad::FILES.map(str::to_owned));
    tested.sort();
    assert_eq!(found, tested);
}

/// A second implementation, in another language and without a common line of code, gives every value again.
#[test]
fn another_implementation_reads_them() {
    let script = folder().join("check.py");
    let output = match Command::new("python3").arg("-B").arg(&script).output() {
        Ok(output) => output,
        // The README asks for Python; a machine without it still has the other tests.
        Err(error) => return eprintln!("skipped: python3 does not start: {error}"),
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains(&format!("{} transcripts", shapes().len())), "{out}");
}

#[test]
#[ignore = "writes the vectors; run after a change of the wire only"]
fn write_the_vectors() {
    fs::create_dir_all(folder()).unwrap();
    for (index, (name, about, shape)) in shapes().into_iter().enumerate() {
        let mut inputs = Inputs::draw(name, about, &shape, 100 + index as u64);
        if name == "n5" {
            *inputs.members[2].draws.coefficients[0].last_mut().unwrap() = [0; 64];
        }
        write(&format!("{name}.json"), &transcript(&inputs));
    }
    for (name, vector) in bad::write() {
        write(name, &vector);
    }
}

fn write(name: &str, vector: &Value) {
    fs::write(folder().join(name), serde_json::to_string_pretty(vector).unwrap() + "\n").unwrap();
}
