//! Hostile and mistaken model folders: each refused by name. The tiny model is the one that `transformers` wrote.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    /// A sound copy.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            fs::copy(tiny().join(file), folder.path().join(file)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Replaces text in a file.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} holds no {from}");
        fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
    }

    /// Rewrites the weights' header.
    fn edit_header(&self, from: &str, to: &str) {
        let (header, data) = split(&fs::read(self.path("model.safetensors")).unwrap());
        assert!(header.contains(from), "the header holds no {from}");
        fs::write(self.path("model.safetensors"), join(&header.replacen(from, to, 1), &data)).unwrap();
    }

    #[track_caller]
    fn refused(&self) -> String {
        let error = ModelFolder::open(self.0.path()).unwrap_err().to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/trainer/tiny")
}

fn split(file: &[u8]) -> (String, Vec<u8>) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (header, data) = file[8..].split_at(length);
    (String::from_utf8(header.to_vec()).unwrap(), data.to_vec())
}

fn join(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn a_sound_folder_opens_with_the_digests_of_its_files() {
    let model = ModelFolder::open(&tiny()).unwrap();
    let digest = |file: &str| -> [u8; 32] { Sha256::digest(fs::read(tiny().join(file)).unwrap()).into() };
    let digests = model.digests();
    assert_eq!(digests.config, digest("config.json"));
    assert_eq!(digests.tokenizer, digest("tokenizer.json"));
    assert_eq!(digests.weights, digest("model.safetensors"));
    let mut names = Vec::new();
    model
        .weights()
        .read(&mut |name, shape, values| {
            assert_eq!(shape.iter().product::<usize>(), values.len());
            names.push(name.to_owned());
        })
        .unwrap();
    names.sort();
    let mut expected: Vec<String> =
        weights::expected(model.config()).into_iter().map(|(name, _)| name).collect();
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn missing_things_are_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = Folder::new();
        fs::remove_file(folder.path(file)).unwrap();
        assert!(folder.refused().contains(&format!("`{file}` is missing")), "{}", folder.refused());
    }
    let error = ModelFolder::open(Path::new("/nowhere/model")).unwrap_err().to_string();
    assert!(error.starts_with("model folder /nowhere/model: not a folder"), "{error}");
}

#[test]
fn a_configuration_is_checked_field_by_field() {
    for (from, to, expected) in [
        ("\"bert\"", "\"deberta-v2\"", "model_type `deberta-v2` is not known here; known are bert, roberta"),
        ("\"model_type\"", "\"model_kind\"", "model_type `(absent)` is not known"),
        (
            "\"hidden_size\": 32",
            "\"hidden_size\": 33",
            "num_attention_heads: 4 does not divide hidden_size = 33",
        ),
        ("\"hidden_size\": 32", "\"hidden_size\": 0", "hidden_size: 0 is out of range, 1 to 16384"),
        ("\"hidden_size\": 32", "\"hidden_size\": 99999999999", "hidden_size: 99999999999 is out of range"),
        ("\"hidden_size\": 32,", "", "hidden_size: is missing"),
        ("\"hidden_size\": 32", "\"hidden_size\": -1", "does not parse"),
        ("\"gelu\"", "\"swish\"", "hidden_act: `swish` is not known"),
        ("\"layer_norm_eps\": 1e-12", "\"layer_norm_eps\": 0", "layer_norm_eps: 0 is out of range"),
        ("\"is_decoder\": false", "\"is_decoder\": true", "a decoder is not supported"),
        (
            "\"vocab_size\": 149",
            "\"vocab_size\": 149, \"position_embedding_type\": \"relative_key\"",
            "only `absolute` is",
        ),
        ("\"pad_token_id\": 0", "\"pad_token_id\": 149", "pad_token_id: 149 is out of range"),
        ("{", "", "does not parse"),
    ] {
        let folder = Folder::new();
        folder.edit("config.json", from, to);
        assert!(folder.refused().contains(expected), "{}\n  should say: {expected}", folder.refused());
    }
    let folder = Folder::new();
    fs::write(folder.path("config.json"), vec![b' '; MAX_CONFIG_BYTES as usize + 1]).unwrap();
    assert!(folder.refused().contains("config.json: larger than"), "{}", folder.refused());
}

