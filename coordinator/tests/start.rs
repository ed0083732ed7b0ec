//! A job that goes on from another adapter: the coordinator begins only with the very file that its members signed.

#[path = "generator/mod.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unused_imports)]
mod generator;

use std::{fs, path::Path};

use consilium_coordinator::config::Config;
use consilium_crypto::digest::Digest;
use consilium_proto::{
    release::initial_state,
    signed::{Kind, Signatures},
};
use generator::{Consortium, Shape};
use safetensors::{Dtype, tensor::TensorView};

const SIDE: u32 = 1000;

/// A safetensors file of one tensor, all of one value.
fn one_tensor(name: &str, value: f32) -> Vec<u8> {
    let bytes: Vec<u8> = (0..SIDE).flat_map(|_| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![SIDE as usize], &bytes).expect("a tensor");
    safetensors::serialize([(name, view)], None).expect("a file")
}

/// The folder of a coordinator whose plan names what `start` makes of its tensor's name; its configuration, and that file.
fn founded(folder: &Path, start: &dyn Fn(&str) -> Vec<u8>) -> (std::path::PathBuf, Vec<u8>) {
    let consortium = Consortium::found(&Shape { dimension: SIDE, ..Shape::default() });
    let config = consortium.write(folder, ([127, 0, 0, 1], 0).into(), "");
    let mut plan = consortium.plan.document().clone();
    let file = start(&plan.adapter.tensors[0].name);
    plan.adapter.start = Some(Digest::of(&file));
    let text = plan.to_text().expect("a plan");
    let mut signatures = Signatures::default();
    for organization in &consortium.organizations {
        signatures.add(Kind::Plan, &text, &organization.id, organization.signing_key());
    }
    fs::write(folder.join("plan.toml"), &text).expect("a file");
    fs::write(folder.join("plan.toml.sig"), signatures.to_text()).expect("a file");
    fs::write(folder.join("plan.toml.start"), &file).expect("a file");
    (config, file)
}

#[test]
fn only_the_values_that_were_signed_are_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let (config, file) = founded(folder.path(), &|name| one_tensor(name, 0.5));
    let beside = folder.path().join("plan.toml.start");
    let loaded = Config::load(&config).unwrap();
    let state = initial_state(&loaded.plan).unwrap();
    assert!(state.tensors().all(|(_, values)| values.iter().all(|&value| value == 0.5)));

    let refused = || Config::load(&config).err().expect("a refusal").to_string();
    let mut other = file.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&beside, &other).unwrap();
    let error = refused();
    assert!(error.contains("adapter.start") && error.contains("fetch the one that was signed"), "{error}");
    fs::remove_file(&beside).unwrap();
    let error = refused();
    assert!(
        error.contains("adapter.start") && error.contains("is not beside the plan, PLAN.start"),
        "{error}"
    );
    fs::write(&beside, &file).unwrap();
    assert!(Config::load(&config).is_ok());
}

#[test]
fn a_signed_file_that_does_not_fit_the_plan_is_named() {
    for (start, expected) in [
        (Box::new(|_: &str| one_tensor("stray", 0.5)) as Box<dyn Fn(&str) -> Vec<u8>>, "stray"),
        (Box::new(|name: &str| one_tensor(name, f32::NAN)), "finite"),
        (Box::new(|_: &str| b"no safetensors".to_vec()), "safetensors"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (config, _) = founded(folder.path(), start.as_ref());
        let error = Config::load(&config).err().expect("a refusal").to_string();
        assert!(error.contains("adapter.start") && error.contains(expected), "{error}");
    }
}
