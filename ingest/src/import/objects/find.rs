//! Which objects a URL means: one, those of a folder, or those that match a pattern. The rules are those of local paths.

use std::path::Path as LocalPath;
use std::sync::Arc;

use futures::TryStreamExt as _;
use ignore::overrides::{Override, OverrideBuilder};
use object_store::path::{Path, PathPart};
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _};

use super::Object;
use super::keys::{self, Keys};
use super::store::{Store, Stores};
use crate::error::{Error, ErrorKind, Result};
use crate::import::location::ObjectUrl;
use crate::import::plan::format_of;
use crate::import::{ImportFormat, MAX_FILES};

/// Most objects and folders that are looked at for one URL.
const MAX_LISTED: usize = 1_000_000;

/// An object and how it is written.
#[derive(Debug)]
pub(in crate::import) struct Found {
    pub url: String,
    /// Or why it can't be had.
    pub object: std::result::Result<Arc<Object>, String>,
    pub format: ImportFormat,
}

/// The objects of a URL, in order of their keys. Blocking. `at` names the URL in errors.
pub(in crate::import) fn find(
    stores: &mut Stores,
    url: &ObjectUrl,
    format: Option<ImportFormat>,
    at: &str,
) -> Result<Vec<Found>> {
    let store = stores.open(url).map_err(|error| error.at(at))?;
    let search = Search { store: &store, format, at };
    store.left_out.take();
    let metas = store.wait(search.find(&url.key)).map_err(|error| match error.field() {
        None => error.at(at),
        Some(_) => error,
    })?;
    let object = |(meta, format): (ObjectMeta, ImportFormat)| {
        let url = store.url(meta.location.as_ref());
        Found { url, object: Ok(Arc::new(Object { store: Arc::clone(&store), meta })), format }
    };
    let mut found: Vec<Found> = metas.into_iter().map(object).collect();
    found.extend(unreachable(&store, format));
    found.sort_by(|a, b| a.url.cmp(&b.url));
    Ok(found)
}

/// What the listings of a search named and can't be asked for, as far as it would be read. A folder among them may hold
/// anything.
fn unreachable(store: &Store, wanted: Option<ImportFormat>) -> Vec<Found> {
    let Keys { objects, folders } = store.left_out.take();
    let objects = objects.into_iter().filter_map(|key| {
        let known = format_of(LocalPath::new(key.trim_end_matches('/')))?;
        wanted.is_none_or(|wanted| wanted == known).then_some((key, known))
    });
    let folders = folders.into_iter().map(|key| (key, wanted.unwrap_or(ImportFormat::Parquet)));
    let found = |(key, format): (String, ImportFormat)| {
        let why = keys::path(&key).err().unwrap_or("its key has a character for private use");
        Found { url: store.url(&key), object: Err(why.to_owned()), format }
    };
    objects.chain(folders).map(found).collect()
}

struct Search<'a> {
    store: &'a Store,
    format: Option<ImportFormat>,
    at: &'a str,
}

