//! What is in a folder now: looks at the whole or at some paths. It reads no content and knows nothing of the ledger.
//!
//! **Invariant:** what could not be read is never reported as gone.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ignore::Walk;

use super::names::Names;
use super::rules::Rules;
use crate::error::{Error, ErrorKind, Result};

/// What tells a file from its other versions without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub size: u64,
    pub modified_ns: i64,
    /// Where the system has such a number.
    pub inode: Option<u64>,
}

impl FileStat {
    pub fn of(metadata: &Metadata) -> Self {
        let modified_ns = match metadata.modified() {
            Ok(time) => match time.duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
                Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
            },
            Err(_) => 0,
        };
        Self { size: metadata.len(), modified_ns, inode: inode(metadata) }
    }

    /// Whether the content is the same as far as size and time can tell.
    pub fn same_content(&self, other: &Self) -> bool {
        self.size == other.size && self.modified_ns == other.modified_ns
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(metadata))
}

#[cfg(not(unix))]
fn inode(_metadata: &Metadata) -> Option<u64> {
    None
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A file to be indexed.
    File(FileStat),
    /// A file that is left out as it is now; what was indexed of it before stays.
    Skipped(String),
    /// A file that has nothing to index; what was indexed of it before goes.
    Void(String),
}

/// A path at which something lies.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// Relative to the root.
    pub path: PathBuf,
    pub seen: Seen,
}

/// Which folder lies at the root, so that another one at its place is noticed.
pub(crate) type RootIdentity = Option<(u64, u64)>;

/// What is in a folder, or in parts of it.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Keys that were looked at, with all below them. Empty key: the whole folder.
    pub scopes: Vec<String>,
    /// By key. What lies in a scope and is not here is gone, or does not count.
    pub seen: BTreeMap<String, Observation>,
    /// Keys at and below which nothing could be learned.
    pub unreadable: Vec<String>,
    /// Why something could not be read.
    pub trouble: Option<String>,
    /// Which folder this was.
    pub root: RootIdentity,
    /// Nothing at all lies in the root.
    pub root_is_empty: bool,
}

impl Survey {
    /// Whether nothing could be learned about a key.
    pub fn is_unreadable(&self, key: &str) -> bool {
        self.unreadable.iter().any(|above| within(key, above))
    }
}

