//! The numbers that a listing leaves out: which of its texts are one crash's, which of them start a line, and which are there
//! twice.

use super::{Entry, Row, why};
use lastwords_core::{
    report::{CALLER_LEN, Line, Stage},
    store::sel::{self, LINE_LEN, TEXT_LEN},
};

/// In the number of a text record: this one starts a line.
const STARTS_LINE: u8 = 0x80;

/// A crash's texts: those behind a platform event, or behind what a dump kernel has said of the crash before, and within these from
/// one build id to the next.
#[derive(Default)]
struct Crash {
    /// Which rows they are.
    rows: Vec<usize>,
    has_build_id: bool,
    /// What a dump kernel has said stands behind them.
    has_ended: bool,
}

/// The records that these rows show, the texts with numbers again. `ids` are the numbers that the rows themselves have.
/// `is_trimmed`: blanks at the ends of lines are lost.
pub fn entries(mut rows: Vec<Row>, ids: &[u16], is_trimmed: bool) -> Vec<Entry> {
    drop_doubled(&mut rows, ids);
    if is_trimmed {
        fill_up(&mut rows);
    }
    let whys = whys(&rows);
    let mut crashes = vec![Crash::default()];
    for (at, row) in rows.iter().enumerate() {
        let Some(crash) = crashes.last_mut() else { continue };
        match row {
            Row::Text(text) if whys[at].is_some() || mark(text).is_some() => crash.has_ended = true,
            Row::Text(text) => {
                let is_id = is_build_id(text);
                let is_last = crash.rows.last().is_some_and(|last| text_at(&rows, *last) == text);
                if crash.has_ended {
                    crashes.push(Crash { rows: vec![at], has_build_id: is_id, has_ended: false });
                } else if is_id && crash.has_build_id && !is_last {
                    let reason = reason_behind(&rows, &crash.rows);
                    let mut texts = crash.rows.split_off(reason);
                    texts.push(at);
                    crashes.push(Crash { rows: texts, has_build_id: true, has_ended: false });
                } else {
                    crash.rows.push(at);
                    crash.has_build_id |= is_id;
                }
            }
            Row::Record(entry) if entry.time.is_some() => crashes.push(Crash::default()),
            _ => {}
        }
    }
    let mut numbers = vec![0; rows.len()];
    for crash in &crashes {
        number(&rows, crash, &mut numbers);
    }
    let entry = |((row, number), why)| match (row, why) {
        (Row::Record(entry), _) => entry,
        (Row::Text(text), Some(part)) => why::record(part, text.as_bytes()).into(),
        (Row::Text(text), None) => {
            mark(&text).unwrap_or_else(|| super::text_record(number, text.as_bytes())).into()
        }
        (Row::Unreadable, _) => [0; 16].into(),
    };
    rows.into_iter().zip(numbers).zip(whys).map(entry).collect()
}

/// Takes out rows that are there twice in a row, with the same number.
fn drop_doubled(rows: &mut [Row], ids: &[u16]) {
    for (at, pair) in (1..).zip(ids.windows(2)) {
        if let [one, other] = pair
            && one == other
            && *one != 0
            && let [Row::Text(before), Row::Text(text)] = &rows[at - 1..=at]
            && before == text
        {
            rows[at - 1] = Row::Unreadable;
        }
    }
}

fn text_at(rows: &[Row], at: usize) -> &str {
    match rows.get(at) {
        Some(Row::Text(text)) => text,
        _ => "",
    }
}

/// From which of these texts on they are the reason of another crash, whose build id comes next: the last line, where it is a text
/// of no known kind.
fn reason_behind(rows: &[Row], texts: &[usize]) -> usize {
    let known = texts.iter().rposition(|at| !is_plain(text_at(rows, *at)));
    let mut from = known.map_or(0, |known| known + 1);
    // What goes on with the line before is that one's.
    let mut line = known.map_or("", |known| text_at(rows, texts[known])).to_owned();
    let mut is_full = line.len() >= TEXT_LEN;
    while let Some(text) = texts.get(from).map(|at| text_at(rows, *at)) {
        if !is_full || starts_line(&line, text) {
            break;
        }
        is_full = text.len() >= TEXT_LEN;
        if line.len() < LINE_LEN {
            line.push_str(text);
        }
        from += 1;
    }
    from
}

/// Gives a crash's texts their numbers; what is there twice has one.
fn number(rows: &[Row], crash: &Crash, numbers: &mut [u8]) {
    let mut once: Vec<usize> = Vec::new();
    let mut again = Vec::new();
    for (place, at) in crash.rows.iter().enumerate() {
        let text = text_at(rows, *at);
        let next = crash.rows.get(place + 1).map(|next| text_at(rows, *next));
        match once.last() {
            Some(before) if is_again(text_at(rows, *before), text, next) => again.push((*at, *before)),
            _ => once.push(*at),
        }
    }
    let texts: Vec<_> = once.iter().map(|at| text_at(rows, *at)).collect();
    for (number, (starts, at)) in line_starts(&texts).into_iter().zip(&once).enumerate() {
        numbers[*at] = number as u8 & !STARTS_LINE | if starts { STARTS_LINE } else { 0 };
    }
    for (at, before) in again {
        numbers[at] = numbers[before];
    }
}

