//! Reads a JSON Lines file from any line on. Each line is a row of its own: a bad one is skipped, however bad it is.

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, NullBufferBuilder, StringArray};
use serde_json::{Map, Value};

use super::checkpoint::Position;
use super::columns::{
    ColumnMapping, DOCUMENT_ID_NAMES, EXPIRES_AT, ID_NAMES, TEXT_NAMES, TITLE_NAMES, VECTOR_NAMES,
};
use super::ids::MadeIds;
use super::input::{Input, unreadable};
use super::plan::{FileError, Plan, Stop};
use super::rows::{Rows, defect, vector_item};
use super::{EMBEDDED_BATCH_ROWS, MAX_LINE_BYTES, MAX_WRITE_BYTES, RowError};
use crate::error::Result;

/// Reads a file from `start` on. `emit` takes each batch in order.
pub(super) fn read(
    plan: &Plan,
    start: Position,
    emit: &mut dyn FnMut(Rows) -> Result<(), Stop>,
) -> Result<(), FileError> {
    let file = plan.files.get(start.file).ok_or(FileError::Stopped(Stop))?;
    let input = Input::open(file)?.read_from(start.byte)?;
    let mut lines = Lines { input: BufReader::with_capacity(1 << 18, input), line: Vec::new() };
    let path: Arc<str> = file.path.display().to_string().into();
    let made_ids = MadeIds::new(&file.path);
    let embeds = plan.target.spaces.iter().any(|space| space.embedder.is_some());
    let mut batch = Batch::new(plan, Arc::clone(&path), start);
    let mut at = start;
    loop {
        let read = lines.next_line().map_err(|error| unreadable(&error))?;
        let Some(taken) = read else { break };
        at.row += 1;
        at.byte += taken.bytes;
        if taken.too_long {
            batch.bad(at.row, "", format!("the line has more than {MAX_LINE_BYTES} bytes"));
        } else {
            batch.add(at.row, &lines.line, &made_ids);
        }
        batch.after = at;
        let most = if embeds && batch.lacks_vectors { EMBEDDED_BATCH_ROWS } else { plan.batch_rows };
        if batch.read >= most as u64 || batch.bytes >= MAX_WRITE_BYTES {
            let full = std::mem::replace(&mut batch, Batch::new(plan, Arc::clone(&path), at));
            emit(full.finish()?).map_err(FileError::Stopped)?;
        }
    }
    if batch.read > 0 {
        emit(batch.finish()?).map_err(FileError::Stopped)?;
    }
    Ok(())
}

/// Lines of a file, none longer in memory than allowed.
struct Lines<R> {
    input: R,
    line: Vec<u8>,
}

/// What was taken from the file for a line.
struct Taken {
    bytes: u64,
    too_long: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads the next line into `line`, without its end. `None` at the end of the file.
    fn next_line(&mut self) -> std::io::Result<Option<Taken>> {
        self.line.clear();
        let mut taken = Taken { bytes: 0, too_long: false };
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok((taken.bytes > 0).then_some(taken));
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
            if self.line.len() + part.len() > MAX_LINE_BYTES {
                taken.too_long = true;
                self.line.clear();
            }
            if !taken.too_long {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            taken.bytes += used as u64;
            if end.is_some() {
                return Ok(Some(taken));
            }
        }
    }
}

/// Rows that are collected for one write.
struct Batch<'a> {
    plan: &'a Plan,
    path: Arc<str>,
    numbers: Vec<u64>,
    ids: Vec<String>,
    document_ids: Vec<Option<String>>,
    texts: Vec<Option<String>>,
    titles: Vec<Option<String>>,
    payloads: Vec<Option<String>>,
    vectors: Vec<VectorColumn>,
    expiries: Vec<Option<i64>>,
    errors: Vec<RowError>,
    read: u64,
    bytes: usize,
    lacks_vectors: bool,
    after: Position,
}

struct VectorColumn {
    values: Vec<f32>,
    valid: Vec<bool>,
}

/// What a line holds.
struct Row {
    id: String,
    document_id: Option<String>,
    text: Option<String>,
    title: Option<String>,
    payload: Option<String>,
    vectors: Vec<Option<Vec<f32>>>,
    expires_at: Option<i64>,
}

