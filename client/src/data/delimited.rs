//! CSV (RFC 4180) with a header row, comma-separated, UTF-8 with or without a byte-order mark.

use std::fs::File;
use std::io::Read;

use csv::ByteRecord;

use super::{DataConfig, DataError, Grouping, Place, shortened, wanted};

pub(super) fn read(config: &DataConfig, grouping: &mut Grouping<'_>) -> Result<(), DataError> {
    let file =
        File::open(&config.path).map_err(|source| DataError::Io { file: config.path.clone(), source })?;
    read_from(config, file, grouping)
}

fn read_from(config: &DataConfig, input: impl Read, grouping: &mut Grouping<'_>) -> Result<(), DataError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(true).flexible(false).from_reader(input);
    let columns = columns(config, reader.byte_headers().map_err(|error| failed(config, error))?)?;
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| failed(config, error))? {
        let place = Place::Line(record.position().map_or(0, csv::Position::line));
        let mut row = [None; 3];
        for ((slot, column), name) in row.iter_mut().zip(&columns).zip(wanted(config)) {
            let Some(column) = *column else { continue };
            let bytes = record.get(column).unwrap_or_default();
            *slot = Some(str::from_utf8(bytes).map_err(|_| DataError::NotUtf8 {
                file: config.path.clone(),
                place,
                column: name.to_owned(),
            })?);
        }
        grouping.add(place, row)?;
    }
    Ok(())
}

fn columns(config: &DataConfig, head: &ByteRecord) -> Result<[Option<usize>; 3], DataError> {
    let names: Vec<String> = head
        .iter()
        .map(|name| String::from_utf8_lossy(name).trim_start_matches('\u{feff}').trim().to_owned())
        .collect();
    let mut columns = [None; 3];
    for (slot, column) in columns.iter_mut().zip(wanted(config)).filter(|(_, column)| !column.is_empty()) {
        let mut places = names.iter().enumerate().filter(|(_, name)| *name == column);
        *slot = match (places.next(), places.next()) {
            (Some((index, _)), None) => Some(index),
            (Some(_), Some(_)) => {
                return Err(DataError::ColumnTwice { column: column.to_owned() });
            }
            (None, _) => {
                return Err(DataError::NoColumn {
                    file: config.path.clone(),
                    column: column.to_owned(),
                    found: names.iter().take(50).map(|name| shortened(name)).collect(),
                });
            }
        };
    }
    Ok(columns)
}

fn failed(config: &DataConfig, error: csv::Error) -> DataError {
    let place = Place::Line(error.position().map_or(1, csv::Position::line));
    let file = config.path.clone();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => DataError::Io { file, source },
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => DataError::Malformed {
            file,
            place,
            problem: format!(
                "has {len} fields, the head has {expected_len}; put quotes around fields with commas or line ends"
            ),
        },
        kind => DataError::Malformed { file, place, problem: csv_problem(&kind) },
    }
}

/// Without the values, which the parser's own message could quote.
fn csv_problem(kind: &csv::ErrorKind) -> String {
    match kind {
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8; save the file again as UTF-8".to_owned(),
        _ => "is not well-formed CSV".to_owned(),
    }
}
