//! Reads reports out of a System Event Log: finds the records among foreign ones, puts lines together again, and
//! tells what is missing.
//!
//! A crash's records are collected until something shows that the crash is over, because not every log is read in the
//! order in which it was written, and what comes next may tell whose a record is; only then is the crash handed on. What
//! is handed on as whole was written so, or is said to be unchecked.

use super::encode::{
    CALLER, COMM, CORRUPT, CRASH_ID, ETX, ID, LINUX, MARK, NO_DUMP, NOT_RESPONDING, OFF,
    OFF_OR_NOT_RESPONDING, PANICKED_UNKNOWN, RECORD_TYPE, RESTORED, RIP, SIGNATURE, STARTS_LINE, STX,
    TEXT_LEN, UNREAD, UPPER, USER, mark_events, stream_end, text,
};
use crate::ipmi::commands::{SENSOR_SPECIFIC, SYSTEM_EVENT};
use crate::ipmi::sel_writer::{CRITICAL_STOP, CRITICAL_STOP_TEXT, EVENT_LEN, OS_STOP, content};
use crate::report::{CALLER_LEN, CUT, CpuLocation, CrashId, Line, Location, REASON_LEN, Stage};
use crate::text::{Text, hex};

/// Who wrote a crash's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// We did.
    Lastwords,
    /// Linux's own IPMI driver (`ipmi_msghandler.panic_op=string`): one text, the reason.
    Linux,
}

/// What is known of a crash's records as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// They have numbers: [`Decoded::Missing`] tells what is missing between them.
    Numbered,
    /// Count and check are those that were written.
    Fits,
    /// Some are missing, doubled, or not as they were written. Texts that are whole all the same are told so.
    Differs,
    /// Neither a count nor a crash ID was written (older versions, and Linux): some may be missing or doubled. Numbers show gaps;
    /// but where all from one crash's middle to the next one's is lost, the two look like one.
    Unchecked,
}

/// A platform event of a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its three characters (0 or 0xff where it has none).
    pub letters: [u8; EVENT_LEN],
    /// Which record it is: so many were pushed before. Its time stamp is the crash's.
    pub at: u32,
}

/// What a crash begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its platform event.
    pub event: Option<Event>,
    /// Who wrote its texts. `None` where there are none, or nothing tells.
    pub source: Option<Source>,
    /// Its records, without those that were sent twice.
    pub records: u32,
    /// Which was the first: so many were pushed before.
    pub first: u32,
    /// Are they all there?
    pub check: Check,
}

