//! The body between the generated client and the connection.

use std::{collections::VecDeque, convert::Infallible};

use bytes::Bytes;
use consilium_proto::wire::{Hello, Refusal};
use http_body::{Body as _, Frame};
use tonic::body::Body;
use tower::{Service as _, service_fn};

use super::*;
use crate::config::support::Consortium;

/// A body in given pieces.
struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

const SESSION: &str = "/consilium.v1.Aggregation/Session";

/// What goes through to the connection, and why it ended.
fn through(egress: &Egress, path: &str, pieces: &[&[u8]]) -> (Vec<u8>, Option<tonic::Status>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let request = http::Request::builder().uri(path).body(Body::new(Pieces(pieces))).unwrap();
    let connection = service_fn(|request: http::Request<Body>| async move {
        let mut body = request.into_body();
        let mut passed = Vec::new();
        loop {
            let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
            match frame {
                None => return Ok::<_, Infallible>((passed, None)),
                Some(Ok(frame)) => passed.extend_from_slice(&frame.into_data().unwrap()),
                Some(Err(status)) => return Ok((passed, Some(status))),
            }
        }
    });
    let mut recording = Recording::new(connection, egress.clone());
    runtime.block_on(recording.call(request)).unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn said(kind: Say) -> Vec<u8> {
    ClientMessage { kind: Some(kind) }.encode_to_vec()
}

fn opened(consortium: &Consortium) -> Egress {
    let (_, plan) = consortium.verified();
    let ledger = LedgerState::new("titles".parse().unwrap(), [0; 32]);
    let destination = Destination { coordinator: "hub:7400".into(), proxy: None };
    let folder = consortium.folder.path();
    Egress::open(folder, &"site-1".parse().unwrap(), destination, &plan, &ledger).unwrap()
}

fn lines(consortium: &Consortium) -> Vec<Numbered> {
    read(consortium.folder.path(), &"site-1".parse().unwrap()).unwrap().lines
}

#[test]
fn however_a_body_is_cut_every_message_has_its_line_before_its_last_byte_passes() {
    let messages = [
        said(Say::Hello(Hello { software: "x".repeat(40), ..Hello::default() })),
        said(Say::Refusal(Refusal { round: 1, attempt: 1, code: "hours".into(), complaint: vec![] })),
    ];
    let stream = [framed(&messages[0]), framed(&messages[1])].concat();
    for first in 0..stream.len() {
        let consortium = Consortium::new();
        let egress = opened(&consortium);
        let (one, rest) = stream.split_at(first);
        let (two, three) = rest.split_at(rest.len() / 2);
        let (passed, ended) = through(&egress, SESSION, &[one, two, three]);
        assert!(passed == stream && ended.is_none(), "cut at {first}");
        let digests: Vec<_> = lines(&consortium).into_iter().map(|it| it.line.sha256).collect();
        assert_eq!(digests, messages.each_ref().map(|message| Digest::of(message).to_string()));
    }
}

#[test]
fn what_cannot_be_named_or_recorded_does_not_pass() {
    let hello = framed(&said(Say::Hello(Hello::default())));
    let vector = framed(&UploadPart { round: 1, attempt: 1, index: 0, chunk: vec![9; 50] }.encode_to_vec());
    let compressed = [&[1], &hello[1..]].concat();
    let strange =
        said(Say::Protocol(consilium_proto::wire::ProtocolMessage { step: 9, ..Default::default() }));
    for (path, stream) in [
        ("/consilium.v1.Aggregation/Upload", &vector),
        ("/consilium.v1.Aggregation/Telemetry", &hello),
        (SESSION, &compressed),
        (SESSION, &framed(&[])),
        (SESSION, &framed(b"\xff\xff")),
        (SESSION, &framed(&strange)),
        (SESSION, &hello[..hello.len() - 1].to_vec()),
    ] {
        let consortium = Consortium::new();
        let (passed, ended) = through(&opened(&consortium), path, &[stream]);
        assert!(passed.is_empty() && ended.is_some(), "{path}: {passed:?}");
        assert!(lines(&consortium).is_empty());
    }
    // A disk that is full: nothing passes, then or later, and the client learns why.
    let consortium = Consortium::new();
    let egress = opened(&consortium);
    egress.inner().journal.break_disk();
    for _ in 0..2 {
        let (passed, ended) = through(&egress, SESSION, &[&hello]);
        assert!(passed.is_empty() && ended.is_some());
    }
    assert!(matches!(egress.take_failure(), Some(EgressError::Journal(_))));
}

#[test]
fn what_was_paid_for_before_a_restart_is_known_after_it() {
    let consortium = Consortium::new();
    let (_, plan) = consortium.verified();
    let mut ledger = LedgerState::new("titles".parse().unwrap(), [0; 32]);
    ledger.debit(crate::ledger::Debit::of(&plan, 1, 1)).unwrap();
    ledger.debit(crate::ledger::Debit::of(&plan, 2, 1)).unwrap();
    let destination = Destination { coordinator: "hub:7400".into(), proxy: Some("proxy:3128".into()) };
    let folder = consortium.folder.path();
    let egress = Egress::open(folder, &"site-1".parse().unwrap(), destination, &plan, &ledger).unwrap();
    let word = |round, step| {
        let body = vec![1; 9];
        framed(&said(Say::Protocol(consilium_proto::wire::ProtocolMessage { round, attempt: 1, step, body })))
    };
    egress.paid(3, 1, 3);
    let stream = [word(2, 4), word(2, 5), word(3, 3)].concat();
    assert!(through(&egress, SESSION, &[&stream]).1.is_none());
    let entries: Vec<_> = lines(&consortium).into_iter().map(|it| it.line.ledger).collect();
    assert_eq!(entries, [Some(2), Some(2), Some(3)]);
    // Entry 3 was never written into the ledger.
    let problem = verify(&lines(&consortium), &ledger).unwrap_err();
    assert_eq!(problem.number, 3, "{problem}");
    let upload = framed(&UploadPart { round: 3, attempt: 1, index: 0, chunk: vec![9; 50] }.encode_to_vec());
    assert!(through(&egress, "/consilium.v1.Aggregation/Upload", &[&upload]).1.is_none());
    ledger.debit(crate::ledger::Debit::of(&plan, 3, 1)).unwrap();
    let verdict = verify(&lines(&consortium), &ledger).unwrap();
    assert_eq!((verdict.messages, verdict.attempts, verdict.unused_debits), (4, 1, 2));
}