impl Search<'_> {
    async fn find(&self, key: &str) -> Result<Vec<(ObjectMeta, ImportFormat)>> {
        if is_pattern(key) {
            let found = self.matching(key).await?;
            if !found.is_empty() {
                return self.tagged(found).await;
            }
        }
        // A key may have the characters of a pattern.
        if !key.is_empty() && !key.ends_with('/') {
            match self.store.inner.head(&self.path(key)?).await {
                Ok(meta) => return Ok(vec![(meta, self.format_of_named(key)?)]),
                Err(object_store::Error::NotFound { .. }) if is_pattern(key) => return Ok(Vec::new()),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.store.error(key, &error)),
            }
        }
        self.folder(key).await
    }

    /// Objects of known formats right under a prefix.
    async fn folder(&self, key: &str) -> Result<Vec<(ObjectMeta, ImportFormat)>> {
        let prefix = self.path(key.strip_suffix('/').unwrap_or(key))?;
        let listed = self.leaves(&prefix).await?;
        if listed.objects.is_empty() && listed.common_prefixes.is_empty() {
            let message = format!(
                "{} is not there: expected an object, a folder with .parquet, .arrow, .jsonl or .ndjson, or a pattern",
                self.store.url(key)
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let known = |meta: ObjectMeta| {
            let known = format_of(LocalPath::new(meta.location.as_ref()))?;
            self.format.is_none_or(|wanted| wanted == known).then_some((meta, known))
        };
        self.tagged(listed.objects.into_iter().filter_map(known).collect()).await
    }

    /// Objects whose key matches. What comes before the first special character is not searched.
    async fn matching(&self, key: &str) -> Result<Vec<(ObjectMeta, ImportFormat)>> {
        let parts: Vec<&str> = key.split('/').collect();
        let plain = parts.iter().take_while(|part| !is_pattern(part)).count();
        let base = self.path(&parts.get(..plain).unwrap_or_default().join("/"))?;
        let rest = parts.get(plain..).unwrap_or_default();
        let matching = self.matcher(&rest.join("/"))?;
        let metas = if rest.contains(&"**") {
            self.below(&base, &matching).await?
        } else {
            self.level_by_level(base.clone(), rest, &matching).await?
        };
        let chosen = metas.into_iter().filter_map(|meta| {
            let chosen = match (self.format, format_of(LocalPath::new(meta.location.as_ref()))) {
                (None, known) => known,
                (Some(wanted), None) => Some(wanted),
                (Some(wanted), Some(known)) => (wanted == known).then_some(wanted),
            };
            chosen.map(|format| (meta, format))
        });
        Ok(chosen.collect())
    }

    fn matcher(&self, pattern: &str) -> Result<Override> {
        let wrong = |error: &dyn std::fmt::Display| {
            Error::invalid(self.at, format!("{}: {error}", self.store.url(pattern)))
        };
        // A folder that does not exist: only names are compared.
        let mut matching = OverrideBuilder::new("");
        matching.add(&format!("/{pattern}")).map_err(|error| wrong(&error))?;
        matching.build().map_err(|error| wrong(&error))
    }

    /// All objects under a prefix that match: the way for patterns with `**`.
    async fn below(&self, base: &Path, matching: &Override) -> Result<Vec<ObjectMeta>> {
        let mut listing = self.store.inner.list(Some(base));
        let (mut found, mut seen) = (Vec::new(), 0);
        while let Some(mut meta) = listing.try_next().await.map_err(|error| self.unlisted(base, &error))? {
            seen += 1;
            self.bound(seen)?;
            meta.location = keys::unmarked(meta.location);
            if found.len() <= MAX_FILES && matches(matching, base, &meta.location) {
                found.push(meta);
            }
        }
        Ok(found)
    }

    /// Goes down only where a folder matches, so that the rest of the bucket is not listed.
    async fn level_by_level(
        &self,
        base: Path,
        parts: &[&str],
        matching: &Override,
    ) -> Result<Vec<ObjectMeta>> {
        let Some((_, folders)) = parts.split_last() else { return Ok(Vec::new()) };
        let (mut level, mut seen) = (vec![base.clone()], 0);
        for part in folders {
            let this = self.matcher(part)?;
            let mut next = Vec::new();
            for folder in &level {
                if !is_pattern(part) {
                    let part = PathPart::parse(part)
                        .map_err(|error| Error::invalid(self.at, format!("{part:?}: {error}")))?;
                    next.push(folder.clone().join(part));
                    continue;
                }
                let listed = self.list(folder).await?;
                seen += listed.common_prefixes.len();
                self.bound(seen)?;
                next.extend(
                    listed.common_prefixes.into_iter().filter(|prefix| matches(&this, folder, prefix)),
                );
            }
            level = next;
        }
        let mut found = Vec::new();
        for folder in &level {
            let listed = self.leaves(folder).await?;
            seen += listed.objects.len();
            self.bound(seen)?;
            found.extend(listed.objects.into_iter().filter(|meta| matches(matching, &base, &meta.location)));
            if found.len() > MAX_FILES {
                break;
            }
        }
        Ok(found)
    }

    /// As [`Self::list`], for who doesn't go further down: the folders there are of no interest, whatever their names.
    async fn leaves(&self, folder: &Path) -> Result<object_store::ListResult> {
        let before = self.store.left_out.folders();
        let listed = self.list(folder).await;
        self.store.left_out.set_folders(before);
        listed
    }

    async fn list(&self, folder: &Path) -> Result<object_store::ListResult> {
        let listed = self.store.inner.list_with_delimiter(Some(folder)).await;
        let mut listed = listed.map_err(|error| self.unlisted(folder, &error))?;
        for path in
            listed.common_prefixes.iter_mut().chain(listed.objects.iter_mut().map(|meta| &mut meta.location))
        {
            *path = keys::unmarked(std::mem::take(path));
        }
        Ok(listed)
    }

    /// A store whose listing has no tags is asked for each object, so that a changed one is known as such.
    async fn tagged(
        &self,
        mut found: Vec<(ObjectMeta, ImportFormat)>,
    ) -> Result<Vec<(ObjectMeta, ImportFormat)>> {
        for (meta, _) in found.iter_mut().filter(|(meta, _)| meta.e_tag.is_none()).take(MAX_FILES) {
            *meta = self
                .store
                .inner
                .head(&meta.location)
                .await
                .map_err(|error| self.store.error(meta.location.as_ref(), &error))?;
        }
        Ok(found)
    }

    fn path(&self, key: &str) -> Result<Path> {
        keys::path(key).map_err(|why| Error::invalid(self.at, format!("{}: {why}", self.store.url(key))))
    }

    fn format_of_named(&self, key: &str) -> Result<ImportFormat> {
        self.format.or_else(|| format_of(LocalPath::new(key))).ok_or_else(|| {
            let message =
                format!("{}: expected .parquet, .arrow, .jsonl or .ndjson, or a format", self.store.url(key));
            Error::invalid(self.at, message)
        })
    }

    fn bound(&self, seen: usize) -> Result<()> {
        if seen <= MAX_LISTED {
            return Ok(());
        }
        let message =
            format!("more than {MAX_LISTED} objects to look through: name a folder before the first * or ?");
        Err(Error::new(ErrorKind::ResourceExhausted, message).at(self.at))
    }

    /// A listing that fails means the bucket, not a key.
    fn unlisted(&self, folder: &Path, error: &object_store::Error) -> Error {
        let error = self.store.error(folder.as_ref(), error);
        match error.kind() {
            ErrorKind::NotFound => {
                let message = format!("{}: there is no such bucket ({})", self.store.base, error.message());
                Error::new(ErrorKind::NotFound, message)
            }
            _ => error,
        }
    }
}

fn is_pattern(key: &str) -> bool {
    key.contains(['*', '?', '['])
}

fn matches(matching: &Override, base: &Path, key: &Path) -> bool {
    let rest = key.as_ref().strip_prefix(base.as_ref()).unwrap_or_default();
    matching.matched(rest.strip_prefix('/').unwrap_or(rest), false).is_whitelist()
}
