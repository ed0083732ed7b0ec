//! TLS in which the roster decides, not a certificate authority.
//!
//! Both sides show a self-signed certificate; what counts is the SHA-256 of its public key, which the signed roster
//! lists. Names, issuers and dates inside the certificate are ignored, the roster's `valid_until` is not. The
//! handshake's signature is checked by the crypto provider, so whoever connects holds the private key. TLS 1.3 only. A client and its
//! trainer pin each other in the same way, to one key instead of a roster's.

use std::{fmt, sync::Arc};

use consilium_crypto::digest::Digest;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::{
    identity::{Identity, key_digest},
    roster::VerifiedRoster,
};

/// The name that a client asks for; the certificate's own name is never compared.
pub const SERVER_NAME: &str = "consilium";

/// What a server needs to accept the roster's parties and nobody else.
///
/// # Errors
///
/// When the identity's TLS key is unusable.
pub fn server_config(identity: &Identity, roster: Arc<VerifiedRoster>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let accepts = move |key: &Digest, day| roster.caller(key, day).map(drop).map_err(refused);
    let verifier = Arc::new(Pinned { accepts, provider: provider.clone() });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate().clone()], identity.tls_key())?;
    // A resumed session would be let in without its key being verified again, and each ticket costs memory.
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What a client needs to reach the roster's coordinator and nobody else.
///
/// # Errors
///
/// When the identity's TLS key is unusable.
pub fn client_config(identity: &Identity, roster: Arc<VerifiedRoster>) -> Result<ClientConfig, Error> {
    let accepts = move |key: &Digest, day| {
        let coordinator = roster.coordinator_keys().find(|party| party.tls_key == *key);
        coordinator.ok_or(NOT_ACCEPTED)?.valid_on(day).map_err(refused)
    };
    dialling(accepts, identity.certificate().clone(), identity.tls_key())
}

/// What a client needs to reach the holder of one key and nobody else. It shows `certificate`.
///
/// # Errors
///
/// When its own key is unusable.
pub fn client_config_for(
    holder: Digest,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Error> {
    let accepts = move |shown: &Digest, _| if *shown == holder { Ok(()) } else { Err(NOT_ACCEPTED) };
    dialling(accepts, certificate, key)
}

fn dialling(
    accepts: impl Accepts,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Pinned { accepts, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The day in UTC of a moment.
pub fn day_of(now: UnixTime) -> Date {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    TimeZone::UTC.to_datetime(moment).date()
}

/// Whether the holder of a key is let in on a day, or why not.
trait Accepts: Fn(&Digest, Date) -> Result<(), Error> + Send + Sync + 'static {}

impl<F: Fn(&Digest, Date) -> Result<(), Error> + Send + Sync + 'static> Accepts for F {}

/// Nobody is known by that key.
const NOT_ACCEPTED: Error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

fn refused(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(why))))
}

/// Of a certificate only the key counts, on either side; that whoever shows it holds the private half is the provider's check.
struct Pinned<F> {
    accepts: F,
    provider: Arc<CryptoProvider>,
}

impl<F> fmt::Debug for Pinned<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}

impl<F: Accepts> Pinned<F> {
    fn verify(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let key = key_digest(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        (self.accepts)(&key, day_of(now))
    }
}

impl<F: Accepts> ServerCertVerifier for Pinned<F> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl<F: Accepts> ClientCertVerifier for Pinned<F> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
