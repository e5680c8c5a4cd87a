//! Mail (RFC 5322 and MIME, mbox) through mail-parser: the visible headers, the body, and each attachment as a part.

use bytes::Bytes;
use mail_parser::mailbox::mbox::MessageIterator;
use mail_parser::{Address, MessageParser, MimeHeaders, PartType};

use super::members::Members;
use super::scope::Scope;
use super::{dates, decode, html};
use crate::document::{ExtractedDocument, Properties, RawDocument};
use crate::error::{Error, Result};

/// Most recipients of a kind that are written out.
const MAX_RECIPIENTS: usize = 100;

/// A mail, of whatever format.
#[derive(Debug, Default)]
pub(super) struct Letter {
    pub subject: String,
    pub from: Vec<String>,
    pub to: Vec<String>,
    pub cc: Vec<String>,
    /// RFC 3339.
    pub date: Option<String>,
    pub body: Body,
    pub attachments: Vec<Attachment>,
}

/// What a mail says.
#[derive(Debug, Default)]
pub(super) enum Body {
    #[default]
    None,
    Plain(String),
    Html(String),
}

/// What comes with a mail.
#[derive(Debug)]
pub(super) struct Attachment {
    pub name: String,
    pub media_type: String,
    pub data: Bytes,
}

impl Attachment {
    /// Whether it holds the encrypted body of the mail.
    fn is_sealed(&self) -> bool {
        let sealed = ["application/pgp-encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"];
        sealed.iter().any(|media_type| media_type.eq_ignore_ascii_case(&self.media_type))
            || self.data.starts_with(b"-----BEGIN PGP MESSAGE-----")
            || self.name.to_ascii_lowercase().ends_with(".p7m")
    }
}

/// Reads a mail.
pub(super) fn read(raw: &RawDocument, scope: &Scope) -> Result<ExtractedDocument> {
    // Mails are ASCII with other encodings inside; one that was saved as wide text has to become narrow first.
    let narrow = decode::wide(&raw.data).map(|_| decode::decode_text(&raw.data).into_owned().into_bytes());
    let data = narrow.as_deref().unwrap_or(&raw.data);
    let message = MessageParser::default().parse(data);
    let message = message.ok_or_else(|| Error::bad_content("broken mail: no headers"))?;
    let is_type = |wanted: &str| {
        message.content_type().is_some_and(|found| {
            let found = format!("{}/{}", found.ctype(), found.subtype().unwrap_or_default());
            found.eq_ignore_ascii_case(wanted)
        })
    };
    if is_type("multipart/encrypted") || is_type("application/pkcs7-mime") {
        return Err(Error::bad_content("the mail is encrypted"));
    }
    let letter = Letter {
        subject: message.subject().unwrap_or_default().to_owned(),
        from: addresses(message.from()),
        to: addresses(message.to()),
        cc: addresses(message.cc()),
        date: message.date().and_then(|date| dates::from_timestamp(date.to_timestamp())),
        body: body(&message),
        attachments: attachments(&message),
    };
    drop(message);
    compose(letter, raw, scope, "message/rfc822")
}

/// Reads a mailbox, each mail as a part; a mailbox of one mail is that mail.
pub(super) fn mailbox(raw: &RawDocument, scope: &Scope) -> Result<ExtractedDocument> {
    let mut mails = MessageIterator::new(raw.data.as_ref());
    if let (Some(Ok(only)), None) = (mails.next(), mails.next()) {
        return read(&RawDocument { data: only.unwrap_contents().into(), ..raw.clone() }, scope);
    }
    let mut members = Members::new(scope, raw)?;
    for (index, message) in MessageIterator::new(raw.data.as_ref()).enumerate() {
        scope.member()?;
        let name = format!("mail {}", index + 1);
        match message {
            Ok(message) => members.add_typed(&name, message.unwrap_contents().into(), "message/rfc822")?,
            Err(_) => members.leave_out(&name, &Error::bad_content("it can't be told from its neighbours")),
        }
    }
    members.finish("application/mbox")
}

