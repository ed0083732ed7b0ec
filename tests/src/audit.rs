//! What a stopped consortium left on its disks, held against what every party promised.
//!
//! The coordinator's events and sums, each client's journal and ledger, and what test builds add: what each client encoded, and a
//! digest of everything it was about to say. Whatever happened to the processes, of every attempt it must hold that each
//! organization said one word a step, recorded it first, and paid once if a masked byte left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use consilium_client::{
    journal::Journal,
    ledger::{LEDGER_FILE, LedgerFile},
    session::Event as Record,
};
use consilium_coordinator::{
    round::Event,
    store::{InputLayout, SqliteStore, Store as _, StoredJob},
};
use consilium_crypto::{digest::Digest, secagg::Step};
use consilium_proto::{
    plan::{Plan, VerifiedPlan},
    release::{VerifiedHead, unpack_sum},
    roster::{Roster, VerifiedRoster},
    signed::{Kind, Signatures, fingerprint},
    wire::SignedReleaseHead,
};

use crate::Consortium;

/// Round and attempt.
type Attempt = (u32, u32);

/// What was found; everything that must hold held, or there would be none.
#[derive(Debug, Default)]
pub struct Audit {
    /// Published rounds, with the attempt that made them and its survivors.
    pub released: BTreeMap<u32, (u32, Vec<String>)>,
    /// Attempts that ended without a sum, and why.
    pub failed: BTreeMap<Attempt, String>,
    /// Attempts in which masked bytes left, over all clients.
    pub masked: usize,
    /// Debits, over all clients.
    pub debits: usize,
    /// Attempts that were paid for and in which nothing left: the client died in between.
    pub paid_for_nothing: usize,
    /// Votes, over all clients.
    pub votes: usize,
    /// Events in the coordinator's store.
    pub events: u64,
}

/// Verified documents of a consortium.
pub(crate) fn documents(consortium: &Consortium) -> (VerifiedRoster, VerifiedPlan) {
    let text = |name: &str| fs::read_to_string(consortium.path(name)).expect("a document");
    let signatures = |name: &str| Signatures::parse(&text(name)).expect("signatures");
    let pin = fingerprint(Kind::Roster, &text("roster.toml"));
    let roster =
        Roster::verify(&text("roster.toml"), &signatures("roster.toml.sig"), &pin).expect("the roster");
    let plan = Plan::verify(&text("plan.toml"), &signatures("plan.toml.sig"), &roster).expect("the plan");
    (roster, plan)
}

/// Looks at a consortium whose processes have stopped.
///
/// # Panics
///
/// When something that must hold does not.
pub fn audit(consortium: &Consortium) -> Audit {
    let (roster, plan) = documents(consortium);
    let job = StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) };
    let store = SqliteStore::open(&consortium.path("coordinator"), &job).expect("the store");
    let mut audit = Audit::default();
    let accepted = events(&store, &mut audit);
    let adapters = releases(consortium, &store, &roster, &plan, &mut audit);
    for site in 1..=5 {
        client(consortium, site, &plan, &accepted, &mut audit);
        let applied = logged(consortium, site, "applied");
        for (round, digest) in applied.iter().map(|event| (number(event, "round"), event["adapter"].as_str()))
        {
            let published = adapters.get(&round).map(Digest::to_string);
            assert_eq!(digest, published.as_deref(), "site-{site} computed another adapter of round {round}");
        }
    }
    audit
}

/// What the coordinator accepted of each member: one word a step and attempt.
type Accepted = BTreeMap<(String, Attempt, u32), Digest>;

fn events(store: &SqliteStore, audit: &mut Audit) -> Accepted {
    let mut accepted = Accepted::new();
    let mut ended: BTreeSet<Attempt> = BTreeSet::new();
    let mut each = |record: consilium_coordinator::store::EventRecord| {
        let attempt = (record.round, record.attempt);
        audit.events += 1;
        match Event::decode(&record.kind, &record.body).expect("an event") {
            Event::Accepted { from, step, body } => {
                let twice = accepted.insert((from.to_string(), attempt, step), Digest::of(&body));
                assert_eq!(twice, None, "{from} was accepted twice in step {step} of {attempt:?}");
            }
            Event::Released { survivors, .. } => {
                assert!(ended.insert(attempt), "{attempt:?} ended twice");
                let survivors = survivors.iter().map(ToString::to_string).collect();
                let twice = audit.released.insert(record.round, (record.attempt, survivors));
                assert_eq!(twice, None, "round {} was released twice", record.round);
            }
            Event::Failed { code, .. } => {
                assert!(ended.insert(attempt), "{attempt:?} ended twice");
                audit.failed.insert(attempt, code);
            }
            _ => {}
        }
        Ok(())
    };
    store.replay(&mut each).expect("the events");
    accepted
}

/// Every published sum is exactly the sum of what its survivors encoded; the adapters after each.
fn releases(
    consortium: &Consortium,
    store: &SqliteStore,
    roster: &VerifiedRoster,
    plan: &VerifiedPlan,
    audit: &mut Audit,
) -> BTreeMap<u32, Digest> {
    let (mut adapters, mask) = (BTreeMap::new(), plan.derived().ring.mask());
    let rounds = store.releases_from(1).expect("the releases");
    assert_eq!(rounds, audit.released.keys().copied().collect::<Vec<_>>(), "each release has its event");
    for round in rounds {
        let row = store.release(round).expect("a release").expect("it is listed");
        let signed = SignedReleaseHead { head: row.head, signature: row.signature };
        let head = VerifiedHead::verify(&signed, roster, plan).expect("a signed head");
        let sum = unpack_sum(plan, &row.sum).expect("a sum");
        let mut plain = vec![0u32; sum.len()];
        for site in head.survivors.iter() {
            let values = encoded(consortium, site.as_str(), head.round, head.attempt);
            for (total, value) in plain.iter_mut().zip(values) {
                *total = total.wrapping_add(value) & mask;
            }
        }
        assert!(plain == sum, "round {round}: the sum is not that of what its survivors encoded");
        adapters.insert(round, head.after);
    }
    adapters
}

