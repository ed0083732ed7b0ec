//! Plans: what follows from template, roster and model, and what is refused.

use std::collections::BTreeMap;

use consilium_proto::plan::Plan;
use serde_json::json;

use crate::cli_common::{Desk, TEMPLATE, consortium, new_plan, plan, vectors};

#[test]
fn a_plan_is_what_follows_from_template_roster_and_model() {
    let desk = Desk::new();
    let pin = consortium(&desk);
    plan(&desk);
    let (document, derived) = Plan::parse(&desk.read("plan.toml")).unwrap();
    assert_eq!(document.roster.to_string(), pin);
    assert_eq!((document.cohort.organizations, document.cohort.colluders), (3, 1));
    assert_eq!((document.cohort.min_survivors, derived.threshold, derived.honest), (3, 3, 2));

    // The adapter's tensors are peft's own, with the head beside them.
    let file = std::fs::read(vectors("tiny-all/adapter_model.safetensors")).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let mut expected: Vec<_> = header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, tensor)| {
            (name.clone(), serde_json::from_value::<Vec<u32>>(tensor["shape"].clone()).unwrap())
        })
        .collect();
    expected.push(("head.bias".into(), vec![5]));
    expected.push(("head.weight".into(), vec![5, 32]));
    expected.sort();
    let tensors: Vec<_> =
        document.adapter.tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
    assert_eq!(tensors, expected);
    for tensor in &document.adapter.tensors {
        let is_a = tensor.name.contains("lora_A");
        let uniform = is_a || tensor.name == "head.weight";
        assert_eq!(tensor.trained, !is_a, "{}", tensor.name);
        assert_eq!(tensor.bound, if uniform { (1.0 / 32f64.sqrt()) as f32 } else { 0.0 }, "{}", tensor.name);
    }
    let d = 4 * 32 * 4 + 5 * 33;
    assert_eq!(derived.manifest.dimension(), d);
    let least = 4.0 * (d as f64).sqrt();
    let scale = document.encoding.scale;
    assert!(scale >= least && scale / 2.0 < least && scale.log2().fract() == 0.0, "{scale}");
    let needed = derived.encoding.ring_width(3, 40.0, derived.sigma_share).unwrap();
    assert_eq!(needed, derived.ring_needed);
    assert_eq!(document.encoding.ring_bits, needed, "the least that fits");
    // The model's digests are those of its files.
    for (digest, name) in [
        (document.model.config, "config.json"),
        (document.model.tokenizer, "tokenizer.json"),
        (document.model.weights, "model.safetensors"),
    ] {
        let bytes = std::fs::read(vectors("tiny").join(name)).unwrap();
        assert_eq!(digest, consilium_crypto::digest::Digest::of(&bytes), "{name}");
    }

    let json = desk.json(&format!("plan check plan.toml --roster roster.toml --pin {pin} --json"));
    assert_eq!(json["signatures_verified"], true);
    let numbers = &json["numbers"];
    assert_eq!(
        (&numbers["dimension"], &numbers["quorum"], &numbers["honest"]),
        (&json!(d), &json!(3), &json!(2))
    );
    let bytes = (d as u64 + 2) * u64::from(needed);
    assert_eq!(numbers["upload_bytes"], json!(bytes.div_ceil(8)));
    let (spent, budget) = (numbers["epsilon"].as_f64().unwrap(), 6.0);
    assert!(spent <= budget);
    assert!(numbers["epsilon_local"].as_f64().unwrap() > spent);
    assert!(numbers["attempts_in_budget"].as_u64().unwrap() >= 11);
    let text = desk.ok("plan check plan.toml");
    assert!(text.contains("sensitivity              Δ") && text.contains("not looked at"), "{text}");
    assert!(text.contains("a title stands for a patient"), "{text}");
    let shown = desk.ok("plan show plan.toml");
    assert!(shown.contains("base_model.model.encoder.layer.1.attention.self.value.lora_B.weight"), "{shown}");
    assert_eq!(desk.json("plan show plan.toml --json")["document"]["job"], "chapters");

    // A quorum must have signed, and exactly this text.
    let signatures = desk.read("plan.toml.sig");
    desk.write("plan.toml.sig", signatures.lines().next().unwrap());
    let error = desk.refused(&format!("plan check plan.toml --roster roster.toml --pin {pin}"));
    assert!(error.contains("needs 3 signatures") && error.contains("site-2, site-3"), "{error}");
    desk.write("plan.toml.sig", &signatures);
    let text = desk.read("plan.toml");
    desk.write("plan.toml", &text.replace("rounds = 10", "rounds = 11"));
    let error = desk.refused(&format!("plan check plan.toml --roster roster.toml --pin {pin}"));
    assert!(error.contains("does not fit this plan"), "{error}");
}

