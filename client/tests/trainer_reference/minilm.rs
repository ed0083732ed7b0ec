//! The demo's encoder against `transformers` and `peft`. Needs the model in the cache, which `make test` sets up.

use std::path::PathBuf;

use consilium_client::export::{read_head, read_peft_folder};
use consilium_client::model::{AdapterSpec, ModelFolder, Pooling, TaskKind};
use consilium_client::trainer::{TorchModel, TorchTrainer, Trained};

use super::{assert_close, dataset, filled, json, lot, numbers, settings, strings, tensors, vectors};

fn cached_model() -> PathBuf {
    let cache = std::env::var_os("CONSILIUM_CACHE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache")), PathBuf::from);
    let model = cache.join("model");
    assert!(
        model.join("model.safetensors").exists(),
        "{}: no MiniLM encoder here. Run `python3 simulations/demo/setup.py model` (as `make test` does), or set CONSILIUM_CACHE.",
        model.display()
    );
    model
}

#[test]
fn minilm_agrees_with_transformers_and_peft() {
    let model = ModelFolder::open(&cached_model()).unwrap();
    let (reference, expected) = (json("minilm.json"), tensors("minilm.safetensors"));
    let spec = AdapterSpec {
        rank: 4,
        alpha: 16.0,
        use_rslora: true,
        target_modules: ["query", "value"].into(),
        layers: Some(vec![4, 5]),
        dropout: 0.0,
        pooling: Pooling::Mean,
        max_tokens: 64,
        task: TaskKind::SingleLabel,
        labels: 4,
        class_weights: Vec::new(),
    };
    let texts = strings(&reference["texts"]);
    let tokenizer = model.tokenizer(64).unwrap();
    let torch = TorchModel::load(&model, settings(&spec, Trained::FFA, 1 << 24)).unwrap();
    for (i, text) in texts.iter().enumerate() {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids.iter().map(|&id| id as usize).collect::<Vec<_>>(), numbers(&reference["ids"][i]));
        let hidden = torch.hidden_states(text).unwrap();
        let first: Vec<f32> = hidden.iter().flat_map(|token| token[..16].to_vec()).collect();
        assert_close(&first, &expected[&format!("hidden.{i}")], &format!("hidden.{i}"));
        let all = hidden.concat();
        let sum = all.iter().map(|&x| f64::from(x)).sum::<f64>() as f32;
        let norm = all.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32;
        assert_close(&[sum, norm], &expected[&format!("sums.{i}")], &format!("sums.{i}"));
        let pooled: Vec<f32> = (0..384)
            .map(|c| (hidden.iter().map(|t| f64::from(t[c])).sum::<f64>() / hidden.len() as f64) as f32)
            .collect();
        assert_close(&pooled, &expected["pooled"][i * 384..][..384], "pooled");
    }
    let lora = read_peft_folder(&vectors("minilm-adapter"), model.config(), &spec, None).unwrap();
    let head = read_head(&vectors("minilm-head.safetensors"), model.config(), &spec).unwrap();
    let adapter =
        lora.iter().chain(head.iter()).map(|(name, values)| (name.to_owned(), values.to_vec())).collect();
    let rows: Vec<_> = texts.iter().enumerate().map(|(i, &text)| (text, 0, i)).collect();
    let mut data = torch.prepare(&dataset(&rows, 4, 1)).unwrap();
    let logits = torch.logits(&adapter, &mut data).unwrap().concat();
    assert_close(&logits, &expected["logits"], "logits");
}

#[test]
fn on_minilm_too_a_gradient_takes_not_one_bit_from_the_others() {
    let model = ModelFolder::open(&cached_model()).unwrap();
    let spec = AdapterSpec {
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        target_modules: ["query", "value"].into(),
        layers: Some(vec![5]),
        dropout: 0.0,
        pooling: Pooling::Mean,
        max_tokens: 64,
        task: TaskKind::SingleLabel,
        labels: 4,
        class_weights: Vec::new(),
    };
    let adapter = filled(&model, &spec);
    let words = "Unspecified fracture of shaft of left femur, subsequent encounter for closed fracture with routine healing";
    let words: Vec<&str> = words.split(' ').collect();
    let texts: Vec<String> = (0..70)
        .map(|i| words[i % 11..].iter().take(1 + i % 13).copied().collect::<Vec<_>>().join(" "))
        .collect();
    let rows: Vec<_> = texts.iter().enumerate().map(|(i, text)| (text.as_str(), i % 4, i)).collect();
    let data = dataset(&rows, 4, 1);
    let mut trainer = TorchTrainer::new(&model, settings(&spec, Trained::FFA, 0), &data, None).unwrap();
    let everybody: Vec<usize> = (0..70).collect();
    let together = lot(&mut trainer, &adapter, &everybody);
    for patient in (0..70).step_by(9) {
        let alone = lot(&mut trainer, &adapter, &[patient]);
        assert!(alone[&patient] == together[&patient], "patient {patient} alone");
        let few = lot(&mut trainer, &adapter, &[patient, 3, 66]);
        assert!(few[&patient] == together[&patient], "patient {patient} among few");
    }
}
