//! Arrow Flight: batches in and out, by the client of `arrow-flight`.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, FixedSizeListArray, Float32Array, ListArray, RecordBatch,
    StringArray, UInt32Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Criteria, FlightData, FlightDescriptor, SchemaAsIpc, Ticket};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use half::f16;
use ragstone_proto::v1;
use serde_json::{Value as Json, json};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::harness::{TestServer, refused};

const DIMENSION: usize = 4;
/// Those of every point, and the vectors.
const COLUMNS: usize = ragstone_index::batch::FIXED_COLUMNS + 1;

fn client(server: &TestServer) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(server.channel.clone()).max_decoding_message_size(64 << 20)
}

fn named(rows: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(rows.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

fn id(i: usize) -> String {
    format!("p{i:05}")
}

fn component(i: usize, at: usize) -> f32 {
    (i * DIMENSION + at) as f32
}

/// Points `from..to` with everything that a point can have.
fn points(from: usize, to: usize) -> RecordBatch {
    let rows = || from..to;
    let text =
        |make: fn(usize) -> Option<String>| Arc::new(rows().map(make).collect::<StringArray>()) as ArrayRef;
    let vectors = rows().map(|i| (i % 10 != 9).then(|| (0..DIMENSION).map(move |at| Some(component(i, at)))));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, DIMENSION as i32);
    named(vec![
        ("id", text(|i| Some(id(i)))),
        ("document_id", text(|i| Some(format!("d{}", i / 10)))),
        ("text", text(|i| (i % 3 > 0).then(|| format!("words of point {i}")))),
        ("payload", text(|i| Some(json!({ "number": i, "even": i % 2 == 0 }).to_string()))),
        ("uri", text(|i| Some(format!("file:///{i}")))),
        ("page", Arc::new(rows().map(|i| Some(i as u32 + 1)).collect::<UInt32Array>())),
        ("vector:v", Arc::new(vectors)),
    ])
}

/// The messages of an upload.
pub(crate) fn messages(descriptor: FlightDescriptor, batches: &[RecordBatch]) -> Vec<FlightData> {
    let options = IpcWriteOptions::default();
    let schema: FlightData = SchemaAsIpc::new(&batches[0].schema(), &options).into();
    let mut messages = vec![schema.with_descriptor(descriptor)];
    for rows in batches {
        let (_, data) = IpcDataGenerator::default()
            .encode(rows, &mut DictionaryTracker::new(false), &options, &mut IpcWriteContext::default())
            .unwrap();
        messages.push(data.into());
    }
    messages
}

pub(crate) async fn put_messages(
    server: &TestServer,
    messages: Vec<FlightData>,
) -> Result<Vec<Json>, Status> {
    let replies = client(server).do_put(stream::iter(messages)).await?.into_inner();
    let replies: Vec<_> = replies.try_collect().await?;
    Ok(replies.iter().map(|reply| serde_json::from_slice(&reply.app_metadata).unwrap()).collect())
}

async fn put(server: &TestServer, batches: &[RecordBatch]) -> Result<Vec<Json>, Status> {
    put_messages(server, messages(FlightDescriptor::new_path(vec!["c".into()]), batches)).await
}

pub(crate) async fn get(server: &TestServer, ticket: Json) -> Result<RecordBatch, Status> {
    let stream = client(server).do_get(Ticket::new(ticket.to_string())).await?.into_inner();
    let mut stream = FlightRecordBatchStream::new_from_flight_data(stream.map_err(Into::into));
    let mut batches = Vec::new();
    while let Some(rows) = stream.next().await {
        batches.push(rows.map_err(Status::from)?);
    }
    Ok(concat_batches(stream.schema().unwrap(), &batches).unwrap())
}

fn ticket(more: Json) -> Json {
    let mut ticket = json!({ "version": 1, "collection": "c" });
    for (name, value) in more.as_object().unwrap() {
        ticket[name] = value.clone();
    }
    ticket
}

fn ids(rows: &RecordBatch) -> Vec<String> {
    rows.column_by_name("id").unwrap().as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

/// Rows in the order of their ids.
fn sorted(rows: &RecordBatch) -> RecordBatch {
    let ids = rows.column_by_name("id").unwrap();
    let order = {
        let ids = ids.as_string::<i32>();
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        order.sort_by_key(|row| ids.value(*row as usize));
        UInt32Array::from(order)
    };
    arrow::compute::take_record_batch(rows, &order).unwrap()
}

async fn plain(server: &TestServer) {
    let space = v1::VectorSpace {
        name: "v".into(),
        dimension: DIMENSION as u32,
        distance: v1::Distance::Euclidean.into(),
        ..Default::default()
    };
    let schema = v1::CollectionSchema { vectors: vec![space], ..Default::default() };
    let request =
        v1::CreateCollectionRequest { name: "c".into(), schema: Some(schema), ..Default::default() };
    server.collections().create_collection(request).await.unwrap();
}

/// Every column that `written` has, reads as it was written.
fn assert_same(read: &RecordBatch, written: &RecordBatch) {
    let read = sorted(read);
    assert_eq!(read.num_rows(), written.num_rows());
    for (field, column) in written.schema().fields().iter().zip(written.columns()) {
        let found = read.column_by_name(field.name()).unwrap();
        if field.name() == "payload" {
            for (found, column) in found.as_string::<i32>().iter().zip(column.as_string::<i32>()) {
                let json = |text: Option<&str>| serde_json::from_str::<Json>(text.unwrap()).unwrap();
                assert_eq!(json(found), json(column));
            }
        } else if let Some(vectors) = column.as_fixed_size_list_opt() {
            for row in 0..written.num_rows() {
                let found = found.as_fixed_size_list();
                assert_eq!(found.is_null(row), vectors.is_null(row), "{row}");
                if vectors.is_valid(row) {
                    assert_eq!(&found.value(row), &vectors.value(row), "{row}");
                }
            }
        } else {
            assert_eq!(found, column, "{}", field.name());
        }
    }
}

#[tokio::test]
async fn what_is_put_is_got_before_and_after_it_is_sealed() {
    let mut server = TestServer::start().await;
    plain(&server).await;
    let batches = [points(0, 1_000), points(1_000, 1_001), points(1_001, 2_500)];
    let acks = put(&server, &batches).await.unwrap();
    let last = acks.last().unwrap();
    assert_eq!((&last["version"], &last["batches"], &last["rows"]), (&json!(1), &json!(3), &json!(2_500)));
    assert_eq!((&last["upserted"], &last["rejected_total"]), (&json!(2_500), &json!(0)));
    assert!(last["seq_no"].as_u64().unwrap() > 0);
    let written = points(0, 2_500);
    for sealed in [false, true] {
        let read = get(&server, ticket(json!({}))).await.unwrap();
        assert_same(&read, &written);
        let vectors = read.schema().field_with_name("vector:v").unwrap().data_type().clone();
        assert!(
            matches!(&vectors, DataType::FixedSizeList(item, 4) if item.data_type() == &DataType::Float32)
        );
        // The same rows again: nothing is added.
        assert_eq!(put(&server, &[sorted(&read)]).await.unwrap().last().unwrap()["upserted"], json!(2_500));
        assert_eq!(server.count("c").await, 2_500);
        if !sealed {
            let flush = v1::FlushRequest { collection: "c".into() };
            server.admin().flush(flush).await.unwrap();
            server.restart().await;
        }
    }
}

#[tokio::test]
async fn a_filter_and_columns_choose() {
    let server = TestServer::start().await;
    plain(&server).await;
    put(&server, &[points(0, 100)]).await.unwrap();
    let filter = "number >= 10 and number < 20 and even = true";
    let read =
        get(&server, ticket(json!({ "filter": filter, "columns": ["vector:v", "id"] }))).await.unwrap();
    let names: Vec<_> = read.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["vector:v", "id"]);
    assert_eq!(ids(&sorted(&read)), [10, 12, 14, 16, 18].map(id));
    let nothing = get(&server, ticket(json!({ "filter": "number > 1000" }))).await.unwrap();
    assert_eq!((nothing.num_rows(), nothing.num_columns()), (0, COLUMNS));
}

#[tokio::test]
async fn lists_of_any_floats_are_vectors() {
    let server = TestServer::start().await;
    plain(&server).await;
    let names =
        |from: usize| Arc::new((from..from + 2).map(|i| Some(id(i))).collect::<StringArray>()) as ArrayRef;
    let values = [0.5, 1.5, -2.0, 8.0];
    let halves = values.map(f16::from_f64).map(Some).to_vec();
    let doubles = values.map(Some).to_vec();
    let fixed = FixedSizeListArray::from_iter_primitive::<Float16Type, _, _>([Some(halves), None], 4);
    let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(doubles), None]);
    for (from, column) in [(0, Arc::new(fixed) as ArrayRef), (2, Arc::new(lists))] {
        let acks = put(&server, &[named(vec![("id", names(from)), ("vector:v", column)])]).await.unwrap();
        assert_eq!(acks.last().unwrap()["upserted"], json!(2));
    }
    let read = sorted(&get(&server, ticket(json!({}))).await.unwrap());
    let vectors = read.column_by_name("vector:v").unwrap().as_fixed_size_list();
    for row in [0, 2] {
        let expect: ArrayRef = Arc::new(Float32Array::from(values.map(|value| value as f32).to_vec()));
        assert_eq!(&vectors.value(row), &expect);
        assert!(vectors.is_null(row + 1));
    }
}

