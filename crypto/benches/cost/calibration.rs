//! What the machine's own operations cost, measured in the same run as the rows that are made of them.
//!
//! A price is the best of five: the less a neighbour disturbed it, the stricter the bar that is made of it.

use std::hint::black_box;

use aes::{
    Aes256Enc, Block,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use chacha20::ChaCha20Rng;
use consilium_crypto::{
    digest::Digest,
    group::{KeyPair, random_scalar},
    sign::{SigningKey, sign, verify},
};
use rand_core::SeedableRng;

use crate::{Result, clock::best_of};

/// Bytes that stay in the first-level cache.
const CACHED: usize = 16 << 10;

/// Seconds for one of each.
pub struct Prices {
    /// A byte through AES-256 `encrypt_blocks`, in cache.
    pub aes_byte: f64,
    /// A byte of 32-bit elements added to others, in cache.
    pub add_byte: f64,
    /// A Diffie–Hellman exchange over Ristretto.
    pub exchange: f64,
    /// A strict Ed25519 verification of a short message.
    pub verification: f64,
    /// A scalar multiplication and addition.
    pub multiply_add: f64,
    /// A scalar addition.
    pub addition: f64,
    /// A byte through SHA-256, in a long message.
    pub sha_byte: f64,
}

impl Prices {
    /// Measures all of them.
    pub fn measure() -> Result<Self> {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let bad = |_| "the generator is broken";
        let (own, peer) =
            (KeyPair::generate(&mut rng).map_err(bad)?, KeyPair::generate(&mut rng).map_err(bad)?);
        let exchange = each(200, || drop(black_box(own.agree(black_box(peer.public())))));

        let (key, ctx) = (SigningKey::generate(&mut rng), Digest::of(b"calibration"));
        let (public, signature) = (key.verifying_key(), sign(&key, "vote", &ctx, "org", b"body"));
        let verification = each(200, || {
            let _ = black_box(verify(black_box(&public), "vote", &ctx, "org", b"body", &signature));
        });

        let scalars: Vec<_> = (0..512).map(|_| *random_scalar(&mut rng).expose()).collect();
        let (mut sum, x) = (*random_scalar(&mut rng).expose(), *random_scalar(&mut rng).expose());
        let multiply_add = each(40, || {
            for scalar in &scalars {
                sum = sum * x + scalar;
            }
            black_box(sum);
        }) / scalars.len() as f64;

        let mut sums = scalars.clone();
        let addition = each(40, || {
            sums.iter_mut().zip(&scalars).for_each(|(sum, scalar)| *sum += scalar);
            black_box(&sums);
        }) / scalars.len() as f64;

        let message = vec![7u8; 1 << 20];
        let sha_byte = each(8, || {
            black_box(Digest::of(black_box(&message)));
        }) / message.len() as f64;
        Ok(Self {
            aes_byte: aes_byte(),
            add_byte: add_byte(),
            exchange,
            verification,
            multiply_add,
            addition,
            sha_byte,
        })
    }

    /// For people.
    pub fn print(&self) {
        println!("calibration, best of five:");
        println!("    AES-256 in cache        {:>8.2} GB/s", 1e-9 / self.aes_byte);
        println!("    wrapping add in cache   {:>8.2} GB/s", 1e-9 / self.add_byte);
        println!("    SHA-256                 {:>8.2} GB/s", 1e-9 / self.sha_byte);
        println!("    exchange                {:>8.1} µs", 1e6 * self.exchange);
        println!("    strict verification     {:>8.1} µs", 1e6 * self.verification);
        println!("    scalar multiply-add     {:>8.1} ns", 1e9 * self.multiply_add);
        println!("    scalar addition         {:>8.1} ns", 1e9 * self.addition);
    }
}

/// Seconds a byte of what masking cannot do without: AES-256 over counters that are there already, and the sum of two
/// vectors, each alone and in cache.
pub fn mask_roofline() -> f64 {
    aes_byte() + add_byte()
}

fn aes_byte() -> f64 {
    let cipher = Aes256Enc::new(&[3; 32].into());
    let mut blocks: Vec<Block> = (0..(CACHED / 16) as u128).map(|i| i.to_be_bytes().into()).collect();
    each(1000, || cipher.encrypt_blocks(black_box(&mut blocks))) / CACHED as f64
}

fn add_byte() -> f64 {
    let (mut sum, other) = (vec![1u32; CACHED / 4], vec![3u32; CACHED / 4]);
    each(1000, || {
        let other = black_box(other.as_slice());
        black_box(&mut sum).iter_mut().zip(other).for_each(|(sum, other)| *sum = sum.wrapping_add(*other));
    }) / CACHED as f64
}

/// Seconds for one of `count` repetitions, best of five.
fn each(count: u32, mut work: impl FnMut()) -> f64 {
    best_of(5, || (0..count).for_each(|_| work())) / f64::from(count)
}
