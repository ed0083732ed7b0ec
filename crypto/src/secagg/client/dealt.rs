//! Step 2: shares dealt.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::{Adverts, Position, Ready, Refusal, Seat, Step, advertised::Keys, holding::Holding};
use crate::{
    codec::Reader,
    secagg::{
        blame::{complain, open_parcel},
        keys::Route,
        messages::{DealHeader, DealHeaders, Parcel},
        opening::Opening,
    },
    secret::Secret,
};

/// A client that has dealt its shares and waits for those dealt to it.
#[derive(Debug)]
pub struct Dealt {
    pub(super) seat: Seat,
    pub(super) keys: Keys,
    pub(super) adverts: Arc<Adverts>,
    /// The share of its own secrets.
    pub(super) own: Opening,
    /// What its sealing key and each advertised one agree on.
    pub(super) agreed: BTreeMap<Position, Secret<[u8; 32]>>,
    /// The header it signed.
    pub(super) header: DealHeader,
}

impl Dealt {
    /// Takes the shares dealt to this member. Says nothing yet: the next word is the masked vector.
    ///
    /// # Errors
    ///
    /// Checks D1 to D9 of the manual. [`Refusal::BadDeal`] carries a complaint.
    pub fn on_deals(self, delivery: &[u8]) -> Result<Ready, Refusal> {
        let Self { seat, keys, adverts, own, agreed, header } = self;
        let attempt = &seat.attempt;
        let mut r = Reader::new(delivery);
        let headers = DealHeaders::verify(attempt, &adverts, &mut r)?;
        if headers.of(seat.me).map(|shown| &shown.body) != Some(&header.body) {
            return Err(Refusal::Own { step: Step::Share });
        }
        let mut parcels = Vec::with_capacity(headers.dealers().len());
        for dealer in headers.dealers().filter(|dealer| *dealer != seat.me) {
            let parcel = Parcel::read(&mut r, attempt, seat.me).map_err(Refusal::malformed(Step::Share))?;
            parcels.push((dealer, parcel));
        }
        r.finish().map_err(Refusal::malformed(Step::Share))?;

        let mut openings = Vec::with_capacity(headers.dealers().len());
        for (dealer, parcel) in parcels {
            let opening = receive(&seat, &keys, &adverts, &agreed, &headers, dealer, &parcel)?;
            openings.push((dealer, opening));
        }
        openings.push((seat.me, own));
        openings.sort_by_key(|(dealer, _)| *dealer);

        let holding = Holding {
            seat,
            step1: *adverts.hash(),
            step2: *headers.hash(),
            ledgers: adverts.ledgers().clone(),
            openings,
        };
        Ok(Ready::new(holding, keys, &adverts))
    }
}

/// Checks one dealer's parcel and opens it.
fn receive(
    seat: &Seat,
    keys: &Keys,
    adverts: &Adverts,
    agreed: &BTreeMap<Position, Secret<[u8; 32]>>,
    headers: &DealHeaders,
    dealer: Position,
    parcel: &Parcel<'_>,
) -> Result<Opening, Refusal> {
    let outsider = Refusal::Outsider { step: Step::Share, member: dealer };
    let (Some(advert), Some(header), Some(shared)) =
        (adverts.of(dealer), headers.of(dealer), agreed.get(&dealer))
    else {
        return Err(outsider);
    };
    if !parcel.is_under(&header.root, &seat.attempt, seat.me) {
        return Err(Refusal::NotUnderRoot { dealer });
    }
    let route = Route {
        attempt: &seat.attempt,
        step1: adverts.hash(),
        dealer: (dealer, &advert.seal),
        recipient: (seat.me, keys.seal.public()),
    };
    open_parcel(&route, shared, parcel).map_err(|what| {
        let complaint = complain(&route, &keys.seal, headers, parcel);
        Refusal::BadDeal { dealer, what, complaint }
    })
}
