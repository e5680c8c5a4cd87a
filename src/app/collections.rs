//! Collections: made with a schema or by default, read, changed, deleted.

use std::sync::Arc;

use ragstone_index::collection::{Collection, SchemaUpdate};
use ragstone_index::schema::{
    CollectionSchema, Distance, EmbedderRef, IndexChange, PayloadField, VectorSpace,
};

use super::App;
use super::error::{Error, Result};

/// The vector space of the default schema.
pub const DEFAULT_SPACE: &str = "text";

/// A schema as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaDraft {
    /// Vector spaces.
    pub vectors: Vec<SpaceDraft>,
    /// Payload fields.
    pub payload: Vec<PayloadField>,
    /// Whether unknown payload fields join.
    pub dynamic_payload: bool,
    /// Free text.
    pub description: String,
}

/// A vector space as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SpaceDraft {
    /// Its name.
    pub name: String,
    /// Components; 0: those of the embedder.
    pub dimension: u32,
    /// How vectors are compared.
    pub distance: Distance,
    /// Name of the embedder; empty: clients bring the vectors.
    pub embedder: String,
    /// What is wanted of its index.
    pub index: IndexChange,
}

impl SchemaDraft {
    /// What a collection gets when nothing is asked for: a space "text" filled by the default embedder.
    pub fn default_with(embedder: &str) -> Self {
        let space = SpaceDraft {
            name: DEFAULT_SPACE.into(),
            dimension: 0,
            distance: Distance::Cosine,
            embedder: embedder.into(),
            index: IndexChange::default(),
        };
        Self { vectors: vec![space], payload: Vec::new(), dynamic_payload: true, description: String::new() }
    }
}

/// What is told of a collection.
#[derive(Debug, Clone)]
pub struct CollectionView {
    /// Its name.
    pub name: String,
    /// Its schema.
    pub schema: Arc<CollectionSchema>,
    /// Number of points.
    pub points: u64,
    /// Number of documents.
    pub documents: u64,
    /// Sequence number of the newest write.
    pub seq_no: u64,
}

impl App {
    /// An open collection; the error for a missing one says how to make it.
    pub fn collection(&self, name: &str) -> Result<Arc<Collection>> {
        self.store.collection(name).map_err(|error| match error {
            ragstone_index::Error::NotFound { name, .. } => Error::NoCollection(name),
            other => other.into(),
        })
    }

    /// Creates a collection; without a draft it gets the default schema. With `if_not_exists`, one that is there and has
    /// what the draft asks for is success, and `false` comes back beside it.
    pub async fn create_collection(
        &self,
        name: String,
        draft: Option<SchemaDraft>,
        if_not_exists: bool,
    ) -> Result<(CollectionView, bool)> {
        ragstone_index::schema::check_name(&name, "name")?;
        let asked = draft.is_some();
        let draft = draft.unwrap_or_else(|| SchemaDraft::default_with(self.embedding.default_name()));
        let wanted: Vec<IndexChange> = draft.vectors.iter().map(|space| space.index).collect();
        let schema = self.resolve(draft).await?;
        schema.validate()?;
        let store = Arc::clone(&self.store);
        let outcome =
            self.workers.maintenance.run(move || match store.create_collection(&name, schema.clone()) {
                Ok(collection) => Ok((collection, true)),
                Err(ragstone_index::Error::AlreadyExists { .. }) if if_not_exists => {
                    let collection = store.collection(&name)?;
                    if asked {
                        check_same(&name, &collection.schema(), &schema, &wanted)?;
                    }
                    Ok((collection, false))
                }
                Err(error) => Err(error.into()),
            });
        let (collection, created) = outcome.await?;
        if created {
            self.warm_up_for(vec![collection.schema()]);
        }
        Ok((self.view(collection).await?, created))
    }

    /// What is told of a collection.
    pub async fn get_collection(&self, name: &str) -> Result<CollectionView> {
        self.view(self.collection(name)?).await
    }

    /// All collections, by name.
    pub async fn list_collections(&self) -> Result<Vec<CollectionView>> {
        let store = Arc::clone(&self.store);
        self.workers.read.run(move || store.collections().iter().map(|c| Ok(view(c))).collect()).await
    }

    /// Changes a schema.
    pub async fn update_collection(&self, name: &str, update: SchemaUpdate) -> Result<CollectionView> {
        let collection = self.collection(name)?;
        let job = move || {
            collection.update_schema(update)?;
            Ok(view(&collection))
        };
        self.workers.maintenance.run(job).await
    }

    /// Deletes a collection with its data and its sources. `false` when there was none and `if_exists` allows that.
    pub async fn delete_collection(&self, name: String, if_exists: bool) -> Result<bool> {
        match self.collection(&name) {
            Err(Error::NoCollection(_)) if if_exists => return Ok(false),
            found => found?,
        };
        self.stop_sources_of(&name).await?;
        let store = Arc::clone(&self.store);
        self.workers.maintenance.run(move || Ok(store.delete_collection(&name)?)).await?;
        Ok(true)
    }

