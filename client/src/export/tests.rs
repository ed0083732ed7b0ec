//! Folders that do not belong to the plan. That folders equal peft's own is tested beside the trainer.

use std::fs;
use std::path::Path;

use super::*;
use crate::model::{AdapterSpec, ModelConfig, Pooling, TargetModules, TaskKind, adapter_tensors};

fn config() -> ModelConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/trainer/tiny/config.json");
    ModelConfig::parse(&fs::read(path).unwrap()).unwrap()
}

fn spec() -> AdapterSpec {
    AdapterSpec {
        rank: 2,
        alpha: 0.5,
        use_rslora: false,
        target_modules: ["value"].into(),
        layers: None,
        dropout: 0.0,
        pooling: Pooling::Mean,
        max_tokens: 64,
        task: TaskKind::SingleLabel,
        labels: 3,
        class_weights: Vec::new(),
    }
}

fn ones(spec: &AdapterSpec) -> AdapterTensors {
    let tensors = adapter_tensors(&config(), spec).unwrap();
    tensors.into_iter().map(|t| (t.name.clone(), vec![1.0; t.elements()])).collect()
}

#[test]
fn a_folder_of_another_plan_is_refused_field_by_field() {
    let folder = tempfile::tempdir().unwrap();
    write_peft_folder(folder.path(), "base", &config(), &spec(), &ones(&spec()), None).unwrap();
    read_peft_folder(folder.path(), &config(), &spec(), None).unwrap();
    let all = AdapterSpec { layers: Some(vec![1, 0]), ..spec() };
    read_peft_folder(folder.path(), &config(), &all, None).unwrap();
    for (other, expected) in [
        (AdapterSpec { rank: 3, ..spec() }, "r is 2, the plan says 3"),
        (AdapterSpec { alpha: 1.0, ..spec() }, "lora_alpha is 0.5, the plan says 1.0"),
        (AdapterSpec { use_rslora: true, ..spec() }, "use_rslora is false, the plan says true"),
        (AdapterSpec { layers: Some(vec![1]), ..spec() }, "layers_to_transform is [0,1], the plan says [1]"),
        (
            AdapterSpec { target_modules: ["query"].into(), ..spec() },
            "target_modules is [\"value\"], the plan says [\"query\"]",
        ),
    ] {
        let error = read_peft_folder(folder.path(), &config(), &other, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n  should say: {expected}");
    }
    let path = folder.path().join(ADAPTER_CONFIG);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"use_dora\": false", "\"use_dora\": true")).unwrap();
    let error = read_peft_folder(folder.path(), &config(), &spec(), None).unwrap_err().to_string();
    assert!(error.contains("use_dora is true"), "{error}");
    fs::write(&path, text.replace("\"modules_to_save\": null", "\"modules_to_save\": [\"classifier\"]"))
        .unwrap();
    let error = read_peft_folder(folder.path(), &config(), &spec(), None).unwrap_err().to_string();
    assert!(error.contains("modules_to_save is [\"classifier\"], the plan says null"), "{error}");
    fs::write(&path, text.replace("\"modules_to_save\": null", "\"modules_to_save\": []")).unwrap();
    read_peft_folder(folder.path(), &config(), &spec(), None).unwrap();
    fs::write(&path, "{}").unwrap();
    let error = read_peft_folder(folder.path(), &config(), &spec(), None).unwrap_err().to_string();
    assert!(error.contains("does not parse"), "{error}");
}

#[test]
fn tensors_of_another_plan_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let wider = AdapterSpec { rank: 3, ..spec() };
    let adapter = folder.path().join("adapter");
    write_peft_folder(&adapter, "base", &config(), &wider, &ones(&wider), None).unwrap();
    let path = adapter.join(ADAPTER_CONFIG);
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"r\": 3", "\"r\": 2")).unwrap();
    let error = read_peft_folder(&adapter, &config(), &spec(), None).unwrap_err().to_string();
    assert!(error.contains("lora_A.weight` has shape [3, 32], expected [2, 32]"), "{error}");

    let head = folder.path().join("head.safetensors");
    write_head(&head, &config(), &spec(), &ones(&spec())).unwrap();
    let four = AdapterSpec { labels: 4, ..spec() };
    let error = read_head(&head, &config(), &four).unwrap_err().to_string();
    assert!(error.contains("has shape [3], expected [4]"), "{error}");
    let error = read_head(&adapter.join(ADAPTER_MODEL), &config(), &spec()).unwrap_err().to_string();
    assert!(error.contains("tensor `head.bias` is missing"), "{error}");
    let path = adapter.join(ADAPTER_MODEL);
    fs::copy(&head, &path).unwrap();
    let error = read_peft_folder(&adapter, &config(), &spec(), None).unwrap_err().to_string();
    assert!(error.contains("lora_A.weight` is missing"), "{error}");
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    let mut values = ones(&spec());
    values.values_mut("head.bias").unwrap()[0] = f32::INFINITY;
    let error = write_peft_folder(&adapter, "base", &config(), &spec(), &values, None).unwrap_err();
    assert!(error.to_string().contains("`head.bias`: element 0 is inf"), "{error}");
    values.insert("stray".to_owned(), vec![]);
    assert!(write_head(&folder.path().join("head"), &config(), &spec(), &values).is_err());
    let head_only = AdapterSpec { target_modules: TargetModules::default(), ..spec() };
    let error = write_peft_folder(&adapter, "base", &config(), &head_only, &ones(&head_only), None);
    assert!(matches!(error, Err(ExportError::NoAdapter)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
