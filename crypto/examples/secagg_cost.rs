//! What secure aggregation costs: `secagg_cost N D [DROPPED] [BITS]`, all on one thread.
//!
//! Runs one client in full among N members with vectors of D elements, and the coordinator over all of them,
//! and prints the seconds each spent. DROPPED members fall silent after dealing their shares (default 0). The
//! other members deal and answer, uncounted; for their masked vectors and votes they sign the first client's,
//! which costs the coordinator the same.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use chacha20::ChaCha20Rng;
use consilium_crypto::{
    digest::Digest,
    mask::{MaskSeed, Sign},
    ring::{self, RingVector, RingWidth},
    secagg::{
        Attempt, LedgerHead, Member, MemberId, Params, Position, Step,
        client::{Participant, Reply},
        coordinator::Collector,
    },
    sign::{SigningKey, sign},
};
use rand_core::SeedableRng;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Seconds by name, in order of first use.
#[derive(Default)]
struct Clock(Vec<(String, Duration)>);

impl Clock {
    fn time<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let out = work();
        let spent = start.elapsed();
        match self.0.iter_mut().find(|(seen, _)| seen == name) {
            Some((_, total)) => *total += spent,
            None => self.0.push((name.into(), spent)),
        }
        out
    }

    fn print(&self, who: &str) {
        let total: Duration = self.0.iter().map(|(_, spent)| *spent).sum();
        println!("{who}: {:.3} s", total.as_secs_f64());
        for (name, spent) in &self.0 {
            println!("    {name:<22} {:>9.4} s", spent.as_secs_f64());
        }
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: Option<u32>| -> Result<u32> {
        match args.get(index) {
            Some(text) => Ok(text.parse()?),
            None => default.ok_or_else(|| "usage: secagg_cost N D [DROPPED] [BITS]".into()),
        }
    };
    let (n, dimension) = (u16::try_from(number(0, None)?)?, number(1, None)?);
    let (dropped, bits) = (u16::try_from(number(2, Some(0))?)?, number(3, Some(24))?);
    raw_speed(dimension);
    whole(n, dimension, dropped, RingWidth::new(bits)?)
}

/// The inner loops on their own.
fn raw_speed(dimension: u32) {
    let seed = MaskSeed::new(b"cost", &Digest::of(b"cost"));
    let bytes = f64::from(dimension) * 4.0;
    let rate = |name: &str, bytes: f64, mut work: Box<dyn FnMut() + '_>| {
        // The best run of many: what the machine can do when nobody disturbs it.
        let mut best = Duration::MAX;
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
            let run = Instant::now();
            work();
            best = best.min(run.elapsed());
        }
        let rate = bytes / best.as_secs_f64() / 1e9;
        println!("{name:<26} {rate:>6.2} GB/s");
    };
    let mut chunk = vec![0u32; 1 << 16];
    rate(
        "mask, add to one chunk",
        chunk.len() as f64 * 4.0,
        Box::new(|| seed.apply(Sign::Add, 0, &mut chunk)),
    );
    let mut vector = vec![0u32; dimension as usize];
    for bits in [16, 20, 24, 32] {
        let Ok(width) = RingWidth::new(bits) else { continue };
        let mut packed = Vec::new();
        ring::pack(width, &vector, &mut packed);
        let expected = packed.clone();
        rate(
            &format!("pack to {bits} bits"),
            bytes,
            Box::new(|| {
                packed.clear();
                ring::pack(width, &vector, &mut packed);
            }),
        );
        assert_eq!(packed, expected);
        rate(
            &format!("unpack and add, {bits} bits"),
            bytes,
            Box::new(|| {
                if ring::unpack_add(width, &expected, &mut vector).is_err() {
                    println!("unpack failed");
                }
            }),
        );
    }
    let packed = vec![0u8; 1 << 20];
    rate(
        "SHA-256",
        packed.len() as f64,
        Box::new(|| {
            std::hint::black_box(Digest::of(&packed));
        }),
    );
}

