//! `lastwords mark`: the dump kernel's scripts record in the SEL how far the dump has come, and keep the watchdog from
//! cutting it short.
//!
//! It runs where not much else does, and nobody is there to interrupt it: whatever the BMC does, it ends in time.

use crate::{
    arm::options::Usual,
    bmc::{BmcError, Connection, Local, driver_device, named_interface, wait},
    crashes::watchdog,
    message,
    read::why_records,
    sys,
};
use anyhow::{Result, bail};
use clap::{
    ArgGroup, Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use lastwords_core::{
    ipmi::{
        commands::{AddSelEntry, ResetWatchdogTimer, SetWatchdogTimer},
        interface::Interface,
        message::CompletionCode,
        sel_writer::SelType,
        watchdog::Watchdog,
    },
    plan::Plan,
    report::Stage,
};
use std::{
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Record how far the dump came, and restart or stop the watchdog
///
/// For the dump kernel's scripts. Adds a progress record to the event log (SEL, System Event Log) of the BMC (baseboard
/// management controller), through /dev/ipmi0, whose drivers are loaded if need be, else through the BMC's KCS or BT registers:
/// those that are named here or on the kernel's command line, else those that are found. `lastwords read` shows the record with
/// the panic report.
///
/// If the panic report has started the BMC's watchdog, saved stops it, and started restarts its countdown. failed leaves it
/// running: what comes next may hang. The kernel's command line shows whether it was started, or
/// /var/lib/lastwords/watchdog.json.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("what").args(["stage", "ipmi_watchdog"]).required(true).multiple(true))]
#[command(after_long_help = "\
Examples:
  lastwords mark started --ipmi-watchdog start=1800
  lastwords mark --ipmi-watchdog feed
  lastwords mark saved
  lastwords mark failed --why \"no space left on device\"

Exit status:
  0  done
  1  failed
  2  wrong usage

Files:
  /dev/ipmi0     the BMC, by the kernel's driver
  /dev/port      the BMC, without the driver
  /proc/cmdline  lastwords. parameters of the dump kernel
  /var/lib/lastwords/watchdog.json
                 the watchdog that a panic starts")]
pub struct Mark {
    /// Progress to record in the SEL
    #[arg(value_parser = stages())]
    stage: Option<Stage>,

    /// Record why the dump failed, with failed (29 characters)
    ///
    /// Takes up to three records. A longer text is truncated.
    #[arg(long, value_name = "TEXT", requires = "stage")]
    why: Option<String>,

    /// Start the BMC's watchdog, restart its countdown, or stop it
    ///
    /// It wins over what the stage would do. start=SECONDS[,ACTION] starts the watchdog, also one that runs, with 1 to 6553 seconds. ACTION is reset (default),
    /// power-cycle, power-off or none. feed restarts the countdown, stop stops the watchdog. Without it and without a
    /// watchdog of the panic report's, the watchdog is left alone.
    #[arg(long, value_name = "start=SECONDS[,ACTION]|feed|stop", hide_possible_values = true,
        value_parser = Usual { parse: WatchdogRequest::parse, values: &["start=1800", "feed", "stop"] })]
    ipmi_watchdog: Option<WatchdogRequest>,

    #[command(flatten)]
    local: Local,

    /// Give up after so many seconds (1 to 600)
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

fn stages() -> impl TypedValueParser<Value = Stage> {
    let stages = [
        ("started", "the dump has begun"),
        ("saved", "the dump is complete"),
        ("failed", "the dump cannot be saved"),
    ];
    PossibleValuesParser::new(stages.map(|(name, help)| PossibleValue::new(name).help(help))).map(|name| {
        match &*name {
            "started" => Stage::Started,
            "saved" => Stage::Saved,
            _ => Stage::Failed,
        }
    })
}

/// What to do with the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchdogRequest {
    Start(SetWatchdogTimer),
    Restart,
    Stop,
}

impl WatchdogRequest {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "feed" {
            return Ok(Self::Restart);
        }
        match Watchdog::parse(text) {
            Ok(Watchdog::Start { seconds, action }) => Ok(Self::Start(SetWatchdogTimer { seconds, action })),
            Ok(Watchdog::Stop) => Ok(Self::Stop),
            _ => Err(
                "takes start=SECONDS[,ACTION] (1 to 6553; reset, power-cycle, power-off or none), feed or stop",
            ),
        }
    }
}

