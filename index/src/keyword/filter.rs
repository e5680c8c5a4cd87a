//! A checked filter as a bitmap of a sealed segment's rows, straight from term dictionary, postings and columns. The
//! meaning of a filter is defined by [`crate::payload::CheckedFilter::matches`]; this answers the same for every row.
//!
//! A field that joined the schema after the segment was sealed has no value in any of its rows.

use std::collections::HashSet;
use std::hash::Hash;

use roaring::RoaringBitmap;
use tantivy::columnar::{Column, DynamicColumn, HasAssociatedColumnType};
use tantivy::fastfield::FastValue;
use tantivy::index::InvertedIndexReader;
use tantivy::postings::TermInfo;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{TantivyError, Term};

use super::segment::{SegmentKeywords, internal};
use crate::error::Result;
use crate::payload::{CheckedFilter, FieldRef, Group, Node, Test};

/// Up to this many numbers are each looked for with a scan of the column that compares packed values; more are looked up
/// in a set, value by value.
const MAX_SCANS: usize = 4;

impl SegmentKeywords {
    /// The rows that pass, deleted ones included.
    pub fn filter(&self, filter: &CheckedFilter) -> Result<RoaringBitmap> {
        let passed = self.filters().get_or(filter, || self.group(&filter.root))?;
        Ok(RoaringBitmap::clone(&passed))
    }

    fn all(&self) -> RoaringBitmap {
        let mut rows = RoaringBitmap::new();
        rows.insert_range(0..self.reader().max_doc());
        rows
    }

    fn group(&self, group: &Group) -> Result<RoaringBitmap> {
        let mut rows: Option<RoaringBitmap> = None;
        for node in &group.must {
            let passed = self.node(node)?;
            match &mut rows {
                None => rows = Some(passed),
                Some(rows) => *rows &= passed,
            }
            if rows.as_ref().is_some_and(RoaringBitmap::is_empty) {
                return Ok(RoaringBitmap::new());
            }
        }
        if !group.should.is_empty() {
            let mut any = RoaringBitmap::new();
            for node in &group.should {
                any |= self.node(node)?;
            }
            match &mut rows {
                None => rows = Some(any),
                Some(rows) => *rows &= any,
            }
        }
        let mut rows = rows.unwrap_or_else(|| self.all());
        for node in &group.must_not {
            if rows.is_empty() {
                break;
            }
            rows -= self.node(node)?;
        }
        Ok(rows)
    }

    fn node(&self, node: &Node) -> Result<RoaringBitmap> {
        match node {
            Node::Group(group) => self.group(group),
            Node::HasId(ids) => Ok(self.terms(self.fields().id, ids)?),
            Node::Field { field, test } => self.field(field, test),
        }
    }

    fn field(&self, field: &FieldRef, test: &Test) -> Result<RoaringBitmap> {
        let Some(found) = self.fields().of(field)? else {
            return Ok(if *test == Test::Exists(false) { self.all() } else { RoaringBitmap::new() });
        };
        match test {
            Test::Exists(wanted) => {
                let present = self.terms(self.fields().present, &[format!("f{}", found.field_id())])?;
                Ok(if *wanted { present } else { self.all() - present })
            }
            Test::KeywordIn(values) => self.terms(found, values),
            Test::Prefix(prefix) => self.prefix(found, prefix),
            Test::Words(words) => self.words(found, words),
            Test::IntegerIn(values) => self.numbers(found, values, |value| value),
            Test::FloatIn(values) => self.numbers(found, values, f64::to_bits),
            Test::IntegerRange { min, max } => self.range(found, *min, *max),
            Test::FloatRange { min, max } => self.range(found, *min, *max),
            Test::BoolIn { yes, no } => {
                let mut rows = RoaringBitmap::new();
                for (flag, wanted) in [(true, yes), (false, no)] {
                    if *wanted {
                        rows |= self.range(found, flag, flag)?;
                    }
                }
                Ok(rows)
            }
        }
    }

    /// Rows with one of these terms.
    fn terms(&self, field: Field, values: &[String]) -> Result<RoaringBitmap> {
        let index = self.inverted(field)?;
        let mut rows = RoaringBitmap::new();
        for value in values {
            add_term(&index, field, value, &mut rows)?;
        }
        Ok(rows)
    }

