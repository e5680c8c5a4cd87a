//! The ledger against a model, and its checkpoints against loss, failure and growth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::directory::{Fault, FaultyDirectory, MemDirectory, Operation};
use crate::error::ErrorKind;

fn document(id: &str, version: u64, source_id: &str) -> DocumentRecord {
    DocumentRecord {
        id: id.into(),
        uri: format!("file:///{id}"),
        title: String::new(),
        media_type: "text/plain".into(),
        version: version.to_string(),
        size_bytes: version,
        modified_ns: None,
        chunks: 1,
        state: if version % 5 == 4 {
            DocumentState::Failed { reason: "broken".into() }
        } else {
            DocumentState::Indexed
        },
        indexed_at_us: 0,
        source_id: source_id.into(),
    }
}

fn ids(documents: &[Arc<DocumentRecord>]) -> Vec<&str> {
    documents.iter().map(|document| document.id.as_str()).collect()
}

type View = (Vec<Arc<DocumentRecord>>, Vec<(String, Vec<u8>)>, usize);

/// All that a caller can see.
fn view(ledger: &Ledger) -> View {
    let entries = ledger.entries("").map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
    (ledger.documents("", None, usize::MAX), entries, ledger.failed_document_count())
}

#[test]
fn documents_are_found_by_id_prefix_and_source() {
    let mut ledger = Ledger::new();
    for (id, source) in [("a/1", "s"), ("a/2", "t"), ("a/3", ""), ("b", "s"), ("a", "s"), ("ä", "s")] {
        assert_eq!(ledger.put_document(document(id, 1, source)), None);
    }
    assert_eq!(ids(&ledger.documents("", None, 10)), ["a", "a/1", "a/2", "a/3", "b", "ä"]);
    assert_eq!(ids(&ledger.documents("a/", None, 10)), ["a/1", "a/2", "a/3"]);
    assert_eq!(ids(&ledger.documents("a/", None, 2)), ["a/1", "a/2"]);
    assert_eq!(ids(&ledger.documents("a/", Some("a/2"), 2)), ["a/3"]);
    assert_eq!(ids(&ledger.documents("a/", Some("a"), 1)), ["a/1"], "an id before the prefix");
    assert!(ledger.documents("a/", Some("b"), 10).is_empty() && ledger.documents("c", None, 10).is_empty());
    assert_eq!(ids(&ledger.documents_of_source("s")), ["a", "a/1", "b", "ä"]);
    assert!(ledger.documents_of_source("").is_empty() && ledger.documents_of_source("none").is_empty());

    let old = ledger.put_document(document("b", 4, "t")).unwrap();
    assert_eq!((old.version.as_str(), ledger.failed_document_count()), ("1", 1));
    assert_eq!(ids(&ledger.documents_of_source("s")), ["a", "a/1", "ä"]);
    assert_eq!(ids(&ledger.documents_of_source("t")), ["a/2", "b"]);
    assert_eq!(ledger.delete_document("b").unwrap().version, "4");
    assert_eq!(ledger.delete_document("b"), None);
    assert_eq!((ledger.document_count(), ledger.failed_document_count()), (5, 0));
    assert_eq!(ids(&ledger.documents_of_source("t")), ["a/2"]);
}

#[test]
fn entries_have_bounds() {
    let mut ledger = Ledger::new();
    ledger.put_entry("import/1", b"x").unwrap();
    ledger.put_entry("import/2", &vec![0; MAX_LEDGER_VALUE_BYTES]).unwrap();
    ledger.put_entry("source/1", b"").unwrap();
    assert_eq!(ledger.put_entry("", b"x").unwrap_err().kind(), ErrorKind::InvalidArgument);
    let long = "k".repeat(MAX_LEDGER_KEY_BYTES + 1);
    assert_eq!(ledger.put_entry(&long, b"x").unwrap_err().kind(), ErrorKind::InvalidArgument);
    let large = vec![0; MAX_LEDGER_VALUE_BYTES + 1];
    assert_eq!(ledger.put_entry("k", &large).unwrap_err().kind(), ErrorKind::ResourceExhausted);
    assert_eq!(ledger.entries("import/").map(|(key, _)| key).collect::<Vec<_>>(), ["import/1", "import/2"]);
    assert_eq!(
        (ledger.entry("source/1"), ledger.entry("k"), ledger.entry_count()),
        (Some(&b""[..]), None, 3)
    );
    assert!(ledger.delete_entry("import/1") && !ledger.delete_entry("import/1"));
}