    async fn view(&self, collection: Arc<Collection>) -> Result<CollectionView> {
        self.workers.read.run(move || Ok(view(&collection))).await
    }

    /// Puts dimension and fingerprint of the embedders into a draft.
    async fn resolve(&self, draft: SchemaDraft) -> Result<CollectionSchema> {
        let mut vectors = Vec::with_capacity(draft.vectors.len());
        for (i, space) in draft.vectors.into_iter().enumerate() {
            let at = |field: &str| format!("schema.vectors[{i}].{field}");
            if space.embedder.is_empty() {
                let plain = VectorSpace::new(space.name, space.dimension, space.distance);
                vectors.push(VectorSpace { index: plain.index.changed(&space.index), ..plain });
                continue;
            }
            let info = self.embedding.info(&space.embedder).await.map_err(|e| e.at(&at("embedder")))?;
            if space.dimension != 0 && space.dimension != info.dimension {
                let message = format!(
                    "{}, but the embedder \"{}\" makes {}",
                    space.dimension, info.name, info.dimension
                );
                return Err(Error::invalid(at("dimension"), message));
            }
            let plain = VectorSpace::new(space.name, info.dimension, space.distance);
            vectors.push(VectorSpace {
                embedder: Some(EmbedderRef { name: info.name, fingerprint: info.fingerprint }),
                index: plain.index.changed(&space.index),
                ..plain
            });
        }
        let SchemaDraft { payload, dynamic_payload, description, .. } = draft;
        Ok(CollectionSchema { vectors, payload, dynamic_payload, description })
    }
}

fn view(collection: &Collection) -> CollectionView {
    let stats = collection.stats();
    CollectionView {
        name: collection.name().into(),
        schema: collection.schema(),
        points: stats.points,
        documents: stats.documents,
        seq_no: stats.seq_no,
    }
}

/// A collection that is there serves a request for `asked` when its spaces are the same, indexed as far as somebody cares
/// as `wanted`, and it has the payload fields; fields that joined with the data don't count.
fn check_same(
    name: &str,
    there: &CollectionSchema,
    asked: &CollectionSchema,
    wanted: &[IndexChange],
) -> Result<()> {
    let differs = |what: &str| {
        Err(ragstone_index::Error::FailedPrecondition(format!(
            "collection \"{name}\" exists already, with another schema: {what} differ"
        ))
        .into())
    };
    let mut spaces = there.vectors.iter().zip(&asked.vectors);
    if there.vectors.len() != asked.vectors.len() || !spaces.all(|(there, asked)| there.same_vectors(asked)) {
        return differs("its vector spaces");
    }
    let mut options = there.vectors.iter().zip(wanted);
    if options.any(|(there, wanted)| there.index.changed(wanted) != there.index) {
        return differs("the index options of its vector spaces");
    }
    if !asked.payload.iter().all(|field| there.payload.contains(field)) {
        return differs("its payload fields");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ragstone_index::schema::FieldType;

    #[test]
    fn fields_that_joined_with_the_data_do_not_make_another_schema() {
        let field = |name: &str| PayloadField { name: name.into(), field_type: FieldType::Keyword };
        let schema = |fields: &[&str]| CollectionSchema {
            vectors: Vec::new(),
            payload: fields.iter().map(|name| field(name)).collect(),
            dynamic_payload: true,
            description: String::new(),
        };
        assert!(check_same("c", &schema(&["a", "b"]), &schema(&["a"]), &[]).is_ok());
        assert!(check_same("c", &schema(&["a"]), &schema(&["a", "b"]), &[]).is_err());
        let space = VectorSpace::new("text", 4, Distance::Dot);
        let other = CollectionSchema { vectors: vec![space], ..schema(&[]) };
        assert!(check_same("c", &schema(&[]), &other, &[]).is_err());
    }

    #[test]
    fn index_options_count_where_somebody_asks_for_them() {
        let schema = |index: &IndexChange| {
            let mut space = VectorSpace::new("text", 4, Distance::Dot);
            space.index = space.index.changed(index);
            CollectionSchema {
                vectors: vec![space],
                payload: Vec::new(),
                dynamic_payload: true,
                description: String::new(),
            }
        };
        let (open, wide) = (IndexChange::default(), IndexChange { m: Some(32), ..IndexChange::default() });
        let narrow = IndexChange { m: Some(8), ..wide };
        let there = schema(&wide);
        assert!(check_same("c", &there, &schema(&open), &[open]).is_ok());
        assert!(check_same("c", &there, &schema(&wide), &[wide]).is_ok());
        assert!(check_same("c", &there, &schema(&narrow), &[narrow]).is_err());
    }
}
