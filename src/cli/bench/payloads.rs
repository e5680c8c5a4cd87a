//! The payload of each row: the integer fields that the filters of a session ask for.

use super::filters::{Attributes, RowFilter};

/// The fields and where their values come from.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    attributes: Attributes,
    made: Vec<RowFilter>,
}

impl Payloads {
    /// `made`: filters whose field is 1 in the rows that pass and 0 in the others.
    pub(super) fn new(attributes: Attributes, made: Vec<RowFilter>) -> Self {
        Self { attributes, made }
    }

    /// Names of the fields, in the order of [`Payloads::of`].
    pub(super) fn fields(&self) -> Vec<String> {
        self.attributes.fields().chain(self.made.iter().map(|filter| filter.field.clone())).collect()
    }

    /// Fields of a row.
    pub(super) fn of(&self, row: usize) -> impl Iterator<Item = (String, i64)> {
        let given = self.attributes.fields().zip(self.attributes.row(row).iter().copied());
        given.chain(
            self.made
                .iter()
                .map(move |filter| (filter.field.clone(), i64::from(filter.passing.contains(row)))),
        )
    }

    /// The payload of a row as a JSON object.
    pub(super) fn json(&self, row: usize) -> String {
        // The names are our own: letters, digits and underscores.
        let fields: Vec<String> = self.of(row).map(|(field, value)| format!("\"{field}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }
}
