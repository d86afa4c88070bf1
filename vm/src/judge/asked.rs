//! What lastwords is asked to do, and whether it did that and nothing else.
//!
//! One place for both, so that no test looks for what was asked for and forgets what was not.

use crate::judge::outcome::Outcome;
use crate::judge::sel::Record;
use crate::judge::sel_text::Said;
use crate::judge::watchdog;
use crate::judge::{console, sel_text};
use crate::machine::bmc::manners::netfn;
use crate::machine::bmc::recording::Request;
use anyhow::{Context, Result, ensure};

/// What becomes of the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// It is left alone.
    Untouched,
    /// It resets the machine after so many seconds.
    Start(u16),
    /// It stands.
    Stop,
}

/// The words of one crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `--ipmi-watchdog`.
    pub watchdog: Watchdog,
    /// `--ipmi-handle-panic`.
    pub event: bool,
    /// `--output-cpu-ip` to the SEL.
    pub sel: bool,
    /// `--output-cpu-ip` to the console.
    pub console: bool,
}

impl Asked {
    /// Nothing.
    pub const NOTHING: Self =
        Self { watchdog: Watchdog::Untouched, event: false, sel: false, console: false };
    /// Everything, with a countdown of 300 seconds.
    pub const ALL: Self = Self { watchdog: Watchdog::Start(300), event: true, sel: true, console: true };

    /// As options of `lastwords wrap` and `lastwords load`.
    #[must_use]
    pub fn options(self) -> String {
        let option = |(name, value): (&str, String)| format!("--{}{value}", name.replace('_', "-"));
        self.words().map(option).collect::<Vec<_>>().join(" ")
    }

    /// As parameters on the dump kernel's command line.
    #[must_use]
    pub fn parameters(self) -> String {
        let parameter = |(name, value)| format!("lastwords.{name}{value}");
        self.words().map(parameter).collect::<Vec<_>>().join(" ")
    }

    fn words(self) -> impl Iterator<Item = (&'static str, String)> {
        let watchdog = match self.watchdog {
            Watchdog::Untouched => None,
            Watchdog::Start(seconds) => Some(("ipmi_watchdog", format!("=start={seconds}"))),
            Watchdog::Stop => Some(("ipmi_watchdog", "=stop".to_owned())),
        };
        let event = self.event.then(|| ("ipmi_handle_panic", String::new()));
        let cpu_ip = match (self.sel, self.console) {
            (false, false) => None,
            (true, false) => Some("=sel"),
            (false, true) => Some("=console"),
            (true, true) => Some(""),
        };
        let cpu_ip = cpu_ip.map(|value| ("output_cpu_ip", value.to_owned()));
        [watchdog, event, cpu_ip].into_iter().flatten()
    }

    /// Checks the console: without anything asked not a word, else the words' beginning and end, and the CPUs if
    /// they were asked for.
    ///
    /// # Errors
    /// When something is missing, or was not asked for.
    pub fn check_console(self, outcome: &Outcome, panicked: usize) -> Result<()> {
        let said = console::lines(outcome);
        if self == Self::NOTHING {
            ensure!(said.is_empty(), "asked for nothing, but said {said:?}");
            return Ok(());
        }
        ensure!(said.first().is_some_and(|line| line.contains(" panicked")), "no headline: {said:?}");
        ensure!(
            said.last().is_some_and(|line| line.starts_with("starting the dump kernel")),
            "no last line: {said:?}"
        );
        if self.console {
            console::check(outcome, panicked)?;
        } else {
            ensure!(console::cpus(outcome).is_empty(), "CPUs that nobody asked for: {said:?}");
        }
        Ok(())
    }

    /// Checks every request that our own BMC got from the machine's start on, one by one.
    ///
    /// # Errors
    /// When one is missing, wrong, or was not asked for.
    pub fn check_requests(self, outcome: &Outcome, panicked: usize) -> Result<()> {
        self.check_requests_behind(&[], outcome, panicked)
    }

