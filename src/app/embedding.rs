//! Embedders as the application uses them: which one fills a space, whether it is still the one that filled it, the
//! vectors of queries, and the vectors that rows lack.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, FixedSizeListArray, Float32Array, RecordBatch, StringArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use ragstone_index::batch;
use ragstone_index::schema::{CollectionSchema, EmbedderRef, VectorSpace};
use ragstone_ingest::chunk::embedding_text;
use ragstone_ingest::embed::EmbedderInfo;
use ragstone_ingest::embed::registry::{EmbedderRegistry, EmbedderStatus};
use ragstone_ingest::embed::service::{EmbedService, EmbedStats, Priority};

use super::error::{Error, Result};

/// The embedders of the server.
#[derive(Clone)]
pub struct Embedding {
    service: Arc<EmbedService>,
}

impl std::fmt::Debug for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedding").finish_non_exhaustive()
    }
}

impl Embedding {
    /// Over a service.
    pub fn new(service: Arc<EmbedService>) -> Self {
        Self { service }
    }

    /// The service, for the pipeline and imports.
    pub fn service(&self) -> &Arc<EmbedService> {
        &self.service
    }

    fn registry(&self) -> &EmbedderRegistry {
        self.service.registry()
    }

    /// The embedder of a collection that is made without a schema.
    pub fn default_name(&self) -> &str {
        self.registry().default_name()
    }

    /// All configured embedders.
    pub fn list(&self) -> Vec<EmbedderStatus> {
        self.registry().list()
    }

    /// What was embedded, and what did not have to be.
    pub fn stats(&self) -> EmbedStats {
        self.service.stats()
    }

    /// What is known of an embedder.
    pub async fn info(&self, name: &str) -> Result<EmbedderInfo> {
        Ok(self.service.info(name).await?)
    }

    /// Loads the embedders that schemas name, so that the first query does not wait for them.
    pub async fn warm_up(&self, schemas: &[Arc<CollectionSchema>]) {
        let spaces = schemas.iter().flat_map(|schema| &schema.vectors);
        for embedder in spaces.filter_map(|space| space.embedder.as_ref()) {
            if let Err(error) = self.service.warm_up(&embedder.name).await {
                tracing::warn!(embedder = embedder.name, %error, "an embedder can't be used");
            }
        }
    }

    /// The vector of a query's text in a space.
    pub async fn query(&self, space: &VectorSpace, text: String) -> Result<Vec<f32>> {
        let embedder = self.checked(space).await?;
        Ok(self.service.embed_query(&embedder.name, text).await?)
    }

    /// The embedder of a space, if it is the one that filled it: vectors of two models can't be compared.
    async fn checked<'a>(&self, space: &'a VectorSpace) -> Result<&'a EmbedderRef> {
        let Some(embedder) = &space.embedder else {
            let message = format!("the vector space \"{}\" has no embedder: give a vector", space.name);
            return Err(Error::invalid("vector", message));
        };
        let present = self.info(&embedder.name).await?.fingerprint;
        if present != embedder.fingerprint {
            return Err(ragstone_index::Error::FailedPrecondition(format!(
                "the vector space \"{}\" was filled by embedder \"{}\" with fingerprint {}; the server's embedder of \
                 that name has {present}: configure the same one, or make a new collection",
                space.name, embedder.name, embedder.fingerprint
            ))
            .into());
        }
        Ok(embedder)
    }

    /// Gives rows that have a text, but no vector in a space with an embedder, that vector.
    pub async fn fill(&self, schema: &CollectionSchema, mut rows: RecordBatch) -> Result<RecordBatch> {
        for space in schema.vectors.iter().filter(|space| space.embedder.is_some()) {
            let wanting = Wanting::of(&rows, space);
            if wanting.rows.is_empty() {
                continue;
            }
            check_vector_bytes(rows.num_rows(), space.dimension)?;
            let embedder = self.checked(space).await?;
            let vectors = self.service.embed(&embedder.name, wanting.texts, Priority::Document).await?;
            rows = with_vectors(&rows, space, &wanting.rows, &vectors)?;
        }
        Ok(rows)
    }
}

/// Rows that lack a vector, and the texts to make it from.
struct Wanting {
    rows: Vec<usize>,
    texts: Vec<String>,
}