#[test]
fn a_configuration_of_another_model_does_not_fit_the_weights() {
    for (from, to, expected) in [
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "tensor `encoder.layer.2.attention.self.query.weight` is missing",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 1",
            "tensor `encoder.layer.1.attention.output.LayerNorm.bias` is not expected here",
        ),
        ("\"intermediate_size\": 64", "\"intermediate_size\": 128", "has shape [64, 32], expected [128, 32]"),
        (
            "\"vocab_size\": 149",
            "\"vocab_size\": 150",
            "`embeddings.word_embeddings.weight` has shape [149, 32], expected [150, 32]",
        ),
    ] {
        let folder = Folder::new();
        folder.edit("config.json", from, to);
        assert!(folder.refused().contains(expected), "{}\n  should say: {expected}", folder.refused());
    }
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = Folder::new();
    folder.edit("config.json", "\"vocab_size\": 149", "\"vocab_size\": 30522");
    assert!(
        folder.refused().contains("tokenizer.json does not belong to this model: it knows 149 tokens"),
        "{}",
        folder.refused()
    );
    let folder = Folder::new();
    folder.edit("config.json", "\"vocab_size\": 149", "\"vocab_size\": 100");
    assert!(
        folder.refused().contains("with ids up to 148, config.json says vocab_size = 100"),
        "{}",
        folder.refused()
    );
    // Of the same size, but it means another token by padding.
    let folder = Folder::new();
    folder.edit("config.json", "\"pad_token_id\": 0", "\"pad_token_id\": 2");
    assert!(
        folder.refused().contains("it has `[PAD]` as token 0, config.json says pad_token_id = 2"),
        "{}",
        folder.refused()
    );
    // Its post-processor adds a token for which there is no row.
    let folder = Folder::new();
    let text = fs::read_to_string(folder.path("tokenizer.json")).unwrap();
    let at = text.rfind("\"id\": \"[SEP]\",\n        \"ids\": [\n          3").unwrap();
    let (front, back) = text.split_at(at);
    fs::write(
        folder.path("tokenizer.json"),
        [front, &back.replacen("          3", "          149", 1)].concat(),
    )
    .unwrap();
    let tokenizer = ModelFolder::open(folder.0.path()).unwrap().tokenizer(8).unwrap();
    let refused = tokenizer.encode("pain").unwrap_err().to_string();
    assert!(refused.contains("a text became a token 149, and the model has 149 rows"), "{refused}");
    let folder = Folder::new();
    fs::write(folder.path("tokenizer.json"), "{\"version\": \"1.0\"}").unwrap();
    assert!(folder.refused().contains("tokenizer.json: cannot be parsed"), "{}", folder.refused());
    let model = ModelFolder::open(&tiny()).unwrap();
    for wrong in [0, 2, 65] {
        let error = model.tokenizer(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("max_tokens = {wrong}: must be 3 to 64")), "{error}");
    }
    let tokenizer = model.tokenizer(4).unwrap();
    assert_eq!(tokenizer.encode("pain in left ear with fracture").unwrap().len(), 4);
    assert_eq!(tokenizer.encode("").unwrap(), [2, 3]);
}

