//! `lastwords test`: sends the report of a made-up crash through the real BMC, and reads the report back.
//!
//! What reports is core's own sequence, the one that the image runs after a panic, with a report that was not read from
//! a crashed kernel (`made_up`). The machine that it runs on has the real BMC and nothing else (`stand_in`).

mod made_up;
mod stand_in;

use super::tested::Tested;
use crate::{
    arm::{
        held::{self, Seen},
        options::PlanOptions,
    },
    bmc::{BmcError, Connection, Entry, named_interface},
    message,
    read::Reading,
};
use anyhow::{Context, Error as AnyError, Result, anyhow};
use clap::Args;
use lastwords_core::{
    ipmi::{Bmc, message::CompletionCode, watchdog::Watchdog},
    plan::{Plan, Then},
    report::Report,
    sequence::{Sequence, Step, ThisCpu},
};
use stand_in::{Relay, StandIn};
use std::{fmt::Write as _, path::Path, process::ExitCode, thread};

/// Send a test report through the real BMC and read it back
///
/// Nothing crashes, and the watchdog of the BMC (baseboard management controller) is not touched. The test report stays
/// in the event log (SEL, System Event Log), marked as a test. Without reporting options the report has what
/// --ipmi-handle-panic and --output-cpu-ip report.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords test
  lastwords test --event --sel-type event

Exit status:
  0  the test report was read back
  1  failed
  2  wrong usage

Files:
  /dev/ipmi0          the BMC, by the kernel's driver
  /dev/port           the BMC, without the driver
  /var/lib/lastwords  symbols, to name the locations;
                      tested.json has the result, for lastwords status")]
pub struct Test {
    /// Send platform events, too, which make the BMC alert people
    #[arg(long)]
    event: bool,

    #[command(flatten)]
    plan: PlanOptions,
}

/// What is reported when the options do not change it.
const DEFAULTS: &str = "lastwords.ipmi_handle_panic lastwords.output_cpu_ip";

/// With more CPUs the report is the same.
const MOST_CPUS: usize = 1024;

impl Test {
    /// Sends the test report, reads it back and prints it.
    ///
    /// # Errors
    /// When the BMC cannot be asked or standard output fails.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        let parameters = self.plan.parameters();
        let mut bmc = Connection::local(root, named_interface(&parameters)).inspect_err(|error| {
            // Who may not ask the BMC may not write it either.
            let _ = Tested::new(root, Some(message::fact(&error.to_string()).to_owned()), 0).write(root);
        })?;
        let cpus = thread::available_parallelism().map_or(1, usize::from).min(MOST_CPUS);
        let mut plan = Plan::new(DEFAULTS, &parameters);
        // The last line of the report says what is next.
        plan.then = match held::look(root, None) {
            Seen::Held(held) if held.alone => {
                let [embedded, line] = held.lines().unwrap_or_default();
                Plan::new(embedded, line).then.or(Some(Then::Reset))
            }
            _ => None,
        };
        let wants_sel = plan.handle_panic || plan.cpu_ip.sel;
        let tested = test(&mut bmc, &plan, made_up::report(root, cpus as u32), self.event);

        // The verdict comes first, on standard error when it is an error.
        let errors = tested.errors(wants_sel);
        errors.iter().for_each(message::error);
        if wants_sel {
            let error = errors.first().map(|error| message::fact(&error.to_string()).to_owned());
            if let Err(error) = Tested::new(root, error, tested.stored.len()).write(root) {
                message::warning(&error.context("lastwords status will not show the test"));
            }
        }
        let mut text = String::new();
        if errors.is_empty() {
            let _ = writeln!(text, "test report sent and read back: {} SEL records\n", tested.stored.len());
        }
        text.push_str("Console lines of the report:\n");
        for line in tested.console.trim_start().lines() {
            let _ = writeln!(text, "    {}", line.trim_end());
        }
        if !tested.stored.is_empty() {
            let _ = writeln!(text, "\nThe BMC's event log (SEL), read back:\n");
        }
        message::report(text).context("standard output")?;

