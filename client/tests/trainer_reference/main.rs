//! The built-in trainer against three references: vectors made once by `transformers` and `peft` (tests/vectors/trainer), a plain
//! one-at-a-time encoder in this folder, and itself in another batch. Doubts removed: forward pass, per-patient gradients, pooling,
//! caching, padding, file formats.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod families;
mod minilm;
mod plain;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use consilium_client::data::{DataConfig, Dataset};
use consilium_client::export::{
    ADAPTER_CONFIG, ADAPTER_MODEL, read_head, read_peft_folder, write_head, write_peft_folder,
};
use consilium_client::model::{
    AdapterSpec, AdapterTensors, CheckedTensors, ModelFolder, Pooling, TargetModules, TaskKind,
    adapter_tensors,
};
use consilium_client::trainer::{
    Base, Device, LocalRecipe, TorchModel, TorchTrainer, TrainError, Trained, Trainer, TrainerSpec,
};
use plain::Plain;
use serde_json::Value;

const TOLERANCE: f64 = 1e-4;

fn vectors(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/trainer").join(name)
}

/// Every tensor of a safetensors file, flat.
fn tensors(name: &str) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    let file = CheckedTensors::open(&vectors(name), 1 << 30).unwrap();
    file.read(&|_| true, &mut |name, _, values| {
        all.insert(name.to_owned(), values);
    })
    .unwrap();
    all
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(vectors(name)).unwrap()).unwrap()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let (f, e) = (f64::from(f), f64::from(e));
        assert!((f - e).abs() <= TOLERANCE * e.abs().max(1.0), "{what}[{index}]: {f} instead of {e}");
    }
}

/// The adapter of tiny-all (`layers` absent) or tiny-top.
fn tiny_spec(layers: Option<Vec<u32>>) -> AdapterSpec {
    AdapterSpec {
        rank: 4,
        alpha: 8.0,
        use_rslora: false,
        // In the order in which peft wrote its set.
        target_modules: ["value", "query"].into(),
        layers,
        dropout: 0.0,
        pooling: Pooling::Mean,
        max_tokens: 64,
        task: TaskKind::SingleLabel,
        labels: 5,
        class_weights: Vec::new(),
    }
}

fn settings(adapter: &AdapterSpec, trained: Trained, cache_bytes: u64) -> TrainerSpec {
    TrainerSpec {
        adapter: adapter.clone(),
        trained,
        cache_bytes,
        threads: 1,
        max_physical_batch: 48,
        base: Base::F32,
        device: Device::Cpu,
    }
}

/// A data set of these texts, label numbers and patients.
fn dataset(rows: &[(&str, usize, usize)], labels: usize, per_patient: usize) -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let lines: String = rows
        .iter()
        .map(|(text, label, patient)| {
            format!("{}\n", serde_json::json!({"t": text, "l": label, "p": patient}))
        })
        .collect();
    std::fs::write(&path, lines).unwrap();
    let config = DataConfig {
        path,
        text_column: "t".to_owned(),
        label_column: "l".to_owned(),
        patient_column: "p".to_owned(),
    };
    let names: Vec<String> = (0..labels).map(|label| label.to_string()).collect();
    Dataset::load(&config, &names, per_patient).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// The reference texts, one patient each.
fn tiny_data() -> Dataset {
    let reference = json("tiny.json");
    let (texts, labels) = (strings(&reference["texts"]), numbers(&reference["labels"]));
    let rows: Vec<_> = (0..texts.len()).map(|i| (texts[i], labels[i], i)).collect();
    dataset(&rows, 5, 1)
}

fn tiny() -> ModelFolder {
    ModelFolder::open(&vectors("tiny")).unwrap()
}

/// Adapter and head as the reference has them.
fn tiny_adapter(model: &ModelFolder, spec: &AdapterSpec, folder: &str) -> AdapterTensors {
    let lora = read_peft_folder(&vectors(folder), model.config(), spec, None).unwrap();
    let head = read_head(&vectors("tiny-head.safetensors"), model.config(), spec).unwrap();
    lora.iter().chain(head.iter()).map(|(name, values)| (name.to_owned(), values.to_vec())).collect()
}

