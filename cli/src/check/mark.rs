//! `lastwords mark`: the dump kernel's scripts tell the SEL how far the dump has come, and keep the watchdog from
//! cutting it short.
//!
//! It runs where not much else does, and nobody is there to interrupt it: whatever the BMC does, it ends in time.

use crate::bmc::{Bmc, Error, Local, named_ports};
use anyhow::{Result, anyhow, bail};
use clap::{ArgGroup, Args};
use lastwords_core::{
    plan::{Action, Plan, SelType, Watchdog},
    sel::{self, EVENT_LEN, Stage},
    text::Text,
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
    #[arg(long, value_name = "start=SECONDS|feed|stop", value_parser = Timer::parse)]
    ipmi_watchdog: Option<Timer>,

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
enum Timer {
    Start { seconds: u16, action: Action },
    Feed,
    Stop,
}

impl Timer {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "feed" {
            return Ok(Self::Feed);
        }
        match Watchdog::parse(text) {
            Ok(Watchdog::Start { seconds, action }) => Ok(Self::Start { seconds, action }),
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
        let mut bmc = Bmc::local(root, ports)?.until(deadline);
        // The watchdog first: there may be no time for more.
        let timer = self.ipmi_watchdog.map_or(Ok(()), |timer| set(&mut bmc, timer));
        let mark = self.stage.map_or(Ok(()), |stage| add(&mut bmc, stage, Plan::new("", &line).sel_type));
        match (timer, mark) {
            (Err(timer), Err(mark)) => Err(anyhow!("watchdog: {timer}; mark: {mark}")),
            (timer, mark) => timer.and(mark).map_err(Into::into),
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

fn set(bmc: &mut Bmc, timer: Timer) -> Result<(), Error> {
    /// Reset Watchdog Timer: it was never set.
    const UNINITIALIZED: u8 = 0x80;
    match timer {
        Timer::Start { seconds, action } => {
            bmc.set_watchdog_timer(seconds, action)?;
            bmc.reset_watchdog_timer()?;
            println!("watchdog: started, {seconds} s to {}", action.name());
        }
        Timer::Feed => {
            bmc.reset_watchdog_timer().map_err(|error| match error.code() {
                Some(UNINITIALIZED) => Error::NoWatchdog,
                _ => error,
            })?;
            println!("watchdog: fed");
        }
        // Setting it stops it; the time is for whoever feeds it next.
        Timer::Stop => {
            bmc.set_watchdog_timer(600, Action::None)?;
            println!("watchdog: stopped");
        }
    }
    Ok(())
}

/// Completion code: the SEL is full, for whatever is added.
const OUT_OF_SPACE: u8 = 0xc4;

/// Adds a mark to the SEL, on the first rung from `rung` on that the BMC does not refuse.
fn add(bmc: &mut Bmc, stage: Stage, rung: SelType) -> Result<(), Error> {
    let (result, next) = match rung {
        SelType::Oem => (bmc.add_sel_entry(&sel::mark(stage)).map(drop), Some(SelType::System)),
        SelType::System => {
            let add = |text| bmc.add_sel_entry(&sel::event_record(text)).map(drop);
            (stream(stage).try_for_each(add), Some(SelType::Event))
        }
        SelType::Event => {
            let send = |[number, two, three]: [u8; EVENT_LEN]| {
                bmc.platform_event(sel::event_message(number, [sel::CRITICAL_STOP_TEXT, two, three]))
            };
            (stream(stage).try_for_each(send), None)
        }
    };
    match (result, next) {
        (Err(error), Some(next)) if error.code().is_some_and(|code| code != OUT_OF_SPACE) => {
            add(bmc, stage, next)
        }
        (Ok(()), _) => {
            println!("SEL: {}", stage.text());
            Ok(())
        }
        (Err(error), _) => Err(error),
    }
}

/// The mark's characters for system events, padded with NUL.
fn stream(stage: Stage) -> impl Iterator<Item = [u8; EVENT_LEN]> {
    let text: Text<16> = sel::stream([stage.text().as_bytes()]);
    (0..).step_by(EVENT_LEN).map_while(move |at| {
        let mut event = [0; EVENT_LEN];
        let rest = text.as_bytes().get(at..).filter(|rest| !rest.is_empty())?;
        event.iter_mut().zip(rest).for_each(|(slot, byte)| *slot = *byte);
        Some(event)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::Fake;
    use lastwords_core::sel::{Decoded, Decoder};

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
        assert_eq!(add(&mut bmc, Stage::Saved, SelType::Oem).unwrap_err().code(), Some(0xc4));
        assert_eq!(fake.lock().unwrap().asked.len(), 1);
    }

    #[test]
    fn the_watchdog() {
        for (text, timer) in [
            ("feed", Timer::Feed),
            ("stop", Timer::Stop),
            ("start=1800", Timer::Start { seconds: 1800, action: Action::Reset }),
            ("start=6553,none", Timer::Start { seconds: 6553, action: Action::None }),
        ] {
            assert_eq!(Timer::parse(text), Ok(timer));
        }
        for bad in ["", "start", "start=0", "start=6554", "start=60,explode", "Feed"] {
            assert!(Timer::parse(bad).is_err(), "{bad}");
        }

        let (mut bmc, fake) = Fake::default().start();
        let never = set(&mut bmc, Timer::Feed).unwrap_err().to_string();
        assert!(never.contains("start="), "{never}");
        set(&mut bmc, Timer::Start { seconds: 1800, action: Action::PowerCycle }).unwrap();
        set(&mut bmc, Timer::Feed).unwrap();
        set(&mut bmc, Timer::Stop).unwrap();
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
