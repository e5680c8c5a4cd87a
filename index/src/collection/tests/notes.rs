//! What the ledger remembers beside the records of documents.

use super::*;
use crate::ledger::{note_key, retry_key};

fn put(key: String, value: &[u8]) -> Change {
    Change::PutLedger { key, value: value.into() }
}

fn write(collection: &Collection, changes: Vec<Change>) {
    collection.write(WriteRequest { changes, skip_bad_rows: false }).unwrap();
}

/// The note of a document and what is known of its next try.
fn known(collection: &Collection, id: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    (collection.ledger(&note_key(id)), collection.ledger(&retry_key(id)))
}

#[test]
fn a_next_try_is_forgotten_with_any_write_of_its_document_and_a_note_with_a_replacement() {
    let directory = memory();
    let failed = |id: &str| {
        let document =
            DocumentRecord { state: DocumentState::Failed { reason: "x".into() }, ..record(id, 0) };
        Change::PutDocument { document, points: None }
    };
    let both = |id: &str| vec![put(note_key(id), b"note"), put(retry_key(id), b"retry")];
    let check = |collection: &Collection| {
        let of = |id| known(collection, id);
        let note = Some(b"note".to_vec());
        assert_eq!(of("replaced"), (None, None));
        assert_eq!(of("failed"), (note.clone(), None));
        assert_eq!(of("deleted"), (None, None));
        assert_eq!(of("never-there"), (None, None));
        assert_eq!(of("left-alone"), (note, Some(b"retry".to_vec())));
    };
    {
        let (_store, c) = open(&directory, small_memtables());
        for id in ["replaced", "failed", "deleted", "never-there", "left-alone"] {
            if id != "never-there" {
                c.write(put_document(id, &[])).unwrap();
            }
            write(&c, both(id));
        }
        c.write(put_document("replaced", &[])).unwrap();
        write(&c, vec![failed("failed")]);
        write(&c, vec![Change::DeleteDocuments(vec!["deleted".into(), "never-there".into()])]);
        check(&c);
    }
    let (_store, c) = open(&directory, small_memtables());
    check(&c);
}
