//! Watchdogs that the running kernel has started. They count on when it has panicked, and the report takes time of theirs:
//! it must not be what makes one reset the machine amid the dump.

use crate::sort;
use anyhow::{Error, anyhow};
use lastwords_core::{ipmi::watchdog::Watchdog, plan::Plan};
use std::{fmt, fs, path::Path};

/// A timer of the running kernel, which ends with it (`drivers/watchdog/softdog.c`).
const SOFTDOG: &str = "Software Watchdog";
/// The BMC's (`drivers/char/ipmi/ipmi_watchdog.c`; today it has no such folder).
const IPMI: &str = "IPMI";
/// Shorter than this a report is none.
const LEAST: u16 = 2;
/// A dump kernel may take this long until somebody in it can stop the BMC's watchdog, in seconds.
const BOOT: u16 = 60;

/// A watchdog that counts, as /sys/class/watchdog shows it (`Documentation/ABI/testing/sysfs-class-watchdog`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    name: String,
    identity: String,
    /// Seconds from the last ping to the reset.
    timeout: u32,
    /// Seconds before it at which it interrupts (hpwdt: with an NMI); 0 for never.
    pretimeout: u32,
}

impl Running {
    /// Seconds that are left when the kernel panics, until it interrupts or resets. Whoever pings it does so in half of its
    /// time, as systemd does, and the panic may come just before that.
    fn left(&self) -> u32 {
        (self.timeout / 2).saturating_sub(self.pretimeout)
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, identity, timeout, pretimeout } = self;
        write!(f, "{name} ({identity}) is running, timeout {timeout} s")?;
        if *pretimeout > 0 { write!(f, ", pretimeout {pretimeout} s") } else { Ok(()) }
    }
}

/// All watchdogs that are running, without those that do not outlive the kernel.
pub fn running(root: &Path) -> Vec<Running> {
    let folder = root.join("sys/class/watchdog");
    let one = |name: String| {
        let text = |file: &str| {
            let text = fs::read_to_string(folder.join(&name).join(file)).ok()?;
            Some(text.trim().chars().filter(|letter| !letter.is_control()).collect::<String>())
        };
        let identity = text("identity").unwrap_or_else(|| "unknown".to_owned());
        let timeout = text("timeout")?.parse().ok()?;
        let pretimeout = text("pretimeout").and_then(|text| text.parse().ok()).unwrap_or(0);
        let counts = text("state")? == "active" && timeout > 0 && identity != SOFTDOG;
        counts.then_some(Running { name, identity, timeout, pretimeout })
    };
    let entries = fs::read_dir(&folder).into_iter().flatten();
    let mut running: Vec<_> =
        entries.filter_map(|entry| one(entry.ok()?.file_name().into_string().ok()?)).collect();
    sort::by(&mut running, |one, other| one.name.cmp(&other.name));
    running
}

/// What is to be done about the one that is first to reset the machine.
#[derive(Debug)]
pub enum Advice {
    /// The report fits.
    None,
    /// It fits with this budget in seconds.
    Cut {
        /// What it is.
        budget: u16,
        /// Because of whom.
        because: String,
    },
    /// It cannot, or the budget was given.
    Warn(Error),
}

/// Compares the plan's budget with what the watchdogs leave. One that was `given` is not changed.
pub fn advice(running: &[Running], plan: &Plan, given: bool) -> Advice {
    let ours = plan.watchdog != Watchdog::Leave;
    let others = running.iter().filter(|one| !(ours && one.identity == IPMI));
    let Some(first) = others.min_by_key(|one| one.left()) else { return Advice::None };
    let left = first.left();
    if u32::from(plan.budget) < left {
        return Advice::None;
    }
    let budget = u16::try_from(left.saturating_sub(1)).unwrap_or(u16::MAX);
    if budget >= LEAST && !given {
        return Advice::Cut { budget, because: first.to_string() };
    }
    let hint = if budget >= LEAST {
        format!("--budget {budget}, or a longer timeout of the watchdog")
    } else {
        "give the watchdog a longer timeout, or stop it".to_owned()
    };
    Advice::Warn(anyhow!(
        "{first}: it may reset the machine before the dump is saved, the report takes up to {} s\nhint: {hint}",
        plan.budget
    ))
}

