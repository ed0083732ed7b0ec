//! Whole handshakes in memory, between parties that the roster lists and parties that it does not.

use std::io::{Read as _, Write as _};

use jiff::civil::date;
use rustls::{
    ClientConnection, ServerConnection,
    client::{ResolvesClientCert, danger::ServerCertVerifier as _},
    pki_types::ServerName,
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::*;
use crate::{
    roster::Roster,
    signed::Kind,
    testing::{ALL, id, roster, signed},
};

fn identity(name: &str, seed: u8) -> Identity {
    Identity::generate(name.parse().unwrap(), [seed; 32]).unwrap()
}

/// Five organizations and a coordinator with TLS keys of their own, and the roster that lists them.
struct Parties {
    coordinator: Identity,
    organizations: Vec<Identity>,
    document: Roster,
}

impl Parties {
    fn new() -> Self {
        let coordinator = identity("coordinator", 99);
        let organizations: Vec<_> =
            (0..5).map(|index| identity(id(index).as_str(), index as u8 + 1)).collect();
        let day = date(2120, 1, 1);
        let organizations_listed = organizations.iter().map(|it| it.party(day)).collect();
        let document =
            Roster { coordinator: coordinator.party(day), organizations: organizations_listed, ..roster() };
        Self { coordinator, organizations, document }
    }

    fn roster(&self) -> Arc<VerifiedRoster> {
        let text = self.document.to_text().unwrap();
        let signatures = signed(Kind::Roster, &text, &ALL);
        let pin = crate::signed::fingerprint(Kind::Roster, &text);
        Arc::new(Roster::verify(&text, &signatures, &pin).unwrap())
    }
}

/// Both sides of a connection until they can speak, or the first error.
fn shake_hands(client: ClientConfig, server: ServerConfig) -> Result<(), String> {
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    // With TLS 1.3 the client is done before the server has looked at its certificate: a word goes each way.
    client.writer().write_all(b"a word").unwrap();
    server.writer().write_all(b"a word").unwrap();
    let mut on_the_way = Vec::new();
    while client.wants_write() || server.wants_write() {
        on_the_way.clear();
        while client.wants_write() {
            client.write_tls(&mut on_the_way).unwrap();
        }
        let mut bytes = &on_the_way[..];
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets().map_err(|error| format!("the server: {error}"))?;
        }
        on_the_way.clear();
        while server.wants_write() {
            server.write_tls(&mut on_the_way).unwrap();
        }
        let mut bytes = &on_the_way[..];
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets().map_err(|error| format!("the client: {error}"))?;
        }
    }
    for mut reader in [client.reader().read(&mut [0; 6]), server.reader().read(&mut [0; 6])] {
        assert_eq!(reader.as_mut().ok(), Some(&mut 6), "the handshake ended on both sides");
    }
    Ok(())
}

#[track_caller]
fn refused_by(side: &str, why: &str, outcome: Result<(), String>) {
    let error = outcome.expect_err("it was let in");
    assert!(error.starts_with(side) && error.contains(why), "{error}");
}

#[test]
fn the_rosters_parties_reach_its_coordinator_and_nobody_else_does() {
    let parties = Parties::new();
    let roster = parties.roster();
    let server = |identity: &Identity| server_config(identity, roster.clone()).unwrap();
    let client = |identity: &Identity| client_config(identity, roster.clone()).unwrap();
    let (coordinator, one) = (&parties.coordinator, &parties.organizations[0]);
    shake_hands(client(one), server(coordinator)).unwrap();
    // The same name with another key.
    let stranger = identity(one.id.as_str(), 1);
    refused_by("the server", "Unknown(", shake_hands(client(&stranger), server(coordinator)));
    let impostor = identity("coordinator", 99);
    refused_by("the client", "ApplicationVerificationFailure", shake_hands(client(one), server(&impostor)));
    // Who may call is not who may be called, and the other way round.
    let member = server(&parties.organizations[1]);
    refused_by("the client", "ApplicationVerificationFailure", shake_hands(client(one), member));
    let itself = client(coordinator);
    refused_by("the server", "Unknown(", shake_hands(itself, server(coordinator)));
}

#[test]
fn an_entry_that_has_ended_opens_no_door() {
    let past = date(2020, 1, 1);
    let mut parties = Parties::new();
    parties.document.organizations[0].valid_until = past;
    let roster = parties.roster();
    let server = || server_config(&parties.coordinator, roster.clone()).unwrap();
    let client = |index: usize| client_config(&parties.organizations[index], roster.clone()).unwrap();
    shake_hands(client(1), server()).unwrap();
    refused_by("the server", "valid_until: 2020-01-01", shake_hands(client(0), server()));

    let mut parties = Parties::new();
    parties.document.coordinator.valid_until = past;
    let roster = parties.roster();
    let server = server_config(&parties.coordinator, roster.clone()).unwrap();
    let client = client_config(&parties.organizations[0], roster).unwrap();
    refused_by("the client", "valid_until: 2020-01-01", shake_hands(client, server));
}

/// Shows a listed certificate, without its key.
#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    let parties = Parties::new();
    let roster = parties.roster();
    let (one, thief) = (&parties.organizations[0], identity("thief", 66));
    let provider = ring::default_provider();
    let pair = |certificate: &Identity, key: &Identity| {
        let key = provider.key_provider.load_private_key(key.tls_key()).unwrap();
        SingleCertAndKey::from(CertifiedKey::new(vec![certificate.certificate().clone()], key))
    };
    let mut client = client_config(one, roster.clone()).unwrap();
    client.client_auth_cert_resolver = Arc::new(pair(one, &thief)) as Arc<dyn ResolvesClientCert>;
    let server = server_config(&parties.coordinator, roster.clone()).unwrap();
    refused_by("the server", "BadSignature", shake_hands(client, server));

    let mut server = server_config(&parties.coordinator, roster.clone()).unwrap();
    server.cert_resolver = Arc::new(pair(&parties.coordinator, &thief));
    let client = client_config(one, roster).unwrap();
    refused_by("the client", "BadSignature", shake_hands(client, server));
}

#[test]
fn one_key_is_pinned_in_the_same_way() {
    let parties = Parties::new();
    let (one, other) = (&parties.organizations[0], &parties.organizations[1]);
    let holder = |identity: &Identity| key_digest(identity.certificate()).unwrap();
    let client = |pinned: &Identity| {
        client_config_for(holder(pinned), one.certificate().clone(), one.tls_key()).unwrap()
    };
    // Any server that takes the first organization for a party serves as the other end.
    let server = || server_config(other, parties.roster()).unwrap();
    shake_hands(client(other), server()).unwrap();
    refused_by("the client", "ApplicationVerificationFailure", shake_hands(client(one), server()));
}

#[test]
fn what_is_no_certificate_is_refused() {
    let verifier = Pinned { accepts: |_: &Digest, _| Ok(()), provider: Arc::new(ring::default_provider()) };
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let shown = CertificateDer::from(vec![7; 64]);
    let refused = verifier.verify_server_cert(&shown, &[], &name, &[], UnixTime::now()).unwrap_err();
    assert_eq!(refused, Error::InvalidCertificate(CertificateError::BadEncoding));
}
