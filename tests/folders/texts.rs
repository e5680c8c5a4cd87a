//! Files that are made up, and what a reader may see of them.

use std::fs;
use std::path::Path;

use rand::Rng;
use rand::rngs::StdRng;

/// Sections of a long file; each makes one chunk.
pub(crate) const SECTIONS: usize = 8;
/// Words of a section: more than the chunker joins, fewer than the embedder reads.
const SECTION_WORDS: usize = 90;

/// Which edits a long file has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Edit {
    /// Of one paragraph in the middle.
    pub paragraph: u32,
    /// Of the first and the last section together.
    pub generation: u32,
}

/// Name of a long file.
pub(crate) fn name(file: usize) -> String {
    format!("long{file}.md")
}

/// A long file: sections of words that no other section has.
pub(crate) fn long(file: usize, edit: Edit) -> String {
    let mut text = format!("# File {file}\n");
    for section in 0..SECTIONS {
        text.push_str(&format!("\n## Section {section}\n\n"));
        if section == 0 || section == SECTIONS - 1 {
            text.push_str(&format!("generation{} ", edit.generation));
        }
        if section == SECTIONS / 2 {
            // Not of the same length: what follows moves in the file.
            text.push_str(&format!("edited{} ", "1".repeat(edit.paragraph as usize)));
        }
        for word in 0..SECTION_WORDS {
            text.push_str(if word % 3 == 0 { "stone " } else { "water " });
            if word % 10 == 0 {
                text.push_str(&format!("f{file}s{section}w{word} "));
            }
        }
        text.push('\n');
    }
    text
}

/// The chunks of a document are those of one version of the file.
pub(crate) fn check_whole(chunks: &[String]) {
    let generation = |text: &String| {
        let at = text.find("generation").unwrap_or_else(|| panic!("no generation in {text:?}"));
        text[at..].split_whitespace().next().unwrap().to_owned()
    };
    let (first, last) = (generation(&chunks[0]), generation(&chunks[chunks.len() - 1]));
    assert_eq!(first, last, "a half-replaced document");
}

/// Short files in some folders.
pub(crate) fn make(folder: &Path, files: usize, rng: &mut StdRng) {
    for file in 0..files {
        let sub = folder.join(format!("sub{}", file % 7));
        fs::create_dir_all(&sub).unwrap();
        let mut text = format!("# Note {file}\n");
        for section in 0..rng.random_range(1..4) {
            text.push_str(&format!("\n## Part {section}\n\n"));
            for word in 0..80 {
                text.push_str(&format!("{} ", ["stone", "water", "light", "paper"][rng.random_range(0..4)]));
                if word % 20 == 0 {
                    text.push_str(&format!("f{file}s{section}w{word} "));
                }
            }
            text.push('\n');
        }
        fs::write(sub.join(format!("note{file}.md")), text).unwrap();
    }
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
