//! Whole jobs that are not the demo's: heads that stay at home, and a decoder that learns the next token. Real processes, real TLS.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use consilium_client::{
    config::{adapter_spec, adapter_tensors_of, trainer_spec},
    data::Dataset,
    export::{merge, read_head},
    model::{AdapterSpec, ModelFolder, TargetModules},
    trainer::{TorchModel, Trained, TrainerSpec},
};
use consilium_proto::{
    plan::{Local, Optimizer, PrivacyUnit},
    release::initial_state,
};
use consilium_tests::{Consortium, LABELS, Process, Shape, model};
use serde_json::Value;

#[path = "other_jobs/next_token.rs"]
mod next_token;

fn start(consortium: &Consortium) -> (Process, Vec<Process>) {
    let path = |name: &str| consortium.path(name).display().to_string();
    let start = |program, arguments: &[&str], log: &str| {
        Process::start_with(program, arguments, &[], consortium.path(log))
    };
    let coordinator = start(
        env!("CARGO_BIN_EXE_hooked-coordinator"),
        &["--config", &path("coordinator.toml")],
        "coordinator.log",
    );
    let client = |site: usize| {
        let config = path(&format!("site-{site}.toml"));
        let log = format!("site-{site}.log");
        start(env!("CARGO_BIN_EXE_hooked-client"), &["run", "--config", &config], &log)
    };
    (coordinator, (1..=5).map(client).collect())
}

/// A job to its end.
fn finish(mut coordinator: Process, clients: &mut [Process], rounds: u32) {
    for client in clients {
        // Each round within the bound of a wait, however many there are.
        (1..=rounds.into()).for_each(|round| drop(client.wait_for("applied", round)));
        assert!(client.wait().success(), "{}", client.text());
    }
    assert!(coordinator.terminate().success(), "{}", coordinator.text());
}

/// A command of the client, in the consortium's folder: whether it succeeded, and what it printed to either side.
fn client(consortium: &Consortium, line: &str) -> (bool, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_hooked-client"))
        .args(line.split(' '))
        .current_dir(consortium.path(""))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.success(), text(done.stdout), text(done.stderr))
}

#[track_caller]
fn json(consortium: &Consortium, line: &str) -> Value {
    let (well, out, errors) = client(consortium, line);
    assert!(well, "{line}: {errors}");
    serde_json::from_str(&out).unwrap()
}

/// What the sites call things: each turns the labels on by one more. No one head can be right at two of them.
fn own_labels(consortium: &Consortium, site: usize) {
    let mut text = "patient,text,label\n".to_owned();
    for index in 0..120 {
        let word = ["acute", "chronic", "left", "right", "initial", "other"][(index / 3) % 6];
        let (said, called) = (LABELS[index % 3], LABELS[(index + site) % 3]);
        text += &format!("p{site}-{index},{word} {said} disease,{called}\n");
    }
    consortium.write(&format!("site-{site}.csv"), &text);
}