fn whole(n: u16, dimension: u32, dropped: u16, width: RingWidth) -> Result<()> {
    let t_c = Params::default_colluders(n);
    let params = Params::new(n, t_c, (n + t_c) / 2 + 1, width, dimension)?;
    let keys: Vec<SigningKey> = (0..n)
        .map(|i| {
            let mut seed = [1; 32];
            seed[..2].copy_from_slice(&i.to_le_bytes());
            SigningKey::from_seed(seed)
        })
        .collect();
    let members = keys
        .iter()
        .enumerate()
        .map(|(i, key)| Ok(Member { id: MemberId::new(&format!("org-{i:04}"))?, key: key.verifying_key() }))
        .collect::<Result<_>>()?;
    let attempt = Arc::new(Attempt::new(Digest::of(b"cost"), params, members)?);

    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (mut client, mut server) = (Clock::default(), Clock::default());
    let mut collector = Collector::new(attempt.clone());
    let ledger = LedgerHead { length: 0, salted_head: Digest::of(b"") };
    let mut others = Clock::default();
    let mut participants = Vec::new();

    for (i, key) in (0..n).zip(&keys) {
        let clock = if i == 0 { &mut client } else { &mut others };
        let (participant, body) = clock.time("1 advertise", || {
            Participant::start(attempt.clone(), Position(i), key, ledger, &mut rng)
        })?;
        participants.push(participant);
        server.time("1 adverts", || collector.accept(Position(i), Step::Advertise, &body))?;
    }
    server.time("1 adverts", || collector.close())?;

    let adverts = collector.delivery(Position(0)).ok_or("no adverts")?;
    for (i, key) in (0..n).zip(&keys) {
        let clock = if i == 0 { &mut client } else { &mut others };
        let reply = clock
            .time("2 share", || participants[usize::from(i)].deliver(Step::Share, &adverts, key, &mut rng))?;
        let Reply::Send(body) = reply else { return Err("no deal".into()) };
        server.time("2 deals", || collector.accept(Position(i), Step::Share, &body))?;
    }
    server.time("2 deals", || collector.close())?;

    let survivors = n - dropped;
    let id = |i: u16| attempt.members()[usize::from(i)].id.as_str();
    // What a member would have sent had its vector or vote been the first client's.
    let resigned = |i: u16, what, signed: &[u8], rest: &[u8]| {
        [signed, &sign(&keys[usize::from(i)], what, attempt.ctx(), id(i), signed).0, rest].concat()
    };
    let (mut chunks, mut first_header) = (Vec::new(), Vec::new());
    for (i, key) in (0..survivors).zip(&keys) {
        let deals = server.time("3 deliver deals", || collector.delivery(Position(i))).ok_or("no deals")?;
        let clock = if i == 0 { &mut client } else { &mut others };
        let me = &mut participants[usize::from(i)];
        // A quorum of answers is all that is needed later.
        if i < params.quorum() {
            clock.time("3 receive shares", || me.deliver(Step::Input, &deals, key, &mut rng))?;
        }
        let header = if i == 0 {
            let update = RingVector::zeros(width, dimension as usize);
            let input = clock.time("3 mask, pack, hash", || me.mask(update, key))?;
            chunks = input.chunks;
            first_header.clone_from(&input.header);
            input.header
        } else {
            let (signed, rest) = first_header.split_at(77);
            let mut signed = signed.to_vec();
            signed[3..5].copy_from_slice(&i.to_le_bytes());
            resigned(i, "input", &signed, &rest[64..])
        };
        server.time("3 headers", || collector.accept(Position(i), Step::Input, &header))?;
        collector.input_complete(Position(i));
    }
    server.time("3 hash chunks", || {
        for _ in 0..survivors {
            chunks.iter().for_each(|chunk| {
                std::hint::black_box(Digest::of(chunk));
            });
        }
    });
    server.time("3 headers", || collector.close())?;

    let headers = collector.delivery(Position(0)).ok_or("no headers")?;
    let reply =
        client.time("4 vote", || participants[0].deliver(Step::Vote, &headers, &keys[0], &mut rng))?;
    let Reply::Send(vote) = reply else { return Err("no vote".into()) };
    for i in 0..survivors {
        let vote = resigned(i, "vote", &vote[..vote.len() - 64], &[]);
        server.time("4 votes", || collector.accept(Position(i), Step::Vote, &vote))?;
    }
    server.time("4 votes", || collector.close())?;

    let votes = collector.delivery(Position(0)).ok_or("no votes")?;
    for (i, key) in (0..params.quorum()).zip(&keys) {
        let clock = if i == 0 { &mut client } else { &mut others };
        let me = &mut participants[usize::from(i)];
        let reply = clock.time("5 answer", || me.deliver(Step::Unmask, &votes, key, &mut rng))?;
        let Reply::Send(answer) = reply else { return Err("no answer".into()) };
        server.time("5 answers", || collector.accept(Position(i), Step::Unmask, &answer))?;
    }
    server.time("5 reconstruct", || collector.close())?;

    let revealed = collector.revealed().ok_or("nothing revealed")?;
    let (mut sum, mut out) = (0u64, Vec::new());
    for index in 0..params.chunk_count() {
        let chunk = &chunks[index as usize];
        let mut input = |_: Position, out: &mut Vec<u8>| {
            out.extend_from_slice(chunk);
            Ok::<_, Infallible>(())
        };
        server.time("5 sum and unmask", || revealed.unmask_chunk(index, &mut input, &mut out))?;
        sum = out.iter().fold(sum, |sum, value| sum.wrapping_add(u64::from(*value)));
    }
    println!("n = {n}, d = {dimension}, {} bits, {dropped} dropped, check {sum:x}", width.bits());
    client.print("client");
    server.print("coordinator");
    Ok(())
}
