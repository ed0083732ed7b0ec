//! What a transcript follows from: the attempt's facts, every random byte, the updates, and who speaks when. Everything
//! else in a vector is computed from these.

use std::collections::VecDeque;

use chacha20::ChaCha20Rng;
use consilium_crypto::{
    digest::Digest,
    ring::RingWidth,
    secagg::{Attempt, Context, LedgerHead, Member, MemberId, Params},
    sign::SigningKey,
};
use rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

/// The cohort's ids, in order: of different lengths, so that a forgotten length prefix shows.
const IDS: [&str; 10] = [
    "alder",
    "birch-clinic",
    "cedar",
    "dogwood-2",
    "elm",
    "fir",
    "ginkgo-hospital",
    "hazel",
    "iris",
    "juniper",
];

pub struct Inputs {
    pub name: String,
    pub about: String,
    pub roster: Digest,
    pub plan: Digest,
    pub round: u64,
    pub attempt: u64,
    pub adapter: Digest,
    pub optimizer: Digest,
    pub t_c: u16,
    pub m_min: u16,
    pub bits: u32,
    pub dimension: u32,
    pub members: Vec<MemberInputs>,
    /// Who speaks in each of the five steps, sorted.
    pub speaks: [Vec<u16>; 5],
}

pub struct MemberInputs {
    pub id: String,
    pub signing_seed: [u8; 32],
    pub ledger: LedgerHead,
    pub draws: Draws,
    pub update: Update,
}

/// Every random byte that a member draws, by what it becomes.
pub struct Draws {
    /// Sealing key, masking key, self-mask seed: 64 bytes each, reduced modulo the group's order.
    pub keys: [[u8; 64]; 3],
    /// The coefficients of x over 1, x over 2, … of the masking key's polynomial, and of the self-mask seed's.
    pub coefficients: [Vec<[u8; 64]>; 2],
    /// A salt for each place of the cohort, its own included.
    pub salts: Vec<[u8; 32]>,
}

pub enum Update {
    Elements(Vec<u32>),
    /// Element `j` is `(start + j · step) mod 2^w`.
    Line {
        start: u32,
        step: u32,
    },
}

/// The numbers and the silences of a transcript to be made.
pub struct Shape {
    pub n: u16,
    pub t_c: u16,
    pub bits: u32,
    pub dimension: u32,
    /// Who falls silent in which step: that step is the first it does not speak in.
    pub silent: [&'static [u16]; 5],
    /// Of those, who answers in step 5 all the same.
    pub answers: &'static [u16],
}

impl Inputs {
    /// Draws everything from `seed`.
    pub fn draw(name: &str, about: &str, shape: &Shape, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let r = (shape.n + shape.t_c) / 2 + 1;
        let mut speaking: Vec<u16> = (0..shape.n).collect();
        let mut speaks = shape.silent.map(|silent| {
            speaking.retain(|member| !silent.contains(member));
            speaking.clone()
        });
        speaks[4].extend(shape.answers);
        speaks[4].sort_unstable();
        let members = (0..shape.n).map(|i| MemberInputs::draw(i, shape, r, &mut rng)).collect();
        let mut digest = || Digest(bytes(&mut rng));
        let (roster, plan, adapter, optimizer) = (digest(), digest(), digest(), digest());
        let (round, attempt) = (seed + 1, seed % 3 + 1);
        let (t_c, bits, dimension) = (shape.t_c, shape.bits, shape.dimension);
        let (name, about) = (name.into(), about.into());
        Self {
            name,
            about,
            roster,
            plan,
            round,
            attempt,
            adapter,
            optimizer,
            t_c,
            m_min: r.max(3),
            bits,
            dimension,
            members,
            speaks,
        }
    }

    pub fn n(&self) -> u16 {
        self.members.len() as u16
    }

    pub fn quorum(&self) -> u16 {
        (self.n() + self.t_c) / 2 + 1
    }

    pub fn context(&self) -> Context {
        Context {
            roster: self.roster,
            plan: self.plan,
            round: self.round,
            attempt: self.attempt,
            cohort: self.members.iter().map(|member| MemberId::new(&member.id).unwrap()).collect(),
            adapter: self.adapter,
            optimizer: self.optimizer,
        }
    }

    /// The attempt, put together by the library.
    pub fn attempt(&self) -> Attempt {
        let ring = RingWidth::new(self.bits).unwrap();
        let params = Params::new(self.n(), self.t_c, self.m_min, ring, self.dimension).unwrap();
        let member = |member: &MemberInputs| Member {
            id: MemberId::new(&member.id).unwrap(),
            key: SigningKey::from_seed(member.signing_seed).verifying_key(),
        };
        let members = self.members.iter().map(member).collect();
        Attempt::new(self.context().digest(), params, members).unwrap()
    }

    /// The vector of one member.
    pub fn update(&self, member: u16) -> Vec<u32> {
        let mask = u32::MAX >> (32 - self.bits);
        match &self.members[usize::from(member)].update {
            Update::Elements(elements) => elements.clone(),
            Update::Line { start, step } => {
                (0..self.dimension).map(|j| start.wrapping_add(j.wrapping_mul(*step)) & mask).collect()
            }
        }
    }

    pub fn to_json(&self) -> Value {
        let members: Vec<Value> = self.members.iter().map(MemberInputs::to_json).collect();
        json!({
            "roster_digest": self.roster.to_string(),
            "plan_digest": self.plan.to_string(),
            "round": self.round,
            "attempt": self.attempt,
            "adapter_digest": self.adapter.to_string(),
            "optimizer_digest": self.optimizer.to_string(),
            "n": self.n(),
            "t_c": self.t_c,
            "m_min": self.m_min,
            "ring_bits": self.bits,
            "dimension": self.dimension,
            "members": members,
            "speaks": self.speaks,
        })
    }

