//! Who is told of a crash: the journal, the message of the day, and what the administrator has put in report.d.

use super::store::{Store, Stored};
use crate::{
    arm::file,
    config::Config,
    journal::{self, Priority},
    layout::printable,
    message, sort, sys,
};
use anyhow::{Context, Error, Result, anyhow, bail};
use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The journal's MESSAGE_ID of a crash (`journalctl MESSAGE_ID=...`). It never changes.
pub const CRASH_MESSAGE: &str = "e9f26d4a54da48908d7f120bdee31762";
/// That of a watchdog that was stopped.
pub const WATCHDOG_MESSAGE: &str = "c1d03b73caec4ab7aa083e80ade77f5c";
/// What pam_motd shows at a login. The next boot's folder is empty.
const MOTD: &str = "run/motd.d/lastwords";
/// Executables that get each new crash.
const REPORT_D: &str = "etc/lastwords/report.d";
/// Time that each of them has.
pub const TIME: Duration = Duration::from_secs(60);
/// Between two looks whether one of them has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// What package managers and editors leave beside a file.
const LEFT_BEHIND: [&str; 7] = [".bak", ".orig", ".rpmnew", ".rpmorig", ".rpmsave", ".swp", ".disabled"];

/// Tells all of a crash. What fails is logged, and keeps nobody from being told.
pub fn announce(root: &Path, crash: &Stored, time: Duration) {
    if let Err(error) = journal(root, crash) {
        message::warning(&Error::new(error).context("no entry in the journal"));
    }
    let json = serde_json::to_vec_pretty(crash).unwrap_or_default();
    for path in executables(root) {
        if let Err(error) = run(&path, crash, &json, time) {
            warn(root, &error.context(message::path(&path)));
        }
    }
}

/// Warns where it is read: on standard error, which is the journal's for a unit.
fn warn(root: &Path, error: &Error) {
    message::warning(error);
    // Started by hand, standard error is not the journal's.
    let _ = journal::send(root, Priority::Warning, &format!("lastwords report: {error:#}"), &[]);
}

fn journal(root: &Path, crash: &Stored) -> io::Result<()> {
    let path = format!("/{}/{}/{}", crate::symbols::store::FOLDER, super::store::FOLDER, crash.name);
    let mut fields =
        vec![("MESSAGE_ID", CRASH_MESSAGE), ("LASTWORDS_DUMP", crash.dump()), ("LASTWORDS_FILE", &path)];
    let of_crash = [
        ("LASTWORDS_HOST", crash.host.as_deref()),
        ("LASTWORDS_CRASH_ID", crash.text("id")),
        ("LASTWORDS_SIGNATURE", crash.text("signature")),
        ("LASTWORDS_CLASS", crash.text("class")),
        ("LASTWORDS_REASON", crash.text("reason")),
        ("LASTWORDS_CAUSE", crash.text("cause")),
        ("LASTWORDS_LOCATION", crash.location()),
        ("LASTWORDS_BUILD_ID", crash.text("build_id")),
        ("LASTWORDS_KERNEL", crash.text("release")),
        ("LASTWORDS_VMCORE", crash.text("vmcore")),
    ];
    fields.extend(of_crash.into_iter().filter_map(|(name, value)| Some((name, value?))));
    journal::send(root, Priority::Emergency, &crash.line(), &fields)
}

/// The executables, in the order of their names; with names of letters, digits, `-`, `_` and `.`, as run-parts has it. Where
/// others than root can write to one, or to the folder, it is not run.
fn executables(root: &Path) -> Vec<PathBuf> {
    let folder = root.join(REPORT_D);
    let is_safe = |path: &Path| {
        let Ok(file) = fs::metadata(path) else { return false };
        let owners = [0, sys::effective_user()];
        let safe = owners.contains(&file.uid()) && file.mode() & 0o022 == 0;
        if !safe {
            warn(root, &anyhow!("{}: not run, others than root can write to it", message::path(path)));
        }
        safe
    };
    let counts = |path: &PathBuf| {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
        let letters = name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter));
        let left = name.contains(".dpkg-") || LEFT_BEHIND.iter().any(|end| name.ends_with(end));
        let runs = fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0);
        letters && !left && !name.starts_with('.') && runs
    };
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(counts).collect();
    if paths.is_empty() || !is_safe(&folder) {
        return Vec::new();
    }
    paths.retain(|path| is_safe(path));
    sort::all(&mut paths);
    paths
}

/// Runs one of them, and ends it, with all that it has started, when its time is over.
fn run(path: &Path, crash: &Stored, json: &[u8], time: Duration) -> Result<()> {
    // A file, and no pipe: who does not read it keeps nobody waiting.
    let input = sys::memory_file(c"crash", &[json])?;
    let end = Instant::now() + time;
    let mut child = loop {
        let child = Command::new(path)
            .stdin(Stdio::from(input.try_clone()?))
            .env("LASTWORDS_SUMMARY", crash.line())
            .env("LASTWORDS_CRASH_ID", crash.text("id").unwrap_or_default())
            .process_group(0)
            .spawn();
        match child {
            // Somebody is writing it.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < end => {
                thread::sleep(PAUSE);
            }
            child => break child?,
        }
    };
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("failed: {}", sys::end(status)),
            None if Instant::now() >= end => break,
            None => thread::sleep(PAUSE),
        }
    }
    sys::kill_group(child.id());
    child.wait()?;
    bail!("ended after {} s", time.as_secs_f32())
}