#[test]
fn a_bad_template_or_model_is_named_with_the_cure() {
    let desk = Desk::new();
    consortium(&desk);
    let tiny = vectors("tiny").display().to_string();
    let replaced = |a: &str, b: &str| {
        assert!(TEMPLATE.contains(a));
        TEMPLATE.replace(a, b)
    };
    let query_value = r#"["query", "value"]"#;
    for (template, expected) in [
        (replaced("rounds = 10", "rounds = 10\nround = 3"), vec!["t.toml", "unknown field `round`"]),
        (replaced("[privacy]", "[privacy]\nepsylon = 1"), vec!["unknown field `epsylon`"]),
        (replaced("rounds = 10", ""), vec!["missing field `rounds`"]),
        (replaced("kind = \"adam\"", "kind = \"lion\""), vec!["lion"]),
        (
            replaced(query_value, r#"["qeury"]"#),
            vec!["`qeury` matches no linear layer", "attention.self.query", "output.dense"],
        ),
        (replaced(query_value, r#"["word_embeddings"]"#), vec!["matches no linear layer"]),
        (replaced(query_value, r#"["dense"]"#), vec!["`dense` also means `pooler.dense`"]),
        (replaced(query_value, "[\"query\"]\nlayers = [2]"), vec!["2 is not a layer", "0 to 1"]),
        (replaced(query_value, "[\"query\"]\nlayers = []"), vec!["adapter.layers is []"]),
        (
            replaced("organization = \"site-1\"", "organization = \"site-9\""),
            vec!["evaluation.organization", "site-9"],
        ),
        (
            replaced("[privacy]", "[cohort]\norganizations = 5\n[privacy]"),
            vec!["cohort.organizations is 5", "lists 3"],
        ),
        (replaced("[privacy]", "[cohort]\ncolluders = 0\n[privacy]"), vec!["allow_no_colluders = true"]),
        (replaced("delta = 1e-5", "delta = 0.001"), vec!["privacy.delta", "2000 patients"]),
        (replaced("labels = [\"a\", \"b\", \"c\", \"d\", \"e\"]", ""), vec!["either labels or labels_file"]),
        (replaced("labels = [", "labels_file = \"no.txt\" #"), vec!["no.txt: there is no such file"]),
        (replaced("rank = 4", "rank = 0"), vec!["adapter"]),
        (replaced("[adapter]", "[encoding]\nring_bits = 9\n[adapter]"), vec!["ring_bits is 9", "need"]),
        (replaced("[adapter]", "[adapter]\nseed = \"12\""), vec!["adapter.seed", "64 lowercase hexadecimal"]),
        (replaced("largest_lot = 40.0", "largest_lot = 40.0\nclip = -1.0"), vec!["privacy.clip is -1"]),
        (replaced("epsilon = 6.0", "epsilon = -1.0"), vec!["privacy.epsilon is -1"]),
    ] {
        let said = new_plan(&desk, &template, &tiny);
        assert_eq!(said.code, 1, "{expected:?}: {said:?}");
        for words in expected {
            assert!(said.err.contains(words), "\"{words}\" is not in {}", said.err);
        }
        assert!(!desk.path("p.toml").exists());
    }

    let folder = desk.path("model");
    std::fs::create_dir(&folder).unwrap();
    let error = new_plan(&desk, TEMPLATE, "model").err;
    assert!(error.contains("`config.json` is missing"), "{error}");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(vectors("tiny").join(name), folder.join(name)).unwrap();
    }
    let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
    for (lie, expected) in [
        (weights[..5].to_vec(), "5 bytes are too few"),
        ([&u64::MAX.to_le_bytes(), &weights[8..]].concat(), "its header claims 18446744073709551615 bytes"),
        (weights[..weights.len() - 1].to_vec(), "past the file's end"),
        ([&[9, 0, 0, 0, 0, 0, 0, 0], b"not json!".as_slice()].concat(), "not a sound safetensors file"),
    ] {
        std::fs::write(folder.join("model.safetensors"), lie).unwrap();
        let said = new_plan(&desk, TEMPLATE, "model");
        assert!(said.code == 1 && said.err.contains(expected), "{expected}: {said:?}");
    }
    std::fs::write(folder.join("model.safetensors"), &weights).unwrap();
    std::fs::write(folder.join("config.json"), "{}").unwrap();
    let error = new_plan(&desk, TEMPLATE, "model").err;
    assert!(error.contains("config.json") && error.contains("hidden_size"), "{error}");
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    std::fs::copy(vectors("tiny").join("config.json"), folder.join("config.json")).unwrap();
    let error = new_plan(&desk, TEMPLATE, "model").err;
    assert!(error.contains("`tokenizer.json` is missing"), "{error}");

    desk.write("p.toml", "precious");
    desk.write("t.toml", TEMPLATE);
    let error =
        desk.refused(&format!("plan new --template t.toml --roster roster.toml --model {tiny} --out p.toml"));
    assert!(error.contains("exists already"), "{error}");
    assert_eq!(desk.read("p.toml"), "precious");
    let error = desk.refused("plan check t.toml");
    assert!(error.contains("t.toml") && error.contains("does not parse"), "{error}");
}

/// A plan for trainers of the organizations' own: any tensors, and perhaps no model.
#[test]
fn a_plan_may_list_its_tensors_itself() {
    let desk = Desk::new();
    consortium(&desk);
    let (before, _) = TEMPLATE.split_once("[adapter]").unwrap();
    let tensors = "[adapter]\n[[adapter.tensor]]\nname = \"weight\"\nshape = [3, 64]\nbound = 0.0\ntrained = true\n\
                   [[adapter.tensor]]\nname = \"bias\"\nshape = [3]\nbound = 0.5\ntrained = false\n";
    desk.write("t.toml", &format!("{before}{tensors}"));
    desk.ok("plan new --template t.toml --roster roster.toml --out p.toml");
    let plan = desk.json("plan show p.toml --json")["document"].clone();
    let names: Vec<_> =
        plan["adapter"]["tensor"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names, ["bias", "weight"], "in name order");
    let nothing = consilium_crypto::digest::Digest::of(&[]).to_string();
    assert_eq!(plan["model"]["weights"], json!(nothing));
    assert_eq!(desk.json("plan check p.toml --json")["numbers"]["dimension"], 192);

    let tiny = vectors("tiny").display().to_string();
    desk.ok(&format!("plan new --template t.toml --roster roster.toml --model {tiny} --out q.toml"));
    let plan = desk.json("plan show q.toml --json")["document"].clone();
    assert_ne!(plan["model"]["weights"], json!(nothing));

    desk.write("t.toml", &format!("{before}{}", tensors.replace("[adapter]\n", "[adapter]\nrank = 4\n")));
    let error = desk.refused("plan new --template t.toml --roster roster.toml --out r.toml");
    assert!(error.contains("give either [[adapter.tensor]] or rank"), "{error}");
    desk.write("t.toml", TEMPLATE);
    let error = desk.refused("plan new --template t.toml --roster roster.toml --out r.toml");
    assert!(error.contains("--model is missing"), "{error}");
    desk.write("t.toml", &TEMPLATE.replace("target_modules", "# target_modules"));
    let error =
        desk.refused(&format!("plan new --template t.toml --roster roster.toml --model {tiny} --out r.toml"));
    assert!(error.contains("adapter.target_modules is missing"), "{error}");
}

#[test]
fn noise_that_is_left_out_is_the_least_that_keeps_the_budget() {
    let desk = Desk::new();
    consortium(&desk);
    let tiny = vectors("tiny").display().to_string();
    let said = new_plan(&desk, &TEMPLATE.replace("noise_multiplier = 0.7", ""), &tiny);
    assert_eq!(said.code, 0, "{said:?}");
    let numbers = desk.json("plan check p.toml --json")["numbers"].clone();
    // Ten rounds, and one more attempt in reserve.
    assert_eq!(numbers["attempts_in_budget"], 11);
    assert!(numbers["epsilon"].as_f64().unwrap() > 0.85 * 6.0);
}

/// The template for a unit in which organizations send deltas.
fn template_of(unit: &str, without: &[&str], steps: u32) -> String {
    let lines = TEMPLATE.lines().filter(|line| !without.iter().any(|field| line.starts_with(field)));
    let (privacy, adam) = ("note = \"a title stands for a patient\"", ["kind", "beta1", "beta2"]);
    let text: String = lines
        .filter(|line| {
            !adam.iter().any(|field| line.starts_with(field)) && !line.starts_with("epsilon = 1e-8")
        })
        .fold(String::new(), |all, line| all + line + "\n");
    text.replace("learning_rate = 0.02", "kind = \"fedavg\"\nlearning_rate = 1.0")
        .replace(privacy, &format!("{privacy}\nunit = \"{unit}\""))
        .replace(
            "[optimizer]",
            &format!("[privacy.local]\nsteps = {steps}\nlearning_rate = 0.5\n\n[optimizer]"),
        )
}

#[test]
fn a_plan_is_made_and_explained_in_each_unit() {
    let desk = Desk::new();
    consortium(&desk);
    let tiny = vectors("tiny").display().to_string();
    let make = |template: &str| {
        let _ = std::fs::remove_file(desk.path("p.toml"));
        let said = new_plan(&desk, template, &tiny);
        assert_eq!(said.code, 0, "{said:?}");
        let text = desk.ok("plan check p.toml");
        (desk.json("plan check p.toml --json")["numbers"].clone(), text)
    };
    let (numbers, text) = make(&template_of("patient-local", &["largest_lot", "noise_multiplier"], 2));
    assert_eq!((&numbers["privacy_unit"], &numbers["local_steps"]), (&json!("patient-local"), &json!(2)));
    assert_eq!(numbers["epsilon"], numbers["epsilon_local"], "own noise alone, both");
    // Ten rounds of two steps, and a round in reserve.
    assert_eq!(numbers["attempts_in_budget"], 11);
    assert_eq!(numbers["sigma"], numbers["sigma_share"]);
    assert!(text.contains("one patient, even if every other party colludes"), "{text}");
    assert!(
        text.contains("noise of one alone       σ      ")
            && text.contains("local steps, a round            2")
    );
    // Rounding what is sent is far below its noise: 16 units or more.
    let document = desk.json("plan show p.toml --json")["document"].clone();
    let (scale, z) = (&document["privacy"]["local"]["update_scale"], &numbers["noise_multiplier"]);
    let noise = 0.5 * 2f64.sqrt() * z.as_f64().unwrap() / (100.0 / 3.0);
    assert!((16.0..=32.0).contains(&(scale.as_f64().unwrap() * noise)), "{scale} {noise}");

    let without = ["largest_lot", "expected_lot", "noise_multiplier"];
    let (numbers, text) = make(&template_of("organization", &without, 2));
    assert!(numbers["epsilon"].as_f64().unwrap() > 0.85 * 6.0 && numbers["epsilon"].as_f64().unwrap() <= 6.0);
    assert!(numbers["epsilon_local"].as_f64() > numbers["epsilon"].as_f64());
    assert_eq!(numbers["attempts_in_budget"], 11);
    assert!(text.contains("protects one organization's whole contribution"), "{text}");

    let without = ["largest_lot", "expected_lot", "noise_multiplier", "epsilon = 6.0", "delta"];
    let none = template_of("none", &without, 2);
    let refused = new_plan(&desk, &none, &tiny);
    assert!(refused.err.contains("write i_accept_no_privacy = true"), "{refused:?}");
    let none = none.replace("unit = \"none\"", "unit = \"none\"\ni_accept_no_privacy = true");
    let (numbers, text) = make(&none);
    for field in ["epsilon", "epsilon_local", "epsilon_budget"] {
        assert!(numbers[field].is_null(), "{field}: {numbers}");
    }
    assert!(
        text.contains("NO PRIVACY: protects NOBODY") && text.contains("ε = none  against everybody"),
        "{text}"
    );
    assert!(!text.contains("budget") && !text.contains("\x1b["), "no colours in a pipe: {text}");
    assert!(desk.ok("plan show p.toml").contains("NO PRIVACY: protects NOBODY"));
}
