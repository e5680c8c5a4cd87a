//! RTF: its text with headings, tables and code pages; pictures, fonts and other destinations are skipped. One pass over
//! control words, with a stack of groups.

use encoding_rs::{Encoding, WINDOWS_1252};

use super::limits::exhausted;
use super::normalise::TextBuilder;
use super::scope::Scope;
use super::{dates, tables};
use crate::document::{ExtractedDocument, Markup, Properties};
use crate::error::Result;

/// Deepest nesting of groups. Real documents stay below a hundred.
const MAX_GROUPS: usize = 10_000;
/// Most entries of the table of fonts that are kept.
const MAX_FONTS: usize = 10_000;
/// How often the clock is looked at, in bytes.
const CHECK_EVERY: usize = 1 << 16;

/// Destinations that hold no text of the document.
const SKIPPED: &[&str] = &[
    "colortbl",
    "pict",
    "object",
    "header",
    "headerl",
    "headerr",
    "headerf",
    "footer",
    "footerl",
    "footerr",
    "footerf",
    "fldinst",
    "xe",
    "tc",
    "themedata",
    "datastore",
    "rsidtbl",
    "listtable",
    "listoverridetable",
    "generator",
    "latentstyles",
    "filetbl",
    "revtbl",
    "bkmkstart",
    "bkmkend",
    "nonshppict",
    "userprops",
    "xmlnstbl",
    "mmathPr",
    "wgrffmtfilter",
    "pnseclvl",
    "annotation",
    "atnid",
    "atnauthor",
    "do",
    "colorschememapping",
    "subject",
    "keywords",
    "comment",
    "doccomm",
    "operator",
    "company",
    "manager",
    "category",
    "hlinkbase",
    "printim",
    "buptim",
];

/// Reads a document.
pub(super) fn read(source: &[u8], scope: &Scope) -> Result<ExtractedDocument> {
    let reader = Reader::run(source, scope)?;
    let Reader { out, info, .. } = reader;
    let text = tables::regroup(&out, |size| scope.limits.check_text(size))?;
    let text = TextBuilder::whole(&text, &scope.limits)?;
    let authors = Some(info.author.trim().to_owned()).filter(|author| !author.is_empty());
    let properties = Properties {
        authors: authors.into_iter().collect(),
        created: info.created.written(),
        modified: info.modified.written(),
        ..Default::default()
    };
    let title = Some(info.title.trim().to_owned()).filter(|title| !title.is_empty());
    let title = title.or_else(|| super::markup::first_heading(&text)).unwrap_or_default();
    Ok(ExtractedDocument { title, text, markup: Markup::Markdown, properties, ..Default::default() })
}

/// The words of a document, for the body of a mail. Broken ones give what can be read.
pub(super) fn plain_text(source: &[u8], scope: &Scope) -> String {
    Reader::run(source, scope).map(|reader| reader.out).unwrap_or_default()
}

