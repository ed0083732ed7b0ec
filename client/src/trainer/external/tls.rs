//! Mutual TLS between a client and its trainer, on keys that are made for this and are good for nothing else.
//!
//! Each side holds one key and the other's certificate, and takes nobody else: there is no authority, no name and no date to
//! get wrong. The trainer's half is what its node gets; neither half is one of the organization's keys.

use std::{path::Path, sync::Arc};

use consilium_crypto::secret::Secret;
use consilium_proto::{identity::key_digest, pinning::client_config_for};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::files::{self, FileError};

/// The name in both certificates; nothing rests on it.
pub(super) const NAME: &str = "trainer";

/// The client's key, mode 0600.
pub const CLIENT_KEY: &str = "client.key.pem";
/// The client's certificate; the trainer's node needs it.
pub const CLIENT_CERTIFICATE: &str = "client.cert.pem";
/// The trainer's key, mode 0600; it is moved to the trainer's node.
pub const TRAINER_KEY: &str = "trainer.key.pem";
/// The trainer's certificate; both sides need it.
pub const TRAINER_CERTIFICATE: &str = "trainer.cert.pem";

/// Why the keys could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The TLS library.
    #[error("{file}: {why}; make the keys anew with consilium-client trainer keys")]
    Unusable {
        /// Which of the files.
        file: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

fn unusable(file: &'static str) -> impl Fn(String) -> KeyError {
    move |why| KeyError::Unusable { file, why }
}

/// Makes both sides' keys and certificates in `folder`, which exists. Nothing is overwritten.
///
/// # Errors
///
/// [`KeyError`].
pub fn make_keys(folder: &Path) -> Result<(), KeyError> {
    for (key_file, certificate_file, name) in
        [(CLIENT_KEY, CLIENT_CERTIFICATE, "client"), (TRAINER_KEY, TRAINER_CERTIFICATE, NAME)]
    {
        let failed = |error: rcgen::Error| unusable(key_file)(error.to_string());
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        certificate.not_before = rcgen::date_time_ymd(2020, 1, 1);
        certificate.not_after = rcgen::date_time_ymd(2120, 1, 1);
        let certificate = certificate.self_signed(&pair).map_err(failed)?;
        files::create_private(&folder.join(key_file), &Secret::new(pair.serialize_pem()))?;
        files::write_atomic(&folder.join(certificate_file), certificate.pem().as_bytes())?;
    }
    Ok(())
}

/// The client's side, from a folder with its key, its certificate and the trainer's certificate.
///
/// # Errors
///
/// [`KeyError`]: a file that is missing, exposed or not what it should be.
pub fn client_config(folder: &Path) -> Result<Arc<ClientConfig>, KeyError> {
    let key = files::read_private(&folder.join(CLIENT_KEY))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|error| unusable(CLIENT_KEY)(error.to_string()))?;
    let certificate = read_certificate(folder, CLIENT_CERTIFICATE)?;
    let trainer = key_digest(&read_certificate(folder, TRAINER_CERTIFICATE)?)
        .ok_or_else(|| unusable(TRAINER_CERTIFICATE)("not a certificate".into()))?;
    let config = client_config_for(trainer, certificate, key);
    config.map(Arc::new).map_err(|error| unusable(CLIENT_KEY)(error.to_string()))
}

fn read_certificate(folder: &Path, file: &'static str) -> Result<CertificateDer<'static>, KeyError> {
    let text = files::read_text(&folder.join(file), 1 << 16)?;
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| unusable(file)(error.to_string()))
}
