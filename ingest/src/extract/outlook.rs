//! Messages that Outlook saved (.msg): the properties of MAPI in the streams of a compound file, as [MS-OXMSG] lays them
//! out. The compound file is read by `cfb`.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cfb::CompoundFile;
use encoding_rs::{Encoding, UTF_16LE, WINDOWS_1252};

use super::mail::{Attachment, Body, Letter};
use super::scope::Scope;
use super::{dates, decode, mail, rtf};
use crate::document::{ExtractedDocument, RawDocument};
use crate::error::{Error, Result};

/// The stream of fixed properties, which every message has.
const PROPERTIES: &str = "__properties_version1.0";
/// Most bytes of a property of text; bodies of real messages stay below a megabyte.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// Messages within messages that are opened.
const MAX_EMBEDDED: u32 = 2;
/// Most attachments of a message.
const MAX_ATTACHMENTS: usize = 1_000;
/// Bytes before the fixed properties: of a message, of one that is embedded, of an attachment.
const HEADER_OF_MESSAGE: usize = 32;
const HEADER_OF_EMBEDDED: usize = 24;

// Numbers of properties.
const MESSAGE_CLASS: u16 = 0x001a;
const SUBJECT: u16 = 0x0037;
const CLIENT_SUBMIT_TIME: u16 = 0x0039;
const SENDER_NAME: u16 = 0x0c1a;
const SENDER_ADDRESS: u16 = 0x0c1f;
const SENDER_SMTP_ADDRESS: u16 = 0x5d01;
const DISPLAY_CC: u16 = 0x0e03;
const DISPLAY_TO: u16 = 0x0e04;
const DELIVERY_TIME: u16 = 0x0e06;
const BODY: u16 = 0x1000;
const BODY_RTF: u16 = 0x1009;
const BODY_HTML: u16 = 0x1013;
const ATTACH_DATA: u16 = 0x3701;
const ATTACH_SHORT_NAME: u16 = 0x3704;
const ATTACH_LONG_NAME: u16 = 0x3707;
const ATTACH_TYPE: u16 = 0x370e;
const INTERNET_CODE_PAGE: u16 = 0x3fde;
const MESSAGE_CODE_PAGE: u16 = 0x3ffd;

type File<'a> = CompoundFile<Cursor<&'a [u8]>>;

/// Whether a compound file is a message.
pub(super) fn is_message(data: &[u8]) -> bool {
    CompoundFile::open(Cursor::new(data)).is_ok_and(|file| file.is_stream(Path::new("/").join(PROPERTIES)))
}

/// Reads a message.
pub(super) fn read(raw: &RawDocument, scope: &Scope) -> Result<ExtractedDocument> {
    let mut file = CompoundFile::open(Cursor::new(raw.data.as_ref()))
        .map_err(|error| Error::bad_content(format!("broken Outlook message: {error}")))?;
    let letter = Storage { file: &mut file, path: "/".into(), embedded: 0 }.letter(scope)?;
    drop(file);
    mail::compose(letter, raw, scope, "application/vnd.ms-outlook")
}

/// A message, or an attachment of one, in the compound file.
struct Storage<'a, 'b> {
    file: &'a mut File<'b>,
    path: PathBuf,
    embedded: u32,
}

impl Storage<'_, '_> {
    fn letter(&mut self, scope: &Scope) -> Result<Letter> {
        scope.deadline.check()?;
        let header = if self.embedded == 0 { HEADER_OF_MESSAGE } else { HEADER_OF_EMBEDDED };
        let fixed = self.stream(PROPERTIES, MAX_TEXT_BYTES)?.unwrap_or_default();
        let fixed = fixed.get(header..).unwrap_or_default();
        let pages = [MESSAGE_CODE_PAGE, INTERNET_CODE_PAGE];
        let encoding = pages.iter().find_map(|page| Some(code_page(fixed_value(fixed, *page)?)));
        let encoding = encoding.flatten().unwrap_or(WINDOWS_1252);
        if self.text(MESSAGE_CLASS, encoding)?.to_ascii_lowercase().starts_with("ipm.note.smime")
            && self.text(BODY, encoding)?.trim().is_empty()
        {
            return Err(Error::bad_content("the mail is encrypted"));
        }
        let times = [CLIENT_SUBMIT_TIME, DELIVERY_TIME];
        let recipients = |shown: String| {
            shown.split(';').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
        };
        Ok(Letter {
            subject: self.text(SUBJECT, encoding)?,
            from: self.sender(encoding)?,
            to: recipients(self.text(DISPLAY_TO, encoding)?),
            cc: recipients(self.text(DISPLAY_CC, encoding)?),
            date: times.iter().find_map(|time| dates::from_filetime(fixed_value(fixed, *time)?)),
            body: self.body(encoding, scope)?,
            attachments: self.attachments(encoding, scope)?,
        })
    }

    fn sender(&mut self, encoding: &'static Encoding) -> Result<Vec<String>> {
        let name = self.text(SENDER_NAME, encoding)?;
        let mut address = self.text(SENDER_SMTP_ADDRESS, encoding)?;
        if address.is_empty() {
            // Within an organisation the address is a path of its directory, which says nothing to readers.
            address = self.text(SENDER_ADDRESS, encoding)?;
            address = if address.contains('@') { address } else { String::new() };
        }
        Ok(match (name.is_empty(), address.is_empty()) {
            (true, true) => Vec::new(),
            (false, true) => vec![name],
            (true, false) => vec![address],
            (false, false) if name == address => vec![name],
            (false, false) => vec![format!("{name} <{address}>")],
        })
    }

