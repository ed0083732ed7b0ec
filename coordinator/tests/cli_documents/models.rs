//! What of a model is trained.

use consilium_proto::plan::Plan;

use crate::cli_common::{Desk, TEMPLATE, consortium, new_plan, vectors};

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