/// What a lot hands over: gradient, loss and correctness by patient.
fn lot(
    trainer: &mut TorchTrainer,
    adapter: &AdapterTensors,
    patients: &[usize],
) -> BTreeMap<usize, (Vec<f32>, f32, f32)> {
    let mut all = BTreeMap::new();
    trainer
        .lot(adapter, patients, &mut |p| {
            let before = all.insert(p.patient, (p.gradient.to_vec(), p.loss, p.correct));
            assert!(before.is_none(), "patient {} twice", p.patient);
        })
        .unwrap();
    all
}

#[test]
fn tokens_and_hidden_states_are_those_of_transformers() {
    let (model, reference, states) = (tiny(), json("tiny.json"), tensors("tiny.safetensors"));
    let tokenizer = model.tokenizer(64).unwrap();
    let torch = TorchModel::load(&model, settings(&tiny_spec(None), Trained::FFA, 0)).unwrap();
    for (i, text) in strings(&reference["texts"]).into_iter().enumerate() {
        let ids = tokenizer.encode(text).unwrap();
        let expected = numbers(&reference["ids"][i]);
        assert_eq!(ids.iter().map(|&id| id as usize).collect::<Vec<_>>(), expected);
        let hidden = torch.hidden_states(text).unwrap().concat();
        assert_close(&hidden, &states[&format!("hidden.{i}")], &format!("hidden.{i}"));
    }
}

#[test]
fn logits_losses_and_gradients_are_those_of_peft() {
    let model = tiny();
    for (name, layers) in [("tiny-all", None), ("tiny-top", Some(vec![1]))] {
        let spec = tiny_spec(layers);
        let adapter = tiny_adapter(&model, &spec, name);
        let reference = tensors(&format!("{name}.safetensors"));
        let data = tiny_data();
        let mut trainer =
            TorchTrainer::new(&model, settings(&spec, Trained::FFA, 1 << 20), &data, None).unwrap();
        let mut prepared = trainer.model().prepare(&data).unwrap();
        let logits = trainer.model().logits(&adapter, &mut prepared).unwrap().concat();
        assert_close(&logits, &reference["logits"], "logits");

        let shares = lot(&mut trainer, &adapter, &[0, 1, 2, 3, 4, 5]);
        assert_eq!(shares.len(), 6);
        for (&i, (gradient, loss, correct)) in &shares {
            assert_close(&[*loss], &reference["loss"][i..=i], "loss");
            let row = &logits[i * 5..][..5];
            let best = (0..5).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            let label = data.records(i)[0].labels[0] as usize;
            assert_eq!(*correct, f32::from(u8::from(best == label)));
            let mut rest = gradient.as_slice();
            for tensor in trainer.model().tensors() {
                if !Trained::FFA.contains(tensor.kind) {
                    continue;
                }
                let (part, after) = rest.split_at(tensor.elements());
                rest = after;
                let expected = &reference[&format!("grad.{}", tensor.name)];
                let expected = &expected[i * tensor.elements()..][..tensor.elements()];
                assert_close(part, expected, &format!("{name} {} of text {i}", tensor.name));
            }
            assert!(rest.is_empty());
        }
    }
}

/// Deterministic, not small, different everywhere.
fn filled(model: &ModelFolder, spec: &AdapterSpec) -> AdapterTensors {
    let mut state = 1u32;
    adapter_tensors(model.config(), spec)
        .unwrap()
        .iter()
        .map(|tensor| {
            let values = (0..tensor.elements())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1 << 24) as f32 * 0.6 - 0.3
                })
                .collect();
            (tensor.name.clone(), values)
        })
        .collect()
}