#[test]
fn a_header_that_lies_is_caught() {
    let name = "\"encoder.layer.0.output.dense.bias\":{\"dtype\":\"F32\",\"shape\":[32],";
    let (header, data) = split(&fs::read(tiny().join("model.safetensors")).unwrap());
    let offsets = &header[header.find(name).unwrap() + name.len()..];
    let begin: u64 = offsets["\"data_offsets\":[".len()..].split(',').next().unwrap().parse().unwrap();
    let entry = format!("{name}\"data_offsets\":[{begin},{}]", begin + 128);
    assert!(header.contains(&entry));
    let with = |dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(
            "\"encoder.layer.0.output.dense.bias\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]"
        )
    };
    let max = u64::MAX;
    for (to, expected) in [
        (with("F32", "[33]", begin, begin + 128), "cannot lie at bytes"),
        (with("F32", "[4294967296,4294967296,16]", begin, begin + 128), "cannot lie at bytes"),
        (with("F32", "[32]", begin + 128, begin), "cannot lie at bytes"),
        (with("F32", "[32]", begin + 4, begin + 132), "leaves a hole"),
        (with("F32", "[32]", begin - 4, begin + 124), "overlaps another"),
        (with("F32", "[32]", max - 128, max), "leaves a hole"),
        (with("F32", "[33]", begin, begin + 132), "overlaps another"),
        (with("F31", "[32]", begin, begin + 128), "unknown element type `F31`"),
        (with("I32", "[32]", begin, begin + 128), "has element type I32; F32, F16 and BF16 are read"),
        (with("F32", "[1,1,1,1,1,1,1,1,32]", begin, begin + 128), "has 9 dimensions"),
        (with("F32", "[2,16]", begin, begin + 128), "has shape [2, 16], expected [32]"),
        (format!("{entry},\"stride\":[1]"), "unknown field `stride`"),
        (format!("{entry}}},{entry}"), "is listed twice"),
        (
            entry.replace("layer.0.output", "layer.0.outputs"),
            "tensor `encoder.layer.0.output.dense.bias` is missing",
        ),
        (format!("\"__metadata__\":{{}},\"__metadata__\":{{}},{entry}"), "`__metadata__` is listed twice"),
    ] {
        let folder = Folder::new();
        folder.edit_header(&entry, &to);
        assert!(folder.refused().contains(expected), "{}\n  should say: {expected}", folder.refused());
    }

    let sound = join(&header, &data);
    for (file, expected) in [
        (sound[..5].to_vec(), "5 bytes are too few for a header"),
        (sound[..sound.len() - 1].to_vec(), "cut short, or something was appended"),
        ([sound.as_slice(), b"x"].concat(), "cut short, or something was appended"),
        ([&max.to_le_bytes(), &sound[8..]].concat(), "the header claims 18446744073709551615 bytes"),
        (join(&format!(" {header}"), &data), "does not begin with `{`"),
        (join(&header[..header.trim_end().len() - 1], &data), "the header does not parse"),
    ] {
        let folder = Folder::new();
        fs::write(folder.path("model.safetensors"), file).unwrap();
        assert!(folder.refused().contains(expected), "{}\n  should say: {expected}", folder.refused());
    }
}

