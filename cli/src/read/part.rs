//! How much of a BMC's log is wanted, and how much of it was read.

use super::crash::{LAST_UPTIME, NO_TIME, Time, crashes};
use crate::{
    bmc::{Enough, Entry, SelList, redfish::Entries},
    machine::now,
    message, utc,
};
use serde::Serialize;
use std::{fmt, str::FromStr};

/// Records before a crash that is complete, none of which belongs to it, end it; and before one that is not.
const MARGIN: usize = 4;
const MARGIN_OF_INCOMPLETE: usize = 64;
/// Up to so many records each is looked at as it comes; beyond, each eighth more.
const EACH: usize = 64;

/// What is wanted of a log; all of it by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// So many crashes, the newest.
    pub newest: Option<usize>,
    /// Those since then.
    pub since: Option<Since>,
}

/// A moment, as a user writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So many seconds ago.
    Ago(i64),
    /// By the BMC's clock, in seconds since 1970.
    At(i64),
}

impl Since {
    /// In seconds since 1970 by the BMC's clock, which is so far ahead of ours.
    #[must_use]
    pub fn seconds(self, ahead: Option<i64>) -> i64 {
        match self {
            Self::Ago(seconds) => now() + ahead.unwrap_or_default() - seconds,
            Self::At(seconds) => seconds,
        }
    }
}

impl FromStr for Since {
    type Err = &'static str;

    /// `30m`, `12h`, `3d`; `2026-11-23`, `2026-11-23 01:38`, `2026-11-23T01:38:20`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "takes a time ago (30m, 12h, 3d) or a date and time (2026-11-23, \"2026-11-23 01:38:20\")";
        let ago = |unit, seconds: i64| {
            let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
            Some(Self::Ago(i64::from(count) * seconds))
        };
        if let Some(ago) = ago('m', 60).or_else(|| ago('h', 3600)).or_else(|| ago('d', 86400)) {
            return Ok(ago);
        }
        let mut parts = text.split(['-', ':', ' ', 'T']);
        let year = parts.next().and_then(|year| year.parse().ok()).ok_or(WRONG)?;
        let mut numbers = [0, 0, 0, 0, 0];
        let mut given = 0;
        for part in parts {
            *numbers.get_mut(given).ok_or(WRONG)? = part.parse().map_err(|_| WRONG)?;
            given += 1;
        }
        if ![2, 4, 5].contains(&given) {
            return Err(WRONG);
        }
        utc::seconds(year, numbers).map(Self::At).ok_or(WRONG)
    }
}

impl Wanted {
    /// Are these records, the newest first, all that are wanted? `None` where all of the log is.
    pub fn enough(self, ahead: Option<i64>) -> Option<Box<Enough<'static>>> {
        if self.newest.is_none() && self.since.is_none() {
            return None;
        }
        let since = self.since.map(|since| since.seconds(ahead));
        let mut next = 0;
        Some(Box::new(move |entries: &[Entry]| {
            if entries.len() < next {
                return false;
            }
            next = if entries.len() < EACH { 0 } else { entries.len() + entries.len() / 8 };
            since.is_some_and(|since| begins_before(entries, since))
                || self.newest.is_some_and(|newest| have(entries, newest))
        }))
    }
}

/// Are the oldest of these all older than that? Those without a time do not count.
fn begins_before(entries: &[Entry], since: i64) -> bool {
    /// Records from this type on have no time (IPMI 2.0 section 32.3).
    const OEM_WITHOUT_TIME: u8 = 0xe0;
    let with_time = entries.iter().rev().filter(|entry| entry.record[2] < OEM_WITHOUT_TIME);
    let times = with_time.map(|entry| {
        let [_, _, _, a, b, c, d, ..] = entry.record;
        u32::from_le_bytes([a, b, c, d])
    });
    let is_older = |time: &u32| (LAST_UPTIME + 1..NO_TIME).contains(time) && i64::from(*time) < since;
    times.take_while(is_older).take(MARGIN).count() == MARGIN
}

