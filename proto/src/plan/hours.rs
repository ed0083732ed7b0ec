//! The hours in which organizations take part, and the window that they leave in common.
//!
//! What stands in the plan is a declaration, checked so that no job is signed that could never run a round; what each
//! client enforces is its own policy. A round needs everybody who counts at once, so the declared hours must share a window
//! as long as one attempt may take.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::Id;

/// Minutes of a day.
pub(super) const DAY: u16 = 1440;

/// When one organization takes part, every day. One with several entries takes part in all of them; one with none, always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The organization.
    pub organization: Id,
    /// The first minute, UTC.
    pub from: TimeOfDay,
    /// The end, UTC; before `from`, it is the next day's.
    pub to: TimeOfDay,
}

/// A time of day, UTC, to the minute: `"08:00"`. `"24:00"` is midnight at the end of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// From minutes after midnight, modulo a day.
    pub fn from_minutes(minutes: u32) -> Self {
        Self((minutes % u32::from(DAY)) as u16)
    }

    /// Minutes after midnight, below 1440.
    pub fn minutes(self) -> u16 {
        self.0 % DAY
    }
}

impl FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is no time of day: write \"08:00\", from \"00:00\" to \"24:00\", UTC");
        let two = |digits: &str| match digits.as_bytes() {
            [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(u16::from(a - b'0') * 10 + u16::from(b - b'0')),
            _ => None,
        };
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        let (hours, minutes) = two(hours).zip(two(minutes)).ok_or_else(wrong)?;
        let all = hours * 60 + minutes;
        if minutes < 60 && all <= DAY { Ok(Self(all)) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Hours {
    /// Minutes that it lasts: `to` equal to `from`, none (but midnight to midnight, a day).
    pub fn length(&self) -> u16 {
        if self.from.0 == 0 && self.to.0 == DAY {
            return DAY;
        }
        (DAY + self.to.minutes() - self.from.minutes()) % DAY
    }

    fn covers(&self, minute: u16) -> bool {
        (DAY + minute - self.from.minutes()) % DAY < self.length()
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-{}", self.organization, self.from, self.to)
    }
}

/// A window of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first minute.
    pub from: TimeOfDay,
    /// How many minutes it lasts, at most a day.
    pub minutes: u16,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = u32::from(self.from.minutes()) + u32::from(self.minutes);
        write!(f, "{}-{} UTC", self.from, TimeOfDay::from_minutes(to))
    }
}

/// The longest window in which every organization that declares hours takes part; `None` if there is not a minute.
pub fn common_window(hours: &[Hours]) -> Option<Window> {
    let by_organization = group(hours);
    let all = |minute: u16| {
        by_organization.values().all(|entries| entries.iter().any(|&(_, entry)| entry.covers(minute)))
    };
    let day: Vec<bool> = (0..DAY).map(all).collect();
    if day.iter().all(|&open| open) {
        return Some(Window { from: TimeOfDay(0), minutes: DAY });
    }
    // Twice around, for the window that spans midnight.
    let (mut longest, mut run) = (None::<(u16, u16)>, 0u16);
    for (minute, &open) in (0..2 * DAY).zip(day.iter().cycle()) {
        run = if open { run + 1 } else { 0 };
        if run > longest.map_or(0, |(_, length)| length) {
            longest = Some((minute + 1 - run, run));
        }
    }
    longest.map(|(from, minutes)| Window { from: TimeOfDay::from_minutes(from.into()), minutes })
}

/// The hours that leave a common window of `needed` minutes with the fewest minutes added, if `needed` fits into a day.
pub(super) fn widened(hours: &[Hours], needed: u16) -> Option<Vec<Hours>> {
    let by_organization = group(hours);
    let wide_enough = |entries: &[(usize, &Hours)], start: u16| {
        (0..needed).all(|minute| entries.iter().any(|(_, entry)| entry.covers((start + minute) % DAY)))
    };
    // For each start of the window: what each organization's cheapest entry becomes, and the minutes that this adds.
    let best = (0..DAY).filter(|_| needed <= DAY).map(|start| {
        let changes =
            by_organization.values().filter(|entries| !wide_enough(entries, start)).filter_map(|entries| {
                let options = entries.iter().flat_map(|&(place, entry)| {
                    spans(entry, start, needed).into_iter().map(move |(added, wider)| (added, place, wider))
                });
                options.min_by_key(|&(added, _, _)| added)
            });
        let changes: Vec<_> = changes.collect();
        (changes.iter().map(|(added, _, _)| u32::from(*added)).sum::<u32>(), changes)
    });
    let (_, changes) = best.min_by_key(|(added, _)| *added)?;
    let mut wider = hours.to_vec();
    for (_, place, hours) in changes {
        if let Some(entry) = wider.get_mut(place) {
            *entry = hours;
        }
    }
    Some(wider)
}

