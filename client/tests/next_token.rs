//! A causal decoder through the very rounds that the classifier goes through: a signed plan, its model checked by digest and tensor, lots
//! drawn, clipped, encoded and noised at three organizations, the sum released and applied, the result written and read back.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod cli_support;

use std::{fs, path::Path};

use cli_support::{Consortium, MODEL};
use consilium_client::{
    config::{Loaded, adapter_spec, adapter_tensors_of, today, trainer_spec},
    data::Dataset,
    model::{ModelFolder, adapter_tensors},
    result,
    run::lot::encode_lot,
    trainer::{TorchTrainer, Trained, Trainer as _},
};
use consilium_crypto::{digest::Digest, ring};
use consilium_proto::{
    plan::{Optimizer, Pooling, TaskKind, Tensor},
    release::{apply_sum, initial_state},
};
use rand::{rand_core::UnwrapErr, rngs::SysRng};

const SITES: usize = 3;

fn decoder() -> std::path::PathBuf {
    Path::new(MODEL).with_file_name("tiny-llama")
}

/// The test consortium, its plan turned to the next token.
fn consortium() -> Consortium {
    let model = ModelFolder::open(&decoder()).unwrap();
    let consortium = Consortium::with(|draft| {
        let plan = &mut draft.plan;
        let digests = model.digests();
        (plan.model.config, plan.model.tokenizer) = (Digest(digests.config), Digest(digests.tokenizer));
        (plan.model.weights, plan.model.pooling) = (Digest(digests.weights), Pooling::None);
        plan.task.kind = TaskKind::NextToken;
        plan.task.labels.clear();
        plan.adapter.target_modules = ["q_proj", "v_proj", "up_proj"].into();
        plan.adapter.layers = None;
        let tensors = adapter_tensors(model.config(), &adapter_spec(plan)).unwrap();
        plan.adapter.tensors = tensors
            .iter()
            .map(|tensor| {
                let trained = Trained::FFA.contains(tensor.kind);
                let shape = tensor.shape.iter().map(|&axis| axis as u32).collect();
                Tensor { name: tensor.name.clone(), shape, bound: if trained { 0.0 } else { 0.176 }, trained }
            })
            .collect();
        let p = &mut plan.privacy;
        (p.sampling_rate, p.expected_lot, p.largest_lot) = (0.5, 27.0, 9.0);
        // So little that it costs nothing: what is learned is the matter here.
        (p.noise_multiplier, p.epsilon) = (0.02, 1e9);
        (plan.encoding.loss_max, plan.encoding.scale, plan.encoding.ring_bits) = (12.0, 1024.0, 32);
        plan.optimizer = Optimizer::Adam { learning_rate: 0.05, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    });
    for site in 1..=SITES {
        let name = format!("site-{site}.toml");
        consortium.edit(&name, MODEL, decoder().to_str().unwrap());
        // There are none: neither here nor in the test set.
        consortium.edit(&name, "label_column = \"label\"\n", "");
    }
    consortium
}

#[test]
fn rounds_teach_a_decoder_and_its_adapter_comes_out() {
    let consortium = consortium();
    let load = |site: usize| Loaded::load(&consortium.path(&format!("site-{site}.toml")), today()).unwrap();
    let loaded: Vec<Loaded> = (1..=SITES).map(load).collect();
    let plan = &loaded[0].plan;
    let (document, derived) = (plan.document(), plan.derived());
    let mut sites: Vec<TorchTrainer> = loaded
        .iter()
        .map(|of| {
            let load = |source: &_, most| Dataset::load_for(source, document.task.kind, &[], most).unwrap();
            let records = load(&of.config.data.source(), document.task.max_records_per_patient as usize);
            let test = load(of.config.evaluation.as_ref().unwrap(), usize::MAX);
            let spec = trainer_spec(document, &of.config.training);
            TorchTrainer::new(of.model().unwrap(), spec, &records, Some(&test)).unwrap()
        })
        .collect();
    let mut state = initial_state(plan).unwrap();
    let before = sites[0].evaluate(&adapter_tensors_of(&state), None).unwrap();
    let mut losses = Vec::new();
    for _ in 0..12 {
        let mut sum = vec![0u32; derived.vector_len];
        for site in &mut sites {
            let update = encode_lot(plan, site, &state, &mut UnwrapErr(SysRng)).unwrap();
            sum.iter_mut().zip(update.values()).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
        }
        let sum = ring::RingVector::reduced(derived.ring, sum);
        let mut packed = Vec::new();
        ring::pack(derived.ring, sum.values(), &mut packed);
        losses.push(apply_sum(plan, &mut state, &packed, SITES).unwrap().loss);
    }
    let trained = adapter_tensors_of(&state);
    let after = sites[0].evaluate(&trained, None).unwrap();
    assert!(after.loss < before.loss - 0.3, "held out: {} → {}", before.loss, after.loss);
    assert!(losses[11] < losses[0] - 0.3, "as the sum tells it: {losses:?}");

    let out = consortium.path("result");
    result::write_files(&out, &loaded[0], &trained).unwrap();
    assert!(!out.join(result::HEAD).exists() && !out.join(result::LABELS).exists());
    assert_eq!(result::read_files(&out, None, &loaded[0]).unwrap(), trained);
    let described = fs::read_to_string(out.join("adapter/adapter_config.json")).unwrap();
    assert!(described.contains("\"task_type\": \"CAUSAL_LM\""), "{described}");
}

#[test]
fn an_adapter_of_other_base_weights_is_refused_by_name() {
    let consortium = consortium();
    let loaded = Loaded::load(&consortium.path("site-1.toml"), today()).unwrap();
    let out = consortium.path("result");
    let adapter = adapter_tensors_of(&initial_state(&loaded.plan).unwrap());
    result::write_files(&out, &loaded, &adapter).unwrap();
    let path = out.join("adapter/adapter_model.safetensors");
    let own = hex::encode(loaded.model().unwrap().digests().weights);
    let text = fs::read(&path).unwrap();
    let at = text.windows(64).position(|window| window == own.as_bytes()).unwrap();
    let mut other = text.clone();
    other[at..at + 64].copy_from_slice(&[b'0'; 64]);
    fs::write(&path, other).unwrap();
    let error = result::read_files(&out, None, &loaded).unwrap_err().to_string();
    assert!(error.contains("was trained on base weights 0000") && error.contains(&own), "{error}");
}
