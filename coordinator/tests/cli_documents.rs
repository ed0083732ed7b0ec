//! Transcripts of the commands on keys, rosters, signatures and plans, with the real binary.
#![allow(clippy::unwrap_used)]

mod cli_common;

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, process::Stdio};

use clap::CommandFactory as _;
use cli_common::{Desk, TEMPLATE, consortium, new_plan, plan, said, vectors};
use consilium_proto::{identity::Identity, plan::Plan};
use serde_json::json;

#[test]
fn keys_are_private_and_never_overwritten() {
    let desk = Desk::new();
    let out = desk.ok("keygen --id site-1 --out keys/site-1 --valid-days 30");
    assert!(out.contains("keys/site-1/identity.toml  private"), "{out}");
    let private = desk.path("keys/site-1/identity.toml");
    assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    let before = desk.read("keys/site-1/identity.toml");
    let identity = Identity::parse(&before).unwrap();
    let party = desk.read("keys/site-1/party.toml");
    assert!(party.contains(&identity.signing_key().verifying_key().to_string()));
    assert!(!party.contains(&before.lines().find(|l| l.starts_with("signing_key")).unwrap()[15..60]));

    let error = desk.refused("keygen --id site-1 --out keys/site-1");
    assert!(error.contains("identity.toml: exists already and is not overwritten"), "{error}");
    assert_eq!(desk.read("keys/site-1/identity.toml"), before);

    std::fs::remove_file(&private).unwrap();
    let error = desk.refused("keygen --id site-1 --out keys/site-1");
    assert!(error.contains("party.toml: exists already"), "{error}");
    assert!(!private.exists(), "no key without its public half");

    let json = desk.json("keygen --id site-2 --out keys/site-2 --json");
    assert_eq!(json["id"], "site-2");
    assert_eq!(json["signing_key"].as_str().unwrap().len(), 64);

    for line in
        ["keygen --id Site-1 --out x", "keygen --id a --out x --valid-days 0", "keygen --id a", "nonsense"]
    {
        let said = desk.run(line);
        assert_eq!(said.code, 2, "{line}: {said:?}");
    }
    assert!(desk.run("keygen --id Site-1 --out x").err.contains("a-z, 0-9"), "the rule is named");
}

#[test]
fn a_roster_needs_everyone_and_its_pin() {
    let desk = Desk::new();
    let pin = consortium(&desk);
    assert_eq!(pin.len(), 64);
    let out = desk.ok(&format!("roster verify roster.toml --pin {pin}"));
    assert!(out.contains("signed by all 3 organizations"), "{out}");
    let shown = desk.json("roster show roster.toml --json");
    assert_eq!(shown["fingerprint"], json!(pin));
    assert_eq!(shown["quorum"], 3);
    let signed: Vec<_> =
        shown["parties"].as_array().unwrap().iter().map(|p| p["signature"].clone()).collect();
    assert_eq!(signed, ["-", "yes", "yes", "yes", "-"]);
    let table = desk.ok("roster show roster.toml");
    assert!(table.contains("organization  site-2") && table.contains("Nothing here is verified"), "{table}");

    // One signature short.
    let all = desk.read("roster.toml.sig");
    let two: String = all.lines().filter(|l| !l.starts_with("site-2")).map(|l| l.to_owned() + "\n").collect();
    desk.write("roster.toml.sig", &two);
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("needs 3 signatures") && error.contains("still missing: site-2"), "{error}");
    // Lines that others sent are appended.
    desk.write("roster.toml.sig", &(two + all.lines().find(|l| l.starts_with("site-2")).unwrap()));
    desk.ok(&format!("roster verify roster.toml --pin {pin}"));

    // A signature of another's.
    let one = all.lines().next().unwrap();
    desk.write(
        "roster.toml.sig",
        &all.replace(all.lines().nth(1).unwrap(), &one.replace("site-1", "site-2")),
    );
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("the signature of site-2 does not fit this roster"), "{error}");
    assert!(desk.ok("roster show roster.toml").contains("BAD"));
    desk.write("roster.toml.sig", "site-1 zz\n");
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("roster.toml.sig") || error.contains("line 1"), "{error}");
    desk.write("roster.toml.sig", &all);

    let error = desk.refused(&format!("roster verify roster.toml --pin {}", "0".repeat(64)));
    assert!(error.contains(&pin) && error.contains("by telephone"), "{error}");
    assert_eq!(desk.run("roster verify roster.toml --pin 123").code, 2);

    // A changed text.
    let text = desk.read("roster.toml");
    desk.write("roster.toml", &text.replace("heart", "herat"));
    assert!(desk.refused(&format!("roster verify roster.toml --pin {pin}")).contains("fingerprint"));
    desk.write("roster.toml", &(text.clone() + "\nsurprise = 1\n"));
    let error = desk.refused("roster fingerprint roster.toml");
    assert!(error.contains("roster.toml") && error.contains("unknown field `surprise`"), "{error}");
}

