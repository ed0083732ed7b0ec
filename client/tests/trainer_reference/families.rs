//! The families beside BERT, and what they are asked to learn: a Llama decoder and the next token, a RoBERTa encoder and several
//! labels. Against `transformers` and `peft` (`make_families.py`), and against themselves in other batches.

use std::collections::BTreeMap;

use consilium_client::data::{DataConfig, Dataset};
use consilium_client::export::{
    ADAPTER_CONFIG, ADAPTER_MODEL, ExportError, merge, read_head, read_peft_folder, write_peft_folder,
};
use consilium_client::model::{
    AdapterSpec, AdapterTensors, CheckedTensors, ModelFolder, Pooling, TargetModules, TaskKind,
    adapter_tensors,
};
use consilium_client::trainer::{
    Base, Device, LocalRecipe, TorchModel, TorchTrainer, TrainError, Trained, Trainer, TrainerSpec,
};

use super::{assert_close, filled, json, lot, numbers, settings, strings, tensors, vectors};

fn open(name: &str) -> ModelFolder {
    ModelFolder::open(&vectors(name)).unwrap()
}

fn llama_spec() -> AdapterSpec {
    AdapterSpec {
        rank: 4,
        alpha: 8.0,
        use_rslora: false,
        target_modules: TargetModules::Pattern("all-linear".to_owned()),
        layers: None,
        dropout: 0.0,
        pooling: Pooling::None,
        max_tokens: 128,
        task: TaskKind::NextToken,
        labels: 0,
        class_weights: Vec::new(),
    }
}

fn roberta_spec() -> AdapterSpec {
    AdapterSpec {
        target_modules: ["query", "value"].into(),
        pooling: Pooling::Cls,
        max_tokens: 64,
        task: TaskKind::MultiLabel,
        labels: 4,
        class_weights: vec![0.5, 1.0, 2.0, 3.5],
        ..llama_spec()
    }
}

/// Texts, their labels and their patients, as a file of this task has them.
fn load(rows: &[(&str, Vec<usize>, usize)], task: TaskKind, labels: usize) -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let line = |(text, labels, patient): &(&str, Vec<usize>, usize)| match task {
        TaskKind::NextToken => serde_json::json!({"t": text, "p": patient}),
        TaskKind::MultiLabel => serde_json::json!({"t": text, "l": labels, "p": patient}),
        TaskKind::SingleLabel => serde_json::json!({"t": text, "l": labels[0], "p": patient}),
    };
    std::fs::write(&path, rows.iter().map(|row| format!("{}\n", line(row))).collect::<String>()).unwrap();
    let (text_column, patient_column) = ("t".to_owned(), "p".to_owned());
    // Named even where the task has no labels: it is not looked at.
    let config = DataConfig { path, text_column, label_column: "l".to_owned(), patient_column };
    let names: Vec<String> = (0..labels).map(|label| label.to_string()).collect();
    Dataset::load_for(&config, task, &names, 9).unwrap()
}

/// The reference texts, one patient each.
fn texts_of(reference: &str, task: TaskKind, labels: usize) -> Dataset {
    let reference = json(reference);
    let texts = strings(&reference["texts"]);
    let of_text = |i: usize| match (&reference["labels"][i], task) {
        (serde_json::Value::Null, _) => vec![],
        // A text without a label has the first, in `weighted`.
        (list, TaskKind::SingleLabel) => vec![numbers(list).first().copied().unwrap_or(0)],
        (list, _) => numbers(list),
    };
    let rows: Vec<_> = (0..texts.len()).map(|i| (texts[i], of_text(i), i)).collect();
    load(&rows, task, labels)
}

/// Every patient's gradient, tensor by tensor, with the reference's.
#[track_caller]
fn compare(
    trainer: &TorchTrainer,
    trained: Trained,
    shares: &BTreeMap<usize, (Vec<f32>, f32, f32)>,
    reference: &BTreeMap<String, Vec<f32>>,
    prefix: &str,
) {
    for (&i, (gradient, loss, _)) in shares {
        assert_close(&[*loss], &reference[&format!("{prefix}loss")][i..=i], "loss");
        let mut rest = gradient.as_slice();
        for tensor in trainer.model().tensors().iter().filter(|tensor| trained.contains(tensor.kind)) {
            let (part, after) = rest.split_at(tensor.elements());
            rest = after;
            let expected = &reference[&format!("{prefix}grad.{}", tensor.name)];
            assert_close(
                part,
                &expected[i * part.len()..][..part.len()],
                &format!("{} of text {i}", tensor.name),
            );
        }
        assert!(rest.is_empty());
    }
}

