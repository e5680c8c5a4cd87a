//! `ragstone bench embed`: real vectors to measure with, from anybody's text files.
//!
//! Files are cut into short passages, some of them are held out as queries. The order of the passages is that of a hash
//! of their text: it is the same in every run, so a run that was interrupted goes on where it stopped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ragstone_ingest::chunk::{ChunkerParams, chunk};
use ragstone_ingest::document::{Markup, RawDocument};
use ragstone_ingest::embed::{Embedder, EmbedderRegistry, MINILM};
use ragstone_ingest::extract::{ExtractLimits, extract};
use tokio_util::sync::CancellationToken;

use super::npy;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt;
use crate::cli::output::count;
use crate::cli::progress::Progress;

/// Passages that are embedded between two writes.
const BATCH: usize = 512;
/// Shorter passages say nothing.
const MIN_PASSAGE_BYTES: usize = 24;
/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Make vectors to measure with, from your own text files
///
/// Cuts the files below PATH into short passages, embeds them with the built-in embedder, and writes base.npy and
/// queries.npy (sentences of passages that were held out) for bench vectors. Passages come in an order of their own,
/// equal ones once. An interrupted run goes on when it is started again with the same arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files and folders with text
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Folder for base.npy and queries.npy
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Most vectors of base.npy
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Vectors of queries.npy
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    queries: u32,
    /// Most tokens of a passage
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = clap::value_parser!(u16).range(16..=256))]
    tokens: u16,
}

pub(super) async fn run(args: Args) -> Outcome {
    let stop = interrupt::listen();
    tokio::task::spawn_blocking(move || make(&args, &stop)).await?
}

fn make(args: &Args, stop: &CancellationToken) -> Outcome {
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let embedder = EmbedderRegistry::builtin().get(MINILM)?;
    let mut passages = passages(args, &embedder, stop)?.into_values();
    let queries: Vec<String> =
        passages.by_ref().take(args.queries as usize).map(|passage| longest_sentence(&passage)).collect();
    let base: Vec<String> = passages.take(args.rows as usize).collect();
    if base.is_empty() {
        return Err(Failure::failed("the files have too few passages for queries and base"));
    }
    let name = |name: &str| args.out.join(name);
    embed("embedding queries", &name("queries.npy"), &queries, &embedder, stop)?;
    embed("embedding passages", &name("base.npy"), &base, &embedder, stop)?;
    eprintln!("{} and {} in {}", count(base.len() as u64, "vector"), queries.len(), args.out.display());
    Ok(())
}

/// Passages by the hash of their text.
fn passages(
    args: &Args,
    embedder: &Arc<dyn Embedder>,
    stop: &CancellationToken,
) -> Outcome<BTreeMap<u64, String>> {
    let files = files(&args.paths)?;
    let mut progress = Progress::new("reading files", "files", Some(files.len() as u64));
    let params = ChunkerParams {
        max_tokens: Some(usize::from(args.tokens)),
        overlap_tokens: 0,
        min_tokens: usize::from(args.tokens) / 2,
        ..ChunkerParams::default()
    };
    let mut found = BTreeMap::new();
    let mut skipped = 0;
    for (done, file) in files.iter().enumerate() {
        going_on(stop)?;
        match read(file, embedder, &params) {
            Ok(passages) => found.extend(passages.into_iter().map(|passage| (hash(&passage), passage))),
            Err(_) => skipped += 1,
        }
        progress.set_done(done as u64 + 1);
    }
    drop(progress);
    let left_out = if skipped > 0 { format!(", {skipped} without readable text") } else { String::new() };
    eprintln!("{} in {}{left_out}", count(found.len() as u64, "passage"), count(files.len() as u64, "file"));
    Ok(found)
}

fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        std::fs::metadata(path).with_context(|| path.display().to_string())?;
        let entries = ignore::WalkBuilder::new(path).sort_by_file_path(Path::cmp).build().flatten();
        files.extend(
            entries
                .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
                .map(ignore::DirEntry::into_path),
        );
    }
    Ok(files)
}