#[test]
fn a_checkpoint_holds_the_state_of_its_moment() {
    let directory = MemDirectory::new();
    let mut ledger = Ledger::new();
    ledger.put_document(document("a", 1, ""));
    ledger.put_entry("k", b"1").unwrap();
    let delta = ledger.take_dirty();
    // Writes go on between the two steps.
    ledger.put_document(document("a", 2, ""));
    ledger.put_document(document("b", 1, ""));
    ledger.delete_entry("k");
    let files = checkpoint(&directory, &[], &delta, 1).unwrap();
    let loaded = Ledger::load(&directory, &files).unwrap();
    assert_eq!((loaded.document("a").unwrap().version.as_str(), loaded.entry("k")), ("1", Some(&b"1"[..])));
    assert_eq!(loaded.document_count(), 1);
    let files = checkpoint(&directory, &files, &ledger.take_dirty(), 2).unwrap();
    assert_eq!(view(&Ledger::load(&directory, &files).unwrap()), view(&ledger));
}

#[test]
fn without_changes_nothing_is_written() {
    let directory = MemDirectory::new();
    let mut ledger = Ledger::new();
    ledger.put_document(document("a", 1, ""));
    let files = checkpoint(&directory, &[], &ledger.take_dirty(), 1).unwrap();
    assert_eq!(checkpoint(&directory, &files, &ledger.take_dirty(), 2).unwrap(), files);
    let mut loaded = Ledger::load(&directory, &files).unwrap();
    assert!(loaded.take_dirty().is_empty(), "what comes from files is not dirty");
    assert_eq!(loaded.delete_document("unknown"), None);
    assert!(!loaded.delete_entry("unknown") && loaded.take_dirty().is_empty());
}

#[test]
fn a_failed_checkpoint_loses_nothing() {
    for operation in [Operation::Write, Operation::Sync, Operation::Rename] {
        let directory = FaultyDirectory::new(MemDirectory::new()).unwrap();
        let mut ledger = Ledger::new();
        ledger.put_document(document("a", 1, ""));
        ledger.put_document(document("b", 1, ""));
        ledger.put_document(document("c", 1, ""));
        ledger.put_entry("k", b"1").unwrap();
        let delta = ledger.take_dirty();
        directory.fail(operation, 1, Fault::Error);
        checkpoint(&directory, &[], &delta, 1).unwrap_err();
        ledger.delete_document("b");
        ledger.put_document(document("c", 2, ""));
        ledger.restore_dirty(delta);
        let files = checkpoint(&directory, &[], &ledger.take_dirty(), 1).unwrap();
        assert_eq!(view(&Ledger::load(&directory, &files).unwrap()), view(&ledger));
    }
}

