//! `ragstone extract`: a dry run of what ingesting files would make of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ragstone_ingest::chunk::ChunkSettings;
use ragstone_ingest::document::{IngestOptions, RawDocument};
use ragstone_ingest::embed::Embedder as _;
use ragstone_ingest::embed::minilm::{MINILM, MiniLm};
use serde_json::{Value as Json, json};

use super::extract_worker;
use super::failure::{Failure, Outcome};
use super::ingest::chunk_settings;
use super::ingest::files::{self, FoundFile};
use super::ingest::passwords_in;
use super::output::{Style, one_line, print_json, print_line, printable};
use crate::app::preview::{Preview, preview};
use crate::config::{Config, Overrides};
use crate::grpc::convert::chunk;

/// Show what files would become: type, title, text and chunks, or why they can't be read
///
/// Nothing is stored and no server is needed. Without --text, --chunks or --json it prints a table: detected type, chunks,
/// characters, seconds, file; or the reason why a file can't be read. Chunks are cut for the built-in embedder.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print the extracted text
    #[arg(long, conflicts_with = "json")]
    text: bool,
    /// Print the chunks with their page, part and headings
    #[arg(long, conflicts_with = "text")]
    chunks: bool,
    /// Print one JSON object per file; with --chunks they are in it
    #[arg(long)]
    json: bool,
    /// Passwords for encrypted files, one per line
    #[arg(long, value_name = "FILE")]
    passwords: Option<PathBuf>,
    /// How text is cut, as in `ragstone ingest`, may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    chunk: Vec<String>,
    /// Configuration file whose limits and chunk settings are used
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: Args) -> Outcome {
    let mut config = Config::load(args.config.as_deref(), Overrides::default())?;
    extract_worker::isolate(&mut config);
    tokio::task::spawn_blocking(move || look(&args, &config)).await?
}

fn look(args: &Args, config: &Config) -> Outcome {
    let options = IngestOptions {
        passwords: args.passwords.as_deref().map(passwords_in).transpose()?.unwrap_or_default(),
        chunk: chunk_settings(args)?,
        ..Default::default()
    };
    let options = Arc::new(options);
    let embedder = MiniLm::load(MINILM)?;
    let (found, unreadable) = files::find(&args.paths);
    for missing in &unreadable {
        eprintln!("{}", printable(&missing.message));
    }
    let mut failed = unreadable.iter().filter(|missing| missing.named).count();
    // The first embedding of a process warms its tables up; that is not the time of a file.
    embedder.token_spans("warm")?;
    for file in &found {
        let result = read(file, &options).and_then(|raw| {
            preview(&raw, &embedder, &config.pipeline).map_err(|error| error.message().to_owned())
        });
        failed += usize::from(result.is_err() && file.named);
        show(args, file, result)?;
    }
    if failed > 0 { Err(Failure::failed(format!("{failed} files can't be read"))) } else { Ok(()) }
}

fn chunk_settings(args: &Args) -> Outcome<ChunkSettings> {
    let words = chunk_settings::parse(&args.chunk).map_err(Failure::usage)?;
    chunk::settings(words).map_err(|error| {
        let named = error.violations().into_iter().next();
        Failure::usage(
            named.map_or_else(|| error.to_string(), |wrong| format!("{}: {}", wrong.field, wrong.message)),
        )
    })
}

fn read(file: &FoundFile, options: &Arc<IngestOptions>) -> Result<RawDocument, String> {
    let data = std::fs::read(&file.path).map_err(|error| error.to_string())?;
    Ok(RawDocument {
        file_name: file.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        data: data.into(),
        options: Arc::clone(options),
        ..RawDocument::default()
    })
}

fn show(args: &Args, file: &FoundFile, result: Result<Preview, String>) -> Outcome {
    let name = printable(&file.relative.to_string_lossy());
    if args.json {
        print_json(&as_json(args, &name, &result))?;
        return Ok(());
    }
    let style = Style::of_stdout();
    let preview = match result {
        Ok(preview) => preview,
        Err(reason) => {
            print_line(&format!("{:>7} {:>9} {:>7}  {name}: {}", "-", "-", "-", one_line(&reason)))?;
            return Ok(());
        }
    };
    if args.text {
        print_line(&style.heading(&name))?;
        print_line(&printable(&preview.document.text))?;
    } else if args.chunks {
        for (index, chunk) in preview.chunks.iter().enumerate() {
            let mut place = vec![format!("{name}#{index}")];
            place.extend(Some(chunk.part.clone()).filter(|part| !part.is_empty()));
            place.extend(chunk.page.map(|page| format!("page {page}")));
            place.extend((!chunk.heading_path.is_empty()).then(|| chunk.heading_path.join(" > ")));
            print_line(&style.heading(&one_line(&place.join(" · "))))?;
            print_line(&printable(&chunk.text))?;
            print_line("")?;
        }
    } else {
        let document = &preview.document;
        print_line(&format!(
            "{:>7} {:>9} {:>7}  {name}  {}",
            preview.chunks.len(),
            document.text.chars().count(),
            seconds(preview.elapsed),
            style.faint(&one_line(&document.media_type)),
        ))?;
    }
    for reason in &preview.document.left_out {
        eprintln!("{name}: left out: {}", one_line(reason));
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

fn as_json(args: &Args, name: &str, result: &Result<Preview, String>) -> Json {
    let preview = match result {
        Ok(preview) => preview,
        Err(reason) => return json!({ "file": name, "error": reason }),
    };
    let document = &preview.document;
    let mut object = json!({
        "file": name,
        "media_type": document.media_type,
        "title": document.title,
        "characters": document.text.chars().count(),
        "chunks": preview.chunks.len(),
        "pages": document.pages.len(),
        "parts": document.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(),
        "properties": document.properties,
        "left_out": document.left_out,
        "seconds": preview.elapsed.as_secs_f64(),
    });
    if args.chunks {
        let chunk = |chunk: &ragstone_ingest::document::Chunk| {
            json!({
                "text": chunk.text,
                "part": chunk.part,
                "page": chunk.page,
                "heading_path": chunk.heading_path,
                "span": [chunk.span.start, chunk.span.end],
            })
        };
        object["chunks"] = preview.chunks.iter().map(chunk).collect();
    }
    object
}