#[tokio::test]
async fn bad_rows_are_named_and_good_ones_kept() {
    let server = TestServer::start().await;
    plain(&server).await;
    let good = || Some(vec![Some(1.0); DIMENSION]);
    let vectors = ListArray::from_iter_primitive::<Float64Type, _, _>([
        good(),
        Some(vec![Some(1.0); 3]),
        Some(vec![Some(f64::NAN); DIMENSION]),
        good(),
        good(),
    ]);
    let names = StringArray::from(vec![Some("a"), Some("short"), Some("nan"), None, Some("b")]);
    let payload = StringArray::from(vec![None, None, None, None, Some("{\"n\": 1}")]);
    let bad =
        named(vec![("id", Arc::new(names)), ("payload", Arc::new(payload)), ("vector:v", Arc::new(vectors))]);
    let acks = put(&server, &[bad.clone(), bad]).await.unwrap();
    let last = acks.last().unwrap();
    assert_eq!((&last["rows"], &last["rejected_total"]), (&json!(10), &json!(6)));
    let mut told: Vec<_> = acks
        .iter()
        .flat_map(|ack| ack["rejected"].as_array().unwrap())
        .map(|row| {
            (row["row"].as_u64().unwrap(), row["id"].as_str().unwrap(), row["column"].as_str().unwrap())
        })
        .collect();
    told.sort_unstable();
    let expect =
        |from: u64| [(from + 1, "short", "vector:v"), (from + 2, "nan", "vector:v"), (from + 3, "", "id")];
    assert_eq!(told, [expect(0), expect(5)].concat());
    assert_eq!(ids(&sorted(&get(&server, ticket(json!({}))).await.unwrap())), ["a", "b"]);
}