#[test]
fn leftovers_of_a_crash_are_replaced_and_a_number_is_not_used_twice() {
    let directory = MemDirectory::new();
    let mut ledger = Ledger::new();
    ledger.put_document(document("a", 1, ""));
    let delta = ledger.take_dirty();
    checkpoint(&directory, &[], &delta, 1).unwrap();
    // The manifest was not swapped: the same number comes again.
    let files = checkpoint(&directory, &[], &delta, 1).unwrap();
    assert_eq!(checkpoint(&directory, &files, &delta, 1).unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(Ledger::load(&directory, &files).unwrap().document_count(), 1);
}

#[test]
fn any_history_loads_as_it_was() {
    for seed in 0..30 {
        let mut random = StdRng::seed_from_u64(seed);
        let directory = MemDirectory::new();
        let (mut ledger, mut files) = (Ledger::new(), Vec::new());
        for round in 1..60 {
            for _ in 0..random.random_range(0..30) {
                let name = format!("n{}", random.random_range(0..80));
                match random.random_range(0..5) {
                    0 | 1 => {
                        let source = ["", "s", "t"][random.random_range(0..3)];
                        ledger.put_document(document(&name, random.random_range(0..100), source));
                    }
                    2 => drop(ledger.delete_document(&name)),
                    3 => ledger.put_entry(&name, &vec![7; random.random_range(0..50)]).unwrap(),
                    _ => drop(ledger.delete_entry(&name)),
                }
            }
            files = checkpoint(&directory, &files, &ledger.take_dirty(), round).unwrap();
            let loaded = Ledger::load(&directory, &files).unwrap();
            assert_eq!(view(&loaded), view(&ledger), "seed {seed} round {round}");
            for source in ["s", "t"] {
                assert_eq!(
                    loaded.documents_of_source(source),
                    ledger.documents_of_source(source),
                    "seed {seed}"
                );
            }
            if random.random_range(0..4) == 0 {
                ledger = loaded;
            }
        }
    }
}

#[test]
fn files_stay_few_and_a_change_is_rewritten_rarely() {
    let directory = MemDirectory::new();
    let (mut ledger, mut files, mut written) = (Ledger::new(), Vec::new(), 0);
    for round in 1..=1_000 {
        ledger.put_document(document(&format!("{round:06}"), round, "s"));
        files = checkpoint(&directory, &files, &ledger.take_dirty(), round).unwrap();
        written += directory.len(files.last().unwrap()).unwrap();
        assert!(files.len() <= 11, "{} files after {round} checkpoints", files.len());
    }
    let all: u64 = files.iter().map(|file| directory.len(file).unwrap()).sum();
    assert!(written < all * 15, "{written} bytes were written for {all}");
}

#[test]
fn what_was_deleted_leaves_the_oldest_file() {
    let directory = MemDirectory::new();
    let mut ledger = Ledger::new();
    for id in 0..100 {
        ledger.put_document(document(&id.to_string(), 1, ""));
    }
    let mut files = checkpoint(&directory, &[], &ledger.take_dirty(), 1).unwrap();
    for id in 0..30 {
        ledger.delete_document(&id.to_string());
    }
    files = checkpoint(&directory, &files, &ledger.take_dirty(), 2).unwrap();
    assert_eq!(files.len(), 2, "deletions are small beside what they delete");
    ledger.put_entry("large", &[0; 100_000]).unwrap();
    files = checkpoint(&directory, &files, &ledger.take_dirty(), 3).unwrap();
    // The one file is what a ledger without that past would write.
    let mut fresh = Ledger::new();
    for document in ledger.documents("", None, 100) {
        fresh.put_document((*document).clone());
    }
    fresh.put_entry("large", &[0; 100_000]).unwrap();
    let fresh = checkpoint(&directory, &[], &fresh.take_dirty(), 4).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(directory.read(&files[0]).unwrap(), directory.read(&fresh[0]).unwrap());
    assert_eq!(view(&Ledger::load(&directory, &files).unwrap()), view(&ledger));
}

#[test]
fn a_damaged_file_is_corruption() {
    let directory = MemDirectory::new();
    let mut ledger = Ledger::new();
    ledger.put_document(document("a", 1, "s"));
    let files = checkpoint(&directory, &[], &ledger.take_dirty(), 1).unwrap();
    let good = directory.read(&files[0]).unwrap();
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 4;
        directory.plant(&files[0], &bad).unwrap();
        assert_eq!(Ledger::load(&directory, &files).unwrap_err().kind(), ErrorKind::Corruption, "byte {at}");
    }
    assert_eq!(Ledger::load(&directory, &["ledger/none".into()]).unwrap_err().kind(), ErrorKind::Unavailable);
}
