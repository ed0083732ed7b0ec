//! The port for members whose own network opens TLS: who has not signed the connection's challenge gets nowhere.

use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use consilium_proto::{
    challenge::{Challenge, ID_HEADER, PROOF_HEADER},
    identity::Identity,
    inspected,
    wire::{
        ChallengeRequest, ReleasesRequest, StatusRequest, aggregation_client::AggregationClient,
        operator_client::OperatorClient,
    },
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::{
    generator::{Shape, Wire},
    server::Server,
};

struct Port {
    server: Server,
    address: String,
    tls: TlsConnector,
    _folder: tempfile::TempDir,
}

impl Port {
    fn open(limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&pair).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        let (chain, key) = (write("c.pem", certificate.pem()), write("k.pem", pair.serialize_pem()));
        let table = format!(
            "{limits}\n[inspected]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{chain}\"\nkey = \"{key}\"\n"
        );
        let server = Server::start(&Shape::default(), &table);
        let line = server.lines("open for members whose own network opens TLS").pop().unwrap();
        let address = line["address"].as_str().unwrap().to_owned();
        let tls = inspected::client_config(vec![certificate.der().clone()]).unwrap();
        Self { server, address, tls: TlsConnector::from(Arc::new(tls)), _folder: folder }
    }

    /// A connection of nobody yet, and its challenge.
    async fn dial(&self) -> (Channel, Challenge) {
        let tcp = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = Some(TokioIo::new(self.tls.connect(name, tcp).await.unwrap()));
        let once = tower::service_fn(move |_| {
            let stream = stream.take();
            async move { stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
        });
        let channel = Endpoint::from_static("http://consilium").connect_with_connector(once).await.unwrap();
        let reply = AggregationClient::new(channel.clone()).challenge(ChallengeRequest {}).await.unwrap();
        let challenge = reply.into_inner().challenge.try_into().unwrap();
        (channel, Challenge(challenge))
    }

    fn sign(&self, challenge: &Challenge, as_whom: &Identity) -> Vec<u8> {
        let plan = self.server.consortium.plan.digest();
        challenge.prove(&plan, &as_whom.id, as_whom.signing_key()).0.to_vec()
    }
}

/// Asks for what was published, as `id` with a proof; the code of the answer.
async fn releases(channel: &Channel, id: Option<&str>, proof: Option<&[u8]>) -> (Code, String) {
    let mut request = Request::new(ReleasesRequest { from_round: 1 });
    if let Some(id) = id {
        request.metadata_mut().insert(ID_HEADER, id.parse().unwrap());
    }
    if let Some(proof) = proof {
        request.metadata_mut().insert_bin(PROOF_HEADER, MetadataValue::from_bytes(proof));
    }
    match AggregationClient::new(channel.clone()).releases(request).await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_signs_this_connections_challenge_is_a_member_there() {
    let port = Port::open("");
    let organizations = &port.server.consortium.organizations;
    let (channel, challenge) = port.dial().await;
    let own = port.sign(&challenge, &organizations[0]);
    let (_, elsewhere) = port.dial().await;
    let refused = [
        (None, None, "a call without consilium-organization"),
        (Some("org-0000"), None, "without the 64 bytes"),
        (Some("org-0000"), Some(vec![7; 63]), "without the 64 bytes"),
        (Some("org-0001"), Some(own.clone()), "not org-0001's over this connection's"),
        (
            Some("org-0000"),
            Some(port.sign(&elsewhere, &organizations[0])),
            "not org-0000's over this connection's",
        ),
        (Some("operator"), Some(own.clone()), "lists no organization operator"),
        (Some("../etc"), Some(own.clone()), "lists no organization ../etc"),
    ];
    for (id, proof, words) in &refused {
        let (code, told) = releases(&channel, *id, proof.as_deref()).await;
        assert_eq!(code, Code::Unauthenticated, "{told}");
        assert!(told.starts_with("challenge-bad") && told.contains(words), "{words:?} is not in {told:?}");
    }
    port.server.refused("challenge-bad", "", refused.len() as u64);
    // Nobody's refusals count against a member, and the right one is let in on the same connection.
    assert_eq!(releases(&channel, Some("org-0000"), Some(&own)).await.0, Code::Ok);
    // It is that member's from now on, with or without its headers, and nobody else's.
    assert_eq!(releases(&channel, None, None).await.0, Code::Ok);
    let (code, told) =
        releases(&channel, Some("org-0001"), Some(&port.sign(&challenge, &organizations[1]))).await;
    assert!(code == Code::Unauthenticated && told.contains("is org-0000's"), "{told}");
    let status = OperatorClient::new(channel).status(StatusRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);

    // The other port has no challenge, and knows its callers without one.
    let roster = port.server.consortium.roster.clone();
    let pinned =
        crate::generator::channel(port.server.address, &organizations[2], roster, Wire::default().into());
    let mut pinned = AggregationClient::new(pinned.await.unwrap());
    let status = pinned.challenge(ChallengeRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_signs_is_sent_away_and_strangers_do_not_push_members_out() {
    let port = Port::open("handshake_s = 1\nstrangers = 3");
    let organizations = &port.server.consortium.organizations;
    let (member, challenge) = port.dial().await;
    let proof = port.sign(&challenge, &organizations[0]);
    assert_eq!(releases(&member, Some("org-0000"), Some(&proof)).await.0, Code::Ok);
    let mut strangers = Vec::new();
    for _ in 0..5 {
        strangers.push(port.dial().await);
    }
    port.server.refused("handshake-late", "", 1);
    let gone = async {
        while !strangers.is_empty() {
            let mut left = Vec::new();
            for (channel, challenge) in strangers.drain(..) {
                if AggregationClient::new(channel.clone()).challenge(ChallengeRequest {}).await.is_ok() {
                    left.push((channel, challenge));
                }
            }
            strangers = left;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.unwrap();
    assert_eq!(releases(&member, None, None).await.0, Code::Ok, "the member's connection stays");
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let consortium = crate::generator::Consortium::found(&Shape::default());
    let table = "[inspected]\nlisten = \"127.0.0.1:0\"\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
    let config = consortium.write(folder.path(), "127.0.0.1:0".parse().unwrap(), &format!("\n{table}"));
    let check = |config: &Path| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_consilium-coordinator"))
            .args(["--check", "--config"])
            .arg(config)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check(&config);
    assert!(code == Some(2) && said.contains("c.pem"), "{said}");
    for name in ["c.pem", "k.pem"] {
        std::fs::write(folder.path().join(name), "no certificate").unwrap();
        std::fs::set_permissions(folder.path().join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (code, said) = check(&config);
    assert!(code == Some(2) && said.contains("inspected.certificate"), "{said}");
    std::fs::set_permissions(folder.path().join("k.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(check(&config).1.contains("k.pem"));
}
