//! Steps 1 and 2: keys, and their shares.

use super::*;

impl Scribe<'_> {
    pub(super) fn advertise(&mut self) -> Value {
        let mut adverts = Vec::new();
        let mut all = Vec::new();
        for i in &self.inputs.speaks[0] {
            let ledger = &self.inputs.members[usize::from(*i)].ledger;
            let [sealing, masking, own] = self.keys(*i);
            let mut body = [head(1, 0), i.to_le_bytes().to_vec()].concat();
            [sealing, masking, own].iter().for_each(|pair| body.extend(pair.public));
            body.extend(ledger.length.to_le_bytes());
            body.extend(ledger.salted_head.0);
            let (digest, body) = self.signed(*i, "advert", body);
            assert_eq!(body, self.run.bodies[0][i], "advert of {i}");
            let pair = |pair: &Pair| json!({ "secret": hex::encode(pair.secret.to_bytes()), "public": hex::encode(pair.public) });
            adverts.push(json!({
                "position": i,
                "sealing_key": pair(sealing),
                "masking_key": pair(masking),
                "self_mask_seed": pair(own),
                "signed_digest": digest,
                "body": hex::encode(&body),
            }));
            all.extend(body);
        }
        self.step1 = h("consilium/1/step-1", &[&self.ctx, &all]);
        let count = (adverts.len() as u32).to_le_bytes();
        let delivery = [&head(2, 1)[..], &count, &all].concat();
        for shown in self.run.deliveries[1].values() {
            assert_eq!(&delivery, shown);
        }
        json!({
            "adverts": adverts,
            "step_1_hash": hex::encode(self.step1),
            "delivery": hex::encode(delivery),
        })
    }

    pub(super) fn share(&mut self) -> Value {
        let dealers = &self.inputs.speaks[1];
        let (mut deals, mut all, mut trees) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut boxes: BTreeMap<(u16, u16), Vec<u8>> = BTreeMap::new();
        for dealer in dealers {
            let polynomials = self.polynomials(*dealer);
            let (mut dealt, mut leaves, mut rest) = (Vec::new(), Vec::new(), Vec::new());
            for recipient in 0..self.inputs.n() {
                if !self.inputs.speaks[0].contains(&recipient) {
                    leaves.push(h("consilium/1/deal/leaf", &[]));
                    continue;
                }
                let (value, entry, leaf) = self.deal_to(*dealer, recipient, &polynomials);
                dealt.push(value);
                leaves.push(leaf);
                rest.extend(&entry);
                boxes.insert((*dealer, recipient), entry);
            }
            let tree = Tree::new(leaves.clone());
            let header = [&head(2, 0)[..], &dealer.to_le_bytes(), &self.step1, &tree.root].concat();
            let (digest, header) = self.signed(*dealer, "deal", header);
            let body = [&header[..], &rest].concat();
            assert_eq!(body, self.run.bodies[1][dealer], "deal of {dealer}");
            deals.push(json!({
                "position": dealer,
                "masking_key_polynomial": scalars(&polynomials[0]),
                "self_mask_seed_polynomial": scalars(&polynomials[1]),
                "to": dealt,
                "leaves": list(&leaves),
                "root": hex::encode(tree.root),
                "signed_digest": digest,
                "header": hex::encode(&header),
                "body_length": body.len(),
                "body_sha256": hex::encode(sha256(&body)),
            }));
            all.extend(header);
            trees.insert(*dealer, tree);
        }
        self.step2 = h("consilium/1/step-2", &[&self.step1, &all]);
        let front = [&head(3, 1)[..], &(dealers.len() as u32).to_le_bytes(), &all].concat();
        let mut deliveries = Vec::new();
        for (recipient, shown) in &self.run.deliveries[2] {
            let mut delivery = front.clone();
            let mut paths = Map::new();
            for dealer in dealers.iter().filter(|dealer| *dealer != recipient) {
                let path = trees[dealer].path(usize::from(*recipient));
                delivery.extend(&boxes[&(*dealer, *recipient)]);
                path.iter().for_each(|sibling| delivery.extend(sibling));
                paths.insert(dealer.to_string(), json!(list(&path)));
            }
            assert_eq!(&delivery, shown, "deals to {recipient}");
            deliveries.push(json!({
                "to": recipient,
                "paths": paths,
                "delivery_length": delivery.len(),
                "delivery_sha256": hex::encode(sha256(&delivery)),
            }));
        }
        json!({ "deals": deals, "step_2_hash": hex::encode(self.step2), "deliveries": deliveries })
    }

    /// Constant terms first: the masking key's and the self-mask seed's.
    pub(super) fn polynomials(&self, dealer: u16) -> [Vec<Scalar>; 2] {
        let [_, masking, own] = self.keys(dealer);
        let draws = &self.inputs.members[usize::from(dealer)].draws.coefficients;
        [(masking, &draws[0]), (own, &draws[1])]
            .map(|(pair, draws)| [pair.secret].into_iter().chain(draws.iter().map(scalar)).collect())
    }

    /// The value for the vector, the bytes in the body, and the leaf.
    pub(super) fn deal_to(
        &mut self,
        dealer: u16,
        recipient: u16,
        polynomials: &[Vec<Scalar>; 2],
    ) -> (Value, Vec<u8>, [u8; 32]) {
        let salt = self.inputs.members[usize::from(dealer)].draws.salts[usize::from(recipient)];
        let (from, to) = (self.id(dealer).as_bytes(), self.id(recipient).as_bytes());
        let shares = [0, 1].map(|kind| evaluate(&polynomials[kind], u64::from(recipient) + 1));
        let salts = KINDS.map(|kind| hkdf(&salt, &h(&format!("consilium/1/salt-{kind}"), &[])));
        let commitments = [0, 1].map(|kind| {
            let label = format!("consilium/1/open-{}", KINDS[kind]);
            h(&label, &[&self.ctx, from, to, &shares[kind], &salts[kind]])
        });
        let mut value = json!({
            "position": recipient,
            "share_of_masking_key": hex::encode(shares[0]),
            "share_of_self_mask_seed": hex::encode(shares[1]),
            "salt": hex::encode(salt),
            "salt_mask": hex::encode(salts[0]),
            "salt_seed": hex::encode(salts[1]),
            "commitment_mask": hex::encode(commitments[0]),
            "commitment_seed": hex::encode(commitments[1]),
        });
        let mut sealed = Vec::new();
        if dealer != recipient {
            let (own, peer) = (self.keys(dealer)[0], self.keys(recipient)[0].public);
            let shared = own.agree(&peer);
            let info = h("consilium/1/seal", &[&self.ctx, &self.step1, from, to, &own.public, &peer]);
            let key: [u8; 32] = hkdf(&shared, &info);
            let associated = [&self.ctx[..], &self.step1, &sized(from), &sized(to)].concat();
            let opening = [shares[0], shares[1], salt].concat();
            sealed = manual::seal(&key, &opening, &associated);
            for (name, bytes) in [
                ("shared_secret", &shared[..]),
                ("hkdf_info", &info),
                ("sealing_key", &key),
                ("associated_data", &associated),
                ("plaintext", &opening),
                ("sealed", &sealed),
            ] {
                value[name] = json!(hex::encode(bytes));
            }
        }
        self.openings.insert((dealer, recipient), Opening { shares, salts });
        let leaf = h("consilium/1/deal/leaf", &[&sha256(&sealed), &commitments[0], &commitments[1]]);
        (value, [sealed, commitments.concat()].concat(), leaf)
    }
}