/// What the decoder finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A crash begins; what follows is of it.
    Crash(Head),
    /// A line whose records are all here.
    Line(Line<'a>),
    /// The beginning of a line whose end is lost; or all of it that is there, where some may be missing within.
    Truncated(&'a [u8]),
    /// The end of a line whose beginning is lost.
    Headless(&'a [u8]),
    /// So many records are lost here.
    Missing(u8),
    /// How far the dump came.
    Mark(Stage),
}

/// Records that are out of order by at most this many places are put in order. A greater step back is another crash.
const DISORDER: usize = 4;
/// Sequence numbers.
const NUMBERS: usize = 128;
/// Longest line that is put together: all records of a crash.
const TEXT: usize = NUMBERS * TEXT_LEN;
/// Most marks of one crash that are kept.
const MARKS: usize = 8;
/// Most events of a stream that are kept, eight times as many as are written.
const PIECES: usize = 128;
/// Most of them that are looked through for one that came twice.
const FEW_PIECES: usize = 17;
/// The second part of each mark. No kernel's message begins so.
const MARK_GOES_ON: [u8; EVENT_LEN] = *b"mp ";
/// Seconds between two records of one stream, at most: no machine crashes twice in that time.
const MINUTE: u32 = 60;
/// Seconds in which a platform event like the one before is the same, sent once more because the BMC's answer came too late.
const SENT_AGAIN: u32 = 10;

/// A text record: does a line start, and the text.
type Slot = Option<(bool, [u8; TEXT_LEN])>;

/// Puts lines together again from SEL records.
///
/// ```
/// use lastwords_core::report::Line;
/// use lastwords_core::store::sel::{Decoded, Decoder, records};
///
/// let mut decoder = Decoder::default();
/// let mut reason = String::new();
/// let mut found = |decoded: Decoded| {
///     if let Decoded::Line(Line::Reason(text)) = decoded {
///         reason = String::from_utf8_lossy(text).into_owned();
///     }
/// };
/// for record in records(b"sysrq triggered crash", 0) {
///     decoder.push(&record, &mut found);
/// }
/// decoder.finish(&mut found);
/// assert_eq!(reason, "sysrq triggered crash");
/// ```
///
/// What tells one crash from the next: a platform event between them, a sequence number that was there already with
/// another text, or a step back in the sequence.
#[derive(Default)]
pub struct Decoder {
    /// So many records were pushed.
    pushed: u32,
    /// The crash's platform event, and its time.
    event: Option<(Event, u32)>,
    /// A platform event behind the crash's first texts: the crash's own that came late, or that of the next one.
    late: Option<(Event, u32)>,
    /// The crash's texts.
    texts: Texts,
    /// Those of the crash before.
    before: Texts,
    /// The stream and the platform event of the crash before, with its time.
    before_stream: Option<Stream>,
    before_event: Option<(Event, u32)>,
    /// Those of the crash's that came once more: one that was sent again, or another crash that began the same.
    repeated: Repeated,
    /// From this number on the crash's texts that are the same in the crash before may be that one's.
    doubtful: Option<usize>,
    /// The last text record, to know one that was sent twice.
    last: Option<(u8, [u8; TEXT_LEN])>,
    /// A stream of characters from system event records that is under way.
    stream: Option<Stream>,
    /// The crash's, which has ended.
    streamed: Option<Stream>,
    marks: [Option<Stage>; MARKS],
    /// The last mark's stream.
    mark_stream: Option<Stream>,
    /// There is what is left of a mark, and it is not known of which.
    mark_is_damaged: bool,
    /// Text records since the first of them, and which they were: late ones of this crash, or the first of the next one.
    since_mark: usize,
    behind_marks: Repeated,
    /// Records of the crash, without its platform events and streams.
    records: u32,
    first: Option<u32>,
}

/// Text records of one crash, by number.
struct Texts {
    slots: [Slot; NUMBERS],
    /// The highest number among them.
    highest: Option<usize>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { slots: [None; NUMBERS], highest: None }
    }
}

impl Texts {
    fn get(&self, number: usize) -> Slot {
        self.slots.get(number).copied().flatten()
    }

    fn put(&mut self, number: usize, slot: Slot) {
        if let Some(place) = self.slots.get_mut(number) {
            *place = slot;
            self.highest = self.highest.max(Some(number));
        }
    }

    fn count(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// The text of the first record.
    fn begin(&self) -> Option<&[u8]> {
        self.slots.first()?.as_ref().map(|(_, text)| text_of(text))
    }

    /// Has it the crash's own ID?
    fn has_id(&self) -> bool {
        self.slots.iter().flatten().any(|(starts, text)| *starts && is_crash_id(text_of(text)))
    }

    fn starts_lines(&self) -> bool {
        self.slots.iter().flatten().any(|(starts, _)| *starts)
    }

    /// Linux starts no lines, its text is one. Without its first record nothing tells whose it is.
    fn source(&self) -> Option<Source> {
        if self.starts_lines() {
            return Some(Source::Lastwords);
        }
        self.get(0).map(|_| Source::Linux)
    }
}

/// Text records of a crash that came once more.
struct Repeated {
    are: [bool; NUMBERS],
    count: usize,
    /// The last of them.
    last: usize,
    first: u32,
}

impl Default for Repeated {
    fn default() -> Self {
        Self { are: [false; NUMBERS], count: 0, last: 0, first: 0 }
    }
}

impl Repeated {
    fn add(&mut self, number: usize, at: u32) {
        // Another crash begins at its beginning.
        if number == 0 || self.count == 0 {
            *self = Self { first: at, ..Self::default() };
        }
        if let Some(is) = self.are.get_mut(number).filter(|is| !**is) {
            *is = true;
            self.count += 1;
        }
        self.last = number;
    }

    fn has(&self, number: usize) -> bool {
        self.are.get(number).copied().unwrap_or(false)
    }
}

/// Characters in system event records, three in each.
#[derive(Clone)]
struct Stream {
    pieces: [[u8; EVENT_LEN]; PIECES],
    count: usize,
    /// The times of the first and of the last one.
    began: u32,
    time: u32,
    first: u32,
    /// Was its beginning seen?
    started: bool,
    /// Was its end seen, and nothing behind it?
    ended: bool,
}

impl Stream {
    fn new(started: bool, first: u32) -> Self {
        Self { pieces: [[0; EVENT_LEN]; PIECES], count: 0, began: 0, time: 0, first, started, ended: false }
    }

    fn add(&mut self, piece: [u8; EVENT_LEN], time: u32) {
        self.ended = !self.ended && self.count < PIECES && piece.contains(&ETX);
        if self.count == 0 {
            self.began = time;
        }
        if let Some(place) = self.pieces.get_mut(self.count) {
            *place = piece;
            self.count += 1;
        }
        self.time = time;
    }

    fn pieces(&self) -> &[[u8; EVENT_LEN]] {
        self.pieces.get(..self.count).unwrap_or(&[])
    }

    /// Is all there? And how many are missing. One that came twice is taken out, where it then fits.
    fn check(&mut self) -> (Check, u8) {
        let Some(last) = self.pieces().last() else { return (Check::Differs, 0) };
        if !self.started || !self.ended {
            return (Check::Differs, 0);
        }
        let [ETX, one, other] = *last else { return (Check::Unchecked, 0) };
        if one & other & 0x80 == 0 {
            return (Check::Unchecked, 0);
        }
        if self.check_as_it_is() {
            return (Check::Fits, 0);
        }
        if self.count <= FEW_PIECES {
            for at in 1..self.count {
                let mut without = self.clone();
                if without.drop_repeated(at) && without.check_as_it_is() {
                    *self = without;
                    return (Check::Fits, 0);
                }
            }
        }
        let written = usize::from(one >> 3 & 0xf) + 1;
        (Check::Differs, written.saturating_sub(self.count) as u8)
    }

    fn check_as_it_is(&self) -> bool {
        let Some((last, before)) = self.pieces().split_last() else { return false };
        // NULs fill up the last one only.
        let full = before.split_last().map_or(before, |(_, full)| full);
        stream_end(before.as_flattened()) == *last && !full.as_flattened().contains(&0)
    }

    /// Takes out the piece at this place, when it was there before.
    fn drop_repeated(&mut self, at: usize) -> bool {
        let Some((before, rest)) = self.pieces.split_at_mut_checked(at) else { return false };
        if !rest.first().is_some_and(|piece| before.contains(piece)) {
            return false;
        }
        rest.rotate_left(1);
        self.count -= 1;
        true
    }

    /// Its characters.
    fn text(&self) -> Text<{ PIECES * EVENT_LEN }> {
        let mut text = Text::new();
        for byte in self.pieces().as_flattened() {
            match *byte {
                ETX => break,
                STX | 0 => {}
                byte => drop(text.byte(if matches!(byte, b'\n' | 0x20..=0x7e) { byte } else { b'?' })),
            }
        }
        text
    }
}

/// Is it a part of a mark's stream, as it is written today or by older versions? Its end may be any stream's.
fn is_of_mark(piece: [u8; EVENT_LEN]) -> bool {
    let old = piece.map(|byte| if byte == ETX { 0 } else { byte });
    let of = |stage: &Stage| mark_events(*stage).as_bytes().chunks(EVENT_LEN).any(|part| part == old);
    piece.starts_with(&[ETX]) || Stage::ALL.iter().any(of)
}

/// Are these times, as far as they are known, that close? 0 and 0xffffffff are none.
fn is_near(one: u32, other: u32, seconds: u32) -> Option<bool> {
    let known = |time: u32| !matches!(time, 0 | u32::MAX);
    (known(one) && known(other)).then(|| one.abs_diff(other) <= seconds)
}

/// May an event with these characters be that of a crash whose text begins so? It has the first three.
fn fits(letters: [u8; EVENT_LEN], begin: &[u8]) -> bool {
    for (letter, at) in letters.into_iter().zip(0..) {
        match begin.get(at) {
            Some(byte) if *byte == letter => {}
            // Of other characters there is a question mark, and what was cut ends in dots.
            Some(_) if !matches!(letter, 0x20..=0x7e) => return true,
            Some(b'.') => return begin.iter().skip(at).all(|byte| *byte == b'.'),
            Some(_) => return false,
            None => return true,
        }
    }
    true
}

impl Decoder {
    /// Takes the next record and hands on what it completes.
    pub fn push(&mut self, record: &[u8; 16], mut found: impl FnMut(Decoded)) {
        self.record(record, &mut found);
    }

    fn record(&mut self, record: &[u8; 16], found: &mut dyn FnMut(Decoded)) {
        let at = self.pushed;
        self.pushed = self.pushed.saturating_add(1);
        if let [_, _, RECORD_TYPE, LINUX, number, ref text @ ..] = *record {
            self.text_record(at, number, text, found);
        }
        let [_, _, SYSTEM_EVENT, .., OS_STOP, number, SENSOR_SPECIFIC, data1, data2, data3] = content(record)
        else {
            return;
        };
        let [_, _, _, t0, t1, t2, t3, ..] = *record;
        let time = u32::from_le_bytes([t0, t1, t2, t3]);
        let letters = [number, data2, data3];
        if self.is_stale(letters, time) {
            return;
        }
        if data1 == CRITICAL_STOP_TEXT && self.is_piece(letters, time) {
            self.piece(at, letters, time, found);
        } else if matches!(data1, CRITICAL_STOP | CRITICAL_STOP_TEXT) {
            self.end_stream(found);
            self.event(Event { letters, at }, time, found);
        }
    }

    /// The end of the log: hands on what is left.
    pub fn finish(mut self, mut found: impl FnMut(Decoded)) {
        self.end_stream(&mut found);
        self.take_late();
        self.flush(&mut found);
        self.flush(&mut found);
    }

    /// No text came behind a platform event that may have come late: it is that of the crash before it.
    fn take_late(&mut self) {
        if self.event.is_none() {
            self.event = self.late.take();
        }
    }

    /// Does nothing of a crash but its platform event wait here?
    fn has_texts(&self) -> bool {
        self.texts.highest.is_some() || self.streamed.is_some() || self.has_marks()
    }

    fn has_marks(&self) -> bool {
        self.marks.iter().any(Option::is_some) || self.mark_is_damaged
    }

    /// Is it of the crash before, which has been handed on?
    fn is_stale(&self, letters: [u8; EVENT_LEN], time: u32) -> bool {
        let is_far = self.event.is_some_and(|(_, then)| is_near(then, time, MINUTE) == Some(false));
        let of_stream = self.before_stream.as_ref().is_some_and(|stream| {
            is_near(stream.time, time, MINUTE) == Some(true) && (is_far || stream.pieces().contains(&letters))
        });
        let is_event = self.before_event.is_some_and(|(event, then)| {
            event.letters == letters && is_near(then, time, SENT_AGAIN) == Some(true)
        });
        // A part of a mark that was sent again. The next mark begins as this one did.
        let of_mark = self.mark_stream.as_ref().is_some_and(|stream| {
            let begins = letters.starts_with(&[STX]) || letters == MARK_GOES_ON;
            let is_under_way = self.stream.is_some();
            let is_part = stream.pieces().contains(&letters) || self.mark_is_damaged && is_of_mark(letters);
            is_part && !begins && !is_under_way && is_near(stream.time, time, MINUTE) == Some(true)
        });
        of_stream || of_mark || is_event
    }

    /// Is it a part of a stream of characters? Else it is a platform event.
    fn is_piece(&self, letters: [u8; EVENT_LEN], time: u32) -> bool {
        if let Some(stream) = &self.stream
            && is_near(stream.time, time, MINUTE) != Some(false)
        {
            return true;
        }
        let [first, ..] = letters;
        // No kernel's message begins so.
        if first == STX || letters.iter().any(|byte| matches!(*byte, b'\n' | ETX)) {
            return true;
        }
        // Of a mark whose first record is lost.
        if letters == MARK_GOES_ON && self.has_texts() {
            return true;
        }
        // Behind a stream's end: it has changed places with others.
        if let Some(streamed) = &self.streamed {
            let is_whole = streamed.clone().check().0 == Check::Fits;
            let may_be = !is_whole || streamed.pieces().contains(&letters);
            return may_be && !self.has_marks() && is_near(streamed.time, time, MINUTE) == Some(true);
        }
        // Of a stream whose first record is lost, behind the platform event of that crash.
        !self.has_texts()
            && self.event.is_some_and(|(event, before)| {
                event.letters != letters && is_near(before, time, MINUTE) == Some(true)
            })
    }

    fn piece(&mut self, at: u32, letters: [u8; EVENT_LEN], time: u32, found: &mut dyn FnMut(Decoded)) {
        self.last = None;
        let [first, ..] = letters;
        if let Some(stream) = &mut self.stream {
            if is_near(stream.time, time, MINUTE) == Some(false) {
                self.end_stream(found);
            } else if first == STX {
                // Sent again.
                let again = stream.pieces().first() == Some(&letters);
                if again && stream.count == 1 {
                    return;
                }
                if again && is_near(stream.time, time, MINUTE) == Some(true) {
                    stream.add(letters, time);
                    return;
                }
                let [_, begin @ ..] = letters;
                self.lone_piece(&begin, found);
                // The first has changed places with others.
                if let Some(stream) = &mut self.stream
                    && !stream.started
                    && is_near(stream.time, time, MINUTE) == Some(true)
                {
                    stream.add(letters, time);
                    return;
                }
                self.end_stream(found);
            }
        }
        let is_behind = |stream: &Stream| is_near(stream.time, time, MINUTE) == Some(true) && first != STX;
        if self.stream.is_none()
            && !self.has_marks()
            && let Some(streamed) = self.streamed.as_mut().filter(|streamed| is_behind(streamed))
        {
            // Of one that is whole it was sent again.
            if streamed.check().0 != Check::Fits {
                streamed.add(letters, time);
                streamed.ended = false;
            }
            return;
        }
        let stream = self.stream.get_or_insert_with(|| Stream::new(first == STX, at));
        stream.add(letters, time);
        if stream.ended {
            self.end_stream(found);
        }
    }

    /// What was taken for the only part that is left of a stream is the platform event of the crash that begins so.
    fn lone_piece(&mut self, begin: &[u8], found: &mut dyn FnMut(Decoded)) {
        let Some(stream) = self.stream.as_ref().filter(|stream| !stream.started) else { return };
        if let [letters] = *stream.pieces()
            && fits(letters, begin)
        {
            let (event, time) = (Event { letters, at: stream.first }, stream.time);
            self.stream = None;
            self.flush(found);
            self.event = Some((event, time));
        }
    }

    /// A stream ends: it was a mark, or it is a crash of its own.
    fn end_stream(&mut self, found: &mut dyn FnMut(Decoded)) {
        let Some(mut stream) = self.stream.take() else { return };
        let (check, _) = stream.check();
        let text = stream.text();
        if check != Check::Differs
            && let Some(stage) = Stage::parse(text.as_bytes())
        {
            self.count(stream.first, stream.count as u32);
            self.mark(stage);
            self.mark_stream = Some(stream);
            return;
        }
        if check != Check::Fits && stream.pieces().iter().copied().all(is_of_mark) {
            self.count(stream.first, stream.count as u32);
            self.mark_is_damaged = true;
            self.mark_stream = Some(stream);
            return;
        }
        if stream.started && !self.has_marks() {
            self.drop_stragglers(text.as_bytes().get(..2));
        }
        let is_far = self.event.is_some_and(|(_, then)| is_near(then, stream.began, MINUTE) == Some(false));
        if self.has_texts() || is_far {
            self.flush(found);
        }
        self.streamed = Some(stream);
    }

    fn event(&mut self, event: Event, time: u32, found: &mut dyn FnMut(Decoded)) {
        self.last = None;
        if let Some((before, then)) = self.event
            && before.letters == event.letters
            && is_near(then, time, SENT_AGAIN).unwrap_or(!self.has_texts())
        {
            return;
        }
        if !self.has_texts() {
            if self.event.is_some() {
                self.flush(found);
            }
            self.event = Some((event, time));
            return;
        }
        // It may have changed places with the crash's first texts; what comes next shows.
        let early = self.texts.count() <= DISORDER && self.streamed.is_none() && !self.has_marks();
        if self.event.is_none()
            && self.late.is_none()
            && early
            && self.texts.begin().is_some_and(|begin| fits(event.letters, begin))
        {
            self.late = Some((event, time));
            return;
        }
        self.take_late();
        self.flush(found);
        if self.event.is_some() {
            self.flush(found);
        }
        self.event = Some((event, time));
    }

    fn text_record(&mut self, at: u32, byte: u8, text: &[u8; TEXT_LEN], found: &mut dyn FnMut(Decoded)) {
        let (starts, number) = (byte & STARTS_LINE != 0, usize::from(byte & !STARTS_LINE));
        if number == 0 {
            self.lone_piece(text_of(text), found);
        }
        let slot = Some((starts, *text));
        if self.stream.is_some() && (self.before.get(number) == slot || self.texts.get(number) == slot) {
            return;
        }
        self.end_stream(found);
        // A BMC that answered too late was sent the same record once more.
        if self.last.replace((byte, *text)) == Some((byte, *text)) {
            return;
        }
        if byte == STARTS_LINE | MARK
            && let Some(stage) = Stage::parse(text_of(text))
        {
            self.count(at, 1);
            self.mark(stage);
            return;
        }
        if number == 0 {
            self.drop_stragglers(Some(text_of(text)));
        }
        self.weigh(number, slot);
        let here = self.texts.get(number);
        let highest = self.texts.highest;
        if highest.is_none() || self.streamed.is_some() {
            if self.streamed.is_some() || self.has_marks() {
                self.flush(found);
            }
        } else if here == slot && !(self.has_marks() && number == 0) {
            self.repeated.add(number, at);
            self.count_behind_marks(number, at);
            return;
        } else {
            let linux = self.texts.source() == Some(Source::Linux);
            let behind_mark = self.has_marks() && (number == 0 || self.since_mark >= DISORDER);
            let back = highest.is_some_and(|highest| number + DISORDER < highest);
            let is_next = self.repeated.count > 1
                && self.repeated.has(0)
                && !self.repeats_its_id()
                && (1..=DISORDER + 1).contains(&number.wrapping_sub(self.repeated.last));
            // Linux's own first text has changed places with others, or is another crash's.
            let is_linux_own = !self.texts.starts_lines()
                && self.event.is_some_and(|(event, _)| fits(event.letters, text_of(text)));
            let begins = number == 0 && (!starts && !is_linux_own || self.late.is_some());
            // What is here is the crash's before, sent again.
            let is_stale = number > 0 && highest == Some(number) && here == self.before.get(number);
            if here.is_some() && is_stale && self.event.is_some() && !self.has_marks() {
                self.texts.put(number, slot);
                return;
            }
            if here.is_some() || back || linux && starts || begins || behind_mark || is_next {
                if behind_mark && number > 0 && self.behind_marks.count >= DISORDER {
                    self.split_behind_marks(found);
                } else {
                    self.next_crash(number, found);
                }
            } else {
                self.repeated = Repeated::default();
                if self.event.is_none() {
                    self.event = self.late.take();
                }
            }
        }
        self.count_behind_marks(number, at);
        self.texts.put(number, slot);
        self.count(at, 1);
    }

    /// Behind a gap comes one that the crash before had, too: sent again when this crash had begun, or this one's own. What
    /// comes next shows: where that is from before the gap, it was not.
    fn weigh(&mut self, number: usize, slot: Slot) {
        let is_same = self.before.get(number) == slot;
        match self.doubtful {
            Some(first) if number < first => {
                for (number, slot) in self.texts.slots.iter_mut().enumerate().skip(first) {
                    if slot.is_some() && self.before.get(number) == *slot {
                        *slot = None;
                        self.records = self.records.saturating_sub(1);
                    }
                }
                self.texts.highest = self.texts.slots.iter().rposition(Option::is_some);
                self.doubtful = None;
            }
            Some(_) if !is_same => self.doubtful = None,
            None if is_same && self.event.is_some() && self.texts.count() <= DISORDER => {
                let is_ahead = self.texts.highest.is_some_and(|highest| number > highest + 1);
                self.doubtful = is_ahead.then_some(number);
            }
            _ => {}
        }
    }

    /// Texts between a crash's platform event and its beginning are the crash's before, which has been handed on.
    fn drop_stragglers(&mut self, begin: Option<&[u8]>) {
        let is_behind =
            self.event.is_some_and(|(event, _)| begin.is_none_or(|begin| fits(event.letters, begin)));
        if !is_behind || self.texts.get(0).is_some() || self.texts.count() > DISORDER {
            return;
        }
        let mut is_behind_own = false;
        for (number, slot) in self.texts.slots.iter_mut().enumerate() {
            let goes_on = number > DISORDER || self.before.highest.is_some_and(|last| number == last + 1);
            // The next one of the crash's own may say the same.
            let is_same = self.before.get(number) == *slot && !(begin.is_none() && is_behind_own);
            if slot.is_some() && (begin.is_some() && goes_on || is_same) {
                *slot = None;
                self.records = self.records.saturating_sub(1);
            }
            is_behind_own = slot.is_some();
        }
        self.texts.highest = self.texts.slots.iter().rposition(Option::is_some);
    }

    fn count_behind_marks(&mut self, number: usize, at: u32) {
        if self.has_marks() {
            self.since_mark += 1;
            self.behind_marks.add(number, at);
        }
    }

    /// More came behind the marks than can be late: all of that is of the next crash.
    fn split_behind_marks(&mut self, found: &mut dyn FnMut(Decoded)) {
        let behind = core::mem::take(&mut self.behind_marks);
        let (mut texts, mut taken) = (Texts::default(), 0);
        for (number, slot) in self.texts.slots.iter_mut().enumerate().filter(|(at, _)| behind.has(*at)) {
            texts.put(number, *slot);
            // Of what both have each has its own.
            if !self.repeated.has(number) {
                *slot = None;
                taken += 1;
            }
        }
        self.texts.highest = self.texts.slots.iter().rposition(Option::is_some);
        self.records = self.records.saturating_sub(taken);
        self.repeated = Repeated::default();
        self.flush(found);
        self.texts = texts;
        self.count(behind.first, behind.count as u32);
    }

    /// Another crash begins before the text of this number: with those that came once more, where they lead there.
    fn next_crash(&mut self, number: usize, found: &mut dyn FnMut(Decoded)) {
        let repeated = core::mem::take(&mut self.repeated);
        let mut texts = Texts::default();
        let leads = repeated.count > 0 && repeated.last.abs_diff(number) <= DISORDER + 1;
        for (number, slot) in self.texts.slots.iter().enumerate().filter(|(at, _)| leads && repeated.has(*at))
        {
            texts.put(number, *slot);
        }
        self.flush(found);
        if leads {
            self.texts = texts;
            self.count(repeated.first, repeated.count as u32);
        }
    }

    /// Is among what came once more the crash's own ID? No other crash has it.
    fn repeats_its_id(&self) -> bool {
        let is_id = |(number, slot): (usize, &Slot)| {
            slot.is_some_and(|(starts, text)| starts && is_crash_id(text_of(&text)))
                && self.repeated.has(number)
        };
        self.texts.slots.iter().enumerate().any(is_id)
    }

    fn count(&mut self, at: u32, records: u32) {
        self.first.get_or_insert(at);
        self.records = self.records.saturating_add(records);
    }

    fn mark(&mut self, stage: Stage) {
        if !self.has_marks() {
            self.since_mark = 0;
            self.behind_marks = Repeated::default();
        }
        if let Some(slot) = self.marks.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(stage);
        }
    }

    /// Hands on the crash that is held, and what the dump kernel reported. What is kept for the next one becomes that one.
    fn flush(&mut self, found: &mut dyn FnMut(Decoded)) {
        // With its own ID it is this crash, sent again.
        if self.behind_marks.count > DISORDER && !self.repeats_its_id() {
            self.split_behind_marks(found);
        }
        self.behind_marks = Repeated::default();
        self.drop_stragglers(None);
        let repeated = core::mem::take(&mut self.repeated);
        let texts = core::mem::take(&mut self.texts);
        self.doubtful = None;
        let mut streamed = self.streamed.take();
        self.before_event = self.event;
        let mut event = self.event.take().map(|(event, _)| event);
        let (mut check, mut missing) = (Check::Numbered, 0);
        let mut source = texts.source();
        let mut records = core::mem::take(&mut self.records);
        let mut first = self.first.take();
        let mut letters_fit = true;
        if let Some(stream) = &mut streamed {
            (check, missing) = stream.check();
            source = Some(Source::Lastwords);
            records = records.saturating_add(stream.count as u32);
            first = Some(first.map_or(stream.first, |first| first.min(stream.first)));
            if let Some(event) = event.filter(|_| stream.started) {
                // Of the first three characters two are in the first record.
                let begin = stream.text();
                letters_fit = fits(event.letters, begin.as_bytes().get(..2).unwrap_or(begin.as_bytes()));
            }
        } else if texts.is_changed() {
            check = Check::Differs;
        } else if texts.count() > 1 && !texts.has_id() {
            check = Check::Unchecked;
        }
        if let (Some(event), Some(begin)) = (event, texts.begin()) {
            letters_fit = fits(event.letters, begin);
        }
        if !letters_fit && let Some(event) = event.take() {
            found(Decoded::Crash(Head {
                event: Some(event),
                source: None,
                records: 1,
                first: event.at,
                check: Check::Numbered,
            }));
        }
        if let Some(event) = event {
            records = records.saturating_add(1);
            first = Some(first.map_or(event.at, |first| first.min(event.at)));
        }
        let damaged = core::mem::take(&mut self.mark_is_damaged);
        if let Some(first) = first {
            let check = if damaged { Check::Differs } else { check };
            found(Decoded::Crash(Head { event, source, records, first, check }));
        }
        if let Some(stream) = streamed {
            stream_lines(&stream, check, missing, found);
            self.before_stream = Some(stream);
        }
        let twice = repeated.count > 1 && repeated.count == texts.count() && repeated.has(0);
        if texts.highest.is_some() {
            text_lines(&texts, found);
        }
        let has_id = texts.has_id();
        for stage in core::mem::take(&mut self.marks).into_iter().flatten() {
            found(Decoded::Mark(stage));
        }
        self.last = None;
        self.event = self.late.take();
        if twice && !has_id {
            // All of it came once more, and nothing in it is of one crash alone.
            let head = Head {
                event: None,
                source,
                records: repeated.count as u32,
                first: repeated.first,
                check: Check::Numbered,
            };
            found(Decoded::Crash(head));
            text_lines(&texts, found);
        }
        if texts.highest.is_some() {
            self.before = texts;
        }
    }
}

fn is_crash_id(text: &[u8]) -> bool {
    matches!(parse_marked(text), Some(Line::CrashId(_)))
}

/// Hands on a stream's lines: whole only where nothing speaks against it.
fn stream_lines(stream: &Stream, check: Check, missing: u8, found: &mut dyn FnMut(Decoded)) {
    let text = stream.text();
    for (index, line) in text.as_bytes().split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        found(match check {
            _ if index == 0 && !stream.started => Decoded::Headless(line),
            Check::Differs => Decoded::Truncated(line),
            _ => Decoded::Line(parse(line, index == 0)),
        });
    }
    if missing > 0 {
        found(Decoded::Missing(missing));
    }
}