/// Compares every patient's gradient of a lot with the plain encoder's.
fn against_plain(model: &ModelFolder, spec: &AdapterSpec, trained: Trained) {
    let rows = [
        ("fracture of skin", 0, 7),
        ("acute pain in left ear; open, with infection", 4, 8),
        ("diabetes", 2, 7),
        ("benign neoplasm of eye without failure", 1, 9),
        ("birth injury", 3, 7),
        ("chronic renal disease due to other disorder", 4, 9),
    ];
    let data = dataset(&rows, 5, 3);
    let adapter = filled(model, spec);
    let tensors = adapter_tensors(model.config(), spec).unwrap();
    let shapes =
        tensors.iter().map(|t| (t.name.clone(), t.shape.iter().map(|&n| n as i64).collect())).collect();
    let plain = Plain::load(model);
    let tokenizer = model.tokenizer(spec.max_tokens).unwrap();
    let mut trainer = TorchTrainer::new(model, settings(spec, trained, 1 << 20), &data, None).unwrap();
    let shares = lot(&mut trainer, &adapter, &[2, 0, 1]);
    assert_eq!(data.patients(), 3);
    for (patient, (gradient, loss, _)) in shares {
        let mut expected: Vec<f32> = vec![0.0; trainer.dimension()];
        let mut losses = 0.0;
        let records = data.records(patient);
        for record in records {
            let ids = tokenizer.encode(&record.text).unwrap();
            let label = i64::from(record.labels[0]);
            let (loss, gradients) = plain.loss_and_gradients(spec, &adapter, &shapes, &ids, label);
            losses += loss;
            let flat = tensors
                .iter()
                .filter(|t| trained.contains(t.kind))
                .flat_map(|t| Vec::<f32>::try_from(gradients[&t.name].reshape([-1])).unwrap());
            for (sum, value) in expected.iter_mut().zip(flat) {
                *sum += value;
            }
        }
        assert!(expected.iter().any(|g| g.abs() > 1e-2), "a gradient of zeros proves nothing");
        assert_close(&[loss], &[(losses / records.len() as f64) as f32], "loss");
        assert_close(&gradient, &expected, &format!("patient {patient} of {spec:?} {trained:?}"));
    }
}

#[test]
fn every_module_factor_and_pooling_agrees_with_a_plain_encoder() {
    let model = tiny();
    let all = ["query", "key", "value", "attention.output.dense", "intermediate.dense"];
    let mut spec = tiny_spec(None);
    spec.target_modules = all.into();
    against_plain(&model, &spec, Trained::BOTH);
    against_plain(&model, &spec, Trained { a: true, b: false, head: false });
    spec.pooling = Pooling::Cls;
    spec.use_rslora = true;
    against_plain(&model, &spec, Trained::FFA);
    // `dense` means three modules, as in peft; the lowest adapted product is then not at a layer's input.
    spec.target_modules = ["dense"].into();
    spec.layers = Some(vec![1]);
    against_plain(&model, &spec, Trained::BOTH);
    spec.max_tokens = 5;
    spec.pooling = Pooling::Mean;
    against_plain(&model, &spec, Trained::FFA);
    spec.target_modules = TargetModules::default();
    against_plain(&model, &spec, Trained::FFA);
}

