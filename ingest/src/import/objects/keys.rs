//! Keys that are no paths. A store takes almost any text for a key; the client library takes those for none that have empty
//! parts (`a//b`), dots for parts, or control characters, and refuses a whole listing for one of them. So listings are
//! read before the library reads them: empty parts get a mark in their place, which [`path`] takes out again, and what can't be
//! asked for at all is taken out and remembered.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::path::{Path, PathPart};
use parking_lot::Mutex;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

/// Stands for an empty part: a character for private use, which no sensible key has.
const EMPTY: &str = "\u{E000}";
/// Most keys that are remembered.
const MAX_LEFT_OUT: usize = 1_000;

/// Keys of listings that can't be asked for. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOut(Arc<Mutex<Keys>>);

/// What was left out of listings.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub objects: BTreeSet<String>,
    /// With a slash at the end.
    pub folders: BTreeSet<String>,
}

impl LeftOut {
    /// Those since the last call.
    pub fn take(&self) -> Keys {
        std::mem::take(&mut *self.0.lock())
    }

    /// The folders so far.
    pub fn folders(&self) -> BTreeSet<String> {
        self.0.lock().folders.clone()
    }

    /// Puts others in their place.
    pub fn set_folders(&self, folders: BTreeSet<String>) {
        self.0.lock().folders = folders;
    }

    fn add(&self, key: String, is_folder: bool) {
        let mut keys = self.0.lock();
        let keys = if is_folder { &mut keys.folders } else { &mut keys.objects };
        if keys.len() < MAX_LEFT_OUT {
            keys.insert(key);
        }
    }
}

/// The path of a key, or of a marked one; in words, why there is none.
pub(super) fn path(key: &str) -> Result<Path, &'static str> {
    if key.starts_with('/') {
        return Err("its key begins with a slash, which can't be asked for");
    }
    let mut path = Path::default();
    if key.is_empty() {
        return Ok(path);
    }
    for part in key.split('/') {
        let part = if part == EMPTY { "" } else { part };
        let part = PathPart::parse(part)
            .map_err(|_| "its key has a part of dots, or a control character, which can't be asked for")?;
        path = path.join(part);
    }
    Ok(path)
}

/// A path of a listing without marks.
pub(super) fn unmarked(path: Path) -> Path {
    if path.as_ref().contains(EMPTY) { self::path(path.as_ref()).unwrap_or(path) } else { path }
}

/// Reads listings before the library does.
#[derive(Debug)]
pub(super) struct Connector {
    left_out: LeftOut,
}

impl Connector {
    pub fn new(left_out: LeftOut) -> Self {
        Self { left_out }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Listings { client, left_out: self.left_out.clone() }))
    }
}

#[derive(Debug)]
struct Listings {
    client: HttpClient,
    left_out: LeftOut,
}

