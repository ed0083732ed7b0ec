//! Fields of signed documents that are not plain TOML types.

use consilium_crypto::{digest::Digest, sign::VerifyingKey};
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

/// 32 bytes as 64 hexadecimal digits.
pub(crate) mod digest {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&digest.to_string())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// 32 bytes as 64 hexadecimal digits, or nothing.
pub(crate) mod optional_digest {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(digest: &Option<Digest>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&digest.map(|digest| digest.to_string()).unwrap_or_default())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Digest>, D::Error> {
        super::digest::deserialize(from).map(Some)
    }
}

/// An Ed25519 public key as 64 hexadecimal digits.
pub(crate) mod key {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(key: &VerifyingKey, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&key.to_string())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<VerifyingKey, D::Error> {
        let digits: Digest = String::deserialize(from)?.parse().map_err(D::Error::custom)?;
        VerifyingKey::from_bytes(digits.0).map_err(D::Error::custom)
    }
}

/// Bytes as hexadecimal digits.
pub(crate) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A calendar day in UTC, written `2027-11-23`.
pub(crate) mod day {
    use jiff::civil::Date;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(day: &Date, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&day.to_string())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Date, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| D::Error::custom(format!("\"{text}\" is not a day written as 2027-11-23")))
    }
}
