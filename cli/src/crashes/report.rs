//! `lastwords report`: after a crash the next boot finds it in the BMC's event log, and tells.
//!
//! Once for each crash, and rather twice than never: what is new is decided by the files in `store`, not by the SEL, which may be
//! cleared, and a file counts only when all have been told.

use super::{
    announce::{self, TIME, WATCHDOG_MESSAGE},
    store::{Store, Stored},
    watchdog::{self, Stopped},
};
use crate::{
    arm::busy,
    bmc::{BmcError, Connection, wait},
    journal::{self, Priority},
    message,
    read::{Found, Reading},
};
use anyhow::{Context, Error, Result};
use clap::Args;
use lastwords_core::ipmi::commands::GetDeviceId;
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Where the first run finds a crash that is older than so many seconds, it was before lastwords was installed, or nobody waits
/// for it any more: 7 days.
const OLD: i64 = 7 * 24 * 60 * 60;
/// The kernel's driver takes a moment.
const DRIVER: Duration = Duration::from_secs(10);
/// Between two questions to a BMC that does not answer yet.
const PAUSE: Duration = Duration::from_secs(1);
/// One at a time. That the file exists means nothing.
const LOCK: &str = "run/lastwords/report.lock";

/// Report new crashes after the reboot
///
/// For lastwords-report.service, which udev starts with /dev/ipmi0. Looks for new panic reports in the event log (SEL, System
/// Event Log) of this server's BMC (baseboard management controller). Each new crash gets a file in
/// /var/lib/lastwords/crashes, an entry in the journal, and a line in the message of the day until `lastwords list --seen`.
/// Executables in /etc/lastwords/report.d get the crash as JSON on standard input, 60 seconds each.
///
/// If a new crash has started the BMC's watchdog and nobody has stopped it, it is stopped: only a timer with the timer use, the
/// action and the countdown that were recorded when the dump kernel was loaded, and only without a watchdog driver for the BMC.
///
/// The first run does not report crashes that are older than 7 days. In a dump kernel, and without a BMC, the command does
/// nothing.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Examples:
  systemctl start lastwords-report
  journalctl -p emerg -t lastwords

Exit status:
  0  done
  1  failed
  2  wrong usage

Files:
  /dev/ipmi0                      this machine's BMC
  /etc/lastwords/report.d         executables that get each new crash
  /run/motd.d/lastwords           line of the message of the day
  /var/lib/lastwords/crashes      crashes of this server
  /var/lib/lastwords/watchdog.json
                                  the watchdog that a panic starts")]
pub struct Report {
    /// Wait so many seconds for the BMC (1 to 3600)
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Report {
    /// Reports what is new.
    ///
    /// # Errors
    /// When the BMC does not answer, or a crash cannot be remembered.
    pub fn run(&self, root: &Path) -> Result<()> {
        if root.join("proc/vmcore").exists() {
            return Ok(());
        }
        let lock = busy::open(&root.join(LOCK));
        if lock.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EAGAIN)) {
            message::output("another lastwords report is running");
            return Ok(());
        }
        // Whatever the BMC does: what is not seen yet is shown from now on.
        let shown = announce::motd(root);
        if !wait(root, None, DRIVER) {
            message::output("no /dev/ipmi0: no BMC to read crashes from");
            return shown;
        }
        let mut bmc = Connection::device(&root.join("dev/ipmi0"))?;
        answer(&mut bmc, Instant::now() + Duration::from_secs(self.timeout))?;
        report(root, &mut bmc, TIME).and(shown)
    }
}

/// Waits until the BMC answers: it may be starting, as after a power failure.
fn answer(bmc: &mut Connection, end: Instant) -> Result<(), BmcError> {
    loop {
        match bmc.send(&GetDeviceId) {
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => thread::sleep(PAUSE),
            Ok(_) => return Ok(()),
        }
    }
}

