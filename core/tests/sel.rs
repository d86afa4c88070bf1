//! The records: what is encoded is decoded to the same, and what is left of them to what is left.

use lastwords_core::sel::{Decoded, Decoder, Groups, Line, Place, records};
use proptest::prelude::*;

/// What came out of the decoder, with its texts owned.
#[derive(Clone, Debug, PartialEq)]
enum Found {
    Crash,
    Line(Line),
    Text(Vec<u8>),
    Cut(Vec<u8>),
    Tail(Vec<u8>),
    Missing(u8),
}

fn decode<'a>(log: impl IntoIterator<Item = &'a [u8; 16]>) -> Vec<Found> {
    let mut found = Vec::new();
    let mut keep = |decoded: Decoded| {
        found.push(match decoded {
            Decoded::Crash => Found::Crash,
            Decoded::Line(line) => Found::Line(line),
            Decoded::Text(text) => Found::Text(text.to_vec()),
            Decoded::Cut(text) => Found::Cut(text.to_vec()),
            Decoded::Tail(text) => Found::Tail(text.to_vec()),
            Decoded::Missing(count) => Found::Missing(count),
        });
    };
    let mut decoder = Decoder::default();
    for record in log {
        decoder.push(record, &mut keep);
    }
    decoder.finish(&mut keep);
    found
}

fn encode(texts: &[Vec<u8>]) -> Vec<[u8; 16]> {
    let mut log = Vec::new();
    for text in texts {
        log.extend(records(text, log.len() as u8));
    }
    log
}

fn groups(places: &[(Place, u32)], limit: u32) -> Vec<Line> {
    let mut groups = Groups::new();
    for (place, count) in places {
        for _ in 0..*count {
            groups.add(*place);
        }
    }
    let mut lines = Vec::new();
    groups.lines(limit, |line| {
        lines.push(line);
        true
    });
    lines
}

#[test]
fn the_designs_example() {
    let lines = [
        (Line::BuildId(0x5f3e_9a1b), "id 5f3e9a1b"),
        (Line::Panicked { cpu: 1, place: Place::Kernel(0x9c_2a36) }, "1=9c2a36"),
        (Line::Group { count: 0xfe, place: Place::Kernel(0x1_03f0) }, "fe*103f0"),
        (Line::Group { count: 12, place: Place::User }, "c*user"),
        (Line::Group { count: 2, place: Place::Dead }, "2*dead"),
        (Line::LeftOut(0x1f), "+1f"),
        (Line::PanickedUnknown, "?=?"),
        (Line::Group { count: 1, place: Place::Address(0xffff_c900_0000_1234) }, "1*@ffffc90000001234"),
        (Line::Group { count: 1, place: Place::Address(0xffff_ffff_c05a_1234) }, "1*@c05a1234"),
        (Line::Group { count: 1, place: Place::Address(0xc05a_1234) }, "1*@0c05a1234"),
        (Line::Panicked { cpu: 0, place: Place::Address(0) }, "0=@0"),
    ];
    for (line, text) in lines {
        assert_eq!(line.text().as_bytes(), text.as_bytes());
        assert_eq!(Line::parse(text), Some(line));
    }
    let record = records(b"1=9c2a36", 3).next().unwrap();
    assert_eq!(record, *b"\0\0\xf0\x20\x831=9c2a36\0\0\0");
}

#[test]
fn a_line_of_exactly_one_record_ends_with_it() {
    // 11 characters leave no NUL: only the flag in the next record tells.
    let log = encode(&[b"id 5f3e9a1b".to_vec(), b"1=9c2a36".to_vec()]);
    assert_eq!(
        decode(&log)[1..],
        [
            Found::Line(Line::BuildId(0x5f3e_9a1b)),
            Found::Line(Line::Panicked { cpu: 1, place: Place::Kernel(0x9c_2a36) }),
        ]
    );
}

#[test]
fn two_crashes_are_two() {
    let crash = encode(&[b"id 5f3e9a1b".to_vec(), b"0=10".to_vec()]);
    let log: Vec<_> = crash.iter().chain(&crash).copied().collect();
    assert_eq!(decode(&log).iter().filter(|found| **found == Found::Crash).count(), 2);
}

#[test]
fn a_typical_machine_of_256_cpus_takes_few_records() {
    let places =
        [(Place::Kernel(0x1_03f0), 240), (Place::User, 12), (Place::Dead, 2), (Place::Kernel(0x22_0000), 1)];
    let lines = groups(&places, 30);
    assert_eq!(lines.iter().map(|line| line.records()).sum::<u32>(), 4);
}

