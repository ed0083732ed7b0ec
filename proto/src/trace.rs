//! One OpenTelemetry trace a round, across the coordinator and its clients, without a word on the wire.
//!
//! A round's trace id follows from the plan and the round, and each span's id from the plan, the attempt, the span's name
//! and who says it. So every party names the same trace by itself, and nobody has to believe, or send, a context. Spans
//! are written as OTLP's JSON, one line each time, to a file: a client opens no second connection for them, and a
//! collector's file receiver reads them where somebody wants that.
//!
//! A span says who, when, in which step and with which code; never what a message held.

use consilium_crypto::digest::{Digest, Transcript};
use serde_json::{Value, json};

/// What a span's id follows from, beside the plan and the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Attempt; 0: the round itself.
    pub attempt: u32,
    /// The span's name.
    pub name: &'a str,
    /// Who says it: empty for the coordinator, otherwise an organization's id.
    pub who: &'a str,
}

impl Place<'_> {
    /// The round's own span, the root of its trace.
    pub const ROUND: Place<'static> = Place { attempt: 0, name: "round", who: "" };

    /// An attempt's span, as the coordinator says it.
    pub const fn attempt(attempt: u32) -> Place<'static> {
        Place { attempt, name: "attempt", who: "" }
    }
}

/// One span.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// Round.
    pub round: u32,
    /// Its own place.
    pub place: Place<'a>,
    /// The span it belongs to; none for the root.
    pub parent: Option<Place<'a>>,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// Unix milliseconds.
    pub ended_ms: u64,
    /// Further words and numbers.
    pub attributes: Vec<(&'static str, Value)>,
    /// The code of its failure; empty: it did not fail.
    pub failed: &'a str,
}

/// Who writes spans, about which job.
#[derive(Clone, Debug)]
pub struct Tracer {
    plan: Digest,
    job: String,
    service: &'static str,
    who: String,
}

impl Tracer {
    /// `service` is the program's name, `who` the party's id.
    pub fn new(plan: Digest, job: &str, service: &'static str, who: &str) -> Self {
        Self { plan, job: job.to_owned(), service, who: who.to_owned() }
    }

    /// The id of a round's trace: 32 hexadecimal digits.
    pub fn trace_id(&self, round: u32) -> String {
        let digest = Transcript::new("consilium/1/trace").digest(&self.plan).u64(round.into()).finish();
        hex::encode(digest.0.get(..16).unwrap_or_default())
    }

    /// The id of a span: 16 hexadecimal digits.
    pub fn span_id(&self, round: u32, place: Place<'_>) -> String {
        let digest = Transcript::new("consilium/1/span")
            .digest(&self.plan)
            .u64(round.into())
            .u64(place.attempt.into())
            .bytes(place.name.as_bytes())
            .bytes(place.who.as_bytes())
            .finish();
        hex::encode(digest.0.get(..8).unwrap_or_default())
    }

    /// Spans as one line of OTLP JSON.
    pub fn line(&self, spans: &[Span<'_>]) -> String {
        let spans: Vec<_> = spans.iter().map(|span| self.span(span)).collect();
        let resource = [
            attribute("service.name", &json!(self.service)),
            attribute("service.version", &json!(env!("CARGO_PKG_VERSION"))),
            attribute("service.instance.id", &json!(self.who)),
            attribute("consilium.job", &json!(self.job)),
        ];
        json!({"resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{"scope": {"name": "consilium"}, "spans": spans}],
        }]})
        .to_string()
    }

    fn span(&self, span: &Span<'_>) -> Value {
        let own = [("consilium.round", json!(span.round)), ("consilium.attempt", json!(span.place.attempt))];
        let attributes = own.iter().chain(&span.attributes).map(|(key, value)| attribute(key, value));
        let parent = span.parent.map(|place| self.span_id(span.round, place)).unwrap_or_default();
        // OTLP: 1 is ok, 2 an error, and messages belong to errors.
        let status = match span.failed {
            "" => json!({"code": 1}),
            code => json!({"code": 2, "message": code}),
        };
        json!({
            "traceId": self.trace_id(span.round), "spanId": self.span_id(span.round, span.place),
            "parentSpanId": parent, "name": span.place.name, "kind": 1,
            // 64-bit numbers are text in this JSON.
            "startTimeUnixNano": nanos(span.began_ms), "endTimeUnixNano": nanos(span.ended_ms.max(span.began_ms)),
            "attributes": attributes.collect::<Vec<_>>(), "status": status,
        })
    }
}

fn nanos(ms: u64) -> String {
    (u128::from(ms) * 1_000_000).to_string()
}

fn attribute(key: &str, value: &Value) -> Value {
    let value = match value {
        Value::Number(number) if number.is_u64() || number.is_i64() => {
            json!({"intValue": number.to_string()})
        }
        Value::Number(number) => json!({"doubleValue": number}),
        Value::Bool(value) => json!({"boolValue": value}),
        other => json!({"stringValue": other.as_str().unwrap_or_default()}),
    };
    json!({"key": key, "value": value})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_name_the_same_trace_and_each_its_own_spans() {
        let plan = Digest([3; 32]);
        let coordinator = Tracer::new(plan, "job", "consilium-coordinator", "coordinator");
        let client = Tracer::new(plan, "job", "consilium-client", "site-1");
        assert_eq!(coordinator.trace_id(7), client.trace_id(7));
        assert_ne!(coordinator.trace_id(7), coordinator.trace_id(8));
        assert_eq!(coordinator.span_id(7, Place::attempt(1)), client.span_id(7, Place::attempt(1)));
        let train = |who| Place { attempt: 1, name: "train", who };
        assert_ne!(client.span_id(7, train("site-1")), client.span_id(7, train("site-2")));
        let span = Span {
            round: 7,
            place: train("site-1"),
            parent: Some(Place::attempt(1)),
            began_ms: 5,
            ended_ms: 9,
            attributes: vec![("consilium.step", json!("input"))],
            failed: "budget",
        };
        let line: Value = serde_json::from_str(&client.line(&[span])).unwrap();
        let span = &line["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["parentSpanId"], coordinator.span_id(7, Place::attempt(1)));
        assert_eq!(
            (&span["startTimeUnixNano"], &span["endTimeUnixNano"]),
            (&json!("5000000"), &json!("9000000"))
        );
        assert_eq!(span["status"], json!({"code": 2, "message": "budget"}));
        assert_eq!(span["traceId"].as_str().unwrap().len(), 32);
        assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
    }
}
