//! The manifest of a collection: which files it consists of. Swapping it is what makes a seal or a compaction happen.
//!
//! ```text
//! {"crc32":"89abcdef","manifest":
//! {
//!   "version": "1",
//!   ...
//! }
//! }
//! ```
//!
//! The whole file is JSON, to be read by people in need; the checksum is over the bytes of the inner object, as written.
//! A file that no manifest names is garbage of a crash. The manifest must not know what is in the files.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::directory::{Directory, check_path};
use crate::error::{Error, Result};
use crate::log::MAX_SEQ;
use crate::schema::CollectionSchema;

/// Its name in the collection's directory.
pub const MANIFEST_FILE: &str = "MANIFEST";
/// Longest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 20;
const NEWEST_VERSION: &str = "1";
const BEFORE_CRC: &str = "{\"crc32\":\"";
const BEHIND_CRC: &str = "\",\"manifest\":\n";
const END: &str = "\n}\n";

/// All versions that are on some disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version")]
enum Manifest {
    #[serde(rename = "1")]
    V1(ManifestV1),
}

/// For the version alone, before the rest is understood.
#[derive(Deserialize)]
struct Version {
    version: String,
}

/// What a collection consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestV1 {
    /// The schema as of `applied_seq`.
    pub schema: CollectionSchema,
    /// Every write up to this one is in the segments and ledger files; the log is replayed behind it.
    pub applied_seq: u64,
    /// Id of the next segment; ids are never used again.
    pub next_segment_id: u64,
    /// Number of the next file whose name has one (tombstones, ledger); never used again.
    pub next_file_id: u64,
    /// The segments, in the order they were made.
    pub segments: Vec<SegmentEntry>,
    /// Ledger files, oldest first.
    pub ledger: Vec<String>,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Names its files.
    pub id: u64,
    /// Rows, deleted ones included.
    pub rows: u32,
    /// Oldest write that has a row in it.
    pub min_seq: u64,
    /// Newest write that has a row in it.
    pub max_seq: u64,
    /// Bytes of its files, without tombstones.
    pub bytes: u64,
    /// File of its deleted rows; `None`: none are deleted.
    pub tombstones: Option<String>,
    /// Vector spaces that it has a file of.
    pub vector_spaces: Vec<String>,
    /// The first so many payload fields of the schema are in its keyword index.
    pub schema_payload_fields: usize,
}

impl ManifestV1 {
    /// The manifest of a collection without data.
    pub fn new(schema: CollectionSchema) -> Self {
        Self {
            schema,
            applied_seq: 0,
            next_segment_id: 1,
            next_file_id: 1,
            segments: Vec::new(),
            ledger: Vec::new(),
        }
    }

    /// Takes the next segment id.
    pub fn take_segment_id(&mut self) -> u64 {
        let id = self.next_segment_id;
        self.next_segment_id += 1;
        id
    }

    /// Takes the next file number.
    pub fn take_file_id(&mut self) -> u64 {
        let id = self.next_file_id;
        self.next_file_id += 1;
        id
    }

    /// Reads the manifest of a directory; `None` when there is none.
    pub fn load(directory: &dyn Directory) -> Result<Option<Self>> {
        if !directory.exists(MANIFEST_FILE)? {
            return Ok(None);
        }
        let full = directory.full_path(MANIFEST_FILE);
        let corrupt = |offset: usize, message: String| Error::corrupt(&full, offset as u64, message);
        let len = directory.len(MANIFEST_FILE)?;
        if len > MAX_MANIFEST_BYTES {
            return Err(corrupt(0, format!("{len} bytes are too many for a manifest")));
        }
        let file = directory.read(MANIFEST_FILE)?;
        let body = unwrap(&file).map_err(|(offset, message)| corrupt(offset, message))?;
        let body_at = file.len() - END.len() - body.len();
        let not_json = |error: serde_json::Error| corrupt(body_at, error.to_string());
        let Version { version } = serde_json::from_slice(body).map_err(not_json)?;
        if version != NEWEST_VERSION {
            return Err(Error::FailedPrecondition(format!(
                "{} has format version {version:?}; this program reads version {NEWEST_VERSION}: use the newer program \
                 that wrote it",
                full.display()
            )));
        }
        let Manifest::V1(manifest) = serde_json::from_slice(body).map_err(not_json)?;
        manifest.validate().map_err(|message| corrupt(body_at, message))?;
        Ok(Some(manifest))
    }