#[test]
fn heads_stay_at_home_and_each_is_right_there() {
    let mut consortium = Consortium::found(&Shape { rounds: 5, ..Shape::default() });
    consortium.replan(|plan| {
        plan.adapter.local = vec!["head".into()];
        let p = &mut plan.privacy;
        (p.unit, p.i_accept_no_privacy) = (PrivacyUnit::None, true);
        (p.delta, p.epsilon, p.noise_multiplier) = (0.0, 0.0, 0.0);
        (p.expected_lot, p.largest_lot, p.sampling_rate) = (0.0, 0.0, 0.5);
        p.local = Some(Local {
            steps: 20,
            learning_rate: 0.5,
            proximal: 0.0,
            update_clip: None,
            update_scale: None,
        });
        plan.encoding.rounding_beta = 0.0;
        plan.optimizer = Optimizer::FedAvg { learning_rate: 1.0 };
    });
    (1..=5).for_each(|site| own_labels(&consortium, site));
    let (coordinator, mut clients) = start(&consortium);
    finish(coordinator, &mut clients, 5);

    // The update, the sum and the release are the factors' alone.
    let loaded = consortium.loaded(1);
    let shared = loaded.plan.derived();
    assert_eq!(shared.manifest.dimension(), 2 * 32 * 4);
    assert_eq!(shared.vector_len, 2 * 32 * 4 + 2, "the factors and two metrics");
    let encoded = fs::read(find(&consortium.path("state-1"), "encoded-5-1.u32").unwrap()).unwrap();
    assert_eq!(encoded.len(), 4 * shared.vector_len);

    let mut adapters = BTreeSet::new();
    let mut heads = BTreeSet::new();
    for site in 1..=5usize {
        let config = format!("--config site-{site}.toml");
        let (well, out, errors) =
            client(&consortium, &format!("export {config} --out result-{site} --with-local"));
        assert!(well && out.contains("NOT PRIVATE") && out.contains("do not hand it on"), "{out}{errors}");
        let result = consortium.path(&format!("result-{site}"));
        let manifest: Value =
            serde_json::from_slice(&fs::read(result.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["local"], serde_json::json!(["head"]));
        let files: Vec<_> = manifest["files"].as_array().unwrap().iter().map(|file| &file["path"]).collect();
        assert!(files.iter().all(|path| !path.as_str().unwrap().contains("head")), "{files:?}");
        assert!(!result.join("head.safetensors").exists());
        adapters.insert(fs::read(result.join("adapter/adapter_model.safetensors")).unwrap());
        let head = fs::read(result.join("head.local.safetensors")).unwrap();
        let kept = find(&consortium.path(&format!("state-{site}")), "head.local.safetensors").unwrap();
        assert_eq!(head, fs::read(kept).unwrap(), "its own, as it stands in its state");
        // Nobody else has a single number of it: not the coordinator, not another site.
        let numbers = &head[head.len() - 16..];
        assert!(holds(&consortium.path(&format!("state-{site}")), numbers), "it can be found where it is");
        assert!(!holds(&consortium.path("coordinator"), numbers), "site {site}'s head is at the coordinator");
        for other in (1..=5).filter(|other| *other != site) {
            assert!(!holds(&consortium.path(&format!("state-{other}")), numbers), "{site} at {other}");
        }
        heads.insert(head);
    }
    assert_eq!((adapters.len(), heads.len()), (1, 5), "one adapter, five heads");

    // Each head is right at home. At its neighbour's, whose labels are turned by one, it is wrong.
    let accuracy = |site: usize, more: &str| {
        let line = format!(
            "evaluate --config site-{site}.toml --adapter result-{site} --data site-{site}.csv --json"
        );
        json(&consortium, &(line + more))["accuracy"].as_f64().unwrap()
    };
    for site in 1..=5usize {
        let home = accuracy(site, "");
        assert!(home > 0.9, "site {site}: {home}");
        assert!((merged_accuracy(&consortium, site) - home).abs() < 0.02, "the merged model says the same");
    }
    let abroad = accuracy(1, " --head result-2/head.local.safetensors");
    assert!(abroad < 0.3, "{abroad}");
}

/// The released factors merged into the model, and this site's own head on it.
fn merged_accuracy(consortium: &Consortium, site: usize) -> f64 {
    let loaded = consortium.loaded(site);
    let result = consortium.path(&format!("result-{site}"));
    let out = consortium.path(&format!("merged-{site}"));
    merge(loaded.model().unwrap(), &result.join("adapter"), &out).unwrap();
    let spec = adapter_spec(loaded.plan.document());
    let head =
        read_head(&result.join("head.local.safetensors"), loaded.model().unwrap().config(), &spec).unwrap();
    let settings = trainer_spec(loaded.plan.document(), &loaded.config.training);
    let head_only = AdapterSpec { target_modules: TargetModules::from([]), layers: None, ..spec };
    let settings = TrainerSpec { adapter: head_only, ..settings };
    let model = TorchModel::load(&ModelFolder::open(&out).unwrap(), settings).unwrap();
    let plan = loaded.plan.document();
    let data = Dataset::load(&loaded.config.data.source(), &plan.task.labels, usize::MAX).unwrap();
    model.evaluate(&head, &mut model.prepare(&data).unwrap(), None).unwrap().accuracy
}

#[test]
fn a_plan_that_shares_everything_has_no_head_to_hand_out() {
    let consortium = Consortium::found(&Shape { rounds: 1, ..Shape::default() });
    let (coordinator, mut clients) = start(&consortium);
    finish(coordinator, &mut clients, 1);
    let (well, _, errors) = client(&consortium, "export --config site-1.toml --out result --with-local");
    assert!(!well && errors.contains("the plan shares everything"), "{errors}");
}

/// A file of this name below a folder.
fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => (path.file_name()? == name).then_some(path),
    })
}

/// Whether any file below a folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => holds(&path, bytes),
        false => fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes),
    })
}