impl Wanting {
    fn of(rows: &RecordBatch, space: &VectorSpace) -> Self {
        let mut wanting = Self { rows: Vec::new(), texts: Vec::new() };
        let Some(texts) = strings(rows, batch::TEXT) else {
            return wanting;
        };
        let titles = strings(rows, batch::TITLE);
        let headings =
            rows.column_by_name(batch::HEADING_PATH).and_then(|column| column.as_list_opt::<i32>());
        let vectors = rows.column_by_name(&batch::vector_column(&space.name));
        for row in 0..rows.num_rows() {
            let has_vector = vectors.is_some_and(|column| column.is_valid(row));
            if has_vector || texts.is_null(row) || texts.value(row).trim().is_empty() {
                continue;
            }
            let title = titles.filter(|titles| titles.is_valid(row)).map_or("", |titles| titles.value(row));
            let path: Vec<String> = headings
                .filter(|headings| headings.is_valid(row))
                .map(|headings| headings.value(row))
                .and_then(|path| {
                    Some(path.as_string_opt::<i32>()?.iter().flatten().map(str::to_owned).collect())
                })
                .unwrap_or_default();
            wanting.rows.push(row);
            wanting.texts.push(embedding_text(title, &path, texts.value(row)));
        }
        wanting
    }
}

fn strings<'a>(rows: &'a RecordBatch, column: &str) -> Option<&'a StringArray> {
    rows.column_by_name(column)?.as_string_opt::<i32>()
}

/// Refuses a vector column of more bytes than a write may have, before any of it is allocated: one vector among many rows
/// of a wide space could ask for gigabytes.
pub fn check_vector_bytes(rows: usize, dimension: u32) -> Result<()> {
    let bytes = rows.saturating_mul(dimension as usize).saturating_mul(size_of::<f32>());
    if bytes > batch::MAX_BATCH_BYTES {
        return Err(ragstone_index::Error::LimitExceeded {
            what: "bytes of the vectors of one write",
            value: bytes as u64,
            limit: batch::MAX_BATCH_BYTES as u64,
        }
        .into());
    }
    Ok(())
}

/// The same rows with new vectors in a space; those that were there stay.
fn with_vectors(
    rows: &RecordBatch,
    space: &VectorSpace,
    at: &[usize],
    vectors: &[Vec<f32>],
) -> Result<RecordBatch> {
    let defect = |what: String| Error::from(ragstone_index::Error::Internal(what));
    let width = space.dimension as usize;
    let name = batch::vector_column(&space.name);
    let mut values = vec![0.0_f32; rows.num_rows() * width];
    let mut valid = vec![false; rows.num_rows()];
    if let Some(column) = rows.column_by_name(&name) {
        let old = column
            .as_fixed_size_list_opt()
            .filter(|list| list.value_length() as usize == width)
            .and_then(|list| Some((list, list.values().as_primitive_opt::<Float32Type>()?)));
        let (list, items) = old.ok_or_else(|| {
            Error::invalid(&name, format!("expected {}", batch::vector_type(space.dimension)))
        })?;
        for row in (0..rows.num_rows()).filter(|row| list.is_valid(*row)) {
            let start = list.value_offset_at(row);
            let from = items.values().get(start..start + width);
            if let (Some(from), Some(to)) = (from, values.get_mut(row * width..(row + 1) * width)) {
                to.copy_from_slice(from);
            }
            if let Some(valid) = valid.get_mut(row) {
                *valid = true;
            }
        }
    }
    for (row, vector) in at.iter().zip(vectors) {
        let place = values.get_mut(row * width..(row + 1) * width);
        let (Some(place), true) = (place, vector.len() == width) else {
            return Err(defect(format!("an embedder made {} components, not {width}", vector.len())));
        };
        place.copy_from_slice(vector);
        if let Some(valid) = valid.get_mut(*row) {
            *valid = true;
        }
    }
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let nulls = NullBuffer::new(BooleanBuffer::from(valid));
    let column = FixedSizeListArray::try_new(
        item,
        space.dimension as i32,
        Arc::new(Float32Array::from(values)),
        Some(nulls),
    )
    .map_err(|error| defect(error.to_string()))?;
    put_column(rows, &name, Arc::new(column)).map_err(|error| defect(error.to_string()))
}

