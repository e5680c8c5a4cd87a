//! What there is to be read, and with which columns: `ListFlights`, `GetFlightInfo`, `GetSchema`.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, SchemaResult, Ticket};
use bytes::Bytes;
use ragstone_index::batch;
use serde_json::json;

use super::ticket::{self, Wanted, What};
use super::{encode, hits};
use crate::app::App;
use crate::app::collections::CollectionView;
use crate::app::error::{Error, Result};

/// All collections whose name starts with the expression.
pub(super) async fn list(app: &App, expression: &[u8]) -> Result<Vec<FlightInfo>> {
    let prefix = std::str::from_utf8(expression)
        .map_err(|_| Error::invalid("expression", "is not UTF-8: expected the start of a name"))?;
    let views = app.list_collections().await?;
    views.iter().filter(|view| view.name.starts_with(prefix)).map(collection).collect()
}

fn collection(view: &CollectionView) -> Result<FlightInfo> {
    let descriptor = FlightDescriptor::new_path(vec![view.name.clone()]);
    let ticket = ticket::whole(&view.name);
    let schema = batch::arrow_schema(&view.schema);
    Ok(described(&schema, descriptor, ticket)?
        .with_total_records(i64::try_from(view.points).unwrap_or(-1))
        .with_app_metadata(json!({"version": ticket::VERSION, "seq_no": view.seq_no}).to_string()))
}

/// What a descriptor describes.
pub(super) async fn info(app: &App, descriptor: FlightDescriptor) -> Result<FlightInfo> {
    let (wanted, ticket) = described_by(&descriptor)?;
    let schema = columns(app, &wanted)?;
    let rows = match &wanted.what {
        What::Points(filter) => app.count_points(&wanted.collection, filter.clone()).await?,
        // Known only when it was searched.
        What::Hits(_) => return Ok(described(&schema, descriptor, ticket)?.with_ordered(true)),
    };
    let seq_no = app.collection(&wanted.collection)?.seq_no();
    Ok(described(&schema, descriptor, ticket)?
        .with_total_records(i64::try_from(rows).unwrap_or(-1))
        .with_app_metadata(json!({"version": ticket::VERSION, "seq_no": seq_no}).to_string()))
}

/// The columns of what a descriptor describes.
pub(super) fn schema(app: &App, descriptor: &FlightDescriptor) -> Result<SchemaResult> {
    let (wanted, _) = described_by(descriptor)?;
    Ok(SchemaResult { schema: encode::schema_bytes(columns(app, &wanted)?.as_ref())? })
}

fn described(schema: &Schema, descriptor: FlightDescriptor, ticket: Bytes) -> Result<FlightInfo> {
    // Without a location the client reads where it asked.
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new().with_descriptor(descriptor).with_endpoint(endpoint);
    Ok(FlightInfo { schema: encode::schema_bytes(schema)?, ..info })
}

/// What to read, and the ticket for it: a path is a collection, a command is a ticket.
fn described_by(descriptor: &FlightDescriptor) -> Result<(Wanted, Bytes)> {
    let ticket = match descriptor.r#type() {
        DescriptorType::Cmd => descriptor.cmd.clone(),
        DescriptorType::Path | DescriptorType::Unknown => ticket::whole(path(descriptor)?),
    };
    Ok((ticket::read(&ticket, "descriptor.cmd")?, ticket))
}

/// The collection that a path names.
pub(super) fn path(descriptor: &FlightDescriptor) -> Result<&str> {
    match descriptor.path.as_slice() {
        [collection] => Ok(collection),
        path => {
            let message = format!("has {} parts: expected the name of a collection", path.len());
            Err(Error::invalid("descriptor.path", message))
        }
    }
}

/// The columns that come.
pub(super) fn columns(app: &App, wanted: &Wanted) -> Result<SchemaRef> {
    let names = wanted.columns.as_deref();
    match &wanted.what {
        What::Points(_) => chosen(app.collection(&wanted.collection)?.export_schema(), names),
        What::Hits(_) => hit_columns(app, &wanted.collection, names),
    }
}

/// Those that come with hits.
pub(super) fn hit_columns(app: &App, collection: &str, names: Option<&[String]>) -> Result<SchemaRef> {
    let points = app.collection(collection)?.export_schema();
    chosen(Arc::new(hits::schema(&points)), names)
}

/// Those of the columns that are wanted.
pub(super) fn chosen(full: SchemaRef, names: Option<&[String]>) -> Result<SchemaRef> {
    let Some(names) = names else { return Ok(full) };
    if names.is_empty() {
        return Err(Error::invalid("columns", "is empty: name at least one, or leave it out for all"));
    }
    Ok(Arc::new(full.project(&places(&full, names)?).map_err(|error| {
        Error::from(ragstone_index::Error::Internal(format!("columns could not be chosen: {error}")))
    })?))
}

/// Where columns are.
pub(super) fn places(schema: &Schema, names: &[String]) -> Result<Vec<usize>> {
    let place = |name: &String| {
        schema.index_of(name).map_err(|_| {
            let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Error::invalid("columns", format!("no column {name:?}; there is: {}", known.join(", ")))
        })
    };
    let places: Vec<usize> = names.iter().map(place).collect::<Result<_>>()?;
    match names.iter().enumerate().find(|(i, name)| names.iter().take(*i).any(|earlier| earlier == *name)) {
        Some((_, twice)) => Err(Error::invalid("columns", format!("names {twice:?} twice"))),
        None => Ok(places),
    }
}
