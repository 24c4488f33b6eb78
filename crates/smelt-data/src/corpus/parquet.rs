//! The texts of a Parquet file: one column of strings, row by row.
//!
//! Reads through the column reader of the `parquet` crate, a page at a time; other columns stay on disk.

use std::fs::File;
use std::path::Path;

use parquet::basic::Type as PhysicalType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

/// Rows decoded at a time.
const ROWS: usize = 16;

/// Reads the rows of a file in order.
pub struct Rows {
    file: SerializedFileReader<File>,
    column: usize,
    is_optional: bool,
    next_group: usize,
    group: Option<ColumnReaderImpl<ByteArrayType>>,
    /// Decoded rows, the next one last; None for a row without a text.
    ready: Vec<Option<ByteArray>>,
}

impl Rows {
    /// Opens the file at `path`; says why it cannot, a missing column among the reasons.
    pub fn open(path: &Path, field: &str) -> Result<Self, String> {
        let failed = |error: ParquetError| error.to_string();
        let file = File::open(path).map_err(|error| error.to_string())?;
        let file = SerializedFileReader::new(file).map_err(failed)?;
        let schema = file.metadata().file_metadata().schema_descr();
        let columns = schema.columns();
        let Some(column) = columns.iter().position(|column| column.path().string() == field) else {
            let names: Vec<String> =
                columns.iter().map(|column| format!("`{}`", column.path().string())).collect();
            return Err(format!("expected a column `{field}`, found {}", names.join(", ")));
        };
        let described = &columns[column];
        let is_text = described.physical_type() == PhysicalType::BYTE_ARRAY;
        if !is_text || described.max_rep_level() > 0 || described.max_def_level() > 1 {
            let found = if is_text { "nested".to_owned() } else { described.physical_type().to_string() };
            return Err(format!("expected strings in column `{field}`, found {found}"));
        }
        let is_optional = described.max_def_level() == 1;
        Ok(Self { file, column, is_optional, next_group: 0, group: None, ready: Vec::new() })
    }

    /// The bytes of the next row, or None within for a row without a text.
    pub fn next_row(&mut self) -> Result<Option<Option<Vec<u8>>>, String> {
        loop {
            if let Some(row) = self.ready.pop() {
                return Ok(Some(row.map(|text| text.data().to_vec())));
            }
            match &mut self.group {
                Some(group) => {
                    self.ready = decode_rows(group, self.is_optional).map_err(|error| error.to_string())?;
                    if self.ready.is_empty() {
                        self.group = None;
                    }
                }
                None if self.next_group == self.file.num_row_groups() => return Ok(None),
                None => self.group = Some(self.open_group()?),
            }
        }
    }

    fn open_group(&mut self) -> Result<ColumnReaderImpl<ByteArrayType>, String> {
        let group = self.file.get_row_group(self.next_group).map_err(|error| error.to_string())?;
        self.next_group += 1;
        match group.get_column_reader(self.column).map_err(|error| error.to_string())? {
            ColumnReader::ByteArrayColumnReader(reader) => Ok(reader),
            _ => Err("a row group has another type of column than the file says".to_owned()),
        }
    }
}

/// The next rows, last one first; none at the end of the group.
fn decode_rows(
    group: &mut ColumnReaderImpl<ByteArrayType>,
    is_optional: bool,
) -> Result<Vec<Option<ByteArray>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let definitions = is_optional.then_some(&mut levels);
    let (rows, _, _) = group.read_records(ROWS, definitions, None, &mut values)?;
    if !is_optional {
        return Ok(values.into_iter().rev().map(Some).collect());
    }
    let mut values = values.into_iter();
    let mut ready: Vec<Option<ByteArray>> =
        levels.into_iter().take(rows).map(|level| if level == 1 { values.next() } else { None }).collect();
    ready.reverse();
    Ok(ready)
}
