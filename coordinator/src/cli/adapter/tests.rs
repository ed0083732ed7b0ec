//! On the adapters that `peft` wrote for the trainer's tests.

use std::path::{Path, PathBuf};

use clap::Parser as _;

use super::folder::{Folder, MODEL, Pair, norm};
use crate::cli::{Cli, Failure};

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/trainer").join(name)
}

fn adapter(arguments: &[&str]) -> Result<String, Failure> {
    let line = Cli::parse_from([&["consilium", "adapter"], arguments].concat());
    let mut out = Vec::new();
    crate::cli::run(line, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `B·A`, the slow way.
fn product(pair: Pair<'_>, scale: f64) -> Vec<f64> {
    let (r, inputs, outputs) = (pair.a.shape[0], pair.a.shape[1], pair.b.shape[0]);
    let at = |o: usize, i: usize| -> f64 {
        (0..r).map(|k| f64::from(pair.b.values[o * r + k]) * f64::from(pair.a.values[k * inputs + i])).sum()
    };
    (0..outputs * inputs).map(|x| scale * at(x / inputs, x % inputs)).collect()
}

#[test]
fn norms_and_distances_are_those_of_the_products() {
    let (all, top) =
        (Folder::read(&reference("tiny-all")).unwrap(), Folder::read(&reference("tiny-top")).unwrap());
    let module = "encoder.layer.1.attention.self.query";
    let (p, q) = (product(all.pairs()[module], all.scale()), product(top.pairs()[module], top.scale()));
    let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let apart =
        length(&p.iter().zip(&q).map(|(x, y)| x - y).collect::<Vec<_>>()) / length(&p).max(length(&q));
    assert!(apart > 0.1);

    let shown = adapter(&["inspect", text(&reference("tiny-all")), "--json"]).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["scale"], &shown["config"]["r"], &shown["base_weights"]),
        (&2.0.into(), &4.into(), &().into())
    );
    let of = |value: &serde_json::Value| {
        value["modules"].as_array().unwrap().iter().find(|entry| entry["module"] == module).unwrap().clone()
    };
    assert!((of(&shown)["moved"].as_f64().unwrap() - length(&p)).abs() < 1e-9 * length(&p));
    assert!((of(&shown)["a"].as_f64().unwrap() - norm(&all.pairs()[module].a.values)).abs() < 1e-12);

    let compared =
        adapter(&["diff", text(&reference("tiny-all")), text(&reference("tiny-top")), "--json"]).unwrap();
    let compared: serde_json::Value = serde_json::from_str(&compared).unwrap();
    assert!((of(&compared)["apart"].as_f64().unwrap() - apart).abs() < 1e-9);
    // Layer 0 is adapted in one of them only.
    let alone = compared["modules"].as_array().unwrap().iter().find(|entry| entry["second"] == 0.0).unwrap();
    assert_eq!((&alone["apart"], &alone["cosine"]), (&1.0.into(), &().into()));
    let (table, plain) = (
        adapter(&["inspect", text(&reference("tiny-llama-adapter"))]).unwrap(),
        Folder::read(&reference("tiny-llama-adapter")),
    );
    assert!(table.contains("model.layers.1.mlp.down_proj") && table.contains("CAUSAL_LM"), "{table}");
    assert_eq!(plain.unwrap().pairs().len(), 14);
}

