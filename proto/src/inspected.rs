//! TLS through a box that opens it: certificate authorities decide about the way, and nothing but the way.
//!
//! The client believes the certificates of its own hospital's authority, the box believes the coordinator's; who speaks is shown by a
//! [signature](crate::challenge) inside. TLS 1.2 is allowed, because such boxes are old.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

const VERSIONS: &[&rustls::SupportedProtocolVersion] = rustls::ALL_VERSIONS;

/// A server with this certificate, for anybody.
///
/// # Errors
///
/// When certificate and key do not belong together.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(VERSIONS)?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // Each ticket costs memory.
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A client that believes these authorities and no other.
///
/// # Errors
///
/// When one of them is no authority's certificate.
pub fn client_config(authorities: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(VERSIONS)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
