//! Which tantivy field holds what: the text views, the built-in fields, the payload fields. It knows no documents.
//!
//! Payload names may hold any character, so payload field number `i` of the segment is the tantivy field `p{i}`; the
//! names are kept beside the index in [`SegmentMeta`].

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tantivy::schema::{
    Field, IndexRecordOption, NumericOptions, Schema, SchemaBuilder, TextFieldIndexing, TextOptions,
};

use super::TextField;
use super::analyzer::names;
use crate::error::{Error, Result};
use crate::payload::{BuiltIn, FieldRef};
use crate::schema::{CollectionSchema, FieldType, PayloadField};

/// Name of the metadata file within a bundle.
pub(super) const META_FILE: &str = "ragstone.json";

/// What a segment's keyword index says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version")]
pub(super) enum SegmentMeta {
    /// The first form.
    #[serde(rename = "1")]
    V1 {
        /// Rows, with and without text.
        rows: u32,
        /// Rows with a word.
        rows_with_text: u64,
        /// The payload fields, in the order of their tantivy fields.
        payload: Vec<PayloadField>,
    },
}

/// The tantivy fields of a segment.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) words: Field,
    pub(super) exact: Field,
    pub(super) id: Field,
    /// Names of the fields that have a value in the row.
    pub(super) present: Field,
    built_in: [Field; BuiltIn::ALL.len()],
    payload: HashMap<String, (Field, FieldType)>,
}

/// Field number of an id in the `present` field; built-in fields follow their own names, payload fields `p{i}`.
const ID: &str = "_id";
const PRESENT: &str = "_present";

impl Fields {
    /// The tantivy schema for these payload fields, and where everything is in it.
    pub(super) fn new(payload: &[PayloadField]) -> (Schema, Self) {
        let mut builder = Schema::builder();
        let words = builder.add_text_field("words", scored(names::WORDS));
        let exact = builder.add_text_field("exact", scored(names::EXACT));
        let id = builder.add_text_field(ID, unscored(names::RAW));
        let present = builder.add_text_field(PRESENT, unscored(names::RAW));
        let built_in = BuiltIn::ALL.map(|field| add(&mut builder, field.name(), field.field_type()));
        let payload = payload
            .iter()
            .enumerate()
            .map(|(i, field)| {
                let added = add(&mut builder, &format!("p{i}"), field.field_type);
                (field.name.clone(), (added, field.field_type))
            })
            .collect();
        (builder.build(), Self { words, exact, id, present, built_in, payload })
    }

    pub(super) fn text(&self, field: TextField) -> Field {
        match field {
            TextField::Words => self.words,
            TextField::Exact => self.exact,
        }
    }

    pub(super) fn built_in(&self, field: BuiltIn) -> Option<Field> {
        let at = BuiltIn::ALL.iter().position(|one| *one == field)?;
        self.built_in.get(at).copied()
    }

    /// A payload field; `None` when it joined the schema after this segment was sealed.
    pub(super) fn payload(&self, name: &str) -> Option<(Field, FieldType)> {
        self.payload.get(name).copied()
    }

    /// The field of a filter, under the same condition. A field never changes its type.
    pub(super) fn of(&self, field: &FieldRef) -> Result<Option<Field>> {
        match field {
            FieldRef::BuiltIn(field) => Ok(self.built_in(*field)),
            FieldRef::Payload { name, field_type } => match self.payload(name) {
                None => Ok(None),
                Some((found, sealed)) if sealed == *field_type => Ok(Some(found)),
                Some((_, sealed)) => Err(Error::Internal(format!(
                    "payload field {name:?} was sealed as {sealed:?} and is asked for as {field_type:?}"
                ))),
            },
        }
    }

    /// Checks that no field of the current schema has another type here.
    pub(super) fn check_against(&self, schema: &CollectionSchema) -> std::result::Result<(), String> {
        for field in &schema.payload {
            if let Some((_, sealed)) = self.payload(&field.name)
                && sealed != field.field_type
            {
                return Err(format!(
                    "payload field {:?} is {sealed:?} here and {:?} in the schema",
                    field.name, field.field_type
                ));
            }
        }
        Ok(())
    }
}

fn add(builder: &mut SchemaBuilder, name: &str, field_type: FieldType) -> Field {
    let column = NumericOptions::default().set_fast();
    match field_type {
        FieldType::Keyword => builder.add_text_field(name, unscored(names::RAW)),
        FieldType::Text => builder.add_text_field(name, unscored(names::SIMPLE)),
        FieldType::Integer | FieldType::Datetime => builder.add_i64_field(name, column),
        FieldType::Float => builder.add_f64_field(name, column),
        FieldType::Bool => builder.add_bool_field(name, column),
    }
}

fn scored(tokenizer: &str) -> TextOptions {
    TextOptions::default().set_indexing_options(
        TextFieldIndexing::default()
            .set_tokenizer(tokenizer)
            .set_index_option(IndexRecordOption::WithFreqs)
            .set_fieldnorms(true),
    )
}

fn unscored(tokenizer: &str) -> TextOptions {
    TextOptions::default().set_indexing_options(
        TextFieldIndexing::default()
            .set_tokenizer(tokenizer)
            .set_index_option(IndexRecordOption::Basic)
            .set_fieldnorms(false),
    )
}