/// The same rows with a column put in, or in place of the one of that name.
pub fn put_column(
    rows: &RecordBatch,
    name: &str,
    column: ArrayRef,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let schema = rows.schema();
    let field = Arc::new(Field::new(name, column.data_type().clone(), name != batch::ID));
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    match (schema.index_of(name).ok().and_then(|i| Some((fields.get_mut(i)?, columns.get_mut(i)?))), field) {
        (Some((old_field, old_column)), field) => {
            *old_field = field;
            *old_column = column;
        }
        (None, field) => {
            fields.push(field);
            columns.push(column);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ragstone_index::schema::Distance;
    use ragstone_ingest::embed::Embedder;
    use ragstone_ingest::embed::service::ServiceOptions;

    use super::*;

    fn space() -> VectorSpace {
        VectorSpace {
            embedder: Some(EmbedderRef { name: "e".into(), fingerprint: "f".into() }),
            ..VectorSpace::new("text", 2, Distance::Cosine)
        }
    }

    /// Counts the queries that it embeds.
    #[derive(Debug)]
    struct Counting(EmbedderInfo, AtomicUsize);

    impl Embedder for Counting {
        fn info(&self) -> &EmbedderInfo {
            &self.0
        }

        fn token_spans(&self, _: &str) -> ragstone_ingest::Result<Vec<Range<usize>>> {
            Ok(Vec::new())
        }

        fn embed_documents(&self, texts: &[&str]) -> ragstone_ingest::Result<Vec<Vec<f32>>> {
            Ok(vec![vec![1.0, 0.0]; texts.len()])
        }

        fn embed_query(&self, _: &str) -> ragstone_ingest::Result<Vec<f32>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(vec![1.0, 0.0])
        }
    }

    #[tokio::test]
    async fn an_embedder_that_collections_use_is_loaded_once_and_no_other() {
        let info = EmbedderInfo { name: "e".into(), dimension: 2, max_tokens: 8, fingerprint: "f".into() };
        let embedder = Arc::new(Counting(info, AtomicUsize::new(0)));
        let registry = Arc::new(EmbedderRegistry::builtin().with(Arc::clone(&embedder) as Arc<dyn Embedder>));
        let service = EmbedService::new(registry, ServiceOptions::default()).unwrap();
        let embedding = Embedding::new(Arc::new(service));
        let schema = |space| {
            Arc::new(CollectionSchema {
                vectors: vec![space],
                payload: Vec::new(),
                dynamic_payload: false,
                description: String::new(),
            })
        };
        let brought = schema(VectorSpace::new("v", 2, Distance::Cosine));
        embedding.warm_up(&[Arc::clone(&brought)]).await;
        assert_eq!(embedder.1.load(Ordering::Relaxed), 0, "clients bring the vectors");
        embedding.warm_up(&[schema(space()), brought, schema(space())]).await;
        assert_eq!(embedder.1.load(Ordering::Relaxed), 1);
    }

    fn rows(texts: [Option<&str>; 3], vectors: Option<[Option<[f32; 2]>; 3]>) -> RecordBatch {
        let mut rows = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(StringArray::from(vec!["a", "b", "c"])) as ArrayRef, false),
            ("text", Arc::new(StringArray::from(texts.to_vec())) as ArrayRef, true),
            ("title", Arc::new(StringArray::from(vec![Some("Title"), None, None])) as ArrayRef, true),
        ])
        .unwrap();
        if let Some(vectors) = vectors {
            let list = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
                vectors.iter().map(|v| v.map(|v| v.map(Some).to_vec())),
                2,
            );
            rows = put_column(&rows, "vector:text", Arc::new(list)).unwrap();
        }
        rows
    }

    #[test]
    fn only_rows_with_text_and_without_a_vector_want_one() {
        let rows = rows([Some("x"), Some(" "), None], Some([None, None, None]));
        let wanting = Wanting::of(&rows, &space());
        assert_eq!(wanting.rows, [0]);
        assert_eq!(wanting.texts, [embedding_text("Title", &[], "x")]);
        let rows = self::rows([Some("x"), Some("y"), None], Some([Some([1.0, 0.0]), None, None]));
        assert_eq!(Wanting::of(&rows, &space()).rows, [1]);
    }

    #[test]
    fn vectors_that_were_there_stay() {
        let check = |before: RecordBatch, expect: [Option<[f32; 2]>; 3]| {
            let after = with_vectors(&before, &space(), &[1], &[vec![5.0, 6.0]]).unwrap();
            let list = after.column_by_name("vector:text").unwrap().as_fixed_size_list().clone();
            for (row, expect) in expect.iter().enumerate() {
                assert_eq!(list.is_valid(row), expect.is_some(), "{row}");
                if let Some(expect) = expect {
                    assert_eq!(list.value(row).as_primitive::<Float32Type>().values(), expect);
                }
            }
        };
        let with = rows([Some("x"), Some("y"), None], Some([Some([1.0, 2.0]), None, Some([3.0, 4.0])]));
        check(with.clone(), [Some([1.0, 2.0]), Some([5.0, 6.0]), Some([3.0, 4.0])]);
        check(rows([Some("x"), Some("y"), None], None), [None, Some([5.0, 6.0]), None]);
        // A slice of a larger batch has its own offsets.
        let sliced = with_vectors(&with.slice(1, 2), &space(), &[0], &[vec![7.0, 8.0]]).unwrap();
        let list = sliced.column_by_name("vector:text").unwrap().as_fixed_size_list();
        assert_eq!(list.value(0).as_primitive::<Float32Type>().values(), &[7.0, 8.0]);
        assert_eq!(list.value(1).as_primitive::<Float32Type>().values(), &[3.0, 4.0]);
    }
}
