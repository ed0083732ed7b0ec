//! What convicts a member, and whom it convicts.

use consilium_proto::{evidence::Evidence, ids::Id};

use super::Running;
use crate::round::{Effect, Event};

impl Running {
    /// A member says that a box dealt to it is bad; the collector judges.
    pub(crate) fn complaint(&mut self, from: &Id, complaint: &[u8], effects: &mut Vec<Effect>) {
        if let Some(position) = self.position(from)
            && self.collector.complain(position, complaint)
        {
            self.blame(effects);
        }
    }

    /// Records what the collector can prove and what is not recorded yet.
    pub(super) fn blame(&mut self, effects: &mut Vec<Effect>) {
        for proof in self.collector.proofs() {
            let check = proof.check.to_owned();
            let Some(culprit) = self.id(proof.culprit).cloned() else { continue };
            if !self.blamed.contains(&(culprit.clone(), check.clone())) {
                self.blamed.push((culprit.clone(), check.clone()));
                let evidence = proof.evidence.to_vec();
                effects.push(self.record(Event::Blamed { culprit, check, evidence }));
            }
        }
    }

    /// Evidence about this attempt, in the form in which it is handed on.
    pub(crate) fn exhibit(&self, culprit: &Id, check: &str, evidence: &[u8]) -> Evidence {
        Evidence {
            version: 1,
            round: self.round,
            attempt: self.attempt,
            culprit: culprit.clone(),
            check: check.to_owned(),
            announcement: self.announcement.announcement.clone(),
            signature: self.announcement.signature.clone(),
            evidence: evidence.to_vec(),
        }
    }

    /// Members whom recorded evidence convicts, once each, in the order in which it came.
    pub(crate) fn culprits(&self) -> Vec<Id> {
        let mut culprits: Vec<Id> = Vec::new();
        for (id, _) in &self.blamed {
            if !culprits.contains(id) {
                culprits.push(id.clone());
            }
        }
        culprits
    }
}
