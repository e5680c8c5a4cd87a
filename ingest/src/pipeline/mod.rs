//! One document on its way: extract, chunk, embed, assemble, put. It knows no source: whoever has a document calls
//! [`Pipeline::ingest`], from as many tasks as it likes.
//!
//! **Invariant:** a document is replaced whole or not at all; an error leaves the stored version as it was.

mod admission;
mod assemble;
mod derive;
#[cfg(test)]
pub(crate) mod fakes;
mod identity;
pub mod near;
mod path_fields;
mod prepare;
mod recipe;
mod stats;
#[cfg(test)]
mod tests;
mod vectors;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

pub use self::admission::Admission;
use self::admission::{ByteBudget, Turn, Turns};
pub use self::assemble::MAX_DOCUMENT_BATCH_BYTES;
use self::assemble::RowCommon;
pub(crate) use self::identity::cut;
pub use self::identity::{
    MAX_DOCUMENT_ID_BYTES, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_TITLE_BYTES, MAX_URI_BYTES,
    bounded_id, chunk_key, document_id, recipe_of,
};
use self::near::{Near, NearIndex, Signature};
pub use self::path_fields::PathFields;
use self::prepare::Prepared;
pub use self::prepare::{CONTENT_FIELD, MAX_CHUNKS};
pub use self::recipe::PIPELINE_VERSION;
use self::recipe::Recipe;
use self::stats::Counters;
pub use self::stats::PipelineStats;
use crate::chunk::{ChunkSettings, ChunkerParams};
use crate::document::{
    DocumentEntry, Duplicates, EntryState, IngestOptions, RawDocument, Resemblance, Stage,
};
use crate::embed::registry::EmbedderRegistry;
use crate::embed::service::EmbedService;
use crate::error::{Error, ErrorKind, Result};
use crate::extract::ExtractLimits;
use crate::sink::{BatchSink, Target};

/// Settings of a pipeline.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// Bounds of extraction.
    pub extract: ExtractLimits,
    /// How text is split where nothing else is set.
    pub chunker: ChunkerParams,
    /// What is set of it, for all and by media type. A document's own options go before.
    pub chunk: ChunkSettings,
    /// Most bytes of content that all documents in flight hold together; a larger document waits to be alone.
    pub max_in_flight_bytes: usize,
    /// Documents extracted at the same time.
    pub extract_parallelism: usize,
    /// What becomes of a document whose content is stored already, where its options don't say.
    pub duplicates: Duplicates,
    /// Whether near-duplicates are marked, where a document's options don't say.
    pub near_duplicates: bool,
    /// Least resemblance of near-duplicates, 0 to 1.
    pub near_duplicate_threshold: f32,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            extract: ExtractLimits::default(),
            chunker: ChunkerParams::default(),
            chunk: ChunkSettings::default(),
            max_in_flight_bytes: 256 << 20,
            extract_parallelism: std::thread::available_parallelism().map_or(2, usize::from),
            duplicates: Duplicates::default(),
            near_duplicates: false,
            near_duplicate_threshold: 0.8,
        }
    }
}

impl PipelineConfig {
    /// How a document of this type is cut.
    pub fn chunker_for(&self, options: &IngestOptions, media_type: &str) -> ChunkerParams {
        let mut params = self.chunker.clone();
        self.chunk.apply(&mut params, media_type);
        options.chunk.apply(&mut params, media_type);
        params
    }

    /// All settings that decide what a document becomes, as a part of its version.
    fn fingerprint(&self, options: &IngestOptions) -> String {
        let IngestOptions {
            passwords,
            path_fields,
            chunk,
            duplicates: _,
            near_duplicates: _,
            near_duplicate_threshold,
            ttl_seconds,
        } = options;
        let mut hasher = blake3::Hasher::new();
        passwords.iter().for_each(|password| identity::field(&mut hasher, password.as_bytes()));
        // A new password may open what an older one could not.
        let passwords = hasher.finalize().to_hex();
        // Those that were made without are made again, to be compared; nothing changes where it is off.
        let near = match near_duplicate_threshold {
            _ if !self.marks_near(options) => String::new(),
            None => " near".to_owned(),
            Some(threshold) => format!(" near {}", threshold.get()),
        };
        let ttl = ttl_seconds.map(|seconds| format!(" ttl {seconds}")).unwrap_or_default();
        format!("{:?} {:?} {chunk:?} {path_fields:?} {passwords}{near}{ttl}", self.chunker, self.chunk)
    }

