//! What a client reads from its own disk or is handed by somebody: models, adapters, records, journals, configuration.

use std::{
    cell::OnceCell,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use consilium_client::{
    config::{Config, adapter_spec},
    data::{DataConfig, Dataset},
    export::{read_head, read_peft_folder, write_head, write_peft_folder},
    journal::{Journal, JournalError},
    ledger::{Debit, LedgerFile},
    model::{AdapterTensors, CheckedTensors, ModelConfig, ModelFolder, adapter::adapter_tensors},
};
use consilium_proto::ids::Id;
use parquet::{
    data_type::{ByteArray, ByteArrayType},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use rand_core::SeedableRng;
use serde_json::Value;

use crate::{
    documents::{file, world},
    select, selected,
};

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/trainer/tiny");

/// Calls `use_it` with the path of a file with these bytes, in a folder of this thread's own.
fn with_file<T>(name: &str, bytes: &[u8], use_it: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    }
    FOLDER.with(|folder| {
        let path = folder.get_or_init(|| tempfile::tempdir().unwrap()).path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A new file, not an old one cut: some file systems flush the latter to the disk when it is closed.
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).unwrap();
        use_it(&path)
    })
}

fn tiny(file: &str) -> Vec<u8> {
    fs::read(Path::new(TINY).join(file)).unwrap()
}

fn encoder() -> ModelConfig {
    ModelConfig::parse(&tiny("config.json")).unwrap()
}

/// A safetensors file: checked, then read.
pub(crate) fn safetensors(data: &[u8]) {
    with_file("fuzz.safetensors", data, |path| match CheckedTensors::open(path, 1 << 20) {
        Ok(checked) => {
            let mut read = 0;
            let result = checked.read(&|_| true, &mut |name, shape, values| {
                assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
                assert!(values.iter().all(|value| value.is_finite()));
                read += 1;
            });
            // Integer tensors are checked and never read.
            assert!(result.is_err() || read <= checked.tensors().len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    });
}

pub(crate) fn safetensors_seeds() -> Vec<Vec<u8>> {
    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]},"c":{"dtype":"I64","shape":[],"data_offsets":[12,20]}}"#;
    let small = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 20]].concat();
    assert!(with_file("seed.safetensors", &small, |path| CheckedTensors::open(path, 1 << 20).is_ok()));
    let folder = Path::new(TINY).parent().unwrap().join("tiny-top/adapter_model.safetensors");
    vec![small, fs::read(folder).unwrap()]
}

/// A head, an adapter's tensors, or an adapter's description, in place of a good one.
pub(crate) fn adapter_folder(data: &[u8]) {
    let Some((which, bytes)) = select(data, 3) else { return };
    let (config, spec) = (encoder(), adapter_spec(world().plan.document()));
    let [_, tensors, description] = good_adapter();
    match which {
        0 => drop(with_file("head.safetensors", bytes, |path| {
            read_head(path, &config, &spec)
                .map(|read| write_head(&path.with_extension("again"), &config, &spec, &whole(&read)).unwrap())
        })),
        which => {
            let (tensors, description) =
                if which == 1 { (bytes, &description[..]) } else { (&tensors[..], bytes) };
            with_file("peft/adapter_model.safetensors", tensors, |path| {
                let beside = path.with_file_name("adapter_config.json");
                let _ = fs::remove_file(&beside);
                fs::write(beside, description).unwrap();
                let _ = read_peft_folder(path.parent().unwrap(), &config, &spec, None);
            });
        }
    }
}

/// The tensors of `read`, the others zero.
fn whole(read: &AdapterTensors) -> AdapterTensors {
    let mut all = AdapterTensors::new();
    for tensor in adapter_tensors(&encoder(), &adapter_spec(world().plan.document())).unwrap() {
        let values = read.values(&tensor.name).map_or_else(|| vec![0.0; tensor.elements()], <[f32]>::to_vec);
        all.insert(tensor.name.clone(), values);
    }
    all
}

