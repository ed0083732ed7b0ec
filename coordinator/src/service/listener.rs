//! TCP connections become HTTP/2 connections of parties that the roster lists.
//!
//! Each introduction (TLS, key, first bytes of HTTP/2) runs in its own task with one deadline, and a stranger that says
//! nothing costs no more than its socket: TLS begins with its first byte. How many wait at once is the gate's business.

use std::{io, sync::Arc, time::Duration};

use consilium_proto::{
    identity::key_digest,
    pinning::day_of,
    roster::{Caller, VerifiedRoster},
};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;

use super::{
    asked::Rules,
    connection::{self, Accepted, PREFACE, Traffic, Who},
    gate::Gate,
    refusals::code,
};
use crate::limits::seconds;

/// How a caller shows who it is.
#[derive(Clone)]
pub(super) enum By {
    /// By the TLS key that the roster lists.
    Key(Arc<VerifiedRoster>),
    /// By a signature over the connection's challenge.
    Challenge(Rules),
}

/// What it takes to accept a connection.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) tls: TlsAcceptor,
    pub(super) by: By,
    pub(super) gate: Arc<Gate>,
    pub(super) routes: Routes,
    pub(super) traffic: Arc<Traffic>,
}

/// Accepts connections until `ended` completes. The receiver ends when every connection has.
pub(super) async fn accept(
    listener: TcpListener,
    door: Door,
    ended: impl Future<Output = ()>,
) -> mpsc::Receiver<()> {
    let door = Arc::new(door);
    let (alive, all_ended) = mpsc::channel(1);
    let mut pulse = interval(Duration::from_secs(1));
    tokio::pin!(ended);
    loop {
        let tcp = tokio::select! {
            () = &mut ended => return all_ended,
            _ = pulse.tick() => {
                door.gate.refusals.flush();
                continue;
            }
            tcp = listener.accept() => tcp,
        };
        match tcp {
            Ok((tcp, _)) => {
                let (stranger, replaced) = door.gate.stranger();
                let (door, alive) = (door.clone(), alive.clone());
                tokio::spawn(async move {
                    let _alive = alive;
                    let mut replaced = replaced;
                    let Some((accepted, caller)) = introduced(tcp, &door, &mut replaced).await else {
                        return;
                    };
                    let who = match (&door.by, caller) {
                        (By::Challenge(rules), None) => {
                            Who::Asked { rules: rules.clone(), stranger, replaced }
                        }
                        (_, Some(caller)) => {
                            drop(stranger);
                            Who::Known(caller)
                        }
                        (By::Key(_), None) => return,
                    };
                    // Boxed, so that a stranger's task is small.
                    let routes = door.routes.clone();
                    Box::pin(connection::serve(accepted, who, &door.gate, routes)).await;
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: let some close.
                tracing::warn!(%error, "accept failed");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Why a stranger was sent away.
enum Refused {
    Bad(&'static str, String),
    /// It hung up by itself.
    Left,
}

/// A connection that speaks HTTP/2, and whose key it showed, if it was asked for one.
type Introduced = (Accepted, Option<Caller>);

async fn introduced(tcp: TcpStream, door: &Door, replaced: &mut oneshot::Receiver<()>) -> Option<Introduced> {
    let refusals = &door.gate.refusals;
    let deadline = seconds(door.gate.limits.handshake_s);
    tokio::select! {
        introduced = timeout(deadline, first_byte(tcp, door)) => match introduced {
            Ok(Ok(accepted)) => return Some(accepted),
            Ok(Err(Refused::Bad(code, why))) => refusals.note(code, None, &why),
            Ok(Err(Refused::Left)) => {}
            Err(_) => refusals.note(code::HANDSHAKE_LATE, None, "it did not say in time who it is"),
        },
        _ = &mut *replaced => refusals.note(code::STRANGER_REPLACED, None, "too many connections have not said who they are"),
    }
    None
}

async fn first_byte(tcp: TcpStream, door: &Door) -> Result<Introduced, Refused> {
    tcp.readable().await.map_err(|_| Refused::Left)?;
    // Nothing is allocated for TLS before there is something to read.
    Box::pin(introduce(tcp, door)).await
}

async fn introduce(tcp: TcpStream, door: &Door) -> Result<Introduced, Refused> {
    tcp.set_nodelay(true).map_err(|_| Refused::Left)?;
    let mut tls = door.tls.accept(tcp).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            Refused::Left
        }
        _ => Refused::Bad(code::HANDSHAKE_BAD, error.to_string()),
    })?;
    let caller = match &door.by {
        By::Key(roster) => Some(by_key(tls.get_ref().1.peer_certificates(), roster)?),
        By::Challenge(_) => None,
    };
    preface(&mut tls).await?;
    Ok((Accepted::new(tls, door.traffic.clone()), caller))
}

/// The party whose certificate this is.
fn by_key(shown: Option<&[CertificateDer<'_>]>, roster: &VerifiedRoster) -> Result<Caller, Refused> {
    let bad = |why: &str| Refused::Bad(code::HANDSHAKE_BAD, why.to_owned());
    let certificate = shown.and_then(<[_]>::first).ok_or_else(|| bad("no certificate"))?;
    let digest = key_digest(certificate).ok_or_else(|| bad("not a certificate"))?;
    roster.caller(&digest, day_of(UnixTime::now())).map_err(|e| bad(&e.to_string()))
}

/// The fixed bytes that every HTTP/2 connection begins with.
async fn preface(tls: &mut (impl AsyncRead + Unpin)) -> Result<(), Refused> {
    let mut first = [0; PREFACE.len()];
    tls.read_exact(&mut first).await.map_err(|_| Refused::Left)?;
    if first == *PREFACE {
        return Ok(());
    }
    Err(Refused::Bad(code::NOT_HTTP2, "its first bytes inside TLS are not HTTP/2's".into()))
}