#[tokio::test]
async fn hits_come_with_their_scores_best_first() {
    let server = TestServer::start().await;
    plain(&server).await;
    put(&server, &[points(0, 200)]).await.unwrap();
    let wanted: Vec<f32> = (0..DIMENSION).map(|at| component(42, at)).collect();
    let search = json!({ "vector": wanted, "limit": 5, "mode": "vector" });
    let hits = get(&server, ticket(json!({ "search": search }))).await.unwrap();
    assert_eq!(hits.num_rows(), 5);
    assert_eq!(ids(&hits)[0], id(42));
    let scores = hits.column_by_name("_score").unwrap().as_primitive::<Float32Type>().values().to_vec();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let vector = hits.column_by_name("vector:v").unwrap().as_fixed_size_list().value(0);
    assert_eq!(vector.as_primitive::<Float32Type>().values(), wanted.as_slice());
    let words = json!({ "text": "point 7", "mode": "keyword", "limit": 1 });
    let ask = json!({ "search": words, "columns": ["id", "_keyword_score", "text"], "filter": "number > 5" });
    let hits = get(&server, ticket(ask)).await.unwrap();
    assert_eq!(ids(&hits), [id(7)]);
    assert_eq!(hits.column_by_name("text").unwrap().as_string::<i32>().value(0), "words of point 7");
    assert!(hits.column_by_name("_keyword_score").unwrap().as_primitive::<Float32Type>().value(0) > 0.0);
}

