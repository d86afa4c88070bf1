//! `lastwords mark`: the dump kernel's scripts tell the SEL how far the dump has come, and keep the watchdog from
//! cutting it short.
//!
//! It runs where not much else does, and nobody is there to interrupt it: whatever the BMC does, it ends in time.

use crate::bmc::{Connection, Error, Local, named_ports};
use anyhow::{Result, anyhow, bail};
use clap::{ArgGroup, Args};
use lastwords_core::{
    ipmi::{
        commands::{ResetWatchdogTimer, SetWatchdogTimer},
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
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Tells the SEL how far the dump has come, and feeds, lengthens or stops the BMC's watchdog
///
/// For the dump kernel's scripts. The BMC is asked through /dev/ipmi0 when it is there, else through its I/O ports.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("what").args(["stage", "ipmi_watchdog"]).required(true).multiple(true))]
#[command(mut_arg("ipmi_kcs_ports", |option| option.help("\
I/O ports of the BMC's KCS interface [default: lastwords.ipmi_kcs_ports on the kernel's command line, else what the \
machine's tables say, else 0xca2,0xca3]")))]
#[command(after_long_help = "\
Examples:
  lastwords mark started --ipmi-watchdog start=1800
  lastwords mark --ipmi-watchdog feed
  lastwords mark saved --ipmi-watchdog stop

Exit status: 0 done, 1 failed, 2 wrong usage.")]
pub struct Mark {
    /// What to add to the SEL: started, saved or failed
    #[arg(value_parser = stage)]
    stage: Option<Stage>,

    /// Start the BMC's watchdog (also when it runs: with the new time), start its countdown over, or stop it
    ///
    /// `start=SECONDS[,ACTION]`, `feed` or `stop`; ACTION is reset (default), power-cycle, power-off or none.
    #[arg(long, value_name = "start=SECONDS|feed|stop", value_parser = WatchdogRequest::parse)]
    ipmi_watchdog: Option<WatchdogRequest>,

    #[command(flatten)]
    local: Local,

    /// Give up after this time
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

fn stage(name: &str) -> Result<Stage, &'static str> {
    match name {
        "started" => Ok(Stage::Started),
        "saved" => Ok(Stage::Saved),
        "failed" => Ok(Stage::Failed),
        _ => Err("is none of started, saved and failed"),
    }
}

/// What to do with the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchdogRequest {
    Start(SetWatchdogTimer),
    Feed,
    Stop,
}

impl WatchdogRequest {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "feed" {
            return Ok(Self::Feed);
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
    /// Does it, in time.
    pub fn run(&self, root: &Path) -> Result<()> {
        let (mark, root) = (self.clone(), root.to_owned());
        let time = Duration::from_secs(self.timeout);
        let deadline = Instant::now() + time;
        in_time(time + GRACE, move || mark.work(&root, deadline))
    }

    fn work(&self, root: &Path, deadline: Instant) -> Result<()> {
        // What the first kernel planned holds here too. A line that cannot be read says nothing.
        let line = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
        let ports = self.local.ipmi_kcs_ports.or_else(|| named_ports(&line));
        let left = deadline.saturating_duration_since(Instant::now());
        let mut bmc = Connection::local(root, ports)?.within(left);
        // The watchdog first: there may be no time for more.
        let watchdog = self.ipmi_watchdog.map_or(Ok(()), |request| set(&mut bmc, request));
        let mark = self.stage.map_or(Ok(()), |stage| add(&mut bmc, stage, Plan::new("", &line).sel_type));
        match (watchdog, mark) {
            (Err(watchdog), Err(mark)) => Err(anyhow!("watchdog: {watchdog}; SEL: {mark}")),
            (watchdog, mark) => watchdog.and(mark).map_err(Into::into),
        }
    }
}

/// Requests end at the deadline by themselves; so much later it is something else that hangs.
const GRACE: Duration = Duration::from_millis(500);

/// Does something that may hang, a driver that sleeps in open(2) for example, and does not wait longer than this for it.
fn in_time(time: Duration, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let (done, result) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more when it is too late.
        let _ = done.send(work());
    });
    match result.recv_timeout(time) {
        Ok(result) => result,
        Err(_) => bail!("given up after {:.1} s: the BMC or its driver hangs", time.as_secs_f32()),
    }
}

