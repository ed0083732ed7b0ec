//! The three formats agree; every fault is named with file, place, column and cure.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;

const ROWS: [(&str, &str, i64); 5] = [
    ("Cholera, unspecified", "I", 7),
    ("Pain in \"throat\"", "XVIII", 12),
    ("Ménière's disease\nboth ears", "VIII", 7),
    ("Fracture", "XIX", 3),
    ("Fracture, again", "XIX", 7),
];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> DataConfig {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        config(path)
    }
}

fn config(path: PathBuf) -> DataConfig {
    DataConfig {
        path,
        text_column: "text".to_owned(),
        label_column: "chapter".to_owned(),
        patient_column: "patient".to_owned(),
    }
}

fn labels() -> Vec<String> {
    ["I", "VIII", "XVIII", "XIX"].map(str::to_owned).to_vec()
}

fn csv() -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let rows: String = ROWS.iter().map(|(t, l, p)| format!("{p},{},x,{l}\n", quoted(t))).collect();
    format!("patient,text,other,chapter\n{rows}")
}

fn json_lines() -> String {
    let row = |(t, l, p): &(&str, &str, i64)| {
        format!("{}\n", serde_json::json!({"text": t, "chapter": l, "patient": p, "other": [1]}))
    };
    ROWS.iter().map(row).collect()
}

fn parquet(folder: &Folder, compression: Compression) -> DataConfig {
    let path = folder.0.path().join("data.parquet");
    let schema = "message rows { required int64 patient; required double other; optional binary chapter (UTF8); optional binary text; }";
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(
        File::create(&path).unwrap(),
        Arc::new(parse_message_type(schema).unwrap()),
        Arc::new(properties),
    )
    .unwrap();
    // Two row groups, as a large file has.
    for rows in [&ROWS[..2], &ROWS[2..]] {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row.2).collect();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<parquet::data_type::DoubleType>()
            .write_batch(&vec![0.5; rows.len()], None, None)
            .unwrap();
        column.close().unwrap();
        for text in [false, true] {
            let values: Vec<ByteArray> =
                rows.iter().map(|row| ByteArray::from(if text { row.0 } else { row.1 })).collect();
            let mut column = group.next_column().unwrap().unwrap();
            let levels = vec![1; rows.len()];
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    config(path)
}

#[test]
fn three_formats_are_one_data_set() {
    let folder = Folder::new();
    let from_csv = Dataset::load(&folder.write("a.csv", csv()), &labels(), 2).unwrap();
    let texts: Vec<Vec<&str>> = (0..from_csv.patients())
        .map(|patient| from_csv.records(patient).iter().map(|record| record.text.as_str()).collect())
        .collect();
    assert_eq!(texts, [vec![ROWS[0].0, ROWS[2].0], vec![ROWS[1].0], vec![ROWS[3].0]]);
    assert_eq!((from_csv.len(), from_csv.dropped()), (4, 1), "the third record of patient 7 is left out");
    assert_eq!(from_csv.label_counts(), [1, 1, 1, 1]);
    assert_eq!(from_csv.records(1)[0].labels, [2]);
    assert!(from_csv.records(3).is_empty());

    let marked = folder.write(
        "b.csv",
        format!("\u{feff}{}", csv().replace('\n', "\r\n").replace("disease\r\n", "disease\n")),
    );
    let lines = folder.write("c.jsonl", format!("\u{feff}{}\n \n", json_lines()));
    let others = [marked, lines, folder.write("d.NDJSON", json_lines())];
    for config in &others {
        assert_eq!(Dataset::load(config, &labels(), 2).unwrap(), from_csv, "{}", config.path.display());
    }
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::GZIP(Default::default())]
    {
        assert_eq!(Dataset::load(&parquet(&folder, compression), &labels(), 2).unwrap(), from_csv);
    }
}

#[test]
fn debug_shows_counts_only() {
    let folder = Folder::new();
    let data = Dataset::load(&folder.write("a.csv", csv()), &labels(), 9).unwrap();
    assert_eq!(format!("{data:?}"), "Dataset { patients: 3, records: 5, labels: 4, dropped: 0 }");
}

/// The message of the error that loading must give, without the folder.
#[track_caller]
fn refused(folder: &Folder, config: &DataConfig) -> String {
    let error = Dataset::load(config, &labels(), 1).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.0.path().display()), "")
}

