//! When a client takes part: windows of UTC, `"20:00-06:00"` or `"Mon-Fri 20:00-06:00"`.
//!
//! A window contains its first minute and not its last; one whose end is not after its beginning ends on the next
//! day, and belongs to the day on which it begins. UTC, because a window in local time would jump twice a year.

/// Windows, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours(Vec<Window>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    /// By day of the week, Monday first: whether the window begins on it.
    days: [bool; 7],
    /// Minutes after midnight.
    from: u32,
    /// The same; not above `from`: on the next day.
    to: u32,
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MINUTES: u32 = 24 * 60;

impl Hours {
    /// Reads the list; in words, what is wrong with an entry.
    pub(super) fn parse(entries: &[String]) -> Result<Self, String> {
        let windows: Result<Vec<_>, _> = entries.iter().map(|entry| window(entry)).collect();
        windows.map(Self)
    }

    /// Whether a time, Unix seconds, is within one of the windows.
    pub fn contain(&self, unix_s: i64) -> bool {
        let (today, minute) = (weekday(unix_s), minute(unix_s));
        let yesterday = (today + 6) % 7;
        self.0.iter().any(|window| {
            let begins = |day: usize| window.days.get(day) == Some(&true);
            if window.from < window.to {
                begins(today) && (window.from..window.to).contains(&minute)
            } else {
                (begins(today) && minute >= window.from) || (begins(yesterday) && minute < window.to)
            }
        })
    }
}

/// Day of the week and time, as in `Tue 14:03`.
pub(super) fn shown(unix_s: i64) -> String {
    let minute = minute(unix_s);
    format!("{} {:02}:{:02}", DAYS.get(weekday(unix_s)).unwrap_or(&""), minute / 60, minute % 60)
}

/// Monday is 0; 1 January 1970 was a Thursday.
fn weekday(unix_s: i64) -> usize {
    usize::try_from((unix_s.div_euclid(86_400) + 3).rem_euclid(7)).unwrap_or(0)
}

fn minute(unix_s: i64) -> u32 {
    u32::try_from(unix_s.rem_euclid(86_400) / 60).unwrap_or(0)
}

fn window(entry: &str) -> Result<Window, String> {
    let bad = || {
        format!(
            "{entry:?} is no window; write \"20:00-06:00\" or \"Mon-Fri 20:00-06:00\", in UTC, days Mon to Sun"
        )
    };
    let (days, times) = match entry.trim().split_once(' ') {
        Some((days, times)) => (days_of(days).ok_or_else(bad)?, times.trim()),
        None => ([true; 7], entry.trim()),
    };
    let (from, to) = times.split_once('-').ok_or_else(bad)?;
    let (from, to) = (time(from).ok_or_else(bad)?, time(to).ok_or_else(bad)?);
    if from == to || from == MINUTES {
        return Err(format!("{entry:?} is empty or ambiguous; the whole day is \"00:00-24:00\""));
    }
    Ok(Window { days, from, to })
}

fn days_of(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (day(first)?, day(last)?),
        None => (day(text)?, day(text)?),
    };
    let mut days = [false; 7];
    // "Fri-Mon" goes over the weekend.
    let length = (last + 7 - first) % 7;
    for step in 0..=length {
        *days.get_mut((first + step) % 7)? = true;
    }
    Some(days)
}

/// `hh:mm`, up to 24:00, in minutes.
fn time(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| (digits.len() == 2).then(|| digits.parse::<u32>().ok()).flatten();
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= MINUTES).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 5 January 1970, 00:00 UTC.
    const MONDAY: i64 = 4 * 86_400;

    fn at(day: i64, hour: i64, minute: i64) -> i64 {
        MONDAY + day * 86_400 + hour * 3600 + minute * 60
    }

    fn hours(entries: &[&str]) -> Hours {
        Hours::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn windows_contain_their_first_minute_and_not_their_last() {
        let office = hours(&["Mon-Fri 08:00-17:30"]);
        assert!(office.contain(at(0, 8, 0)) && office.contain(at(4, 17, 29)));
        assert!(!office.contain(at(0, 7, 59)) && !office.contain(at(4, 17, 30)));
        assert!(!office.contain(at(5, 12, 0)), "Saturday");
        let always = hours(&["00:00-24:00"]);
        assert!((0..7 * 1440).all(|minute| always.contain(at(0, 0, minute))));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let nights = hours(&["Fri 20:00-06:00"]);
        assert!(nights.contain(at(4, 20, 0)) && nights.contain(at(5, 5, 59)));
        assert!(
            !nights.contain(at(4, 5, 0)) && !nights.contain(at(5, 6, 0)) && !nights.contain(at(5, 20, 0))
        );
        let sunday = hours(&["Sun 23:00-01:00", "Wed 10:00-11:00"]);
        assert!(sunday.contain(at(0, 0, 30)), "Monday morning, Sunday's night");
        assert!(sunday.contain(at(2, 10, 30)) && !sunday.contain(at(2, 11, 0)));
        let weekend = hours(&["Fri-Mon 12:00-13:00"]);
        for (day, within) in [(0, true), (1, false), (3, false), (4, true), (5, true), (6, true)] {
            assert_eq!(weekend.contain(at(day, 12, 30)), within, "day {day}");
        }
    }

    #[test]
    fn times_before_1970_and_far_ahead_are_times_too() {
        let mornings = hours(&["Thu 00:00-12:00"]);
        assert!(mornings.contain(0) && !mornings.contain(-1), "Wednesday, 31 December 1969");
        assert_eq!(shown(-1), "Wed 23:59");
        assert_eq!(shown(at(1, 14, 3)), "Tue 14:03");
        assert!(!shown(i64::MAX).is_empty() && !shown(i64::MIN).is_empty());
    }

    #[test]
    fn what_is_no_window_is_named() {
        for entry in
            ["", "8:00-17:00", "08:00", "25:00-26:00", "08:60-09:00", "Mo 08:00-09:00", "Mon 08:00-08:00"]
        {
            let error = Hours::parse(&[entry.to_owned()]).unwrap_err();
            assert!(error.contains(&format!("{entry:?}")), "{error}");
        }
    }
}
