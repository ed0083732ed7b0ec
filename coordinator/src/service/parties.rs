//! gRPC's own health and reflection services, for parties of the roster alone.
//!
//! Everything on this port is behind TLS that the roster pins, so a stranger learns nothing here. Health is for any party;
//! reflection, which lists services and messages, for operators and viewers.

use std::sync::Arc;

use consilium_proto::{
    DESCRIPTORS,
    roster::Caller,
    wire::{aggregation_server::AggregationServer, operator_server::OperatorServer},
};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::{
    Builder,
    v1::{ServerReflection, ServerReflectionServer},
};

use super::{
    aggregation,
    gate::{Gate, Peer},
    operator,
    refusals::code,
};

/// Lets the right parties through.
#[derive(Clone)]
pub(super) struct Only {
    gate: Arc<Gate>,
    who: fn(&Caller) -> bool,
}

impl Interceptor for Only {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match request.extensions().get::<Peer>() {
            // Counted like any other call; these are over in a moment, or say nothing more.
            Some(Peer { caller, account }) if (self.who)(caller) => account.call().map(drop)?,
            other => {
                let id = other.map(|peer| &peer.account.id);
                self.gate.refusals.note(code::NOT_ALLOWED, id, "its role may not make this call");
                return Err(Status::permission_denied("the roster gives this party no such role"));
            }
        }
        Ok(request)
    }
}

type Guarded<T> = InterceptedService<T, Only>;

/// Health and reflection.
pub(super) async fn services(
    gate: &Arc<Gate>,
) -> (
    Guarded<HealthServer<impl Health + use<>>>,
    Guarded<ServerReflectionServer<impl ServerReflection + use<>>>,
) {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<AggregationServer<aggregation::Service>>().await;
    reporter.set_serving::<OperatorServer<operator::Service>>().await;
    let only = |who| Only { gate: gate.clone(), who };
    let health = InterceptedService::new(health, only(|_| true));
    let reflection = Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    // Unwrap safety: the set is a constant that a test regenerates, and a test asks for its services.
    let reflection = reflection.expect("the descriptors that this program was built with");
    let look = |caller: &Caller| operator::may(caller, operator::Asks::Look);
    (health, InterceptedService::new(reflection, only(look)))
}
