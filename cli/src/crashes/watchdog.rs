//! The BMC's watchdog that a panic report starts, and that somebody must stop: else it resets the server after it is up
//! again.
//!
//! What a plan starts is written down when it is loaded, or wrapped for kdump. So the next boot knows the timer as ours
//! that it finds in the BMC, and `lastwords mark` knows in the dump kernel that there is one.

use crate::{
    arm::file,
    machine::{boot_id, now},
    symbols::store,
};
use anyhow::{Context, Result};
use lastwords_core::{
    ipmi::{
        commands::{SetWatchdogTimer, WatchdogTimer},
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
    #[serde(rename = "use")]
    pub timer_use: u8,
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
            timer_use: SetWatchdogTimer::USE,
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
        shown.timer_use == self.timer_use
            && shown.action == action as u8
            && shown.initial == seconds.saturating_mul(10)
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.timer_use, &*self.action, self.countdown) == (other.timer_use, &*other.action, other.countdown)
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
            return match fs::remove_file(&path) {
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
    use lastwords_core::ipmi::commands::{Action, Command, GetWatchdogTimer};

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
        assert_eq!((timer.timer_use, &*timer.action, timer.countdown), (4, "power-cycle", 300));
        plan(root, "start=300,power-cycle");
        assert_eq!(countdowns(root), [300]);

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
