//! Who is on a connection that a TLS inspection box has opened: a challenge, signed with the roster's key.
//!
//! Where a hospital's own box ends TLS and begins it anew, neither end sees the other's key. The coordinator then gives each
//! connection 32 random bytes, and the member signs them for this job. A signature proves who speaks on that connection,
//! not that nobody listens: what the box sees stands in the manual.

use consilium_crypto::{
    digest::Digest,
    sign::{Signature, SigningKey, sign, verify},
};
use jiff::civil::Date;
use thiserror::Error;

use crate::{
    ids::Id,
    roster::{Caller, Unlisted, VerifiedRoster},
};

/// Header with the id of whoever makes a call.
pub const ID_HEADER: &str = "consilium-organization";
/// Header with the signature, 64 bytes.
pub const PROOF_HEADER: &str = "consilium-proof-bin";

const WHAT: &str = "connection";

/// What a connection's member signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge(pub [u8; 32]);

/// Why a connection is not a member's.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ProofRefused {
    /// Nobody of that name.
    #[error("the roster lists no organization {0}")]
    Unknown(String),
    /// Its entry does not count.
    #[error(transparent)]
    Unlisted(#[from] Unlisted),
    /// The signature is another's, or of another connection or job.
    #[error(
        "the signature is not {0}'s over this connection's challenge; dial again, and compare the plans if that does not help"
    )]
    Signature(Id),
}

impl Challenge {
    /// Signs it as `id`, for the job with this plan.
    pub fn prove(&self, plan: &Digest, id: &Id, key: &SigningKey) -> Signature {
        sign(key, WHAT, plan, id.as_str(), &self.0)
    }

    /// Whose signature it is.
    ///
    /// # Errors
    ///
    /// [`ProofRefused`].
    pub fn verify(
        &self,
        roster: &VerifiedRoster,
        plan: &Digest,
        id: &str,
        proof: &Signature,
        today: Date,
    ) -> Result<Caller, ProofRefused> {
        let unknown = || ProofRefused::Unknown(id.chars().take(80).collect());
        let id: Id = id.parse().map_err(|_| unknown())?;
        let party = roster.organization(&id).ok_or_else(unknown)?;
        let caller = roster.caller(&party.tls_key, today)?;
        verify(&party.signing_key, WHAT, plan, id.as_str(), &self.0, proof)
            .map_err(|_| ProofRefused::Signature(id))?;
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        roster::{chain, revocation::Revocations},
        testing::{self, ALL, key, party},
    };

    #[test]
    fn a_proof_is_one_members_over_one_connection_and_one_job() {
        let mut roster = testing::roster();
        roster.operators.push(party(&"ada".parse().unwrap(), 50));
        let version = testing::version(&roster, &ALL);
        let roster =
            chain::verify(std::slice::from_ref(&version), &testing::pin(&version), &Revocations::default())
                .unwrap();
        let listed = roster.document().organizations[0].clone();
        let (id, today) = (listed.id.clone(), listed.valid_until);
        let own = (1..60).map(key).find(|key| key.verifying_key() == listed.signing_key).unwrap();
        let (challenge, plan) = (Challenge([7; 32]), Digest([1; 32]));
        let proof = challenge.prove(&plan, &id, &own);
        let check = |challenge: &Challenge, plan: &Digest, id: &str, proof: &Signature, day| {
            challenge.verify(&roster, plan, id, proof, day)
        };
        assert_eq!(
            check(&challenge, &plan, id.as_str(), &proof, today),
            Ok(Caller::Organization(id.clone()))
        );
        let other = || Err(ProofRefused::Signature(id.clone()));
        assert_eq!(check(&Challenge([8; 32]), &plan, id.as_str(), &proof, today), other());
        assert_eq!(check(&challenge, &Digest([2; 32]), id.as_str(), &proof, today), other());
        let peers = challenge.prove(&plan, &id, &key(50));
        assert_eq!(check(&challenge, &plan, id.as_str(), &peers, today), other());
        // Operators come by their keys alone; ids that are none are not echoed at length.
        let operator = challenge.prove(&plan, &"ada".parse().unwrap(), &key(50));
        assert!(matches!(check(&challenge, &plan, "ada", &operator, today), Err(ProofRefused::Unknown(_))));
        let Err(ProofRefused::Unknown(told)) = check(&challenge, &plan, &"x".repeat(9000), &proof, today)
        else {
            panic!()
        };
        assert_eq!(told.len(), 80);
        let late = today.tomorrow().unwrap();
        assert!(matches!(
            check(&challenge, &plan, id.as_str(), &proof, late),
            Err(ProofRefused::Unlisted(_))
        ));
    }
}
