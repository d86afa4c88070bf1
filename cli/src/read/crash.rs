//! What the SEL holds of each crash, as one value: what is known, what is truncated, what is missing.

pub use super::text::Text;
use super::{
    log::{Entry, Log},
    why,
};
use crate::{
    symbols::{Name, Symbols, When},
    utc::date_and_time,
};
use lastwords_core::{
    report::{CpuLocation, CrashId, Line, Location, Stage},
    store::sel::{self, Check, Decoded, Decoder, Head, Source},
};
use std::fmt;

/// A crash, or a test report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crash {
    /// When the BMC logged the platform event, by its own clock.
    pub time: Option<Time>,
    /// Who wrote the records; `None` when there is a platform event only, or progress records.
    pub source: Option<Source>,
    /// The text of the panic.
    pub reason: Option<Text>,
    /// The first four bytes of the kernel's build id.
    pub build_id: Option<u32>,
    /// What the crash is known by, where that is recorded.
    pub id: Option<CrashId>,
    /// What its cause is known by, where that is recorded.
    pub signature: Option<u32>,
    /// The kernel's release, where the symbols name it.
    pub release: Option<String>,
    /// What the kernel reported before it panicked.
    pub cause: Option<Text>,
    /// Where that was, symbol and offset, as the kernel's log has it.
    pub location: Option<Text>,
    /// The process that ran.
    pub process: Option<Text>,
    /// The call trace, the innermost function first.
    pub call_trace: Vec<Text>,
    /// The CPU that panicked.
    pub panicked: Option<Panicked>,
    /// The other CPUs, by where they were.
    pub groups: Vec<Group>,
    /// CPUs that are not reported, because of the record limit.
    pub left_out: u32,
    /// Parts of the dump kernel whose checksum was not that of what was loaded.
    pub corrupt: Vec<Text>,
    /// Those that were put right by a copy.
    pub restored: Vec<Text>,
    /// There was no dump kernel.
    pub no_dump: bool,
    /// How far the dump came.
    pub dump: Vec<Stage>,
    /// Why it failed, where that is recorded.
    pub why: Option<Text>,
    /// The number of its first record, where the BMC has one. Another crash may get it after the SEL was cleared.
    pub first_record: Option<u16>,
    /// Records of it in the log.
    pub records: u32,
    /// Records that are known to be missing.
    pub missing: u32,
    /// Are all there?
    pub complete: Complete,
    /// Lines of no known kind, and what is left of lines whose other records are missing.
    pub unparsed: Vec<Text>,
    /// The dump's file, where one was found.
    pub vmcore: Option<String>,
    /// The file of its report in pstore, where one was found.
    pub pstore: Option<String>,
    /// Was the log not read to its end, so that records of it may be missing whose numbers nobody knows?
    pub is_open: bool,
}

/// What is known of a crash's records as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Complete {
    /// Their numbers show what is missing between them.
    #[default]
    Numbered,
    /// All are there: count and checksum are those that were written.
    Yes,
    /// Some are missing, doubled or changed.
    No,
    /// They have neither numbers nor a checksum (older versions).
    Unknown,
}

/// A time by the BMC's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Time {
    /// Seconds since 1970, in whatever time zone the BMC's clock is.
    Seconds(u32),
    /// Seconds since the BMC started: it did not know the time (IPMI 2.0 section 37.1).
    Uptime(u32),
    /// As a listing shows it.
    Listed(String),
}

/// Records of this type and above have no time stamp (IPMI 2.0 section 32.3).
const TIMELESS: u8 = 0xe0;
/// Times up to this one count from the BMC's start.
pub const LAST_UPTIME: u32 = 0x2000_0000;
/// No time at all.
pub const NO_TIME: u32 = 0xffff_ffff;

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => {
                let (date, time) = date_and_time((*seconds).into()).unwrap_or_default();
                write!(f, "{date} {time}")
            }
            Self::Uptime(seconds) => write!(f, "{seconds} s after the BMC's start"),
            Self::Listed(text) => f.write_str(text),
        }
    }
}

/// The CPU that panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Panicked {
    /// This one (the kernel's number), here.
    Cpu(u32, NamedLocation),
    /// Nothing shows which; it is among the groups.
    Unknown,
}

/// CPUs at one location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub count: u32,
    /// Where.
    pub location: NamedLocation,
}

/// Where a CPU was, and the name of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLocation {
    /// As it was recorded.
    pub location: Location,
    /// Its name.
    pub symbol: Symbol,
}