/// Whether a key is `above` or lies below it.
pub(crate) fn within(key: &str, above: &str) -> bool {
    above.is_empty() || key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where and how to look.
#[derive(Debug, Clone)]
pub(crate) struct Surveyor {
    pub root: PathBuf,
    pub names: Names,
    pub rules: Arc<Rules>,
    pub max_file_bytes: u64,
    pub max_files: usize,
}

enum Look {
    Seen(Seen),
    Folder,
    Gone,
    Unknown(String),
}

impl Surveyor {
    /// Looks at the whole folder. Blocks.
    ///
    /// # Errors
    /// `Unavailable` when the root can't be read, `ResourceExhausted` when it holds too many files.
    pub fn whole(&self) -> Result<Survey> {
        let mut survey = self.begin()?;
        survey.scopes.push(String::new());
        self.collect(self.rules.walk(), &mut survey)?;
        self.begin()?;
        Ok(survey)
    }

    /// Looks at some paths relative to the root, and at all below those that are folders. Blocks.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub fn paths(&self, paths: &[PathBuf]) -> Result<Survey> {
        let mut survey = self.begin()?;
        for path in paths {
            let key = self.names.key(path);
            survey.scopes.push(key.clone());
            match self.look_at(path) {
                Look::Folder if self.rules.admit(path, true) => {
                    self.collect(self.rules.walk_part(path), &mut survey)?;
                }
                Look::Seen(seen) if self.rules.admit(path, false) => {
                    survey.seen.insert(key, Observation { path: path.clone(), seen });
                }
                Look::Unknown(reason) => {
                    survey.trouble = Some(reason);
                    survey.unreadable.push(key);
                }
                Look::Seen(_) | Look::Folder | Look::Gone => {}
            }
        }
        self.begin()?;
        Ok(survey)
    }

    /// Looks at one path again, just before it is read. `None`: there is no file, or it does not count any more.
    pub fn one(&self, path: &Path) -> Result<Option<Seen>> {
        match self.look_at(path) {
            Look::Seen(seen) => Ok(Some(seen)),
            Look::Folder | Look::Gone => Ok(None),
            Look::Unknown(reason) => Err(Error::new(ErrorKind::Unavailable, reason)),
        }
    }

    /// Checks that the root is there. Done before and after a look, so that a disk that goes away meanwhile does not
    /// pass for one whose files are gone.
    fn begin(&self) -> Result<Survey> {
        let root = root_identity(&self.root)?;
        let mut entries = fs::read_dir(&self.root).map_err(|error| unavailable(&self.root, &error))?;
        Ok(Survey { root, root_is_empty: entries.next().is_none(), ..Survey::default() })
    }

    fn collect(&self, walk: Walk, survey: &mut Survey) -> Result<()> {
        for entry in walk {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.note_error(&error, survey);
                    continue;
                }
            };
            if entry.file_type().is_none_or(|kind| kind.is_dir()) {
                continue;
            }
            let Ok(path) = entry.path().strip_prefix(&self.root) else { continue };
            let key = self.names.key(path);
            match self.look_at(path) {
                Look::Seen(seen) => {
                    survey.seen.insert(key, Observation { path: path.to_owned(), seen });
                }
                Look::Unknown(reason) => {
                    survey.trouble = Some(reason);
                    survey.unreadable.push(key);
                }
                Look::Folder | Look::Gone => {}
            }
            if survey.seen.len() > self.max_files {
                let message = format!("the folder holds more than {} files", self.max_files);
                return Err(Error::new(ErrorKind::ResourceExhausted, message).at("path"));
            }
        }
        Ok(())
    }

    /// Keeps what lies at and below a path that could not be walked.
    fn note_error(&self, error: &ignore::Error, survey: &mut Survey) {
        let vanished = error.io_error().is_some_and(|error| is_gone(error.kind()));
        // A .gitignore line that is no pattern is the owner's business; the other lines count.
        if vanished || error.is_partial() {
            return;
        }
        survey.trouble = Some(error.to_string());
        let path = error_path(error).and_then(|path| path.strip_prefix(&self.root).ok());
        survey.unreadable.push(path.map(|path| self.names.key(path)).unwrap_or_default());
    }

    fn look_at(&self, relative: &Path) -> Look {
        let path = self.root.join(relative);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_gone(error.kind()) => return Look::Gone,
            Err(error) => return Look::Unknown(format!("{}: {}", path.display(), reason(&error))),
        };
        if metadata.is_symlink() {
            return Look::Seen(self.look_through(&path));
        }
        if metadata.is_dir() {
            return Look::Folder;
        }
        Look::Seen(self.judge(&metadata))
    }

    /// A symbolic link counts when it leads to a file of the same folder.
    fn look_through(&self, link: &Path) -> Seen {
        let Ok(target) = fs::canonicalize(link) else {
            return Seen::Void("a symbolic link to nothing".into());
        };
        let inside = fs::canonicalize(&self.root).is_ok_and(|root| target.starts_with(root));
        match fs::metadata(&target) {
            Ok(metadata) if inside && metadata.is_file() => self.judge(&metadata),
            Ok(metadata) if inside && metadata.is_dir() => Seen::Void("a symbolic link to a folder".into()),
            _ => Seen::Void("a symbolic link that leads out of the folder".into()),
        }
    }

    fn judge(&self, metadata: &Metadata) -> Seen {
        if !metadata.is_file() {
            return Seen::Void("not a regular file".into());
        }
        if metadata.len() == 0 {
            return Seen::Void("empty".into());
        }
        if metadata.len() > self.max_file_bytes {
            let message = format!("{} bytes are over the limit of {}", metadata.len(), self.max_file_bytes);
            return Seen::Skipped(message);
        }
        Seen::File(FileStat::of(metadata))
    }
}

/// Which folder lies at a root now.
///
/// # Errors
/// `Unavailable` when it can't be read.
pub(crate) fn root_identity(root: &Path) -> Result<RootIdentity> {
    fs::metadata(root).map(|metadata| identity(&metadata)).map_err(|error| unavailable(root, &error))
}