#[async_trait]
impl HttpService for Listings {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asks_for_list = |part: &str| part == "list-type=2" || part == "comp=list";
        let is_list = request.uri().query().is_some_and(|query| query.split('&').any(asks_for_list));
        let response = self.client.execute(request).await?;
        if !is_list || !response.status().is_success() {
            return Ok(response);
        }
        // The library reads it whole, too.
        let (mut parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let rewritten = std::str::from_utf8(&body).ok().and_then(|xml| rewrite(xml, &self.left_out));
        let body = match rewritten {
            Some(rewritten) => {
                parts.headers.remove("content-length");
                HttpResponseBody::from(rewritten)
            }
            None => HttpResponseBody::from(body),
        };
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// What a listing says of an object, or of a folder.
#[derive(Debug, Default)]
struct Entry {
    start: usize,
    is_folder: bool,
    key: String,
    /// Where the key stands.
    place: Option<Range<usize>>,
    size: String,
    field: Field,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Field {
    Key,
    Size,
    #[default]
    Other,
}

/// What becomes of an entry.
enum Verdict {
    Keep,
    Mark(String),
    Drop,
}

/// A listing that the library can read; `None`: it is one already, or none that is understood.
fn rewrite(xml: &str, left_out: &LeftOut) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let at = |reader: &quick_xml::Reader<&[u8]>| usize::try_from(reader.buffer_position()).ok();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut open: Option<Entry> = None;
    loop {
        let start = at(&reader)?;
        match reader.read_event().ok()? {
            Event::Eof => break,
            Event::Start(tag) => {
                let name = tag.local_name();
                let name = name.as_ref();
                match &mut open {
                    None => {
                        let is_folder = matches!(name, "CommonPrefixes" | "BlobPrefix");
                        if is_folder || matches!(name, "Contents" | "Blob") {
                            open = Some(Entry { start, is_folder, ..Entry::default() });
                        }
                    }
                    Some(entry) => {
                        entry.field = entry.field_of(name);
                        if entry.field == Field::Key {
                            let begin = at(&reader)?;
                            entry.place = Some(begin..begin);
                        }
                    }
                }
            }
            Event::Text(text) => {
                if let Some(entry) = &mut open {
                    entry.characters(&text.xml10_content());
                }
            }
            Event::GeneralRef(reference) => {
                if let Some(entry) = &mut open {
                    match resolve_xml_entity(&reference.xml10_content()) {
                        Some(known) => entry.characters(known),
                        None => {
                            let character = reference.resolve_char_ref().ok().flatten()?;
                            entry.characters(character.encode_utf8(&mut [0; 4]));
                        }
                    }
                }
            }
            Event::End(tag) => {
                let name = tag.local_name();
                let Some(entry) = &mut open else { continue };
                if std::mem::take(&mut entry.field) == Field::Key
                    && let Some(place) = &mut entry.place
                {
                    place.end = start;
                }
                if matches!(name.as_ref(), "Contents" | "Blob" | "CommonPrefixes" | "BlobPrefix") {
                    let entry = open.take()?;
                    match entry.verdict(left_out) {
                        Verdict::Keep => {}
                        Verdict::Mark(key) => edits.push((entry.place?, escaped(&key))),
                        Verdict::Drop => edits.push((entry.start..at(&reader)?, String::new())),
                    }
                }
            }
            _ => {}
        }
    }
    if edits.is_empty() {
        return None;
    }
    let (mut out, mut end) = (String::with_capacity(xml.len()), 0);
    for (place, text) in edits {
        out.push_str(xml.get(end..place.start)?);
        out.push_str(&text);
        end = place.end;
    }
    out.push_str(xml.get(end..)?);
    Some(out)
}

impl Entry {
    fn field_of(&self, name: &str) -> Field {
        let key = if self.is_folder { ["Prefix", "Name"] } else { ["Key", "Name"] };
        match name {
            name if key.contains(&name) && self.place.is_none() => Field::Key,
            "Size" | "Content-Length" => Field::Size,
            _ => Field::Other,
        }
    }

    fn characters(&mut self, text: &str) {
        match self.field {
            Field::Key => self.key.push_str(text),
            Field::Size => self.size.push_str(text),
            Field::Other => {}
        }
    }

    fn verdict(&self, left_out: &LeftOut) -> Verdict {
        // The slash that ends a folder's name belongs to no part of it.
        let key = if self.is_folder { self.key.strip_suffix('/').unwrap_or(&self.key) } else { &self.key };
        // What programs put where a folder is, so that it shows.
        if !self.is_folder && key.ends_with('/') && self.size.trim() == "0" {
            return Verdict::Drop;
        }
        if key.contains(EMPTY) || key.is_empty() || path(key).is_err() {
            left_out.add(self.key.clone(), self.is_folder);
            return Verdict::Drop;
        }
        if key.split('/').all(|part| !part.is_empty()) {
            return Verdict::Keep;
        }
        let parts: Vec<&str> =
            key.split('/').map(|part| if part.is_empty() { EMPTY } else { part }).collect();
        let end = if self.is_folder { "/" } else { "" };
        Verdict::Mark(parts.join("/") + end)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn object(key: &str, size: u64) -> String {
        format!("<Contents><Key>{key}</Key><Size>{size}</Size><Owner><ID>x</ID></Owner></Contents>")
    }

    fn folder(prefix: &str) -> String {
        format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>")
    }

    fn listing(entries: &[String]) -> String {
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult><Prefix>a//</Prefix>{}</ListBucketResult>",
            entries.concat()
        )
    }

    #[test]
    fn paths_keep_empty_parts_and_nothing_is_changed_on_the_way() {
        for key in ["a", "a/b.parquet", "a//b", "a///b", "a/", "a b/c~d[1]%20.pq", "ü/&"] {
            assert_eq!(path(key).unwrap().as_ref(), key);
        }
        assert_eq!(path(&format!("a/{EMPTY}/b")).unwrap().as_ref(), "a//b");
        assert_eq!(path("").unwrap(), Path::default());
        for key in ["/a", "//a", "a/../b", "./a", "a/.", "a\nb", "a\u{7f}"] {
            assert!(path(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn a_listing_without_odd_keys_stays_as_it_is() {
        let left_out = LeftOut::default();
        let plain = listing(&[object("a/b &amp; c.parquet", 7), folder("a/d/")]);
        assert_eq!(rewrite(&plain, &left_out), None);
        assert_eq!(rewrite("no listing", &left_out), None);
        assert_eq!(rewrite("<Contents><Key>a//b</Key>", &left_out), None, "it is cut off");
        assert!(left_out.take().objects.is_empty());
    }

    #[test]
    fn odd_keys_are_marked_or_taken_out_and_told() {
        let left_out = LeftOut::default();
        let odd = listing(&[
            object("a//b &amp; c.parquet", 7),
            object("a/plain.parquet", 7),
            object("a/marker.parquet/", 0),
            object("a/full.parquet/", 5),
            object("a/../x.parquet", 5),
            object("/y.parquet", 5),
            object("a/&#10;.parquet", 5),
            folder("a//"),
            folder("a/d/"),
            folder("a/../"),
        ]);
        let expect = listing(&[
            object(&format!("a/{EMPTY}/b &amp; c.parquet"), 7),
            object("a/plain.parquet", 7),
            object(&format!("a/full.parquet/{EMPTY}"), 5),
            folder(&format!("a/{EMPTY}/")),
            folder("a/d/"),
        ]);
        assert_eq!(rewrite(&odd, &left_out), Some(expect));
        let keys = left_out.take();
        assert_eq!(
            keys.objects.into_iter().collect::<Vec<_>>(),
            ["/y.parquet", "a/\n.parquet", "a/../x.parquet"]
        );
        assert_eq!(keys.folders.into_iter().collect::<Vec<_>>(), ["a/../"]);
        assert!(left_out.take().objects.is_empty());

        let blob = |name: &str| {
            format!(
                "<Blob><Name>{name}</Name><Properties><Content-Length>3</Content-Length></Properties>\
                     <Tags><Tag><Key>k//v</Key></Tag></Tags></Blob>"
            )
        };
        let azure = |names: &[String]| {
            let blobs: String = names.iter().map(|name| blob(name)).collect();
            format!(
                "<EnumerationResults><Blobs>{blobs}<BlobPrefix><Name>a/b/</Name></BlobPrefix></Blobs></EnumerationResults>"
            )
        };
        let expect = azure(&["a/b".into(), format!("a/{EMPTY}/b")]);
        assert_eq!(rewrite(&azure(&["a/b".into(), "a//b".into()]), &left_out), Some(expect));
    }
}