/// What the symbols have for a location.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Symbol {
    /// There are no symbols of this kernel.
    #[default]
    Unavailable,
    /// Its symbol and offset, as the kernel would print it.
    Known(String),
    /// None: it is in a module that was loaded later, for example.
    NotFound,
    /// One, but of another boot, or of an unknown one.
    OtherBoot,
}

impl Symbol {
    /// The name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Known(name) => Some(name),
            Self::Unavailable | Self::NotFound | Self::OtherBoot => None,
        }
    }
}

impl From<Option<Name>> for Symbol {
    fn from(name: Option<Name>) -> Self {
        name.map_or(Self::NotFound, |name| Self::Known(name.to_string()))
    }
}

impl NamedLocation {
    /// The same as that of the CPU that panicked. It was there to do that: without registers all that is known is that there is
    /// no note to read. Older versions recorded `dead` for it.
    #[must_use]
    pub fn of_panicked(&self) -> Self {
        match self.location {
            Location::NotResponding | Location::OffOrNotResponding | Location::Off => Location::Unread.into(),
            _ => self.clone(),
        }
    }
}

impl From<Location> for NamedLocation {
    fn from(location: Location) -> Self {
        Self { location, symbol: Symbol::Unavailable }
    }
}

/// What a test report's reason begins with, today and in older versions.
const TEST: [&str; 2] = ["test report", "rehearsal"];
/// So many characters of it, where the rest is missing, are enough: a platform event has no more.
const SHORTEST: usize = 3;

impl Crash {
    /// Is nothing known but how far a dump came?
    #[must_use]
    pub fn is_progress_alone(&self) -> bool {
        self.source.is_none() && self.reason.is_none() && self.time.is_none() && !self.dump.is_empty()
    }

    /// Is it a test report?
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| {
            TEST.iter().any(|test| {
                let is_part = reason.cut && reason.value.len() >= SHORTEST && test.starts_with(&reason.value);
                is_part || reason.value.starts_with(test)
            })
        })
    }

    /// Every location in it.
    fn locations(&mut self) -> impl Iterator<Item = &mut NamedLocation> {
        let panicked = match &mut self.panicked {
            Some(Panicked::Cpu(_, location)) => Some(location),
            _ => None,
        };
        panicked.into_iter().chain(self.groups.iter_mut().map(|group| &mut group.location))
    }

    /// Are there locations that only symbols name?
    #[must_use]
    pub fn needs_symbols(&self) -> bool {
        let panicked = match &self.panicked {
            Some(Panicked::Cpu(_, location)) => Some(location),
            _ => None,
        };
        let mut locations = panicked.into_iter().chain(self.groups.iter().map(|group| &group.location));
        locations.any(|location| matches!(location.location, Location::Kernel(_)))
    }

    /// Names the locations. `ahead` is how many seconds the BMC's clock is before this machine's.
    pub fn name_locations(&mut self, symbols: &Symbols, ahead: i64, running: Option<&str>) {
        let time = match self.time {
            Some(Time::Seconds(seconds)) => Some(i64::from(seconds) - ahead),
            _ => None,
        };
        // A test report's boot may be the running one.
        let when = When { time, running: running.filter(|_| !self.is_test()) };
        self.release = symbols.release().map(str::to_owned);
        for location in self.locations() {
            match location.location {
                Location::Kernel(offset) => location.symbol = symbols.kernel(offset).into(),
                Location::Address(address) => {
                    location.symbol = symbols.address(address, when).map_or(Symbol::OtherBoot, Symbol::from);
                }
                _ => {}
            }
        }
    }
}

/// The crashes that a log holds, the oldest first.
#[must_use]
pub fn crashes(log: &Log) -> Vec<Crash> {
    let entries = without_copy(&log.entries);
    let mut crashes = Crashes { entries, found: Vec::new(), firsts: Vec::new(), at_start: false };
    let mut decoder = Decoder::default();
    let mut whys = Vec::new();
    for (entry, at) in entries.iter().zip(0..) {
        if why::is_part(&entry.record) {
            whys.push((at, &entry.record));
        }
        decoder.push(&entry.record, |decoded| crashes.take(&decoded));
    }
    decoder.finish(|decoded| crashes.take(&decoded));
    crashes.whys(whys);
    once(crashes.found)
}