    /// Rows with all of these terms.
    fn words(&self, field: Field, words: &[String]) -> Result<RoaringBitmap> {
        let index = self.inverted(field)?;
        let mut rows: Option<RoaringBitmap> = None;
        for word in words {
            let mut with_word = RoaringBitmap::new();
            add_term(&index, field, word, &mut with_word)?;
            if let Some(rows) = &rows {
                with_word &= rows;
            }
            if with_word.is_empty() {
                return Ok(with_word);
            }
            rows = Some(with_word);
        }
        Ok(rows.unwrap_or_default())
    }

    fn prefix(&self, field: Field, prefix: &str) -> Result<RoaringBitmap> {
        let index = self.inverted(field)?;
        let mut stream = index.terms().range().ge(prefix).into_stream().map_err(failed)?;
        let mut rows = RoaringBitmap::new();
        while let Some((term, info)) = stream.next() {
            if !term.starts_with(prefix.as_bytes()) {
                break;
            }
            add_postings(&index, info, &mut rows)?;
        }
        Ok(rows)
    }

    /// Rows with a value within inclusive bounds.
    fn range<T>(&self, field: Field, min: T, max: T) -> Result<RoaringBitmap>
    where
        T: FastValue + HasAssociatedColumnType,
        DynamicColumn: Into<Option<Column<T>>>,
    {
        let mut rows = RoaringBitmap::new();
        if let Some(column) = self.column(field)? {
            self.scan(&column, min, max, &mut rows);
        }
        Ok(rows)
    }

    /// Rows with one of these values; `key` makes a value hashable.
    fn numbers<T, K>(&self, field: Field, values: &[T], key: impl Fn(T) -> K) -> Result<RoaringBitmap>
    where
        T: FastValue + HasAssociatedColumnType,
        DynamicColumn: Into<Option<Column<T>>>,
        K: Eq + Hash,
    {
        let mut rows = RoaringBitmap::new();
        let Some(column) = self.column(field)? else { return Ok(rows) };
        if values.len() <= MAX_SCANS {
            for value in values {
                self.scan(&column, *value, *value, &mut rows);
            }
            return Ok(rows);
        }
        let wanted: HashSet<K> = values.iter().map(|value| key(*value)).collect();
        for row in 0..self.reader().max_doc() {
            if column.values_for_doc(row).any(|value| wanted.contains(&key(value))) {
                rows.insert(row);
            }
        }
        Ok(rows)
    }

    fn scan<T: FastValue>(&self, column: &Column<T>, min: T, max: T, rows: &mut RoaringBitmap) {
        // Bounds outside of what the column holds are clamped here: tantivy takes a range that ends below the smallest
        // value for the smallest value.
        let min = if min < column.min_value() { column.min_value() } else { min };
        let max = if max > column.max_value() { column.max_value() } else { max };
        let mut found = Vec::new();
        if min <= max {
            column.get_docids_for_value_range(min..=max, 0..self.reader().max_doc(), &mut found);
        }
        rows.extend(found);
    }

    /// The column of a numeric field; `None` when no row has a value.
    fn column<T>(&self, field: Field) -> Result<Option<Column<T>>>
    where
        T: FastValue + HasAssociatedColumnType,
        DynamicColumn: Into<Option<Column<T>>>,
    {
        let name = self.reader().schema().get_field_name(field);
        self.reader().fast_fields().column_opt(name).map_err(failed)
    }

    fn inverted(&self, field: Field) -> Result<std::sync::Arc<InvertedIndexReader>> {
        self.reader().inverted_index(field).map_err(failed)
    }
}

fn failed(error: impl Into<TantivyError>) -> crate::Error {
    internal("filter", &error.into())
}

fn add_term(index: &InvertedIndexReader, field: Field, text: &str, rows: &mut RoaringBitmap) -> Result<()> {
    match index.get_term_info(&Term::from_field_text(field, text)).map_err(failed)? {
        Some(info) => add_postings(index, &info, rows),
        None => Ok(()),
    }
}

fn add_postings(index: &InvertedIndexReader, info: &TermInfo, rows: &mut RoaringBitmap) -> Result<()> {
    let mut blocks =
        index.read_block_postings_from_terminfo(info, IndexRecordOption::Basic).map_err(failed)?;
    loop {
        let docs = blocks.docs();
        if docs.is_empty() {
            return Ok(());
        }
        rows.extend(docs.iter().copied());
        blocks.advance();
    }
}