fn read(file: &Path, embedder: &Arc<dyn Embedder>, params: &ChunkerParams) -> anyhow::Result<Vec<String>> {
    if std::fs::metadata(file)?.len() > MAX_FILE_BYTES {
        bail!("larger than {MAX_FILE_BYTES} bytes");
    }
    let raw = RawDocument {
        file_name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        data: std::fs::read(file)?.into(),
        ..RawDocument::default()
    };
    let mut document = extract(&raw, &ExtractLimits::default())?;
    // Headings would be put before each passage and leave little room in it.
    document.markup = Markup::Plain;
    let chunks = chunk(&document, "", Some(&**embedder), params)?;
    Ok(chunks.into_iter().map(|chunk| chunk.text).filter(|text| text.len() >= MIN_PASSAGE_BYTES).collect())
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn longest_sentence(passage: &str) -> String {
    let ends = [". ", "? ", "! ", "\n"];
    let mut sentences = vec![passage];
    for end in ends {
        sentences = sentences.into_iter().flat_map(|part| part.split(end)).collect();
    }
    sentences.into_iter().map(str::trim).max_by_key(|part| part.len()).unwrap_or(passage).to_owned()
}

/// Writes the vectors of the texts, behind those that the file has already.
fn embed(
    stage: &str,
    path: &Path,
    texts: &[String],
    embedder: &Arc<dyn Embedder>,
    stop: &CancellationToken,
) -> Outcome {
    let at = || path.display().to_string();
    let dimension = embedder.info().dimension as usize;
    let mut header = Vec::new();
    let data = npy::write_header(&mut header, texts.len(), dimension)? as u64;
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).with_context(at)?;
    let vector_bytes = (dimension * size_of::<f32>()) as u64;
    let done = if begins_with(&mut file, &header).with_context(at)? {
        (file.metadata().with_context(at)?.len() - data) / vector_bytes
    } else {
        file.set_len(0).with_context(at)?;
        file.rewind().and_then(|()| file.write_all(&header)).with_context(at)?;
        0
    };
    file.seek(SeekFrom::Start(data + done * vector_bytes)).with_context(at)?;
    let mut done = (done as usize).min(texts.len());
    let mut progress = Progress::new(stage, "passages", Some((texts.len() - done) as u64));
    let first = done;
    for batch in texts.get(done..).unwrap_or_default().chunks(BATCH) {
        going_on(stop)?;
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        let vectors = embedder.embed_documents(&batch)?;
        let bytes: Vec<u8> = vectors.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        file.write_all(&bytes).with_context(at)?;
        done += batch.len();
        progress.set_done((done - first) as u64);
    }
    file.sync_all().with_context(at)?;
    Ok(())
}

/// Whether a file begins with these bytes.
fn begins_with(file: &mut File, header: &[u8]) -> std::io::Result<bool> {
    use std::io::Read as _;
    let mut start = Vec::with_capacity(header.len());
    file.take(header.len() as u64).read_to_end(&mut start)?;
    Ok(start == header)
}

fn going_on(stop: &CancellationToken) -> Outcome {
    if stop.is_cancelled() {
        return Err(Failure::failed("interrupted; the same command goes on where this one stopped"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn a_query_is_the_longest_sentence() {
        let passage = "Short one. This is the one that says the most! No?\nEnd.";
        assert_eq!(longest_sentence(passage), "This is the one that says the most");
        assert_eq!(longest_sentence("one"), "one");
    }

    #[test]
    fn an_interrupted_file_is_continued_and_another_one_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.npy");
        let embedder = EmbedderRegistry::builtin().get(MINILM).unwrap();
        let texts: Vec<String> = (0..3).map(|i| format!("passage number {i} of three")).collect();
        let stop = CancellationToken::new();
        let whole = |path: &Path| std::fs::read(path).unwrap();
        embed("t", &path, &texts, &embedder, &stop).map_err(|_| "fails").unwrap();
        let expected = whole(&path);
        let header = expected.len() - 3 * 384 * 4;
        // Half of the second vector was on disk when the power went.
        std::fs::write(&path, &expected[..header + 384 * 6]).unwrap();
        embed("t", &path, &texts, &embedder, &stop).map_err(|_| "fails").unwrap();
        assert!(whole(&path) == expected);
        std::fs::write(&path, b"something else").unwrap();
        embed("t", &path, &texts, &embedder, &stop).map_err(|_| "fails").unwrap();
        assert!(whole(&path) == expected);
        stop.cancel();
        std::fs::remove_file(&path).unwrap();
        assert!(embed("t", &path, &texts, &embedder, &stop).is_err());
    }
}
