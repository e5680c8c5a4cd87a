//! Which column holds what: the user's mapping, and the names that are tried where it says nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sink::Target;

/// Columns tried for the id.
pub(super) const ID_NAMES: [&str; 3] = ["id", "_id", "point_id"];
/// Columns tried for the text.
pub(super) const TEXT_NAMES: [&str; 4] = ["text", "content", "chunk", "body"];
/// Columns tried for the title.
pub(super) const TITLE_NAMES: [&str; 1] = ["title"];
/// Columns tried for the document id.
pub(super) const DOCUMENT_ID_NAMES: [&str; 1] = ["document_id"];
/// Columns tried for the vector of the first space, behind one with the space's name.
pub(super) const VECTOR_NAMES: [&str; 2] = ["vector", "embedding"];

/// Which columns hold what. Columns that are not named here become payload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnMapping {
    /// Absent: `id`, `_id` or `point_id`, else ids are made from file and row.
    pub id: Option<String>,
    /// Absent: `text`, `content`, `chunk` or `body`.
    pub text: Option<String>,
    /// Absent: `title`.
    pub title: Option<String>,
    /// Vector space to column. Absent: a column named as the space, or as in an export; for the first space also
    /// `vector` or `embedding`.
    pub vectors: BTreeMap<String, String>,
    /// Absent: `document_id`.
    pub document_id: Option<String>,
    /// When given, only these columns become payload.
    pub payload: Vec<String>,
    /// From when on a row is no more. Absent: rows stay. Left out of the serialised form where it is, so that imports
    /// that an older version began go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// Column of an export, and of a batch, from when on a row is no more.
pub(super) const EXPIRES_AT: &str = "expires_at";
/// Before the name of a vector space in the columns of an export.
pub(super) const VECTOR_PREFIX: &str = "vector:";

/// What a column can be, by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// An integer or a UUID: an id, but no text.
    Key,
    /// A point in time.
    Time,
    /// A list of numbers.
    Vector,
    /// Anything else.
    Other,
}

/// The columns of one file by what they hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Roles {
    pub id: Option<String>,
    pub text: Option<String>,
    pub title: Option<String>,
    pub document_id: Option<String>,
    /// By vector space of the target.
    pub vectors: Vec<Option<String>>,
    pub payload: Vec<String>,
    pub expires_at: Option<String>,
    /// A column of JSON objects that is the payload.
    pub payload_json: Option<String>,
    /// Columns that go to the collection as they are, under the same name.
    pub carried: Vec<String>,
}

impl ColumnMapping {
    /// Checks the mapping against the collection.
    pub fn validate(&self, target: &Target) -> Result<()> {
        for space in self.vectors.keys() {
            if !target.spaces.iter().any(|known| &known.name == space) {
                let known: Vec<_> = target.spaces.iter().map(|space| space.name.as_str()).collect();
                let message = format!("no vector space {space:?}; there is: {}", known.join(", "));
                return Err(Error::invalid("columns.vectors", message));
            }
        }
        Ok(())
    }

    /// Finds the columns of a file. `columns` are its column names with what they can be, in order.
    /// A column that is named here and missing there, but found `elsewhere` (in another file of the job), is a column of
    /// nulls; only ids have to be in every file.
    pub(super) fn roles(
        &self,
        columns: &[(&str, Kind)],
        elsewhere: &BTreeSet<String>,
        target: &Target,
    ) -> Result<Roles> {
        let is_here = |name: &String| columns.iter().any(|(known, _)| known == name);
        let find = |field: &str, named: Option<&String>, tried: &[&str], fits: &[Kind]| match named {
            Some(named) if !is_here(named) && elsewhere.contains(named) && field != "columns.id" => Ok(None),
            _ => find_column(columns, field, named.map(String::as_str), tried, fits),
        };
        let mut roles = Roles {
            id: find("columns.id", self.id.as_ref(), &ID_NAMES, &[Kind::Text, Kind::Key])?,
            text: find("columns.text", self.text.as_ref(), &TEXT_NAMES, &[Kind::Text])?,
            title: find("columns.title", self.title.as_ref(), &TITLE_NAMES, &[Kind::Text])?,
            document_id: find(
                "columns.document_id",
                self.document_id.as_ref(),
                &DOCUMENT_ID_NAMES,
                &[Kind::Text, Kind::Key],
            )?,
            expires_at: find("columns.expires_at", self.expires_at.as_ref(), &[], &[Kind::Time, Kind::Key])?,
            ..Roles::default()
        };
        for (at, space) in target.spaces.iter().enumerate() {
            let exported = format!("{VECTOR_PREFIX}{}", space.name);
            let mut tried = vec![exported.as_str(), space.name.as_str()];
            if at == 0 {
                tried.extend(VECTOR_NAMES);
            }
            let field = format!("columns.vectors[{:?}]", space.name);
            roles.vectors.push(find(&field, self.vectors.get(&space.name), &tried, &[Kind::Vector])?);
        }
        roles.payload = self.payload_columns(columns, elsewhere, &roles)?;
        Ok(roles)
    }

    fn payload_columns(
        &self,
        columns: &[(&str, Kind)],
        elsewhere: &BTreeSet<String>,
        roles: &Roles,
    ) -> Result<Vec<String>> {
        if self.payload.is_empty() {
            let taken = |name: &str| roles.named().any(|taken| taken == name);
            let names = columns.iter().map(|(name, _)| *name);
            return Ok(names.filter(|name| !taken(name)).map(str::to_owned).collect());
        }
        let (here, missing): (Vec<&String>, Vec<&String>) =
            self.payload.iter().partition(|name| columns.iter().any(|(known, _)| known == *name));
        match missing.into_iter().find(|name| !elsewhere.contains(*name)) {
            Some(unknown) => Err(no_column("columns.payload", unknown, columns)),
            None => Ok(here.into_iter().cloned().collect()),
        }
    }
}

impl Roles {
    /// All columns that hold something other than payload.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        let single =
            [&self.id, &self.text, &self.title, &self.document_id, &self.payload_json, &self.expires_at];
        let named = single.into_iter().chain(&self.vectors).filter_map(|name| name.as_deref());
        named.chain(self.carried.iter().map(String::as_str))
    }
}

fn find_column(
    columns: &[(&str, Kind)],
    field: &str,
    named: Option<&str>,
    tried: &[&str],
    fits: &[Kind],
) -> Result<Option<String>> {
    if let Some(named) = named {
        let kind = columns.iter().find(|(name, _)| *name == named).map(|(_, kind)| *kind);
        return match kind {
            None => Err(no_column(field, named, columns)),
            Some(kind) if !fits.contains(&kind) => {
                let expected = match fits {
                    _ if fits.contains(&Kind::Vector) => "lists of numbers",
                    _ if fits.contains(&Kind::Time) => "points in time",
                    _ => "strings",
                };
                Err(Error::invalid(field, format!("column {named:?} does not hold {expected}")))
            }
            Some(_) => Ok(Some(named.to_owned())),
        };
    }
    let fitting = |name: &&str| columns.iter().any(|(known, kind)| known == name && fits.contains(kind));
    Ok(tried.iter().find(|name| fitting(name)).map(|name| (*name).to_owned()))
}

fn no_column(field: &str, name: &str, columns: &[(&str, Kind)]) -> Error {
    let known: Vec<_> = columns.iter().take(50).map(|(name, _)| *name).collect();
    Error::invalid(field, format!("no column {name:?}; there is: {}", known.join(", ")))
}