#[test]
fn a_patients_gradient_takes_not_one_bit_from_the_others() {
    let model = tiny();
    let spec = tiny_spec(Some(vec![1]));
    let adapter = filled(&model, &spec);
    let words = ["acute", "pain", "of", "left", "ear", "with", "infection", "and", "birth", "injury"];
    let texts: Vec<String> = (0..60).map(|i| words[i % 7..][..1 + i % 4].join(" ")).collect();
    let rows: Vec<_> = texts.iter().enumerate().map(|(i, text)| (text.as_str(), i % 5, i)).collect();
    let data = dataset(&rows, 5, 1);
    let everybody: Vec<usize> = (0..60).collect();
    let mut cached = TorchTrainer::new(&model, settings(&spec, Trained::BOTH, 1 << 20), &data, None).unwrap();
    let mut uncached = TorchTrainer::new(&model, settings(&spec, Trained::BOTH, 0), &data, None).unwrap();
    let together = lot(&mut cached, &adapter, &everybody);
    assert_eq!(together, lot(&mut cached, &adapter, &everybody), "again, from the cache");
    assert_eq!(together, lot(&mut uncached, &adapter, &everybody), "without a cache");
    for patient in [0, 7, 31, 59] {
        let alone = lot(&mut uncached, &adapter, &[patient]);
        assert_eq!(alone[&patient], together[&patient], "patient {patient} alone");
    }
    assert!(lot(&mut cached, &adapter, &[]).is_empty());
    // A cap in the middle, and states computed ahead.
    let mut halved = TorchTrainer::new(&model, settings(&spec, Trained::BOTH, 20_000), &data, None).unwrap();
    let mut asked = Vec::new();
    halved
        .warm_up(&mut |done, of| {
            asked.push((done, of));
            true
        })
        .unwrap();
    assert_eq!(asked[0], (0, 60));
    assert_eq!(together, lot(&mut halved, &adapter, &everybody), "with half a cache");
}

#[test]
fn an_evaluation_counts_what_the_logits_say() {
    let model = tiny();
    let spec = tiny_spec(None);
    let adapter = tiny_adapter(&model, &spec, "tiny-all");
    let data = tiny_data();
    let mut trainer =
        TorchTrainer::new(&model, settings(&spec, Trained::FFA, 1 << 20), &data, Some(&data)).unwrap();
    let mut prepared = trainer.model().prepare(&data).unwrap();
    let logits = trainer.model().logits(&adapter, &mut prepared).unwrap();
    let best = |row: &[f32]| (0..5).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let right: Vec<bool> =
        (0..6).map(|i| best(&logits[i]) == data.records(i)[0].labels[0] as usize).collect();
    let all = trainer.evaluate(&adapter, None).unwrap();
    assert_eq!(all.examples, 6);
    let hits = right.iter().filter(|&&right| right).count();
    assert!((all.accuracy - hits as f64 / 6.0).abs() < 1e-12);
    assert_eq!(all.per_label.iter().map(|score| score.correct).sum::<usize>(), hits);
    assert_eq!(all.per_label[1].examples, 2);
    let losses = &tensors("tiny-all.safetensors")["loss"];
    let mean = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / 6.0;
    assert!((all.loss - mean).abs() < TOLERANCE);
    // Three of six, evenly spread: 0, 2, 4.
    let some = trainer.evaluate(&adapter, Some(3)).unwrap();
    let hits = [0, 2, 4].into_iter().filter(|&i| right[i]).count();
    assert_eq!((some.examples, some.accuracy), (3, hits as f64 / 3.0));
}

#[test]
fn local_training_learns_and_repeats_itself() {
    let model = tiny();
    let data = tiny_data();
    let recipe = LocalRecipe { epochs: 20, lot: 4, learning_rate: 0.02, seed: 1 };
    for spec in [
        tiny_spec(Some(vec![1])),
        AdapterSpec { target_modules: TargetModules::default(), ..tiny_spec(None) },
    ] {
        let torch = TorchModel::load(&model, settings(&spec, Trained::FFA, 1 << 20)).unwrap();
        let mut prepared = torch.prepare(&data).unwrap();
        let start = filled(&model, &spec);
        let before = torch.evaluate(&start, &mut prepared, None).unwrap();
        let mut steps = Vec::new();
        let trained = torch
            .train_local(&start, &mut prepared, &recipe, &mut |step, of, _| steps.push((step, of)))
            .unwrap();
        assert_eq!(steps, (1..=40).map(|step| (step, 40)).collect::<Vec<_>>());
        let after = torch.evaluate(&trained, &mut prepared, None).unwrap();
        assert!(after.loss < 0.5 * before.loss, "{} → {}", before.loss, after.loss);
        let again = torch.train_local(&start, &mut prepared, &recipe, &mut |_, _, _| ()).unwrap();
        assert_eq!(trained, again);
        for ((name, new), (_, old)) in trained.iter().zip(start.iter()) {
            assert_eq!(new == old, name.contains("lora_A"), "{name}");
        }
    }
}