    /// Reads `inputs` of a vector back.
    pub fn from_json(vector: &Value) -> Self {
        let inputs = &vector["inputs"];
        let digest = |field: &str| inputs[field].as_str().unwrap().parse().unwrap();
        let number = |field: &str| inputs[field].as_u64().unwrap();
        let members: Vec<_> =
            inputs["members"].as_array().unwrap().iter().map(MemberInputs::from_json).collect();
        let text = |field: &str| vector[field].as_str().unwrap().to_owned();
        assert_eq!(members.len() as u64, number("n"));
        Self {
            name: text("name"),
            about: text("about"),
            roster: digest("roster_digest"),
            plan: digest("plan_digest"),
            round: number("round"),
            attempt: number("attempt"),
            adapter: digest("adapter_digest"),
            optimizer: digest("optimizer_digest"),
            t_c: number("t_c") as u16,
            m_min: number("m_min") as u16,
            bits: number("ring_bits") as u32,
            dimension: number("dimension") as u32,
            members,
            speaks: std::array::from_fn(|step| {
                let speaks = inputs["speaks"][step].as_array().unwrap();
                speaks.iter().map(|member| member.as_u64().unwrap() as u16).collect()
            }),
        }
    }
}

impl MemberInputs {
    fn draw(position: u16, shape: &Shape, r: u16, rng: &mut impl Rng) -> Self {
        let mask = u32::MAX >> (32 - shape.bits);
        let update = if shape.dimension > 100 {
            Update::Line { start: rng.next_u32() & mask, step: rng.next_u32() & mask }
        } else {
            Update::Elements((0..shape.dimension).map(|_| rng.next_u32() & mask).collect())
        };
        Self {
            id: IDS[usize::from(position)].into(),
            signing_seed: bytes(rng),
            ledger: LedgerHead { length: rng.next_u64() >> 40, salted_head: Digest(bytes(rng)) },
            draws: Draws {
                keys: std::array::from_fn(|_| bytes(rng)),
                coefficients: std::array::from_fn(|_| (1..r).map(|_| bytes(rng)).collect()),
                salts: (0..shape.n).map(|_| bytes(rng)).collect(),
            },
            update,
        }
    }

    fn to_json(&self) -> Value {
        let [sealing, masking, self_mask] = self.draws.keys.map(hex::encode);
        let [of_masking, of_self_mask] = &self.draws.coefficients;
        let list = |items: &[[u8; 64]]| items.iter().map(hex::encode).collect::<Vec<_>>();
        let salts: Vec<String> = self.draws.salts.iter().map(hex::encode).collect();
        json!({
            "id": self.id,
            "signing_seed": hex::encode(self.signing_seed),
            "ledger_length": self.ledger.length,
            "salted_ledger_head": self.ledger.salted_head.to_string(),
            "random": {
                "sealing_key": sealing,
                "masking_key": masking,
                "self_mask_seed": self_mask,
                "masking_key_coefficients": list(of_masking),
                "self_mask_seed_coefficients": list(of_self_mask),
                "salts": salts,
            },
            "update": match &self.update {
                Update::Elements(elements) => json!(elements),
                Update::Line { start, step } => json!({ "start": start, "step": step }),
            },
        })
    }

    fn from_json(member: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let random = &member["random"];
        let list = |field: &str| random[field].as_array().unwrap().iter().map(unhex).collect();
        let number = |value: &Value| value.as_u64().unwrap() as u32;
        let update = &member["update"];
        Self {
            id: text(&member["id"]),
            signing_seed: unhex(&member["signing_seed"]),
            ledger: LedgerHead {
                length: member["ledger_length"].as_u64().unwrap(),
                salted_head: Digest(unhex(&member["salted_ledger_head"])),
            },
            draws: Draws {
                keys: ["sealing_key", "masking_key", "self_mask_seed"].map(|key| unhex(&random[key])),
                coefficients: ["masking_key_coefficients", "self_mask_seed_coefficients"].map(list),
                salts: random["salts"].as_array().unwrap().iter().map(unhex).collect(),
            },
            update: match update.as_array() {
                Some(elements) => Update::Elements(elements.iter().map(number).collect()),
                None => Update::Line { start: number(&update["start"]), step: number(&update["step"]) },
            },
        }
    }
}

/// A generator that plays the written bytes, in the order in which the library asks for them, and nothing else.
pub struct Tape(VecDeque<Vec<u8>>);

impl Tape {
    /// The draws of `me`, who sees these adverts: three keys, two polynomials, its own salt, the others'.
    pub fn new(draws: &Draws, me: u16, advertised: &[u16]) -> Self {
        let wide = draws.keys.iter().chain(draws.coefficients.iter().flatten()).map(|draw| draw.to_vec());
        let others = advertised.iter().filter(|other| **other != me);
        let salts =
            [me].iter().chain(others).map(|i| draws.salts[usize::from(*i)].to_vec()).collect::<Vec<_>>();
        Self(wide.chain(salts).collect())
    }

    pub fn is_played(&self) -> bool {
        self.0.is_empty()
    }
}

impl rand_core::TryRng for Tape {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("the protocol draws bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("the protocol draws bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let next = self.0.pop_front().expect("more random bytes than written down");
        bytes.copy_from_slice(&next);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Tape {}

fn bytes<const N: usize>(rng: &mut impl Rng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// `N` bytes from their hexadecimal digits.
pub fn unhex<const N: usize>(value: &Value) -> [u8; N] {
    let mut bytes = [0; N];
    hex::decode_to_slice(value.as_str().unwrap(), &mut bytes).unwrap();
    bytes
}