/// Unpacks the RTF of a mail (`LZFu` of [MS-OXRTFCP]): runs of up to 17 bytes copied from a window of 4096.
pub(super) fn decompress(packed: &[u8], most: usize) -> Option<Vec<u8>> {
    const WINDOW: usize = 4096;
    const INITIAL: &[u8] =
        b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \
        \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \
        \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx";
    let size = u32::from_le_bytes(*packed.get(4..)?.first_chunk::<4>()?) as usize;
    let (kind, body) = (packed.get(8..12)?, packed.get(16..)?);
    if kind == b"MELA" {
        return Some(body.get(..size.min(body.len()))?.to_vec());
    }
    if kind != b"LZFu" || size > most {
        return None;
    }
    let mut window = [b' '; WINDOW];
    window.get_mut(..INITIAL.len())?.copy_from_slice(INITIAL);
    let mut at = INITIAL.len();
    let mut out = Vec::new();
    let mut input = body.iter().copied();
    let mut emit = |byte: u8, at: &mut usize, window: &mut [u8; WINDOW]| {
        out.push(byte);
        if let Some(place) = window.get_mut(*at) {
            *place = byte;
        }
        *at = (*at + 1) % WINDOW;
    };
    let mut written = 0;
    'all: while written < size {
        let Some(control) = input.next() else { break };
        for bit in 0..8 {
            if control & (1 << bit) == 0 {
                let Some(byte) = input.next() else { break 'all };
                emit(byte, &mut at, &mut window);
                written += 1;
                continue;
            }
            let (Some(high), Some(low)) = (input.next(), input.next()) else { break 'all };
            let reference = u16::from_be_bytes([high, low]);
            let (offset, length) = (usize::from(reference >> 4), usize::from(reference & 0xf) + 2);
            if offset == at {
                break 'all;
            }
            for step in 0..length {
                let byte = window.get((offset + step) % WINDOW).copied().unwrap_or(b' ');
                emit(byte, &mut at, &mut window);
                written += 1;
            }
        }
    }
    Some(out)
}

/// What the information group says.
#[derive(Debug, Default)]
struct Info {
    title: String,
    author: String,
    created: Moment,
    modified: Moment,
}

#[derive(Debug, Default)]
struct Moment {
    parts: [i32; 6],
}

impl Moment {
    fn written(&self) -> Option<String> {
        let [year, month, day, hour, minute, second] = self.parts;
        dates::parse(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"))
    }
}

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    Body,
    Skipped,
    Fonts,
    Title,
    Author,
    Created,
    Modified,
    /// The text of a list's mark: `1.` or a bullet.
    ListMark,
    /// A style sheet, of which only the names of headings count.
    Styles,
    /// The information group, which only holds others.
    Info,
}

/// State that ends with its group.
#[derive(Debug, Clone, Copy)]
struct Group {
    destination: Destination,
    encoding: &'static Encoding,
    /// Characters that stand for one of Unicode in readers that know none.
    skip_after_unicode: usize,
    hidden: bool,
    style: i32,
}

struct Reader<'a> {
    source: &'a [u8],
    at: usize,
    group: Group,
    groups: Vec<Group>,
    out: String,
    info: Info,
    /// Bytes of text that wait for their encoding.
    bytes: Vec<u8>,
    /// The first half of a character outside the basic plane.
    surrogate: Option<u16>,
    to_skip: usize,
    fonts: Vec<(i32, &'static Encoding)>,
    font: i32,
    /// Styles that are headings, with their level.
    headings: Vec<(i32, usize)>,
    style_name: String,
    paragraph: Paragraph,
    /// Rows of the open table, and the cells of its open row.
    rows: Vec<Vec<String>>,
    cells: Vec<String>,
    document_encoding: &'static Encoding,
}

#[derive(Debug, Default)]
struct Paragraph {
    text: String,
    mark: String,
    /// From 1; 0 is no heading.
    level: usize,
    in_table: bool,
}

impl<'a> Reader<'a> {
    fn run(source: &'a [u8], scope: &Scope) -> Result<Self> {
        let group = Group {
            destination: Destination::Body,
            encoding: WINDOWS_1252,
            skip_after_unicode: 1,
            hidden: false,
            style: 0,
        };
        let mut reader = Self {
            source,
            at: 0,
            group,
            groups: Vec::new(),
            out: String::new(),
            info: Info::default(),
            bytes: Vec::new(),
            surrogate: None,
            to_skip: 0,
            fonts: Vec::new(),
            font: 0,
            headings: Vec::new(),
            style_name: String::new(),
            paragraph: Paragraph::default(),
            rows: Vec::new(),
            cells: Vec::new(),
            document_encoding: WINDOWS_1252,
        };
        let mut next_check = 0;
        while reader.at < source.len() {
            if reader.at >= next_check {
                scope.deadline.check()?;
                scope.limits.check_text(reader.out.len() + reader.paragraph.text.len())?;
                next_check = reader.at + CHECK_EVERY;
            }
            reader.step()?;
        }
        reader.end_paragraph();
        reader.end_table();
        Ok(reader)
    }

    fn step(&mut self) -> Result<()> {
        let Some(byte) = self.source.get(self.at).copied() else { return Ok(()) };
        self.at += 1;
        match byte {
            b'{' => {
                self.flush();
                if self.groups.len() >= MAX_GROUPS {
                    return Err(exhausted(format!("groups nested deeper than {MAX_GROUPS}")));
                }
                self.groups.push(self.group);
                self.to_skip = 0;
            }
            b'}' => {
                self.flush();
                self.close();
            }
            b'\\' => self.control(),
            b'\r' | b'\n' => {}
            byte => self.push_byte(byte),
        }
        Ok(())
    }

    /// Ends a group. Text behind the last one is taken, too.
    fn close(&mut self) {
        if self.group.destination == Destination::Styles {
            self.end_style();
        }
        if let Some(group) = self.groups.pop() {
            self.group = group;
        }
        self.to_skip = 0;
    }

    fn control(&mut self) {
        let rest = self.source.get(self.at..).unwrap_or_default();
        let letters = rest.iter().take(32).take_while(|byte| byte.is_ascii_alphabetic()).count();
        if letters == 0 {
            self.symbol(rest);
            return;
        }
        let word = rest.get(..letters).and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default();
        let rest = rest.get(letters..).unwrap_or_default();
        let sign = usize::from(rest.first() == Some(&b'-'));
        let digits = rest.iter().skip(sign).take(20).take_while(|byte| byte.is_ascii_digit()).count();
        let length = if digits > 0 { sign + digits } else { 0 };
        let number =
            rest.get(..length).and_then(|number| std::str::from_utf8(number).ok()?.parse::<i64>().ok());
        let number = number.and_then(|number| i32::try_from(number).ok());
        let blank = usize::from(rest.get(length) == Some(&b' '));
        self.at += letters + length + blank;
        // What stands for a character of Unicode is no longer than one sign: a word ends it.
        self.to_skip = 0;
        if word == "bin" {
            self.at = self.at.saturating_add(usize::try_from(number.unwrap_or(0)).unwrap_or(0));
            return;
        }
        self.word(word, number);
    }

    fn symbol(&mut self, rest: &[u8]) {
        let Some(symbol) = rest.first().copied() else { return };
        self.at += 1;
        match symbol {
            b'\'' => {
                let digits = rest.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok());
                self.at = (self.at + 2).min(self.source.len());
                if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    self.push_byte(byte);
                }
            }
            // What follows may be skipped by readers that don't know it.
            b'*' => self.group.destination = Destination::Skipped,
            b'~' => self.push_text(" "),
            b'_' => self.push_text("-"),
            b'\r' | b'\n' => self.word("par", None),
            b'\\' | b'{' | b'}' => self.push_byte(symbol),
            // Optional hyphens, index marks.
            _ => {}
        }
    }

    fn word(&mut self, word: &str, number: Option<i32>) {
        let on = number != Some(0);
        match word {
            "u" => return self.push_unicode(number.unwrap_or(0)),
            "uc" => self.group.skip_after_unicode = usize::try_from(number.unwrap_or(1)).unwrap_or(1),
            _ => {}
        }
        self.flush();
        match word {
            "par" | "sect" | "page" | "column" => self.end_paragraph(),
            "line" | "softline" => self.push_text("\n"),
            "tab" => self.push_text("\t"),
            "cell" | "nestcell" => self.end_cell(),
            "row" | "nestrow" => self.end_row(),
            "intbl" => self.paragraph.in_table = true,
            "pard" => {
                self.paragraph.in_table = false;
                self.paragraph.level = 0;
                self.group.style = 0;
            }
            "outlinelevel" => self.set_level(number.unwrap_or(9)),
            "s" => self.style(number.unwrap_or(0)),
            "v" | "htmlrtf" => self.group.hidden = on,
            "plain" => self.group.hidden = false,
            "ansicpg" => {
                let encoding = number.and_then(code_page).unwrap_or(WINDOWS_1252);
                self.document_encoding = encoding;
                self.group.encoding = encoding;
            }
            "f" => self.use_font(number.unwrap_or(0)),
            "fcharset" if self.group.destination == Destination::Fonts => {
                if let Some(encoding) = number.and_then(charset).filter(|_| self.fonts.len() < MAX_FONTS) {
                    self.fonts.push((self.font, encoding));
                }
            }
            "emdash" => self.push_text("—"),
            "endash" => self.push_text("–"),
            "lquote" => self.push_text("‘"),
            "rquote" => self.push_text("’"),
            "ldblquote" => self.push_text("“"),
            "rdblquote" => self.push_text("”"),
            "bullet" => self.push_text("•"),
            "emspace" | "enspace" | "qmspace" => self.push_text(" "),
            "yr" | "mo" | "dy" | "hr" | "min" | "sec" => self.moment(word, number.unwrap_or(0)),
            word => self.destination(word),
        }
    }

    fn destination(&mut self, word: &str) {
        if self.group.destination == Destination::Skipped {
            return;
        }
        self.group.destination = match word {
            "fonttbl" => Destination::Fonts,
            "stylesheet" => Destination::Styles,
            "title" => Destination::Title,
            "author" => Destination::Author,
            "info" => Destination::Info,
            "creatim" => Destination::Created,
            "revtim" => Destination::Modified,
            "listtext" | "pntext" => Destination::ListMark,
            word if SKIPPED.contains(&word) => Destination::Skipped,
            _ => return,
        };
    }

    fn moment(&mut self, word: &str, number: i32) {
        let moment = match self.group.destination {
            Destination::Created => &mut self.info.created,
            Destination::Modified => &mut self.info.modified,
            _ => return,
        };
        let place = ["yr", "mo", "dy", "hr", "min", "sec"].iter().position(|name| *name == word);
        if let Some(part) = place.and_then(|place| moment.parts.get_mut(place)) {
            *part = number;
        }
    }

    fn use_font(&mut self, font: i32) {
        self.font = font;
        if self.group.destination != Destination::Fonts {
            let known = self.fonts.iter().rev().find(|(number, _)| *number == font);
            self.group.encoding = known.map_or(self.document_encoding, |(_, encoding)| *encoding);
        }
    }

    fn style(&mut self, style: i32) {
        self.group.style = style;
        if self.group.destination == Destination::Body
            && let Some((_, level)) = self.headings.iter().find(|(number, _)| *number == style)
        {
            self.paragraph.level = *level;
        }
    }

    fn set_level(&mut self, outline: i32) {
        let level = usize::try_from(outline).ok().filter(|level| *level < 9).map_or(0, |level| level + 1);
        match self.group.destination {
            Destination::Body => self.paragraph.level = level,
            Destination::Styles if level > 0 => self.headings.push((self.group.style, level)),
            _ => {}
        }
    }

    /// A style whose name is `heading 2` is one.
    fn end_style(&mut self) {
        let name = std::mem::take(&mut self.style_name).to_ascii_lowercase();
        let level = name.trim().strip_prefix("heading ").and_then(|rest| rest.chars().next()?.to_digit(10));
        if let Some(level) = level.filter(|level| (1..=9).contains(level)) {
            self.headings.push((self.group.style, level as usize));
        }
    }

    fn push_byte(&mut self, byte: u8) {
        if self.to_skip > 0 {
            self.to_skip -= 1;
        } else {
            self.bytes.push(byte);
        }
    }

    fn push_unicode(&mut self, number: i32) {
        self.flush();
        // Numbers above 32767 are written as negative ones.
        let unit = (number & 0xffff) as u16;
        let decoded: Vec<char> = match self.surrogate.take() {
            Some(high) => char::decode_utf16([high, unit]).flatten().collect(),
            None if (0xd800..0xdc00).contains(&unit) => {
                self.surrogate = Some(unit);
                Vec::new()
            }
            None => char::from_u32(u32::from(unit)).into_iter().collect(),
        };
        self.push_text(&decoded.into_iter().collect::<String>());
        self.to_skip = self.group.skip_after_unicode;
    }

    /// Gives the waiting bytes to where they belong.
    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            let text = self.group.encoding.decode_without_bom_handling(&bytes).0.into_owned();
            self.push_text(&text);
        }
    }

    fn push_text(&mut self, text: &str) {
        if self.group.hidden && self.group.destination == Destination::Body {
            return;
        }
        match self.group.destination {
            Destination::Body => self.paragraph.text.push_str(text),
            Destination::ListMark => self.paragraph.mark.push_str(text),
            Destination::Title => self.info.title.push_str(text),
            Destination::Author => self.info.author.push_str(text),
            Destination::Styles => self.style_name.push_str(text),
            Destination::Skipped
            | Destination::Fonts
            | Destination::Created
            | Destination::Modified
            | Destination::Info => {}
        }
    }

    fn end_paragraph(&mut self) {
        self.flush();
        if self.paragraph.in_table {
            // Within a cell.
            self.paragraph.text.push('\n');
            return;
        }
        self.end_table();
        let Paragraph { text, mark, level, .. } = std::mem::take(&mut self.paragraph);
        // Until `\pard`, the next paragraph is like this one.
        self.paragraph.level = level;
        let words = text.trim();
        if words.is_empty() {
            return;
        }
        let mark = mark.trim();
        let line = match (level, mark) {
            (0, "") => words.to_owned(),
            (0, mark) if mark.chars().any(char::is_alphanumeric) => format!("{mark} {words}"),
            (0, _) => format!("- {words}"),
            (level, _) => {
                let numbered = format!("{mark} {}", words.split_whitespace().collect::<Vec<_>>().join(" "));
                format!("{} {}", "#".repeat(level.min(6)), numbered.trim())
            }
        };
        let is_item = !mark.is_empty() && level == 0;
        self.out.push_str(&line);
        self.out.push_str(if is_item { "\n" } else { "\n\n" });
    }

    fn end_cell(&mut self) {
        self.flush();
        let text = std::mem::take(&mut self.paragraph.text);
        self.cells.push(text.trim().to_owned());
    }

    fn end_row(&mut self) {
        self.flush();
        if !self.cells.is_empty() {
            self.rows.push(std::mem::take(&mut self.cells));
        }
        self.paragraph.in_table = false;
    }

    fn end_table(&mut self) {
        if !self.cells.is_empty() {
            self.rows.push(std::mem::take(&mut self.cells));
        }
        if !self.rows.is_empty() {
            self.out.push_str(&tables::table(&std::mem::take(&mut self.rows)));
            self.out.push('\n');
        }
    }
}

