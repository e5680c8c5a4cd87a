//! Extracts every file below a folder and prints what became of it: one line per file, then a count per outcome.
//!
//! `cargo run -p ragstone-ingest --example extract -- DIR [--text] [--isolated]`: with the text, and with the parsers of PDF
//! and Office files in processes of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ragstone_ingest::document::RawDocument;
use ragstone_ingest::extract::{ExtractLimits, Isolation, extract, serve};

/// Tells this program that it is a worker of its own.
const WORKER: &str = "--worker";

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if has(WORKER) {
        return serve();
    }
    let root = PathBuf::from(arguments.first().map_or(".", String::as_str));
    let isolation = if has("--isolated") { Some(Isolation::this_program([WORKER])?) } else { None };
    let limits = ExtractLimits { isolation, ..Default::default() };
    let show_text = has("--text");
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let begun = Instant::now();
    for file in &files {
        let outcome = one(file, &root, &limits, show_text)?;
        *outcomes.entry(outcome).or_default() += 1;
    }
    eprintln!("{} files in {:.1} s", files.len(), begun.elapsed().as_secs_f32());
    for (outcome, count) in outcomes {
        eprintln!("{count:5}  {outcome}");
    }
    Ok(())
}

fn one(file: &Path, root: &Path, limits: &ExtractLimits, show_text: bool) -> std::io::Result<String> {
    let raw = RawDocument {
        file_name: file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        data: std::fs::read(file)?.into(),
        ..Default::default()
    };
    let name = file.strip_prefix(root).unwrap_or(file).display();
    let begun = Instant::now();
    let result = extract(&raw, limits);
    let ms = begun.elapsed().as_millis();
    Ok(match result {
        Ok(document) => {
            let (pages, chars) = (document.pages.len(), document.text.chars().count());
            println!(
                "{ms:6} ms  {chars:9} chars  {pages:5} pages  {name}  {}  {:?}",
                document.media_type, document.title
            );
            if show_text {
                println!("{}\n", document.text);
            }
            format!("ok: {}", document.media_type)
        }
        Err(error) => {
            println!("{ms:6} ms  {:?}: {error}  {name}", error.kind());
            let reason: String = error.message().chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
            format!("{:?}: {reason}", error.kind())
        }
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { collect(&entry.path(), files)? } else { files.push(entry.path()) }
    }
    Ok(())
}
