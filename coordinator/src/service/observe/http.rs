//! `GET /metrics`, on a loopback address of its own: plain HTTP, no names, nothing to change.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::metrics::render;
use crate::service::engine::Handle;

/// Readers at once; Prometheus is one.
const READERS: usize = 8;
/// For a whole request and its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What Prometheus calls this format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, engine: Handle) {
    let places = Arc::new(Semaphore::new(READERS));
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        // One reader too many is closed; it comes again.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let engine = engine.clone();
        tokio::spawn(async move {
            let _place = place;
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .max_buf_size(16 << 10);
            let answers = service_fn(move |request| answer(request, engine.clone()));
            // A reader that goes away, or never asks, is its own loss.
            drop(timeout(PATIENCE, http.serve_connection(TokioIo::new(tcp), answers)).await);
        });
    }
}

async fn answer(request: Request<Incoming>, engine: Handle) -> Result<Response<String>, Infallible> {
    let says = |code, text: &str| {
        let mut response = Response::new(text.to_owned());
        *response.status_mut() = code;
        response
    };
    if request.uri().path() != "/metrics" {
        return Ok(says(StatusCode::NOT_FOUND, "ask for /metrics\n"));
    }
    if request.method() != Method::GET {
        return Ok(says(StatusCode::METHOD_NOT_ALLOWED, "GET alone\n"));
    }
    let Ok(status) = engine.status().await else {
        return Ok(says(StatusCode::SERVICE_UNAVAILABLE, "the coordinator is stopping\n"));
    };
    let mut response = Response::new(render(&status));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(FORMAT));
    Ok(response)
}