/// Writes the line of the message of the day, or removes it where all crashes have been seen.
pub fn motd(root: &Path) -> Result<()> {
    let path = root.join(MOTD);
    // What is not understood of the configuration keeps nobody from being told.
    let wanted = Config::read(root).map_or(true, |config| config.next_boot.motd);
    let unseen: Vec<_> = Store::new(root).list().into_iter().filter(|crash| !crash.seen).collect();
    let write = || -> Result<()> {
        let Some(newest) = unseen.first().filter(|_| wanted) else {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        };
        let others = match unseen.len() {
            1 => String::new(),
            count => format!(" (and {} more not seen yet)", count - 1),
        };
        let text = printable(&format!("lastwords: {}{others}", newest.line()));
        let text = format!("{text}\n           Show: lastwords list   Done: lastwords list --seen\n");
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        Ok(file::replace(&path, text.as_bytes(), &Permissions::from_mode(0o644))?)
    };
    write().with_context(|| message::path(&path))
}

#[cfg(test)]
mod tests {
    use super::{super::store::tests::crash, *};
    use std::os::unix::net::UnixDatagram;

    fn script(root: &Path, name: &str, text: &str, mode: u32) {
        let path = root.join(REPORT_D).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn all_executables_get_the_crash_whatever_the_others_do() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let out = root.join("out");
        let note = |name: &str| format!("echo {name} >> {}", out.display());
        script(root, "10-fails", &format!("{}; exit 7", note("fails")), 0o755);
        script(root, "20-hangs", &format!("{}; sleep 1000 & sleep 1000", note("hangs")), 0o755);
        script(root, "30-does_not.read", &note("blind"), 0o755);
        let copy = root.join("copy");
        script(
            root,
            "40-reads",
            &format!("cat > {}; echo $LASTWORDS_CRASH_ID >> {}", copy.display(), out.display()),
            0o755,
        );
        for (name, mode) in [
            ("50-no", 0o644),
            ("60-no~", 0o755),
            ("60.dpkg-old", 0o755),
            ("60.bak", 0o755),
            (".60", 0o755),
            ("70-open", 0o777),
        ] {
            script(root, name, &note("never"), mode);
        }
        announce(root, &crash("06bz7sfyrb", 0), Duration::from_millis(300));
        assert_eq!(fs::read_to_string(&out).unwrap(), "fails\nhangs\nblind\n06bz7sfyrb\n");
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&copy).unwrap()).unwrap();
        assert_eq!((&json["id"], &json["schema"]), (&"06bz7sfyrb".into(), &1.into()));
        assert_eq!(json["host"], "db04");
        // Where others can write to the folder they could have put anything there.
        fs::set_permissions(root.join(REPORT_D), Permissions::from_mode(0o777)).unwrap();
        assert!(executables(root).is_empty());
    }

    #[test]
    fn the_journal_gets_the_fields_that_are_known() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/systemd/journal")).unwrap();
        let socket = UnixDatagram::bind(root.path().join("run/systemd/journal/socket")).unwrap();
        announce(root.path(), &crash("06bz7sfyrb", 0), TIME);
        let mut datagram = vec![0; 4096];
        let len = socket.recv(&mut datagram).unwrap();
        let text = String::from_utf8_lossy(&datagram[..len]);
        for line in [
            "PRIORITY=0",
            "SYSLOG_IDENTIFIER=lastwords",
            &format!("MESSAGE_ID={CRASH_MESSAGE}"),
            "LASTWORDS_CRASH_ID=06bz7sfyrb",
            "LASTWORDS_SIGNATURE=de47bb07",
            "LASTWORDS_CLASS=null-pointer",
            "LASTWORDS_REASON=Fatal exception",
            "LASTWORDS_LOCATION=null_pointer+0xa",
            "LASTWORDS_BUILD_ID=eb4fbcd0",
            "LASTWORDS_KERNEL=6.1.0-56-amd64",
            "LASTWORDS_HOST=db04",
            "LASTWORDS_DUMP=saved",
            "LASTWORDS_FILE=/var/lib/lastwords/crashes/20261122T161710Z-06bz7sfyrb.json",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(
            text.contains("MESSAGE=db04 crashed at 2026-11-22 16:17:10 (BMC clock): NULL pointer"),
            "{text}"
        );
    }

    #[test]
    fn the_message_of_the_day_has_a_line_until_all_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let shown = || {
            motd(root).unwrap();
            fs::read_to_string(root.join(MOTD)).unwrap_or_default()
        };
        assert_eq!(shown(), "");
        let store = Store::new(root);
        let (old, new) = (crash("06bz7sfyrb", 0), crash("16bz7sfyrb", 60));
        store.write(&old).unwrap();
        assert!(shown().starts_with("lastwords: db04 crashed at ") && !shown().contains("more not seen"));
        store.write(&new).unwrap();
        assert!(shown().contains("(and 1 more not seen yet)"));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/lastwords.conf"), "[next-boot]\nmotd = false\n").unwrap();
        assert_eq!(shown(), "");
        fs::write(root.join("etc/lastwords.conf"), "nonsense").unwrap();
        assert!(shown().contains("lastwords list --seen"));
        for crash in [old, new] {
            store.write(&crash.as_seen()).unwrap();
        }
        assert_eq!(shown(), "");
    }
}