impl Mark {
    /// Sets the watchdog and adds the record, and gives up when the time is over. In a process of its own: one that
    /// hangs in a driver cannot be ended, not even by a signal, and the dump would wait for it.
    ///
    /// # Errors
    /// When the BMC does not answer in time. Other errors of that process it has printed itself.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        if self.why.is_some() && self.stage != Some(Stage::Failed) {
            bail!("--why is for failed\nhint: lastwords mark failed --why TEXT");
        }
        let time = Duration::from_secs(self.timeout);
        let deadline = Instant::now() + time;
        let work = || match self.work(root, deadline) {
            Ok(()) => 0,
            Err(error) => {
                message::error(&error);
                1
            }
        };
        match sys::in_time(time + GRACE, work)? {
            Some(status) if status.success() => Ok(ExitCode::SUCCESS),
            Some(_) => Ok(ExitCode::FAILURE),
            None => bail!("gave up after {:.1} s: the BMC or its driver hangs", (time + GRACE).as_secs_f32()),
        }
    }

    fn work(&self, root: &Path, deadline: Instant) -> Result<()> {
        // What the first kernel planned holds here too. A line that cannot be read has nothing.
        let line = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
        let plan = Plan::new("", &line);
        let asked = self.local.interface();
        let interface = asked.or_else(|| named_interface(&line));
        let on_smbus = matches!(interface, Some(Interface::Ssif(_)));
        if asked.is_none() || on_smbus {
            // A driver that finds the BMC later must not find us at its registers. Half of the time is for the BMC.
            wait(root, interface, DRIVER.min(Duration::from_secs(self.timeout) / 2));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // The driver reaches the BMC in whichever way it has found; what the line names is for where there is none.
        let interface = asked.or(interface.filter(|_| !driver_device(root).exists()));
        let mut bmc = Connection::local(root, interface)?.within(left);
        // The watchdog first: there may be no time for more.
        let watchdog = self.watchdog(root, &plan, &mut bmc);
        let mark = self.stage.map_or(Ok(()), |stage| add(&mut bmc, stage, plan.sel_type));
        if let (Some(why), Ok(())) = (&self.why, &mark) {
            explain(&mut bmc, why, plan.sel_type);
        }
        match (watchdog, mark) {
            (Err(watchdog), Err(mark)) => {
                let watchdog = watchdog.to_string();
                Err(anyhow::Error::new(mark).context(format!("watchdog: {}; SEL", message::fact(&watchdog))))
            }
            (watchdog, mark) => watchdog.and(mark).map_err(Into::into),
        }
    }
}

impl Mark {
    /// Sets the watchdog as was asked, else as the stage demands where a panic has started it.
    fn watchdog(&self, root: &Path, plan: &Plan, bmc: &mut Connection) -> Result<(), BmcError> {
        let in_dump_kernel = root.join("proc/vmcore").exists();
        if let Some(request) = self.ipmi_watchdog {
            if let WatchdogRequest::Start(timer) = request
                && in_dump_kernel
            {
                // For the next boot, which knows this root file system or another. Best effort.
                let _ = watchdog::also(root, timer);
            }
            return set(bmc, request);
        }
        let started = matches!(plan.watchdog, Watchdog::Start { .. });
        if !(started || in_dump_kernel && watchdog::planned(root).is_some()) {
            return Ok(());
        }
        match self.stage {
            Some(Stage::Saved) => set(bmc, WatchdogRequest::Stop),
            Some(Stage::Started) => match set(bmc, WatchdogRequest::Restart) {
                // The report did not come so far.
                Err(BmcError::NoWatchdog) => Ok(()),
                result => result,
            },
            Some(Stage::Failed) | None => Ok(()),
        }
    }
}

/// So long the kernel's driver is waited for.
const DRIVER: Duration = Duration::from_secs(5);

/// Requests end at the deadline by themselves; so much later it is something else that hangs.
const GRACE: Duration = Duration::from_millis(500);

fn set(bmc: &mut Connection, request: WatchdogRequest) -> Result<(), BmcError> {
    match request {
        WatchdogRequest::Start(timer) => {
            bmc.start_watchdog(timer)?;
            message::output(format_args!(
                "watchdog: started, {} after {} s",
                timer.action.name(),
                timer.seconds
            ));
        }
        WatchdogRequest::Restart => {
            bmc.send(&ResetWatchdogTimer).map_err(|error| match error.code() {
                Some(CompletionCode::WATCHDOG_UNINITIALIZED) => BmcError::NoWatchdog,
                _ => error,
            })?;
            message::output("watchdog: countdown restarted");
        }
        WatchdogRequest::Stop => {
            bmc.send(&SetWatchdogTimer::STOP)?;
            message::output("watchdog: stopped");
        }
    }
    Ok(())
}

/// Adds a stage to the SEL, beginning with this type of record. Where the answer does not come in time it is sent again:
/// better twice than not at all, and `lastwords read` counts the same stage twice in a row once.
fn add(bmc: &mut Connection, stage: Stage, sel_type: SelType) -> Result<(), BmcError> {
    bmc.add_stage(stage, sel_type)?;
    message::output(format_args!("recorded in the SEL: {}", stage.text()));
    Ok(())
}

