//! The BMC's watchdog that a panic report starts, and that somebody must stop: else it resets the server after it is up
//! again.
//!
//! What a plan starts is written down when it is loaded, or wrapped for kdump. So the next boot knows the timer as ours
//! that it finds in the BMC, and `lastwords mark` knows in the dump kernel that there is one.

use crate::{
    arm::file,
    bmc::{BmcError, Connection},
    machine::{boot_id, now},
    symbols::store,
};
use anyhow::{Context, Result};
use lastwords_core::{
    ipmi::{
        commands::{GetWatchdogTimer, SetWatchdogTimer, WatchdogTimer},
        watchdog::Watchdog,
    },
    plan::Plan,
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where it is written down, in `store::FOLDER`.
const FILE: &str = "watchdog.json";
/// The schema's version.
const SCHEMA: u32 = 1;
/// Timers that are kept. More are never started between two boots.
const KEPT: usize = 4;

/// A timer as the image sets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Timer use (IPMI 2.0 table 27-1).
    pub r#use: u8,
    /// Timeout action, as `--ipmi-watchdog` has it.
    pub action: String,
    /// Initial countdown in seconds.
    pub countdown: u16,
    /// When it was planned, in seconds since 1970.
    pub when: i64,
    /// In which boot something else was planned. Until the next one ends, a crash of that boot may have started it.
    replaced: Option<String>,
}

impl Timer {
    fn new(timer: SetWatchdogTimer) -> Self {
        Self {
            r#use: SetWatchdogTimer::USE,
            action: timer.action.name().to_owned(),
            countdown: timer.seconds,
            when: now(),
            replaced: None,
        }
    }

    /// Would the BMC show this timer so? The present countdown and the running bit are not looked at: not every BMC has them.
    #[must_use]
    pub fn is(&self, shown: &WatchdogTimer) -> bool {
        let action = Watchdog::parse(&format!("start={},{}", self.countdown, self.action));
        let Ok(Watchdog::Start { seconds, action }) = action else { return false };
        shown.timer_use == self.r#use
            && shown.action == action as u8
            && shown.initial == seconds.saturating_mul(10)
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.r#use, &*self.action, self.countdown) == (other.r#use, &*other.action, other.countdown)
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    schema: u32,
    /// The newest first.
    timers: Vec<Timer>,
}

/// Writes down which watchdog this plan starts, or that it starts none. To be called before the plan can be carried out: when
/// it is wrapped for kdump, or loaded.
///
/// # Errors
/// When it cannot be written: then nobody will know the timer at the next boot.
pub fn record(root: &Path, plan: &Plan) -> Result<()> {
    let timer = match plan.watchdog {
        Watchdog::Start { seconds, action } => Some(Timer::new(SetWatchdogTimer { seconds, action })),
        Watchdog::Leave | Watchdog::Stop => None,
    };
    let boot = boot_id(root);
    let mut timers = timers(root);
    let mut planned = timers.iter().filter(|one| one.replaced.is_none());
    // As before: nothing is written each time that kdump asks which kernel to load.
    if let (Some(timer), Some(before), None) = (&timer, planned.next(), planned.next())
        && timer.is_same(before)
    {
        return Ok(());
    }
    // What was replaced in an earlier boot can no longer be started.
    timers.retain(|one| one.replaced.is_none() || one.replaced == boot);
    for other in &mut timers {
        other.replaced = other.replaced.take().or_else(|| boot.clone());
    }
    write(root, timers, timer)
}

/// Writes down a timer that is started now, beside what is planned.
///
/// # Errors
/// As [`record`].
pub fn also(root: &Path, timer: SetWatchdogTimer) -> Result<()> {
    write(root, timers(root), Some(Timer::new(timer)))
}

/// The timer that a panic starts, as far as it is written down.
#[must_use]
pub fn planned(root: &Path) -> Option<Timer> {
    timers(root).into_iter().find(|timer| timer.replaced.is_none())
}

/// All that a crash before this boot may have started, the newest first.
#[must_use]
pub fn timers(root: &Path) -> Vec<Timer> {
    let read = || -> Result<Record> { Ok(serde_json::from_slice(&store::read(root, FILE)?)?) };
    read().ok().filter(|record| record.schema == SCHEMA).map(|record| record.timers).unwrap_or_default()
}

/// A timer that was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Timeout action, as `--ipmi-watchdog` has it.
    pub action: String,
    /// Initial countdown in seconds.
    pub countdown: u16,
    /// Seconds that were left, where the BMC shows them.
    pub left: Option<u16>,
}