/// Warns when the BMC's watchdog, as the image starts it, is likely to cut off a dump kernel that boots.
pub fn too_short(plan: &Plan) -> Option<Error> {
    match plan.watchdog {
        Watchdog::Start { seconds, .. } if seconds < BOOT => Some(anyhow!(
            "--ipmi-watchdog start={seconds}: the BMC may reset the machine while the dump kernel boots\n\
             hint: start={BOOT} or more; start=300 is usual"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these watchdogs: identity, state, timeout, pretimeout.
    fn machine(watchdogs: &[(&str, &str, &str, Option<&str>)]) -> Vec<Running> {
        let root = tempfile::tempdir().unwrap();
        for (number, (identity, state, timeout, pretimeout)) in watchdogs.iter().enumerate() {
            let folder = root.path().join(format!("sys/class/watchdog/watchdog{number}"));
            fs::create_dir_all(&folder).unwrap();
            let files = [("identity", *identity), ("state", *state), ("timeout", *timeout)];
            for (name, text) in files.into_iter().chain(pretimeout.map(|text| ("pretimeout", text))) {
                fs::write(folder.join(name), format!("{text}\n")).unwrap();
            }
        }
        running(root.path())
    }

    #[test]
    fn only_those_that_outlive_the_kernel_count() {
        assert_eq!(running(Path::new("/nonexistent")), []);
        let found = machine(&[
            ("iTCO_wdt", "inactive", "30", None),
            ("Software Watchdog", "active", "10", Some("0")),
            ("HPE iLO2+ HW Watchdog Timer", "active", "30", Some("9")),
            ("i6300ESB timer", "active", "unknown", None),
        ]);
        let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["watchdog2 (HPE iLO2+ HW Watchdog Timer) is running, timeout 30 s, pretimeout 9 s"]
        );
    }

    #[test]
    fn the_budget_ends_before_the_first_watchdog_does() {
        const STOP: &str = "lastwords.ipmi_watchdog=stop";
        let [wide, narrow, tiny, ipmi] = [
            ("iTCO_wdt", "active", "600", None),
            ("HPE iLO2+ HW Watchdog Timer", "active", "30", Some("9")),
            ("iTCO_wdt", "active", "4", None),
            ("IPMI", "active", "10", None),
        ];
        for (watchdogs, line, expected) in [
            (&[][..], "", "none"),
            (&[wide], "", "none"),
            // 30 / 2 - 9 = 6 seconds are left.
            (&[wide, narrow], "", "cut 5"),
            (&[narrow], "lastwords.budget=5", "none"),
            (&[narrow], "lastwords.budget=6", "--budget 5"),
            (&[narrow, tiny], "", "longer timeout"),
            (&[ipmi], "", "cut 4"),
            (&[ipmi], STOP, "none"),
            (&[ipmi], "lastwords.ipmi_watchdog=start=300", "none"),
            (&[ipmi, narrow], STOP, "cut 5"),
        ] {
            let text = match advice(&machine(watchdogs), &Plan::new("", line), line.contains("budget")) {
                Advice::None => "none".to_owned(),
                Advice::Cut { budget, because } => {
                    assert!(because.contains("is running"), "{because}");
                    format!("cut {budget}")
                }
                Advice::Warn(error) => error.to_string(),
            };
            assert!(text.contains(expected), "{watchdogs:?} {line}: {text}");
        }
    }

    #[test]
    fn a_countdown_shorter_than_a_boot_is_warned_of() {
        for (value, is_warned_of) in
            [("start=59", true), ("start=60", false), ("start=10,none", true), ("stop", false)]
        {
            let line = format!("lastwords.ipmi_watchdog={value}");
            assert_eq!(too_short(&Plan::new("", &line)).is_some(), is_warned_of, "{value}");
        }
        assert!(too_short(&Plan::default()).is_none());
    }
}
