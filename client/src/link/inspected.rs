//! A connection that the hospital's own box opens on the way: who is there is shown by a signature in every call's headers.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use consilium_crypto::digest::Digest;
use consilium_proto::{
    challenge::{Challenge, ID_HEADER, PROOF_HEADER},
    identity::Identity,
    wire::{ChallengeRequest, aggregation_client::AggregationClient},
};
use tonic::{
    body::Body,
    metadata::{MetadataMap, MetadataValue},
    transport::Channel,
};
use tower::Service;

use super::connect::ConnectError;
use crate::egress::{Egress, Recording};

/// As whom, and for which job, a connection's challenge is signed.
#[derive(Clone)]
pub struct Signer {
    /// This organization's keys.
    pub identity: Arc<Identity>,
    /// Digest of the plan.
    pub plan: Digest,
}

impl Signer {
    /// Asks the connection for its challenge, and signs it.
    pub(super) async fn prove(
        &self,
        channel: Channel,
        address: &str,
        egress: &Egress,
    ) -> Result<Proving<Channel>, ConnectError> {
        let failed = |why: String| ConnectError::Dial { address: address.to_owned(), why };
        let mut client = AggregationClient::new(Recording::new(channel.clone(), egress.clone()));
        let reply = client.challenge(ChallengeRequest {}).await.map_err(|status| {
            failed(format!("no challenge came ({}); with transport = \"inspected\" the coordinator's second port is dialled", status.message()))
        })?;
        let challenge = reply.into_inner().challenge;
        let challenge = <[u8; 32]>::try_from(challenge.as_slice()).map_err(|_| {
            failed(format!("a challenge of {} bytes came, and 32 are the rule", challenge.len()))
        })?;
        let Identity { id, .. } = &*self.identity;
        let proof = Challenge(challenge).prove(&self.plan, id, self.identity.signing_key());
        let mut headers = MetadataMap::new();
        headers.insert(ID_HEADER, id.as_str().parse().map_err(|_| failed("the id is no header".into()))?);
        headers.insert_bin(PROOF_HEADER, MetadataValue::from_bytes(&proof.0));
        Ok(Proving { connection: channel, headers: Some(headers.into_headers()) })
    }
}

/// A connection whose calls carry a proof, if it takes one.
#[derive(Clone, Debug)]
pub(super) struct Proving<S> {
    connection: S,
    headers: Option<http::HeaderMap>,
}

impl<S> Proving<S> {
    /// Where TLS itself shows who is there.
    pub(super) fn by_key(connection: S) -> Self {
        Self { connection, headers: None }
    }
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Proving<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connection.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(headers) = &self.headers {
            request.headers_mut().extend(headers.clone());
        }
        self.connection.call(request)
    }
}
