//! Step 3: masked vectors.

use super::*;

impl Scribe<'_> {
    /// The seed of a member's self-mask, with what it is derived from.
    pub(super) fn self_mask(&self, member: u16) -> ([u8; 48], Value) {
        let info = h("consilium/1/self-mask", &[&self.ctx, &self.step2, self.id(member).as_bytes()]);
        let secret = self.keys(member)[2].secret.to_bytes();
        let seed = hkdf(&secret, &info);
        (
            seed,
            json!({ "kind": "self", "sign": "+", "hkdf_key": hex::encode(secret), "hkdf_info": hex::encode(info) }),
        )
    }

    /// The seed of the mask between two members and which way it goes into `member`'s vector.
    pub(super) fn pair_mask(&self, member: u16, peer: u16) -> ([u8; 48], Value) {
        let (low, high) = (member.min(peer), member.max(peer));
        let (low_key, high_key) = (self.keys(low)[1].public, self.keys(high)[1].public);
        let (low_id, high_id) = (self.id(low).as_bytes(), self.id(high).as_bytes());
        let items: [&[u8]; 6] = [&self.ctx, &self.step2, low_id, high_id, &low_key, &high_key];
        let info = h("consilium/1/pair-mask", &items);
        let shared = self.keys(member)[1].agree(&self.keys(peer)[1].public);
        let sign = if member < peer { "+" } else { "-" };
        let value = json!({
            "kind": "pair", "with": peer, "sign": sign, "hkdf_key": hex::encode(shared), "hkdf_info": hex::encode(info),
        });
        (hkdf(&shared, &info), value)
    }

    /// Every mask of one member: seeds, values for the vector, and whether it is added.
    pub(super) fn masks(&self, member: u16) -> Vec<([u8; 48], Value)> {
        let peers = self.inputs.speaks[1].iter().filter(|peer| **peer != member);
        [self.self_mask(member)]
            .into_iter()
            .chain(peers.map(|peer| self.pair_mask(member, *peer)))
            .map(|(seed, mut value)| {
                value["seed"] = json!(hex::encode(seed));
                value["keystream_start"] = json!(hex::encode(manual::keystream(&seed, 48)));
                (seed, value)
            })
            .collect()
    }

    pub(super) fn input(&mut self) -> Value {
        let ring = u32::MAX >> (32 - self.inputs.bits);
        let (mut members, mut all) = (Vec::new(), Vec::new());
        for i in &self.inputs.speaks[1] {
            let masks = self.masks(*i);
            let values: Vec<&Value> = masks.iter().map(|(_, value)| value).collect();
            let mut shown = json!({ "position": i, "masks": values });
            if self.inputs.speaks[2].contains(i) {
                let mut masked = self.inputs.update(*i);
                shown["update"] = elements(&masked);
                for (seed, value) in &masks {
                    add(&mut masked, &manual::mask(seed, masked_len(self.inputs)), value["sign"] == "-");
                }
                masked.iter_mut().for_each(|element| *element &= ring);
                let header = self.input_header(*i, &masked, &mut shown);
                all.extend(header);
            }
            members.push(shown);
        }
        self.headers = h("consilium/1/headers", &[&self.step2, &all]);
        let survivors = &self.inputs.speaks[2];
        let delivery = [&head(4, 1)[..], &(survivors.len() as u32).to_le_bytes(), &all].concat();
        for shown in self.run.deliveries[3].values() {
            assert_eq!(&delivery, shown);
        }
        json!({
            "members": members,
            "survivors": survivors,
            "headers_hash": hex::encode(self.headers),
            "delivery": hex::encode(delivery),
        })
    }

    /// Packs and signs a masked vector; adds what it took to `shown`; gives the header.
    pub(super) fn input_header(&self, member: u16, masked: &[u32], shown: &mut Value) -> Vec<u8> {
        let packed: Vec<Vec<u8>> =
            masked.chunks(CHUNK_ELEMENTS).map(|chunk| manual::pack(self.inputs.bits, chunk)).collect();
        assert_eq!(packed, self.run.chunks[&member], "vector of {member}");
        let digests: Vec<[u8; 32]> = packed.iter().map(|chunk| sha256(chunk)).collect();
        let leaves: Vec<_> = digests.iter().map(|digest| h("consilium/1/chunks/leaf", &[digest])).collect();
        let root = Tree::new(leaves.clone()).root;
        let total: usize = packed.iter().map(Vec::len).sum();
        let header =
            [&head(3, 0)[..], &member.to_le_bytes(), &self.step2, &root, &(total as u64).to_le_bytes()]
                .concat();
        let (digest, header) = self.signed(member, "input", header);
        let body = [&header[..], &digests.concat()].concat();
        assert_eq!(body, self.run.bodies[2][&member], "input of {member}");
        shown["masked"] = elements(masked);
        shown["chunk_lengths"] = json!(packed.iter().map(Vec::len).collect::<Vec<_>>());
        if masked.len() <= SHOWN {
            shown["chunks"] = json!(packed.iter().map(hex::encode).collect::<Vec<_>>());
        }
        shown["chunk_digests"] = json!(list(&digests));
        shown["chunk_leaves"] = json!(list(&leaves));
        shown["chunk_root"] = json!(hex::encode(root));
        shown["signed_digest"] = json!(digest);
        shown["body"] = json!(hex::encode(body));
        header
    }
}
