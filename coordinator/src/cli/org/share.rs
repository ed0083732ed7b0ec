//! Shamir's sharing of an identity's text over GF(256), byte by byte (`blahaj`), and the files in which shares travel.
//!
//! A share tells nothing about the keys by itself; what stands beside it is public. It carries a checksum against slips of copying, and
//! the public signing key, so that what is put together is known to be right before it is written. A custodian that hands in a
//! wrong share on purpose can keep the keys from being put together, and gains nothing: leave it out and ask another one.

use std::path::Path;

use blahaj::Sharks;
use consilium_crypto::{
    digest::{Digest, Transcript},
    secret::Secret,
    sign::VerifyingKey,
};
use consilium_proto::{identity::Identity, ids::Id};
use rand::{Rng as _, rand_core::UnwrapErr, rngs::SysRng};
use serde::{Deserialize, Serialize};

use crate::{cli::Failure, files};

/// One custodian's share.
pub(super) struct Share {
    pub(super) organization: Id,
    pub(super) custodian: Id,
    threshold: u8,
    signing_key: String,
    dealing: String,
    bytes: Secret<Vec<u8>>,
}

/// As it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareText {
    organization: Id,
    custodian: Id,
    /// So many of one dealing put the keys together.
    threshold: u8,
    /// The organization's public signing key.
    signing_key: String,
    /// Which dealing; shares of two do not go together.
    dealing: String,
    /// The share, hexadecimal.
    share: String,
    /// Checksum of all of the above.
    check: String,
}

impl Share {
    /// Deals one share to each custodian.
    pub(super) fn deal(identity: &Identity, threshold: u8, custodians: &[Id]) -> Result<Vec<Self>, Failure> {
        let rng = &mut UnwrapErr(SysRng);
        let mut dealing = [0; 16];
        rng.fill_bytes(&mut dealing);
        let secret = identity.to_text();
        let dealt = Sharks(threshold).dealer_rng(secret.expose().as_bytes(), rng);
        let shares = custodians.iter().zip(dealt).map(|(custodian, share)| Self {
            organization: identity.id.clone(),
            custodian: custodian.clone(),
            threshold,
            signing_key: identity.signing_key().verifying_key().to_string(),
            dealing: hex::encode(dealing),
            bytes: Secret::new(Vec::from(&share)),
        });
        let shares: Vec<_> = shares.collect();
        // What cannot be put together again is no backup.
        combine(&shares[..usize::from(threshold)]).map_err(Failure::Refused)?;
        Ok(shares)
    }

    fn check(&self) -> Digest {
        Transcript::new("consilium/1/share")
            .bytes(self.organization.as_str().as_bytes())
            .bytes(self.custodian.as_str().as_bytes())
            .bytes(&[self.threshold])
            .bytes(self.signing_key.as_bytes())
            .bytes(self.dealing.as_bytes())
            .bytes(self.bytes.expose())
            .finish()
    }

    /// The file's text.
    pub(super) fn to_text(&self) -> Secret<String> {
        let text = ShareText {
            organization: self.organization.clone(),
            custodian: self.custodian.clone(),
            threshold: self.threshold,
            signing_key: self.signing_key.clone(),
            dealing: self.dealing.clone(),
            share: hex::encode(self.bytes.expose()),
            check: self.check().to_string(),
        };
        // Unwrap safety: strings and a number serialize to TOML.
        let whole = Secret::new(toml::to_string(&text).unwrap_or_default());
        drop(Secret::new(text.share));
        whole
    }

