//! The file that a source's passwords stand in. Only its path is kept with the source: what is stored, listed, exported or
//! copied into a backup can't give a password away, and a password is changed where it stands.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::FolderSource;
use super::job::run_blocking;
use super::survey::reason;
use crate::document::{IngestOptions, Passwords};
use crate::error::{Error, ErrorKind, Result};

/// Largest file of passwords, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// Longest path of one, in bytes.
const MAX_PATH_BYTES: usize = 4_096;
const FIELD: &str = "password_file";

/// # Errors
/// `InvalidArgument` on `password_file` when the path is relative or too long.
pub(super) fn check_path(path: &Path) -> Result<()> {
    if !path.is_absolute() || path.as_os_str().len() > MAX_PATH_BYTES {
        let message = format!("expected an absolute path of at most {MAX_PATH_BYTES} bytes");
        return Err(Error::invalid(FIELD, message));
    }
    Ok(())
}

/// The options of a source with the passwords of its file, as that is now.
///
/// # Errors
/// `Unavailable` on `password_file` when the file can't be read or used. Reading on without would make something else of what
/// is encrypted.
pub(super) async fn options(source: &FolderSource) -> Result<Arc<IngestOptions>> {
    let mut options = source.options.clone();
    if let Some(path) = source.password_file.clone() {
        let passwords = run_blocking(move || read(&path)).await?;
        options.passwords = options.passwords.and(&passwords).map_err(|error| error.at(FIELD))?;
    }
    Ok(Arc::new(options))
}

/// What stands in the file is no part of any message.
fn read(path: &PathBuf) -> Result<Passwords> {
    let unusable = |what: &str| {
        let message = format!("the passwords in {} can't be read: {what}", path.display());
        Error::new(ErrorKind::Unavailable, message).at(FIELD)
    };
    let mut data = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| unusable(&reason(&error)))?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut data).map_err(|error| unusable(&reason(&error)))?;
    if data.len() as u64 > MAX_FILE_BYTES {
        return Err(unusable(&format!("more than {MAX_FILE_BYTES} bytes")));
    }
    let text = String::from_utf8(data).map_err(|_| unusable("it is not UTF-8"))?;
    Passwords::from_lines(&text).map_err(|error| unusable(error.message()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn a_file_gives_its_lines_and_tells_nothing_of_them_when_it_is_unusable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        let mut source = FolderSource::new("c", folder.path(), Vec::new()).unwrap();
        source.options.passwords = Passwords::new(vec!["first".into()]).unwrap();
        source.password_file = Some(path.clone());
        let error = options(&source).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unavailable, Some(FIELD)));

        std::fs::write(&path, "open sesame\r\n\n two words \n").unwrap();
        let read = options(&source).await.unwrap();
        assert_eq!(read.passwords.iter().collect::<Vec<_>>(), ["first", "open sesame", " two words "]);
        assert_eq!((read.passwords.len(), source.options.passwords.len()), (3, 1));

        let many = "secret\n".repeat(Passwords::MAX);
        let long = "secret".repeat(1_000);
        for bad in [many.as_bytes(), long.as_bytes(), b"secret\xff", &vec![b'\n'; 70_000]] {
            std::fs::write(&path, bad).unwrap();
            let error = options(&source).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
        for bad in ["", "relative", &format!("/{}", "x".repeat(MAX_PATH_BYTES))] {
            assert_eq!(check_path(Path::new(bad)).unwrap_err().field(), Some(FIELD));
        }
    }
}
