//! Lines as SEL records. What is written here is a promise: docs/sel-format.md.

use crate::ipmi::sel_writer::{EVENT_LEN, critical_stop};
use crate::report::{Content, Cost, CpuLocation, Fnv, Line, Location, Stage, cut};
use crate::text::{Buffer, Text};

/// Text bytes in one OEM record.
pub const TEXT_LEN: usize = 11;
/// Byte 2, the record type: OEM, without time stamp (IPMI 2.0 section 32.3).
pub(super) const RECORD_TYPE: u8 = 0xf0;
/// Byte 3, as Linux writes it (`drivers/char/ipmi/ipmi_msghandler.c`): its own slave address.
pub(super) const LINUX: u8 = 0x20;
/// Byte 4, bit 7: a line starts with this record. Linux never sets it, so its own panic text is told apart; and
/// where records are lost, the lines behind the gap are still found.
pub(super) const STARTS_LINE: u8 = 0x80;
/// The sequence number of a stage's record.
pub(super) const MARK: u8 = 0x7f;
/// Longest line, in bytes. What is longer is cut.
pub const LINE_LEN: usize = 128;

/// The upper 4 GiB of virtual memory, where the kernel's image and its modules lie. Eight digits behind an `@` are an
/// address there.
pub(super) const UPPER: u64 = 0xffff_ffff_0000_0000;

/// What stands before the text of a line.
pub(super) const ID: &str = "id ";
pub(super) const CRASH_ID: &str = "#";
pub(super) const SIGNATURE: &str = "~";
pub(super) const RIP: &str = "RIP ";
pub(super) const COMM: &str = "Comm ";
pub(super) const CALLER: &str = "< ";
pub(super) const CORRUPT: &str = "bad ";
pub(super) const RESTORED: &str = "restored ";
/// The whole of a line: nothing tells which CPU panicked.
pub(super) const PANICKED_UNKNOWN: &str = "?=?";
/// The whole of a line: there is no dump kernel.
pub(super) const NO_DUMP: &str = "no dump";
pub(super) const NOT_RESPONDING: &str = "dead";
pub(super) const OFF: &str = "off";
pub(super) const OFF_OR_NOT_RESPONDING: &str = "off/dead";
pub(super) const UNREAD: &str = "unread";
pub(super) const USER: &str = "user";

/// A line's text in the SEL.
#[must_use]
pub fn text(line: Line) -> Text<LINE_LEN> {
    let mut text = Text::<LINE_LEN>::new();
    let mut put = |prefix: &str, rest: &[u8]| {
        text.str(prefix).bytes(rest);
    };
    match line {
        Line::Reason(text) | Line::Cause(text) => put("", text),
        Line::Rip(text) => put(RIP, text),
        Line::Comm(text) => put(COMM, text),
        Line::Caller(text) => put(CALLER, text),
        Line::Corrupt(text) => put(CORRUPT, text),
        Line::Restored(text) => put(RESTORED, text),
        Line::PanickedUnknown => put(PANICKED_UNKNOWN, b""),
        Line::NoDump => put(NO_DUMP, b""),
        Line::BuildId(id) => {
            text.str(ID).hex_padded(u64::from(id), 8);
        }
        Line::CrashId(id) => id.put(text.str(CRASH_ID)),
        Line::Signature(signature) => {
            text.str(SIGNATURE).hex_padded(u64::from(signature), 8);
        }
        Line::Panicked(CpuLocation { cpu, location }) => numbered(&mut text, cpu, b'=', location),
        Line::Group { count, location } => numbered(&mut text, count, b'*', location),
        Line::Omitted(count) => {
            text.byte(b'+').hex(u64::from(count));
        }
    }
    text
}

/// `1=9c2a36`, `fe*103f0`.
fn numbered(text: &mut Text<LINE_LEN>, number: u32, sign: u8, location: Location) {
    text.hex(u64::from(number)).byte(sign);
    match location {
        Location::NotResponding => text.str(NOT_RESPONDING),
        Location::Off => text.str(OFF),
        Location::OffOrNotResponding => text.str(OFF_OR_NOT_RESPONDING),
        Location::Unread => text.str(UNREAD),
        Location::User => text.str(USER),
        Location::Kernel(offset) => text.hex(u64::from(offset)),
        // The kernel's half of the upper 4 GiB goes without saying: an address in a module fits one record.
        Location::Address(address) => {
            let (address, digits) = match address.checked_sub(UPPER) {
                Some(address) => (address, 8),
                // A digit more than eight, so that it is none of those.
                None if address >> 28 != 0 && address >> 32 == 0 => (address, 9),
                None => (address, 1),
            };
            text.byte(b'@').hex_padded(address, digits)
        }
    };
}

/// OEM records are what a line costs in the SEL.
pub struct Records;

impl Cost for Records {
    const TYPICAL: u32 = 14;