#[tokio::test]
async fn flights_are_listed_and_described() {
    let server = TestServer::start().await;
    plain(&server).await;
    server.create_plain("other", 2).await;
    put(&server, &[points(0, 30)]).await.unwrap();
    let list = async |prefix: &'static str| {
        let criteria = Criteria { expression: prefix.into() };
        let flights = client(&server).list_flights(criteria).await.unwrap().into_inner();
        flights.try_collect::<Vec<_>>().await.unwrap()
    };
    let flights = list("").await;
    let paths: Vec<_> = flights.iter().map(|info| info.flight_descriptor.clone().unwrap().path).collect();
    assert_eq!(paths, [["c"], ["other"]]);
    assert_eq!(list("oth").await.len(), 1);
    assert_eq!(flights[0].total_records, 30);
    let schema = flights[0].clone().try_decode_schema().unwrap();
    assert_eq!(schema.fields().len(), COLUMNS);
    // The ticket of a flight is read as it is.
    let ticket = flights[0].endpoint[0].ticket.clone().unwrap();
    let rows = get(&server, serde_json::from_slice(&ticket.ticket).unwrap()).await.unwrap();
    assert_eq!((rows.num_rows(), rows.schema().as_ref()), (30, &schema));

    let command = json!({ "version": 1, "collection": "c", "filter": "even = true", "columns": ["id"] });
    let descriptor = FlightDescriptor::new_cmd(command.to_string());
    let info = client(&server).get_flight_info(descriptor.clone()).await.unwrap().into_inner();
    assert_eq!((info.total_records, info.ordered), (15, false));
    let schema = client(&server).get_schema(descriptor).await.unwrap().into_inner();
    let schema = arrow::datatypes::Schema::try_from(&schema).unwrap();
    assert_eq!(schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["id"]);
}

