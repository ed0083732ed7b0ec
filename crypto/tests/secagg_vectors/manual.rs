//! The manual's formulas, written from the page over the primitives' crates and not with the library's own code: hashes,
//! derivations, trees, signatures, masks and packing. A vector's values come from here and are held against what the
//! library says.

use aes::{
    Aes256Enc,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use chacha20poly1305::{
    ChaCha20Poly1305,
    aead::{Aead, Payload},
};
use curve25519_dalek::{
    ristretto::{CompressedRistretto, RistrettoPoint},
    scalar::Scalar,
};
use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The bytes that `H(label; items)` hashes.
pub fn preimage(label: &str, items: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in [label.as_bytes()].iter().chain(items) {
        bytes.extend((item.len() as u64).to_le_bytes());
        bytes.extend(*item);
    }
    bytes
}

/// `H(label; items)`.
pub fn h(label: &str, items: &[&[u8]]) -> [u8; 32] {
    sha256(&preimage(label, items))
}

/// HKDF-SHA-256 with an empty salt.
pub fn hkdf<const N: usize>(key: &[u8], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    hkdf::Hkdf::<Sha256>::new(None, key).expand(info, &mut out).unwrap();
    out
}

/// A secret scalar and its point.
#[derive(Clone, Copy)]
pub struct Pair {
    pub secret: Scalar,
    pub public: [u8; 32],
}

impl Pair {
    pub fn of(secret: Scalar) -> Self {
        Self { secret, public: RistrettoPoint::mul_base(&secret).compress().to_bytes() }
    }

    pub fn agree(&self, peer: &[u8; 32]) -> [u8; 32] {
        (CompressedRistretto(*peer).decompress().unwrap() * self.secret).compress().to_bytes()
    }
}

/// The scalar of 64 random bytes.
pub fn scalar(random: &[u8; 64]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(random)
}

/// A polynomial's value: each coefficient times `x` over its index; the constant term comes first.
pub fn evaluate(coefficients: &[Scalar], x: u64) -> [u8; 32] {
    let over = |k: u64| (0..k).fold(1, |product, i| product * x.saturating_sub(i) / (i + 1));
    let terms = (0..).zip(coefficients).map(|(k, coefficient)| coefficient * Scalar::from(over(k)));
    terms.sum::<Scalar>().to_bytes()
}

/// Lagrange's coefficient at zero of party `x` among `parties`.
pub fn weight(x: u64, parties: &[u64]) -> Scalar {
    parties.iter().filter(|other| **other != x).fold(Scalar::ONE, |weight, other| {
        weight * Scalar::from(*other) * (Scalar::from(*other) - Scalar::from(x)).invert()
    })
}

/// What a member signs, and the signature.
pub fn sign(seed: &[u8; 32], what: &str, ctx: &[u8], id: &str, body: &[u8]) -> ([u8; 32], [u8; 64]) {
    let digest = h(&format!("consilium/1/{what}"), &[ctx, id.as_bytes(), &sha256(body)]);
    (digest, ed25519_dalek::SigningKey::from_bytes(seed).sign(&digest).to_bytes())
}

/// ChaCha20-Poly1305 under the zero nonce.
pub fn seal(key: &[u8; 32], content: &[u8], associated_data: &[u8]) -> Vec<u8> {
    let cipher = ChaCha20Poly1305::new(key.into());
    cipher.encrypt(&Default::default(), Payload { msg: content, aad: associated_data }).unwrap()
}

/// The first `length` bytes of a mask seed's keystream.
pub fn keystream(seed: &[u8; 48], length: usize) -> Vec<u8> {
    let key: [u8; 32] = seed[..32].try_into().unwrap();
    let first = u128::from_be_bytes(seed[32..].try_into().unwrap());
    let cipher = Aes256Enc::new(&key.into());
    let mut stream = Vec::new();
    for block in 0..length.div_ceil(16) {
        let mut block = first.wrapping_add(block as u128).to_be_bytes().into();
        cipher.encrypt_block(&mut block);
        stream.extend_from_slice(&block);
    }
    stream.truncate(length);
    stream
}

/// A mask's elements, before they are reduced.
pub fn mask(seed: &[u8; 48], elements: usize) -> Vec<u32> {
    keystream(seed, 4 * elements).chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Packs elements of `bits` bits, least significant bit first.
pub fn pack(bits: u32, elements: &[u32]) -> Vec<u8> {
    let bits = bits as usize;
    let mut bytes = vec![0u8; (elements.len() * bits).div_ceil(8)];
    for (i, element) in elements.iter().enumerate() {
        for bit in (0..bits).filter(|bit| element >> bit & 1 == 1) {
            bytes[(i * bits + bit) / 8] |= 1 << ((i * bits + bit) % 8);
        }
    }
    bytes
}

/// A tree's levels, leaves first, and its root.
pub struct Tree {
    levels: Vec<Vec<[u8; 32]>>,
    pub root: [u8; 32],
}

impl Tree {
    pub fn new(leaves: Vec<[u8; 32]>) -> Self {
        let count = (leaves.len() as u64).to_le_bytes();
        let mut levels = vec![leaves];
        while levels.last().unwrap().len() > 1 {
            let above = levels.last().unwrap().chunks(2).map(|pair| match pair {
                [left, right] => h("consilium/1/merkle-node", &[left, right]),
                odd => odd[0],
            });
            levels.push(above.collect());
        }
        let root = h("consilium/1/merkle-root", &[&count, &levels.last().unwrap()[0]]);
        Self { levels, root }
    }

    /// The siblings of leaf `index`, from the bottom up.
    pub fn path(&self, index: usize) -> Vec<[u8; 32]> {
        let siblings = self.levels.iter().enumerate().map(|(level, nodes)| nodes.get((index >> level) ^ 1));
        siblings.flatten().copied().collect()
    }
}

/// `head(step, speaker)`.
pub fn head(step: u8, speaker: u8) -> Vec<u8> {
    vec![1, step, speaker]
}

/// `bytes(content)`.
pub fn sized(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_le_bytes(), content].concat()
}

/// A count and positions.
pub fn positions(positions: &[u16]) -> Vec<u8> {
    let mut bytes = (positions.len() as u32).to_le_bytes().to_vec();
    positions.iter().for_each(|position| bytes.extend(position.to_le_bytes()));
    bytes
}