/// What a client encoded, from its test hook.
fn encoded(consortium: &Consortium, site: &str, round: u32, attempt: u32) -> Vec<u32> {
    let state = consortium.path(&format!("state-{}", site.trim_start_matches("site-")));
    let path = state.join(format!("small/encoded-{round}-{attempt}.u32"));
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn logged(consortium: &Consortium, site: usize, kind: &str) -> Vec<serde_json::Value> {
    let text = fs::read(consortium.path(&format!("site-{site}.log"))).expect("a log");
    let lines = text.split(|byte| *byte == b'\n');
    let parsed = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    parsed.filter(|event| event["event"] == kind).collect()
}

fn number(event: &serde_json::Value, field: &str) -> u32 {
    event[field].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

/// One client: one record of each kind and one debit an attempt, one word a step, nothing before its record, and what the
/// coordinator accepted of it is what it said.
fn client(consortium: &Consortium, site: usize, plan: &VerifiedPlan, accepted: &Accepted, audit: &mut Audit) {
    let (name, state) = (format!("site-{site}"), consortium.path(&format!("state-{site}")));
    let belongs_to = format!("job {} of {name}", plan.document().job);
    let journal =
        Journal::<Record>::read(&state.join("small/session.jsonl"), &belongs_to).expect("a journal");
    let mut recorded: BTreeMap<(Attempt, &str), Option<Digest>> = BTreeMap::new();
    for record in &journal.records {
        let (attempt, body) = match record {
            Record::Joined { round, attempt } => ((*round, *attempt), None),
            Record::Header { round, attempt, digest } => ((*round, *attempt), digest.parse().ok()),
            Record::Voted { round, attempt, body } | Record::Answered { round, attempt, body } => {
                ((*round, *attempt), Some(Digest::of(&hex(body))))
            }
            _ => continue,
        };
        let twice = recorded.insert((attempt, record.kind()), body);
        assert_eq!(twice, None, "{name} recorded \"{}\" of {attempt:?} twice", record.kind());
    }
    let data_set = format!("records-{site}").parse().expect("an id");
    let (ledger, _) = LedgerFile::read(&state.join(LEDGER_FILE), &data_set).expect("a ledger");
    let mut paid: BTreeSet<Attempt> = BTreeSet::new();
    for debit in ledger.debits() {
        assert!(
            paid.insert((debit.round, debit.attempt)),
            "{name} paid twice for {}.{}",
            debit.round,
            debit.attempt
        );
    }

    let mut said: BTreeMap<(Attempt, u32), String> = BTreeMap::new();
    for word in logged(consortium, site, "says") {
        let (attempt, step) = ((number(&word, "round"), number(&word, "attempt")), number(&word, "step"));
        let digest = word["digest"].as_str().unwrap_or_default().to_owned();
        let first = said.entry((attempt, step)).or_insert_with(|| digest.clone());
        assert_eq!(*first, digest, "{name} said two things in step {step} of {attempt:?}");
    }
    let mut masked: BTreeMap<Attempt, String> = BTreeMap::new();
    for upload in logged(consortium, site, "uploads") {
        let attempt = (number(&upload, "round"), number(&upload, "attempt"));
        let digest = upload["digest"].as_str().unwrap_or_default().to_owned();
        let first = masked.entry(attempt).or_insert_with(|| digest.clone());
        assert_eq!(*first, digest, "{name} uploaded two vectors in {attempt:?}");
    }
    for ((attempt, step), digest) in &said {
        let what = match Step::from_number(u8::try_from(*step).unwrap_or(0)) {
            Some(Step::Advertise | Step::Share) => "joined",
            Some(Step::Input) => "header",
            Some(Step::Vote) => "voted",
            Some(Step::Unmask) => "answered",
            None => panic!("{name} said something in step {step}"),
        };
        let record = recorded.get(&(*attempt, what));
        let record =
            record.unwrap_or_else(|| panic!("{name} said step {step} of {attempt:?} and recorded nothing"));
        if let Some(record) = record {
            assert_eq!(
                record.to_string(),
                *digest,
                "{name}: step {step} of {attempt:?} is not what was recorded"
            );
        }
    }
    let headers = said.keys().filter(|(_, step)| *step == Step::Input as u32).map(|(attempt, _)| *attempt);
    let left: BTreeSet<Attempt> = headers.chain(masked.keys().copied()).collect();
    for attempt in &left {
        assert!(paid.contains(attempt), "{name}: masked bytes of {attempt:?} left without a debit");
    }
    for ((_, attempt, step), digest) in accepted.iter().filter(|((from, _, _), _)| *from == name) {
        let word = said.get(&(*attempt, *step));
        assert_eq!(
            word,
            Some(&digest.to_string()),
            "{name}: step {step} of {attempt:?} was accepted, and not said"
        );
    }
    audit.masked += left.len();
    audit.debits += paid.len();
    audit.paid_for_nothing += paid.difference(&left).count();
    audit.votes += said.keys().filter(|(_, step)| *step == Step::Vote as u32).count();
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |index| u8::from_str_radix(&text[index..index + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(byte).collect()
}