#[tokio::test]
async fn actions_do_what_a_client_of_flight_alone_needs() {
    let server = TestServer::start().await;
    let act = async |name: &str, body: Json| -> Result<Json, Status> {
        let action = Action { r#type: name.to_owned(), body: body.to_string().into() };
        let mut results = client(&server).do_action(action).await?.into_inner();
        let result = results.message().await?.unwrap();
        Ok(serde_json::from_slice(&result.body).unwrap())
    };
    let space = json!({ "name": "v", "dimension": DIMENSION, "distance": "euclidean" });
    let create = json!({ "name": "c", "vectors": [space], "if_not_exists": true });
    assert_eq!(act("create_collection", create.clone()).await.unwrap()["created"], json!(true));
    assert_eq!(act("create_collection", create).await.unwrap()["created"], json!(false));
    put(&server, &[points(0, 10)]).await.unwrap();
    let count = json!({ "collection": "c", "filter": "even = true" });
    assert_eq!(act("count", count).await.unwrap(), json!({ "count": 5 }));
    let delete = json!({ "collection": "c", "ids": ["p00001", "p00002"] });
    assert_eq!(act("delete_points", delete).await.unwrap()["deleted"], json!(2));
    assert_eq!(act("delete_collection", json!({ "name": "c" })).await.unwrap()["deleted"], json!(true));
    let unknown = act("fly", json!({})).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    let body = act("count", json!({ "collection": "c", "colour": 1 })).await.unwrap_err();
    assert!(body.message().contains("colour"), "{body:?}");
    let listed = client(&server).list_actions(arrow_flight::Empty {}).await.unwrap().into_inner();
    assert_eq!(listed.try_collect::<Vec<_>>().await.unwrap().len(), 4);
}

#[tokio::test]
async fn what_a_client_gets_wrong_is_named_and_harms_nothing() {
    let server = TestServer::start().await;
    plain(&server).await;
    let path = |name: &str| FlightDescriptor::new_path(vec![name.into()]);
    let reply = |result: Result<Vec<Json>, Status>| result.map(Response::new);
    let sound = points(0, 10);
    // The collection, the columns, the order of messages.
    refused(reply(put_messages(&server, Vec::new()).await), Code::InvalidArgument, "descriptor");
    let unnamed = messages(FlightDescriptor::new_path(Vec::new()), std::slice::from_ref(&sound));
    refused(reply(put_messages(&server, unnamed).await), Code::InvalidArgument, "descriptor.path");
    let unknown = messages(path("missing"), std::slice::from_ref(&sound));
    refused(reply(put_messages(&server, unknown).await), Code::NotFound, "");
    let colour = named(vec![("id", sound.column(0).clone()), ("colour", sound.column(0).clone())]);
    refused(reply(put(&server, &[colour]).await), Code::InvalidArgument, "schema.colour");
    let wide = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        (0..10).map(|_| Some(vec![Some(0.0); 3])),
        3,
    );
    let wide = named(vec![("id", sound.column(0).clone()), ("vector:v", Arc::new(wide))]);
    refused(reply(put(&server, &[wide]).await), Code::InvalidArgument, "schema.vector:v");
    let mut headless = messages(path("c"), std::slice::from_ref(&sound));
    let descriptor = headless.remove(0).flight_descriptor;
    headless[0].flight_descriptor = descriptor;
    refused(reply(put_messages(&server, headless).await), Code::InvalidArgument, "data");
    let mut twice = messages(path("c"), std::slice::from_ref(&sound));
    twice.push(twice[0].clone());
    refused(reply(put_messages(&server, twice).await), Code::InvalidArgument, "schema");
    // The upload ended behind its first batch: that one is there.
    assert_eq!(server.count("c").await, 10);

    // Bytes: each header byte flipped, bodies cut. Whatever comes of it, the server answers.
    let good = messages(path("c"), std::slice::from_ref(&sound));
    for (message, step) in [(0, 7), (1, 3)] {
        for at in (0..good[message].data_header.len()).step_by(step) {
            let mut broken = good.clone();
            let mut header = broken[message].data_header.to_vec();
            header[at] ^= 0xff;
            broken[message].data_header = header.into();
            if let Err(status) = put_messages(&server, broken).await {
                assert_ne!(status.code(), Code::Internal, "{status:?}");
            }
        }
    }
    for length in (0..good[1].data_body.len()).step_by(97) {
        let mut cut = good.clone();
        cut[1].data_body = cut[1].data_body.slice(..length);
        if let Err(status) = put_messages(&server, cut).await {
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        }
    }
    // Tickets.
    for (ticket, code) in [
        (json!("c"), Code::InvalidArgument),
        (json!({ "version": 1, "collection": "missing" }), Code::NotFound),
        (ticket(json!({ "columns": ["colour"] })), Code::InvalidArgument),
        (ticket(json!({ "columns": ["id", "id"] })), Code::InvalidArgument),
        (ticket(json!({ "columns": [] })), Code::InvalidArgument),
        (ticket(json!({ "filter": "colour = 1" })), Code::InvalidArgument),
        (ticket(json!({ "search": { "vector": [1] } })), Code::InvalidArgument),
    ] {
        let result = get(&server, ticket.clone()).await;
        assert_eq!(result.unwrap_err().code(), code, "{ticket}");
    }
    assert!(server.is_up().await);
}

