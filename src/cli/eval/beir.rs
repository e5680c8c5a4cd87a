//! The files of a BEIR folder. Every mistake is told with file and line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Deserialize;

/// Longest line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 32 << 20;

/// A query and the grades of the documents that were judged for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    pub(super) id: String,
    pub(super) text: String,
    /// Document id to grade; at least one is above 0.
    pub(super) grades: HashMap<String, u32>,
}

/// What can be asked of a folder.
#[derive(Debug)]
pub(super) struct Judged {
    /// Documents of the corpus.
    pub(super) documents: u64,
    /// In the order of the queries file; only those with a relevant document.
    pub(super) queries: Vec<Query>,
}

/// A line of the corpus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct CorpusDocument {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) text: String,
}

#[derive(Deserialize)]
struct QueryLine {
    #[serde(rename = "_id")]
    id: String,
    text: String,
}

impl Judged {
    /// Reads queries and judgements and counts the documents.
    pub(super) fn read(folder: &Path, split: &str) -> Result<Self, String> {
        let mut documents = 0;
        each_line(&folder.join("corpus.jsonl"), |line| {
            documents += 1;
            parse_document(line).map(drop)
        })?;
        let mut grades = read_judgements(&folder.join("qrels").join(format!("{split}.tsv")))?;
        let mut queries = Vec::new();
        each_line(&folder.join("queries.jsonl"), |line| {
            let QueryLine { id, text } = serde_json::from_str(line).map_err(|error| error.to_string())?;
            if let Some(grades) = grades.remove(&id).filter(|grades| grades.values().any(|&grade| grade > 0))
            {
                if text.trim().is_empty() {
                    return Err(format!("query \"{id}\" has no text"));
                }
                queries.push(Query { id, text, grades });
            }
            Ok(())
        })?;
        let mut unknown: Vec<_> =
            grades.into_iter().filter(|(_, grades)| grades.values().any(|&grade| grade > 0)).collect();
        unknown.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some((id, _)) = unknown.first() {
            return Err(format!("qrels/{split}.tsv judges query \"{id}\", which is not in queries.jsonl"));
        }
        if queries.is_empty() {
            return Err(format!("qrels/{split}.tsv has no query with a relevant document"));
        }
        Ok(Self { documents, queries })
    }
}

/// Reads a line of the corpus.
pub(super) fn parse_document(line: &str) -> Result<CorpusDocument, String> {
    let document: CorpusDocument = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if document.id.is_empty() { Err("\"_id\" is empty".to_owned()) } else { Ok(document) }
}

/// Calls with each line that isn't blank; an error is told with file and line.
pub(super) fn each_line(
    path: &Path,
    mut visit: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let at = |error: String| format!("{}, line {number}: {error}", path.display());
        let read = (&mut reader)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|error| at(error.to_string()))?;
        if read == 0 {
            break;
        }
        if read as u64 == MAX_LINE_BYTES {
            return Err(at(format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&line).map_err(|_| at("not UTF-8".to_owned()))?.trim();
        if !text.is_empty() {
            visit(text).map_err(at)?;
        }
    }
    Ok(())
}

/// Query id to document id to grade.
fn read_judgements(path: &Path) -> Result<HashMap<String, HashMap<String, u32>>, String> {
    let mut grades: HashMap<String, HashMap<String, u32>> = HashMap::new();
    let mut first = true;
    each_line(path, |line| {
        let header = std::mem::take(&mut first) && line.starts_with("query-id");
        if header {
            return Ok(());
        }
        let columns: Vec<&str> = line.split('\t').collect();
        let [query, document, grade] = columns.as_slice() else {
            return Err(format!(
                "{} columns instead of query-id, corpus-id, score, separated by tabs",
                columns.len()
            ));
        };
        let grade: i64 = grade.trim().parse().map_err(|_| format!("\"{grade}\" is not a whole number"))?;
        // Grades below 0 (judged as harmful) count as not relevant.
        let grade = u32::try_from(grade.max(0)).map_err(|_| format!("{grade} is too large a grade"))?;
        grades.entry((*query).to_owned()).or_default().insert((*document).to_owned(), grade);
        Ok(())
    })?;
    Ok(grades)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn folder(corpus: &str, queries: &str, qrels: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("corpus.jsonl"), corpus).unwrap();
        std::fs::write(folder.path().join("queries.jsonl"), queries).unwrap();
        std::fs::create_dir(folder.path().join("qrels")).unwrap();
        std::fs::write(folder.path().join("qrels/test.tsv"), qrels).unwrap();
        folder
    }

    const CORPUS: &str = "{\"_id\":\"d1\",\"title\":\"T\",\"text\":\"x\"}\n\n{\"_id\":\"d2\",\"text\":\"y\",\"metadata\":{}}\n";
    const QUERIES: &str =
        "{\"_id\":\"q1\",\"text\":\"a\"}\n{\"_id\":\"q2\",\"text\":\"b\"}\n{\"_id\":\"q3\",\"text\":\"c\"}";

    #[test]
    fn only_queries_with_a_relevant_document_are_asked() {
        let folder = folder(CORPUS, QUERIES, "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t0\n");
        let judged = Judged::read(folder.path(), "test").unwrap();
        assert_eq!((judged.documents, judged.queries.len()), (2, 1));
        assert_eq!(judged.queries[0].grades, HashMap::from([("d1".to_owned(), 2), ("d2".to_owned(), 0)]));
    }

    #[track_caller]
    fn fails(corpus: &str, queries: &str, qrels: &str, parts: &[&str]) {
        let folder = folder(corpus, queries, qrels);
        let error = Judged::read(folder.path(), "test").unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        let qrels = "q1\td1\t1\n";
        fails(&format!("{CORPUS}{{\"text\":"), QUERIES, qrels, &["corpus.jsonl, line 4"]);
        fails("{\"_id\":\"\"}", QUERIES, qrels, &["corpus.jsonl, line 1", "_id"]);
        fails(CORPUS, "{\"_id\":\"q1\"}", qrels, &["queries.jsonl, line 1", "text"]);
        fails(CORPUS, "{\"_id\":\"q1\",\"text\":\" \"}", qrels, &["queries.jsonl, line 1", "no text"]);
        fails(CORPUS, QUERIES, "q1\td1\t1\nq1 d1 1\n", &["test.tsv, line 2", "1 columns"]);
        fails(CORPUS, QUERIES, "q1\td1\tgood\n", &["test.tsv, line 1", "good"]);
        fails(CORPUS, QUERIES, "q9\td1\t1\n", &["q9", "not in queries.jsonl"]);
        fails(CORPUS, QUERIES, "q1\td1\t0\n", &["no query with a relevant document"]);
        let folder = folder(CORPUS, QUERIES, qrels);
        assert!(Judged::read(folder.path(), "dev").unwrap_err().contains("dev.tsv"));
    }
}
