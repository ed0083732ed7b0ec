//! A table of plain columns, as JSON Lines and as Parquet; both open in pandas as they are.

use std::{fmt::Write as _, sync::Arc};

use parquet::{
    basic::{Compression, ConvertedType, Repetition, Type as Physical},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedColumnWriter, writer::SerializedFileWriter},
    schema::types::Type,
};
use serde_json::Value;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Number(f64),
    /// A word.
    Text(String),
}

impl Cell {
    /// A number, or nothing.
    pub fn number(value: Option<f64>) -> Self {
        value.filter(|value| value.is_finite()).map_or(Self::Null, Self::Number)
    }

    /// A count.
    pub fn count(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A JSON value; lists and objects as their text.
    pub fn json(value: Option<&Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Null,
            Some(Value::Bool(value)) => Self::Bool(*value),
            Some(Value::Number(value)) => match value.as_i64() {
                Some(whole) => Self::Int(whole),
                None => Self::number(value.as_f64()),
            },
            Some(Value::String(word)) => Self::Text(word.clone()),
            Some(other) => Self::Text(other.to_string()),
        }
    }

    /// A TOML value; lists and tables as their text.
    pub fn toml(value: &toml::Value) -> Self {
        match value {
            toml::Value::Boolean(value) => Self::Bool(*value),
            toml::Value::Integer(value) => Self::Int(*value),
            toml::Value::Float(value) => Self::number(Some(*value)),
            toml::Value::String(word) => Self::Text(word.clone()),
            other => Self::Text(other.to_string()),
        }
    }
}

/// What all entries of a column can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Nothing,
    Bool,
    Int,
    Number,
    Text,
}

/// Rows under the same columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Adds a row; columns that are new come last, and are empty in the rows before.
    pub fn add(&mut self, row: impl IntoIterator<Item = (String, Cell)>) {
        let mut cells = vec![Cell::Null; self.columns.len()];
        for (name, cell) in row {
            let at = self.columns.iter().position(|column| *column == name);
            match at.and_then(|at| cells.get_mut(at)) {
                Some(place) => *place = cell,
                None => {
                    self.columns.push(name);
                    cells.push(cell);
                }
            }
        }
        self.rows.push(cells);
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &Cell> {
        self.rows.iter().map(move |row| row.get(column).unwrap_or(&Cell::Null))
    }

    /// A column of whole numbers and fractions is one of numbers, and one of numbers and words is one of words.
    fn kind(&self, column: usize) -> Kind {
        let kind = |cell: &Cell| match cell {
            Cell::Null => Kind::Nothing,
            Cell::Bool(_) => Kind::Bool,
            Cell::Int(_) => Kind::Int,
            Cell::Number(_) => Kind::Number,
            Cell::Text(_) => Kind::Text,
        };
        let join = |one: Kind, two: Kind| match (one.min(two), one.max(two)) {
            (Kind::Bool, Kind::Int | Kind::Number) => Kind::Text,
            (_, most) => most,
        };
        self.cells(column).map(kind).fold(Kind::Nothing, join)
    }

    /// One object a line.
    pub fn json_lines(&self) -> String {
        let kinds: Vec<Kind> = (0..self.columns.len()).map(|column| self.kind(column)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut before = '{';
            for (at, (name, kind)) in self.columns.iter().zip(&kinds).enumerate() {
                let value = match (row.get(at).unwrap_or(&Cell::Null), kind) {
                    (Cell::Null, _) => Value::Null,
                    (Cell::Int(value), Kind::Number) => Value::from(*value as f64),
                    (cell, Kind::Text) => Value::from(words(cell)),
                    (Cell::Bool(value), _) => Value::from(*value),
                    (Cell::Int(value), _) => Value::from(*value),
                    (Cell::Number(value), _) => Value::from(*value),
                    (Cell::Text(value), _) => Value::from(value.as_str()),
                };
                let _infallible = write!(text, "{before}{}:{value}", Value::from(name.as_str()));
                before = ',';
            }
            text.push_str(if before == '{' { "{}\n" } else { "}\n" });
        }
        text
    }

    /// One row group; every column is optional, numbers are doubles, words UTF-8.
    ///
    /// # Errors
    ///
    /// [`ParquetError`], for columns that cannot be.
    pub fn parquet(&self) -> Result<Vec<u8>, ParquetError> {
        let kinds: Vec<Kind> = (0..self.columns.len()).map(|column| self.kind(column)).collect();
        let field = |(name, kind): (&String, &Kind)| {
            let physical = match kind {
                Kind::Bool => Physical::BOOLEAN,
                Kind::Int => Physical::INT64,
                Kind::Nothing | Kind::Number => Physical::DOUBLE,
                Kind::Text => Physical::BYTE_ARRAY,
            };
            let converted = if *kind == Kind::Text { ConvertedType::UTF8 } else { ConvertedType::NONE };
            let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
            builder.with_converted_type(converted).build().map(Arc::new)
        };
        let fields = self.columns.iter().zip(&kinds).map(field).collect::<Result<_, _>>()?;
        let schema = Arc::new(Type::group_type_builder("rows").with_fields(fields).build()?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        for (at, kind) in kinds.iter().enumerate() {
            let Some(column) = group.next_column()? else { break };
            match kind {
                Kind::Bool => put::<BoolType>(column, self.cells(at), |cell| match cell {
                    Cell::Bool(value) => Some(*value),
                    _ => None,
                })?,
                Kind::Int => put::<Int64Type>(column, self.cells(at), |cell| match cell {
                    Cell::Int(value) => Some(*value),
                    _ => None,
                })?,
                Kind::Nothing | Kind::Number => {
                    put::<DoubleType>(column, self.cells(at), |cell| match cell {
                        Cell::Int(value) => Some(*value as f64),
                        Cell::Number(value) => Some(*value),
                        _ => None,
                    })?
                }
                Kind::Text => put::<ByteArrayType>(column, self.cells(at), |cell| match cell {
                    Cell::Null => None,
                    cell => Some(ByteArray::from(words(cell).as_str())),
                })?,
            }
        }
        group.close()?;
        writer.into_inner()
    }
}

fn words(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Bool(value) => value.to_string(),
        Cell::Int(value) => value.to_string(),
        Cell::Number(value) => value.to_string(),
        Cell::Text(value) => value.clone(),
    }
}

