//! Between the generated gRPC client and the connection: reads every message out of a request's body and lets it go on once its
//! line is on the disk.
//!
//! A body of gRPC is a sequence of messages, each behind five bytes: a flag (0: not compressed) and a length. What a
//! frame of the body begins and does not end is held until the rest is there.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tonic::{Status, body::Body};
use tower::Service;

use super::Egress;

/// A connection whose requests leave a line each.
#[derive(Clone, Debug)]
pub struct Recording<S> {
    connection: S,
    egress: Egress,
}

impl<S> Recording<S> {
    /// Records what goes into `connection`.
    pub fn new(connection: S, egress: Egress) -> Self {
        Self { connection, egress }
    }
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Recording<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connection.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let body = Recorded { body, path, egress: self.egress.clone(), held: BytesMut::new() };
        self.connection.call(http::Request::from_parts(head, Body::new(body)))
    }
}

/// A request's body on its way out.
struct Recorded {
    body: Body,
    path: String,
    egress: Egress,
    /// Whole messages are let go; what is here is the beginning of one.
    held: BytesMut,
}

/// Flag and length before each message.
const PREFIX: usize = 5;

impl Recorded {
    /// Notes the whole messages at the beginning of what is held, and gives their bytes.
    fn release(&mut self) -> Result<Option<Bytes>, Status> {
        let (mut end, mut messages) = (0, Vec::new());
        while let Some((prefix, rest)) = self.held.get(end..).and_then(<[u8]>::split_first_chunk::<PREFIX>) {
            let [flag, length @ ..] = *prefix;
            if flag != 0 {
                return Err(Status::internal("a compressed message cannot be recorded and is not sent"));
            }
            let length = u32::from_be_bytes(length) as usize;
            let Some(message) = rest.get(..length) else { break };
            messages.push(message);
            end += PREFIX + length;
        }
        if messages.is_empty() {
            return Ok(None);
        }
        self.egress
            .note(&self.path, &messages)
            .map_err(|_| Status::internal("what leaves cannot be recorded"))?;
        drop(messages);
        Ok(Some(self.held.split_to(end).freeze()))
    }
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                None if !self.held.is_empty() => {
                    return Poll::Ready(Some(Err(Status::internal("half a message is not sent"))));
                }
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => {
                    self.held.extend_from_slice(&data);
                    match self.release().transpose() {
                        Some(Ok(whole)) => return Poll::Ready(Some(Ok(Frame::data(whole)))),
                        Some(Err(held)) => return Poll::Ready(Some(Err(held))),
                        None => {}
                    }
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.body.is_end_stream()
    }
}
