//! Office documents of the present generation as packages (ECMA-376 part 2): which part belongs to which.

use quick_xml::events::{BytesStart, Event};

use super::markup;
use super::scope::Scope;
use super::zip_parts::ZipParts;
use crate::error::Result;

/// A package, read by the names of its parts.
pub(super) struct Package<'a> {
    parts: ZipParts<'a>,
    scope: &'a Scope,
}

/// That a part belongs to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    /// By which the other part names it.
    pub id: String,
    /// Its name in the package.
    pub part: String,
}

impl<'a> Package<'a> {
    /// # Errors
    /// `BadContent` when it is no readable container.
    pub(super) fn open(data: &'a [u8], scope: &'a Scope) -> Result<Self> {
        Ok(Self { parts: ZipParts::open(data)?, scope })
    }

    /// A part as text; `None` when there is none that can be read.
    pub(super) fn text(&mut self, part: &str) -> Result<Option<String>> {
        self.parts.text(part, self.scope)
    }

    /// The part that the document begins with.
    pub(super) fn main_part(&mut self) -> Result<Option<String>> {
        Ok(self.relations("", "officeDocument")?.into_iter().next().map(|relation| relation.part))
    }

    /// Parts that belong to one (to the package: empty) in a role: the last word of the relation's type, which is the same in
    /// all editions of the standard.
    pub(super) fn relations(&mut self, part: &str, role: &str) -> Result<Vec<Relation>> {
        let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
        let Some(xml) = self.text(member(folder, &format!("_rels/{name}.rels")).as_str())? else {
            return Ok(Vec::new());
        };
        let mut relations = Vec::new();
        for_each_tag(&xml, self.scope, |tag| {
            let is_wanted = tag.local_name().as_ref() == "Relationship"
                && attribute(tag, "Type").is_some_and(|kind| kind.rsplit('/').next() == Some(role))
                && attribute(tag, "TargetMode").is_none_or(|mode| mode != "External");
            if is_wanted && let (Some(id), Some(target)) = (attribute(tag, "Id"), attribute(tag, "Target")) {
                relations.push(Relation { id, part: member(folder, &target) });
            }
        })?;
        Ok(relations)
    }
}

/// Calls for each element of an XML text, as far as that can be read.
pub(super) fn for_each_tag(xml: &str, scope: &Scope, mut each: impl FnMut(&BytesStart<'_>)) -> Result<()> {
    let mut reader = markup::lenient(xml);
    loop {
        scope.deadline.check()?;
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) => each(&tag),
            Ok(Event::Eof) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
}

/// The value of an attribute, whatever prefix its name has.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    attribute_named(tag, |key| key.rsplit(':').next() == Some(name))
}

/// The value of an attribute whose name has a prefix, as `r:id`, beside which there may be a plain `id`.
pub(super) fn prefixed(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    attribute_named(tag, |key| key.split_once(':').is_some_and(|(_, key)| key == name))
}

fn attribute_named(tag: &BytesStart<'_>, is_it: impl Fn(&str) -> bool) -> Option<String> {
    let key = tag.attributes().flatten().map(|attribute| attribute.key.0).find(|key| is_it(key))?;
    markup::attribute(tag, key)
}

/// The name of a member that `target` means within a folder.
fn member(folder: &str, target: &str) -> String {
    let base = if target.starts_with('/') { "" } else { folder };
    let mut path: Vec<&str> = Vec::new();
    for step in base.split('/').chain(target.split('/')) {
        match step {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            step => path.push(step),
        }
    }
    path.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_relative_to_their_part() {
        let check = |folder: &str, target: &str, expect: &str| assert_eq!(member(folder, target), expect);
        check("word", "comments.xml", "word/comments.xml");
        check("ppt/slides", "../notesSlides/notesSlide1.xml", "ppt/notesSlides/notesSlide1.xml");
        check("ppt/slides", "/ppt/a.xml", "ppt/a.xml");
        check("", "_rels/.rels", "_rels/.rels");
        check("a", "../../../b", "b");
    }
}