#[test]
fn values_must_be_finite_and_stay_what_they_were() {
    let (header, mut data) = split(&fs::read(tiny().join("model.safetensors")).unwrap());
    let element = data.len() / 4 - 3;
    data[element * 4..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let folder = Folder::new();
    fs::write(folder.path("model.safetensors"), join(&header, &data)).unwrap();
    let error = folder.refused();
    assert!(error.contains("NaN is not a finite number") && error.contains(", element "), "{error}");

    let folder = Folder::new();
    let model = ModelFolder::open(folder.0.path()).unwrap();
    data[element * 4..][..4].copy_from_slice(&1f32.to_le_bytes());
    fs::write(folder.path("model.safetensors"), join(&header, &data)).unwrap();
    let error = model.weights().read(&mut |_, _, _| ()).unwrap_err();
    assert!(matches!(error, ModelError::Changed { .. }), "{error}");
}

#[test]
fn older_spellings_and_half_precision_are_read() {
    let folder = Folder::new();
    let (header, data) = split(&fs::read(tiny().join("model.safetensors")).unwrap());
    let old = header
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("\"en", "\"bert.en")
        .replace("\"em", "\"bert.em");
    fs::write(folder.path("model.safetensors"), join(&old.replace("\"pooler", "\"bert.pooler"), &data))
        .unwrap();
    ModelFolder::open(folder.0.path()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let values = [1.5f32, -0.25, 65504.0];
    for (dtype, bytes) in [
        ("F16", values.map(|v| half::f16::from_f32(v).to_le_bytes()).concat()),
        ("BF16", values.map(|v| half::bf16::from_f32(v).to_le_bytes()).concat()),
    ] {
        let header = format!("{{\"x\":{{\"dtype\":\"{dtype}\",\"shape\":[3],\"data_offsets\":[0,6]}}}}");
        let path = folder.path().join(dtype);
        fs::write(&path, join(&header, &bytes)).unwrap();
        let file = CheckedTensors::open(&path, 1000).unwrap();
        assert!(matches!(CheckedTensors::open(&path, 10), Err(ModelError::TooLarge { .. })));
        file.read(&|_| true, &mut |_, _, read| {
            assert_eq!(read[..2], values[..2]);
            assert!((read[2] / values[2] - 1.0).abs() < 0.01);
        })
        .unwrap();
    }
}

fn spec() -> AdapterSpec {
    AdapterSpec {
        rank: 4,
        alpha: 8.0,
        use_rslora: false,
        target_modules: ["query", "output.dense"].into(),
        layers: Some(vec![1, 0]),
        dropout: 0.0,
        pooling: Pooling::Mean,
        max_tokens: 64,
        task: TaskKind::SingleLabel,
        labels: 5,
        class_weights: Vec::new(),
    }
}

#[test]
fn adapter_tensors_are_named_and_shaped_as_in_peft() {
    let model = ModelFolder::open(&tiny()).unwrap();
    let tensors = adapter_tensors(model.config(), &spec()).unwrap();
    let at = "base_model.model.encoder.layer";
    let found: Vec<(&str, &[usize])> = tensors.iter().map(|t| (t.name.as_str(), &*t.shape)).collect();
    let (a0, b0) = (
        format!("{at}.0.attention.output.dense.lora_A.weight"),
        format!("{at}.0.attention.output.dense.lora_B.weight"),
    );
    // `output.dense` means two modules, as in peft: attention's and the feed-forward part's.
    assert_eq!(found[..2], [(a0.as_str(), &[4, 32][..]), (b0.as_str(), &[32, 4][..])]);
    assert_eq!(found.len(), 2 * 3 * 2 + 2);
    let wide = format!("{at}.1.output.dense.lora_A.weight");
    assert!(found.contains(&(wide.as_str(), &[4, 64][..])));
    assert_eq!(found[12..], [("head.bias", &[5][..]), ("head.weight", &[5, 32][..])]);
    assert!(found.is_sorted());
    assert_eq!(spec().scaling(), 2.0);
    assert_eq!(AdapterSpec { use_rslora: true, ..spec() }.scaling(), 4.0);
    let head_only = AdapterSpec { target_modules: TargetModules::default(), rank: 0, ..spec() };
    assert_eq!(adapter_tensors(model.config(), &head_only).unwrap().len(), 2);
}

#[test]
fn an_adapter_that_does_not_fit_is_refused() {
    let model = ModelFolder::open(&tiny()).unwrap();
    let targets = |target: &str| TargetModules::from([target]);
    for (spec, expected) in [
        (AdapterSpec { rank: 0, ..spec() }, "rank = 0: must be 1 to 32"),
        (AdapterSpec { rank: 33, ..spec() }, "rank = 33: must be 1 to 32"),
        (AdapterSpec { alpha: f64::NAN, ..spec() }, "alpha = NaN"),
        (AdapterSpec { labels: 1, ..spec() }, "labels = 1: must be 2 to 100000"),
        (AdapterSpec { max_tokens: 65, ..spec() }, "max_tokens = 65: must be 3 to 64"),
        (AdapterSpec { layers: Some(vec![2]), ..spec() }, "layers = 2: the model has layers 0 to 1"),
        (AdapterSpec { layers: Some(vec![1, 1]), ..spec() }, "layers = 1: is named twice"),
        (AdapterSpec { layers: Some(vec![]), ..spec() }, "names no layer"),
        (
            AdapterSpec { target_modules: targets("q_proj"), ..spec() },
            "`q_proj` matches no linear layer of this model; it has attention.self.query",
        ),
        (AdapterSpec { target_modules: targets("uery"), ..spec() }, "`uery` matches no linear layer"),
        (AdapterSpec { target_modules: targets(""), ..spec() }, "matches no linear layer"),
        (
            AdapterSpec { target_modules: targets("dense"), layers: None, ..spec() },
            "dense: also means the pooler",
        ),
    ] {
        let error = adapter_tensors(model.config(), &spec).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n  should say: {expected}");
    }
}

fn tiny_llama() -> ModelFolder {
    ModelFolder::open(&tiny().with_file_name("tiny-llama")).unwrap()
}

#[test]
fn a_decoders_tensors_are_named_and_shaped_as_in_peft() {
    let model = tiny_llama();
    let config = model.config();
    assert_eq!((config.heads, config.key_heads, config.head_width, config.qkv_width()), (4, 2, 8, 64));
    assert!(config.tied && config.architecture.is_causal());
    let next = AdapterSpec {
        target_modules: TargetModules::Pattern(r"model\.layers\.1\.(self_attn\.k_proj|mlp\..*)".to_owned()),
        layers: None,
        pooling: Pooling::None,
        task: TaskKind::NextToken,
        labels: 0,
        ..spec()
    };
    let tensors = adapter_tensors(config, &next).unwrap();
    let found: Vec<(&str, &[usize])> = tensors.iter().map(|t| (t.name.as_str(), &*t.shape)).collect();
    let at = "base_model.model.model.layers.1";
    assert_eq!(found.len(), 8, "no head");
    assert_eq!(found[0], (format!("{at}.mlp.down_proj.lora_A.weight").as_str(), &[4, 48][..]));
    assert_eq!(found[7], (format!("{at}.self_attn.k_proj.lora_B.weight").as_str(), &[16, 4][..]));

    for (spec, expected) in [
        (
            AdapterSpec { pooling: Pooling::Mean, ..next.clone() },
            "pooling = mean: next-token goes with `none`",
        ),
        (AdapterSpec { labels: 2, ..next.clone() }, "labels = 2: next-token has no labels"),
        (AdapterSpec { target_modules: TargetModules::default(), ..next.clone() }, "no head to train"),
        (
            AdapterSpec { target_modules: ["query"].into(), ..next.clone() },
            "it has self_attn.q_proj, self_attn.k_proj",
        ),
        (
            AdapterSpec { target_modules: TargetModules::Pattern("q_proj".into()), ..next.clone() },
            "`q_proj` matches no",
        ),
        (AdapterSpec { rank: 17, ..next.clone() }, "rank = 17: must be 1 to 16"),
        (
            AdapterSpec { task: TaskKind::SingleLabel, pooling: Pooling::Cls, labels: 2, ..next.clone() },
            "pooling = cls: a decoder's first token sees nothing",
        ),
    ] {
        let error = adapter_tensors(config, &spec).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n  should say: {expected}");
    }
    let encoder = ModelFolder::open(&tiny()).unwrap();
    let error = adapter_tensors(encoder.config(), &next).unwrap_err().to_string();
    assert!(error.contains("task = next-token: needs a causal decoder (llama)"), "{error}");
}

#[test]
fn a_decoder_that_computes_something_else_is_refused() {
    let text = fs::read_to_string(tiny().with_file_name("tiny-llama").join("config.json")).unwrap();
    for (from, to, expected) in [
        ("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"", "rope_parameters: `yarn` is not supported"),
        ("\"rope_theta\": 5000.0", "\"rope_theta\": 0.5", "rope_theta: 0.5 is out of range"),
        ("\"attention_bias\": false", "\"attention_bias\": true", "attention_bias: true is not supported"),
        ("\"mlp_bias\": false", "\"mlp_bias\": true", "mlp_bias: true is not supported"),
        (
            "\"num_key_value_heads\": 2",
            "\"num_key_value_heads\": 3",
            "3 does not divide num_attention_heads = 4",
        ),
        ("\"head_dim\": 8", "\"head_dim\": 7", "head_dim: 7 is odd"),
        ("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "`gelu` is not supported in a decoder"),
        ("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", "rms_norm_eps: 0 is out of range"),
        (
            "\"model_type\": \"llama\"",
            "\"model_type\": \"mamba\"",
            "model_type `mamba` is not known here; known are bert, roberta, xlm-roberta, camembert, llama",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let error = ModelConfig::parse(text.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n  should say: {expected}");
    }
    // Older files say the same in other words.
    let parameters = &text[text.find("\"rope_parameters\"").unwrap()..];
    let parameters = &parameters[..=parameters.find('}').unwrap()];
    let older = text.replace(parameters, "\"rope_theta\": 5000.0, \"rope_scaling\": null");
    assert_eq!(ModelConfig::parse(older.as_bytes()).unwrap(), ModelConfig::parse(text.as_bytes()).unwrap());
}