        if tested.stored.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        let records = tested.stored.iter().map(|entry| entry.record).collect();
        let mut reading = Reading::new(&records, bmc.name());
        reading.name_places_here(root);
        reading.print(false)?;
        Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What came of a test.
#[derive(Debug, Default)]
struct Sent {
    /// What went to the console.
    console: String,
    /// How many records the BMC has accepted.
    accepted: usize,
    /// Those that could be read back.
    stored: Vec<Entry>,
    /// Platform events were wanted, and not sent.
    withheld: bool,
    /// The last platform event was refused.
    event_refused: Option<CompletionCode>,
    /// The last request that was not answered.
    error: Option<BmcError>,
}

impl Sent {
    /// What went wrong. `wants_sel`: there should be records.
    fn errors(&self, wants_sel: bool) -> Vec<AnyError> {
        let mut errors = Vec::new();
        if let Some(error) = &self.error {
            errors.push(anyhow!("{error}"));
        }
        if self.withheld {
            errors.push(anyhow!(
                "the text would go out in platform events, which make the BMC alert people: none was sent\n\
                 hint: lastwords test --event"
            ));
        } else if self.stored.len() < self.accepted {
            errors.push(anyhow!(
                "the BMC has accepted {} records and stored {}\n\
                 hint: lastwords probe --write-test shows which types of record it stores",
                self.accepted,
                self.stored.len()
            ));
        } else if self.stored.is_empty() && wants_sel && self.error.is_none() {
            errors.push(anyhow!(
                "the BMC has accepted no record\n\
                 hint: lastwords probe --write-test shows which types of record it stores"
            ));
        }
        if let Some(code) = self.event_refused {
            errors.push(anyhow!(
                "the BMC refused the platform event, so that it sends no alert at a panic: {code}"
            ));
        }
        errors
    }
}

/// Sends the report through the BMC, with platform events where `event` is set.
fn test(bmc: &mut Connection, plan: &Plan, report: Report, event: bool) -> Sent {
    let mut machine = StandIn::new();
    let timeout = u32::from(plan.ipmi_timeout) * 1000;
    let plan = Plan {
        watchdog: Watchdog::Leave,
        tsc_khz: Some(StandIn::KHZ),
        apic_ids: None,
        cpu_numbers: None,
        cpu_online_mask: None,
        console: StandIn::CONSOLE,
        ..*plan
    };
    let relay = Bmc::new(Relay::new(bmc, event), timeout);
    let mut sequence = Sequence::new(&mut machine, plan, relay, 0, ThisCpu::default());
    sequence.report_this(report);
    for step in Step::ALL {
        if (event || step != Step::Event) && !matches!(step, Step::Crash | Step::Cause | Step::Hypervisor) {
            sequence.step(&mut machine, step);
        }
    }
    let relayed = sequence.into_bmc().into_transport().end();
    Sent { console: machine.console(), ..relayed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::Fake;
    use lastwords_core::{
        report::Line,
        store::sel::{Decoded, Decoder},
    };

    fn tested(fake: Fake, parameters: &str, event: bool) -> (Sent, Fake) {
        let (mut bmc, fake) = fake.start();
        let report = made_up::report(Path::new("/nonexistent"), 4);
        let tested = test(&mut bmc, &Plan::new(DEFAULTS, parameters), report, event);
        let fake = fake.lock().unwrap().clone();
        (tested, fake)
    }

    /// The reason, as it is decoded from what was read back.
    fn reason(tested: &Sent) -> String {
        let mut reason = String::new();
        let mut found = |decoded: Decoded| {
            if let Decoded::Line(Line::Reason(text)) = decoded {
                reason = String::from_utf8(text.to_vec()).unwrap();
            }
        };
        let mut decoder = Decoder::default();
        tested.stored.iter().for_each(|entry| decoder.push(&entry.record, &mut found));
        decoder.finish(&mut found);
        reason
    }

    fn commands(fake: &Fake) -> Vec<(u8, u8)> {
        let mut commands: Vec<_> = fake.asked.iter().map(|(net_fn, cmd, _)| (*net_fn, *cmd)).collect();
        commands.dedup();
        commands
    }

    #[test]
    fn the_report_goes_out_and_comes_back() {
        let (tested, fake) = tested(Fake::default(), "lastwords.ipmi_watchdog=start=60", false);
        assert!(
            tested.console.contains("panicked on CPU 3: test report, nothing has crashed"),
            "{}",
            tested.console
        );
        assert_eq!((tested.accepted, tested.stored.len()), (fake.sel.len(), fake.sel.len()));
        assert_eq!(reason(&tested), "test report, nothing has crashed");
        assert!(tested.errors(true).is_empty());
        // No platform event, no watchdog.
        assert_eq!(commands(&fake), [(0x0a, 0x44), (0x0a, 0x40), (0x0a, 0x44)]);
    }

    #[test]
    fn an_answer_that_is_lost_once_is_no_failure_and_one_that_never_comes_names_the_command() {
        let (once, _) = tested(Fake { silent: 1, ..Fake::default() }, "", false);
        assert!(once.errors(true).is_empty() && once.accepted > 0, "{once:?}");

        let (never, _) = tested(Fake { silent: 100, ..Fake::default() }, "", false);
        let error = never.error.unwrap().to_string();
        assert!(error.contains("Add SEL Entry"), "{error}");
    }

    #[test]
    fn with_the_event() {
        let (tested, fake) = tested(Fake::default(), "", true);
        assert_eq!(commands(&fake), [(0x04, 0x02), (0x0a, 0x44), (0x0a, 0x40), (0x0a, 0x44)]);
        assert_eq!((tested.stored.len(), fake.sel[0][2]), (fake.sel.len(), 2));
        assert!(tested.errors(true).is_empty());
    }

    #[test]
    fn a_bmc_that_wants_platform_events_gets_them_only_when_people_may_be_alerted() {
        let refuses = Fake { refuses: vec![(0xf0, 0xd4), (0x02, 0xd4)], ..Fake::default() };
        let (quiet, fake) = tested(refuses.clone(), "", false);
        assert!(quiet.withheld && !quiet.errors(true).is_empty());
        assert_eq!(fake.sel, [[0; 16]; 0]);

        let (loud, _) = tested(refuses, "", true);
        assert!(loud.errors(true).is_empty());
        assert!(reason(&loud).starts_with("test report"), "{}", reason(&loud));
    }

    #[test]
    fn a_bmc_that_forgets_is_found_out() {
        let (tested, _) = tested(Fake { forgets: vec![0xf0], ..Fake::default() }, "", false);
        assert!(tested.accepted > 0 && tested.stored.is_empty() && !tested.errors(true).is_empty());
    }
}
