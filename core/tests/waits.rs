//! Every wait ends by construction: a loop without a count stands in `budget.rs`, where the clocks and the accesses end
//! it, and else only where the list below says what ends it. A driver waits by `Timer::wait`.

use std::{fs, path::Path};

/// What goes round for as long as something else says.
const ENDLESS: [&str; 8] =
    ["loop", "while", "repeat", "repeat_with", "from_fn", "successors", "cycle", "RangeFrom"];

/// Files in which such a thing stands, how often, and what ends it.
const ALLOWED: [(&str, usize, &str); 16] = [
    ("acpi.rs", 1, "each turn is the next entry of a table, and there are TABLES"),
    ("budget.rs", 2, "the place: the clocks, or the count of accesses that asking them takes"),
    (
        "crash/cause/formats.rs",
        5,
        "four are the compiler's; the other one takes a row of the table away each turn",
    ),
    (
        "crash/cause/pattern.rs",
        7,
        "four are the compiler's; of the others each turn takes a piece of a pattern or a list that is fixed away, or \
         goes on in a text by a byte at least",
    ),
    ("crash/mod.rs", 3, "each turn is the next note, and `Notes` counts them"),
    (
        "crash/notes.rs",
        1,
        "each turn counts a note down, up to IN_ALL, or is the next one of 65,535 segments",
    ),
    ("crash/printk/log_buf.rs", 1, "each turn counts a record, up to MOST"),
    ("crash/printk/mod.rs", 1, "the compiler's: a table of names becomes one of hashes"),
    ("device/vga.rs", 1, "the rest of a line is blank: as long as the row that it is zipped with"),
    ("ipmi/mod.rs", 1, "each turn is a silent, a busy or a garbled answer, and each of them has its number"),
    ("report/groups.rs", 1, "each turn is the next group, and there are GROUPS"),
    ("report/identity.rs", 1, "each turn takes a byte"),
    (
        "sequence/mod.rs",
        5,
        "records of a log: at most LOG_RECORDS; steps to print: each turn is the next one; twice the next of at most \
         MAX_CPUS; the lines of a text, of which each turn takes one away",
    ),
    (
        "sequence/pstore.rs",
        3,
        "records to write: each takes two of a fixed number of operations; records of a log: at most LOG_RECORDS; pieces of a \
         text, whose length has 16 bits in every form of the log",
    ),
    ("store/erst/record.rs", 2, "the compiler's: it puts a header's fields together"),
    ("text.rs", 1, "digits of a number"),
];

/// The words of a file's code, without comments and texts, up to its unit tests.
fn words(text: &str) -> Vec<String> {
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code = product.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    let outside = code.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    // A loop over a range without an end counts, too, and one to an end that nobody has ever seen.
    let mut outside = outside.replace("..=", "..").replace(".. {", " RangeFrom ");
    for number in ["", "u32", "u64", "usize"] {
        outside = outside.replace(&format!("..{number}::MAX"), " RangeFrom ");
        outside = outside.replace(&format!("(0{number}..)."), " RangeFrom ");
    }
    outside.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(str::to_owned).collect()
}

fn look(folder: &Path, inside: &str, found: &mut Vec<(String, usize)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{inside}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            look(&path, &format!("{name}/"), found);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let endless = words(&text).iter().filter(|word| ENDLESS.contains(&word.as_str())).count();
            found.push((name, endless));
        }
    }
}

#[test]
fn what_has_no_count_of_its_own_waits_by_the_timer() {
    let mut found = Vec::new();
    look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    assert!(found.len() > 30, "{found:?}");
    for (name, endless) in found {
        let (allowed, why) = ALLOWED
            .iter()
            .find(|(file, ..)| *file == name)
            .map_or((0, "nothing"), |(_, allowed, why)| (*allowed, *why));
        assert_eq!(
            endless, allowed,
            "core/src/{name}: a loop whose end is not its own count; known is: {why}. \
             A driver waits by Timer::wait (budget.rs)"
        );
    }
}

#[test]
fn every_way_to_go_round_without_a_count_is_seen() {
    for code in [
        "while machine.get(status) & THRE == 0 {}",
        "loop { if machine.get(status) & THRE != 0 { break; } }",
        "for _ in 0.. { if machine.get(status) & THRE != 0 { break; } }",
        "for _ in 0u64.. { if machine.get(status) & THRE != 0 { break; } }",
        "for _ in 0..u64::MAX { if machine.get(status) & THRE != 0 { break; } }",
        "for _ in 0..=u32::MAX { if machine.get(status) & THRE != 0 { break; } }",
        "(0..).any(|_| machine.get(status) & THRE != 0);",
        "core::iter::repeat(()).any(|()| machine.get(status) & THRE != 0);",
        "core::iter::from_fn(|| Some(machine.get(status))).any(|status| status & THRE != 0);",
    ] {
        assert_eq!(words(code).iter().filter(|word| ENDLESS.contains(&word.as_str())).count(), 1, "{code}");
    }
    for code in ["for _ in 0..8 {}", "// while it waits", "text.get(1..).any(is_space)", "say(\"a loop\")"] {
        assert!(!words(code).iter().any(|word| ENDLESS.contains(&word.as_str())), "{code}");
    }
}