    fn body(&mut self, encoding: &'static Encoding, scope: &Scope) -> Result<Body> {
        let plain = self.text(BODY, encoding)?;
        if !plain.trim().is_empty() {
            return Ok(Body::Plain(plain));
        }
        if let Some(html) = self.stream(&stream_name(BODY_HTML, 0x0102), MAX_TEXT_BYTES)? {
            return Ok(Body::Html(decode::decode_markup(&html).into_owned()));
        }
        let html = self.text(BODY_HTML, encoding)?;
        if !html.trim().is_empty() {
            return Ok(Body::Html(html));
        }
        let packed = self.stream(&stream_name(BODY_RTF, 0x0102), MAX_TEXT_BYTES)?;
        let unpacked = packed.and_then(|packed| rtf::decompress(&packed, scope.limits.max_text_bytes));
        Ok(unpacked.map_or(Body::None, |source| Body::Plain(rtf::plain_text(&source, scope))))
    }

    fn attachments(&mut self, encoding: &'static Encoding, scope: &Scope) -> Result<Vec<Attachment>> {
        let entries = self.file.read_storage(&self.path).map_err(|error| broken(&error))?;
        let storages: Vec<PathBuf> = entries
            .filter(|entry| entry.is_storage() && entry.name().starts_with("__attach_version1.0_"))
            .map(|entry| entry.path().to_owned())
            .take(MAX_ATTACHMENTS)
            .collect();
        let mut found = Vec::new();
        for (index, path) in storages.into_iter().enumerate() {
            scope.deadline.check()?;
            let mut storage = Storage { file: &mut *self.file, path, embedded: self.embedded };
            let name = storage.attachment_name(encoding, index)?;
            let media_type = storage.text(ATTACH_TYPE, encoding)?;
            let most = scope.limits.max_source_bytes as u64;
            if let Some(data) = storage.stream(&stream_name(ATTACH_DATA, 0x0102), most)? {
                found.push(Attachment { name, media_type, data: Bytes::from(data) });
            } else if let Some(letter) = storage.embedded_letter(scope)? {
                found.push(Attachment { name, media_type: "text/plain".into(), data: letter.into() });
            }
        }
        Ok(found)
    }

    fn attachment_name(&mut self, encoding: &'static Encoding, index: usize) -> Result<String> {
        for property in [ATTACH_LONG_NAME, ATTACH_SHORT_NAME] {
            let name = self.text(property, encoding)?;
            if !name.trim().is_empty() {
                return Ok(name.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
        Ok(format!("attachment {}", index + 1))
    }

    /// A message that is attached as such, as text.
    fn embedded_letter(&mut self, scope: &Scope) -> Result<Option<String>> {
        let path = self.path.join(stream_name(ATTACH_DATA, 0x000d));
        if self.embedded >= MAX_EMBEDDED || !self.file.is_storage(&path) {
            return Ok(None);
        }
        let letter = Storage { file: &mut *self.file, path, embedded: self.embedded + 1 }.letter(scope)?;
        let body = match letter.body {
            Body::None => String::new(),
            Body::Plain(text) => text,
            Body::Html(html) => super::html::read(&html, &scope.limits)?.text,
        };
        let (from, to) = (letter.from.join(", "), letter.to.join(", "));
        Ok(Some(format!("From: {from}\nTo: {to}\nSubject: {}\n\n{body}", letter.subject)))
    }

    /// A property of text: UTF-16, or in the message's code page.
    fn text(&mut self, property: u16, encoding: &'static Encoding) -> Result<String> {
        let wide = self.stream(&stream_name(property, 0x001f), MAX_TEXT_BYTES)?;
        let text = match wide {
            Some(wide) => UTF_16LE.decode_without_bom_handling(&wide).0.into_owned(),
            None => {
                let narrow = self.stream(&stream_name(property, 0x001e), MAX_TEXT_BYTES)?.unwrap_or_default();
                encoding.decode_without_bom_handling(&narrow).0.into_owned()
            }
        };
        Ok(text.trim_end_matches('\0').trim().to_owned())
    }

    /// The bytes of a stream; `None` when there is none.
    fn stream(&mut self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        if !self.file.is_stream(&path) {
            return Ok(None);
        }
        let mut data = Vec::new();
        let stream = self.file.open_stream(&path).map_err(|error| broken(&error))?;
        let length = stream.len();
        if length > most {
            return Err(super::limits::exhausted(format!(
                "{length} bytes in one property; at most {most} are read"
            )));
        }
        // A stream that ends early gives what it has.
        let _ = stream.take(most).read_to_end(&mut data);
        Ok(Some(data))
    }
}

fn stream_name(property: u16, kind: u16) -> String {
    format!("__substg1.0_{property:04X}{kind:04X}")
}

/// The value of a property in the stream of fixed ones: entries of sixteen bytes, type, number, flags, value.
fn fixed_value(entries: &[u8], property: u16) -> Option<u64> {
    let (entries, _) = entries.as_chunks::<16>();
    let entry = entries.iter().find(|entry| entry[2..4] == property.to_le_bytes())?;
    let (_, value) = entry.split_last_chunk::<8>()?;
    Some(u64::from_le_bytes(*value))
}

/// The encoding of a Windows code page.
fn code_page(page: u64) -> Option<&'static Encoding> {
    // The upper half of the value is not part of the number.
    let label = match page & 0xffff {
        65_001 => "utf-8".to_owned(),
        932 => "shift_jis".to_owned(),
        936 => "gbk".to_owned(),
        949 => "euc-kr".to_owned(),
        950 => "big5".to_owned(),
        20_866 => "koi8-r".to_owned(),
        28_591..=28_606 => format!("iso-8859-{}", (page & 0xffff) - 28_590),
        page => format!("windows-{page}"),
    };
    Encoding::for_label(label.as_bytes())
}

fn broken(error: &std::io::Error) -> Error {
    Error::bad_content(format!("broken Outlook message: {error}"))
}