    /// The same, behind requests without data that were made before the panic, by network function and command.
    ///
    /// # Errors
    /// As [`Asked::check_requests`].
    pub fn check_requests_behind(
        self,
        before: &[(u8, u8)],
        outcome: &Outcome,
        panicked: usize,
    ) -> Result<()> {
        const SET_WATCHDOG: (u8, u8) = (netfn::APP, 0x24);
        const RESET_WATCHDOG: (u8, u8) = (netfn::APP, 0x22);
        const PLATFORM_EVENT: (u8, u8) = (netfn::SENSOR, 0x02);
        const GET_SEL_INFO: (u8, u8) = (netfn::STORAGE, 0x40);
        const ADD_SEL_ENTRY: (u8, u8) = (netfn::STORAGE, 0x44);
        let requests = outcome.requests()?;
        let (records, others): (Vec<&Request>, Vec<&Request>) =
            requests.iter().partition(|request| (request.netfn, request.command) == ADD_SEL_ENTRY);
        let others: Vec<_> = others
            .into_iter()
            .map(|request| ((request.netfn, request.command), request.data.clone()))
            .collect();

        let mut expected: Vec<_> = before.iter().map(|request| (*request, vec![])).collect();
        match self.watchdog {
            Watchdog::Untouched => {}
            Watchdog::Start(seconds) => {
                let [low, high] = (seconds * 10).to_le_bytes();
                expected.push((SET_WATCHDOG, vec![0x04, 0x01, 0, 0x10, low, high]));
                expected.push((RESET_WATCHDOG, vec![]));
            }
            Watchdog::Stop => expected.push((SET_WATCHDOG, vec![0x04, 0x00, 0, 0x10, 0x70, 0x17])),
        }
        let records = records.into_iter().map(|request| Record::split(&request.data));
        let records = records.collect::<Result<Vec<_>>>()?.concat();
        let reason = self.check_records(outcome, &records, panicked)?;
        if let Some([first, second, third]) = reason {
            expected.push((PLATFORM_EVENT, vec![0x41, 0x04, 0x20, first, 0x6f, 0xa1, second, third]));
        }
        if self.event || self.sel {
            expected.push((GET_SEL_INFO, vec![]));
        }
        if let Watchdog::Start(_) = self.watchdog {
            expected.push((RESET_WATCHDOG, vec![]));
        }
        ensure!(others == expected, "the BMC was asked {others:x?}, not {expected:x?}");
        Ok(())
    }

    /// Checks the SEL's texts. Returns the first three characters of the reason, when that was asked for.
    fn check_records(
        self,
        outcome: &Outcome,
        records: &[Record],
        panicked: usize,
    ) -> Result<Option<[u8; 3]>> {
        let said = sel_text::said(records)?;
        sel_text::check_end(records)?;
        if self.sel {
            sel_text::check_cpus(outcome, records, panicked)?;
        } else {
            let cpus = (&said.panicked, said.groups.as_slice());
            ensure!(cpus == (&None, &[]), "CPUs in the SEL that nobody asked for: {said:?}");
        }
        if !self.event {
            let why = Said { id: None, crash_id: None, panicked: None, groups: Vec::new(), ..said.clone() };
            ensure!(why == Said::default(), "texts in the SEL that nobody asked for: {said:?}");
            ensure!(self.sel || said == Said::default(), "texts in the SEL that nobody asked for: {said:?}");
            return Ok(None);
        }
        let reason = sel_text::check_reason(outcome, records)?;
        Ok(Some(*reason.as_bytes().first_chunk().context("the reason is too short")?))
    }

    /// Checks what ipmitool finds in the BMC in the dump kernel. `takes_events`: does it know Platform Event?
    ///
    /// # Errors
    /// When something is missing, or was not asked for.
    pub fn check_bmc(self, outcome: &Outcome, panicked: usize, takes_events: bool) -> Result<()> {
        let sel = outcome.sel()?;
        let reason = self.check_records(outcome, &sel, panicked)?;
        let events: Vec<_> = sel.iter().filter(|record| record.kind() == 0x02).collect();
        ensure!(events.len() == usize::from(self.event && takes_events), "events in the SEL: {events:x?}");
        if let (Some([first, second, third]), [Record(event)]) = (reason, &events[..]) {
            // From software, event format 4, OS Stop; sensor-specific, asserted; run-time critical stop.
            let expected = [0x41, 0x00, 0x04, 0x20, first, 0x6f, 0xa1, second, third];
            ensure!(event[7..] == expected, "the event is {event:x?}, not {expected:x?}");
            let shown = outcome.text("sel")?;
            ensure!(shown.contains("Run-time critical stop"), "ipmitool does not show the event: {shown}");
        }
        if self.event && !takes_events {
            let said = console::lines(outcome);
            ensure!(
                said.iter().any(|line| line.starts_with("platform event: the BMC refused with completion code 0xc1")),
                "it is not told that the BMC refused: {said:?}"
            );
        }
        self.check_watchdog(outcome, takes_events)
    }

    /// `shows_countdown`: ipmi_sim keeps the present countdown to itself.
    fn check_watchdog(self, outcome: &Outcome, shows_countdown: bool) -> Result<()> {
        let text = outcome.text("watchdog")?;
        let is = watchdog::Watchdog::parse(text)?;
        let set = (is.user.as_str(), is.action.as_str(), is.initial);
        let right = match self.watchdog {
            // No BMC has a countdown after power-on.
            Watchdog::Untouched => is.initial == 0,
            Watchdog::Start(seconds) => {
                set == ("SMS/OS", "Hard Reset", u32::from(seconds) * 10) && (is.counts() || !shows_countdown)
            }
            Watchdog::Stop => set == ("SMS/OS", "No action", 6000) && (is.present == 0 || !shows_countdown),
        };
        ensure!(right, "the watchdog was asked to be {:?} and is {is:?}", self.watchdog);
        Ok(())
    }
}