/// The line that has this text. Text that is nothing else is the reason where it comes `first`, and a cause anywhere
/// else.
#[must_use]
pub fn parse(bytes: &[u8], first: bool) -> Line<'_> {
    let other = if first { Line::Reason(bytes) } else { Line::Cause(bytes) };
    // What would be written otherwise is not one of ours, or it is cut.
    parse_marked(bytes).filter(|line| text(*line).as_bytes() == bytes).unwrap_or(other)
}

fn parse_marked(text: &[u8]) -> Option<Line<'_>> {
    let number = |text| u32::try_from(hex(text)?).ok();
    let behind = |prefix: &str| text.strip_prefix(prefix.as_bytes());
    if let Some(id) = behind(ID) {
        return if id.len() == 8 { Some(Line::BuildId(number(id)?)) } else { None };
    }
    if let Some(id) = behind(CRASH_ID) {
        return CrashId::parse(id).map(Line::CrashId);
    }
    if let Some(signature) = behind(SIGNATURE) {
        return number(signature).map(Line::Signature);
    }
    if let Some(rest) = behind(RIP) {
        return Some(Line::Rip(rest));
    }
    if let Some(rest) = behind(COMM) {
        return Some(Line::Comm(rest));
    }
    if let Some(rest) = behind(CALLER) {
        return Some(Line::Caller(rest));
    }
    if let Some(rest) = behind(CORRUPT) {
        return Some(Line::Corrupt(rest));
    }
    if let Some(rest) = behind(RESTORED) {
        return Some(Line::Restored(rest));
    }
    if text == PANICKED_UNKNOWN.as_bytes() {
        return Some(Line::PanickedUnknown);
    }
    if text == NO_DUMP.as_bytes() {
        return Some(Line::NoDump);
    }
    if let Some(count) = behind("+") {
        return Some(Line::Omitted(number(count)?));
    }
    let at = text.iter().position(|byte| matches!(byte, b'=' | b'*'))?;
    let (left, right) = text.split_at_checked(at)?;
    let (sign, location) = right.split_first()?;
    let (left, location) = (number(left)?, parse_location(core::str::from_utf8(location).ok()?)?);
    Some(match sign {
        b'=' => Line::Panicked(CpuLocation { cpu: left, location }),
        _ => Line::Group { count: left, location },
    })
}