/// Head, adapter tensors and description that the plan's readers take.
fn good_adapter() -> &'static [Vec<u8>; 3] {
    static GOOD: std::sync::OnceLock<[Vec<u8>; 3]> = std::sync::OnceLock::new();
    GOOD.get_or_init(|| {
        let (config, spec) = (encoder(), adapter_spec(world().plan.document()));
        let folder = tempfile::tempdir().unwrap();
        let all = whole(&AdapterTensors::new());
        let head = folder.path().join("head.safetensors");
        write_head(&head, &config, &spec, &all).unwrap();
        write_peft_folder(folder.path(), "tiny", &config, &spec, &all, None).unwrap();
        ["head.safetensors", "adapter_model.safetensors", "adapter_config.json"]
            .map(|name| fs::read(folder.path().join(name)).unwrap())
    })
}

pub(crate) fn adapter_folder_seeds() -> Vec<Vec<u8>> {
    let (config, spec) = (encoder(), adapter_spec(world().plan.document()));
    let [_, tensors, description] = good_adapter();
    with_file("seed/adapter_model.safetensors", tensors, |path| {
        fs::write(path.with_file_name("adapter_config.json"), description).unwrap();
        read_peft_folder(path.parent().unwrap(), &config, &spec, None).unwrap();
    });
    good_adapter().iter().enumerate().map(|(which, bytes)| selected(which, bytes)).collect()
}

