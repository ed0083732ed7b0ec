//! JSON Lines: one object a line, UTF-8; blank lines are skipped. Labels and ids may be whole numbers; they are read as their decimal
//! text. Where a text may have several labels, they may be a list.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use serde_json::{Map, Value};

use super::{DataConfig, DataError, Grouping, MAX_TEXT_BYTES, Place, SEPARATOR, TaskKind, shortened, wanted};

/// Longest line, in bytes: a text with every byte escaped, and other columns.
const MAX_LINE_BYTES: u64 = 8 * MAX_TEXT_BYTES as u64;

pub(super) fn read(config: &DataConfig, grouping: &mut Grouping<'_>) -> Result<(), DataError> {
    let io = |source| DataError::Io { file: config.path.clone(), source };
    let mut reader = BufReader::new(File::open(&config.path).map_err(io)?);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line).map_err(io)?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        let place = Place::Line(number);
        let malformed = |problem| DataError::Malformed { file: config.path.clone(), place, problem };
        if read as u64 > MAX_LINE_BYTES {
            return Err(malformed(format!("is longer than {MAX_LINE_BYTES} bytes")));
        }
        let bytes = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
        let text = str::from_utf8(bytes)
            .map_err(|_| malformed("is not UTF-8; save the file again as UTF-8".to_owned()))?;
        if text.trim().is_empty() {
            continue;
        }
        // The parser's message names a column, never a value.
        let object: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| malformed(format!("is not one JSON object (column {})", error.column())))?;
        let mut row = [None, None, None];
        for (index, (slot, column)) in row.iter_mut().zip(wanted(config)).enumerate() {
            if column.is_empty() {
                continue;
            }
            let list = index == 1 && grouping.task == TaskKind::MultiLabel;
            *slot = match object.get(column).filter(|_| list) {
                Some(Value::Array(labels)) => Some(Cow::Owned(joined(config, place, column, labels)?)),
                _ => field(config, place, column, &object, index > 0)?,
            };
        }
        grouping.add(place, [row[0].as_deref(), row[1].as_deref(), row[2].as_deref()])?;
    }
}

/// A list of labels, as the other formats have it.
fn joined(config: &DataConfig, place: Place, column: &str, labels: &[Value]) -> Result<String, DataError> {
    let each = labels.iter().map(|label| match label {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        _ => Err(DataError::WrongType {
            file: config.path.clone(),
            place,
            column: column.to_owned(),
            found: "a list of something else than labels",
            integers: true,
        }),
    });
    Ok(each.collect::<Result<Vec<_>, _>>()?.join(&SEPARATOR.to_string()))
}

fn field<'o>(
    config: &DataConfig,
    place: Place,
    column: &str,
    object: &'o Map<String, Value>,
    integers: bool,
) -> Result<Option<Cow<'o, str>>, DataError> {
    let wrong = |found| {
        Err(DataError::WrongType {
            file: config.path.clone(),
            place,
            column: column.to_owned(),
            found,
            integers,
        })
    };
    match object.get(column) {
        // On the first line a missing column is more likely misspelt than left out.
        None if place == Place::Line(1) => Err(DataError::NoColumn {
            file: config.path.clone(),
            column: column.to_owned(),
            found: object.keys().take(50).map(|name| shortened(name)).collect(),
        }),
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
        Some(Value::Number(number)) if integers && (number.is_i64() || number.is_u64()) => {
            Ok(Some(Cow::Owned(number.to_string())))
        }
        Some(Value::Number(_)) => wrong("a number"),
        Some(Value::Bool(_)) => wrong("true or false"),
        Some(Value::Array(_)) => wrong("a list"),
        Some(Value::Object(_)) => wrong("an object"),
    }
}