/// Are there so many crashes, and is nothing missing of them?
fn have(entries: &[Entry], newest: usize) -> bool {
    let log = entries.iter().rev().map(|entry| entry.record).collect();
    let all = crashes(&log);
    let mut found = all.iter().rev().filter(|crash| !crash.is_test());
    let Some(oldest) = newest.checked_sub(1).and_then(|others| found.nth(others)) else { return false };
    let mut wanted = all.iter().rev().filter(|crash| !crash.is_test()).take(newest);
    let is_complete = wanted.all(|crash| crash.missing == 0 && matches!(crash.time, Some(Time::Seconds(_))));
    let margin = if is_complete { MARGIN } else { MARGIN_OF_INCOMPLETE };
    let first = entries.iter().position(|entry| Some(entry.id) == oldest.first_record);
    first.is_some_and(|first| entries.len() > first + margin)
}

/// An error without what to do about it.
fn fact(error: &impl ToString) -> String {
    message::fact(&error.to_string()).to_owned()
}

/// How much of a BMC's log was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Records that were read.
    read: usize,
    /// Records that the BMC counts.
    counted: Option<usize>,
    /// Records that should have been read, and were not.
    missing: usize,
    /// Are there more than the BMC counts?
    #[serde(skip)]
    miscounted: bool,
    /// Are older records left out, because they were not wanted?
    newest_only: bool,
    /// Is the newest record unknown?
    #[serde(skip)]
    is_open: bool,
    /// Are there records that the BMC does not answer for?
    #[serde(skip)]
    is_silent: bool,
    /// Why reading ended early.
    error: Option<String>,
}

impl Part {
    /// Of this list.
    #[must_use]
    pub fn of(list: &SelList) -> Self {
        let (read, counted) = (list.entries.len(), list.count.map(usize::from));
        Self {
            read,
            counted,
            miscounted: counted.is_some_and(|counted| counted < read),
            missing: list.missing(),
            newest_only: list.from_end,
            is_open: list.is_open,
            is_silent: list.is_silent,
            error: list.ended_by.as_ref().map(fact),
        }
    }

    /// And of this log, which was read by Redfish.
    pub fn add(&mut self, log: &Entries) {
        self.read += log.all.len();
        if let Some(count) = log.count {
            self.counted = Some(self.counted.unwrap_or(0).saturating_add(count));
            let missing = if log.newest_only { 0 } else { count.saturating_sub(log.given) };
            self.missing = self.missing.saturating_add(missing);
        }
        self.missing = self.missing.saturating_add(log.lost);
        self.newest_only |= log.newest_only;
        self.error = log.ended_by.as_ref().map(fact).or(self.error.take());
    }