/// The encoding of a Windows code page.
fn code_page(page: i32) -> Option<&'static Encoding> {
    let label = match page {
        65_001 => "utf-8".to_owned(),
        932 => "shift_jis".to_owned(),
        936 => "gbk".to_owned(),
        949 => "euc-kr".to_owned(),
        950 => "big5".to_owned(),
        10_000 => "macintosh".to_owned(),
        866 => "ibm866".to_owned(),
        page => format!("windows-{page}"),
    };
    Encoding::for_label(label.as_bytes())
}

/// The encoding of a font by its character set. `None`: that of the document.
fn charset(charset: i32) -> Option<&'static Encoding> {
    code_page(match charset {
        77 => 10_000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::extract::ExtractLimits;

    fn document(source: &str) -> ExtractedDocument {
        read(source.as_bytes(), &Scope::new(&ExtractLimits::default())).unwrap()
    }

    #[test]
    fn text_headings_and_signs() {
        let source = r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}{\f1\fcharset204 Cyr;}}{\colortbl;\red0;}
            {\stylesheet{\s0 Normal;}{\s2\outlinelevel1 heading 2;}}{\info{\title On stones}{\author Ada}{\creatim\yr2020\mo5\dy6\hr7\min8}}
            \pard\s2 Soft \b ones\b0\par\pard Talc \{is\} soft\'85 caf\'e9 \u8212 ? \u-10179?\u-8704?.\par{\*\unknown no}{\pict 00ff}
            {\f1 \'cf\'f0}\par}";
        let document = document(source);
        assert_eq!(document.title, "On stones");
        assert_eq!(document.text, "## Soft ones\n\nTalc {is} soft… café — 😀.\n\nПр");
        assert_eq!(document.properties.authors, ["Ada"]);
        assert_eq!(document.properties.created.as_deref(), Some("2020-05-06T07:08:00Z"));
    }

    #[test]
    fn tables_and_lists() {
        let source = r"{\rtf1 \trowd\intbl a\cell b\cell\row\trowd\intbl 1\cell 2\par 3\cell\row\pard After\par
            {\listtext \'b7\tab}one\par{\listtext 2.\tab}two\par}";
        assert_eq!(document(source).text, "| a | b |\n|---|---|\n| 1 | 2 3 |\n\nAfter\n\n- one\n2. two");
    }

    #[test]
    fn broken_documents_give_what_they_have() {
        let whole = r"{\rtf1\ansi{\fonttbl{\f0 A;}}\pard Text\u8212 ? and \'e9\par\bin5 \\\\}";
        for length in 0..whole.len() {
            let _ = document(&whole[..length]);
        }
        assert_eq!(document(r"{\rtf1 a}}}} b\bin99999999999 \'zz").text, "a b");
        assert!(read("{".repeat(MAX_GROUPS + 1).as_bytes(), &Scope::new(&ExtractLimits::default())).is_err());
    }

    #[test]
    fn packed_bodies_of_mails() {
        // The example of the specification.
        let packed = b"\x2d\0\0\0\x2b\0\0\0LZFu\xf1\xc5\xc7\xa7\x03\0\n\0rcpg125\x42\x32\n\xf3 hel\t\0 bw\x05\xb0ld}\n\x80\x0f\xa0";
        let text = decompress(packed, 1 << 20).unwrap();
        assert_eq!(String::from_utf8_lossy(&text), "{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n");
        assert_eq!(decompress(&packed[..15], 1 << 20), None);
        assert_eq!(decompress(packed, 10), None);
        for length in 16..packed.len() {
            let _ = decompress(&packed[..length], 1 << 20);
        }
    }
}