#[test]
fn a_peft_folder_is_written_as_peft_writes_it_and_reads_back() {
    let model = tiny();
    for (name, layers) in [("tiny-all", None), ("tiny-top", Some(vec![1]))] {
        let spec = tiny_spec(layers);
        let adapter = tiny_adapter(&model, &spec, name);
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("adapter");
        write_peft_folder(&out, "tiny", model.config(), &spec, &adapter, None).unwrap();
        write_head(&folder.path().join("head.safetensors"), model.config(), &spec, &adapter).unwrap();
        for file in [ADAPTER_CONFIG, ADAPTER_MODEL] {
            let (ours, theirs) =
                (std::fs::read(out.join(file)).unwrap(), std::fs::read(vectors(name).join(file)).unwrap());
            // peft writes target modules as a set, in whatever order it happens to have.
            if file == ADAPTER_CONFIG {
                assert_eq!(in_order(&ours), in_order(&theirs), "{name}/{file}");
            } else {
                assert!(ours == theirs, "{name}/{file} differs");
            }
        }
        let mut back = read_peft_folder(&out, model.config(), &spec, None).unwrap();
        let head = read_head(&folder.path().join("head.safetensors"), model.config(), &spec).unwrap();
        for (name, values) in head.iter() {
            back.insert(name.to_owned(), values.to_vec());
        }
        assert_eq!(back, adapter);
    }
}

/// The text with its target modules sorted.
fn in_order(config: &[u8]) -> String {
    let text = std::str::from_utf8(config).unwrap();
    text.replace("    \"query\",\n    \"value\"", "    \"value\",\n    \"query\"")
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let model = tiny();
    let spec = tiny_spec(None);
    let adapter = filled(&model, &spec);
    let data = tiny_data();
    let mut trainer = TorchTrainer::new(&model, settings(&spec, Trained::FFA, 0), &data, None).unwrap();
    let mut called = 0;
    let error = trainer.lot(&adapter, &[0, 6], &mut |_| called += 1).unwrap_err();
    assert_eq!(error.to_string(), "patient 6 does not exist; the data set has 6");
    let mut bad = adapter.clone();
    bad.values_mut("head.bias").unwrap()[3] = f32::NAN;
    let error = trainer.lot(&bad, &[0], &mut |_| called += 1).unwrap_err();
    assert_eq!(error.to_string(), "adapter tensor `head.bias`: element 3 is NaN");
    bad.insert("head.bias".to_owned(), vec![0.0; 4]);
    let error = trainer.lot(&bad, &[0], &mut |_| called += 1).unwrap_err();
    assert_eq!(error.to_string(), "adapter tensor `head.bias`: holds 4 numbers, expected [5]");
    assert_eq!(called, 0, "nothing was handed over");

    let mut huge = adapter.clone();
    huge.values_mut("head.weight").unwrap().fill(f32::MAX);
    let mut finite = Vec::new();
    trainer
        .lot(&huge, &[0], &mut |patient| finite.push(patient.gradient.iter().all(|g| g.is_finite())))
        .unwrap();
    assert_eq!(finite, [false], "handed over as it is: whoever sums it leaves the patient out");
    assert!(matches!(trainer.evaluate(&adapter, None), Err(TrainError::NoTestSet)));

    let other_labels = AdapterSpec { labels: 4, ..spec.clone() };
    let error = TorchTrainer::new(&model, settings(&other_labels, Trained::FFA, 0), &data, None);
    assert!(matches!(error.unwrap_err(), TrainError::Labels { found: 5, expected: 4 }));
    let nothing = Trained { a: false, b: false, head: false };
    assert!(TorchModel::load(&model, settings(&spec, nothing, 0)).is_err());
    let threads = TrainerSpec { threads: 0, ..settings(&spec, Trained::FFA, 0) };
    assert!(TorchModel::load(&model, threads).unwrap_err().to_string().contains("threads = 0"));
}