/// Of a log that stands in a file twice, one behind the other, the longer one: it may have been saved before and behind the
/// dump.
fn without_copy(entries: &[Entry]) -> &[Entry] {
    let Some(begin) = entries.first() else { return entries };
    for at in (1..entries.len()).filter(|at| entries[*at] == *begin) {
        let (one, other) = entries.split_at(at);
        // With the same times: no machine crashes so again.
        let has_time = |entry: &Entry| {
            entry.time.is_some()
                || entry.record[2] < TIMELESS && matches!(time(entry), Some(Time::Seconds(_)))
        };
        if one.iter().zip(other).any(|(entry, _)| has_time(entry)) {
            if other.starts_with(one) {
                return without_copy(other);
            }
            if one.starts_with(other) {
                return one;
            }
        }
    }
    entries
}

/// Each crash once: no two have one ID.
fn once(found: Vec<Crash>) -> Vec<Crash> {
    let mut kept: Vec<Crash> = Vec::new();
    for crash in found {
        match kept.iter_mut().find(|kept| kept.id.is_some() && kept.id == crash.id) {
            Some(kept) if kept.records >= crash.records => {}
            Some(kept) => *kept = Crash { time: crash.time.clone().or(kept.time.take()), ..crash },
            None => kept.push(crash),
        }
    }
    kept
}

struct Crashes<'a> {
    entries: &'a [Entry],
    found: Vec<Crash>,
    /// Which record was the first of each.
    firsts: Vec<u32>,
    /// Nothing of the last one's text is missing so far, and this is its first line.
    at_start: bool,
}

impl Crashes<'_> {
    fn take(&mut self, decoded: &Decoded<'_>) {
        let first = std::mem::replace(&mut self.at_start, matches!(decoded, Decoded::Crash(_)));
        if let Decoded::Crash(head) = decoded {
            let crash = self.begin(head);
            self.found.push(crash);
            self.firsts.push(head.first);
            return;
        }
        let Some(crash) = self.found.last_mut() else { return };
        match *decoded {
            Decoded::Crash(_) => {}
            // Behind a result it is one that was sent again, late.
            Decoded::Mark(Stage::Started) if crash.dump.iter().any(|stage| *stage != Stage::Started) => {}
            Decoded::Mark(stage) => crash.dump.push(stage),
            Decoded::Line(line) => crash.line(line),
            Decoded::Truncated(bytes) => crash.cut(bytes, first),
            Decoded::Headless(bytes) => crash.unparsed.push(Text::headless(bytes)),
            Decoded::Missing(records) => crash.missing = crash.missing.saturating_add(u32::from(records)),
        }
    }

    fn begin(&self, head: &Head) -> Crash {
        let entry = |at: u32| self.entries.get(at as usize);
        let number = |entry: &Entry| u16::from_le_bytes([entry.record[0], entry.record[1]]);
        let letters = head.event.map_or(Vec::new(), |event| {
            // None are 0 or 0xff.
            event.letters.into_iter().take_while(|letter| (b' '..=b'~').contains(letter)).collect()
        });
        Crash {
            time: head.event.and_then(|event| entry(event.at)).and_then(time),
            reason: (!letters.is_empty()).then(|| Text::cut(&letters)),
            source: head.source,
            complete: match head.check {
                Check::Numbered => Complete::Numbered,
                Check::Fits => Complete::Yes,
                Check::Differs => Complete::No,
                Check::Unchecked => Complete::Unknown,
            },
            records: head.records,
            first_record: entry(head.first).map(number).filter(|number| *number != 0),
            ..Crash::default()
        }
    }

    /// Why a dump failed is recorded behind what the crash has.
    fn whys(&mut self, whys: Vec<(u32, &[u8; 16])>) {
        // A full log overwrites its oldest crash up to there: it is none of those that are known.
        if whys.first().is_some_and(|(at, _)| self.firsts.first().is_none_or(|first| at < first)) {
            self.found.insert(0, Crash { dump: vec![Stage::Failed], ..Crash::default() });
            self.firsts.insert(0, 0);
        }
        let mut parts: Vec<why::Parts> = vec![why::Parts::default(); self.found.len()];
        for (at, record) in whys {
            let of = self.firsts.partition_point(|first| *first <= at).saturating_sub(1);
            parts[of].take(record);
        }
        for (crash, mut parts) in self.found.iter_mut().zip(parts) {
            if let Some((text, records)) = parts.end() {
                crash.why = Some(text);
                crash.records += records;
            }
        }
    }
}