/// Reports the crashes that are new. Who is told has `time` each.
fn report(root: &Path, bmc: &mut Connection, time: Duration) -> Result<()> {
    let store = Store::new(root);
    let reading = Reading::here(root, bmc)?;
    let first = store.is_new();
    let is_old = |found: &Found| first && found.age.is_some_and(|age| age > OLD);
    let mut error = Ok(());
    let mut new: Vec<_> = reading
        .found()
        .filter(|found| !store.knows(&found.key))
        .map(|found| (is_old(&found), Stored::new(found, reading.host())))
        .collect();
    let newest = new.iter_mut().rev().find(|(is_old, _)| !is_old).map(|(_, crash)| crash);
    if let Some(newest) = newest {
        newest.watchdog_stopped = stop_watchdog(root, bmc);
    }
    // Those that were written down, and then the power failed.
    let mut untold: Vec<_> = store.list().into_iter().filter(|crash| !crash.reported).rev().collect();
    for (is_old, mut crash) in new {
        (crash.reported, crash.seen) = (is_old, is_old);
        error = error.and(store.write(&crash));
        if !is_old {
            untold.push(crash);
        }
    }
    error = error.and(store.begin());
    let told = !untold.is_empty();
    for mut crash in untold {
        message::output(crash.line());
        announce::announce(root, &crash, time);
        crash.reported = true;
        // Not what it was in the meantime: somebody may have seen it.
        crash.seen |= store.list().iter().any(|stored| stored.name == crash.name && stored.seen);
        error = error.and(store.write(&crash));
    }
    if !told {
        message::output("no new crash");
    }
    error.and(announce::motd(root)).context("not all is remembered, and will be reported again")
}

