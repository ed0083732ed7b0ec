//! Who makes the calls of a connection: the party whose key TLS has proved, or a member that signs the connection's challenge.
//!
//! The second is for networks whose own box opens TLS (`[inspected]`). Until a member has signed, the connection counts as a
//! stranger's: it can ask for the challenge, and its other calls are refused before their bodies are read.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use consilium_crypto::{digest::Digest, sign::Signature};
use consilium_proto::{
    challenge::{Challenge, ID_HEADER, PROOF_HEADER},
    ids::Id,
    pinning::day_of,
    roster::{Caller, VerifiedRoster},
};
use http::HeaderMap;
use hyper::body::Bytes;
use rustls::pki_types::UnixTime;
use tokio::sync::oneshot;
use tonic::{Status, body::Body, metadata::MetadataMap};

use super::{
    connection::Traffic,
    gate::{Connection, Gate, Peer},
    refusals::code,
};

/// The call that a stranger may make.
const QUESTION: &str = "/consilium.v1.Aggregation/Challenge";
/// An empty gRPC message: what a stranger says with the question is not read.
const NOTHING: &[u8] = &[0; 5];

/// Whom a connection was given to.
pub(super) struct Admitted {
    pub(super) id: Id,
    pub(super) connection: Connection,
    pub(super) replaced: oneshot::Receiver<()>,
}

/// The party of a connection, once it is known; then it never changes.
pub(super) struct Peers {
    gate: Arc<Gate>,
    traffic: Arc<OnceLock<Arc<Traffic>>>,
    peer: OnceLock<Peer>,
    tell: Mutex<Option<oneshot::Sender<Admitted>>>,
}

impl Peers {
    pub(super) fn new(
        gate: Arc<Gate>,
        traffic: Arc<OnceLock<Arc<Traffic>>>,
    ) -> (Self, oneshot::Receiver<Admitted>) {
        let (tell, admitted) = oneshot::channel();
        (Self { gate, traffic, peer: OnceLock::new(), tell: Mutex::new(Some(tell)) }, admitted)
    }

    pub(super) fn known(&self) -> Option<&Peer> {
        self.peer.get()
    }

    /// Gives the connection to a party, unless it is somebody's already; whose it is.
    pub(super) fn admit(&self, caller: Caller) -> &Peer {
        self.peer.get_or_init(|| {
            let (peer, connection, replaced) = self.gate.admit(caller);
            drop(self.traffic.set(peer.account.traffic.clone()));
            let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner).take();
            let admitted = Admitted { id: peer.account.id.clone(), connection, replaced };
            drop(tell.map(|tell| tell.send(admitted)));
            peer
        })
    }
}

/// What a proof is checked against.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) roster: Arc<VerifiedRoster>,
    pub(super) plan: Digest,
}

/// A connection's challenge.
pub(super) struct Asked {
    rules: Rules,
    challenge: Challenge,
}

impl Asked {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, challenge: Challenge(rand::random()) }
    }

    /// The question for the challenge, as the service takes it, if that is what this is.
    pub(super) fn question<B>(&self, request: &http::Request<B>) -> Option<http::Request<Body>> {
        if request.uri().path() != QUESTION {
            return None;
        }
        let mut question =
            http::Request::new(Body::new(http_body_util::Full::new(Bytes::from_static(NOTHING))));
        *question.method_mut() = request.method().clone();
        *question.uri_mut() = request.uri().clone();
        *question.headers_mut() = request.headers().clone();
        question.extensions_mut().insert(self.challenge);
        Some(question)
    }

    /// Finds out whose call this is. On a connection that is somebody's, a call says nothing, or the same name.
    pub(super) fn introduce(&self, peers: &Peers, headers: &HeaderMap) -> Result<(), Status> {
        let refuse = |id: Option<&Id>, why: String| {
            peers.gate.refusals.note(code::CHALLENGE_BAD, id, &why);
            Err(Status::unauthenticated(format!("{}: {why}", code::CHALLENGE_BAD)))
        };
        let named = headers.get(ID_HEADER).and_then(|id| id.to_str().ok());
        if let Some(peer) = peers.known() {
            let own = &peer.account.id;
            return match named {
                Some(other) if other != own.as_str() => {
                    refuse(Some(own), format!("this connection is {own}'s; each member dials its own"))
                }
                _ => Ok(()),
            };
        }
        let Some(named) = named else {
            return refuse(
                None,
                format!("a call without {ID_HEADER}; set transport = \"inspected\", or dial the other port"),
            );
        };
        let headers = MetadataMap::from_headers(headers.clone());
        let proof = headers.get_bin(PROOF_HEADER).and_then(|value| value.to_bytes().ok());
        let Some(proof) = proof.and_then(|bytes| <[u8; 64]>::try_from(&bytes[..]).ok()) else {
            return refuse(None, format!("a call without the 64 bytes of {PROOF_HEADER}"));
        };
        let today = day_of(UnixTime::now());
        match self.challenge.verify(&self.rules.roster, &self.rules.plan, named, &Signature(proof), today) {
            Ok(caller) if peers.admit(caller.clone()).caller == caller => Ok(()),
            Ok(_) => refuse(None, "another member was faster on this connection".into()),
            Err(error) => refuse(None, error.to_string()),
        }
    }
}
