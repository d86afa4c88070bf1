//! The BMC's watchdog as `ipmitool mc watchdog get` tells it.
//!
//! Whether it runs is read off the countdown, as far as a BMC shows that, and not off "Watchdog Timer Is", which the
//! simulators do not keep.

use anyhow::{Context, Result};

/// What a watchdog is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Who uses it: `SMS/OS`.
    pub user: String,
    /// What it does in the end: `Hard Reset`, `No action`.
    pub action: String,
    /// Where it starts to count from, in tenths of a second.
    pub initial: u32,
    /// Where it is, in tenths of a second.
    pub present: u32,
}

impl Watchdog {
    /// Reads what ipmitool printed.
    ///
    /// # Errors
    /// When a line is missing.
    pub fn parse(text: &str) -> Result<Self> {
        let value = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found
                .map(str::trim)
                .with_context(|| format!("ipmitool does not tell the watchdog's {name}: {text}"))
        };
        // `SMS/OS (0x04)`
        let word = |name: &str| {
            Ok::<_, anyhow::Error>(value(name)?.split(" (").next().unwrap_or_default().to_owned())
        };
        // `10.0 sec`
        let tenths = |name: &str| {
            let digits = value(name)?.trim_end_matches(" sec").replace('.', "");
            digits.parse().with_context(|| format!("no time in {name}: {text}"))
        };
        Ok(Self {
            user: word("Watchdog Timer Use")?,
            action: word("Watchdog Timer Action")?,
            initial: tenths("Initial Countdown")?,
            present: tenths("Present Countdown")?,
        })
    }

    /// Is it under way? QEMU's simulator shows 0 for a timer that stands, ipmi_sim nothing of use.
    #[must_use]
    pub fn counts(&self) -> bool {
        0 < self.present && self.present < self.initial
    }

    /// Was it stopped by software of the system, as opposed to never started or still under way? A BMC that nobody has
    /// spoken to shows no use.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.user == "SMS/OS" && self.action == "No action" && !self.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::Watchdog;

    #[test]
    fn ipmitools_lines_are_read() {
        let text = "Watchdog Timer Use:     SMS/OS (0x04)\nWatchdog Timer Is:      Stopped\n\
                    Watchdog Timer Action:  Hard Reset (0x01)\nInitial Countdown:      10.0 sec\n\
                    Present Countdown:      3.1 sec\n";
        let mut watchdog = Watchdog::parse(text).unwrap();
        assert_eq!((watchdog.user.as_str(), watchdog.action.as_str()), ("SMS/OS", "Hard Reset"));
        assert_eq!((watchdog.initial, watchdog.present), (100, 31));
        assert!(watchdog.counts());
        assert!(!watchdog.is_stopped());
        watchdog.present = 0;
        assert!(!watchdog.counts() && !watchdog.is_stopped(), "it would reset");
        watchdog.action = "No action".to_owned();
        assert!(watchdog.is_stopped());
        watchdog.user = "Reserved".to_owned();
        assert!(!watchdog.is_stopped(), "nobody has started it");
        assert!(Watchdog::parse("Watchdog Timer Use: BIOS FRB2 (0x01)").is_err());
    }
}