/// Adds why the dump failed. Not in system event records: what is unknown there looks like a crash to older readers.
fn explain(bmc: &mut Connection, why: &str, sel_type: SelType) {
    let records = if sel_type == SelType::Oem { why_records(why) } else { Vec::new() };
    let added = records.iter().try_for_each(|record| bmc.send(&AddSelEntry(record)).map(drop));
    match added {
        Ok(()) if !records.is_empty() => message::output(format_args!("recorded in the SEL: {why}")),
        Ok(()) => message::output("the reason is not recorded: it needs OEM records (sel_type)"),
        Err(error) => message::warning(&anyhow::Error::new(error).context("the reason is not recorded")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::Fake;
    use lastwords_core::{
        ipmi::commands::Action,
        store::sel::{Decoded, Decoder, Head},
    };

    /// Puts files below a root.
    type Prepare<'a> = &'a dyn Fn(&Path);

    /// What a decoder makes of the SEL after all three stages, and how many requests it took.
    fn recorded(fake: Fake, sel_type: SelType) -> (Vec<Stage>, usize) {
        let (mut bmc, fake) = fake.start();
        for stage in Stage::ALL {
            add(&mut bmc, stage, sel_type).unwrap();
        }
        let fake = fake.lock().unwrap();
        let mut stages = Vec::new();
        let mut decoder = Decoder::default();
        let mut found = |decoded: Decoded| match decoded {
            Decoded::Mark(stage) => stages.push(stage),
            Decoded::Crash(Head { event: None, source: None, .. }) => {}
            other => panic!("{other:?}"),
        };
        fake.sel.iter().for_each(|record| decoder.push(record, &mut found));
        decoder.finish(&mut found);
        (stages, fake.asked.len())
    }

    #[test]
    fn a_stage_is_read_again_from_whichever_type_of_record_it_is_in() {
        let no_oem = Fake { refuses: vec![(0xf0, 0xcc)], ..Fake::default() };
        let no_add = Fake { refuses: vec![(0xf0, 0xd4), (0x02, 0xd4)], ..Fake::default() };
        for (fake, sel_type, requests) in [
            (Fake::default(), SelType::Oem, 3),
            (Fake::default(), SelType::System, 5 + 5 + 5),
            (Fake::default(), SelType::Event, 5 + 5 + 5),
            (no_oem, SelType::Oem, 3 + 5 + 5 + 5),
            (no_add, SelType::Oem, 3 + 3 + 5 + 5 + 5),
        ] {
            let (stages, asked) = recorded(fake, sel_type);
            assert_eq!(stages, Stage::ALL);
            assert_eq!(asked, requests, "{sel_type}");
        }
    }

    #[test]
    fn a_full_sel_is_not_asked_twice() {
        let (mut bmc, fake) = Fake { refuses: vec![(0xf0, 0xc4)], ..Fake::default() }.start();
        assert_eq!(
            add(&mut bmc, Stage::Saved, SelType::Oem).unwrap_err().code(),
            Some(CompletionCode::OUT_OF_SPACE)
        );
        assert_eq!(fake.lock().unwrap().asked.len(), 1);
    }

    #[test]
    fn the_watchdog() {
        for (text, timer) in [
            ("feed", WatchdogRequest::Restart),
            ("stop", WatchdogRequest::Stop),
            ("start=1800", WatchdogRequest::Start(SetWatchdogTimer { seconds: 1800, action: Action::Reset })),
            (
                "start=6553,none",
                WatchdogRequest::Start(SetWatchdogTimer { seconds: 6553, action: Action::None }),
            ),
        ] {
            assert_eq!(WatchdogRequest::parse(text), Ok(timer));
        }
        for bad in ["", "start", "start=0", "start=6554", "start=60,explode", "Feed"] {
            assert!(WatchdogRequest::parse(bad).is_err(), "{bad}");
        }

        let (mut bmc, fake) = Fake::default().start();
        let never = set(&mut bmc, WatchdogRequest::Restart).unwrap_err().to_string();
        assert!(never.contains("start="), "{never}");
        set(&mut bmc, WatchdogRequest::Start(SetWatchdogTimer { seconds: 1800, action: Action::PowerCycle }))
            .unwrap();
        set(&mut bmc, WatchdogRequest::Restart).unwrap();
        set(&mut bmc, WatchdogRequest::Stop).unwrap();
        let asked = fake.lock().unwrap().asked.clone();
        let start = vec![4, 3, 0, 0x10, 0x50, 0x46];
        let stop = vec![4, 0, 0, 0x10, 0x70, 0x17];
        let restart = (6, 0x22, Vec::new());
        assert_eq!(asked, [restart.clone(), (6, 0x24, start), restart.clone(), restart, (6, 0x24, stop)]);
    }

    fn mark(stage: Option<Stage>) -> Mark {
        Mark { stage, why: None, ipmi_watchdog: None, local: Local::default(), timeout: 10 }
    }

    #[test]
    fn a_watchdog_that_the_plan_has_started_is_stopped_at_saved_and_restarted_at_started() {
        const START: &str = "lastwords.ipmi_watchdog=start=300";
        let (restart, stop) = ((6, 0x22, Vec::new()), (6, 0x24, vec![4, 0, 0, 0x10, 0x70, 0x17]));
        let record = |root: &Path| {
            fs::create_dir_all(root.join("proc")).unwrap();
            watchdog::record(root, &Plan::new("", START)).unwrap();
        };
        let in_dump_kernel = |root: &Path| {
            record(root);
            fs::write(root.join("proc/vmcore"), "").unwrap();
        };
        let nothing = |_: &Path| {};
        let prepare: [(&str, Prepare, bool); 4] = [
            ("", &nothing, false),
            (START, &nothing, true),
            ("", &record, false),
            ("", &in_dump_kernel, true),
        ];
        for (line, prepare, started) in prepare {
            for (stage, expected) in [
                (Some(Stage::Saved), vec![stop.clone()]),
                (Some(Stage::Started), vec![restart.clone()]),
                (Some(Stage::Failed), vec![]),
                (None, vec![]),
            ] {
                let root = tempfile::tempdir().unwrap();
                prepare(root.path());
                let (mut bmc, fake) =
                    Fake { timer: [4, 1, 0, 0, 0xb8, 0xb, 0, 0], ..Fake::default() }.start();
                mark(stage).watchdog(root.path(), &Plan::new("", line), &mut bmc).unwrap();
                let expected = if started { expected } else { vec![] };
                assert_eq!(fake.lock().unwrap().asked, expected, "{line} {stage:?}");
            }
        }
        // What is asked for wins, and is known to the next boot.
        let root = tempfile::tempdir().unwrap();
        in_dump_kernel(root.path());
        let (mut bmc, fake) = Fake::default().start();
        let timer = SetWatchdogTimer { seconds: 1800, action: Action::Reset };
        let asks = Mark { ipmi_watchdog: Some(WatchdogRequest::Start(timer)), ..mark(Some(Stage::Saved)) };
        asks.watchdog(root.path(), &Plan::new("", START), &mut bmc).unwrap();
        assert_eq!(fake.lock().unwrap().asked[0].2, [4, 1, 0, 0x10, 0x50, 0x46]);
        assert_eq!(watchdog::planned(root.path()).unwrap().countdown, 1800);
        // A report that did not come so far has started none.
        let (mut bmc, _) = Fake::default().start();
        mark(Some(Stage::Started)).watchdog(root.path(), &Plan::new("", START), &mut bmc).unwrap();
    }

    #[test]
    fn why_a_dump_failed_comes_behind_its_mark_in_records_that_older_readers_skip() {
        let (mut bmc, fake) = Fake::default().start();
        add(&mut bmc, Stage::Failed, SelType::Oem).unwrap();
        explain(&mut bmc, "no space left on device", SelType::Oem);
        explain(&mut bmc, "not in these", SelType::System);
        let sel = fake.lock().unwrap().sel.clone();
        assert_eq!(sel.len(), 1 + 3);
        let mut found = Vec::new();
        let mut decoder = Decoder::default();
        let mut keep = |decoded: Decoded| match decoded {
            Decoded::Crash(Head { event: None, source: None, records: 1, .. }) => {}
            other => found.push(format!("{other:?}")),
        };
        for record in &sel {
            decoder.push(record, &mut keep);
        }
        decoder.finish(&mut keep);
        assert_eq!(found, ["Mark(Failed)"]);
        let why = Mark { why: Some("x".to_owned()), ..mark(Some(Stage::Saved)) };
        assert!(why.run(Path::new("/nonexistent")).unwrap_err().to_string().contains("failed"));
    }

    #[test]
    fn without_a_bmc_there_is_a_hint() {
        let root = tempfile::tempdir().unwrap();
        let mark = mark(Some(Stage::Saved));
        let none = mark.work(root.path(), Instant::now() + Duration::from_secs(10)).unwrap_err().to_string();
        assert!(none.contains("modprobe -a ipmi_si"), "{none}");

        fs::create_dir(root.path().join("dev")).unwrap();
        fs::write(root.path().join("dev/ipmi0"), "").unwrap();
        let wrong = mark.work(root.path(), Instant::now() + Duration::from_secs(10)).unwrap_err().to_string();
        assert!(wrong.contains("dev/ipmi0: inappropriate ioctl"), "{wrong}");
    }
}