    fn line(line: Line) -> u32 {
        text(line).as_bytes().len().div_ceil(TEXT_LEN) as u32
    }

    fn text(units: u32) -> usize {
        units as usize * TEXT_LEN
    }
}

impl Records {
    /// Characters that so many events hold.
    pub(super) fn events_text(records: u32) -> usize {
        records as usize * EVENT_LEN
    }
}

/// The records of a line of text, the first one with sequence number `first` (modulo 128).
pub fn records(text: &[u8], first: u8) -> impl Iterator<Item = [u8; 16]> {
    text.chunks(TEXT_LEN).enumerate().map(move |(index, chunk)| {
        let sequence = first.wrapping_add(index as u8) & !STARTS_LINE;
        text_record(sequence | if index == 0 { STARTS_LINE } else { 0 }, chunk)
    })
}

/// Does nothing show where this line ends? It fills its last record, and there are longer ones of its kind.
pub(super) fn may_go_on(line: Line) -> bool {
    let is_longest = matches!(line, Line::BuildId(_) | Line::CrashId(_));
    !is_longest && text(line).as_bytes().len().is_multiple_of(TEXT_LEN)
}

/// The record that ends such a line where it is a report's last: no text, and no start of a line.
#[must_use]
pub fn end(sequence: u8) -> [u8; 16] {
    text_record(sequence & !STARTS_LINE, &[])
}

/// A stage's record. Its number is that of no other record, so that it tells nothing of those.
#[must_use]
pub fn mark(stage: Stage) -> [u8; 16] {
    text_record(STARTS_LINE | MARK, stage.text().as_bytes())
}

/// A stage's characters for events.
#[must_use]
pub fn mark_events(stage: Stage) -> Text<16> {
    stream([stage.text().as_bytes()])
}

fn text_record(number: u8, text: &[u8]) -> [u8; 16] {
    let mut record = [0, 0, RECORD_TYPE, LINUX, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (slot, byte) in record.iter_mut().skip(16 - TEXT_LEN).zip(text) {
        *slot = *byte;
    }
    record
}

/// The first character of a stream of events, and the one that its last event begins with.
pub(super) const STX: u8 = 2;
pub(super) const ETX: u8 = 3;

/// The stream of characters that says these lines in events: what a BMC gets that does not accept or keep OEM records
/// ([`SelType`](crate::ipmi::sel_writer::SelType)). To be sent three at a time. NULs fill up the last event but one; the last
/// one has count and check in the two places behind ETX, which older readers skip.
pub fn stream<'a, const N: usize>(lines: impl IntoIterator<Item = &'a [u8]>) -> Text<N> {
    let mut text = Text::<N>::new();
    let mut before = STX;
    for line in lines {
        text.byte(before).bytes(line);
        before = b'\n';
    }
    end_stream(&mut text);
    text
}

/// Fills the last event up, and adds the one that ends the stream.
#[inline(never)]
fn end_stream(text: &mut Buffer<[u8]>) {
    for _ in 0..(EVENT_LEN - text.as_bytes().len() % EVENT_LEN) % EVENT_LEN {
        text.byte(0);
    }
    for byte in stream_end(text.as_bytes()) {
        text.byte(byte);
    }
}

/// The event that ends a stream of these characters: ETX, how many events there are with it (less one, four bits), and a check of
/// the characters (ten bits). Bit 7 is set, so that neither is a character.
pub(super) fn stream_end(characters: &[u8]) -> [u8; EVENT_LEN] {
    let count = characters.len() / EVENT_LEN;
    let check = Fnv::new().bytes(characters).fold(32) as u16;
    [ETX, 0x80 | (count as u8 & 0xf) << 3 | (check >> 7) as u8 & 7, 0x80 | check as u8]
}

/// A system event record (type 02, IPMI 2.0 section 32.1) as the platform event of a panic leaves it in the SEL, with
/// three characters in the sensor number and event data 2 and 3.
#[must_use]
pub fn event_record(text: [u8; EVENT_LEN]) -> [u8; 16] {
    critical_stop(&text).record()
}

/// Longest short form, in characters: 16 events.
pub const SHORT: usize = 48;

/// The short form, for three characters an event: the reason and the panicked CPU, in at most `limit` characters.
#[must_use]
#[inline(never)]
pub fn short(limit: usize, content: &Content) -> Text<SHORT> {
    /// A stream's first character, the one between its lines, and its last event.
    const FRAME: usize = 2 + EVENT_LEN;
    let panicked = content.panicked.map_or(Text::new(), text);
    let room = limit.min(SHORT).saturating_sub(FRAME + panicked.as_bytes().len());
    let reason = content.cause.map_or(Text::new(), |cause| cut(cause.reason.as_bytes(), room));
    let lines = [reason.as_bytes(), panicked.as_bytes()];
    stream(lines.into_iter().filter(|line| !line.is_empty()))
}
