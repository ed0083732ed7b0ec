//! What peers keep of each other's adverts: a member restored from an old copy of its state is shown its own later words.
//!
//! An advert is signed under its attempt's context, so a kept one proves, whoever shows it, that its member has said it:
//! that its ledger was at least so long, and its last entry this one.

use alloc::vec::Vec;

use super::{Flaw, HEAD_LEN, LedgerHead, Speaker, advert::ADVERT_LEN, label, read_head};
use crate::{
    codec::Reader,
    digest::Digest,
    secagg::{MemberId, Position, Step},
    sign::{self, Signature, VerifyingKey},
};

/// What `member` said about its ledger in an advert that is shown apart from its attempt. `ctx` is the attempt's context;
/// whether it is the context of the attempt that is claimed is for the caller to say.
///
/// # Errors
///
/// [`Flaw::Malformed`], or [`Flaw::Signature`] when `member`, with this key, never said so in this context.
pub fn advertised_ledger(
    ctx: &Digest,
    member: &MemberId,
    key: &VerifyingKey,
    advert: &[u8],
) -> Result<LedgerHead, Flaw> {
    let mut r = Reader::new(advert);
    read_head(&mut r, Step::Advertise, Speaker::Member)?;
    r.u16("position")?;
    r.raw("keys", 96)?;
    let ledger = LedgerHead { length: r.u64("ledger length")?, salted_head: r.digest("ledger head")? };
    let signature: [u8; Signature::LEN] = r.array("signature")?;
    r.finish()?;
    let signed = advert.get(..advert.len().saturating_sub(Signature::LEN)).unwrap_or_default();
    sign::verify(key, label(Step::Advertise), ctx, member.as_str(), signed, &Signature(signature))
        .map_err(|_| Flaw::Signature)?;
    Ok(ledger)
}

/// The adverts in a delivery that a client has verified, with their members' positions.
pub fn delivered_adverts(delivery: &[u8]) -> Vec<(Position, Vec<u8>)> {
    let adverts = delivery.get(HEAD_LEN + 4..).unwrap_or_default().chunks_exact(ADVERT_LEN);
    let position = |advert: &[u8]| {
        let bytes = advert.get(HEAD_LEN..HEAD_LEN + 2)?;
        Some(Position(u16::from_le_bytes(bytes.try_into().ok()?)))
    };
    adverts.filter_map(|advert| Some((position(advert)?, advert.to_vec()))).collect()
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::{
        ring::RingWidth,
        secagg::{Attempt, Member, Params, client::Advertised, coordinator::Collector},
        sign::SigningKey,
        testing::rng,
    };

    #[test]
    fn a_kept_advert_proves_what_its_member_said_and_nothing_else() {
        let keys: Vec<SigningKey> = (1..=3).map(|seed| SigningKey::from_seed([seed; 32])).collect();
        let ids = ["a", "b", "c"].map(|id| MemberId::new(id).unwrap());
        let members: Vec<_> = ids
            .iter()
            .zip(&keys)
            .map(|(id, key)| Member { id: id.clone(), key: key.verifying_key() })
            .collect();
        let params = Params::new(3, 1, 3, RingWidth::new(16).unwrap(), 4).unwrap();
        let ctx = Digest([7; 32]);
        let attempt = Arc::new(Attempt::new(ctx, params, members).unwrap());
        let mut collector = Collector::new(attempt.clone());
        let mut said = Vec::new();
        for (index, key) in (0u16..).zip(&keys) {
            let ledger = LedgerHead { length: 40 + u64::from(index), salted_head: Digest([index as u8; 32]) };
            let me = Position(index);
            let (_, advert) =
                Advertised::start(attempt.clone(), me, key, ledger, &mut rng(u64::from(index))).unwrap();
            collector.accept(me, Step::Advertise, &advert).unwrap();
            said.push((me, advert));
        }
        collector.close().unwrap();
        let kept = delivered_adverts(&collector.delivery(Position(0)).unwrap());
        assert_eq!(kept, said);

        let (_, advert) = &kept[1];
        let (public, other) = (keys[1].verifying_key(), keys[2].verifying_key());
        let head = advertised_ledger(&ctx, &ids[1], &public, advert).unwrap();
        assert_eq!((head.length, head.salted_head), (41, Digest([1; 32])));
        let refused = |ctx, id, key, advert: &[u8]| advertised_ledger(ctx, id, key, advert).is_err();
        assert!(refused(&Digest([8; 32]), &ids[1], &public, advert), "another attempt");
        assert!(refused(&ctx, &ids[2], &public, advert), "another member");
        assert!(refused(&ctx, &ids[1], &other, advert), "another key");
        for index in 0..advert.len() {
            let mut bent = advert.clone();
            bent[index] ^= 1;
            assert!(refused(&ctx, &ids[1], &public, &bent), "byte {index}");
            assert!(refused(&ctx, &ids[1], &public, &advert[..index]), "cut at {index}");
        }
        assert!(delivered_adverts(&[]).is_empty() && delivered_adverts(&[1; 9]).is_empty());
    }
}