#[test]
fn a_roster_is_built_only_from_sound_parties() {
    let desk = Desk::new();
    consortium(&desk);
    let build =
        |more: &str| format!("roster build --consortium heart --coordinator coordinator/party.toml {more}");
    let three = "--organization site-1/party.toml site-2/party.toml site-3/party.toml";
    let error = desk.refused(&build(&format!("{three} --out roster.toml")));
    assert!(error.contains("exists already"), "{error}");
    let error = desk.refused(&build("--organization site-1/party.toml site-2/party.toml --out r.toml"));
    assert!(error.contains("organization count is 2"), "{error}");
    let error = desk.refused(&build(&format!("{three} site-1/party.toml --out r.toml")));
    assert!(error.contains("listed twice"), "{error}");
    let error = desk.refused(&build(&format!("{three} --quorum 2 --out r.toml")));
    assert!(error.contains("quorum is 2"), "{error}");
    let error =
        desk.refused(&build("--organization site-1/party.toml site-2/party.toml nowhere.toml --out r.toml"));
    assert!(error.contains("nowhere.toml: there is no such file"), "{error}");
    let error =
        desk.refused(&build("--organization site-1/party.toml site-2/party.toml roster.toml --out r.toml"));
    assert!(error.contains("not a party.toml"), "{error}");
    // A private file given in the wrong place is refused without repeating its secrets, whether or not a seed happens to
    // be a point of the curve.
    for seed in 0..6 {
        let identity = Identity::generate("site-3".parse().unwrap(), [seed; 32]).unwrap();
        desk.write("private.toml", identity.to_text().expose());
        let error = desk
            .refused(&build("--organization site-1/party.toml site-2/party.toml private.toml --out r.toml"));
        let secret = format!("{seed:02x}").repeat(8);
        assert!(error.contains("this is a private identity") && !error.contains(&secret), "{error}");
        desk.write("private.toml", &identity.to_text().expose().replace("tls_certificate", "certificate"));
        let error = desk
            .refused(&build("--organization site-1/party.toml site-2/party.toml private.toml --out r.toml"));
        assert!(error.contains("not a party.toml") && !error.contains(&secret), "{error}");
    }
    assert!(!desk.path("r.toml").exists());
    let json = desk.json(&build(&format!("{three} --plan-signer ada/party.toml --out r.toml --json")));
    assert_eq!(json["to_sign"], json!(["site-1", "site-2", "site-3"]));
    assert!(desk.ok("roster show r.toml").contains("plans are signed by ada"));
}