#[tokio::test]
async fn a_stream_shows_one_moment_and_may_be_left() {
    let server = TestServer::start().await;
    plain(&server).await;
    for from in (0..40_000).step_by(10_000) {
        put(&server, &[points(from, from + 10_000)]).await.unwrap();
    }
    let whole = || Ticket::new(ticket(json!({})).to_string());
    // Begun before the points go, it gives them all.
    let mut begun = client(&server).do_get(whole()).await.unwrap().into_inner();
    assert!(begun.message().await.unwrap().is_some());
    let everything = json!({ "collection": "c", "filter": "number >= 0" }).to_string();
    let action = Action { r#type: "delete_points".into(), body: everything.into() };
    client(&server).do_action(action).await.unwrap();
    let mut rows = 0;
    while let Some(message) = begun.message().await.unwrap() {
        let header = arrow::ipc::root_as_message(&message.data_header).unwrap();
        rows += header.header_as_record_batch().unwrap().length();
        // What a client of the default bound takes.
        assert!(message.data_body.len() < 4 << 20);
    }
    assert_eq!(rows, 40_000);
    assert_eq!(get(&server, ticket(json!({}))).await.unwrap().num_rows(), 0);
    // Clients that go away give their place back.
    for _ in 0..40 {
        let mut left = client(&server).do_get(whole()).await;
        while left.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            left = client(&server).do_get(whole()).await;
        }
        drop(left);
    }
}

#[tokio::test]
async fn small_batches_whose_acks_nobody_reads_are_all_written() {
    let server = TestServer::start().await;
    plain(&server).await;
    let batches: Vec<_> = (0..2_000).map(|i| points(i, i + 1)).collect();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut client = client(&server);
    let replies = client.do_put(requests);
    let sending = async {
        for message in messages(FlightDescriptor::new_path(vec!["c".into()]), &batches) {
            sender.send(message).await.unwrap();
        }
        drop(sender);
    };
    let (replies, ()) = tokio::join!(replies, sending);
    let replies: Vec<_> = replies.unwrap().into_inner().try_collect().await.unwrap();
    let last: Json = serde_json::from_slice(&replies.last().unwrap().app_metadata).unwrap();
    assert_eq!((&last["batches"], &last["rows"]), (&json!(2_000), &json!(2_000)));
    assert_eq!(server.count("c").await, 2_000);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_what_was_acknowledged() {
    let server = TestServer::start().await;
    plain(&server).await;
    let mut upload = messages(FlightDescriptor::new_path(vec!["c".into()]), &[points(0, 500)]);
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    for message in upload.drain(..) {
        sender.send(message).await.unwrap();
    }
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut replies = client(&server).do_put(requests).await.unwrap().into_inner();
    let ack: Json = serde_json::from_slice(&replies.message().await.unwrap().unwrap().app_metadata).unwrap();
    assert_eq!(ack["rows"], json!(500));
    drop((replies, sender));
    assert_eq!(server.count("c").await, 500);
    // Sent again it changes nothing.
    put(&server, &[points(0, 500)]).await.unwrap();
    assert_eq!(server.count("c").await, 500);
}

#[tokio::test]
async fn texts_without_vectors_are_embedded() {
    let server = TestServer::start().await;
    server.create("c").await;
    let texts = ["the quagga was a zebra", "rust is a language", ""];
    let rows = named(vec![
        ("id", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("text", Arc::new(StringArray::from(texts.to_vec()))),
    ]);
    assert_eq!(put(&server, &[rows]).await.unwrap().last().unwrap()["upserted"], json!(3));
    let search = json!({ "text": "extinct animals", "mode": "vector", "limit": 1 });
    let hits = get(&server, ticket(json!({ "search": search }))).await.unwrap();
    assert_eq!(ids(&hits), ["a"]);
    assert_eq!(hits.column_by_name("vector:text").unwrap().null_count(), 0);
}
