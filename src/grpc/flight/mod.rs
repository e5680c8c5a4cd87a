//! Arrow Flight on the port of the other services: collections and hits out as record batches, record batches in. Thin as
//! they are: it converts, and calls [`crate::app::App`]. The reference for users is `docs/flight.md`.

mod actions;
mod encode;
mod get;
mod hits;
mod info;
mod put;
mod ticket;

use std::sync::Arc;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream, StreamExt as _};
use ragstone_index::batch::MAX_BATCH_BYTES;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{patience, reply, status};
use crate::app::App;

/// Methods of this service that take as long as they take.
pub(super) const LONG_METHODS: [&str; 3] = [
    "/arrow.flight.protocol.FlightService/DoGet",
    "/arrow.flight.protocol.FlightService/DoPut",
    "/arrow.flight.protocol.FlightService/DoAction",
];

/// Largest record batch that a client may send in one message. Clients like to send a table whole.
const MAX_MESSAGE_BYTES: usize = MAX_BATCH_BYTES + (1 << 20);

/// The service.
pub(super) struct Flight {
    app: Arc<App>,
    uploads: Arc<Semaphore>,
}

/// The service, ready to be routed. Messages are at least as large as those of the other services may be.
pub(super) fn service(app: &Arc<App>, max_message_bytes: usize) -> FlightServiceServer<Flight> {
    let flight = Flight { app: Arc::clone(app), uploads: Arc::new(Semaphore::new(put::MAX_UPLOADS)) };
    FlightServiceServer::new(flight).max_decoding_message_size(max_message_bytes.max(MAX_MESSAGE_BYTES))
}

fn unimplemented<T>(method: &str) -> Result<Response<T>, Status> {
    Err(status::unimplemented(&format!("/arrow.flight.protocol.FlightService/{method}")))
}

/// A stream of what is there already.
fn all<T: Send + 'static>(items: Vec<T>) -> BoxStream<'static, Result<T, Status>> {
    stream::iter(items.into_iter().map(Ok)).boxed()
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = ReceiverStream<Result<FlightData, Status>>;
    type DoPutStream = ReceiverStream<Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        unimplemented("Handshake")
    }

    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        reply(info::list(&self.app, &request.get_ref().expression).await.map(all))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        reply(info::info(&self.app, request.into_inner()).await)
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        unimplemented("PollFlightInfo")
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        reply(info::schema(&self.app, &request.into_inner()))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let patience = patience(&request);
        reply(get::run(Arc::clone(&self.app), &request.into_inner().ticket, patience).await)
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        put::run(Arc::clone(&self.app), &self.uploads, request.into_inner()).await.map(Response::new)
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        unimplemented("DoExchange")
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let Action { r#type, body } = request.into_inner();
        let result = actions::run(&self.app, &r#type, &body).await;
        reply(result.map(|body| all(vec![arrow_flight::Result { body }])))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(all(actions::list())))
    }
}
