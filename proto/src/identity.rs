//! A party's two keys: one signs protocol messages and documents, one proves who is at the end of a connection.
//!
//! The private half is one TOML text, kept in a file that only its owner can read; the public half is the entry for
//! the roster. Reading and writing files is for whoever runs the process.

use std::fmt;

use consilium_crypto::{digest::Digest, secret::Secret, sign::SigningKey};
use jiff::civil::Date;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::ParsedCertificate,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ids::Id, roster::Party};

/// The private half. Never printed, never sent; see [`Party`] for the public half.
///
/// # Security
///
/// [`Identity::to_text`] is the only way its secrets leave memory, and the text belongs in a file of mode 0600.
/// The TLS key is held by rustls as well, which does not promise to wipe it.
pub struct Identity {
    /// Whose keys these are.
    pub id: Id,
    signing: SigningKey,
    tls_key: Secret<Vec<u8>>,
    certificate: CertificateDer<'static>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityText {
    id: Id,
    /// Ed25519 seed, hexadecimal.
    signing_key: String,
    /// PKCS #8 DER, hexadecimal.
    tls_key: String,
    /// X.509 DER, hexadecimal.
    tls_certificate: String,
}

/// Why an identity was refused.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The text is not an identity. Its content is not repeated: it holds secrets.
    #[error(
        "the identity's field {0} is missing or malformed; restore the file from its backup, or make a new identity"
    )]
    Malformed(&'static str),
    /// The TLS library could not make or read a key.
    #[error("the TLS key could not be used: {0}")]
    Tls(String),
}

impl Identity {
    /// Makes fresh keys. `seed` is 32 bytes from the operating system's generator.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Tls`] when the TLS library cannot make a key.
    pub fn generate(id: Id, seed: [u8; 32]) -> Result<Self, IdentityError> {
        let tls = |e: rcgen::Error| IdentityError::Tls(e.to_string());
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(tls)?;
        let mut certificate = rcgen::CertificateParams::new(vec![id.to_string()]).map_err(tls)?;
        // The roster, not the certificate, says until when a key counts.
        certificate.not_before = rcgen::date_time_ymd(2020, 1, 1);
        certificate.not_after = rcgen::date_time_ymd(2120, 1, 1);
        let certificate = certificate.self_signed(&pair).map_err(tls)?;
        Ok(Self {
            id,
            signing: SigningKey::from_seed(seed),
            tls_key: Secret::new(pair.serialize_der()),
            certificate: certificate.der().clone(),
        })
    }

    /// Reads the private text.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Malformed`] names the field.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let text: IdentityText = toml::from_str(text).map_err(|_| IdentityError::Malformed("list"))?;
        let IdentityText { id, signing_key, tls_key, tls_certificate } = text;
        // Into the wrapper first, so that they are wiped however this ends.
        let (signing_key, tls_key) = (Secret::new(signing_key), Secret::new(tls_key));
        let mut decoded = Ok(());
        let seed = Secret::<[u8; 32]>::build(|seed| {
            decoded = hex::decode_to_slice(signing_key.expose(), seed);
        });
        decoded.map_err(|_| IdentityError::Malformed("signing_key"))?;
        let tls_key = hex::decode(tls_key.expose()).map_err(|_| IdentityError::Malformed("tls_key"))?;
        let tls_key = Secret::new(tls_key);
        let certificate =
            hex::decode(&tls_certificate).map_err(|_| IdentityError::Malformed("tls_certificate"))?;
        let certificate = CertificateDer::from(certificate);
        key_digest(&certificate).ok_or(IdentityError::Malformed("tls_certificate"))?;
        let signing = SigningKey::from_seed(*seed.expose());
        Ok(Self { id, signing, tls_key, certificate })
    }

    /// The private text, to be written where only its owner can read it.
    pub fn to_text(&self) -> Secret<String> {
        let text = IdentityText {
            id: self.id.clone(),
            signing_key: hex::encode(self.signing.seed().expose()),
            tls_key: hex::encode(self.tls_key.expose()),
            tls_certificate: hex::encode(&self.certificate),
        };
        // Unwrap safety: four strings serialize to TOML.
        let whole = Secret::new(toml::to_string(&text).unwrap_or_default());
        let IdentityText { signing_key, tls_key, .. } = text;
        drop((Secret::new(signing_key), Secret::new(tls_key)));
        whole
    }

    /// The public half: this party's entry in the roster.
    pub fn party(&self, valid_until: Date) -> Party {
        // Unwrap safety: both constructors made or checked the certificate.
        let tls_key = key_digest(&self.certificate).unwrap_or(Digest([0; 32]));
        Party { id: self.id.clone(), signing_key: self.signing.verifying_key(), tls_key, valid_until }
    }

    /// Signs protocol messages and documents.
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing
    }

    /// The certificate that carries the TLS key.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn tls_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.tls_key.expose().clone()))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, <redacted>)", self.id)
    }
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo, or `None` when it is not a certificate.
pub fn key_digest(certificate: &CertificateDer<'_>) -> Option<Digest> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(Digest::of(&parsed.subject_public_key_info()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_text_and_prints_no_secret() {
        let identity = Identity::generate("site-1".parse().unwrap(), [7; 32]).unwrap();
        let text = identity.to_text();
        let back = Identity::parse(text.expose()).unwrap();
        let day = jiff::civil::date(2027, 1, 1);
        assert_eq!(identity.party(day).tls_key, back.party(day).tls_key);
        assert_eq!(identity.party(day).signing_key, back.party(day).signing_key);
        assert_eq!(format!("{identity:?}"), "Identity(site-1, <redacted>)");
        let bent = text.expose().replace("signing_key = \"", "signing_key = \"zz");
        let error = Identity::parse(&bent).unwrap_err();
        assert!(matches!(error, IdentityError::Malformed("signing_key")));
        assert!(!error.to_string().contains("0707"), "an error never repeats a secret");
    }
}
