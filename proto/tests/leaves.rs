//! Everything that can leave an organization, field by field, with the reason why it may.
//!
//! Loss, accuracy and counts of an organization's own patients reach the coordinator only inside the noisy sum. This test
//! walks every message that a client can send, down to its last field, and compares what it finds with the list below:
//! a field that is added must be justified here before the tests pass again.

use std::{collections::BTreeMap, path::Path};

/// Field, and why it tells nothing about a patient beyond what is accounted.
const LEAVES: [(&str, &str); 43] = [
    ("ClientMessage.evaluation", "see Evaluation"),
    ("ClientMessage.hello", "see Hello"),
    ("ClientMessage.protocol", "see ProtocolMessage"),
    ("ClientMessage.refusal", "see Refusal"),
    ("ClientMessage.state_query", "see StateQuery"),
    ("ClientMessage.state_statements", "see StateStatements"),
    ("Evaluation.accuracy", "of the public test set"),
    ("Evaluation.examples", "of the public test set"),
    ("Evaluation.loss", "of the public test set"),
    ("Evaluation.macro_accuracy", "of the public test set"),
    ("Evaluation.round", "public"),
    ("Hello.applied_round", "public: which releases it has read"),
    (
        "Hello.clock_ms",
        "this machine's clock when it greets, for the operator's table: the moment of arrival says as much",
    ),
    ("Hello.newest", "an announcement, as the coordinator signed it"),
    ("Hello.plan_digest", "public"),
    ("Hello.protocol_version", "public"),
    ("Hello.roster_digest", "public"),
    ("Hello.software", "public: a version"),
    ("ProtocolMessage.attempt", "public"),
    (
        "ProtocolMessage.body",
        "keys, shares, signatures, and a header over the masked vector: the protocol's own",
    ),
    ("ProtocolMessage.round", "public"),
    ("ProtocolMessage.step", "public"),
    ("Refusal.attempt", "public"),
    ("Refusal.code", "one of a fixed list of words, none of which depends on a record"),
    (
        "Refusal.complaint",
        "proof that a box sealed to this member is bad: one secret that it shared with its dealer in an attempt that it has left",
    ),
    ("Refusal.round", "public"),
    ("ReleasePart.head", "published by the coordinator"),
    ("ReleasePart.sum", "published by the coordinator"),
    ("ReleasesRequest.from_round", "public"),
    ("SignedAnnouncement.announcement", "published by the coordinator"),
    ("SignedAnnouncement.signature", "published by the coordinator"),
    ("SignedReleaseHead.head", "published by the coordinator"),
    ("SignedReleaseHead.signature", "published by the coordinator"),
    ("SignedStateStatement.from", "public"),
    ("SignedStateStatement.signature", "a signature"),
    ("SignedStateStatement.statement", "adverts that others have sent to everybody"),
    ("StateQuery.about", "public"),
    ("StateQuery.nonce", "random"),
    ("StateStatements.statements", "see SignedStateStatement"),
    ("UploadPart.attempt", "public"),
    ("UploadPart.chunk", "the masked vector: noise, loss and accuracy are inside, under the mask"),
    ("UploadPart.index", "public"),
    ("UploadPart.round", "public"),
];

/// What a client sends: the inputs of the service that the coordinator offers to organizations.
const SPOKEN: [&str; 5] =
    ["ClientMessage", "UploadPart", "ReleasesRequest", "ReleasePart", "ChallengeRequest"];

#[test]
fn nothing_leaves_that_is_not_justified() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let set = protox::compile(["consilium/v1/aggregation.proto"], [root]).expect("the .proto file compiles");
    let file =
        set.file.iter().find(|file| file.name().ends_with("aggregation.proto")).expect("its descriptor");
    let inputs: Vec<_> = file.service.iter().flat_map(|service| &service.method).collect();
    for method in inputs {
        let input = method.input_type().rsplit('.').next().unwrap_or_default();
        assert!(SPOKEN.contains(&input), "{input} is said by organizations and not looked at here");
    }
    let messages: BTreeMap<&str, _> =
        file.message_type.iter().map(|message| (message.name(), message)).collect();
    let (mut todo, mut found) = (SPOKEN.to_vec(), Vec::new());
    while let Some(name) = todo.pop() {
        for field in &messages[name].field {
            found.push(format!("{name}.{}", field.name()));
            let inner = field.type_name().rsplit('.').next().unwrap_or_default();
            if let Some((inner, _)) = messages.get_key_value(inner) {
                todo.push(inner);
            }
        }
    }
    found.sort();
    let mut listed: Vec<_> = LEAVES.iter().map(|(field, _)| *field).collect();
    listed.sort_unstable();
    assert_eq!(found, listed);
    assert!(LEAVES.iter().all(|(_, why)| !why.is_empty()), "every field has its reason");
}