/// `entry` stretched over `[start, start + needed)`, forwards and backwards, with the minutes added.
fn spans(entry: &Hours, start: u16, needed: u16) -> [(u16, Hours); 2] {
    let (from, length) = (entry.from.minutes(), entry.length());
    [
        (from, (DAY + start - from) % DAY + needed, length),
        (start, (DAY + from - start) % DAY + length, needed),
    ]
    .map(|(from, reach, other)| {
        let whole = reach.max(other).min(DAY);
        let (from, to) = if whole == DAY {
            (TimeOfDay(0), TimeOfDay(DAY))
        } else {
            (TimeOfDay(from), TimeOfDay::from_minutes(u32::from(from) + u32::from(whole)))
        };
        (whole - length.min(whole), Hours { from, to, ..entry.clone() })
    })
}

/// Entries by organization, with their places in the list.
fn group(hours: &[Hours]) -> BTreeMap<&Id, Vec<(usize, &Hours)>> {
    let mut groups: BTreeMap<&Id, Vec<(usize, &Hours)>> = BTreeMap::new();
    for (place, entry) in hours.iter().enumerate() {
        groups.entry(&entry.organization).or_default().push((place, entry));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Vec<Hours> {
        text.split(", ")
            .map(|entry| {
                let (organization, times) = entry.split_once(' ').unwrap();
                let (from, to) = times.split_once('-').unwrap();
                Hours {
                    organization: organization.parse().unwrap(),
                    from: from.parse().unwrap(),
                    to: to.parse().unwrap(),
                }
            })
            .collect()
    }

    fn shown(hours: &[Hours]) -> String {
        hours.iter().map(Hours::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn times_are_read_strictly() {
        for (text, minutes) in [("00:00", 0), ("08:30", 510), ("23:59", 1439), ("24:00", 0)] {
            let time: TimeOfDay = text.parse().unwrap();
            assert_eq!((time.minutes(), time.to_string().as_str()), (minutes, text));
        }
        for text in ["", "8:00", "08:60", "24:01", "25:00", "-1:00", "08.00", "08:00:00", "+8:00", "٠٨:٠٠"]
        {
            assert!(text.parse::<TimeOfDay>().unwrap_err().contains("is no time of day"), "{text}");
        }
    }

    #[test]
    fn the_common_window_is_where_all_are_there() {
        for (declared, window) in [
            ("a 08:00-18:00, b 09:30-20:00", Some("09:30-18:00 UTC")),
            ("a 20:00-06:00, b 22:00-23:00, b 00:30-04:00", Some("00:30-04:00 UTC")),
            ("a 20:00-06:00, b 18:00-05:00", Some("20:00-05:00 UTC")),
            ("a 08:00-12:00, b 12:00-18:00", None),
            ("a 00:00-24:00, b 07:00-08:00", Some("07:00-08:00 UTC")),
            ("a 07:00-07:00", None),
        ] {
            let found = common_window(&hours(declared)).map(|window| window.to_string());
            assert_eq!(found.as_deref(), window, "{declared}");
        }
        assert_eq!(common_window(&[]).unwrap().minutes, DAY);
        assert_eq!(common_window(&hours("a 00:00-24:00")).unwrap().minutes, DAY);
    }

    #[test]
    fn hours_are_widened_by_as_little_as_there_must_be() {
        for (declared, needed, wider) in [
            ("a 08:00-12:00, b 12:00-18:00", 30, "a 08:00-12:30, b 12:00-18:00"),
            ("a 08:00-12:00, b 11:50-18:00", 30, "a 08:00-12:20, b 11:50-18:00"),
            ("a 23:00-23:50, b 00:10-02:00", 60, "a 23:00-01:00, b 00:00-02:00"),
            ("a 08:00-12:00, b 09:00-18:00", 30, "a 08:00-12:00, b 09:00-18:00"),
            ("a 07:00-07:00", 1440, "a 00:00-24:00"),
        ] {
            let found = widened(&hours(declared), needed).unwrap();
            assert!(common_window(&found).unwrap().minutes >= needed, "{declared}: {}", shown(&found));
            let added = |hours: &[Hours]| hours.iter().map(|h| u32::from(h.length())).sum::<u32>();
            assert_eq!(added(&found), added(&hours(wider)), "{declared}: {}", shown(&found));
        }
        assert!(widened(&hours("a 08:00-12:00"), 1441).is_none());
    }
}