#[test]
fn what_is_converted_does_the_same() {
    let home = tempfile::tempdir().unwrap();
    let (source, at) = (reference("minilm-adapter"), |name: &str| home.path().join(name));
    let convert = |out: &str, more: &[&str]| {
        adapter(&[&["convert", text(&source), "--out", text(&at(out))], more].concat()).unwrap();
    };
    let within =
        |out: &str, apart: &str| adapter(&["diff", text(&source), text(&at(out)), "--within", apart]);
    convert("same", &[]);
    assert!(std::fs::read(at("same").join(MODEL)).unwrap() == std::fs::read(source.join(MODEL)).unwrap());
    convert("plain", &["--scale", "plain"]);
    within("plain", "1e-7").unwrap();
    let plain = Folder::read(&at("plain")).unwrap();
    assert!(!plain.rslora && plain.alpha == 32.0, "{} {}", plain.rslora, plain.alpha);
    convert("half", &["--element", "f16", "--task", "SEQ_CLS", "--base", "here"]);
    within("half", "2e-3").unwrap();
    let error = within("half", "1e-6").unwrap_err().to_string();
    assert!(error.contains("apart, more than 1e-6"), "{error}");
    let half = Folder::read(&at("half")).unwrap();
    assert_eq!(
        (half.said("task_type"), half.said("base_model_name_or_path")),
        ("SEQ_CLS".into(), "here".into())
    );

    convert("inside", &["--prefix", "bert"]);
    let inside = Folder::read(&at("inside")).unwrap();
    assert!(inside.pairs().contains_key("bert.encoder.layer.4.attention.self.query"));
    assert_eq!(inside.config["target_modules"], Folder::read(&source).unwrap().config["target_modules"]);
    adapter(&["convert", text(&at("inside")), "--out", text(&at("back")), "--strip", "bert"]).unwrap();
    within("back", "0").unwrap();
    // Whole names in the description follow.
    adapter(&[
        "convert",
        text(&reference("tiny-llama-adapter")),
        "--out",
        text(&at("llama")),
        "--prefix",
        "inner",
    ])
    .unwrap();
    let targets = Folder::read(&at("llama")).unwrap().config["target_modules"].to_string();
    assert!(targets.contains("\"inner.model.layers.0.mlp.up_proj\""), "{targets}");
    for (arguments, expected) in [
        (vec!["convert", text(&source), "--out", text(&at("same"))], "exists already"),
        (vec!["convert", text(&source), "--out", "x", "--strip", "roberta"], "does not begin with it"),
    ] {
        let error = adapter(&arguments).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_folder_that_is_no_adapter_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let (source, folder) = (reference("tiny-top"), home.path().join("adapter"));
    let config = std::fs::read_to_string(source.join("adapter_config.json")).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let refused = |config: &str, model: &[u8]| {
        std::fs::write(folder.join("adapter_config.json"), config).unwrap();
        std::fs::write(folder.join(MODEL), model).unwrap();
        adapter(&["inspect", text(&folder)]).unwrap_err().to_string()
    };
    let model = std::fs::read(source.join(MODEL)).unwrap();
    for (from, to, expected) in [
        ("\"r\": 4", "\"r\": 5", "and adapter_config.json says r = 5"),
        ("\"r\": 4", "\"r\": 0", "r is missing, or not 1 to 4096"),
        ("\"LORA\"", "\"IA3\"", "peft_type is IA3; LORA is read"),
        ("\"use_dora\": false", "\"use_dora\": true", "use_dora is true"),
        ("\"rank_pattern\": {}", "\"rank_pattern\": {\"query\": 8}", "rank_pattern is not empty"),
        ("{", "", "does not parse"),
    ] {
        assert!(config.contains(from), "{from}");
        let error = refused(&config.replacen(from, to, 1), &model);
        assert!(error.contains(expected), "{error}\n  should say: {expected}");
    }
    assert!(refused(&config, &model[..model.len() - 1]).contains("not a sound safetensors file"));
    let mut damaged = model.clone();
    let end = damaged.len();
    damaged[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(refused(&config, &damaged).contains("is NaN"));
    std::fs::remove_file(folder.join(MODEL)).unwrap();
    let error = adapter(&["inspect", text(&folder)]).unwrap_err().to_string();
    assert!(error.contains("`adapter_model.safetensors` is missing"), "{error}");
    assert!(matches!(adapter(&["diff", text(&source), "nowhere"]), Err(Failure::Refused(_))));
}