fn parse_location(text: &str) -> Option<Location> {
    match text {
        NOT_RESPONDING => Some(Location::NotResponding),
        OFF => Some(Location::Off),
        OFF_OR_NOT_RESPONDING => Some(Location::OffOrNotResponding),
        UNREAD => Some(Location::Unread),
        USER => Some(Location::User),
        _ => match text.strip_prefix('@') {
            Some(address) if address.len() == 8 => Some(Location::Address(UPPER + hex(address.as_bytes())?)),
            Some(address) => Some(Location::Address(hex(address.as_bytes())?)),
            None => Some(Location::Kernel(u32::try_from(hex(text.as_bytes())?).ok()?)),
        },
    }
}

/// The text of one record.
fn text_of(text: &[u8; TEXT_LEN]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or(text)
}

/// A line that is being put together.
struct Assembly {
    text: Text<TEXT>,
    /// Number of its first record.
    start: usize,
    /// Is its beginning lost?
    tail: bool,
    /// Is it known to be at its end, because its last record is not full?
    ended: bool,
}

impl Texts {
    /// Are there records that cannot have been written so? One that is not full ends its line: what goes on behind it shows
    /// that the BMC has cut them, or that they are of two crashes.
    fn is_changed(&self) -> bool {
        self.slots
            .windows(2)
            .any(|pair| matches!(pair, [Some((_, text)), Some((false, _))] if text_of(text).len() < TEXT_LEN))
    }