/// Column and message.
type Fault = (String, String);

impl<'a> Batch<'a> {
    fn new(plan: &'a Plan, path: Arc<str>, after: Position) -> Self {
        let vectors = plan
            .target
            .spaces
            .iter()
            .map(|_| VectorColumn { values: Vec::new(), valid: Vec::new() })
            .collect();
        Self {
            plan,
            path,
            numbers: Vec::new(),
            ids: Vec::new(),
            document_ids: Vec::new(),
            texts: Vec::new(),
            titles: Vec::new(),
            payloads: Vec::new(),
            vectors,
            expiries: Vec::new(),
            errors: Vec::new(),
            read: 0,
            bytes: 0,
            lacks_vectors: false,
            after,
        }
    }

    fn bad(&mut self, line: u64, column: &str, message: String) {
        self.read += 1;
        let (path, column) = (self.path.to_string(), column.to_owned());
        self.errors.push(RowError { path, row_group: None, row: line, column, message });
    }

    fn add(&mut self, number: u64, line: &[u8], made_ids: &MadeIds) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match parse(line).and_then(|object| self.row(object, number, made_ids)) {
            Err((column, message)) => self.bad(number, &column, message),
            Ok(row) => {
                self.read += 1;
                self.bytes += line.len() + self.plan.vector_bytes();
                self.numbers.push(number);
                self.ids.push(row.id);
                self.document_ids.push(row.document_id);
                self.lacks_vectors |= row.text.is_some() && row.vectors.iter().any(Option::is_none);
                self.texts.push(row.text);
                self.titles.push(row.title);
                self.payloads.push(row.payload);
                self.expiries.push(row.expires_at);
                let spaces = self.plan.target.spaces.iter();
                for ((column, vector), space) in self.vectors.iter_mut().zip(row.vectors).zip(spaces) {
                    column.valid.push(vector.is_some());
                    let vector = vector.unwrap_or_else(|| vec![0.0; space.dimension as usize]);
                    column.values.extend(vector);
                }
            }
        }
    }

    fn row(&self, mut object: Map<String, Value>, number: u64, made_ids: &MadeIds) -> Result<Row, Fault> {
        let mapping = &self.plan.mapping;
        // With an explicit list, a column can be payload beside its other role.
        let listed = listed_payload(mapping, &object);
        let id = take(&mut object, mapping.id.as_deref(), &ID_NAMES, |value| {
            value.is_string() || value.is_number()
        });
        let id = match id {
            Some((column, value)) => match key(&value) {
                Some(id) if !id.is_empty() => id,
                _ => return Err((column, format!("{} is no id", short(&value)))),
            },
            None => match &mapping.id {
                Some(column) => return Err((column.clone(), "there is no id".to_owned())),
                None => made_ids.id(number),
            },
        };
        let document_id = take(&mut object, mapping.document_id.as_deref(), &DOCUMENT_ID_NAMES, |value| {
            value.is_string() || value.is_number()
        });
        let text = take_text(&mut object, mapping.text.as_deref(), &TEXT_NAMES)?;
        let title = take_text(&mut object, mapping.title.as_deref(), &TITLE_NAMES)?;
        let mut vectors = Vec::with_capacity(self.plan.target.spaces.len());
        for (at, space) in self.plan.target.spaces.iter().enumerate() {
            let mut tried = vec![space.name.as_str()];
            if at == 0 {
                tried.extend(VECTOR_NAMES);
            }
            let named = mapping.vectors.get(&space.name).map(String::as_str);
            let found = take(&mut object, named, &tried, Value::is_array);
            vectors.push(
                found.map(|(column, value)| vector(column, &value, space.dimension)).transpose()?.flatten(),
            );
        }
        let expires_at = match &mapping.expires_at {
            Some(column) => object
                .remove(column)
                .filter(|value| !value.is_null())
                .map(|value| time(column, &value))
                .transpose()?,
            None => None,
        };
        let payload = if mapping.payload.is_empty() { rest(object) } else { listed };
        Ok(Row {
            id,
            document_id: document_id.and_then(|(_, value)| key(&value)),
            text,
            title,
            payload: (!payload.is_empty()).then(|| Value::Object(payload).to_string()),
            vectors,
            expires_at,
        })
    }

    fn finish(self) -> Result<Rows> {
        let optional = |column: Vec<Option<String>>| {
            column.iter().any(Option::is_some).then(|| StringArray::from(column))
        };
        let expire = self.expiries.iter().any(Option::is_some);
        let expiries =
            expire.then(|| (EXPIRES_AT.to_owned(), Arc::new(Int64Array::from(self.expiries)) as ArrayRef));
        let mut vectors = Vec::with_capacity(self.vectors.len());
        for (column, space) in self.vectors.into_iter().zip(&self.plan.target.spaces) {
            vectors.push(column.finish(space.dimension)?);
        }
        Ok(Rows {
            path: self.path,
            row_group: None,
            numbers: self.numbers,
            ids: StringArray::from(self.ids),
            document_ids: optional(self.document_ids),
            texts: optional(self.texts),
            titles: optional(self.titles),
            payloads: optional(self.payloads),
            vectors,
            carried: expiries.into_iter().collect(),
            read: self.read,
            errors: self.errors,
            after: self.after,
        })
    }
}

