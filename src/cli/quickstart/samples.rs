//! The sample documents, carried by the binary, and how they come into a folder.

use std::path::{Path, PathBuf};

use crate::cli::failure::{Failure, Outcome};

macro_rules! samples {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../samples/", $name)))),*]
    };
}

/// Name and content.
const SAMPLES: &[(&str, &[u8])] = samples![
    "beekeeping.md",
    "bicycle-care.html",
    "coffee-manual.pdf",
    "durability.txt",
    "graph-search.md",
    "hybrid-retrieval.html",
    "incident-report.md",
    "release-checklist.md",
    "telescope-notes.txt",
    "travel-policy.docx",
];

/// Writes the samples into a folder below the data directory, where that folder isn't there yet: what a user changed or
/// deleted in it stays so. Returns its absolute path.
pub(super) fn write(data_dir: &Path) -> Outcome<PathBuf> {
    let folder = data_dir.join("samples");
    if !folder.exists() {
        // Under another name first, so that a stopped start doesn't leave half of them.
        let unfinished = data_dir.join("samples.unfinished");
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished).map_err(|error| at(&unfinished, &error))?;
        }
        std::fs::create_dir_all(&unfinished).map_err(|error| at(&unfinished, &error))?;
        for (name, content) in SAMPLES {
            let path = unfinished.join(name);
            std::fs::write(&path, content).map_err(|error| at(&path, &error))?;
        }
        std::fs::rename(&unfinished, &folder).map_err(|error| at(&folder, &error))?;
    }
    folder.canonicalize().map_err(|error| at(&folder, &error))
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn samples_are_written_once_and_then_belong_to_the_user() {
        let data = tempfile::tempdir().unwrap();
        let folder = write(data.path()).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), SAMPLES.len());
        std::fs::write(folder.join("durability.txt"), "mine").unwrap();
        std::fs::remove_file(folder.join("beekeeping.md")).unwrap();
        assert_eq!(write(data.path()).unwrap(), folder);
        assert_eq!(std::fs::read_to_string(folder.join("durability.txt")).unwrap(), "mine");
        assert!(!folder.join("beekeeping.md").exists());
    }

    #[test]
    fn a_stopped_first_start_is_repaired() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("samples.unfinished")).unwrap();
        std::fs::write(data.path().join("samples.unfinished/half"), "").unwrap();
        let folder = write(data.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), SAMPLES.len());
    }

    #[test]
    fn every_sample_of_the_repository_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".py") && name != "README.md")
            .collect();
        names.sort();
        assert_eq!(names, SAMPLES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