/// Headers, body and attachments as one document.
pub(super) fn compose(
    letter: Letter,
    raw: &RawDocument,
    scope: &Scope,
    media_type: &str,
) -> Result<ExtractedDocument> {
    let is_sealed = match &letter.body {
        Body::Plain(text) if !text.trim().is_empty() => is_armoured(text),
        Body::Html(text) if !text.trim().is_empty() => false,
        _ => letter.attachments.iter().any(Attachment::is_sealed),
    };
    if is_sealed {
        return Err(Error::bad_content("the mail is encrypted or sealed"));
    }
    let mut head = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            head.push_str(&format!("{name}: {}\n", value.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    };
    line("From", &letter.from.join(", "));
    line("To", &letter.to.join(", "));
    line("Cc", &letter.cc.join(", "));
    line("Date", letter.date.as_deref().unwrap_or_default());
    line("Subject", &letter.subject);
    let mut body = match &letter.body {
        Body::None => ExtractedDocument::default(),
        Body::Plain(text) => ExtractedDocument { text: text.clone(), ..Default::default() },
        Body::Html(text) => html::read(text, &scope.limits)?,
    };
    body.text = super::normalise::TextBuilder::whole(&format!("{head}\n{}", body.text), &scope.limits)?;
    let document = match letter.attachments.is_empty() || scope.within().is_none() {
        true => ExtractedDocument {
            media_type: media_type.into(),
            markup: body.markup,
            text: body.text,
            ..Default::default()
        },
        false => {
            let mut members = Members::new(scope, raw)?;
            members.body(&body)?;
            for attachment in letter.attachments {
                scope.member()?;
                members.add_typed(&attachment.name, attachment.data, &attachment.media_type)?;
            }
            ExtractedDocument { markup: body.markup, ..members.finish(media_type)? }
        }
    };
    let properties = Properties { authors: letter.from, created: letter.date, ..Default::default() };
    Ok(ExtractedDocument { title: letter.subject, properties, ..document })
}

/// Whether a text is a PGP message and hardly more.
fn is_armoured(text: &str) -> bool {
    let Some((before, rest)) = text.split_once("-----BEGIN PGP MESSAGE-----") else { return false };
    let after = rest.split_once("-----END PGP MESSAGE-----").map_or("", |(_, after)| after);
    before.trim().len() + after.trim().len() < 40
}

/// The plain body, unless it is empty or a mere pointer to the one in HTML.
fn body(message: &mail_parser::Message<'_>) -> Body {
    let bodies = |parts: &[u32], wanted: fn(&PartType<'_>) -> Option<String>| -> String {
        let parts = parts.iter().filter_map(|id| message.part(*id));
        parts.filter_map(|part| wanted(&part.body)).collect::<Vec<_>>().join("\n\n")
    };
    let plain = bodies(&message.text_body, |part| match part {
        PartType::Text(text) => Some(text.to_string()),
        _ => None,
    });
    let html = bodies(&message.html_body, |part| match part {
        PartType::Html(text) => Some(text.to_string()),
        _ => None,
    });
    // A text of a line or two beside a long page only says that there is a page.
    match (plain.trim().is_empty(), html.trim().is_empty()) {
        (true, true) => Body::None,
        (false, true) => Body::Plain(plain),
        (false, false) if plain.len() * 20 >= html.len() => Body::Plain(plain),
        _ => Body::Html(html),
    }
}

fn attachments(message: &mail_parser::Message<'_>) -> Vec<Attachment> {
    let mut found = Vec::new();
    for (index, part) in message.attachments().enumerate() {
        let declared = part.content_type().map(|found| {
            format!("{}/{}", found.ctype(), found.subtype().unwrap_or_default()).to_ascii_lowercase()
        });
        let name = part.attachment_name().map(|name| name.split_whitespace().collect::<Vec<_>>().join(" "));
        let data = match &part.body {
            PartType::Message(inner) => Bytes::copy_from_slice(inner.raw_message()),
            PartType::Text(text) | PartType::Html(text) => Bytes::copy_from_slice(text.as_bytes()),
            PartType::Binary(data) | PartType::InlineBinary(data) => Bytes::copy_from_slice(data),
            PartType::Multipart(_) => continue,
        };
        let is_mail = matches!(part.body, PartType::Message(_));
        let name = name.filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| match is_mail {
            true => format!("attached mail {}", index + 1),
            false => format!("attachment {}", index + 1),
        });
        found.push(Attachment {
            name,
            media_type: if is_mail { "message/rfc822".into() } else { declared.unwrap_or_default() },
            data,
        });
    }
    found
}

fn addresses(address: Option<&Address<'_>>) -> Vec<String> {
    let Some(address) = address else { return Vec::new() };
    let shown = address.iter().filter_map(|one| match (one.name(), one.address()) {
        (Some(name), Some(address)) if name != address => Some(format!("{name} <{address}>")),
        (None, Some(address)) | (Some(_), Some(address)) => Some(address.to_owned()),
        (Some(name), None) => Some(name.to_owned()),
        (None, None) => None,
    });
    shown.take(MAX_RECIPIENTS).collect()
}

/// Headers that mails have, in lower case.
const HEADERS: &[&str] = &[
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "received",
    "message-id",
    "mime-version",
    "return-path",
    "delivered-to",
    "reply-to",
    "content-type",
    "content-transfer-encoding",
    "x-mailer",
    "dkim-signature",
    "sender",
    "in-reply-to",
];
/// Headers by which a mail is told from a letter that begins with From, To and Subject.
const OF_TRANSPORT: &[&str] =
    &["received", "message-id", "mime-version", "return-path", "delivered-to", "dkim-signature"];

/// Whether a text begins with the headers of a mail.
pub(super) fn looks_like_mail(head: &str) -> bool {
    let (mut known, mut transported, mut others) = (0, false, 0);
    for line in head.lines() {
        if line.trim().is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let Some((name, _)) = line.split_once(':') else { return false };
        let name = name.to_ascii_lowercase();
        if HEADERS.contains(&name.as_str()) {
            known += 1;
            transported |= OF_TRANSPORT.contains(&name.as_str());
        } else if name.starts_with("x-")
            || name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            others += 1;
        } else {
            return false;
        }
    }
    known >= 3 && transported && others <= 40
}

/// Whether a text begins like a mailbox: a line `From sender date`, then the headers of a mail.
pub(super) fn looks_like_mailbox(head: &str) -> bool {
    let Some((first, rest)) = head.split_once('\n') else { return false };
    first.starts_with("From ") && looks_like_mail(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn mails_are_told_from_letters() {
        assert!(looks_like_mail(
            "MIME-Version: 1.0\nDate: x\nSubject: Test\n\tfolded\nX-Odd: y\n\nno: headers here"
        ));
        assert!(!looks_like_mail("From: me\nTo: you\nSubject: stones\n\nDear you"));
        assert!(!looks_like_mail("Received: no\nwords without a colon"));
        assert!(looks_like_mailbox("From me Thu\nReceived: x\nFrom: a\nTo: b\n\n"));
        assert!(!looks_like_mailbox("From here on, we go.\n\nTo: x"));
    }
}