    /// Did reading end early, or is a record not shown? Then a crash may be in what is missing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.error.is_some() || self.missing > 0
    }

    /// May a newer crash be in what was not read?
    #[must_use]
    pub fn ends_early(&self) -> bool {
        self.error.is_some() || self.is_open && self.missing > 0
    }

    /// What a user has to know of it.
    #[must_use]
    pub fn note(&self) -> Option<&Self> {
        Some(self).filter(|part| part.is_cut() || part.miscounted)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.counted {
            Some(counted) if counted > self.read => {
                write!(f, "{} of {counted} SEL records read", self.read)?;
            }
            Some(counted) if self.miscounted => {
                write!(f, "{} SEL records read, though the BMC counts {counted}", self.read)?;
            }
            _ if self.missing > 0 => write!(f, "{} SEL records read, {} more not", self.read, self.missing)?,
            _ => write!(f, "{} SEL records read", self.read)?,
        }
        match &self.error {
            Some(error) => write!(f, ": {error}."),
            None if self.missing == 0 => f.write_str("."),
            None if self.is_silent => f.write_str(": the BMC does not answer for the others."),
            None => f.write_str(": the BMC does not show the others."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bmc::{Lan, SelList},
        read::crash::Crash,
    };
    use lastwords_sim::lan::{LanBmc, Next, OwnIds};
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(600);
    const NEWEST: Wanted = Wanted { newest: Some(1), since: None };

    /// A fan, an hour after the one before.
    fn fan(at: u32) -> [u8; 16] {
        let mut record = *b"\0\0\x02time\x20\x00\x04\x04\x30\x01\x09\xff\xff";
        record[3..7].copy_from_slice(&(0x6a00_0000 + 3600 * at).to_le_bytes());
        record
    }

    /// A full log: many fans, a crash of 17 records, and two fans again.
    fn log() -> Vec<[u8; 16]> {
        let stored = include_bytes!("../../tests/read/ipmitool-writeraw.bin");
        let (stored, _) = stored.as_chunks::<16>();
        let of_crash = |number: &u8| *number != 0x98 && (*number < 0xa2 || [0xa6, 0xa9].contains(number));
        let crash = (0x92..=0xa9).filter(of_crash).map(|number| stored[usize::from(number - 0x83)]);
        let log: Vec<_> = (0..3620).map(fan).chain(crash).chain((4600..4602).map(fan)).collect();
        assert_eq!(log.len(), 3639);
        log
    }

    fn read(lan: &Lan, wanted: Wanted) -> SelList {
        lan.connect(LIMIT).unwrap().read_sel(wanted.enough(None).as_deref_mut()).unwrap()
    }

    fn newest(list: &SelList) -> Crash {
        crashes(&list.entries.iter().map(|entry| entry.record).collect()).pop().unwrap()
    }

    #[test]
    fn the_newest_crash_of_a_full_log_in_order_takes_60_packets() {
        let lan = Lan::new(LanBmc::new(log()));
        let list = read(&lan, NEWEST);
        let whole = read(&Lan::new(LanBmc::new(log())), Wanted::default());
        assert_eq!((newest(&list), list.from_end), (newest(&whole), true));
        assert_eq!((whole.entries.len(), whole.from_end), (3639, false));
        // Get SEL Time, and its answer.
        let packets = lan.bmc(|bmc| bmc.heard + bmc.sent) + 2;
        assert!(packets <= 60, "{packets} packets");
    }

    #[test]
    fn where_ids_are_not_in_order_all_is_read_and_in_no_more_round_trips_than_there_are_records_and_12() {
        let with = |ids| LanBmc { own_ids: ids, ..LanBmc::new(log()) };
        let mut gap = LanBmc::new(log());
        gap.sel[3625] = [0; 16];
        gap.unreadable = Some((3626, lastwords_sim::lan::Unreadable::Code(0xcb)));
        for bmc in [with(OwnIds::FirstTwice), with(OwnIds::Senders), with(OwnIds::OffByOne), gap] {
            let (ids, is_gap) = (bmc.own_ids, bmc.unreadable.is_some());
            let lan = Lan::new(bmc);
            let list = read(&lan, NEWEST);
            let trips = lan.bmc(|bmc| bmc.heard);
            assert!(trips <= 3639 + 12, "{ids:?}: {trips}");
            if ids == OwnIds::FirstTwice || is_gap {
                // It shows in the middle, or before the first record.
                assert!(list.entries.len() >= 3638 || list.from_end);
            } else {
                assert_eq!((list.entries.len(), list.from_end), (3639, false), "{ids:?}");
            }
            assert_eq!(newest(&list).dump.len(), 2);
        }
    }

    #[test]
    fn a_log_is_read_back_to_a_moment() {
        let since = Since::At(i64::from(0x6a00_0000 + 3600 * 3600));
        let lan = Lan::new(LanBmc::new(log()));
        let list = read(&lan, Wanted { newest: None, since: Some(since) });
        // 20 fans, and those that show that there are no others.
        assert_eq!(list.entries.len(), 2 + 17 + 20 + MARGIN);
        assert_eq!(newest(&list).records, 17);
    }

    #[test]
    fn where_there_is_no_crash_the_newest_one_is_looked_for_in_all_of_the_log() {
        let lan = Lan::new(LanBmc::new((0..500).map(fan).collect()));
        let list = read(&lan, NEWEST);
        assert_eq!((list.entries.len(), list.from_end), (500, false));
        assert!(lan.bmc(|bmc| bmc.heard) <= 500 + 12);
    }

    #[test]
    fn what_was_not_read_is_said() {
        let mut lan = LanBmc::new(log());
        (lan.gone_from, lan.delay) = (Some(2000), 10);
        let part = Part::of(&read(&Lan::new(lan), Wanted::default()));
        let text = part.note().unwrap().to_string();
        assert!(part.is_cut() && part.missing == 3639 - part.read, "{part:?}");
        assert!(
            text.ends_with(" of 3639 SEL records read: the BMC did not answer Get SEL Entry in time."),
            "{text}"
        );
        let unreadable = Some((5, lastwords_sim::lan::Unreadable::Short));
        let part = Part::of(&read(&Lan::new(LanBmc { unreadable, ..LanBmc::new(log()) }), Wanted::default()));
        let text = part.note().unwrap().to_string();
        assert_eq!(text, "3638 of 3639 SEL records read: the BMC does not show the others.");
        let part = Part::of(&read(&Lan::new(LanBmc::new(log())), NEWEST));
        assert_eq!((part.note(), part.newest_only), (None, true));
    }

    /// Crashes an hour apart, with fans between.
    fn of_crashes(count: u32) -> Vec<[u8; 16]> {
        let full = log();
        let crash = &full[3620..3637];
        let mut log: Vec<_> = (0..3).map(fan).collect();
        for at in 0..count {
            let id = format!("#{at:010}");
            let mut crash = crash.to_vec();
            crash[0][3..7].copy_from_slice(&(0x6b00_0000 + 3600 * at).to_le_bytes());
            // Each has a crash ID of its own, where the build ID was.
            crash[3][5..16].copy_from_slice(id.as_bytes());
            log.extend(crash.into_iter().chain([fan(4000 + at)]));
        }
        log
    }

    /// The crashes that are told.
    fn told(list: &SelList, wanted: Wanted) -> Vec<Crash> {
        let mut told = crashes(&list.entries.iter().map(|entry| entry.record).collect());
        // The number in the first record is the BMC's.
        for crash in &mut told {
            crash.first_record = None;
        }
        if let Some(Since::At(since)) = wanted.since {
            told.retain(|crash| matches!(crash.time, Some(Time::Seconds(time)) if i64::from(time) >= since));
        }
        told.drain(..told.len().saturating_sub(wanted.newest.unwrap_or(usize::MAX)));
        told
    }

    #[test]
    fn whatever_the_bmc_counts_and_however_it_numbers_its_records_the_same_crashes_are_told() {
        let log = of_crashes(3);
        let len = log.len() as u16;
        let plain: SelList = read(&Lan::new(LanBmc::new(log.clone())), Wanted::default());
        let since = Since::At(i64::from(0x6b00_0000 + 3600));
        let wanted = [Wanted::default(), NEWEST, Wanted { newest: None, since: Some(since) }];
        assert_eq!(wanted.map(|wanted| told(&plain, wanted).len()), [3, 1, 2]);
        let mut cases = 0;
        for own_ids in [OwnIds::Right, OwnIds::FirstTwice, OwnIds::Senders, OwnIds::OffByOne] {
            let places = [1, 2, 30, log.len() - 1, log.len()];
            let wrong = |next| places.map(|at| Some((at, next)));
            let nexts = [Next::Itself, Next::Back, Next::Zero].map(wrong).concat();
            for next in [None].into_iter().chain(nexts) {
                for (no_first, wanted) in
                    [false, true].into_iter().flat_map(|no| wanted.map(|wanted| (no, wanted)))
                {
                    for count in [0, 1, len - 1, len, len + 1, 2 * len, u16::MAX] {
                        let bmc = LanBmc {
                            own_ids,
                            next,
                            no_first,
                            count: Some(count),
                            ..LanBmc::new(log.clone())
                        };
                        let lan = Lan::new(bmc);
                        let list = read(&lan, wanted);
                        let case = format!("{own_ids:?} {next:?} {no_first} {wanted:?} {count}");
                        assert_eq!(told(&list, wanted), told(&plain, wanted), "{case}");
                        let trips = lan.bmc(|bmc| bmc.heard);
                        let most = if wanted.newest.or(wanted.since.map(|_| 1)).is_some() { 2 } else { 1 };
                        assert!(trips <= most * log.len() + 12, "{case}: {trips}");
                        // It is said where it differs.
                        let part = Part::of(&list);
                        let read = list.entries.len();
                        let is_said = part.note().is_some();
                        assert_eq!(
                            is_said,
                            if list.from_end { read > count.into() } else { count != len },
                            "{case}"
                        );
                        assert!(list.from_end || read == log.len(), "{case}: {read}");
                        cases += 1;
                    }
                }
            }
        }
        assert_eq!(cases, 4 * 16 * 6 * 7);
    }

    #[test]
    fn a_log_that_is_cleared_and_filled_again_meanwhile_is_told_as_it_is_then() {
        let (old, new) = (of_crashes(3), of_crashes(5).split_off(21));
        for after in 1..=old.len() as u32 {
            for wanted in [Wanted::default(), NEWEST] {
                let mut bmc = LanBmc::new(old.clone());
                bmc.cleared = Some((after, new.clone()));
                let lan = Lan::new(bmc);
                let list = read(&lan, wanted);
                let is_read_before = lan.bmc(|bmc| bmc.cleared.is_some());
                let now = if is_read_before { &old } else { &new };
                let whole = read(&Lan::new(LanBmc::new(now.clone())), wanted);
                assert_eq!(told(&list, wanted), told(&whole, wanted), "after {after} {wanted:?}");
                assert_eq!(Part::of(&list).note(), None, "after {after} {wanted:?}");
            }
        }
        // Nothing comes back.
        let lan = Lan::new(LanBmc { cleared: Some((7, Vec::new())), ..LanBmc::new(old) });
        let list = read(&lan, Wanted::default());
        assert_eq!((list.entries.len(), Part::of(&list).note()), (0, None));
    }

    #[test]
    fn a_bmc_whose_time_of_clearing_always_changes_is_read_once() {
        let lan = Lan::new(LanBmc { erased_runs: true, ..LanBmc::new(of_crashes(3)) });
        let list = read(&lan, Wanted::default());
        assert_eq!(list.entries.len(), 57);
        assert!(lan.bmc(|bmc| bmc.heard) <= 57 + 12);
    }

    #[test]
    fn a_record_that_was_not_read_may_be_a_crashs() {
        let unreadable = Some((5, lastwords_sim::lan::Unreadable::Short));
        for (bmc, is_cut) in [
            (LanBmc::new(log()), false),
            (LanBmc { unreadable, ..LanBmc::new(log()) }, true),
            (LanBmc { count: Some(3640), ..LanBmc::new(log()) }, true),
            (LanBmc { count: Some(3638), ..LanBmc::new(log()) }, false),
        ] {
            assert_eq!(Part::of(&read(&Lan::new(bmc), Wanted::default())).is_cut(), is_cut);
        }
    }

    #[test]
    fn a_moment_is_a_time_ago_or_a_date() {
        for (text, since) in [
            ("30m", Since::Ago(1800)),
            ("12h", Since::Ago(43200)),
            ("3d", Since::Ago(259_200)),
            ("1970-01-02", Since::At(86400)),
            ("1970-01-02 01:02", Since::At(90_120)),
            ("1970-01-02T01:02:03", Since::At(90_123)),
        ] {
            assert_eq!(text.parse(), Ok(since), "{text}");
        }
        for wrong in
            ["", "d", "3w", "-3d", "1970-13-01", "1970", "1970-01", "1970-01-02 01", "1970-01-02 01:02:03:04"]
        {
            assert!(wrong.parse::<Since>().is_err(), "{wrong}");
        }
    }
}