fn set(bmc: &mut Connection, request: WatchdogRequest) -> Result<(), Error> {
    match request {
        WatchdogRequest::Start(timer) => {
            bmc.start_watchdog(timer)?;
            println!("watchdog: started, {} s to {}", timer.seconds, timer.action.name());
        }
        WatchdogRequest::Feed => {
            bmc.send(&ResetWatchdogTimer).map_err(|error| match error.code() {
                Some(CompletionCode::WATCHDOG_UNINITIALIZED) => Error::NoWatchdog,
                _ => error,
            })?;
            println!("watchdog: countdown restarted");
        }
        WatchdogRequest::Stop => {
            bmc.send(&SetWatchdogTimer::STOP)?;
            println!("watchdog: stopped");
        }
    }
    Ok(())
}

/// Adds a stage to the SEL, beginning with this type of record.
fn add(bmc: &mut Connection, stage: Stage, sel_type: SelType) -> Result<(), Error> {
    bmc.add_stage(stage, sel_type)?;
    println!("SEL: {}", stage.text());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::Fake;
    use lastwords_core::{
        ipmi::commands::Action,
        store::sel::{Decoded, Decoder},
    };

    /// What a decoder makes of the SEL after all three marks, and how many requests it took.
    fn marked(fake: Fake, rung: SelType) -> (Vec<Stage>, usize) {
        let (mut bmc, fake) = fake.start();
        for stage in Stage::ALL {
            add(&mut bmc, stage, rung).unwrap();
        }
        let fake = fake.lock().unwrap();
        let mut stages = Vec::new();
        let mut decoder = Decoder::default();
        let mut found = |decoded: Decoded| match decoded {
            Decoded::Mark(stage) => stages.push(stage),
            other => panic!("{other:?}"),
        };
        fake.sel.iter().for_each(|record| decoder.push(record, &mut found));
        decoder.finish(&mut found);
        (stages, fake.asked.len())
    }

    #[test]
    fn a_mark_is_read_again_from_whichever_rung_it_is_on() {
        let no_oem = Fake { refuses: vec![(0xf0, 0xcc)], ..Fake::default() };
        let no_add = Fake { refuses: vec![(0xf0, 0xd4), (0x02, 0xd4)], ..Fake::default() };
        for (fake, rung, requests) in [
            (Fake::default(), SelType::Oem, 3),
            (Fake::default(), SelType::System, 4 + 4 + 5),
            (Fake::default(), SelType::Event, 4 + 4 + 5),
            (no_oem, SelType::Oem, 3 + 4 + 4 + 5),
            (no_add, SelType::Oem, 3 + 3 + 4 + 4 + 5),
        ] {
            let (stages, asked) = marked(fake, rung);
            assert_eq!(stages, Stage::ALL);
            assert_eq!(asked, requests, "{rung}");
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
            ("feed", WatchdogRequest::Feed),
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
        let never = set(&mut bmc, WatchdogRequest::Feed).unwrap_err().to_string();
        assert!(never.contains("start="), "{never}");
        set(&mut bmc, WatchdogRequest::Start(SetWatchdogTimer { seconds: 1800, action: Action::PowerCycle }))
            .unwrap();
        set(&mut bmc, WatchdogRequest::Feed).unwrap();
        set(&mut bmc, WatchdogRequest::Stop).unwrap();
        let asked = fake.lock().unwrap().asked.clone();
        let start = vec![4, 3, 0, 0x10, 0x50, 0x46];
        let stop = vec![4, 0, 0, 0x10, 0x70, 0x17];
        let feed = (6, 0x22, Vec::new());
        assert_eq!(asked, [feed.clone(), (6, 0x24, start), feed.clone(), feed, (6, 0x24, stop)]);
    }

    #[test]
    fn it_ends_in_time() {
        let hangs = in_time(Duration::from_millis(1), || {
            loop {
                thread::park();
            }
        });
        assert!(hangs.unwrap_err().to_string().contains("hangs"));
        in_time(Duration::from_secs(600), || Ok(())).unwrap();
    }

    #[test]
    fn without_a_bmc_it_says_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let mark =
            Mark { stage: Some(Stage::Saved), ipmi_watchdog: None, local: Local::default(), timeout: 10 };
        let none = mark.run(root.path()).unwrap_err().to_string();
        assert!(none.contains("modprobe ipmi_si"), "{none}");

        fs::create_dir(root.path().join("dev")).unwrap();
        fs::write(root.path().join("dev/ipmi0"), "").unwrap();
        let wrong = mark.run(root.path()).unwrap_err().to_string();
        assert!(wrong.contains("dev/ipmi0: Inappropriate ioctl"), "{wrong}");
    }
}