#[test]
fn only_an_own_private_key_signs_and_only_what_it_may() {
    let desk = Desk::new();
    consortium(&desk);
    let error = desk.refused("sign roster roster.toml --identity ada/identity.toml");
    assert!(error.contains("lists no organization ada"), "{error}");
    desk.ok("keygen --id site-1 --out other");
    let error = desk.refused("sign roster roster.toml --identity other/identity.toml");
    assert!(error.contains("lists site-1 with signing key"), "{error}");
    let private = desk.path("site-1/identity.toml");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = desk.refused("sign roster roster.toml --identity site-1/identity.toml");
    assert!(error.contains("0644") && error.contains("chmod 600"), "{error}");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = desk.read("roster.toml.sig");
    desk.ok("sign roster roster.toml --identity site-1/identity.toml");
    assert_eq!(
        desk.read("roster.toml.sig"),
        before,
        "Ed25519 signs the same text alike, and a line is replaced"
    );
    let error = desk.refused("sign plan roster.toml --identity site-1/identity.toml");
    assert!(error.contains("roster.toml") && error.contains("does not parse"), "{error}");
    let error = desk.refused("sign plan nothing.toml --identity site-1/identity.toml");
    assert!(error.contains("nothing.toml: there is no such file"), "{error}");
    let error = desk.refused("sign roster roster.toml --identity site-1/party.toml");
    assert!(error.contains("party.toml"), "{error}");
    assert_eq!(desk.run("sign letter roster.toml --identity site-1/identity.toml").code, 2);
    let json = desk.json("sign roster roster.toml --identity site-2/identity.toml --json");
    assert_eq!((&json["kind"], &json["signer"]), (&json!("roster"), &json!("site-2")));
}

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
fn layers_and_targets_choose_tensors() {
    let desk = Desk::new();
    consortium(&desk);
    let tiny = vectors("tiny").display().to_string();
    let names = |template: &str| {
        let said = new_plan(&desk, template, &tiny);
        assert_eq!(said.code, 0, "{said:?}");
        let (plan, _) = Plan::parse(&desk.read("p.toml")).unwrap();
        plan.adapter
            .tensors
            .iter()
            .map(|t| t.name.replace("base_model.model.encoder.", ""))
            .collect::<Vec<_>>()
    };
    let with = |targets: &str| TEMPLATE.replace(r#"["query", "value"]"#, targets);
    assert_eq!(names(&with("[]")), ["head.bias", "head.weight"]);
    assert_eq!(
        names(&with("[\"intermediate.dense\"]\nlayers = [1]")),
        [
            "layer.1.intermediate.dense.lora_A.weight",
            "layer.1.intermediate.dense.lora_B.weight",
            "head.bias",
            "head.weight"
        ]
    );
    // With layers named, "dense" does not reach the pooler outside them: three in each layer.
    assert_eq!(names(&with("[\"dense\"]\nlayers = [0, 1]")).len(), 2 * 3 * 2 + 2);
    // Labels from a file beside the template.
    desk.write("labels.txt", "x\ny\n\nz\n");
    let file = TEMPLATE.replace(r#"labels = ["a", "b", "c", "d", "e"]"#, r#"labels_file = "labels.txt""#);
    assert_eq!(new_plan(&desk, &file, &tiny).code, 0);
    assert_eq!(Plan::parse(&desk.read("p.toml")).unwrap().0.task.labels, ["x", "y", "z"]);
}

#[test]
fn a_decoder_learns_the_next_token_with_modules_by_pattern() {
    let desk = Desk::new();
    consortium(&desk);
    let tiny = vectors("tiny-llama").display().to_string();
    let template = TEMPLATE
        .replace("pooling = \"mean\"", "")
        .replace(r#"labels = ["a", "b", "c", "d", "e"]"#, "kind = \"next-token\"")
        .replace(r#"["query", "value"]"#, r"'model\.layers\.1\.(self_attn\.[qv]_proj|mlp\.down_proj)'");
    let said = new_plan(&desk, &template, &tiny);
    assert_eq!(said.code, 0, "{said:?}");
    let (plan, _) = Plan::parse(&desk.read("p.toml")).unwrap();
    let tensors: Vec<_> =
        plan.adapter.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.trained)).collect();
    let at = "base_model.model.model.layers.1";
    assert_eq!(tensors.len(), 6);
    assert_eq!(tensors[0], (format!("{at}.mlp.down_proj.lora_A.weight").as_str(), &[4, 48][..], false));
    assert_eq!(tensors[5], (format!("{at}.self_attn.v_proj.lora_B.weight").as_str(), &[16, 4][..], true));
    assert_eq!(plan.encoding.loss_max, 12.0);
    assert!(desk.ok("plan show p.toml").contains("the next token is learned"));
    for (targets, expected) in [
        ("'q_proj'", "`q_proj` matches no linear layer of this model; it has mlp.down_proj"),
        ("[\"query\"]", "`query` matches no linear layer"),
        ("[\"lm_head\"]", "`lm_head` matches no linear layer"),
        ("'(?=q).*'", "look-around"),
        ("'.*proj'\nlayers = [0]", "a pattern says by itself"),
        ("'.*proj'\ndropout = 0.1", "adapter.dropout is 0.1"),
    ] {
        let (head, tail) = template.split_once("target_modules = ").unwrap();
        let rest = tail.split_once('\n').unwrap().1;
        let error = new_plan(&desk, &format!("{head}target_modules = {targets}\n{rest}"), &tiny).err;
        assert!(error.contains(expected), "{error}\n  should say: {expected}");
    }
    let all =
        template.split_once("target_modules = ").unwrap().0.to_owned() + "target_modules = \"all-linear\"\n";
    assert_eq!(new_plan(&desk, &all, &tiny).code, 0);
    assert_eq!(Plan::parse(&desk.read("p.toml")).unwrap().0.adapter.tensors.len(), 2 * 7 * 2);
}

#[test]
fn a_plan_goes_on_from_a_peft_folder() {
    let desk = Desk::new();
    consortium(&desk);
    let (tiny, adapter) = (vectors("tiny").display().to_string(), vectors("tiny-all").display().to_string());
    let template = format!("{TEMPLATE}start = \"{adapter}\"\n");
    let said = new_plan(&desk, &template, &tiny);
    assert_eq!(said.code, 0, "{said:?}");
    let start = std::fs::read(desk.path("p.toml.start")).unwrap();
    let (plan, _) = Plan::parse(&desk.read("p.toml")).unwrap();
    assert_eq!(plan.adapter.start, Some(consilium_crypto::digest::Digest::of(&start)));
    assert!(start.windows(13).any(|window| window == b"lora_B.weight"));
    // An adapter that does not fit the plan's is named with what differs.
    for (from, to, expected) in [
        ("rank = 4", "rank = 8", "has r = 4, lora_alpha = 8, use_rslora = false"),
        (r#"["query", "value"]"#, r#"["query"]"#, "value.lora_A.weight` is not one of the plan's"),
        ("tiny-all", "nowhere", "`adapter_config.json` is missing"),
    ] {
        assert!(template.contains(from));
        let error = new_plan(&desk, &template.replace(from, to), &tiny).err;
        assert!(error.contains(expected), "{error}\n  should say: {expected}");
    }
    // One that names other base weights than the model's.
    let half = desk.path("other");
    std::fs::create_dir(&half).unwrap();
    std::fs::copy(vectors("tiny-all").join("adapter_config.json"), half.join("adapter_config.json")).unwrap();
    let bytes = std::fs::read(vectors("tiny-all").join("adapter_model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap().trim_end();
    let named = format!("\"format\":\"pt\",\"consilium.base_weights\":\"{}\"", "ab".repeat(32));
    let mut header = header.replace("\"format\":\"pt\"", &named);
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat();
    std::fs::write(half.join("adapter_model.safetensors"), file).unwrap();
    let error = new_plan(&desk, &template.replace(&adapter, "other"), &tiny).err;
    assert!(error.contains("was trained on base weights abab"), "{error}");
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

#[test]
fn every_command_shows_an_example_and_exit_codes_are_documented() {
    fn walk(command: &clap::Command, path: &str, all: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            // A group's help lists its commands, each with an example of its own.
            if !sub.has_subcommands() {
                all.push(path.trim().to_owned());
            }
            walk(sub, &path, all);
        }
    }
    let mut all = Vec::new();
    walk(&consilium_coordinator::cli::Cli::command(), "", &mut all);
    assert!(all.len() >= 14, "{all:?}");
    let desk = Desk::new();
    for path in all {
        let help = desk.ok(&format!("{path} --help"));
        assert!(help.contains("Example"), "{path}: {help}");
        assert!(help.contains(&format!("consilium {path}")), "{path}: {help}");
    }
    let help = desk.ok("--help");
    for code in 0..=3 {
        assert!(help.contains(&format!("\n  {code}  ")), "{help}");
    }
    assert!(desk.ok("--version").starts_with("consilium "));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let desk = Desk::new();
    consortium(&desk);
    let mut child = desk
        .command("roster show roster.toml")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

#[test]
fn a_roster_grows_by_a_quorum_under_one_pin() {
    let desk = Desk::new();
    let pin = consortium(&desk);
    desk.ok("keygen --id site-4 --out site-4");
    desk.ok("keygen --id site-2 --out site-2/new");
    let propose = format!("roster propose roster.toml --pin {pin}");
    let out = desk
        .ok(&format!("{propose} --party site-4/party.toml site-2/new/party.toml --extend ada=2099-01-01"));
    assert!(
        out.starts_with("roster.2.toml\n") && out.contains("signed by 3 of site-1, site-2, site-3"),
        "{out}"
    );
    let error = desk.refused(&format!("{propose} --party site-4/party.toml"));
    assert!(
        error.contains("roster.2.toml") && error.contains("needs 3 signatures"),
        "not signed yet: {error}"
    );
    // The version before signs: site-4 and site-2's new key have no voice.
    for identity in ["site-4", "site-2/new"] {
        let error = desk.refused(&format!("roster sign roster.2.toml --identity {identity}/identity.toml"));
        assert!(error.contains("roster lists"), "{error}");
    }
    for id in ["site-1", "site-2"] {
        desk.ok(&format!("roster sign roster.2.toml --identity {id}/identity.toml"));
    }
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("has 2") && error.contains("site-3"), "{error}");
    desk.ok("sign roster roster.2.toml --identity site-3/identity.toml");
    let verified = desk.json(&format!("roster verify roster.toml --pin {pin} --json"));
    assert_eq!((&verified["version"], &verified["pin"]), (&json!(2), &json!(pin)));
    assert_eq!(verified["organizations"], json!(["site-1", "site-2", "site-3", "site-4"]));
    assert!(desk.ok(&format!("roster verify roster.toml --pin {pin}")).contains("version 2"));
    assert_eq!(verified["fingerprint"], json!(desk.ok("roster fingerprint roster.2.toml").trim()));
    // The third is proposed from the second.
    let json = desk.json(&format!("{propose} --remove site-1 --json"));
    assert_eq!((&json["version"], &json["needs"]), (&json!(3), &json!(3)));
    let shown = desk.ok("roster show roster.3.toml");
    assert!(shown.contains("roster version 3") && !shown.contains("organization  site-1"), "{shown}");
    // A version under another name, and one whose predecessor is another.
    std::fs::rename(desk.path("roster.3.toml"), desk.path("next.toml")).unwrap();
    let error = desk.refused("roster sign next.toml --identity site-3/identity.toml");
    assert!(error.contains("roster.3.toml") && error.contains("rename it"), "{error}");
    std::fs::copy(desk.path("next.toml"), desk.path("roster.2.toml")).unwrap();
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("does not continue the chain"), "{error}");
    let error = desk.refused(&format!("{propose} --remove site-9"));
    assert!(error.contains("does not continue"), "{error}");
}

#[test]
fn an_organization_revokes_its_own_key_alone() {
    let desk = Desk::new();
    let pin = consortium(&desk);
    let revoke = |id: &str, confirm: &str| {
        format!("roster revoke roster.toml --pin {pin} --identity {id}/identity.toml --confirm {confirm}")
    };
    let error = desk.refused(&revoke("site-2", "site-1"));
    assert!(error.contains("nothing was revoked") && !desk.path("roster.toml.revoked").exists(), "{error}");
    assert!(desk.refused(&revoke("ada", "ada")).contains("nothing to revoke"));
    let line = desk.ok(&revoke("site-2", "site-2")).lines().next().unwrap().to_owned();
    assert_eq!(desk.read("roster.toml.revoked").trim(), line);
    assert!(desk.ok(&format!("roster verify roster.toml --pin {pin}")).contains("REVOKED: site-2"));
    let json = desk.json(&format!("roster verify roster.toml --pin {pin} --json"));
    assert_eq!(json["revoked"], json!(["site-2"]));
    // Whoever gets the line appends it; whoever alters it is told whose word it is not.
    desk.write("roster.toml.revoked", &line.replace("site-2 1", "site-2 7"));
    let error = desk.refused(&format!("roster verify roster.toml --pin {pin}"));
    assert!(error.contains("not site-2's word"), "{error}");
    desk.write("roster.toml.revoked", &format!("# by telephone, Monday\n{line}\n"));
    // The next version needs the others, and brings the organization back.
    desk.ok("keygen --id site-2 --out site-2/new");
    let out = desk.ok(&format!("roster propose roster.toml --pin {pin} --party site-2/new/party.toml"));
    assert!(out.contains("signed by 2 of site-1, site-3"), "{out}");
    for id in ["site-1", "site-3"] {
        desk.ok(&format!("roster sign roster.2.toml --identity {id}/identity.toml"));
    }
    let json = desk.json(&format!("roster verify roster.toml --pin {pin} --json"));
    assert_eq!((&json["version"], &json["revoked"]), (&json!(2), &json!([])));
}