#[test]
fn what_the_limit_cuts_is_counted() {
    let places: Vec<_> = (0..1024).map(|offset| (Place::Kernel(offset), 1)).collect();
    let lines = groups(&places, 30);
    assert_eq!(lines.len(), 30);
    assert_eq!(lines.last(), Some(&Line::LeftOut(1024 - 29)));
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Dead),
        Just(Place::User),
        any::<u32>().prop_map(Place::Kernel),
        any::<u64>().prop_map(Place::Address),
        any::<u32>().prop_map(|low| Place::Address(u64::from(low))),
        any::<u32>().prop_map(|low| Place::Address(0xffff_ffff_0000_0000 | u64::from(low))),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        any::<u32>().prop_map(Line::BuildId),
        (any::<u32>(), place()).prop_map(|(cpu, place)| Line::Panicked { cpu, place }),
        Just(Line::PanickedUnknown),
        (any::<u32>(), place()).prop_map(|(count, place)| Line::Group { count, place }),
        any::<u32>().prop_map(Line::LeftOut),
    ]
}

/// Records that are not ours: other types, and other makers of the same type.
fn foreign() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>().prop_filter("foreign", |record| !Decoder::is_ours(record))
}

proptest! {
    #[test]
    fn every_line_is_parsed_as_it_was_written(line in line()) {
        let text = line.text();
        prop_assert_eq!(Line::parse(std::str::from_utf8(text.as_bytes()).unwrap()), Some(line));
    }

    #[test]
    fn lines_come_back_through_any_foreign_records(
        lines in prop::collection::vec(line(), 1..20), foreign in prop::collection::vec((any::<prop::sample::Index>(), foreign()), 0..20),
    ) {
        let texts: Vec<_> = lines.iter().map(|line| line.text().as_bytes().to_vec()).collect();
        let mut log = encode(&texts);
        for (at, record) in foreign {
            let at = at.index(log.len() + 1);
            log.insert(at, record);
        }
        let expected: Vec<_> = std::iter::once(Found::Crash).chain(lines.into_iter().map(Found::Line)).collect();
        prop_assert_eq!(decode(&log), expected);
    }

    #[test]
    fn of_any_text_and_any_loss_what_is_left_is_found_and_what_is_missing_said(
        texts in prop::collection::vec("[a-z ]{1,40}", 1..12), lost in prop::collection::vec(any::<bool>(), 64),
    ) {
        let texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        let log = encode(&texts);
        let kept: Vec<_> = log.iter().zip(&lost).filter(|(_, lost)| !**lost).map(|(record, _)| record).collect();
        let found = decode(kept.iter().copied());
        // Nothing is invented: every whole line stands in the texts, every part is one's beginning or end.
        for item in &found {
            prop_assert!(match item {
                Found::Text(text) => texts.iter().any(|whole| whole.starts_with(text)),
                Found::Cut(text) => texts.iter().any(|whole| whole.starts_with(text)),
                Found::Tail(text) => texts.iter().any(|whole| whole.windows(text.len()).any(|part| part == text)),
                Found::Line(_) | Found::Crash | Found::Missing(_) => true,
            }, "{:?}", item);
        }
        // Nothing that is there is dropped: every text byte of the kept records is in something found.
        let there: usize = kept.iter().map(|record| record[5..].iter().filter(|byte| **byte != 0).count()).sum();
        let told: usize = found.iter().map(|item| match item {
            Found::Text(text) | Found::Cut(text) | Found::Tail(text) => text.len(),
            Found::Line(line) => line.text().as_bytes().len(),
            _ => 0,
        }).sum();
        prop_assert_eq!(there, told);
        // Every gap between kept records is said, unless the next one looks like a new crash.
        let kept_indexes: Vec<_> = lost.iter().take(log.len()).enumerate().filter(|(_, lost)| !**lost).map(|(at, _)| at).collect();
        let gaps: usize = kept_indexes.first().copied().unwrap_or(0)
            + kept_indexes.windows(2).map(|pair| pair[1] - pair[0] - 1).sum::<usize>();
        let said: usize = found.iter().map(|item| match item { Found::Missing(count) => usize::from(*count), _ => 0 }).sum();
        prop_assert_eq!(gaps, said);
    }

    #[test]
    fn groups_count_every_cpu_and_keep_to_the_limit(
        places in prop::collection::vec(place(), 0..700), limit in 1u32..40,
    ) {
        let counted: Vec<_> = places.iter().map(|place| (*place, 1)).collect();
        let lines = groups(&counted, limit);
        let total: u32 = lines.iter().map(|line| match line {
            Line::Group { count, .. } | Line::LeftOut(count) => *count,
            _ => 0,
        }).sum();
        prop_assert_eq!(total as usize, places.len());
        prop_assert!(lines.iter().map(|line| line.records()).sum::<u32>() <= limit);
        let counts: Vec<_> = lines.iter().filter_map(|line| match line {
            Line::Group { count, .. } => Some(*count),
            _ => None,
        }).collect();
        prop_assert!(counts.is_sorted_by(|one, next| one >= next));
    }

    #[test]
    fn any_bytes_are_decoded_without_harm(log in prop::collection::vec(any::<[u8; 16]>(), 0..40)) {
        let ours: Vec<_> = log.iter().map(|record| { let mut record = *record; record[2] = 0xf0; record[3] = 0x20; record }).collect();
        decode(&ours);
    }
}
