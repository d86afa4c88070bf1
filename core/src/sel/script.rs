//! Which lines a crash gets in the SEL, in which order, and what is cut: the record limit is the BMC's room, and most
//! BMCs have little of it.

use super::{Groups, LINE_LEN, Line, TEXT_LEN};
use crate::crash::Why;
use crate::text::Text;

/// Records that a typical crash shall not exceed: callers are named only as far as that leaves room.
pub const TYPICAL: u32 = 12;
/// What marks a reason that was cut.
const CUT: &str = "..";

/// What is known of a crash, as far as it is to be said.
pub struct Known<'a> {
    /// Why it died.
    pub why: Option<&'a Why>,
    /// The kernel's build id.
    pub build_id: Option<u32>,
    /// The CPU that panicked: [`Line::Panicked`] or [`Line::PanickedUnknown`].
    pub panicked: Option<Line<'a>>,
}

/// Hands on the lines in at most `limit` records, most important first, until `line` returns false: the reason, the
/// build id, the panicked CPU, what led to it, the other CPUs in groups, callers. Where there is room for little,
/// the reason is cut and the build id left out before the panicked CPU is. Empties the groups.
pub fn lines(limit: u32, known: &Known, groups: Option<&mut Groups>, line: &mut dyn FnMut(Line) -> bool) {
    let mut room = Room { left: limit, going: true, line };
    let none = Why::default();
    let why = known.why.unwrap_or(&none);
    let records = |line: Option<Line>| line.map_or(0, Line::records);
    let panicked = records(known.panicked);
    let reason = cut(why.reason.as_bytes(), limit.saturating_sub(panicked).max(1) as usize * TEXT_LEN);
    let reason = Line::Reason(reason.as_bytes());
    let id = known.build_id.map(Line::BuildId);
    let id = id.filter(|id| limit >= reason.records() + id.records() + panicked);
    // Where there was no panic the report is the reason already.
    let cause = if why.cause.as_bytes() == why.reason.as_bytes() { &[] } else { why.cause.as_bytes() };
    let (rip, comm) = (why.rip.as_bytes(), why.comm.as_bytes());
    for words in [Some(reason), id, known.panicked].into_iter().flatten() {
        room.say(words);
    }
    // How many CPUs are left out fits into one record, and is said rather than one more detail.
    let reserve = u32::from(groups.is_some()).min(room.left);
    room.left -= reserve;
    for words in [Line::Cause(cause), Line::Rip(rip), Line::Comm(comm)] {
        room.say(words);
    }
    room.left += reserve;
    if let Some(groups) = groups {
        groups.lines(room.left, &mut |words| room.say(words));
    }
    room.left = room.left.saturating_sub(limit.saturating_sub(TYPICAL));
    for caller in &why.callers {
        room.say(Line::Caller(caller.as_bytes()));
    }
}

/// What room there is for lines.
struct Room<'a> {
    left: u32,
    going: bool,
    line: &'a mut dyn FnMut(Line) -> bool,
}

impl Room<'_> {
    /// Hands on a line that says something and fits; returns whether to go on.
    fn say(&mut self, words: Line) -> bool {
        let empty = matches!(
            words,
            Line::Reason([]) | Line::Cause([]) | Line::Rip([]) | Line::Comm([]) | Line::Caller([])
        );
        if let Some(left) = self.left.checked_sub(words.records()).filter(|_| self.going && !empty) {
            self.left = left;
            self.going = (self.line)(words);
        }
        self.going
    }
}

/// The short form, for three characters a record: the reason and the panicked CPU, in at most `limit` characters.
#[must_use]
pub fn short(limit: usize, known: &Known) -> Text<SHORT> {
    /// A stream's first and last character, and the one between its lines.
    const FRAME: usize = 3;
    let panicked = known.panicked.map_or(Text::new(), Line::text);
    let room = limit.min(SHORT).saturating_sub(FRAME + panicked.as_bytes().len());
    let reason = known.why.map_or(Text::new(), |why| cut(why.reason.as_bytes(), room));
    let lines = [reason.as_bytes(), panicked.as_bytes()];
    super::stream(lines.into_iter().filter(|line| !line.is_empty()))
}

/// Longest short form, in characters: 16 records.
pub const SHORT: usize = 48;

/// The text, in at most `room` bytes.
fn cut(text: &[u8], room: usize) -> Text<LINE_LEN> {
    let mut short = Text::new();
    if text.len() <= room {
        short.bytes(text);
    } else {
        short.bytes(text.get(..room.saturating_sub(CUT.len())).unwrap_or(text)).str(CUT);
    }
    short
}