/// Is this text the one before, which the log has twice? A function that has called itself is in a call trace twice.
fn is_again(before: &str, text: &str, next: Option<&str>) -> bool {
    let is_caller = matches!(sel::parse(text.as_bytes(), false), Line::Caller(_));
    let goes_on = text.len() >= TEXT_LEN && next.is_some_and(is_plain);
    text == before && !text.is_empty() && (!is_caller || goes_on)
}

/// Gives texts back the blank that a record ended with: those are no lines of a known kind, one goes on with the other, and only full
/// records are gone on with.
fn fill_up(rows: &mut [Row]) {
    let is_part = |text: &str| is_plain(text) && mark(text).is_none();
    for at in 1..rows.len() {
        if let [Row::Text(text), Row::Text(next)] = &mut rows[at - 1..=at]
            && text.len() + 1 == TEXT_LEN
            && text != next
            && is_part(text)
            && is_part(next)
        {
            text.push(' ');
        }
    }
}

/// Which rows are why a dump failed, and which part of that: texts behind its mark that begin so, and go on while they
/// are full. Other records may be between; one that is there twice is the same part.
fn whys(rows: &[Row]) -> Vec<Option<u8>> {
    let (mut next, mut whys) = (None, Vec::new());
    let mut last = None;
    for row in rows {
        let Row::Text(text) = row else {
            if matches!(row, Row::Record(entry) if entry.time.is_some()) {
                (next, last) = (None, None);
            }
            whys.push(None);
            continue;
        };
        if let Some((part, before)) = last
            && before == text
        {
            whys.push(Some(part));
            continue;
        }
        let is_part = match next {
            Some(0) => text.starts_with(why::BEGINS),
            Some(part) => part < why::MOST,
            None => false,
        };
        let part = next.filter(|_| is_part).map(|part| part as u8);
        whys.push(part);
        last = part.map(|part| (part, text));
        next = match next {
            _ if text.trim_end() == Stage::Failed.text() => Some(0),
            Some(part) if is_part && text.len() >= TEXT_LEN => Some(part + 1),
            _ => None,
        };
    }
    whys
}

/// Which of a crash's records start a line. Where none is one of our lines it is Linux's own text, which starts none.
fn line_starts(texts: &[&str]) -> Vec<bool> {
    let mut line = String::new();
    let starts: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let before = index.checked_sub(1).and_then(|before| texts.get(before));
            let starts = before.is_none_or(|before| before.len() < TEXT_LEN || starts_line(&line, text));
            if starts {
                line.clear();
            }
            // What is longer is no other line for that.
            if line.len() < LINE_LEN {
                line.push_str(text);
            }
            starts
        })
        .collect();
    let is_ours = texts.iter().any(|text| !is_plain(text));
    if is_ours { starts } else { vec![false; texts.len()] }
}

#[cfg(test)]
thread_local! {
    /// Bytes that were looked at to tell lines apart.
    pub static LOOKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Behind a full record: does this one go on with the line, or is it the next?
fn starts_line(line: &str, text: &str) -> bool {
    #[cfg(test)]
    LOOKED.set(LOOKED.get() + line.len() + text.len());
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match sel::parse(line.as_bytes(), false) {
        // Never longer.
        Line::BuildId(_) | Line::CrashId(_) | Line::Signature(_) => true,
        Line::Caller(name) if name.len() >= CALLER_LEN => true,
        // Only digits could follow.
        Line::Panicked { .. } | Line::Group { .. } | Line::Omitted(_) => !is_hex,
        _ => match sel::parse(text.as_bytes(), false) {
            // `+16` goes on with a symbol; how many CPUs were left out comes behind a group.
            Line::Reason(_) | Line::Cause(_) | Line::Omitted(_) => false,
            Line::Restored(part) => part == b"boot_params",
            Line::Corrupt(part) => [&b"initrd"[..], b"kernel", b"boot_params"].contains(&part),
            _ => true,
        },
    }
}

/// Is it of no known kind: a reason, a cause, or what goes on with another text?
fn is_plain(text: &str) -> bool {
    matches!(sel::parse(text.as_bytes(), false), Line::Cause(_))
}

fn is_build_id(text: &str) -> bool {
    matches!(sel::parse(text.as_bytes(), false), Line::BuildId(_))
}

/// The record of a dump kernel's text.
pub fn mark(text: &str) -> Option<[u8; 16]> {
    Stage::ALL.into_iter().find(|stage| stage.text() == text).map(sel::mark)
}

/// Is it the beginning of such a text?
pub fn is_begun_mark(text: &str) -> bool {
    Stage::ALL.into_iter().any(|stage| stage.text().starts_with(text))
}