impl Crash {
    fn line(&mut self, line: Line<'_>) {
        match line {
            Line::Reason(text) => self.reason = Some(Text::new(text)),
            Line::BuildId(id) => self.build_id = Some(id),
            Line::CrashId(id) => self.id = Some(id),
            Line::Signature(signature) => self.signature = Some(signature),
            Line::Panicked(CpuLocation { cpu, location }) => {
                self.panicked = Some(Panicked::Cpu(cpu, location.into()));
            }
            Line::PanickedUnknown => self.panicked = Some(Panicked::Unknown),
            // Of several the first; the others are kept as they are.
            Line::Cause(text) if self.cause.is_some() => self.unparsed.push(Text::new(text)),
            Line::Cause(text) => self.cause = Some(Text::new(text)),
            Line::Rip(text) => self.location = Some(Text::new(text).with_0x()),
            Line::Comm(text) => self.process = Some(Text::new(text)),
            Line::Group { count, location } => self.groups.push(Group { count, location: location.into() }),
            Line::Omitted(count) => self.left_out = self.left_out.saturating_add(count),
            Line::Caller(text) => self.call_trace.push(Text::new(text)),
            Line::Corrupt(text) => self.corrupt.push(Text::new(text)),
            Line::Restored(text) => self.restored.push(Text::new(text)),
            Line::NoDump => self.no_dump = true,
        }
    }

    /// A line whose end is missing. Its kind shows in its beginning, if that is long enough; its numbers do not hold.
    fn cut(&mut self, bytes: &[u8], first: bool) {
        match sel::parse(bytes, first) {
            Line::Reason(text) => self.reason = Some(Text::cut(text)),
            // These are never longer.
            Line::BuildId(id) => self.build_id = Some(id),
            Line::CrashId(id) => self.id = Some(id),
            Line::Rip(text) => self.location = Some(Text::cut(text).with_0x()),
            Line::Comm(text) => self.process = Some(Text::cut(text)),
            Line::Caller(text) => self.call_trace.push(Text::cut(text)),
            _ => self.unparsed.push(Text::cut(bytes)),
        }
    }
}

