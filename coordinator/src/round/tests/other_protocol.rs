//! The same round over another protocol: two steps, first of which is the upload.

#[path = "../../../../crypto/tests/clear_sum/mod.rs"]
mod clear_sum;

use consilium_crypto::protocol::Participating;
use consilium_proto::release::unpack_sum;

use super::*;
use clear_sum::ClearSum;

struct Member {
    participant: Box<dyn Participating>,
    index: usize,
}

impl Member {
    fn joins(bench: &mut Bench, index: usize) -> Self {
        let Kind::Announcement(signed) = bench.told[&name(index)].clone() else { panic!() };
        let announcement = Announcement::verify(&signed, &bench.roster, &bench.plan).unwrap();
        let facts = Arc::new(announcement.facts(&bench.roster, &bench.plan).unwrap());
        let ledger = LedgerHead { length: 0, salted_head: Digest([7; 32]) };
        let key = bench.identities[index].clone();
        let me = Position(index as u16);
        let joined = ClearSum.join(facts, me, key.signing_key(), ledger, &mut bench.rng).unwrap();
        assert!(joined.word.is_none());
        Self { participant: joined.participant, index }
    }

    fn says(&self, bench: &mut Bench, step: Step, body: Vec<u8>) -> Vec<&'static str> {
        let message = wire::ProtocolMessage { round: 1, attempt: 1, step: step as u32, body };
        bench.hand(Input::Protocol { from: name(self.index), message })
    }

    fn uploads(&mut self, bench: &mut Bench) -> Vec<&'static str> {
        let derived = bench.plan.derived();
        let values = vec![self.index as u32 + 1; derived.vector_len];
        let update = RingVector::new(derived.ring, values).unwrap();
        let key = bench.identities[self.index].clone();
        let masked =
            self.participant.mask(update, key.signing_key(), &consilium_crypto::workers::OneThread).unwrap();
        let mut kinds = self.says(bench, Step::Input, masked.header);
        for (index, chunk) in (0..).zip(masked.chunks) {
            let part = wire::UploadPart { round: 1, attempt: 1, index, chunk };
            let effects = bench.job.handle_chunk(&name(self.index), part, bench.now).unwrap();
            kinds.extend(bench.execute(effects));
        }
        kinds
    }

    fn answers(&mut self, bench: &mut Bench) -> Vec<&'static str> {
        let Kind::Protocol(told) = bench.told[&name(self.index)].clone() else { panic!() };
        let key = bench.identities[self.index].clone();
        let step = Step::from_number(told.step as u8).unwrap();
        let reply = self.participant.deliver(step, &told.body, key.signing_key(), &mut bench.rng).unwrap();
        let Reply::Send(body) = reply else { panic!() };
        self.says(bench, step, body)
    }
}

#[test]
fn a_protocol_of_two_steps_runs_through_the_same_round() {
    let mut bench = Bench::new();
    bench.protocol = Arc::new(ClearSum);
    bench.job = bench.rebuilt(0);
    bench.all_come();
    assert_eq!(bench.step(), "input");
    assert_eq!(bench.job.unknown_cost(), Some(1), "the attempt costs from its beginning");
    let mut members: Vec<_> = (0..5).map(|index| Member::joins(&mut bench, index)).collect();
    for member in &mut members[..3] {
        assert_eq!(member.uploads(&mut bench), ["accepted", "stored"]);
    }
    bench.goes(4);
    assert_eq!(members[3].uploads(&mut bench), ["accepted", "stored"]);
    // A second word is a fault here, too.
    assert!(members[0].says(&mut bench, Step::Input, vec![7; 32]).is_empty());
    assert_eq!(bench.job.status(bench.now).members[0].refusal, "fault-x3");
    // The coordinator dies and goes on where it was.
    bench.job = bench.rebuilt(bench.recorded.len());
    bench.job.resume(bench.now);
    (0..4).for_each(|index| drop(bench.comes(index)));
    assert_eq!(bench.wait(GRACE_MS + 1), ["closed"]);
    assert_eq!(bench.step(), "unmask");
    for member in &mut members[..3] {
        assert_eq!(member.answers(&mut bench), ["accepted"]);
    }
    assert_eq!(members[3].answers(&mut bench), ["accepted", "closed"]);
    assert_eq!(bench.sums(), ["released", "opened"]);
    let sum = unpack_sum(&bench.plan, &bench.releases[&1].sum).unwrap();
    assert!(sum.iter().all(|value| *value == 1 + 2 + 3 + 4), "{sum:?}");
    assert_eq!(bench.job.rounds().rounds[0].survivors.len(), 4);
}
