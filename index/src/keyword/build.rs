//! The keyword index of a segment, built row by row in memory and packed into one blob. It knows no file and no WAL.
//!
//! **Invariant:** the tantivy document of row r has DocId r: one writer, one segment, no merge.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tantivy::directory::{OwnedBytes, RamDirectory};
use tantivy::index::SegmentComponent;
use tantivy::{Directory, Index, IndexSettings, SingleSegmentIndexWriter, TantivyDocument};

use super::fields::{Fields, META_FILE, SegmentMeta};
use super::segment::internal;
use super::{IndexedText, analyzer, bundle};
use crate::error::{Error, Result};
use crate::payload::{BuiltIn, RowOrigin, TypedRow, TypedValue};
use crate::schema::{CollectionSchema, PayloadField};

/// What tantivy may expect to use; it sizes its term table by this and grows beyond it.
const MEMORY_BUDGET_BYTES: usize = 64 << 20;

/// The files of a tantivy segment without deletes.
const COMPONENTS: [SegmentComponent; 6] = [
    SegmentComponent::Postings,
    SegmentComponent::Positions,
    SegmentComponent::FastFields,
    SegmentComponent::FieldNorms,
    SegmentComponent::Terms,
    SegmentComponent::Store,
];

/// Builds the keyword index of a segment.
pub struct KeywordBuilder {
    writer: SingleSegmentIndexWriter,
    directory: RamDirectory,
    fields: Fields,
    payload: Vec<PayloadField>,
    rows: u32,
    rows_with_text: u64,
}

impl KeywordBuilder {
    /// For rows whose payload fields are all in `schema`.
    pub fn new(schema: &CollectionSchema) -> Result<Self> {
        let (tantivy_schema, fields) = Fields::new(&schema.payload);
        let directory = RamDirectory::create();
        let settings =
            IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let writer = Index::builder()
            .schema(tantivy_schema)
            .settings(settings)
            .tokenizers(analyzer::manager())
            .single_segment_index_writer(directory.clone(), MEMORY_BUDGET_BYTES)
            .map_err(|error| internal("create", &error))?;
        Ok(Self { writer, directory, fields, payload: schema.payload.clone(), rows: 0, rows_with_text: 0 })
    }

    /// Adds the next row.
    pub fn add_row(
        &mut self,
        id: &str,
        typed: &TypedRow,
        origin: &RowOrigin<'_>,
        text: &IndexedText<'_>,
    ) -> Result<()> {
        let mut document = TantivyDocument::default();
        document.add_text(self.fields.id, id);
        for part in text.parts() {
            document.add_text(self.fields.words, part);
            document.add_text(self.fields.exact, part);
        }
        self.add_payload(&mut document, typed)?;
        self.add_origin(&mut document, origin);
        self.rows_with_text += u64::from(text.has_word());
        self.rows += 1;
        self.writer.add_document(document).map_err(|error| internal("add a row", &error))
    }

    /// Memory held, in bytes, estimated.
    pub fn memory_bytes(&self) -> usize {
        self.writer.mem_usage() + self.directory.total_mem_usage()
    }

    fn add_payload(&self, document: &mut TantivyDocument, typed: &TypedRow) -> Result<()> {
        let mut last = None;
        for (name, value) in typed.iter() {
            let Some((field, _)) = self.fields.payload(name) else {
                return Err(Error::Internal(format!(
                    "payload field {name:?} is not in the schema of the segment"
                )));
            };
            if last.replace(field) != Some(field) {
                document.add_text(self.fields.present, format!("f{}", field.field_id()));
            }
            match value {
                TypedValue::Keyword(text) | TypedValue::Text(text) => document.add_text(field, text),
                TypedValue::Integer(number) | TypedValue::Datetime(number) => {
                    document.add_i64(field, *number)
                }
                TypedValue::Float(number) => document.add_f64(field, *number),
                TypedValue::Bool(flag) => document.add_bool(field, *flag),
            }
        }
        Ok(())
    }

    fn add_origin(&self, document: &mut TantivyDocument, origin: &RowOrigin<'_>) {
        for built_in in BuiltIn::ALL {
            let Some(field) = self.fields.built_in(built_in) else { continue };
            if let Some(text) = origin.keyword(built_in) {
                document.add_text(field, text);
            } else if let Some(number) = origin.integer(built_in) {
                document.add_i64(field, number);
            } else {
                continue;
            }
            document.add_text(self.fields.present, format!("f{}", field.field_id()));
        }
    }

    /// Ends the index and packs it.
    pub fn finish(self) -> Result<Vec<u8>> {
        let Self { writer, directory, payload, rows, rows_with_text, .. } = self;
        let index = writer.finalize().map_err(|error| internal("finish", &error))?;
        let metas = index.searchable_segment_metas().map_err(|error| internal("finish", &error))?;
        let [segment] = metas.as_slice() else {
            return Err(Error::Internal(format!(
                "the keyword index has {} segments instead of 1",
                metas.len()
            )));
        };
        if segment.max_doc() != rows {
            return Err(Error::Internal(format!(
                "{} of {rows} rows are in the keyword index",
                segment.max_doc()
            )));
        }
        let mut files = BTreeMap::new();
        let components = COMPONENTS.map(|component| segment.relative_path(component));
        for path in components.into_iter().chain([PathBuf::from("meta.json")]) {
            let here = directory.exists(&path).map_err(|error| internal("finish", &error))?;
            // No file of positions is written when no field has positions.
            if let (true, Some(name)) = (here, path.to_str()) {
                let file = directory.open_read(&path).map_err(|error| internal("finish", &error))?;
                let bytes = file.read_bytes().map_err(|error| internal("finish", &error))?;
                files.insert(name.to_owned(), bytes);
            }
        }
        let meta = SegmentMeta::V1 { rows, rows_with_text, payload };
        let meta = serde_json::to_vec(&meta).map_err(|error| internal("finish", &error))?;
        files.insert(META_FILE.to_owned(), OwnedBytes::new(meta));
        bundle::pack(&files)
    }
}
