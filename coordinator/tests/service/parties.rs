//! gRPC health and reflection: who may ask, and what a stock client is told.

use std::collections::BTreeSet;

use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{generator::Shape, server::Server};

fn ask(message: MessageRequest) -> tokio_stream::Iter<std::vec::IntoIter<ServerReflectionRequest>> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    tokio_stream::iter(vec![request])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_lists_the_services_and_asks_for_their_health() {
    let server = Server::start(&Shape { dimension: 2_000, ..Shape::default() }, "");
    for who in [&server.consortium.operator, &server.consortium.viewer] {
        let mut client = ServerReflectionClient::new(server.channel(who).await);
        let list = ask(MessageRequest::ListServices(String::new()));
        let mut answers = client.server_reflection_info(list).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
        let services: BTreeSet<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(
            services,
            BTreeSet::from([
                "consilium.v1.Aggregation",
                "consilium.v1.Operator",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
            ])
        );
        // And the messages of one.
        let symbol = ask(MessageRequest::FileContainingSymbol("consilium.v1.Operator".into()));
        let mut answers = client.server_reflection_info(symbol).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
    }
    let member = &server.consortium.organizations[0];
    let mut client = ServerReflectionClient::new(server.channel(member).await);
    let refused = client.server_reflection_info(ask(MessageRequest::ListServices(String::new()))).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied, "an organization has no such role");

    for who in [member, &server.consortium.operator] {
        let mut health = HealthClient::new(server.channel(who).await);
        for service in ["", "consilium.v1.Aggregation", "consilium.v1.Operator"] {
            let asked = health.check(HealthCheckRequest { service: service.into() }).await.unwrap();
            assert_eq!(asked.into_inner().status(), ServingStatus::Serving, "{service}");
        }
        let unknown = health.check(HealthCheckRequest { service: "consilium.v1.Updates".into() }).await;
        assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    }
}
