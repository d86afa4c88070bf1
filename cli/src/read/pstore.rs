//! Records of pstore that a panic has left (`--output-pstore`): in /sys/fs/pstore, or where systemd-pstore has filed them. Their
//! report has the SEL's own lines, so it is read as the SEL is.

use super::{
    Reading,
    crash::{self, Crash, Time},
    log::Log,
};
use crate::visible::visible;
use lastwords_core::store::sel;
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Where they are.
const FOLDERS: [&str; 2] = ["sys/fs/pstore", "var/lib/systemd/pstore"];
/// systemd-pstore files them in folders of folders.
const DEPTH: u32 = 3;
/// What Linux names a record of ERST by, before its id.
const NAME: &str = "dmesg-erst-";
/// What a line of the report begins with.
const OURS: &str = "lastwords: ";
/// Most of a file that is read, and most lines of a report.
const LONGEST: u64 = 1 << 20;
const LINES: usize = 512;
/// Most parts of a log.
const PARTS: u64 = 64;

/// A crash's first record, which has the report.
#[derive(Debug)]
pub struct Kept {
    /// Its file.
    path: PathBuf,
    text: String,
}

impl Kept {
    /// A file's text, where it is one.
    pub fn of(path: &Path, text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text).into_owned();
        let is_ours = text.starts_with("Panic#1 Part1\n") && text.lines().any(|line| line.starts_with(OURS));
        is_ours.then(|| Self { path: path.to_owned(), text })
    }

    /// All that this machine has.
    pub fn find(root: &Path) -> Vec<Self> {
        let mut found = Vec::new();
        for folder in FOLDERS {
            look(&root.join(folder), DEPTH, &mut found);
        }
        found
    }

    /// The crash.
    fn crash(&self) -> Option<Crash> {
        let mut records = Vec::new();
        let lines = self.text.lines().filter_map(|line| line.strip_prefix(OURS)).take(LINES);
        for line in lines {
            let line = line.as_bytes();
            records.extend(sel::records(line, records.len() as u8));
            let is_open = line.len().is_multiple_of(sel::TEXT_LEN) && !line.starts_with(b"#");
            if is_open && !line.starts_with(b"id ") {
                records.push(sel::end(records.len() as u8));
            }
        }
        let log: Log = records.into_iter().collect();
        let mut crash = crash::crashes(&log).pop()?;
        // They are none of the SEL's.
        crash.records = 0;
        crash.first_record = None;
        crash.time = id(&self.path).and_then(|id| u32::try_from(id >> 32).ok()).map(Time::Seconds);
        crash.pstore = Some(self.path.display().to_string());
        Some(crash)
    }
}

/// A record's id, by its file's name.
fn id(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(NAME)?.split('.').next()?.parse().ok()
}

/// The beginning of a file.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn look(folder: &Path, depth: u32, found: &mut Vec<Kept>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if id(&path).is_some() {
            found.extend(read(&path).and_then(|text| Kept::of(&path, &text)));
        } else if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            look(&path, depth - 1, found);
        }
    }
}

impl Reading {
    /// Adds what pstore kept: where it kept it of a crash that the SEL has, too, else the crash.
    pub(super) fn join(&mut self, kept: &[Kept]) {
        for crash in kept.iter().filter_map(Kept::crash) {
            let same = |known: &&mut Crash| known.id.is_some() && known.id == crash.id;
            if let Some(known) = self.crashes.iter_mut().find(same) {
                known.pstore = crash.pstore;
                continue;
            }
            let seconds = |crash: &Crash| match crash.time {
                Some(Time::Seconds(seconds)) => Some(seconds),
                _ => None,
            };
            let own = seconds(&crash);
            let later = |known: &Crash| own.is_some() && seconds(known) > own;
            let at = self.crashes.iter().position(later).unwrap_or(self.crashes.len());
            self.crashes.insert(at, crash);
        }
    }
}