    /// Makes this the manifest of a directory, in one step; on disk when it returns. Every file that it names must be on
    /// disk before.
    pub fn store(&self, directory: &dyn Directory) -> Result<()> {
        self.validate()
            .map_err(|message| Error::Internal(format!("a manifest that is not stored: {message}")))?;
        let manifest = Manifest::V1(self.clone());
        let body =
            serde_json::to_string_pretty(&manifest).map_err(|error| Error::Internal(error.to_string()))?;
        let crc = crc32fast::hash(body.as_bytes());
        let file = format!("{BEFORE_CRC}{crc:08x}{BEHIND_CRC}{body}{END}");
        if file.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(Error::LimitExceeded {
                what: "bytes of the manifest",
                value: file.len() as u64,
                limit: MAX_MANIFEST_BYTES,
            });
        }
        directory.write_atomic(MANIFEST_FILE, file.as_bytes())
    }

    /// Checks all that can be checked without opening a file; the same before it is stored and after it is loaded.
    pub fn validate(&self) -> Result<(), String> {
        self.schema.validate().map_err(|error| error.to_string())?;
        // Counting on from these must not overflow.
        if self.applied_seq >= MAX_SEQ || self.next_segment_id >= MAX_SEQ || self.next_file_id >= MAX_SEQ {
            return Err(format!("a number is over {MAX_SEQ}"));
        }
        let mut ids = BTreeSet::new();
        for segment in &self.segments {
            segment.validate(self).map_err(|message| format!("segment {}: {message}", segment.id))?;
            if !ids.insert(segment.id) {
                return Err(format!("segment {} comes twice", segment.id));
            }
        }
        let tombstones = self.segments.iter().filter_map(|segment| segment.tombstones.as_ref());
        let mut names = BTreeSet::new();
        for name in self.ledger.iter().chain(tombstones) {
            check_path(name).map_err(|error| error.to_string())?;
            if !names.insert(name) {
                return Err(format!("file {name:?} comes twice"));
            }
        }
        Ok(())
    }
}

impl SegmentEntry {
    fn validate(&self, manifest: &ManifestV1) -> Result<(), String> {
        if self.id >= manifest.next_segment_id {
            return Err(format!("the next id is {}", manifest.next_segment_id));
        }
        if self.rows == 0 {
            return Err("no rows".into());
        }
        if self.min_seq == 0 || self.min_seq > self.max_seq || self.max_seq > manifest.applied_seq {
            let (min, max, applied) = (self.min_seq, self.max_seq, manifest.applied_seq);
            return Err(format!("writes {min} to {max} of {applied}"));
        }
        if self.schema_payload_fields > manifest.schema.payload.len() {
            let (fields, known) = (self.schema_payload_fields, manifest.schema.payload.len());
            return Err(format!("{fields} payload fields, the schema has {known}"));
        }
        let known = |space: &String| manifest.schema.vectors.iter().any(|known| known.name == *space);
        match self.vector_spaces.iter().find(|space| !known(space)) {
            Some(space) => Err(format!("vector space {space:?} is not in the schema")),
            None => Ok(()),
        }
    }
}

