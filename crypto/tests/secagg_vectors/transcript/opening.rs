//! Steps 4 and 5: votes, answers, and the sum.

use super::*;

impl Scribe<'_> {
    pub(super) fn vote(&mut self) -> Value {
        let survivors = &self.inputs.speaks[2];
        self.ballot =
            [&head(4, 0)[..], &self.step1, &self.step2, &self.headers, &manual::positions(survivors)]
                .concat();
        let voters = &self.inputs.speaks[3];
        let (mut votes, mut all) = (Vec::new(), (voters.len() as u32).to_le_bytes().to_vec());
        for i in voters {
            let (digest, body) = self.signed(*i, "vote", self.ballot.clone());
            assert_eq!(body, self.run.bodies[3][i], "vote of {i}");
            all.extend(i.to_le_bytes());
            all.extend(&body[body.len() - 64..]);
            votes.push(json!({ "position": i, "signed_digest": digest, "body": hex::encode(body) }));
        }
        let delivery = [&head(5, 1)[..], &self.headers, &manual::positions(survivors), &all].concat();
        for shown in self.run.deliveries[4].values() {
            assert_eq!(&delivery, shown);
        }
        json!({ "ballot": hex::encode(&self.ballot), "votes": votes, "delivery": hex::encode(delivery) })
    }

    pub(super) fn unmask(&mut self) -> Value {
        let answers: Vec<Value> = self.inputs.speaks[4].iter().map(|i| self.answer(*i)).collect();
        let quorum = usize::from(self.inputs.quorum());
        // The collector puts the secrets together from the first answers by position.
        let used: Vec<u16> = self.inputs.speaks[4].iter().take(quorum).copied().collect();
        let parties: Vec<u64> = used.iter().map(|i| u64::from(*i) + 1).collect();
        let weights: Vec<Scalar> = parties.iter().map(|x| manual::weight(*x, &parties)).collect();
        let (mut secrets, mut bytes, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for dealer in &self.inputs.speaks[1] {
            let kind = self.kind(*dealer);
            let shares = used.iter().map(|i| self.openings[&(*dealer, *i)].shares[kind]);
            let secret: Scalar = weights
                .iter()
                .zip(shares)
                .map(|(weight, share)| weight * Scalar::from_canonical_bytes(share).unwrap())
                .sum();
            assert_eq!(secret, self.keys(*dealer)[1 + kind].secret, "secret of {dealer}");
            bytes.extend(secret.to_bytes());
            secrets.push(
                json!({ "dealer": dealer, "kind": KINDS[kind], "secret": hex::encode(secret.to_bytes()) }),
            );
            left.extend(self.left_over(*dealer));
        }
        let record = self.record(&bytes);
        let (masked_sum, sum) = self.sums(&left);
        json!({
            "answers": answers,
            "reconstructed_from": used,
            "lagrange_weights": scalars(&weights),
            "secrets": secrets,
            "masks_in_the_sum": left.into_iter().map(|(_, value)| value).collect::<Vec<_>>(),
            "masked_sum": elements(&masked_sum),
            "sum": elements(&sum),
            "record": hex::encode(record),
        })
    }

    /// 0: a share of the masking key is asked for; 1: of the self-mask seed.
    pub(super) fn kind(&self, dealer: u16) -> usize {
        usize::from(self.inputs.speaks[2].contains(&dealer))
    }

    pub(super) fn answer(&self, i: u16) -> Value {
        let mut body = [&head(5, 0)[..], &i.to_le_bytes(), &self.headers].concat();
        let mut released = Vec::new();
        for dealer in &self.inputs.speaks[1] {
            let (opening, kind) = (&self.openings[&(*dealer, i)], self.kind(*dealer));
            body.extend(opening.shares[kind]);
            body.extend(opening.salts[kind]);
            released.push(json!({
                "dealer": dealer,
                "kind": KINDS[kind],
                "share": hex::encode(opening.shares[kind]),
                "salt": hex::encode(opening.salts[kind]),
            }));
        }
        let (digest, body) = self.signed(i, "answer", body);
        assert_eq!(body, self.run.bodies[4][&i], "answer of {i}");
        json!({ "position": i, "released": released, "signed_digest": digest, "body": hex::encode(body) })
    }

    /// The masks of one dealer that do not cancel in the sum, as they went in.
    pub(super) fn left_over(&self, dealer: u16) -> Vec<([u8; 48], Value)> {
        let survivors = &self.inputs.speaks[2];
        let masks = if survivors.contains(&dealer) {
            vec![(dealer, self.self_mask(dealer))]
        } else {
            survivors.iter().map(|survivor| (*survivor, self.pair_mask(*survivor, dealer))).collect()
        };
        masks
            .into_iter()
            .map(|(of, (seed, mut value))| {
                value["of"] = json!(of);
                value["seed"] = json!(hex::encode(seed));
                (seed, value)
            })
            .collect()
    }

    pub(super) fn record(&self, secrets: &[u8]) -> Vec<u8> {
        let adverts = self.run.deliveries[1].values().next().unwrap();
        let deals = self.run.deliveries[2].values().next().unwrap();
        let front = &deals[..7 + 133 * self.inputs.speaks[1].len()];
        let headers = self.run.deliveries[3].values().next().unwrap();
        let votes = self.run.deliveries[4].values().next().unwrap();
        let mut record = [&[1][..], &self.ctx].concat();
        [&adverts[..], front, headers, votes].iter().for_each(|part| record.extend(sized(part)));
        record.extend(secrets);
        assert_eq!(record, self.run.collector.revealed().unwrap().public_record());
        record
    }

    /// The sum of the masked vectors, and the sum without masks.
    pub(super) fn sums(&self, left: &[([u8; 48], Value)]) -> (Vec<u32>, Vec<u32>) {
        let ring = u32::MAX >> (32 - self.inputs.bits);
        let length = masked_len(self.inputs);
        let (mut plain, mut masked) = (vec![0; length], vec![0; length]);
        for survivor in &self.inputs.speaks[2] {
            add(&mut plain, &self.inputs.update(*survivor), false);
            add(&mut masked, &self.inputs.update(*survivor), false);
            for (seed, value) in self.masks(*survivor) {
                add(&mut masked, &manual::mask(&seed, length), value["sign"] == "-");
            }
        }
        let mut sum = masked.clone();
        for (seed, value) in left {
            add(&mut sum, &manual::mask(seed, length), value["sign"] == "+");
        }
        [&mut plain, &mut masked, &mut sum].into_iter().flatten().for_each(|element| *element &= ring);
        assert_eq!(sum, plain);
        assert_eq!(sum, self.run.sum());
        (masked, sum)
    }
}