#[test]
fn a_decoders_states_logits_and_gradients_are_those_of_transformers_and_peft() {
    let (model, spec) = (open("tiny-llama"), llama_spec());
    let (reference, expected) = (json("tiny-llama.json"), tensors("tiny-llama.safetensors"));
    let data = texts_of("tiny-llama.json", TaskKind::NextToken, 0);
    let tokenizer = model.tokenizer(128).unwrap();
    let adapter = read_peft_folder(&vectors("tiny-llama-adapter"), model.config(), &spec, None).unwrap();
    let mut trainer =
        TorchTrainer::new(&model, settings(&spec, Trained::BOTH, 1 << 20), &data, Some(&data)).unwrap();
    let mut prepared = trainer.model().prepare(&data).unwrap();
    let logits = trainer.model().logits(&adapter, &mut prepared).unwrap();
    for (i, text) in strings(&reference["texts"]).into_iter().enumerate() {
        let ids = numbers(&reference["ids"][i]);
        assert_eq!(tokenizer.encode(text).unwrap().iter().map(|&id| id as usize).collect::<Vec<_>>(), ids);
        let hidden = trainer.model().hidden_states(text).unwrap().concat();
        assert_close(&hidden, &expected[&format!("hidden.{i}")], &format!("hidden.{i}"));
        assert_close(&logits[i], &expected[&format!("logits.{i}")], &format!("logits.{i}"));
    }
    let shares = lot(&mut trainer, &adapter, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(shares.len(), 6);
    compare(&trainer, Trained::BOTH, &shares, &expected, "");

    // Scores: of tokens, not of texts.
    let scores = trainer.evaluate(&adapter, None).unwrap();
    let tokens: Vec<f64> = (0..6).map(|i| (numbers(&reference["ids"][i]).len() - 1) as f64).collect();
    let sum: f64 = expected["loss"].iter().zip(&tokens).map(|(&loss, tokens)| f64::from(loss) * tokens).sum();
    assert!((scores.loss - sum / tokens.iter().sum::<f64>()).abs() < 1e-4, "{scores:?}");
    let right = |i: usize| {
        let ids = numbers(&reference["ids"][i]);
        let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        logits[i].chunks(320).zip(&ids[1..]).filter(|(row, next)| best(row) == **next).count() as f64
    };
    let all: f64 = (0..6).map(right).sum();
    assert!((scores.accuracy - all / tokens.iter().sum::<f64>()).abs() < 1e-12);
    let fractions: f64 = (0..6).map(|i| right(i) / tokens[i]).sum();
    assert!((scores.macro_accuracy - fractions / 6.0).abs() < 1e-6);
    assert_eq!((scores.examples, scores.per_label.len()), (6, 0));
    for (i, (_, _, correct)) in shares {
        assert!((f64::from(correct) - right(i) / tokens[i]).abs() < 1e-6);
    }
}

#[test]
fn an_encoders_first_token_several_labels_and_weights_are_those_of_transformers_and_peft() {
    let (model, spec) = (open("tiny-roberta"), roberta_spec());
    let (reference, expected) = (json("tiny-roberta.json"), tensors("tiny-roberta.safetensors"));
    let data = texts_of("tiny-roberta.json", TaskKind::MultiLabel, 4);
    let mut adapter =
        read_peft_folder(&vectors("tiny-roberta-adapter"), model.config(), &spec, None).unwrap();
    let head = read_head(&vectors("tiny-roberta-head.safetensors"), model.config(), &spec).unwrap();
    for (name, values) in head.iter() {
        adapter.insert(name.to_owned(), values.to_vec());
    }
    let mut trainer =
        TorchTrainer::new(&model, settings(&spec, Trained::FFA, 1 << 20), &data, Some(&data)).unwrap();
    for (i, text) in strings(&reference["texts"]).into_iter().enumerate() {
        let hidden = trainer.model().hidden_states(text).unwrap().concat();
        assert_close(&hidden, &expected[&format!("hidden.{i}")], &format!("hidden.{i}"));
    }
    let mut prepared = trainer.model().prepare(&data).unwrap();
    let logits = trainer.model().logits(&adapter, &mut prepared).unwrap();
    assert_close(&logits.concat(), &expected["logits"], "logits");
    let shares = lot(&mut trainer, &adapter, &[0, 1, 2, 3, 4, 5]);
    compare(&trainer, Trained::FFA, &shares, &expected, "");

    let scores = trainer.evaluate(&adapter, None).unwrap();
    let has = |i: usize, label: usize| data.records(i)[0].labels.contains(&(label as u32));
    let says = |i: usize, label: usize| logits[i][label] > 0.0;
    let all = |i: &usize| (0..4).all(|label| has(*i, label) == says(*i, label));
    assert!((scores.accuracy - (0..6).filter(all).count() as f64 / 6.0).abs() < 1e-12);
    for label in 0..4 {
        let with: Vec<usize> = (0..6).filter(|&i| has(i, label)).collect();
        let found = with.iter().filter(|&&i| says(i, label)).count();
        assert_eq!((scores.per_label[label].examples, scores.per_label[label].correct), (with.len(), found));
    }
    assert_eq!((scores.examples, data.records(2)[0].labels.len()), (6, 0));

    let spec = AdapterSpec { task: TaskKind::SingleLabel, ..spec };
    let data = texts_of("tiny-roberta.json", TaskKind::SingleLabel, 4);
    let mut trainer = TorchTrainer::new(&model, settings(&spec, Trained::FFA, 0), &data, None).unwrap();
    let shares = lot(&mut trainer, &adapter, &[0, 1, 2, 3, 4, 5]);
    compare(&trainer, Trained::FFA, &shares, &expected, "weighted.");
}

/// Sixty texts of all lengths, some patients with several.
fn many(task: TaskKind) -> Dataset {
    let words = ["acute", "pain", "of", "left", "ear", "with", "infection", "and", "birth", "injury"];
    let texts: Vec<String> = (0..60).map(|i| words[i % 7..][..1 + i % 4].join(" ")).collect();
    let rows: Vec<_> = (0..60).map(|i| (texts[i].as_str(), vec![i % 4], i % 50)).collect();
    load(&rows, task, if task == TaskKind::NextToken { 0 } else { 4 })
}

#[test]
fn fewer_records_together_and_other_patients_change_not_one_bit() {
    let everybody: Vec<usize> = (0..50).collect();
    let encoder = AdapterSpec { task: TaskKind::SingleLabel, pooling: Pooling::Mean, ..roberta_spec() };
    let top = TargetModules::Pattern(r"model\.layers\.1\..*".to_owned());
    let decoder = AdapterSpec { target_modules: top, ..llama_spec() };
    for (name, spec) in [("tiny-roberta", encoder), ("tiny-llama", decoder)] {
        let (model, data) = (open(name), many(spec.task));
        let adapter = filled(&model, &spec);
        for base in [Base::F32, Base::Bf16] {
            let with = |max_physical_batch: u32, cache_bytes: u64| {
                let settings =
                    TrainerSpec { base, max_physical_batch, ..settings(&spec, Trained::BOTH, cache_bytes) };
                TorchTrainer::new(&model, settings, &data, None).unwrap()
            };
            let together = lot(&mut with(48, 1 << 20), &adapter, &everybody);
            assert!(together.values().any(|(gradient, ..)| gradient.iter().any(|g| g.abs() > 1e-3)));
            for most in [1, 3] {
                let fewer = lot(&mut with(most, 0), &adapter, &everybody);
                assert!(fewer == together, "{name} {base:?}: {most} records together");
            }
            let mut trainer = with(48, 0);
            for patient in [0, 9, 31, 49] {
                let alone = lot(&mut trainer, &adapter, &[patient]);
                assert!(alone[&patient] == together[&patient], "{name} {base:?}: patient {patient} alone");
            }
        }
    }
}

#[test]
fn a_half_precision_base_keeps_the_factors_whole() {
    let (model, spec) = (open("tiny-llama"), llama_spec());
    let data = texts_of("tiny-llama.json", TaskKind::NextToken, 0);
    let adapter = read_peft_folder(&vectors("tiny-llama-adapter"), model.config(), &spec, None).unwrap();
    let gradients = |base: Base, adapter: &AdapterTensors| {
        let settings = TrainerSpec { base, ..settings(&spec, Trained::BOTH, 0) };
        let mut trainer = TorchTrainer::new(&model, settings, &data, None).unwrap();
        lot(&mut trainer, adapter, &[0, 1, 2, 3, 4, 5])
    };
    let (whole, half) = (gradients(Base::F32, &adapter), gradients(Base::Bf16, &adapter));
    for (patient, (expected, loss, _)) in &whole {
        let norm = |values: &[f32]| values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        let difference: Vec<f32> = expected.iter().zip(&half[patient].0).map(|(a, b)| a - b).collect();
        let relative = norm(&difference) / norm(expected);
        assert!(relative > 0.0 && relative < 0.1, "patient {patient}: {relative}");
        assert!((half[patient].1 - loss).abs() < 0.03 * loss.abs(), "{} {loss}", half[patient].1);
    }
    // A step far below what a merged bf16 weight could hold still moves the output.
    let moved = |size: f32| {
        let mut young = adapter.clone();
        for tensor in adapter_tensors(model.config(), &spec).unwrap() {
            if tensor.name.ends_with("lora_B.weight") {
                young.values_mut(&tensor.name).unwrap().fill(size);
            }
        }
        gradients(Base::Bf16, &young)
    };
    let (none, little) = (moved(0.0), moved(3e-4));
    assert!(none.iter().any(|(patient, (gradient, ..))| gradient != &little[patient].0));
}

#[test]
fn a_decoder_learns_its_texts_and_its_adapter_reads_back_as_pefts() {
    let (model, spec) = (open("tiny-llama"), llama_spec());
    let data = texts_of("tiny-llama.json", TaskKind::NextToken, 0);
    let torch = TorchModel::load(&model, settings(&spec, Trained::FFA, 1 << 20)).unwrap();
    let mut prepared = torch.prepare(&data).unwrap();
    let start = filled(&model, &spec);
    let before = torch.evaluate(&start, &mut prepared, None).unwrap();
    let recipe = LocalRecipe { epochs: 30, lot: 6, learning_rate: 0.02, seed: 1 };
    let trained = torch.train_local(&start, &mut prepared, &recipe, &mut |_, _, _| ()).unwrap();
    let after = torch.evaluate(&trained, &mut prepared, None).unwrap();
    assert!(after.loss < 0.7 * before.loss, "{} → {}", before.loss, after.loss);

    let adapter = read_peft_folder(&vectors("tiny-llama-adapter"), model.config(), &spec, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_peft_folder(folder.path(), "tiny-llama", model.config(), &spec, &adapter, None).unwrap();
    let read = |folder: &std::path::Path, file: &str| std::fs::read(folder.join(file)).unwrap();
    assert!(read(folder.path(), ADAPTER_MODEL) == read(&vectors("tiny-llama-adapter"), ADAPTER_MODEL));
    let described = |folder: &std::path::Path| -> serde_json::Value {
        let mut value: serde_json::Value = serde_json::from_slice(&read(folder, ADAPTER_CONFIG)).unwrap();
        // peft writes a set, in whatever order it happens to have.
        value["target_modules"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
        value
    };
    assert_eq!(described(folder.path()), described(&vectors("tiny-llama-adapter")));
    // The same modules, named.
    let named = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let spec = AdapterSpec { target_modules: named.into(), ..spec };
    assert_eq!(read_peft_folder(folder.path(), model.config(), &spec, None).unwrap(), adapter);
    let spec = AdapterSpec {
        target_modules: named[1..].to_vec().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().into(),
        ..spec
    };
    assert!(
        read_peft_folder(folder.path(), model.config(), &spec, None)
            .unwrap_err()
            .to_string()
            .contains("target_modules is")
    );
}

#[test]
fn a_device_that_is_not_there_is_named_with_the_cure() {
    let spec = TrainerSpec { device: Device::Cuda(7), ..settings(&llama_spec(), Trained::FFA, 0) };
    let error = TorchModel::load(&open("tiny-llama"), spec).unwrap_err();
    assert!(matches!(error, TrainError::NoDevice { wanted: Device::Cuda(7), .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("training.device = cuda:7: the libtorch that this program runs with finds"),
        "{error}"
    );
    assert_eq!("cuda:1".parse(), Ok(Device::Cuda(1)));
    for wrong in ["gpu", "cuda", "cuda:-1", "cuda:9999", ""] {
        assert!(wrong.parse::<Device>().is_err(), "{wrong}");
    }
}

#[test]
fn dropout_is_drawn_in_training_and_never_in_scores() {
    let (model, spec) = (open("tiny-llama"), AdapterSpec { dropout: 0.5, ..llama_spec() });
    let data = texts_of("tiny-llama.json", TaskKind::NextToken, 0);
    let adapter = filled(&model, &spec);
    let mut trainer =
        TorchTrainer::new(&model, settings(&spec, Trained::FFA, 0), &data, Some(&data)).unwrap();
    let (first, second) = (lot(&mut trainer, &adapter, &[0]), lot(&mut trainer, &adapter, &[0]));
    assert!(first != second);
    let plain = AdapterSpec { dropout: 0.0, ..spec };
    let mut without =
        TorchTrainer::new(&model, settings(&plain, Trained::FFA, 0), &data, Some(&data)).unwrap();
    let (scores, expected) =
        (trainer.evaluate(&adapter, None).unwrap(), without.evaluate(&adapter, None).unwrap());
    assert!((scores.loss - expected.loss).abs() < 1e-5 * expected.loss);
    // The mean over draws is near what no dropout gives: each input is kept with half the chance and twice the weight.
    assert!(first[&0].0.iter().zip(&second[&0].0).any(|(a, b)| a != b));
}

#[test]
fn a_merged_model_does_what_the_adapter_did() {
    let texts = texts_of("tiny-llama.json", TaskKind::NextToken, 0);
    let model = open("tiny-llama");
    let spec = llama_spec();
    let adapter = read_peft_folder(&vectors("tiny-llama-adapter"), model.config(), &spec, None).unwrap();
    let logits = |model: &ModelFolder, adapter: &AdapterTensors| {
        let torch = TorchModel::load(model, settings(&spec, Trained::FFA, 0)).unwrap();
        let mut prepared = torch.prepare(&texts).unwrap();
        torch.logits(adapter, &mut prepared).unwrap().concat()
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("merged");
    assert_eq!(merge(&model, &vectors("tiny-llama-adapter"), &out).unwrap(), 14);
    let merged = ModelFolder::open(&out).unwrap();
    let nothing = adapter.iter().map(|(name, values)| (name.to_owned(), vec![0.0; values.len()])).collect();
    assert_close(&logits(&merged, &nothing), &logits(&model, &adapter), "logits");
    assert!(logits(&model, &nothing) != logits(&model, &adapter));
    let error = merge(&model, &vectors("tiny-llama-adapter"), &out).unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");

    // An encoder's heads and pooler are copied; an adapter of another model is refused.
    let (encoder, out) = (open("tiny-roberta"), folder.path().join("encoder"));
    merge(&encoder, &vectors("tiny-roberta-adapter"), &out).unwrap();
    let file =
        |folder: &std::path::Path| CheckedTensors::open(&folder.join("model.safetensors"), 1 << 30).unwrap();
    assert_eq!(file(&out).tensors(), file(&vectors("tiny-roberta")).tensors());
    assert!(file(&out).digest() != file(&vectors("tiny-roberta")).digest());
    let error =
        merge(&encoder, &vectors("tiny-llama-adapter"), &folder.path().join("x")).unwrap_err().to_string();
    assert!(error.contains("matches no linear layer of this model; it has attention.self.query"), "{error}");

    // Trained on other base weights, and named so.
    let other = folder.path().join("other");
    write_peft_folder(&other, "tiny", model.config(), &spec, &adapter, Some([7; 32])).unwrap();
    let error = merge(&model, &other, &folder.path().join("x")).unwrap_err();
    assert!(matches!(error, ExportError::OtherBase { .. }), "{error}");
    assert!(error.to_string().contains("was trained on base weights 0707"), "{error}");
    write_peft_folder(&other, "tiny", model.config(), &spec, &adapter, Some(model.digests().weights))
        .unwrap();
    let named = CheckedTensors::open(&other.join(ADAPTER_MODEL), 1 << 30).unwrap();
    assert_eq!(named.metadata()["format"], "pt");
    assert_eq!(
        read_peft_folder(&other, model.config(), &spec, Some(model.digests().weights)).unwrap(),
        adapter
    );
    merge(&model, &other, &folder.path().join("y")).unwrap();
}