/// A record's time.
fn time(entry: &Entry) -> Option<Time> {
    if let Some(text) = &entry.time {
        return Some(Time::Listed(Text::new(text.as_bytes()).value));
    }
    let [_, _, _, t0, t1, t2, t3, ..] = entry.record;
    match u32::from_le_bytes([t0, t1, t2, t3]) {
        NO_TIME => None,
        seconds if seconds <= LAST_UPTIME => Some(Time::Uptime(seconds)),
        seconds => Some(Time::Seconds(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastwords_core::report::Fnv;
    use proptest::{collection::vec, prelude::*, sample::Index};

    /// A crash as it was written, and its records that are in the SEL.
    #[derive(Clone, Debug)]
    struct Written {
        linux: bool,
        lines: Vec<Vec<u8>>,
        kept: Vec<[u8; 16]>,
        /// Records missing before the last that is kept.
        missing: u32,
        /// Where the text breaks off within a line behind a full record, nothing shows that it does: what is left of
        /// that line.
        broken_off: Option<Vec<u8>>,
        marks: Vec<Stage>,
    }

    fn location() -> impl Strategy<Value = Location> {
        prop_oneof![
            Just(Location::NotResponding),
            Just(Location::Unread),
            Just(Location::OffOrNotResponding),
            Just(Location::Off),
            Just(Location::User),
            any::<u32>().prop_map(Location::Kernel),
            any::<u64>().prop_map(Location::Address),
        ]
    }

    /// A text that is none of the other lines.
    fn text() -> impl Strategy<Value = String> {
        "[!-~]([ -~]{0,60}[!-~])?"
            .prop_filter("another line", |text| matches!(sel::parse(text.as_bytes(), true), Line::Reason(_)))
    }

    fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let bytes = |line: Line<'_>| sel::text(line).as_bytes().to_vec();
        let group = (1..=u32::MAX, location());
        let cpus = (any::<u32>(), any::<u32>(), location(), vec(group, 0..8), 0..3u32);
        (text(), text(), "[a-z_]{1,20}", vec("[a-z_]{1,20}", 0..3), cpus, any::<[bool; 8]>()).prop_map(
            move |(reason, cause, word, callers, (id, cpu, location, groups, left_out), has)| {
                let lines = [
                    Line::Reason(reason.as_bytes()),
                    Line::BuildId(id),
                    Line::Panicked(CpuLocation { cpu, location }),
                    Line::Cause(cause.as_bytes()),
                    Line::Rip(word.as_bytes()),
                    Line::Comm(word.as_bytes()),
                    Line::CrashId(CrashId::new(Fnv::default().bytes(&id.to_le_bytes()))),
                    Line::Signature(id),
                ];
                let lines = lines.into_iter().zip(has).filter(|(_, has)| *has).map(|(line, _)| line);
                // What comes first is the reason, whatever it was meant to be.
                let lines = lines.skip_while(|line| matches!(line, Line::Cause(_)));
                let groups =
                    groups.iter().map(|(count, location)| Line::Group { count: *count, location: *location });
                let left_out = (left_out > 0).then_some(Line::Omitted(left_out));
                let callers = callers.iter().map(|name| Line::Caller(name.as_bytes()));
                let lines: Vec<_> = lines.chain(groups).chain(left_out).chain(callers).map(bytes).collect();
                if lines.is_empty() { vec![bytes(Line::BuildId(id))] } else { lines }
            },
        )
    }

    fn written() -> impl Strategy<Value = Written> {
        let marks = vec(prop::sample::select(&Stage::ALL[..]), 0..3);
        (any::<bool>(), text(), lines(), vec(any::<Index>(), 0..4), marks).prop_map(
            |(linux, text, lines, lost, marks)| {
                let lines = if linux { vec![text.into_bytes()] } else { lines };
                let mut records = Vec::new();
                for line in &lines {
                    records.extend(sel::records(line, records.len() as u8));
                }
                if linux {
                    for record in &mut records {
                        record[4] &= 0x7f;
                    }
                }
                let mut kept = vec![true; records.len()];
                for lost in lost {
                    kept[lost.index(records.len())] = false;
                }
                let end = kept.iter().rposition(|kept| *kept).map_or(0, |last| last + 1);
                let missing = kept[..end].iter().filter(|kept| !**kept).count() as u32;
                let mut at = 0;
                let mut broken_off = None;
                for line in &lines {
                    let left = (end.saturating_sub(at) * sel::TEXT_LEN).min(line.len());
                    if 0 < left && left < line.len() {
                        broken_off = Some(line[..left].to_vec());
                    }
                    at += line.len().div_ceil(sel::TEXT_LEN);
                }
                let kept = records.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(record, _)| record);
                Written { linux, lines, kept: kept.collect(), missing, broken_off, marks }
            },
        )
    }

    /// Records of others: any type, any bytes, but not ours and not Linux's.
    fn foreign() -> impl Strategy<Value = [u8; 16]> {
        any::<[u8; 16]>().prop_map(|mut record| {
            match record[2] {
                0xf0 => record[3] = 0,
                0x02 => record[10] = 1,
                _ => {}
            }
            record
        })
    }

    /// Puts foreign records between.
    fn mixed(records: Vec<[u8; 16]>, foreign: &[(Index, [u8; 16])]) -> Log {
        let mut records = records;
        for (at, record) in foreign {
            records.insert(at.index(records.len() + 1), *record);
        }
        records.into_iter().collect()
    }

    /// All lines of a crash, and what is left of truncated ones.
    fn lines_of(crash: &Crash) -> (Vec<Vec<u8>>, Vec<Text>) {
        let mut whole = Vec::new();
        let mut parts = crash.unparsed.clone();
        let without_0x = |text: &Text| Text { value: text.value.replacen("+0x", "+", 1), ..text.clone() };
        let mut texts = |prefix: &str, part: Option<&Text>| {
            let Some(part) = part else { return };
            let part = without_0x(part);
            let text = format!("{prefix}{}", part.value);
            if part.is_whole() {
                whole.push(text.into_bytes());
            } else {
                parts.push(Text { value: text, ..part });
            }
        };
        texts("", crash.reason.as_ref());
        texts("", crash.cause.as_ref());
        texts("RIP ", crash.location.as_ref());
        texts("Comm ", crash.process.as_ref());
        crash.call_trace.iter().for_each(|caller| texts("< ", Some(caller)));
        crash.corrupt.iter().for_each(|part| texts("bad ", Some(part)));
        crash.restored.iter().for_each(|part| texts("restored ", Some(part)));
        let mut line = |line: Line<'_>| whole.push(sel::text(line).as_bytes().to_vec());
        crash.build_id.into_iter().for_each(|id| line(Line::BuildId(id)));
        crash.id.into_iter().for_each(|id| line(Line::CrashId(id)));
        crash.signature.into_iter().for_each(|signature| line(Line::Signature(signature)));
        match &crash.panicked {
            Some(Panicked::Cpu(cpu, at)) => {
                line(Line::Panicked(CpuLocation { cpu: *cpu, location: at.location }));
            }
            Some(Panicked::Unknown) => line(Line::PanickedUnknown),
            None => {}
        }
        if crash.no_dump {
            line(Line::NoDump);
        }
        for Group { count, location } in &crash.groups {
            line(Line::Group { count: *count, location: location.location });
        }
        if crash.left_out > 0 {
            line(Line::Omitted(crash.left_out));
        }
        (whole, parts)
    }

    #[test]
    fn records_count_for_their_own_crash() {
        let text = |line: &[u8], from| sel::records(line, from).collect::<Vec<_>>();
        let events = |lines: &[&[u8]]| -> Vec<[u8; 16]> {
            let stream: lastwords_core::text::Text<48> = sel::stream(lines.iter().copied());
            let event = |chunk: &[u8]| std::array::from_fn(|at| chunk.get(at).copied().unwrap_or(0));
            stream.as_bytes().chunks(3).map(|chunk| sel::event_record(event(chunk))).collect()
        };
        let first = [text(b"test report, nothing", 0), text(b"id 5f3e9a1b", 2)].concat();
        let second = events(&[b"sysrq triggered crash", b"1=9c2a36"]);
        let third = text(b"Fatal exception", 0);
        let counts = |records: &[&[[u8; 16]]]| -> Vec<_> {
            crashes(&records.concat().into_iter().collect())
                .iter()
                .map(|crash| crash.records as usize)
                .collect()
        };
        assert_eq!(counts(&[&first, &second]), [3, second.len()]);
        assert_eq!(counts(&[&second, &first, &second]), [second.len(), 3, second.len()]);
        assert_eq!(counts(&[&first, &second[..4], &third]), [3, 4, 2]);
        assert_eq!(counts(&[&second, &second]), [second.len(); 2]);
    }

    proptest! {
        #[test]
        fn what_is_read_was_written_and_what_is_missing_is_counted(
            all in vec(written(), 1..4),
            others in vec((any::<Index>(), foreign()), 0..12),
        ) {
            let mut records = Vec::new();
            for (index, written) in all.iter().enumerate() {
                records.push(event([0, 0xff, 0xff], 1_795_364_230 + index as u32 * 600));
                records.extend(&written.kept);
                records.extend(written.marks.iter().map(|stage| sel::mark(*stage)));
            }
            let crashes = crashes(&mixed(records, &others));
            prop_assert_eq!(crashes.len(), all.len());
            for (written, crash) in all.iter().zip(&crashes) {
                prop_assert_eq!(crash.missing, written.missing);
                // The same mark twice in a row is one that was sent again.
                let mut marks = written.marks.clone();
                marks.dedup();
                prop_assert_eq!(crash.records as usize, 1 + written.kept.len() + marks.len());
                // And so is a start behind a result.
                let result = marks.iter().position(|stage| *stage != Stage::Started).unwrap_or(marks.len());
                let (begin, end) = marks.split_at(result);
                let ends = end.iter().filter(|stage| **stage != Stage::Started);
                let marks: Vec<_> = begin.iter().chain(ends).copied().collect();
                prop_assert_eq!(&crash.dump, &marks);
                let (mut whole, parts) = lines_of(crash);
                let mut lines = written.lines.clone();
                if let Some(left) = &written.broken_off {
                    let line = match sel::parse(left, lines.len() == 1) {
                        Line::Reason(text) | Line::Cause(text) => text.trim_ascii_end().to_vec(),
                        line => sel::text(line).as_bytes().trim_ascii_end().to_vec(),
                    };
                    lines.push(line);
                }
                if written.missing == 0 && parts.is_empty() && whole.len() == lines.len() {
                    whole.sort();
                    lines.sort();
                    prop_assert_eq!(&whole, &lines);
                    prop_assert_eq!(crash.source == Some(Source::Linux), written.linux);
                    continue;
                }
                // Each line that is read was written, and each part is one of a line that was written.
                for line in whole {
                    let at = lines.iter().position(|written| *written == line);
                    prop_assert!(at.is_some(), "{:?} was never written: {written:?}", String::from_utf8_lossy(&line));
                    lines.remove(at.unwrap());
                }
                for part in parts {
                    let is_of = |line: &Vec<u8>| {
                        let line = String::from_utf8_lossy(line);
                        match (part.headless, part.cut) {
                            (true, _) => line.contains(part.value.as_str()),
                            (false, _) => line.starts_with(part.value.as_str()),
                        }
                    };
                    prop_assert!(lines.iter().any(is_of), "{part:?} was never written: {written:?}");
                }
            }
        }

        #[test]
        fn any_records_are_taken(records in vec(prop_oneof![
            any::<[u8; 16]>(),
            any::<[u8; 16]>().prop_map(|mut record| { record[2..4].copy_from_slice(&[0xf0, 0x20]); record }),
            any::<[u8; 3]>().prop_map(sel::event_record),
            prop::sample::select(&Stage::ALL[..]).prop_map(sel::mark),
        ], 0..300)) {
            for crash in crashes(&records.into_iter().collect()) {
                let _ = (crash.is_test(), crash.needs_symbols());
            }
        }
    }

    #[test]
    fn why_a_dump_failed_is_told_of_that_crash_and_of_no_other() {
        let text = |line: &str| sel::records(line.as_bytes(), 0).collect::<Vec<_>>();
        let failed = [vec![sel::mark(Stage::Started), sel::mark(Stage::Failed)], why::records("no space")];
        let failed = failed.concat();
        let one = [vec![event(*b"Fat", 1_795_364_230)], text("Fatal exception"), failed.clone()].concat();
        let two =
            [vec![event(*b"sys", 1_795_364_330)], text("sysrq"), vec![sel::mark(Stage::Saved)]].concat();
        let whys = |records: &[&[[u8; 16]]]| -> Vec<_> {
            let crashes = crashes(&records.concat().into_iter().collect());
            crashes.into_iter().map(|crash| crash.why.map(|why| why.value)).collect()
        };
        let why = Some("no space".to_owned());
        assert_eq!(whys(&[&one]), std::slice::from_ref(&why));
        assert_eq!(whys(&[&one, &two]), [why.clone(), None]);
        assert_eq!(whys(&[&two, &one]), [None, why.clone()]);
        assert_eq!(whys(&[&one[1..], &two[1..], &one]), [why.clone(), None, why.clone()]);
        // Of a crash that the log has overwritten but for that.
        assert_eq!(whys(&[&why::records("no space"), &two]), [why.clone(), None]);
        // Where the mark is lost it is still that crash's.
        assert_eq!(whys(&[&one[..3], &why::records("no space"), &two]), [why, None]);
        let counted: Vec<_> = crashes(&one.into_iter().collect()).iter().map(|crash| crash.records).collect();
        assert_eq!(counted, [1 + 2 + 2 + 2]);
    }

    #[test]
    fn the_first_records_number_is_that_of_the_crash() {
        let numbered = |records: Vec<[u8; 16]>, from: u16| -> Vec<[u8; 16]> {
            let number = |(mut record, id): ([u8; 16], u16)| {
                record[..2].copy_from_slice(&id.to_le_bytes());
                record
            };
            records.into_iter().zip(from..).map(number).collect()
        };
        let text = |line: &str| sel::records(line.as_bytes(), 0).collect::<Vec<_>>();
        let records = [numbered(text("Fatal exception"), 7), numbered(text("sysrq"), 30)].concat();
        let firsts = |records: Vec<[u8; 16]>| -> Vec<_> {
            crashes(&records.into_iter().collect()).iter().map(|crash| crash.first_record).collect()
        };
        assert_eq!(firsts(records), [Some(7), Some(30)]);
        assert_eq!(firsts(numbered(vec![sel::mark(Stage::Started), sel::mark(Stage::Saved)], 3)), [Some(3)]);
        assert_eq!(firsts(text("sysrq")), [None]);
    }

    fn event(letters: [u8; 3], time: u32) -> [u8; 16] {
        let mut record = sel::event_record(letters);
        record[3..7].copy_from_slice(&time.to_le_bytes());
        record
    }

    #[test]
    fn a_test_report_is_known_by_its_reason_whole_or_cut_short() {
        let is_test = |value: &str, cut| {
            let reason = Some(Text { value: value.to_owned(), headless: false, cut });
            Crash { reason, ..Crash::default() }.is_test()
        };
        for reason in ["test report, nothing has crashed", "rehearsal, nothing has crashed"] {
            assert!(is_test(reason, false), "{reason}");
            for len in 0..reason.len() {
                assert_eq!(is_test(&reason[..len], true), len >= 3, "{}", &reason[..len]);
            }
        }
        for (reason, cut) in [("tes", false), ("rehe", false), ("Fatal exception", false), ("tea", true)] {
            assert!(!is_test(reason, cut), "{reason}");
        }
    }

    #[test]
    fn a_location_has_its_offset_as_the_kernel_prints_it_and_its_module() {
        for (stored, shown) in [
            ("null_pointer+a", "null_pointer+0xa"),
            ("null_pointer+a [crash]", "null_pointer+0xa [crash]"),
            ("0xffffffffc0123456", "0xffffffffc0123456"),
            ("a+", "a+"),
            ("a+xyz [b]", "a+xyz [b]"),
        ] {
            assert_eq!(Text::new(stored.as_bytes()).with_0x().value, shown);
        }
    }

    #[test]
    fn a_log_that_stands_twice_in_a_file_has_each_crash_once() {
        let text = |lines: &[&[u8]]| {
            let mut records = Vec::new();
            for line in lines {
                records.extend(sel::records(line, records.len() as u8));
            }
            records
        };
        let id = sel::text(Line::CrashId(CrashId::new(Fnv::default().bytes(b"one")))).as_bytes().to_vec();
        let mut old = vec![event(*b"Fat", 1_795_364_230)];
        old.extend(text(&[b"Fatal exception", b"1=9c2a36"]));
        let mut new = vec![event(*b"Fat", 1_795_367_890)];
        new.extend(text(&[b"Fatal exception", b"1=9c2a36", &id]));
        new.push(sel::mark(Stage::Started));
        let before = [old.clone(), new.clone()].concat();
        let behind = [&before[..], &[sel::mark(Stage::Saved)]].concat();
        for twice in [[&before[..], &behind].concat(), [&behind[..], &before].concat()] {
            let crashes = crashes(&twice.into_iter().collect());
            let dumps: Vec<_> = crashes.iter().map(|crash| crash.dump.as_slice()).collect();
            assert_eq!(dumps, [&[][..], &[Stage::Started, Stage::Saved]], "{crashes:?}");
        }
        // The same cause an hour later is another crash, and so is what has no time.
        old[0] = event(*b"Fat", 1_795_367_830);
        assert_eq!(crashes(&[&before[..4], &old].concat().into_iter().collect()).len(), 2);
        let timeless = [&before[1..4], &[before[0]], &before[1..4]].concat();
        assert_eq!(crashes(&timeless.into_iter().collect()).len(), 2);
    }

    #[test]
    fn a_start_behind_a_result_is_no_dump_that_is_unfinished() {
        use Stage::{Failed, Saved, Started};
        let marks = |stages: &[Stage]| {
            let records = [event(*b"Fat", 1_795_364_230)].into_iter();
            let records =
                records.chain(sel::records(b"Fatal", 0)).chain(stages.iter().map(|one| sel::mark(*one)));
            crashes(&records.collect()).remove(0).dump
        };
        assert_eq!(marks(&[Started, Saved, Started]), [Started, Saved]);
        assert_eq!(marks(&[Started, Failed, Started]), [Started, Failed]);
        assert_eq!(marks(&[Started, Failed, Started, Saved]), [Started, Failed, Saved]);
        assert_eq!(marks(&[Started]), [Started]);
    }

    #[test]
    fn the_time_is_the_platform_events() {
        let shown = |records: &[[u8; 16]]| -> Vec<_> {
            let crashes = crashes(&records.iter().copied().collect());
            crashes.iter().map(|crash| crash.time.as_ref().map(Time::to_string)).collect()
        };
        let day = |text: &str| Some(text.to_owned());
        assert_eq!(shown(&[event(*b"sys", 1795364230)]), [day("2026-11-22 16:17:10")]);
        assert_eq!(shown(&[event(*b"sys", 90)]), [day("90 s after the BMC's start")]);
        assert_eq!(shown(&[event(*b"sys", u32::MAX)]), [None]);
        // Sent again because the answer came late; and another crash.
        let first = 1795364230;
        let twice = [event(*b"sys", first), event(*b"sys", first + 5)];
        assert_eq!(shown(&twice), [day("2026-11-22 16:17:10")]);
        assert_eq!(shown(&[twice[0], event(*b"sys", first + 60)]).len(), 2);
        let id = sel::records(b"id 5f3e9a1b", 0).next().unwrap();
        assert_eq!(shown(&[twice[0], id, twice[1]]).len(), 2);
    }
}