/// The end of the log that was kept with this file: all its records, the oldest lines first, without levels.
pub fn log(path: &Path) -> String {
    let parts = id(path).map_or(1, |_| PARTS);
    let part = |number: u64| {
        let path = id(path).map_or(path.to_owned(), |id| {
            path.with_file_name(format!("{NAME}{}", id.wrapping_add(number - 1)))
        });
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        text.starts_with(&format!("Panic#1 Part{number}\n")).then_some(text)
    };
    let parts: Vec<_> = (1..=parts).map_while(part).collect();
    let mut log = String::new();
    for line in parts.iter().rev().flat_map(|part| part.lines().skip(1)) {
        if line.starts_with(OURS) || line.is_empty() {
            continue;
        }
        let behind = line.strip_prefix('<').and_then(|line| line.split_once('>')).map(|(_, line)| line);
        log += &visible(behind.unwrap_or(line), "\t");
        log.push('\n');
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::Root;

    const ID: u64 = 1_764_000_000 << 32 | 0x8000_0001;
    const FIRST: &str = "Panic#1 Part1\nlastwords: why is that\nlastwords: id 5f3e9a1b\nlastwords: 3=9c2a36\n\
        lastwords: #06bz7sfyrb\nlastwords: ~de47bb07\nlastwords: 3*103f0\n<4>[    1.000000] new\x1b[0m\n\
        <0>[    2.000000] Kernel panic - not syncing: why is that\n\n";

    fn kept(root: &Root) -> Vec<Kept> {
        Kept::find(root.path())
    }

    #[test]
    fn a_report_in_pstore_is_read_as_the_sels_and_joined_to_it_by_its_id() {
        let root = Root::new();
        root.write(&format!("sys/fs/pstore/dmesg-erst-{ID}"), FIRST);
        root.write(&format!("sys/fs/pstore/dmesg-erst-{}", ID + 1), "Panic#1 Part2\n<6>[    0.500000] old\n");
        root.write("sys/fs/pstore/dmesg-erst-5", "Panic#1 Part1\n<0>[    2.000000] Linux's own\n");
        root.write("sys/fs/pstore/dmesg-efi-7", FIRST);
        let kept = kept(&root);
        assert_eq!(kept.len(), 1);
        let mut reading = Reading::default();
        reading.join(&kept);
        let [crash] = &reading.crashes[..] else { panic!("{reading:?}") };
        assert_eq!(crash.reason.as_ref().unwrap().to_string(), "why is that");
        assert_eq!((crash.build_id, crash.groups[0].count), (Some(0x5f3e_9a1b), 3));
        assert_eq!((&crash.time, crash.records, crash.missing), (&Some(Time::Seconds(1_764_000_000)), 0, 0));
        assert!(crash.unparsed.is_empty() && crash.id.is_some(), "{crash:?}");
        // It is one crash, whoever has it.
        let mut known = crash.clone();
        known.pstore = None;
        known.records = 9;
        let mut both = Reading { crashes: vec![known], ..Reading::default() };
        both.join(&kept);
        let path = both.crashes[0].pstore.clone().unwrap();
        assert_eq!((both.crashes.len(), both.crashes[0].records), (1, 9));
        let expected = "[    0.500000] old\n[    1.000000] new?[0m\n[    2.000000] Kernel panic - not syncing: why is that\n";
        assert_eq!(log(Path::new(&path)), expected);
    }

    #[test]
    fn where_systemd_has_filed_them_they_are_found_in_the_order_of_their_times() {
        let root = Root::new();
        for (seconds, crash_id) in [(3000u64, "#16bz7sfyrb"), (1000, "#26bz7sfyrb"), (2000, "#36bz7sfyrb")] {
            let text = FIRST.replace("#06bz7sfyrb", crash_id);
            root.write(
                &format!("var/lib/systemd/pstore/{seconds}/001/dmesg-erst-{}", seconds << 32 | 1),
                text,
            );
        }
        let mut reading = Reading::default();
        reading.join(&kept(&root));
        let times: Vec<_> = reading.crashes.iter().map(|crash| crash.time.clone().unwrap()).collect();
        assert_eq!(times, [1000, 2000, 3000].map(Time::Seconds));
    }
}