    /// How long a record is that its line may go on behind.
    fn full(&self) -> usize {
        if !self.is_changed() {
            return TEXT_LEN;
        }
        self.slots.iter().flatten().map(|(_, text)| text_of(text).len()).max().unwrap_or(0)
    }
}

/// Hands on the lines of one crash's records.
fn text_lines(texts: &Texts, found: &mut dyn FnMut(Decoded)) {
    let linux = texts.source() == Some(Source::Linux);
    let (full, changed) = (texts.full(), texts.is_changed());
    let mut held: Option<Assembly> = None;
    let mut next = 0;
    for (number, slot) in texts.slots.iter().enumerate() {
        let Some((starts, text)) = slot else { continue };
        let starts = *starts || linux && number == 0;
        let is_next = number == next;
        // A line that is at its end does not go on: this is of another one.
        let broken = is_next && !starts && (changed || held.as_ref().is_some_and(|held| held.ended));
        if starts || !is_next || broken {
            let whole = is_next && starts && !changed;
            if let Some(line) = held.take() {
                let ended = line.ended && !broken;
                finish_line(&line, whole || ended, linux, found);
            }
        }
        if !is_next {
            found(Decoded::Missing((number - next) as u8));
        }
        let line = held.get_or_insert_with(|| Assembly {
            text: Text::new(),
            start: number,
            tail: !starts,
            ended: false,
        });
        line.text.bytes(text_of(text));
        line.ended =
            text_of(text).len() < full || !linux && full == TEXT_LEN && is_longest(line.text.as_bytes());
        next = number + 1;
    }
    if let Some(line) = held {
        // Behind a full record more may be lost, but of what was cut when it was written.
        finish_line(&line, line.ended || line.text.as_bytes().ends_with(CUT) && !linux, linux, found);
    }
}

/// Is this line as long as one of its kind can be?
fn is_longest(text: &[u8]) -> bool {
    match parse_marked(text) {
        Some(Line::BuildId(_) | Line::CrashId(_)) => true,
        Some(Line::Caller(name)) => name.len() >= CALLER_LEN,
        _ => text.len() >= REASON_LEN,
    }
}

/// Hands on a line. `whole`: its end is there.
fn finish_line(line: &Assembly, whole: bool, linux: bool, found: &mut dyn FnMut(Decoded)) {
    let text = line.text.as_bytes();
    if text.is_empty() {
        return;
    }
    found(match (line.tail, whole) {
        (true, _) => Decoded::Headless(text),
        (false, false) => Decoded::Truncated(text),
        (false, true) if linux => Decoded::Line(Line::Reason(text)),
        (false, true) => Decoded::Line(parse(text, line.start == 0)),
    });
}