#[test]
fn every_fault_is_named() {
    let folder = Folder::new();
    let cases: [(&str, &[u8], &str); 20] = [
        ("a.csv", b"", "no column `text`; the file has ;"),
        ("a.csv", b"patient,text,chapter\n", "a.csv: holds no records"),
        (
            "a.csv",
            b"patient,texts,chapter\n1,a,I\n",
            "no column `text`; the file has patient, texts, chapter; correct",
        ),
        ("a.csv", b"patient,text,text,chapter\n1,a,b,I\n", "column `text` is named twice"),
        ("a.csv", b"patient,text,chapter\n1,a,I\n2,b\n", "a.csv, line 3: has 2 fields, the head has 3"),
        ("a.csv", b"patient,text,chapter\n1,a,I\n,b,I\n", "a.csv, line 3, column `patient`: is empty"),
        ("a.csv", b"patient,text,chapter\n1,\"a\nb\",I\n2,  ,I\n", "a.csv, line 4, column `text`: is empty"),
        ("a.csv", b"patient,text,chapter\n1,a,\n", "a.csv, line 2, column `chapter`: is empty"),
        (
            "a.csv",
            b"patient,text,chapter\n1,a,i\n",
            "column `chapter`: label `i` is not among the plan's 4 labels",
        ),
        ("a.csv", b"patient,text,chapter\n1,\xff,I\n", "a.csv, line 2, column `text`: is not UTF-8"),
        ("a.jsonl", b"", "a.jsonl: holds no records"),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"patient\": 1}\n",
            "no column `chapter`; the file has patient, text",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"patient\": 1, \"chapter\": \"I\"}\n{}\n",
            "a.jsonl, line 2, column `text`: is empty",
        ),
        (
            "a.jsonl",
            b"{\"text\": null, \"patient\": 1, \"chapter\": \"I\"}\n",
            "line 1, column `text`: is empty",
        ),
        (
            "a.jsonl",
            b"{\"text\": 5, \"patient\": 1, \"chapter\": \"I\"}\n",
            "line 1, column `text`: is a number; expected text",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"patient\": 1.5, \"chapter\": \"I\"}\n",
            "column `patient`: is a number; expected text or a whole number",
        ),
        ("a.jsonl", b"[1]\n", "a.jsonl, line 1: is not one JSON object"),
        ("a.jsonl", b"{\"text\": \"\xff\"}\n", "a.jsonl, line 1: is not UTF-8"),
        ("a.xlsx", b"", "unknown extension `xlsx`; use csv, jsonl, ndjson or parquet"),
        ("a.parquet", b"PAR1 this is not a table PAR1", "a.parquet: not a readable Parquet file"),
    ];
    for (name, bytes, expected) in cases {
        let error = refused(&folder, &folder.write(name, bytes));
        assert!(error.contains(expected), "{error}\n  should say: {expected}");
    }
    let error = refused(&folder, &config(folder.0.path().join("absent.csv")));
    assert!(error.contains("absent.csv: cannot be read: No such file"), "{error}");
}

#[test]
fn an_error_quotes_no_text() {
    let folder = Folder::new();
    let secret = "Jane Doe has cholera";
    for (name, bytes) in [
        ("a.csv", format!("patient,text,chapter\n1,{secret},I\n2,{secret}\n")),
        ("a.csv", format!("patient,text,chapter\n1,{secret},unknown\n")),
        (
            "a.jsonl",
            format!(
                "{{\"text\": \"{secret}\", \"patient\": 1, \"chapter\": \"I\"}}\n{{\"text\": \"{secret}\"\n"
            ),
        ),
    ] {
        let error = refused(&folder, &folder.write(name, bytes));
        assert!(!error.contains("Jane"), "{error}");
    }
}

#[test]
fn sizes_are_capped() {
    let folder = Folder::new();
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    let error = refused(&folder, &folder.write("a.csv", format!("patient,text,chapter\n1,{long},I\n")));
    assert!(error.contains("column `text`: 1048577 bytes, at most 1048576 are read"), "{error}");
    let label = "y".repeat(50);
    let error = refused(&folder, &folder.write("a.csv", format!("patient,text,chapter\n1,a,{label}\n")));
    assert!(error.contains(&format!("label `{}…`", "y".repeat(40))), "{error}");
    let line = format!("{{\"text\": \"{}\"}}\n", "x".repeat(9 * MAX_TEXT_BYTES));
    let error = refused(&folder, &folder.write("a.jsonl", line));
    assert!(error.contains("line 1: is longer than"), "{error}");
}