    fn marks_near(&self, options: &IngestOptions) -> bool {
        options.near_duplicates.unwrap_or(self.near_duplicates)
    }
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// Under which it is stored.
    pub document_id: String,
    /// Whether anything had to be done.
    pub outcome: Outcome,
    /// Sequence number of the write; 0 when there was none, the stored version is visible already.
    pub seq_no: u64,
    /// Points of the document.
    pub chunks: u32,
    /// The stored version.
    pub version: String,
}

/// Whether anything had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// This version is stored now.
    Indexed,
    /// Its content was stored already, as another document's, to which it is linked now.
    Linked,
    /// This version was stored already.
    Unchanged,
}

/// What documents are compared with, by collection. Made from the notes of a collection when it is first needed.
type NearIndexes = Mutex<HashMap<String, Arc<OnceCell<Arc<Mutex<NearIndex>>>>>>;

/// Turns documents into points. Cheap to share; all methods may be called from many tasks.
pub struct Pipeline {
    config: PipelineConfig,
    registry: Arc<EmbedderRegistry>,
    service: Arc<EmbedService>,
    sink: Arc<dyn BatchSink>,
    budget: ByteBudget,
    turns: Turns,
    near: NearIndexes,
    extractors: Arc<Semaphore>,
    counters: Counters,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// A pipeline that ends in `sink`.
    pub fn new(
        config: PipelineConfig,
        registry: Arc<EmbedderRegistry>,
        service: Arc<EmbedService>,
        sink: Arc<dyn BatchSink>,
    ) -> Self {
        let budget = ByteBudget::new(config.max_in_flight_bytes);
        let extractors =
            Arc::new(Semaphore::new(config.extract_parallelism.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            config,
            registry,
            service,
            sink,
            budget,
            turns: Turns::default(),
            near: NearIndexes::default(),
            extractors,
            counters: Counters::default(),
        }
    }

    /// Makes `raw` the stored version of its document. Returns when it is durable and visible.
    ///
    /// Calls for the same document run one after the other; the last one wins.
    ///
    /// # Errors
    /// `BadContent` when it can't be read, `FailedPrecondition` when the collection was filled by another embedder,
    /// `InvalidArgument` and `ResourceExhausted` when it is over a bound. The older version stays.
    pub async fn ingest(&self, collection: &str, raw: RawDocument) -> Result<Ingested> {
        let admission = self.admit(raw.data.len()).await?;
        self.ingest_admitted(collection, raw, admission).await
    }

    /// What was done since the start.
    pub fn stats(&self) -> PipelineStats {
        self.counters.read()
    }

    /// Waits until `bytes` of content may be read into memory, for callers that read only then.
    pub async fn admit(&self, bytes: usize) -> Result<Admission> {
        self.budget.admit(bytes).await
    }

    /// Bytes that could be admitted at once, for callers that pace those who send to them.
    pub fn free_bytes(&self) -> usize {
        self.budget.free()
    }

    /// As [`Self::ingest`], for content that was read under an admission.
    pub async fn ingest_admitted(
        &self,
        collection: &str,
        mut raw: RawDocument,
        admission: Admission,
    ) -> Result<Ingested> {
        raw.id = document_id(&raw)?;
        check_bounds(&raw)?;
        let turn = self.turns.take(collection, &raw.id).await;
        let raw = Arc::new(raw);
        let links = raw.options.duplicates.unwrap_or(self.config.duplicates) == Duplicates::Link;
        let Identity { recipe, mut version, target } = self.identify(collection, &raw).await?;
        let stored = self.sink.document(collection, &raw.id).await?;
        if let Some(entry) = stored.as_ref().filter(|entry| is_current(entry, &version, links)) {
            return self.keep(collection, entry, &raw, &target).await;
        }
        let content = content_key(&recipe, &raw).await?;
        version.extend(content.as_deref());
        // Of documents of the same content that come together, the first is stored and the others are linked to it.
        let content_turn = match content.filter(|_| links) {
            Some(content) => Some(self.turns.take(&format!("{collection}\0content"), &content).await),
            None => None,
        };
        if content_turn.is_some()
            && let Some(linked) = self.link(collection, &raw, &version, &target).await?
        {
            return Ok(linked);
        }
        self.counters.extracted.add(1);
        // Under another recipe the same words may have been embedded in another context.
        let reusable =
            stored.is_some_and(|entry| entry.chunks > 0 && recipe_of(&entry.version) == recipe.hash);
        let progress = raw.progress.clone();
        let marks_near = self.config.marks_near(&raw.options);
        let fields = target.clone();
        let (prepared, mut common, admission) = self.prepare(&raw, &recipe, target, admission).await?;
        let (prepared, signature) = if marks_near { signed(prepared).await? } else { (prepared, None) };
        let mut note = None;
        if let Some(signature) = signature {
            let threshold = raw.options.near_duplicate_threshold.map(Resemblance::get);
            let threshold = threshold.unwrap_or(self.config.near_duplicate_threshold);
            let (near, kept) = self.compare(collection, &common.document_id, signature, threshold).await?;
            if let Some(near) = near {
                common.payload = derive::mark(&common.payload, &near, &fields)?;
                assemble::check_size(&common, &prepared, recipe.vector_bytes())?;
            }
            note = Some(kept);
        }
        let entry = entry(&raw, &prepared, version);
        drop(raw);
        let (document_id, chunks, version) = (entry.id.clone(), entry.chunks, entry.version.clone());
        progress.set(Stage::Embedding);
        let spaces = self.fill_spaces(collection, &document_id, reusable, &recipe, &prepared).await?;
        let batch = blocking(move || assemble::assemble(&common, &prepared, spaces)).await?;
        let seq_no = self.put(collection, entry, (batch, note), (turn, content_turn, admission)).await?;
        self.counters.indexed.add(1);
        self.counters.chunks.add(u64::from(chunks));
        Ok(Ingested { document_id, outcome: Outcome::Indexed, seq_no, chunks, version })
    }

    /// The recipe of a collection: the first digits of the version of every document made with it and these options.
    ///
    /// # Errors
    /// As [`Self::ingest`] has for every document of the collection; so a source asks before it reads a file.
    pub async fn recipe(&self, collection: &str, options: &IngestOptions) -> Result<String> {
        let target = self.sink.target(collection).await?;
        let (registry, settings) = (Arc::clone(&self.registry), self.config.fingerprint(options));
        Ok(blocking(move || Recipe::resolve(&target, &registry, &settings)).await?.hash)
    }

    /// Whether `raw` is what a version was made of.
    pub async fn is_version(&self, collection: &str, raw: &Arc<RawDocument>, version: &str) -> Result<bool> {
        Ok(identity::is_same_version(&self.identify(collection, raw).await?.version, version))
    }

    async fn identify(&self, collection: &str, raw: &Arc<RawDocument>) -> Result<Identity> {
        let target = self.sink.target(collection).await?;
        let (registry, settings) = (Arc::clone(&self.registry), self.config.fingerprint(&raw.options));
        let raw = Arc::clone(raw);
        blocking(move || {
            let recipe = Recipe::resolve(&target, &registry, &settings)?;
            let version = identity::version(&recipe.hash, &raw)?;
            Ok(Identity { recipe, version, target })
        })
        .await
    }

    /// Keeps a stored version; its entry follows the file.
    async fn keep(
        &self,
        collection: &str,
        stored: &DocumentEntry,
        raw: &RawDocument,
        target: &Target,
    ) -> Result<Ingested> {
        self.counters.unchanged.add(1);
        if stored.modified_ns != raw.modified_ns || stored.source_id != raw.source_id {
            let mut entry = DocumentEntry {
                modified_ns: raw.modified_ns,
                source_id: raw.source_id.clone(),
                ..stored.clone()
            };
            if let EntryState::Linked { payload_patch, .. } = &mut entry.state {
                *payload_patch = derive::payload_patch(raw, target).unwrap_or_default();
                // Where there is nothing to link to any more, the entry was taken over by whoever changed that.
                self.sink.link_document(collection, entry).await?;
            } else {
                self.sink.touch_document(collection, entry).await?;
            }
        }
        Ok(Ingested {
            document_id: raw.id.clone(),
            outcome: Outcome::Unchanged,
            seq_no: 0,
            chunks: stored.chunks,
            version: stored.version.clone(),
        })
    }

    /// Links a document to one of the same content. `None` when there is none.
    async fn link(
        &self,
        collection: &str,
        raw: &RawDocument,
        version: &str,
        target: &Target,
    ) -> Result<Option<Ingested>> {
        let Some(payload_patch) = derive::payload_patch(raw, target) else { return Ok(None) };
        let entry = DocumentEntry {
            id: raw.id.clone(),
            uri: raw.uri.clone(),
            title: String::new(),
            media_type: String::new(),
            version: version.to_owned(),
            size_bytes: raw.data.len() as u64,
            modified_ns: raw.modified_ns,
            chunks: 0,
            state: EntryState::Linked { to: String::new(), payload_patch },
            source_id: raw.source_id.clone(),
        };
        let Some((seq_no, entry)) = self.sink.link_document(collection, entry).await? else {
            return Ok(None);
        };
        self.counters.linked.add(1);
        Ok(Some(Ingested {
            document_id: entry.id,
            outcome: Outcome::Linked,
            seq_no,
            chunks: entry.chunks,
            version: entry.version,
        }))
    }

    async fn prepare(
        &self,
        raw: &Arc<RawDocument>,
        recipe: &Recipe,
        target: Target,
        admission: Admission,
    ) -> Result<(Prepared, RowCommon, Admission)> {
        let closed = |_| Error::new(ErrorKind::Cancelled, "the pipeline is closed");
        let permit = Arc::clone(&self.extractors).acquire_owned().await.map_err(closed)?;
        let (raw, recipe, config) = (Arc::clone(raw), recipe.clone(), self.config.clone());
        blocking(move || {
            // Held by the work, not by its caller: a caller that goes away does not end the work.
            let _permit = permit;
            raw.progress.set(Stage::Extracting);
            let prepared = prepare::prepare(&raw, &recipe, &config)?;
            let payload = derive::payload(&raw, &prepared.properties, &target)?;
            let common = RowCommon { document_id: raw.id.clone(), uri: raw.uri.clone(), payload };
            assemble::check_size(&common, &prepared, recipe.vector_bytes())?;
            Ok((prepared, common, admission))
        })
        .await
    }

    /// The earlier document that this one says almost the same as, and what has to be remembered of this one.
    async fn compare(
        &self,
        collection: &str,
        id: &str,
        signature: Signature,
        threshold: f32,
    ) -> Result<(Option<Near>, Vec<u8>)> {
        let index = self.near_index(collection).await?;
        loop {
            let (shared, own, id_of_own) = (Arc::clone(&index), signature.clone(), id.to_owned());
            let step = move || {
                let mut index = shared.lock();
                let found = index.find(&id_of_own, &own, threshold);
                if found.is_none() {
                    // From now on others are compared with it, though it is not stored yet.
                    index.insert(&id_of_own, &id_of_own, own);
                }
                Ok(found)
            };
            let Some(near) = blocking(step).await? else { return Ok((None, signature.note(id))) };
            let is_there = self.turns.is_taken(collection, &near.document_id)
                || self.sink.document(collection, &near.document_id).await?.is_some();
            if is_there {
                let note = signature.note(&near.group);
                index.lock().insert(id, &near.group, signature);
                return Ok((Some(near), note));
            }
            index.lock().remove(&near.document_id);
        }
    }

    async fn near_index(&self, collection: &str) -> Result<Arc<Mutex<NearIndex>>> {
        let cell = Arc::clone(self.near.lock().entry(collection.to_owned()).or_default());
        let make = || async {
            let notes = self.sink.document_notes(collection).await?;
            let restore = move || {
                let mut index = NearIndex::default();
                notes.iter().for_each(|(id, note)| index.restore(id, note));
                Ok(Arc::new(Mutex::new(index)))
            };
            blocking(restore).await
        };
        cell.get_or_try_init(make).await.map(Arc::clone)
    }

    async fn fill_spaces(
        &self,
        collection: &str,
        id: &str,
        reusable: bool,
        recipe: &Recipe,
        prepared: &Prepared,
    ) -> Result<Vec<vectors::SpaceVectors>> {
        let mut stored = vectors::StoredVectors::new();
        if reusable && !recipe.spaces.is_empty() {
            stored = self.sink.document_vectors(collection, id).await?;
        }
        let mut filled = Vec::with_capacity(recipe.spaces.len());
        for space in &recipe.spaces {
            let texts = &prepared.embedding_texts;
            let keys = prepared.key_texts.as_ref().unwrap_or(texts);
            let space = vectors::fill(space, texts, keys, &mut stored, &self.service).await?;
            self.counters.embedded.add(space.embedded as u64);
            filled.push(space);
        }
        Ok(filled)
    }

    /// Writes. The write ends before the document's next turn begins, even when the caller goes away.
    async fn put(
        &self,
        collection: &str,
        entry: DocumentEntry,
        (batch, note): (arrow::array::RecordBatch, Option<Vec<u8>>),
        held: (Turn, Option<Turn>, Admission),
    ) -> Result<u64> {
        let (sink, collection) = (Arc::clone(&self.sink), collection.to_owned());
        let write = tokio::spawn(async move {
            let _held = held;
            match note {
                Some(note) => sink.put_document_with_note(&collection, entry, batch, note).await,
                None => sink.put_document(&collection, entry, Some(batch)).await,
            }
        });
        write.await.map_err(|error| Error::new(ErrorKind::Internal, format!("a write was lost: {error}")))?
    }
}

fn check_bounds(raw: &RawDocument) -> Result<()> {
    let texts = [("uri", raw.uri.len(), MAX_URI_BYTES), ("title", raw.title.len(), MAX_TITLE_BYTES)];
    for (field, bytes, limit) in texts {
        if bytes > limit {
            return Err(Error::invalid(field, format!("{bytes} bytes are over the limit of {limit}")));
        }
    }
    Ok(())
}

/// `links`: a link is as good as points of its own.
fn is_current(entry: &DocumentEntry, version: &str, links: bool) -> bool {
    let is_searchable = match entry.state {
        EntryState::Indexed => true,
        EntryState::Linked { .. } => links,
        EntryState::Failed { .. } | EntryState::Skipped { .. } => false,
    };
    is_searchable && identity::is_same_version(&entry.version, version)
}

/// What stands behind a version that is about to be stored, see [`identity::content_key`]. It takes a second look at the whole
/// content, which documents that stay as they are need not pay for.
async fn content_key(recipe: &Recipe, raw: &Arc<RawDocument>) -> Result<Option<String>> {
    let (recipe, raw) = (recipe.hash.clone(), Arc::clone(raw));
    blocking(move || identity::content_key(&recipe, &raw)).await
}

fn entry(raw: &RawDocument, prepared: &Prepared, version: String) -> DocumentEntry {
    DocumentEntry {
        id: raw.id.clone(),
        uri: raw.uri.clone(),
        title: prepared.title.clone(),
        media_type: prepared.media_type.clone(),
        version,
        size_bytes: raw.data.len() as u64,
        modified_ns: raw.modified_ns,
        chunks: u32::try_from(prepared.chunks.len()).unwrap_or(u32::MAX),
        state: EntryState::Indexed,
        source_id: raw.source_id.clone(),
    }
}

/// A document with the signature of its text.
async fn signed(prepared: Prepared) -> Result<(Prepared, Option<Signature>)> {
    let sign = move || {
        let signature = Signature::of(prepared.chunks.iter().map(|chunk| chunk.text.as_str()));
        Ok((prepared, signature))
    };
    blocking(sign).await
}

/// What a document is, before it is read.
struct Identity {
    recipe: Recipe,
    version: String,
    target: Target,
}

/// Runs CPU work off the async threads; a panic in it is an error.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let message =
            if error.is_panic() { "reading the document hit a defect" } else { "the pipeline is closed" };
        Err(Error::new(ErrorKind::Internal, message))
    })
}