    /// Reads a private file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read_private(path)?;
        // The parser's own message would repeat the line.
        let parsed: ShareText = toml::from_str(text.expose())
            .map_err(|_| Failure::in_file(path, "not a share as `consilium org` writes it"))?;
        let share = Secret::new(parsed.share);
        let bytes = hex::decode(share.expose())
            .map_err(|_| Failure::in_file(path, "its share is not hexadecimal"))?;
        let ShareText { organization, custodian, threshold, signing_key, dealing, check, .. } =
            ShareText { share: String::new(), ..parsed };
        let share =
            Self { organization, custodian, threshold, signing_key, dealing, bytes: Secret::new(bytes) };
        if share.check().to_string() != check {
            return Err(Failure::in_file(
                path,
                "its checksum does not fit: it was changed, or copied wrongly; ask the custodian again",
            ));
        }
        Ok(share)
    }
}

/// The identity's text, from enough shares of one dealing; in words, why not.
pub(super) fn combine(shares: &[Share]) -> Result<Secret<String>, String> {
    let Some(first) = shares.first() else { return Err("no share was given".into()) };
    let (mut parts, mut seen) = (Vec::new(), Vec::new());
    for share in shares {
        let same = (&share.organization, share.threshold, &share.dealing, &share.signing_key)
            == (&first.organization, first.threshold, &first.dealing, &first.signing_key);
        if !same {
            return Err(format!(
                "the shares of {} and {} are of different dealings; give shares that were made together",
                first.custodian, share.custodian
            ));
        }
        // The first byte is the point at which the polynomials were evaluated; zero would be the secret itself.
        let point = share.bytes.expose().first().copied().unwrap_or(0);
        let part = blahaj::Share::try_from(share.bytes.expose().as_slice());
        let (Ok(part), 1..) = (part, point) else {
            return Err(format!("the share of {} is none", share.custodian));
        };
        if !seen.contains(&point) {
            seen.push(point);
            parts.push(part);
        }
    }
    let (have, need) = (seen.len(), usize::from(first.threshold));
    if have < need {
        return Err(format!(
            "{need} shares put the keys of {} together, and {have} were given",
            first.organization
        ));
    }
    let bytes = Sharks(first.threshold).recover(&parts).map(Secret::new).map_err(str::to_owned)?;
    let wrong = || {
        "what these shares give is not the identity they were made of: one of them is false; try another custodian's".to_owned()
    };
    let text = Secret::new(str::from_utf8(bytes.expose()).map_err(|_| wrong())?.to_owned());
    let identity = Identity::parse(text.expose()).map_err(|_| wrong())?;
    let key: VerifyingKey = identity.signing_key().verifying_key();
    if key.to_string() == first.signing_key { Ok(text) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_shares_give_the_keys_and_a_false_one_is_found() {
        let identity = Identity::generate("site-1".parse().unwrap(), [3; 32]).unwrap();
        let custodians: Vec<Id> = ["a", "b", "c", "d"].iter().map(|id| id.parse().unwrap()).collect();
        let mut shares = Share::deal(&identity, 3, &custodians).unwrap();
        let whole = identity.to_text();
        for left_out in 0..4 {
            let some: Vec<Share> = (0..4).filter(|at| *at != left_out).map(|at| copy(&shares[at])).collect();
            assert_eq!(combine(&some).unwrap().expose(), whole.expose());
        }
        let twice = [copy(&shares[0]), copy(&shares[1]), copy(&shares[1])];
        assert!(combine(&twice).unwrap_err().contains("3 shares"));
        let other = Share::deal(&identity, 3, &custodians).unwrap();
        let mixed = [copy(&shares[0]), copy(&shares[1]), copy(&other[2])];
        assert!(combine(&mixed).unwrap_err().contains("different dealings"));
        let mut bent = shares[2].bytes.expose().clone();
        bent[40] ^= 1;
        shares[2].bytes = Secret::new(bent);
        let error = combine(&shares[..3]).unwrap_err();
        assert!(error.contains("one of them is false"), "{error}");
    }

    fn copy(share: &Share) -> Share {
        Share {
            organization: share.organization.clone(),
            custodian: share.custodian.clone(),
            threshold: share.threshold,
            signing_key: share.signing_key.clone(),
            dealing: share.dealing.clone(),
            bytes: Secret::new(share.bytes.expose().clone()),
        }
    }
}