#[test]
fn a_damaged_parquet_file_is_an_error_and_no_panic() {
    let folder = Folder::new();
    let sound = parquet(&folder, Compression::SNAPPY);
    let bytes = fs::read(&sound.path).unwrap();
    let mut missing = config(sound.path.clone());
    missing.label_column = "label".to_owned();
    let error = refused(&folder, &missing);
    assert!(error.contains("no column `label`; the file has patient, other, chapter, text"), "{error}");
    missing.label_column = "other".to_owned();
    let error = refused(&folder, &missing);
    assert!(error.contains("row 1, column `other`: is a number or a date"), "{error}");
    for length in (0..bytes.len()).step_by(7) {
        let config = folder.write("short.parquet", &bytes[..length]);
        assert!(Dataset::load(&config, &labels(), 1).is_err(), "{length} bytes");
    }
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x41;
        // Some bytes do not matter; none may bring the process down.
        let _ = Dataset::load(&folder.write("damaged.parquet", damaged), &labels(), 1);
    }
}

#[test]
fn a_plan_that_contradicts_itself_is_refused() {
    let folder = Folder::new();
    let good = folder.write("a.csv", csv());
    let twice = ["I".to_owned(), "I".to_owned()];
    assert!(matches!(Dataset::load(&good, &twice, 1), Err(DataError::LabelTwice { .. })));
    assert!(matches!(Dataset::load(&good, &labels(), 0), Err(DataError::NoRecordsAllowed)));
    let mut same = good;
    same.patient_column = "text".to_owned();
    assert!(matches!(Dataset::load(&same, &labels(), 1), Err(DataError::ColumnTwice { .. })));
}

#[test]
fn the_configuration_refuses_unknown_fields() {
    let text = "path = \"a.csv\"\ntext_column = \"t\"\nlabel_column = \"l\"\npatient_column = \"p\"\n";
    assert!(toml::from_str::<DataConfig>(text).is_ok());
    let error = toml::from_str::<DataConfig>(&format!("{text}texts = 1\n")).unwrap_err().to_string();
    assert!(error.contains("unknown field `texts`"), "{error}");
}

#[test]
fn ten_thousand_records_of_one_patient_are_one_patient_of_as_many_records_as_the_plan_allows() {
    let folder = Folder::new();
    let rows: String = (0..10_000).map(|row| format!("7,visit {row},x,I\n")).collect();
    let config = folder.write("a.csv", format!("patient,text,other,chapter\n8,one visit,x,I\n{rows}"));
    let data = Dataset::load(&config, &labels(), 16).unwrap();
    assert_eq!((data.patients(), data.len(), data.dropped()), (2, 17, 9_984));
    assert_eq!(data.records(1).len(), 16);
    assert_eq!(data.records(1)[15].text, "visit 15", "the first in the file's order");
    // Without a limit of the plan's they are still one patient, whose gradient is clipped as one.
    assert_eq!(Dataset::load(&config, &labels(), usize::MAX).unwrap().records(1).len(), 10_000);
}

#[test]
fn a_record_without_a_patients_id_is_refused_with_its_line() {
    let folder = Folder::new();
    for missing in ["", "   ", "\t"] {
        let config = folder.write("a.csv", format!("patient,text,other,chapter\n7,a,x,I\n{missing},b,x,I\n"));
        let text = refused(&folder, &config);
        assert!(
            text.contains("line 3") && text.contains("`patient`") && text.contains("patient id"),
            "{text}"
        );
    }
}

#[test]
fn patients_who_are_left_out_leave_no_gap() {
    let folder = Folder::new();
    let data = Dataset::load(&folder.write("a.csv", csv()), &labels(), 2).unwrap();
    let kept = data.without(&[1].into());
    assert_eq!((kept.patients(), kept.len()), (2, data.len() - data.records(1).len()));
    assert!((kept.records(0), kept.records(1)) == (data.records(0), data.records(2)));
    assert!(data.without(&BTreeSet::new()) == data);
}