/// The inner object of a manifest file, its checksum verified; else where and what is wrong.
fn unwrap(file: &[u8]) -> Result<&[u8], (usize, String)> {
    let not_a_manifest = |offset: usize| (offset, "not a manifest".to_owned());
    let rest = file.strip_prefix(BEFORE_CRC.as_bytes()).ok_or_else(|| not_a_manifest(0))?;
    let (expected, rest) = rest.split_at_checked(8).ok_or_else(|| not_a_manifest(BEFORE_CRC.len()))?;
    let rest =
        rest.strip_prefix(BEHIND_CRC.as_bytes()).ok_or_else(|| not_a_manifest(BEFORE_CRC.len() + 8))?;
    let body =
        rest.strip_suffix(END.as_bytes()).ok_or_else(|| (file.len(), "its end is missing".to_owned()))?;
    let found = format!("{:08x}", crc32fast::hash(body));
    if found.as_bytes() != expected {
        let expected = String::from_utf8_lossy(expected);
        return Err((BEFORE_CRC.len(), format!("checksum is {found}, the file says {expected:?}")));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::directory::MemDirectory;
    use crate::error::ErrorKind;
    use crate::schema::{Distance, FieldType, PayloadField, VectorSpace};

    fn sample() -> ManifestV1 {
        let schema = CollectionSchema {
            vectors: vec![VectorSpace::new("text", 384, Distance::Cosine)],
            payload: vec![PayloadField { name: "author.name".into(), field_type: FieldType::Keyword }],
            dynamic_payload: true,
            description: "notes — with \"quotes\"".into(),
        };
        let segment = SegmentEntry {
            id: 7,
            rows: 1_000,
            min_seq: 3,
            max_seq: 90,
            bytes: 1 << 40,
            tombstones: Some("segments/7.3.tombstones".into()),
            vector_spaces: vec!["text".into()],
            schema_payload_fields: 1,
        };
        ManifestV1 {
            applied_seq: 90,
            next_segment_id: 8,
            next_file_id: 4,
            segments: vec![segment],
            ledger: vec!["ledger/1".into(), "ledger/2".into()],
            ..ManifestV1::new(schema)
        }
    }

    #[test]
    fn a_manifest_comes_back_and_is_json() {
        let directory = MemDirectory::new();
        assert_eq!(ManifestV1::load(&directory).unwrap(), None);
        sample().store(&directory).unwrap();
        assert_eq!(ManifestV1::load(&directory).unwrap(), Some(sample()));
        let json: serde_json::Value =
            serde_json::from_slice(&directory.read(MANIFEST_FILE).unwrap()).unwrap();
        assert_eq!(json["manifest"]["version"], "1");
        assert_eq!(json["manifest"]["segments"][0]["rows"], 1_000);
    }

    #[test]
    fn every_flipped_bit_and_truncation_is_found() {
        let directory = MemDirectory::new();
        sample().store(&directory).unwrap();
        let file = directory.read(MANIFEST_FILE).unwrap().to_vec();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut broken = file.clone();
                broken[at] ^= 1 << bit;
                directory.plant(MANIFEST_FILE, &broken).unwrap();
                let error = ManifestV1::load(&directory).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at} bit {bit}: {error}");
            }
            directory.plant(MANIFEST_FILE, &file[..at]).unwrap();
            assert_eq!(ManifestV1::load(&directory).unwrap_err().kind(), ErrorKind::Corruption, "{at} bytes");
        }
    }

    fn plant_body(directory: &MemDirectory, body: &str) {
        let crc = crc32fast::hash(body.as_bytes());
        directory
            .plant(MANIFEST_FILE, format!("{BEFORE_CRC}{crc:08x}{BEHIND_CRC}{body}{END}").as_bytes())
            .unwrap();
    }

    #[test]
    fn a_newer_version_is_named() {
        let directory = MemDirectory::new();
        plant_body(&directory, "{\"version\": \"2\", \"shards\": []}");
        let error = ManifestV1::load(&directory).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(
            error.to_string().contains("version \"2\"") && error.to_string().contains("reads version 1"),
            "{error}"
        );
    }

    #[test]
    fn right_checksums_around_wrong_content_are_corruption() {
        let directory = MemDirectory::new();
        for body in
            ["", "[]", "{}", "{\"version\": \"1\"}", "{\"version\": 1}", "null", "{\"version\": \"1\""]
        {
            plant_body(&directory, body);
            assert_eq!(ManifestV1::load(&directory).unwrap_err().kind(), ErrorKind::Corruption, "{body}");
        }
        let deep = format!("{{\"version\": \"1\", \"schema\": {}", "[".repeat(100_000));
        plant_body(&directory, &deep);
        assert_eq!(ManifestV1::load(&directory).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_not_stored() {
        let wrong: &[fn(&mut ManifestV1)] = &[
            |m| m.next_segment_id = 7,
            |m| m.applied_seq = 89,
            |m| m.applied_seq = u64::MAX,
            |m| m.next_segment_id = u64::MAX,
            |m| m.next_file_id = MAX_SEQ,
            |m| m.segments[0].min_seq = 91,
            |m| m.segments[0].min_seq = 0,
            |m| m.segments[0].rows = 0,
            |m| m.segments[0].schema_payload_fields = 2,
            |m| m.segments[0].vector_spaces.push("image".into()),
            |m| m.segments[0].tombstones = Some("../../etc/passwd".into()),
            |m| m.segments[0].tombstones = Some("ledger/1".into()),
            |m| m.segments.push(m.segments[0].clone()),
            |m| m.ledger.push("/absolute".into()),
            |m| m.ledger.push(String::new()),
            |m| m.ledger.push("ledger/1".into()),
            |m| m.schema.vectors[0].dimension = 0,
        ];
        for (i, change) in wrong.iter().enumerate() {
            let directory = MemDirectory::new();
            let mut manifest = sample();
            change(&mut manifest);
            assert_eq!(manifest.store(&directory).unwrap_err().kind(), ErrorKind::Internal, "case {i}");
            assert!(!directory.exists(MANIFEST_FILE).unwrap());
            // The same found in a file is the file's fault.
            plant_body(&directory, &serde_json::to_string(&Manifest::V1(manifest)).unwrap());
            assert_eq!(ManifestV1::load(&directory).unwrap_err().kind(), ErrorKind::Corruption, "case {i}");
        }
    }
}