fn put<'a, T: DataType>(
    mut column: SerializedColumnWriter<'_>,
    cells: impl Iterator<Item = &'a Cell>,
    value: impl Fn(&Cell) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        let value = value(cell);
        levels.push(i16::from(value.is_some()));
        values.extend(value);
    }
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::Field,
    };

    use super::*;

    #[test]
    fn both_formats_hold_the_same() {
        let mut table = Table::default();
        let row = |pairs: &[(&str, Cell)]| {
            pairs.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect::<Vec<_>>()
        };
        table.add(row(&[("clients.dropout", Cell::Int(0)), ("end", Cell::Text("released".into()))]));
        table.add(row(&[("clients.dropout", Cell::Number(0.1)), ("good", Cell::Bool(true))]));
        table.add(row(&[
            ("clients.dropout", Cell::Null),
            ("end", Cell::Text("\"a\"\nb".into())),
            ("n", Cell::Int(7)),
        ]));
        let lines = table.json_lines();
        let expected = concat!(
            "{\"clients.dropout\":0.0,\"end\":\"released\",\"good\":null,\"n\":null}\n",
            "{\"clients.dropout\":0.1,\"end\":null,\"good\":true,\"n\":null}\n",
            "{\"clients.dropout\":null,\"end\":\"\\\"a\\\"\\nb\",\"good\":null,\"n\":7}\n",
        );
        assert_eq!(lines, expected);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&table.parquet().unwrap()).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<Vec<(String, Field)>> = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| {
                row.unwrap().get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect()
            })
            .collect();
        let text = |row: &[(String, Field)]| {
            let pairs: Vec<_> = row.iter().map(|(name, field)| format!("{name}={field}")).collect();
            pairs.join(" ")
        };
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0][0], ("clients.dropout".into(), Field::Double(0.0)));
        assert_eq!(rows[1][2], ("good".into(), Field::Bool(true)));
        assert_eq!(rows[2][1], ("end".into(), Field::Str("\"a\"\nb".into())));
        assert_eq!(rows[2][3], ("n".into(), Field::Long(7)));
        assert!(text(&rows[0]).ends_with("good=null n=null"), "{}", text(&rows[0]));
    }

    #[test]
    fn words_and_numbers_under_one_name_are_words() {
        let mut table = Table::default();
        table.add([("x".to_owned(), Cell::Text("none".into()))]);
        table.add([("x".to_owned(), Cell::Number(0.5))]);
        assert_eq!(table.json_lines(), "{\"x\":\"none\"}\n{\"x\":\"0.5\"}\n");
        assert!(Table::default().parquet().is_ok(), "an empty table is a file too");
    }
}