const MODEL_FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// One file of a model folder in place of the good one; a tokenizer that is taken must cut any text.
pub(crate) fn model_folder(data: &[u8]) {
    let Some((which, bytes)) = select(data, 3) else { return };
    with_file("model/config.json", b"", |path| {
        let folder = path.parent().unwrap();
        for (index, name) in MODEL_FILES.iter().enumerate() {
            let _ = fs::remove_file(folder.join(name));
            if index == which {
                fs::write(folder.join(name), bytes).unwrap();
            } else {
                fs::copy(Path::new(TINY).join(name), folder.join(name)).unwrap();
            }
        }
        match ModelFolder::open(folder) {
            Ok(model) => {
                let most = model.config().max_tokens().min(16);
                let Ok(tokenizer) = model.tokenizer(most) else { return };
                for text in
                    ["", "acute infection of the lung, Ménière's 急性 \u{0}", &"fracture ".repeat(100)]
                {
                    if let Ok(tokens) = tokenizer.encode(text) {
                        assert!(tokens.len() <= most);
                        assert!(tokens.iter().all(|token| (*token as usize) < model.config().vocab_size));
                    }
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

pub(crate) fn model_folder_seeds() -> Vec<Vec<u8>> {
    assert!(ModelFolder::open(Path::new(TINY)).is_ok());
    (0..3).map(|which| selected(which, tiny(MODEL_FILES[which]))).collect()
}

const FORMATS: [&str; 3] = ["csv", "jsonl", "parquet"];

fn records_in(path: &Path) -> DataConfig {
    DataConfig {
        path: path.to_path_buf(),
        text_column: "text".to_owned(),
        label_column: "label".to_owned(),
        patient_column: "patient_id".to_owned(),
    }
}

/// A file of records in one of the three formats.
pub(crate) fn records(data: &[u8]) {
    let Some((which, bytes)) = select(data, FORMATS.len()) else { return };
    let labels = crate::support::LABELS.map(str::to_owned);
    with_file(&format!("records.{}", FORMATS[which]), bytes, |path| {
        match Dataset::load(&records_in(path), &labels, 2) {
            Ok(set) => {
                assert!(!set.is_empty() && set.patients() > 0);
                let kept: usize = (0..set.patients()).map(|patient| set.records(patient).len()).sum();
                assert_eq!(kept, set.len());
                assert_eq!(set.label_counts().iter().sum::<usize>(), kept);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

pub(crate) fn records_seeds() -> Vec<Vec<u8>> {
    let csv = "patient_id,text,label\n7,\"a \"\"quoted\"\"\ntext\",infection\n8,plain,fracture\n7,third,infection\n";
    let lines = "{\"patient_id\":7,\"text\":\"a\",\"label\":\"infection\"}\n{\"text\":\"b\",\"label\":\"fracture\",\"patient_id\":\"p\"}\n";
    let files = [csv.as_bytes().to_vec(), lines.as_bytes().to_vec(), parquet_records()];
    let labels = crate::support::LABELS.map(str::to_owned);
    for (format, bytes) in FORMATS.into_iter().zip(&files) {
        with_file(&format!("seed.{format}"), bytes, |path| {
            Dataset::load(&records_in(path), &labels, 2).unwrap()
        });
    }
    files.iter().enumerate().map(|(which, bytes)| selected(which, bytes)).collect()
}

fn parquet_records() -> Vec<u8> {
    let schema = "message rows { required binary patient_id (UTF8); required binary text (UTF8); required binary label (UTF8); }";
    let rows = [["p1", "p1", "p2"], ["a", "b", "c"], ["infection", "fracture", "infection"]];
    let properties = Arc::new(WriterProperties::builder().build());
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, Arc::new(parse_message_type(schema).unwrap()), properties)
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    for values in rows {
        let mut column = group.next_column().unwrap().unwrap();
        let values = values.map(ByteArray::from);
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

const OWNER: &str = "job demo of site-1";

/// A journal: what reading accepts, opening accepts, and after a torn line is cut off nothing more is found.
pub(crate) fn journal(data: &[u8]) {
    with_file("fuzz.journal", data, |path| {
        let read = Journal::<Value>::read(path, OWNER);
        let opened = Journal::<Value>::open(path, OWNER);
        match (read, opened) {
            (Ok(contents), Ok((journal, records))) => {
                assert_eq!(contents.records, records);
                assert_eq!(contents.torn, journal.torn());
                assert_eq!(journal.head(), (records.len() as u64, contents.chain));
                drop(journal);
                let again = Journal::<Value>::read(path, OWNER).unwrap();
                assert_eq!((again.records, again.torn), (records, None));
            }
            (Err(error), Err(_)) => assert!(!error.to_string().is_empty()),
            // An empty file becomes a journal when it is opened.
            (Err(_), Ok((_, records))) => assert!(records.is_empty()),
            (Ok(_), Err(error)) => panic!("reads and does not open: {error}"),
        }
    });
}

/// A file that `fill` writes.
fn written(name: &str, fill: impl FnOnce(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join(name);
    fill(&path);
    fs::read(path).unwrap()
}

pub(crate) fn journal_seeds() -> Vec<Vec<u8>> {
    let whole = written("a.journal", |path| {
        let (mut journal, _) = Journal::<Value>::open(path, OWNER).unwrap();
        journal.append(&[serde_json::json!({"voted": 3}), serde_json::json!("sent")]).unwrap();
    });
    let torn = whole[..whole.len() - 9].to_vec();
    let foreign = written("b.journal", |path| drop(Journal::<Value>::open(path, "another's").unwrap()));
    let reading = with_file("c.journal", &foreign, |path| Journal::<Value>::read(path, OWNER));
    assert!(matches!(reading, Err(JournalError::Foreign { .. })));
    vec![whole, torn, foreign, Vec::new()]
}

/// A ledger, read by the data set's name.
pub(crate) fn ledger(data: &[u8]) {
    let set: Id = "titles".parse().unwrap();
    with_file("fuzz-ledger.journal", data, |path| match LedgerFile::read(path, &set) {
        Ok((state, _)) => assert_eq!(state.length(), state.debits().len() as u64),
        Err(error) => assert!(!error.to_string().is_empty()),
    });
}

pub(crate) fn ledger_seeds() -> Vec<Vec<u8>> {
    let set: Id = "titles".parse().unwrap();
    let mut rng = chacha20::ChaCha20Rng::seed_from_u64(1);
    let whole = written("ledger.journal", |path| {
        let (mut file, _) = LedgerFile::open(path, &set, &mut rng).unwrap();
        for attempt in 1..=2 {
            file.append(&Debit::of(&world().plan, 1, attempt)).unwrap();
        }
    });
    let torn = whole[..whole.len() - 30].to_vec();
    for bytes in [&whole, &torn] {
        with_file("seed-ledger.journal", bytes, |path| LedgerFile::read(path, &set).map(drop).unwrap());
    }
    vec![whole, torn]
}

pub(crate) fn client_config(data: &[u8]) {
    with_file("client.toml", data, |path| {
        if let Err(error) = Config::load(path) {
            assert!(!error.to_string().is_empty());
        }
    });
}

pub(crate) fn client_config_seeds() -> Vec<Vec<u8>> {
    let example = include_bytes!("../../../client/client.example.toml").to_vec();
    let seeds = vec![example, file("site-1.toml")];
    for seed in &seeds {
        assert!(with_file("seed.toml", seed, |path| Config::load(path).is_ok()));
    }
    seeds
}
