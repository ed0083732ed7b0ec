//! Parquet, by the record interface (no Arrow). Compression: none, Snappy or gzip. Labels and ids may be whole numbers; they are read as their decimal text.

use std::borrow::Cow;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::{DataConfig, DataError, Grouping, Place, shortened, wanted};

pub(super) fn read(config: &DataConfig, grouping: &mut Grouping<'_>) -> Result<(), DataError> {
    let file =
        File::open(&config.path).map_err(|source| DataError::Io { file: config.path.clone(), source })?;
    // The crate is written for sound files; on damaged ones parts of it panic.
    catch_unwind(AssertUnwindSafe(|| read_file(config, file, grouping))).unwrap_or_else(|_| {
        Err(DataError::Parquet { file: config.path.clone(), problem: "it is damaged".to_owned() })
    })
}

fn read_file(config: &DataConfig, file: File, grouping: &mut Grouping<'_>) -> Result<(), DataError> {
    let reader = SerializedFileReader::new(file).map_err(|error| failed(config, error))?;
    let schema = reader.metadata().file_metadata().schema_descr().root_schema();
    let projection = projection(config, schema)?;
    let rows = reader.get_row_iter(Some(projection)).map_err(|error| failed(config, error))?;
    for (index, row) in rows.enumerate() {
        let place = Place::Row(index as u64 + 1);
        let row = row.map_err(|error| failed(config, error))?;
        let mut fields = [None, None, None];
        for (index, (slot, column)) in fields.iter_mut().zip(wanted(config)).enumerate() {
            if column.is_empty() {
                continue;
            }
            *slot = field(config, place, column, &row, index > 0)?;
        }
        grouping.add(place, [fields[0].as_deref(), fields[1].as_deref(), fields[2].as_deref()])?;
    }
    Ok(())
}

/// Only the wanted columns are decoded, whatever else the file holds.
fn projection(config: &DataConfig, schema: &Type) -> Result<Type, DataError> {
    let all = schema.get_fields();
    for column in wanted(config).into_iter().filter(|column| !column.is_empty()) {
        match all.iter().filter(|field| field.name() == column).count() {
            1 => {}
            0 => {
                return Err(DataError::NoColumn {
                    file: config.path.clone(),
                    column: column.to_owned(),
                    found: all.iter().take(50).map(|field| shortened(field.name())).collect(),
                });
            }
            _ => return Err(DataError::ColumnTwice { column: column.to_owned() }),
        }
    }
    let kept = all.iter().filter(|field| wanted(config).contains(&field.name())).map(Arc::clone);
    Type::group_type_builder(schema.name())
        .with_fields(kept.collect())
        .build()
        .map_err(|error| failed(config, error))
}

fn field<'r>(
    config: &DataConfig,
    place: Place,
    column: &str,
    row: &'r Row,
    integers: bool,
) -> Result<Option<Cow<'r, str>>, DataError> {
    let value = row.get_column_iter().find(|(name, _)| name.as_str() == column);
    let whole = |number: String| Ok(Some(Cow::Owned(number)));
    let found = match value.map(|(_, value)| value) {
        None | Some(Field::Null) => return Ok(None),
        Some(Field::Str(text)) => return Ok(Some(Cow::Borrowed(text))),
        // A writer that does not annotate its strings leaves bytes.
        Some(Field::Bytes(bytes)) => {
            let text = str::from_utf8(bytes.data()).map_err(|_| DataError::NotUtf8 {
                file: config.path.clone(),
                place,
                column: column.to_owned(),
            })?;
            return Ok(Some(Cow::Borrowed(text)));
        }
        Some(Field::Byte(n)) if integers => return whole(n.to_string()),
        Some(Field::Short(n)) if integers => return whole(n.to_string()),
        Some(Field::Int(n)) if integers => return whole(n.to_string()),
        Some(Field::Long(n)) if integers => return whole(n.to_string()),
        Some(Field::UByte(n)) if integers => return whole(n.to_string()),
        Some(Field::UShort(n)) if integers => return whole(n.to_string()),
        Some(Field::UInt(n)) if integers => return whole(n.to_string()),
        Some(Field::ULong(n)) if integers => return whole(n.to_string()),
        Some(Field::Bool(_)) => "true or false",
        Some(Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_)) => "a nested value",
        Some(_) => "a number or a date",
    };
    Err(DataError::WrongType { file: config.path.clone(), place, column: column.to_owned(), found, integers })
}

fn failed(config: &DataConfig, error: ParquetError) -> DataError {
    let mut problem = shortened_error(&error);
    if problem.contains("Disabled feature") {
        problem.push_str("; write the file again with Snappy or gzip compression");
    }
    DataError::Parquet { file: config.path.clone(), problem }
}

fn shortened_error(error: &ParquetError) -> String {
    error.to_string().chars().take(200).collect()
}