fn unavailable(root: &Path, error: &std::io::Error) -> Error {
    let message = format!("the folder {} can't be read: {}", root.display(), reason(error));
    Error::new(ErrorKind::Unavailable, message).at("path")
}

fn is_gone(kind: IoErrorKind) -> bool {
    matches!(kind, IoErrorKind::NotFound | IoErrorKind::NotADirectory)
}

fn error_path(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => error_path(err),
        _ => None,
    }
}

/// An I/O error in words of its kind, without the system's number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        IoErrorKind::NotFound => "it does not exist".into(),
        IoErrorKind::PermissionDenied => "permission denied".into(),
        IoErrorKind::NotADirectory => "it is not a folder".into(),
        _ => error.to_string(),
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> RootIdentity {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> RootIdentity {
    None
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn surveyor(root: &Path) -> Surveyor {
        Surveyor {
            root: root.to_owned(),
            names: Names::new(root),
            rules: Arc::new(Rules::new(root, &[]).unwrap()),
            max_file_bytes: 100,
            max_files: 1_000,
        }
    }

    fn keys(survey: &Survey) -> Vec<&str> {
        survey
            .seen
            .iter()
            .filter(|(_, o)| matches!(o.seen, Seen::File(_)))
            .map(|(key, _)| key.as_str())
            .collect()
    }

    #[test]
    fn only_regular_files_of_the_folder_count() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.txt"), "secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::write(root.join("a.txt"), "a").unwrap();
        fs::write(root.join("empty.txt"), "").unwrap();
        fs::write(root.join("big.txt"), "x".repeat(101)).unwrap();
        fs::write(root.join("sub/deep/b.txt"), "b").unwrap();
        symlink("a.txt", root.join("inside")).unwrap();
        symlink("nothing", root.join("broken")).unwrap();
        symlink("sub", root.join("folder_link")).unwrap();
        symlink(outside.path().join("secret.txt"), root.join("outside")).unwrap();
        symlink(outside.path(), root.join("outside_folder")).unwrap();
        std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

        let survey = surveyor(root).whole().unwrap();
        assert_eq!(keys(&survey), ["a.txt", "inside", "sub/deep/b.txt"]);
        assert!(matches!(survey.seen["big.txt"].seen, Seen::Skipped(_)));
        for void in ["empty.txt", "broken", "folder_link", "outside", "outside_folder", "socket"] {
            assert!(matches!(survey.seen[void].seen, Seen::Void(_)), "{void}");
        }

        let part = surveyor(root).paths(&["sub".into(), "gone".into(), "outside".into()]).unwrap();
        assert_eq!(keys(&part), ["sub/deep/b.txt"]);
        assert_eq!(part.scopes, ["sub", "gone", "outside"]);
    }

    #[test]
    fn a_root_that_is_away_is_an_error_and_not_an_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let there = surveyor(&root);
        assert_eq!(there.whole().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(there.paths(&["a.txt".into()]).unwrap_err().kind(), ErrorKind::Unavailable);
        fs::write(&root, "a file").unwrap();
        assert_eq!(there.whole().unwrap_err().kind(), ErrorKind::Unavailable);
        fs::remove_file(&root).unwrap();
        fs::create_dir(&root).unwrap();
        assert!(there.whole().unwrap().root_is_empty);
    }

    #[test]
    fn what_can_not_be_read_is_not_gone() {
        let folder = tempfile::tempdir().unwrap();
        let locked = folder.path().join("locked");
        fs::create_dir(&locked).unwrap();
        fs::write(locked.join("a.txt"), "a").unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::read_dir(&locked).is_ok() {
            println!("skipped: this user may read everything");
            return;
        }
        let survey = surveyor(folder.path()).whole().unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(survey.is_unreadable("locked/a.txt"));
        assert!(!survey.is_unreadable("lockedx/a.txt"));
        assert!(survey.trouble.is_some());
    }

    #[test]
    fn too_many_files_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..5 {
            fs::write(folder.path().join(format!("{i}.txt")), "x").unwrap();
        }
        let few = Surveyor { max_files: 4, ..surveyor(folder.path()) };
        assert_eq!(few.whole().unwrap_err().kind(), ErrorKind::ResourceExhausted);
    }
}
