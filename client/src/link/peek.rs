//! Who answers at the coordinator's address: looks at the certificate that is shown there, shows none, says nothing, and hangs up.
//!
//! The coordinator's certificate is signed by itself, and its key stands in the roster. Another one was put there by somebody on the
//! way: a TLS inspection box of the hospital's own, usually, and its issuer's name says which.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use consilium_crypto::digest::Digest;
use consilium_proto::identity::key_digest;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_rustls::TlsConnector;

use super::{Route, connect::reach, names::names};

/// The certificate that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// SHA-256 of its public key: what the roster lists.
    pub key: Option<Digest>,
    /// SHA-256 of the certificate.
    pub fingerprint: Digest,
    /// Whom it names.
    pub subject: String,
    /// Who signed it, as it says.
    pub issuer: String,
    /// The issuer's own issuer, if the chain was shown, and so on.
    pub above: Vec<String>,
}

impl Seen {
    fn read(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (first, rest) = chain.split_first()?;
        let (subject, issuer) = names(first);
        let above = rest.iter().map(|it| names(it).1).collect();
        Some(Self { key: key_digest(first), fingerprint: Digest::of(first), subject, issuer, above })
    }
}

/// Looks who answers to a name.
///
/// # Errors
///
/// When nobody does, the proxy refuses, or what is spoken there is not TLS.
pub async fn look(address: &str, route: &Route, name: ServerName<'static>) -> io::Result<Seen> {
    let provider = Arc::new(ring::default_provider());
    let looking = Arc::new(Looking {
        schemes: provider.signature_verification_algorithms.supported_schemes(),
        seen: Mutex::default(),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(looking.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = reach(address, route).await?;
    // It ends with the certificate, which this verifier never accepts.
    let ended = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map(drop);
    let seen = looking.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (seen, ended) {
        (Some(seen), _) => Ok(seen),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(io::Error::other("no certificate was shown")),
    }
}

/// Takes note of the certificate, and accepts none.
#[derive(Debug)]
struct Looking {
    schemes: Vec<SignatureScheme>,
    seen: Mutex<Option<Seen>>,
}

const NEVER: Error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = [end_entity].into_iter().chain(intermediates).cloned().collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::read(&chain);
        Err(NEVER)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NEVER)
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NEVER)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