impl VectorColumn {
    fn finish(self, dimension: u32) -> Result<Option<FixedSizeListArray>> {
        if !self.valid.contains(&true) {
            return Ok(None);
        }
        let mut nulls = NullBufferBuilder::new(self.valid.len());
        self.valid.iter().for_each(|&valid| nulls.append(valid));
        let values = Arc::new(Float32Array::from(self.values));
        FixedSizeListArray::try_new(vector_item(), dimension as i32, values, nulls.finish())
            .map(Some)
            .map_err(|error| defect(&error))
    }
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err((String::new(), format!("expected a JSON object, found {}", short(&other)))),
        Err(error) => Err((String::new(), format!("not JSON: {error}"))),
    }
}

/// Takes the first member that fits out of the object; a named one in any case, unless it is null.
fn take(
    object: &mut Map<String, Value>,
    named: Option<&str>,
    tried: &[&str],
    fits: impl Fn(&Value) -> bool,
) -> Option<(String, Value)> {
    let name = match named {
        Some(name) => name,
        None => tried.iter().copied().find(|name| object.get(*name).is_some_and(&fits))?,
    };
    let value = object.remove(name)?;
    (!value.is_null()).then(|| (name.to_owned(), value))
}

fn take_text(
    object: &mut Map<String, Value>,
    named: Option<&str>,
    tried: &[&str],
) -> Result<Option<String>, Fault> {
    match take(object, named, tried, Value::is_string) {
        None => Ok(None),
        Some((_, Value::String(text))) => Ok(Some(text)),
        Some((column, other)) => Err((column, format!("expected a string, found {}", short(&other)))),
    }
}

fn vector(column: String, value: &Value, dimension: u32) -> Result<Option<Vec<f32>>, Fault> {
    let Value::Array(components) = value else {
        return Err((column, format!("expected a list of numbers, found {}", short(value))));
    };
    if components.len() != dimension as usize {
        return Err((column, format!("has {} components, expected {dimension}", components.len())));
    }
    let mut vector = Vec::with_capacity(components.len());
    for (at, component) in components.iter().enumerate() {
        match component.as_f64() {
            Some(number) => vector.push(number as f32),
            None => {
                return Err((column, format!("component {at} is {}, expected a number", short(component))));
            }
        }
    }
    Ok(Some(vector))
}

/// Milliseconds since 1970, or RFC 3339.
fn time(column: &str, value: &Value) -> Result<i64, Fault> {
    let time = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
        }
        _ => None,
    };
    time.ok_or_else(|| (column.to_owned(), format!("{} is no point in time", short(value))))
}

fn listed_payload(mapping: &ColumnMapping, object: &Map<String, Value>) -> Map<String, Value> {
    let listed = mapping.payload.iter().filter_map(|name| Some((name.clone(), object.get(name)?.clone())));
    listed.filter(|(_, value)| !value.is_null()).collect()
}

/// What becomes payload without a list: not nulls, and not names that the engine keeps for itself.
fn rest(mut object: Map<String, Value>) -> Map<String, Value> {
    object.retain(|name, value| !value.is_null() && !name.starts_with('_') && !name.is_empty());
    object
}

/// Strings and integers can be ids.
fn key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// A value as an error shows it.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
