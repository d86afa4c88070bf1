//! What an earlier version has written is read as it was: `data/decoded-without-id.txt` is what the decoder of 0.1.0's
//! beginnings made of the records in `data/requests-without-id.txt`, whole and with every third record missing. The same
//! of today's records is in `data/decoded.txt`.

use lastwords_core::store::sel::{Decoded, Decoder, Head, text};
use std::fmt::Write as _;
use std::{fs, path::Path};

/// The records of a block's requests.
fn records(block: &str) -> Vec<[u8; 16]> {
    let bytes = |hex: &str| -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    block
        .lines()
        .skip(1)
        .filter_map(|line| {
            let request = bytes(line);
            match *request {
                [0x28, 0x44, ref record @ ..] => record.try_into().ok(),
                [0x10, 0x02, generator, ref event @ ..] => {
                    let mut record = [0, 0, 2, 0, 0, 0, 0, generator, 0, 0, 0, 0, 0, 0, 0, 0];
                    record[9..].copy_from_slice(event);
                    Some(record)
                }
                _ => None,
            }
        })
        .collect()
}

#[test]
fn records_of_an_earlier_version_are_read_as_they_were() {
    check("requests-without-id.txt", "decoded-without-id.txt");
}

#[test]
fn stored_records_are_read_as_they_were() {
    check("requests.txt", "decoded.txt");
}

fn check(requests: &str, decoded: &str) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let stored = fs::read_to_string(data.join(requests)).unwrap();
    let mut all = String::new();
    for block in stored.split("\n\n") {
        let _ = writeln!(all, "{}", block.lines().next().unwrap_or_default());
        let mut found = |decoded: Decoded| {
            let (kind, text) = match decoded {
                Decoded::Crash(Head { event, source, .. }) => {
                    if let Some(event) = event {
                        let _ = writeln!(all, "  event {}", event.letters.escape_ascii());
                    }
                    match source {
                        Some(source) => ("crash", format!("{source:?}").into_bytes()),
                        None => return,
                    }
                }
                Decoded::Line(line) => ("line", text(line).as_bytes().to_vec()),
                Decoded::Truncated(text) => ("truncated", text.to_vec()),
                Decoded::Headless(text) => ("headless", text.to_vec()),
                Decoded::Missing(count) => ("missing", count.to_string().into_bytes()),
                Decoded::Mark(stage) => ("stage", format!("{stage:?}").into_bytes()),
            };
            let _ = writeln!(all, "  {kind} {}", text.escape_ascii());
        };
        let mut decoder = Decoder::default();
        let records = records(block);
        for record in &records {
            decoder.push(record, &mut found);
        }
        decoder.finish(&mut found);
        let mut decoder = Decoder::default();
        for (_, record) in records.iter().enumerate().filter(|(at, _)| at % 3 != 2) {
            decoder.push(record, &mut found);
        }
        decoder.finish(&mut found);
    }
    let decoded = data.join(decoded);
    // What an earlier version wrote stays as it is.
    if requests == "requests.txt" && std::env::var_os("STORE_REQUESTS").is_some() {
        fs::write(&decoded, &all).unwrap();
    }
    assert_eq!(all, fs::read_to_string(decoded).unwrap());
}