/// Stops the watchdog that a crash has started, and says so.
fn stop_watchdog(root: &Path, bmc: &mut Connection) -> Option<Stopped> {
    let stopped = watchdog::stop_ours(root, bmc)
        .map_err(|error| message::warning(&Error::new(error).context("the BMC's watchdog was not stopped")))
        .ok()??;
    let left = stopped.left.map_or_else(String::new, |left| format!(" with {left} s left"));
    let text = format!(
        "stopped the BMC's watchdog{left}: a crash had started it ({} after {} s)",
        stopped.action, stopped.countdown
    );
    message::output(&text);
    let _ = journal::send(root, Priority::Warning, &text, &[("MESSAGE_ID", WATCHDOG_MESSAGE)]);
    Some(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bmc::Fake, machine::now};
    use lastwords_core::{plan::Plan, report::Stage, store::sel};
    use std::fs;
    use std::os::unix::{fs::PermissionsExt, net::UnixDatagram};

    /// A crash's records, so many seconds ago.
    fn crash(age: i64, reason: &str, id: &str) -> Vec<[u8; 16]> {
        let begin = reason.as_bytes();
        let mut event = sel::event_record(std::array::from_fn(|at| begin.get(at).copied().unwrap_or(0)));
        event[3..7].copy_from_slice(&u32::try_from(now() - age).unwrap().to_le_bytes());
        let mut records = vec![event];
        for line in [reason, id].iter().filter(|line| !line.is_empty()) {
            records.extend(sel::records(line.as_bytes(), records.len() as u8 - 1));
        }
        records.push(sel::mark(Stage::Started));
        records
    }

    /// A SEL with these, numbered.
    fn sel(parts: &[Vec<[u8; 16]>]) -> Vec<[u8; 16]> {
        let mut records = parts.concat();
        for (record, id) in records.iter_mut().zip(1u16..) {
            record[..2].copy_from_slice(&id.to_le_bytes());
        }
        records
    }

    /// A machine with a journal, and a script that writes down whom it was told of.
    struct Machine {
        root: tempfile::TempDir,
        journal: UnixDatagram,
    }

    impl Machine {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| root.path().join(name);
            for folder in ["run/systemd/journal", "etc/lastwords/report.d", "proc/sys/kernel/random"] {
                fs::create_dir_all(at(folder)).unwrap();
            }
            fs::write(at("proc/sys/kernel/hostname"), "db04\n").unwrap();
            fs::write(at("proc/sys/kernel/random/boot_id"), "one\n").unwrap();
            let journal = UnixDatagram::bind(at("run/systemd/journal/socket")).unwrap();
            journal.set_nonblocking(true).unwrap();
            let script = format!("#!/bin/sh\necho $LASTWORDS_CRASH_ID >> {}\n", at("told").display());
            fs::write(at("etc/lastwords/report.d/told"), script).unwrap();
            fs::set_permissions(at("etc/lastwords/report.d/told"), fs::Permissions::from_mode(0o755))
                .unwrap();
            Self { root, journal }
        }

        /// Runs it with this SEL, and returns the ids that were told: by the journal, and by the script.
        fn report(&self, records: &[Vec<[u8; 16]>]) -> (Vec<String>, Vec<String>) {
            let (mut bmc, _) = Fake { sel: sel(records), ..Fake::default() }.start();
            self.run(&mut bmc).unwrap();
            self.told()
        }

        fn run(&self, bmc: &mut Connection) -> Result<()> {
            report(self.root.path(), bmc, TIME)
        }

        fn told(&self) -> (Vec<String>, Vec<String>) {
            let mut ids = Vec::new();
            let mut datagram = vec![0; 8192];
            while let Ok(len) = self.journal.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..len]).into_owned();
                ids.extend(
                    text.lines()
                        .filter_map(|line| Some(line.strip_prefix("LASTWORDS_CRASH_ID=")?.to_owned())),
                );
            }
            let told = fs::read_to_string(self.root.path().join("told")).unwrap_or_default();
            let _ = fs::remove_file(self.root.path().join("told"));
            (ids, told.lines().map(str::to_owned).collect())
        }

        fn motd(&self) -> String {
            fs::read_to_string(self.root.path().join("run/motd.d/lastwords")).unwrap_or_default()
        }
    }

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn both(ids: &[&str]) -> (Vec<String>, Vec<String>) {
        let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
        (ids.clone(), ids)
    }

    #[test]
    fn each_crash_is_told_once_whatever_becomes_of_the_sel() {
        let machine = Machine::new();
        let [one, two, three] = [(2 * HOUR, "#06bz7sfyrb"), (HOUR, "#16bz7sfyrb"), (60, "#26bz7sfyrb")]
            .map(|(age, id)| crash(age, "Fatal exception", id));
        let test = crash(30, "test report, nothing has crashed", "#36bz7sfyrb");
        assert_eq!(machine.report(std::slice::from_ref(&test)), both(&[]));
        assert_eq!(machine.motd(), "");
        assert_eq!(machine.report(&[one.clone(), test.clone()]), both(&["06bz7sfyrb"]));
        assert!(machine.motd().contains("db04 crashed at ") && machine.motd().contains("DUMP UNFINISHED"));
        assert_eq!(machine.report(&[one.clone(), test.clone()]), both(&[]));
        assert_eq!(
            machine.report(&[one.clone(), two.clone(), three.clone()]),
            both(&["16bz7sfyrb", "26bz7sfyrb"])
        );
        assert_eq!(machine.report(&[]), both(&[]));
        // Cleared, or its first records dropped: what is in it again is known, what is new is new.
        let four = crash(10, "Fatal exception", "#46bz7sfyrb");
        assert_eq!(machine.report(&[two, four, three]), both(&["46bz7sfyrb"]));
        assert_eq!(Store::new(machine.root.path()).list().len(), 4);
    }

    #[test]
    fn a_crash_without_an_id_is_told_once_by_its_time_and_another_one_too() {
        let machine = Machine::new();
        let [one, two] = [2 * HOUR, HOUR].map(|age| crash(age, "Fatal exception", ""));
        // Somebody's marks alone: the panic report is lost.
        let marks = vec![sel::mark(Stage::Started), sel::mark(Stage::Saved)];
        let count = |records: &[Vec<[u8; 16]>]| machine.report(records).1.len();
        assert_eq!(count(std::slice::from_ref(&one)), 1);
        assert_eq!(count(&[one.clone(), two.clone()]), 1);
        assert_eq!(count(&[one, two.clone()]), 0);
        assert_eq!(count(&[two]), 0);
        assert_eq!((count(std::slice::from_ref(&marks)), count(&[marks])), (1, 0));
    }

    #[test]
    fn the_first_run_keeps_quiet_about_what_is_long_ago() {
        let machine = Machine::new();
        let [ancient, recent] = [(30 * DAY, "#06bz7sfyrb"), (6 * DAY, "#16bz7sfyrb")]
            .map(|(age, id)| crash(age, "Fatal exception", id));
        let (mut bmc, fake) = Fake { sel: sel(std::slice::from_ref(&ancient)), ..Fake::default() }.start();
        machine.run(&mut bmc).unwrap();
        assert_eq!(machine.told(), both(&["06bz7sfyrb"]), "a BMC without a clock");

        let machine = Machine::new();
        fake.lock().unwrap().clock = u32::try_from(now()).ok();
        fake.lock().unwrap().sel = sel(&[ancient.clone(), recent.clone()]);
        machine.run(&mut bmc).unwrap();
        assert_eq!(machine.told(), both(&["16bz7sfyrb"]));
        let seen: Vec<_> = Store::new(machine.root.path()).list().iter().map(|crash| crash.seen).collect();
        assert_eq!(seen, [false, true]);
        // Later one that is old is new: the machine was off for a month.
        fake.lock().unwrap().sel = sel(&[ancient, recent, crash(29 * DAY, "Fatal exception", "#26bz7sfyrb")]);
        machine.run(&mut bmc).unwrap();
        assert_eq!(machine.told(), both(&["26bz7sfyrb"]));
    }

    #[test]
    fn what_was_written_down_and_not_told_is_told() {
        let machine = Machine::new();
        let store = Store::new(machine.root.path());
        assert_eq!(machine.report(&[crash(60, "Fatal exception", "#06bz7sfyrb")]), both(&["06bz7sfyrb"]));
        // The power failed between the two.
        let mut half = store.list().remove(0);
        half.reported = false;
        store.write(&half).unwrap();
        assert_eq!(machine.report(&[]), both(&["06bz7sfyrb"]));
        assert!(store.list()[0].reported);
        // It cannot be written down: told all the same, and again.
        let machine = Machine::new();
        fs::create_dir_all(machine.root.path().join("var/lib/lastwords")).unwrap();
        fs::write(machine.root.path().join("var/lib/lastwords/crashes"), "").unwrap();
        let sel = sel(&[crash(60, "Fatal exception", "#06bz7sfyrb")]);
        let (mut bmc, _) = Fake { sel, ..Fake::default() }.start();
        for _ in 0..2 {
            assert!(machine.run(&mut bmc).is_err());
            assert_eq!(machine.told(), both(&["06bz7sfyrb"]));
        }
    }

    #[test]
    fn the_watchdog_is_stopped_only_where_there_is_a_new_crash() {
        let machine = Machine::new();
        watchdog::record(machine.root.path(), &Plan::new("", "lastwords.ipmi_watchdog=start=300")).unwrap();
        // 300 s, of which QEMU shows some left.
        let timer = [4, 1, 0, 0, 0xb8, 0x0b, 0xd0, 0x07];
        let known = crash(60, "Fatal exception", "#06bz7sfyrb");
        let test = crash(30, "test report, nothing has crashed", "#36bz7sfyrb");
        let (mut bmc, fake) = Fake {
            sel: sel(std::slice::from_ref(&test)),
            timer,
            clock: u32::try_from(now()).ok(),
            ..Fake::default()
        }
        .start();
        let mut parts = vec![test];
        let mut left = |add: Vec<[u8; 16]>| {
            parts.push(add);
            fake.lock().unwrap().sel = sel(&parts);
            fake.lock().unwrap().timer = timer;
            machine.run(&mut bmc).unwrap();
            let stopped = fake.lock().unwrap().timer != timer;
            let list = Store::new(machine.root.path()).list();
            (stopped, list.into_iter().next().and_then(|crash| crash.watchdog_stopped))
        };
        assert_eq!(left(vec![]), (false, None));
        let stopped = Stopped { action: "reset".to_owned(), countdown: 300, left: Some(200) };
        assert_eq!(left(known), (true, Some(stopped.clone())));
        assert!(!left(vec![]).0);
        fs::create_dir_all(machine.root.path().join("sys/module/ipmi_watchdog")).unwrap();
        assert_eq!(left(crash(20, "Fatal exception", "#16bz7sfyrb")), (false, None));
        fs::remove_dir(machine.root.path().join("sys/module/ipmi_watchdog")).unwrap();
        assert_eq!(left(crash(10, "Fatal exception", "#26bz7sfyrb")), (true, Some(stopped)));
    }

    #[test]
    fn in_a_dump_kernel_and_without_a_bmc_nothing_is_done() {
        let machine = Machine::new();
        let root = machine.root.path();
        let report = Report { timeout: 1 };
        report.run(root).unwrap();
        assert!(Store::new(root).is_new());
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::write(root.join("dev/ipmi0"), "").unwrap();
        assert!(report.run(root).is_err());
        fs::write(root.join("proc/vmcore"), "").unwrap();
        report.run(root).unwrap();
        fs::remove_file(root.join("proc/vmcore")).unwrap();
        // One at a time.
        let _lock = busy::open(&root.join(LOCK)).unwrap();
        report.run(root).unwrap();
    }
}