/// Stops the BMC's timer where it is one that a plan has started, and nobody else's: to be called where there is a new
/// crash. Whether it runs is not asked: QEMU's BMC shows one that runs as one that does not, and to stop one that does not is
/// to leave it as it is.
///
/// # Errors
/// When the BMC does not answer or refuses.
pub fn stop_ours(root: &Path, bmc: &mut Connection) -> Result<Option<Stopped>, BmcError> {
    let timers = timers(root);
    if timers.is_empty() || is_held(root) {
        return Ok(None);
    }
    let shown = bmc.send(&GetWatchdogTimer)?;
    let Some(timer) = timers.iter().find(|timer| timer.is(&shown)) else { return Ok(None) };
    bmc.send(&SetWatchdogTimer::STOP)?;
    Ok(Some(Stopped {
        action: timer.action.clone(),
        countdown: timer.countdown,
        left: shown.present.filter(|left| *left > 0).map(|tenths| tenths.div_ceil(10)),
    }))
}

/// Does somebody else run the BMC's watchdog? Linux's driver: it stops or sets the timer anew when it finds the BMC, and has the
/// same timer use as we (`ipmi_register_watchdog` in `drivers/char/ipmi/ipmi_watchdog.c`); it is a misc device today and has no
/// folder in /sys/class/watchdog. Or FreeIPMI's daemon, which goes through /dev/ipmi0.
fn is_held(root: &Path) -> bool {
    let is = |path: &Path, name: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == name);
    let any = |folder: &str, file: &str, name: &str| {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| is(&entry.path().join(file), name))
    };
    root.join("sys/module/ipmi_watchdog").exists()
        || any("sys/class/watchdog", "identity", "IPMI")
        || any("proc", "comm", "bmc-watchdog")
}

fn path(root: &Path) -> PathBuf {
    root.join(store::FOLDER).join(FILE)
}

