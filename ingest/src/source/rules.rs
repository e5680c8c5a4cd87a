//! Which names of a folder count: `.gitignore` rules, hidden files, leftovers of editors and downloads, the owner's
//! patterns. It knows names only, not what the files are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::{Walk, WalkBuilder};
use parking_lot::Mutex;

use super::config::{MAX_IGNORE_PATTERN_BYTES, MAX_IGNORE_PATTERNS};
use crate::error::{Error, Result};

/// Files that editors, browsers and office programs leave beside the real one. Before the owner's patterns, so that
/// `!*.tmp` brings them back.
const LEFTOVERS: [&str; 7] = ["*~", ".*.swp", "*.tmp", "*.part", "*.crdownload", "~$*", "4913"];

/// Which names of a folder count. A snapshot of its `.gitignore` files: made anew for every scan.
#[derive(Debug)]
pub(crate) struct Rules {
    root: PathBuf,
    patterns: Arc<Gitignore>,
    /// For single paths. `None` when the root is no folder.
    matcher: Mutex<Option<ignore::IncrementalIgnore>>,
}

/// Checks the owner's patterns.
///
/// # Errors
/// `InvalidArgument` that names the pattern.
pub(crate) fn check_patterns(patterns: &[String]) -> Result<()> {
    if patterns.len() > MAX_IGNORE_PATTERNS {
        let message = format!("{} patterns are over the limit of {MAX_IGNORE_PATTERNS}", patterns.len());
        return Err(Error::invalid("ignore", message));
    }
    compile(Path::new("."), patterns).map(drop)
}

fn compile(root: &Path, patterns: &[String]) -> Result<Gitignore> {
    let mut builder = GitignoreBuilder::new(root);
    for leftover in LEFTOVERS {
        builder.add_line(None, leftover).map_err(|error| Error::invalid("ignore", error.to_string()))?;
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let field = format!("ignore[{i}]");
        if pattern.len() > MAX_IGNORE_PATTERN_BYTES || pattern.contains(['\n', '\r', '\0']) {
            let message = format!("a pattern is one line of at most {MAX_IGNORE_PATTERN_BYTES} bytes");
            return Err(Error::invalid(field, message));
        }
        builder.add_line(None, pattern).map_err(|error| Error::invalid(field, error.to_string()))?;
    }
    builder.build().map_err(|error| Error::invalid("ignore", error.to_string()))
}

impl Rules {
    /// The rules of a folder as they are now.
    pub fn new(root: &Path, patterns: &[String]) -> Result<Self> {
        let compiled = Arc::new(compile(root, patterns)?);
        let matcher = Mutex::new(builder(root).build_matchers().pop());
        Ok(Self { root: root.to_owned(), patterns: compiled, matcher })
    }

    /// Whether a path relative to the root counts, by its name and those of the folders above it.
    pub fn admit(&self, relative: &Path, is_dir: bool) -> bool {
        if relative.has_root() || self.patterns.matched_path_or_any_parents(relative, is_dir).is_ignore() {
            return false;
        }
        self.matcher.lock().as_mut().is_some_and(|matcher| !matcher.matched(relative, is_dir).is_ignore())
    }

    /// Walks the whole folder. Symbolic links are listed, not followed.
    pub fn walk(&self) -> Walk {
        let (root, patterns) = (self.root.clone(), Arc::clone(&self.patterns));
        builder(&self.root)
            .filter_entry(move |entry| {
                let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
                let relative = entry.path().strip_prefix(&root).unwrap_or(Path::new(""));
                relative.as_os_str().is_empty() || !patterns.matched(relative, is_dir).is_ignore()
            })
            .build()
    }

    /// Walks a part of the folder, under the rules of the whole.
    pub fn walk_part(self: &Arc<Self>, relative: &Path) -> Walk {
        let rules = Arc::clone(self);
        builder(&self.root.join(relative))
            .git_ignore(false)
            .hidden(false)
            .filter_entry(move |entry| {
                let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
                entry.path().strip_prefix(&rules.root).is_ok_and(|relative| rules.admit(relative, is_dir))
            })
            .build()
    }
}

fn builder(base: &Path) -> WalkBuilder {
    let mut builder = WalkBuilder::new(base);
    builder.standard_filters(false).hidden(true).git_ignore(true).require_git(false).follow_links(false);
    builder
}

/// Whether a change of this file changes the rules.
pub(crate) fn is_rule_file(path: &Path) -> bool {
    path.file_name() == Some(OsStr::new(".gitignore"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::fs;

    use super::*;
    use crate::error::ErrorKind;

    /// Which of `paths` the rules admit one by one, checked against what both walks list.
    fn admitted(root: &Path, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let rules = Arc::new(Rules::new(root, &patterns).unwrap());
        let list = |walk: Walk| {
            let mut files: Vec<String> = walk
                .map(|entry| entry.unwrap())
                .filter(|entry| entry.file_type().unwrap().is_file())
                .map(|entry| entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned())
                .collect();
            files.sort();
            files
        };
        let walked = list(rules.walk());
        assert_eq!(walked, list(rules.walk_part(Path::new(""))));
        let all = list(WalkBuilder::new(root).standard_filters(false).build());
        let single: Vec<_> = all.into_iter().filter(|path| rules.admit(Path::new(path), false)).collect();
        assert_eq!(walked, single);
        walked
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn gitignore_hidden_files_and_leftovers_do_not_count() {
        let folder = folder(&[
            (".gitignore", "*.log\n/build/\n!keep.log\n"),
            ("a.txt", ""),
            ("a.txt~", ""),
            ("~$a.docx", ""),
            ("4913", ""),
            ("b.tmp", ""),
            ("c.pdf.crdownload", ""),
            (".hidden/a.txt", ""),
            ("x.log", ""),
            ("keep.log", ""),
            ("build/a.txt", ""),
            ("sub/build/a.txt", ""),
            ("sub/.gitignore", "secret*\n"),
            ("sub/secret.txt", ""),
            ("sub/deep/secret2.txt", ""),
            ("secret.txt", ""),
        ]);
        assert_eq!(admitted(folder.path(), &[]), ["a.txt", "keep.log", "secret.txt", "sub/build/a.txt"]);
    }

    #[test]
    fn the_owners_patterns_come_last() {
        let folder = folder(&[("a.tmp", ""), ("b.txt", ""), ("drafts/c.txt", ""), ("drafts/deep/d.txt", "")]);
        assert_eq!(admitted(folder.path(), &["drafts/", "!*.tmp"]), ["a.tmp", "b.txt"]);
    }

    #[test]
    fn bad_patterns_are_named() {
        for bad in ["a{b", "two\nlines"] {
            let error = check_patterns(&["*.log".into(), bad.into()]).unwrap_err();
            assert_eq!(
                (error.kind(), error.field()),
                (ErrorKind::InvalidArgument, Some("ignore[1]")),
                "{bad}"
            );
        }
        assert!(check_patterns(&vec!["a".into(); MAX_IGNORE_PATTERNS + 1]).is_err());
        assert!(check_patterns(&["x".repeat(MAX_IGNORE_PATTERN_BYTES + 1)]).is_err());
    }

    #[test]
    fn paths_outside_never_count() {
        let folder = folder(&[("a.txt", "")]);
        let rules = Rules::new(folder.path(), &[]).unwrap();
        assert!(!rules.admit(Path::new("/etc/passwd"), false));
    }
}
