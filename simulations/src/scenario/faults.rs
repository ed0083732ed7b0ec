//! Faults at exact places. In a scenario's text organizations are numbered from 1, as their ids are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use consilium_crypto::secagg::Step;
use serde::{Deserialize, Serialize};

/// Faults at exact places. Organizations are numbered from 0 here, and from 1 in a scenario's text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The coordinator dies after it has recorded so many events, counted over the whole job.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub coordinator: BTreeSet<u64>,
    /// An organization dies after so many of its own records and debits, counted over the whole job.
    #[serde(with = "deaths", skip_serializing_if = "BTreeMap::is_empty")]
    pub clients: BTreeMap<usize, BTreeSet<u64>>,
    /// Organizations that come this much later than the others; [`Duration::MAX`]: never.
    #[serde(with = "late", skip_serializing_if = "BTreeMap::is_empty")]
    pub late: BTreeMap<usize, Duration>,
    /// Organizations that lose the adapter they kept whenever they die, and catch up from the first round.
    #[serde(with = "by_number", skip_serializing_if = "BTreeSet::is_empty")]
    pub forgetful: BTreeSet<usize>,
    /// What happens to single messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mishaps: Vec<Mishap>,
}

/// Something that happens to the first message that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mishap {
    /// Whose line.
    #[serde(with = "number")]
    pub organization: usize,
    /// In which round.
    pub round: u32,
    /// A protocol message of this step: 1 advertise, 2 share, 3 input, 4 vote, 5 unmask.
    #[serde(with = "step")]
    pub step: Step,
    /// Towards the coordinator, or from it.
    pub up: bool,
    /// What happens.
    pub what: Accident,
}

/// What can happen to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accident {
    /// The connection breaks and the message is gone.
    Lost,
    /// The message arrives, and the connection breaks before anything else does.
    LostAfter,
    /// It arrives twice.
    Twice,
}

/// The word for a time that does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Never {
    /// It does not come.
    Never,
}

/// One entry for each organization, or who has two.
fn once<T>(entries: impl IntoIterator<Item = (usize, T)>) -> Result<BTreeMap<usize, T>, String> {
    let mut all = BTreeMap::new();
    for (organization, what) in entries {
        if all.insert(organization, what).is_some() {
            return Err(format!("organization {} has two entries; make them one", organization + 1));
        }
    }
    Ok(all)
}

mod number {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(index: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(*index as u64 + 1)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        let number = usize::deserialize(from)?;
        number.checked_sub(1).ok_or_else(|| D::Error::custom("organizations are numbered from 1"))
    }
}

/// Some organizations, numbered from 1 in the text.
pub(super) mod by_number {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(in crate::scenario) fn serialize<'a, S: Serializer, C>(
        indices: &'a C,
        to: S,
    ) -> Result<S::Ok, S::Error>
    where
        &'a C: IntoIterator<Item = &'a usize>,
    {
        to.collect_seq(indices.into_iter().map(|index| *index as u64 + 1))
    }

    pub(in crate::scenario) fn deserialize<'de, D: Deserializer<'de>, C: FromIterator<usize>>(
        from: D,
    ) -> Result<C, D::Error> {
        let numbers = Vec::<usize>::deserialize(from)?;
        let index = |number: usize| {
            number.checked_sub(1).ok_or_else(|| D::Error::custom("organizations are numbered from 1"))
        };
        numbers.into_iter().map(index).collect()
    }
}

mod step {
    use consilium_crypto::secagg::Step;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(step: &Step, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(step.number())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Step, D::Error> {
        let number = u8::deserialize(from)?;
        Step::ALL
            .into_iter()
            .find(|step| step.number() == number)
            .ok_or_else(|| D::Error::custom("steps are numbered 1 to 5"))
    }
}

mod deaths {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        #[serde(with = "super::number")]
        organization: usize,
        after: BTreeSet<u64>,
    }

    pub(super) fn serialize<S: Serializer>(
        deaths: &BTreeMap<usize, BTreeSet<u64>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            deaths.iter().map(|(&organization, after)| Entry { organization, after: after.clone() }),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<usize, BTreeSet<u64>>, D::Error> {
        let entries = Vec::<Entry>::deserialize(from)?;
        super::once(entries.into_iter().map(|entry| (entry.organization, entry.after)))
            .map_err(D::Error::custom)
    }
}

mod late {
    use std::{collections::BTreeMap, time::Duration};

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use super::Never;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum By {
        Seconds(f64),
        Word(Never),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        #[serde(with = "super::number")]
        organization: usize,
        by_s: By,
    }

    pub(super) fn serialize<S: Serializer>(
        late: &BTreeMap<usize, Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(late.iter().map(|(&organization, &by)| Entry {
            organization,
            by_s: if by == Duration::MAX { By::Word(Never::Never) } else { By::Seconds(by.as_secs_f64()) },
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<usize, Duration>, D::Error> {
        let entries = Vec::<Entry>::deserialize(from)?;
        let duration = |by| match by {
            By::Word(Never::Never) => Ok(Duration::MAX),
            By::Seconds(seconds) => Duration::try_from_secs_f64(seconds).map_err(D::Error::custom),
        };
        let late = entries.into_iter().map(|entry| Ok((entry.organization, duration(entry.by_s)?)));
        super::once(late.collect::<Result<Vec<_>, _>>()?).map_err(D::Error::custom)
    }
}
