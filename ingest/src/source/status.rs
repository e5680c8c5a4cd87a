//! What a watched folder tells about itself. Shared between the folder's task, which writes it, and whoever asks.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::FolderSource;
use super::files::{FileCounts, FileState, Files};
use super::names::Names;

/// What a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// It compares folder and collection, or works on what it found.
    Scanning,
    /// Everything seen is indexed; changes are awaited.
    Watching,
    /// The folder or the collection can't be used now; it is tried again. Nothing is deleted meanwhile.
    Unavailable,
}

/// How changes are noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noticing {
    /// The system tells, and a scan now and then makes sure.
    Events,
    /// Only by scans.
    Scans {
        /// Why the system does not tell.
        reason: String,
    },
}

/// A source and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// The source.
    pub source: FolderSource,
    /// What it is doing.
    pub state: SourceState,
    /// What is wrong, if anything is. It may work nevertheless: with scans only, or without an unreadable part.
    pub error: Option<String>,
    /// How changes are noticed.
    pub noticing: Noticing,
    /// Its files by state.
    pub files: FileCounts,
    /// Whole scans that ended well.
    pub scans: u64,
    /// Passwords that are tried on encrypted files, as of the last scan.
    pub passwords: usize,
}

/// A file of a source and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// Relative to the source, with `/`.
    pub path: String,
    /// How the last try to index it ended.
    pub state: FileState,
    /// Under which it is, or will be, stored.
    pub document_id: String,
    /// Its points.
    pub chunks: u32,
    /// Tries in a row that failed and may yet succeed.
    pub tries: u32,
    /// When a file that failed is tried again; `None` where only a change of the file, or a person, leads to another try.
    pub retry_at: Option<SystemTime>,
}

/// Files of a source in the order of their document ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesPage {
    /// The files.
    pub files: Vec<FileStatus>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<String>,
}

/// What is known of a running source.
pub(crate) struct Shared {
    pub source: FolderSource,
    pub names: Names,
    pub files: Mutex<Files>,
    pub health: Mutex<Health>,
    /// Asks for a scan.
    pub rescan: Notify,
    /// A person has said that the files are meant to be gone, for the next scan.
    pub loss_accepted: AtomicBool,
}

/// The part of a source's status that is not about single files.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    /// Nothing can be done now, for this reason.
    pub unavailable: Option<String>,
    /// The reason is that so much is missing that a person has to say whether it is meant to be.
    pub doubts_loss: bool,
    /// A part can't be read, for this reason.
    pub trouble: Option<String>,
    pub noticing: Noticing,
    /// A whole scan runs, or none has ended yet.
    pub scanning: bool,
    /// Jobs that wait or run.
    pub jobs: usize,
    pub scans: u64,
    /// Passwords that are tried.
    pub passwords: usize,
}

impl Shared {
    pub fn new(source: FolderSource, noticing: Noticing) -> Self {
        let health = Health {
            unavailable: None,
            doubts_loss: false,
            trouble: None,
            noticing,
            scanning: true,
            jobs: 0,
            scans: 0,
            passwords: source.options.passwords.len(),
        };
        Self {
            names: Names::new(&source.root),
            source,
            files: Mutex::default(),
            health: Mutex::new(health),
            rescan: Notify::new(),
            loss_accepted: AtomicBool::new(false),
        }
    }

    /// How it is now.
    pub fn status(&self) -> SourceStatus {
        let health = self.health.lock().clone();
        let files = self.files.lock().counts();
        let state = match &health.unavailable {
            Some(_) => SourceState::Unavailable,
            None if health.scanning || health.jobs > 0 || files.pending > 0 => SourceState::Scanning,
            None => SourceState::Watching,
        };
        let blind = match &health.noticing {
            // That is as it should be.
            Noticing::Scans { .. } if self.source.poll => None,
            Noticing::Scans { reason } => Some(format!("changes are found by scanning only: {reason}")),
            Noticing::Events => None,
        };
        SourceStatus {
            source: self.source.clone(),
            state,
            error: health.unavailable.or(health.trouble).or(blind),
            noticing: health.noticing,
            files,
            scans: health.scans,
            passwords: health.passwords,
        }
    }

    /// Those of its files behind `after`, which is [`FilesPage::next`] of the page before, whose state is wanted.
    pub fn page(&self, after: Option<&str>, limit: usize, wanted: impl Fn(&FileState) -> bool) -> FilesPage {
        let files = self.files.lock();
        let mut page = FilesPage::default();
        let mut last = None;
        for (key, record, state) in files.after(after).filter(|(_, _, state)| wanted(state)) {
            if page.files.len() == limit {
                page.next = last;
                break;
            }
            last = Some(key.clone());
            page.files.push(FileStatus {
                path: super::names::slashed(&record.path),
                state,
                document_id: self.names.id(key),
                chunks: record.chunks,
                tries: record.tries,
                retry_at: record.retry_time(),
            });
        }
        page
    }

    /// Keys of paths relative to the source.
    pub fn keys(&self, paths: &[String]) -> Vec<String> {
        paths.iter().map(|path| self.names.key(std::path::Path::new(path))).collect()
    }

    /// The folder.
    pub fn root(&self) -> &PathBuf {
        &self.source.root
    }
}