fn write(root: &Path, mut timers: Vec<Timer>, first: Option<Timer>) -> Result<()> {
    let path = path(root);
    if let Some(first) = first {
        timers.retain(|other| !other.is_same(&first));
        timers.insert(0, first);
    }
    timers.truncate(KEPT);
    let write = || -> Result<()> {
        if timers.is_empty() {
            // A folder that cannot be written to is no trouble where there is nothing to be removed.
            let removed = fs::symlink_metadata(&path).and_then(|_| fs::remove_file(&path));
            return match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        store::folder(root)?;
        let text = serde_json::to_string_pretty(&Record { schema: SCHEMA, timers })?;
        Ok(file::replace(&path, text.as_bytes(), &fs::Permissions::from_mode(0o644))?)
    };
    write().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::Fake;
    use lastwords_core::ipmi::commands::{Action, Command};
    use proptest::prelude::*;
    use std::os::unix::fs::MetadataExt;

    fn boot(root: &Path, id: &str) {
        fs::create_dir_all(root.join("proc/sys/kernel/random")).unwrap();
        fs::write(root.join("proc/sys/kernel/random/boot_id"), id).unwrap();
    }

    fn plan(root: &Path, value: &str) {
        let line = format!("lastwords.ipmi_watchdog={value}");
        record(root, &Plan::new("", if value.is_empty() { "" } else { &line })).unwrap();
    }

    fn countdowns(root: &Path) -> Vec<u16> {
        timers(root).iter().map(|timer| timer.countdown).collect()
    }

    #[test]
    fn a_plan_with_a_watchdog_is_written_down_and_one_without_removes_it_a_boot_later() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        boot(root, "one");
        plan(root, "");
        plan(root, "stop");
        assert!(planned(root).is_none() && !path(root).exists());
        plan(root, "start=300,power-cycle");
        let timer = planned(root).unwrap();
        assert_eq!((timer.r#use, &*timer.action, timer.countdown), (4, "power-cycle", 300));
        let written = fs::metadata(path(root)).unwrap().ino();
        plan(root, "start=300,power-cycle");
        assert_eq!((countdowns(root), fs::metadata(path(root)).unwrap().ino()), (vec![300], written));

        // The crash that ended boot one started it, whatever is loaded in boot two before somebody looks.
        boot(root, "two");
        plan(root, "start=600");
        assert_eq!((planned(root).unwrap().countdown, countdowns(root)), (600, vec![600, 300]));
        plan(root, "");
        assert_eq!((planned(root), countdowns(root)), (None, vec![600, 300]));
        // Not one that was planned no more in that boot.
        boot(root, "three");
        plan(root, "");
        assert!(!path(root).exists());
    }

    #[test]
    fn what_a_script_starts_is_known_beside_the_plan_and_few_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        boot(root, "one");
        plan(root, "start=120");
        also(root, SetWatchdogTimer { seconds: 1800, action: Action::Reset }).unwrap();
        assert_eq!(countdowns(root), [1800, 120]);
        boot(root, "two");
        for seconds in 1..9 {
            plan(root, &format!("start={seconds}"));
        }
        assert_eq!(countdowns(root), [8, 7, 6, 5]);
        fs::write(path(root), "{\"schema\": 1").unwrap();
        assert_eq!(timers(root), []);
    }

    /// What somebody else's watchdog looks like.
    const OTHERS: [(&str, &str); 3] = [
        ("sys/module/ipmi_watchdog/refcnt", "0\n"),
        ("sys/class/watchdog/watchdog1/identity", "IPMI\n"),
        ("proc/17/comm", "bmc-watchdog\n"),
    ];

    proptest! {
        #[test]
        fn it_is_stopped_only_where_it_is_as_it_was_planned_and_nobody_holds_it(
            first: u8, action in 0..4u8, countdown in prop_oneof![Just(3000u16), Just(1200), any::<u16>()], left: u16,
            planned in proptest::collection::vec((prop_oneof![Just(300u16), Just(120)], 0..4usize), 0..3),
            other in prop_oneof![4 => Just(None), 1 => (0..OTHERS.len()).prop_map(Some)],
        ) {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            boot(root, "one");
            for (seconds, action) in &planned {
                plan(root, &format!("start={seconds},{}", Action::NAMES[*action].0));
            }
            // One of the machine's that is none of these.
            fs::create_dir_all(root.join("proc/1")).unwrap();
            fs::write(root.join("proc/1/comm"), "systemd\n").unwrap();
            if let Some(other) = other {
                let path = root.join(OTHERS[other].0);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, OTHERS[other].1).unwrap();
            }
            let [[c0, c1], [l0, l1]] = [countdown.to_le_bytes(), left.to_le_bytes()];
            let timer = [first, action, 0, 0, c0, c1, l0, l1];
            let (mut bmc, fake) = Fake { timer, ..Fake::default() }.start();
            let stopped = stop_ours(root, &mut bmc).unwrap();
            let sets = fake.lock().unwrap().asked.iter().filter(|(_, cmd, _)| *cmd == 0x24).count();
            let numbers = [1, 3, 2, 0];
            let is_planned = planned.iter().any(|(seconds, planned)| {
                first & 7 == 4 && numbers[*planned] == action && seconds * 10 == countdown
            });
            prop_assert_eq!(stopped.is_some(), is_planned && other.is_none());
            prop_assert_eq!(sets, usize::from(stopped.is_some()));
            if let Some(stopped) = stopped {
                prop_assert_eq!(fake.lock().unwrap().timer[..2].to_vec(), vec![4, 0]);
                prop_assert_eq!(stopped.left.is_some(), left > 0);
            }
        }
    }

    #[test]
    fn the_bmcs_timer_is_ours_only_when_use_action_and_countdown_are() {
        let timer = Timer::new(SetWatchdogTimer { seconds: 600, action: Action::Reset });
        let is = |data: [u8; 8]| timer.is(&GetWatchdogTimer::answer(&data).unwrap());
        // Running or not, logged or not, whatever is left of it.
        for first in [0x04, 0x44, 0x84, 0xc4] {
            assert!(is([first, 1, 0, 0, 0x70, 0x17, 0x11, 0x11]));
            assert!(is([first, 1, 0, 0x10, 0x70, 0x17, 0, 0]));
        }
        for other in [
            [3, 1, 0, 0, 0x70, 0x17, 0, 0],
            [5, 1, 0, 0, 0x70, 0x17, 0, 0],
            [4, 0, 0, 0, 0x70, 0x17, 0, 0],
            [4, 2, 0, 0, 0x70, 0x17, 0, 0],
            [4, 1, 0, 0, 0x71, 0x17, 0, 0],
            [4, 1, 0, 0, 0x70, 0x16, 0, 0],
        ] {
            assert!(!is(other), "{other:?}");
        }
        let odd = Timer { action: "explode".to_owned(), ..timer.clone() };
        assert!(!odd.is(&GetWatchdogTimer::answer(&[4, 1, 0, 0, 0x70, 0x17, 0, 0]).unwrap()));
    }
}