#[test]
fn several_labels_are_one_data_set_in_every_format() {
    let folder = Folder::new();
    let rows = [("a", vec!["XIX", "I", "XIX"], 1), ("b", vec![], 2), ("c", vec!["VIII"], 1)];
    let line = |(text, labels, patient): &(&str, Vec<&str>, i32)| {
        format!("{patient},{text},\" {} \"\n", labels.join(" ; "))
    };
    let csv =
        folder.write("a.csv", format!("patient,text,chapter\n{}", rows.iter().map(line).collect::<String>()));
    let list = |(text, labels, patient): &(&str, Vec<&str>, i32)| {
        format!("{}\n", serde_json::json!({"text": text, "chapter": labels, "patient": patient}))
    };
    let lists = folder.write("a.jsonl", rows.iter().map(list).collect::<String>());
    let load = |config: &DataConfig| Dataset::load_for(config, TaskKind::MultiLabel, &labels(), 9);
    let data = load(&csv).unwrap();
    assert_eq!(load(&lists).unwrap(), data);
    assert_eq!((&data.records(0)[0].labels, &data.records(0)[1].labels), (&vec![0, 3], &vec![1]));
    assert!(data.records(1)[0].labels.is_empty(), "a text without a label is one");
    assert_eq!(data.label_counts(), [1, 1, 0, 1]);
    let unknown = folder.write("b.csv", "patient,text,chapter\n1,x,I;II\n");
    let error = load(&unknown).unwrap_err().to_string();
    assert!(
        error.contains("line 2, column `chapter`: label `II` is not among the plan's 4 labels"),
        "{error}"
    );
    let wrong = folder.write("b.jsonl", "{\"patient\":1,\"text\":\"x\",\"chapter\":[[1]]}\n");
    assert!(load(&wrong).unwrap_err().to_string().contains("a list of something else than labels"));
    // Where one label is wanted, a list is none.
    assert!(Dataset::load(&lists, &labels(), 9).unwrap_err().to_string().contains("is a list"));
    assert!(Dataset::load(&csv, &labels(), 9).is_err());
}

#[test]
fn texts_alone_need_no_label_column() {
    let folder = Folder::new();
    let csv = DataConfig { label_column: String::new(), ..folder.write("a.csv", csv()) };
    let lines = DataConfig { label_column: "nowhere".to_owned(), ..folder.write("a.jsonl", json_lines()) };
    let parquet = DataConfig { label_column: String::new(), ..parquet(&folder, Compression::SNAPPY) };
    let load = |config: &DataConfig| Dataset::load_for(config, TaskKind::NextToken, &[], 9).unwrap();
    let data = load(&csv);
    assert_eq!((data.len(), data.labels(), data.records(0)[0].labels.len()), (5, 0, 0));
    assert!(load(&lines) == data && load(&parquet) == data);
    let error = Dataset::load(&csv, &labels(), 9).unwrap_err().to_string();
    assert!(error.contains("label_column is not named in the client's config"), "{error}");
}

#[test]
fn patients_alone_are_read_from_one_column() {
    let folder = Folder::new();
    let ids = |config: &DataConfig| Dataset::load_patients(config).map(|data| data.patient_ids());
    let whole = Dataset::load(&folder.write("a.csv", csv()), &labels(), 4).unwrap();
    for (name, text) in [
        ("b.csv", csv()),
        ("c.jsonl", json_lines()),
        ("d.csv", "patient\n7\n12\n 7 \n3\n7\n".to_owned()),
        ("e.jsonl", "{\"patient\": 7}\n{\"patient\": \"12\"}\n{\"patient\": 3}\n".to_owned()),
    ] {
        let found = ids(&folder.write(name, text)).unwrap();
        assert_eq!(found, ["7", "12", "3"], "{name}");
        assert_eq!(found, whole.patient_ids(), "numbered as with records");
    }
    assert_eq!(ids(&parquet(&folder, Compression::SNAPPY)).unwrap(), whole.patient_ids());
    let error = ids(&folder.write("f.csv", "text\nx\n")).unwrap_err().to_string();
    assert!(error.contains("patient"), "{error}");
    assert!(matches!(ids(&folder.write("g.csv", "patient\n")), Err(DataError::Empty { .. })));
    assert!(matches!(ids(&folder.write("h.csv", "patient,x\n1,2\n,3\n")), Err(DataError::Missing { .. })));
}
