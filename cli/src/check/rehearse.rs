//! `lastwords rehearse`: says the words for a made-up crash through the real BMC, and reads them back.
//!
//! What speaks is core's own sequence, the one that the image runs after a panic. It runs on a simulated machine with a
//! dead kernel in its memory, whose BMC is only a front: each request that is whole goes to the real one.

use crate::{
    arm::options::PlanOptions,
    bmc::{Bmc, Entry, Error, LAST, Request, named_ports},
    read::Reading,
    symbols::build_id::running_build_id,
};
use anyhow::{Context, Result};
use clap::Args;
use lastwords_core::{
    plan::{KcsPorts, Plan, Watchdog},
    say::{Say, Step, ThisCpu},
};
use lastwords_sim::{DeadCpu, DeadKernel, Sim};
use std::{
    cell::RefCell,
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    rc::Rc,
    thread,
    time::Instant,
};

/// Says the last words of a made-up crash through the real BMC, and reads them back
///
/// Nothing crashes, and the watchdog is left alone. The words stay in the event log, marked as a rehearsal. Without
/// options it says what --ipmi-handle-panic and --output-cpu-ip have it say.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Exit status: 0 what was said was read back, 1 not so, 2 wrong usage.")]
pub struct Rehearse {
    /// Send platform events, too: they make the BMC alert people
    #[arg(long)]
    event: bool,

    #[command(flatten)]
    plan: PlanOptions,
}

/// What is said when the options do not say otherwise.
const DEFAULTS: &str = "lastwords.ipmi_handle_panic lastwords.output_cpu_ip";

/// The made-up crash's log. The reason's first word tells that it is one.
const LOG: [&str; 8] = [
    "sysrq: Trigger a crash",
    "Kernel panic - not syncing: rehearsal, nothing has crashed",
    "CPU: 0 PID: 1 Comm: lastwords Not tainted",
    "Call Trace:",
    " <TASK>",
    " sysrq_handle_crash+0x16/0x20",
    " write_sysrq_trigger+0x24/0x40",
    " </TASK>",
];
/// In which functions its CPUs are, and how far into them: the one that panicked; and the others, in the first of these
/// that there is.
const PANICKED: (&[&str], u64) = (&["sysrq_handle_crash"], 0x16);
const IDLE: (&[&str], u64) =
    (&["pv_native_safe_halt", "native_safe_halt", "default_idle", "mwait_idle"], 0xb);
/// With more CPUs the words are the same.
const MOST_CPUS: usize = 1024;

/// Network functions, commands and completion codes that the way to the real BMC must know.
const SENSOR_EVENT: u8 = 0x04;
const PLATFORM_EVENT_MESSAGE: u8 = 0x02;
const STORAGE: u8 = 0x0a;
const ADD_SEL_ENTRY: u8 = 0x44;
const NOT_ALLOWED: u8 = 0xd4;

impl Rehearse {
    /// Does it.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        let parameters = self.plan.parameters();
        let bmc = Bmc::local(root, named_ports(&parameters))?;
        let cpus = thread::available_parallelism().map_or(1, usize::from).min(MOST_CPUS);
        let plan = Plan::new(DEFAULTS, &parameters);
        let wants_sel = plan.handle_panic || plan.cpu_ip.sel;
        let played = play(bmc, plan, &dead_kernel(root, cpus), self.event);

        let mut text = "The console would say:\n".to_owned();
        for line in played.console.trim_start().lines() {
            let _ = writeln!(text, "    {}", line.trim_end());
        }
        let _ = writeln!(text, "\nThe BMC's event log, read back:\n");
        write!(io::stdout(), "{text}").context("standard output")?;

        let mut reading = Reading::new(&played.kept.iter().map(|entry| entry.record).collect(), &played.way);
        reading.name_places_here(root);
        reading.print(false)?;
        Ok(if played.report(wants_sel) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What came of a rehearsal.
#[derive(Debug, Default)]
struct Played {
    /// Through what the BMC was reached.
    way: String,
    /// What went to the console.
    console: String,
    /// How many records the BMC has accepted.
    accepted: usize,
    /// Those that could be read back.
    kept: Vec<Entry>,
    /// Platform events were wanted, and not sent.
    withheld: bool,
    /// The last request that was not answered.
    error: Option<Error>,
}

impl Played {
    /// Says on standard error what went wrong; false when something did. `wants_sel`: there should be records.
    fn report(&self, wants_sel: bool) -> bool {
        let mut fine = true;
        let mut wrong = |text: String| {
            eprintln!("lastwords: {text}");
            fine = false;
        };
        if let Some(error) = &self.error {
            wrong(error.to_string());
        }
        if self.withheld {
            wrong("this BMC takes words only by platform events, which make it alert people: --event sends them".into());
        } else if self.kept.len() < self.accepted {
            wrong(format!(
                "the BMC has accepted {} records and kept {}: lastwords probe --write-test says what it keeps",
                self.accepted,
                self.kept.len()
            ));
        } else if self.kept.is_empty() && wants_sel {
            wrong("the BMC has taken no words: lastwords probe --write-test says what it takes".into());
        }
        fine
    }
}

/// The kernel of this machine, dead of a made-up crash.
fn dead_kernel(root: &Path, cpus: usize) -> DeadKernel {
    let mut kernel = DeadKernel::idle(cpus).with_log(&LOG);
    // Where these cannot be read, others will do.
    let kallsyms = fs::read_to_string(root.join("proc/kallsyms")).unwrap_or_default();
    let place = |(names, into): (&[&str], u64)| {
        let function = names.iter().find_map(|name| address(&kallsyms, name))?;
        let offset = function.checked_sub(address(&kallsyms, "_stext")?)? + into;
        (offset < DeadKernel::IMAGE_LEN).then_some(DeadKernel::STEXT + offset)
    };
    if let (Some(panicked), Some(idle)) = (place(PANICKED), place(IDLE)) {
        let last = kernel.cpus.len() - 1;
        for (number, cpu) in kernel.cpus.iter_mut().enumerate() {
            *cpu = DeadCpu { rip: if number == last { panicked } else { idle }, ..*cpu };
        }
    }
    let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    let build_id = running_build_id(root);
    for (name, value) in [("OSRELEASE", Some(release.trim())), ("BUILD-ID", build_id.as_deref())] {
        // What comes last counts.
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(kernel.vmcoreinfo_end, "{name}={value}");
        }
    }
    kernel
}

/// A symbol's address in /proc/kallsyms. `None` when it is not there or hidden.
fn address(kallsyms: &str, name: &str) -> Option<u64> {
    let line = kallsyms.lines().find(|line| line.split(' ').nth(2) == Some(name))?;
    u64::from_str_radix(line.split(' ').next()?, 16).ok().filter(|address| *address != 0)
}

/// Says the words.
fn play(bmc: Bmc, plan: Plan, kernel: &DeadKernel, event: bool) -> Played {
    let way = bmc.way().to_owned();
    let stage = Rc::new(RefCell::new(Stage { bmc, event, added: Vec::new(), played: Played::default() }));
    let mut sim = Sim::default();
    let front = Rc::clone(&stage);
    sim.bmc.front = Some(Box::new(move |request| front.borrow_mut().answer(request)));
    let mut plan = Plan {
        kcs_ports: KcsPorts::DEFAULT,
        watchdog: Watchdog::Leave,
        tsc_khz: Some(sim.tsc_khz),
        apic_ids: None,
        ..plan
    };
    // The simulated machine's UART.
    plan.set("console", Some("ttyS0")).expect("the plan knows ttyS0");
    let elfcorehdr = kernel.put(&mut sim.memory);
    let last = kernel.cpus.len() as u32 - 1;
    let mut say = Say::new(&mut sim, plan, elfcorehdr, ThisCpu { apic_id: 0, tsc_aux: Some(last) });
    for step in Step::ALL {
        if event || step != Step::Event {
            say.step(&mut sim, step);
        }
    }
    let mut stage = stage.borrow_mut();
    stage.read_back();
    Played { way, console: sim.uart.text(), ..std::mem::take(&mut stage.played) }
}

/// What is behind the simulated BMC.
struct Stage {
    bmc: Bmc,
    event: bool,
    /// Records that were added, with the ids that the BMC has told.
    added: Vec<(u16, [u8; 16])>,
    played: Played,
}

impl Stage {
    /// Has the real BMC answer a request as it comes over the wire; how many microseconds it took.
    fn answer(&mut self, wire: &[u8]) -> Option<(Vec<u8>, u64)> {
        let (&[head, cmd], data) = wire.split_first_chunk()?;
        let request = Request { net_fn: head >> 2, cmd, data };
        let is_event = (request.net_fn, cmd) == (SENSOR_EVENT, PLATFORM_EVENT_MESSAGE);
        let start = Instant::now();
        let answer = if is_event && !self.event {
            self.played.withheld = true;
            vec![NOT_ALLOWED]
        } else {
            match self.bmc.answer(request) {
                Ok(answer) => answer,
                Err(error) => {
                    self.played.error = Some(error);
                    return None;
                }
            }
        };
        let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        match (answer.as_slice(), data) {
            ([0, id0, id1, ..], _) if (request.net_fn, cmd) == (STORAGE, ADD_SEL_ENTRY) => {
                if let Ok(record) = data.try_into() {
                    self.added.push((u16::from_le_bytes([*id0, *id1]), record));
                }
            }
            ([0, ..], [generator, rest @ ..]) if is_event && rest.len() == 7 => {
                let mut record = [0, 0, 2, 0, 0, 0, 0, *generator, 0, 0, 0, 0, 0, 0, 0, 0];
                record[9..].copy_from_slice(rest);
                // Nobody tells its id; it is the last one now.
                self.look(LAST, &record);
            }
            _ => {}
        }
        Some(([&[head | 4, cmd], answer.as_slice()].concat(), took))
    }

    /// Looks for a record that was accepted.
    fn look(&mut self, id: u16, record: &[u8; 16]) {
        self.played.accepted += 1;
        // A BMC that is slow to write is waited for once.
        let patience = self.played.kept.len() + 1 == self.played.accepted;
        match self.bmc.find_sel_entry(record, id, patience) {
            Ok(found) => self.played.kept.extend(found),
            Err(error) => self.played.error = Some(error),
        }
    }

    fn read_back(&mut self) {
        for (id, record) in std::mem::take(&mut self.added) {
            self.look(id, &record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::Fake;
    use lastwords_core::sel::{Decoded, Decoder, Line};

    fn played(fake: Fake, parameters: &str, event: bool) -> (Played, Fake) {
        let (bmc, fake) = fake.start();
        let kernel = DeadKernel::idle(4).with_log(&LOG);
        let played = play(bmc, Plan::new(DEFAULTS, parameters), &kernel, event);
        let fake = fake.lock().unwrap().clone();
        (played, fake)
    }

    /// The reason, as it is decoded from what was read back.
    fn reason(played: &Played) -> String {
        let mut reason = String::new();
        let mut found = |decoded: Decoded| {
            if let Decoded::Line(Line::Reason(text)) = decoded {
                reason = String::from_utf8(text.to_vec()).unwrap();
            }
        };
        let mut decoder = Decoder::default();
        played.kept.iter().for_each(|entry| decoder.push(&entry.record, &mut found));
        decoder.finish(&mut found);
        reason
    }

    fn commands(fake: &Fake) -> Vec<(u8, u8)> {
        let mut commands: Vec<_> = fake.asked.iter().map(|(net_fn, cmd, _)| (*net_fn, *cmd)).collect();
        commands.dedup();
        commands
    }

    #[test]
    fn the_words_go_out_and_come_back() {
        let (played, fake) = played(Fake::default(), "lastwords.ipmi_watchdog=start=60", false);
        assert!(
            played.console.contains("died on CPU 3: rehearsal, nothing has crashed"),
            "{}",
            played.console
        );
        assert_eq!((played.accepted, played.kept.len()), (fake.sel.len(), fake.sel.len()));
        assert_eq!(reason(&played), "rehearsal, nothing has crashed");
        assert!(played.report(true));
        // No platform event, no watchdog.
        assert_eq!(commands(&fake), [(0x0a, 0x40), (0x0a, 0x44)]);
    }

    #[test]
    fn with_the_event() {
        let (played, fake) = played(Fake::default(), "", true);
        assert_eq!(commands(&fake), [(0x04, 0x02), (0x0a, 0x40), (0x0a, 0x44)]);
        assert_eq!((played.kept.len(), fake.sel[0][2]), (fake.sel.len(), 2));
        assert!(played.report(true));
    }

    #[test]
    fn a_bmc_that_wants_platform_events_gets_them_only_when_people_may_be_alerted() {
        let refuses = Fake { refuses: vec![(0xf0, 0xd4), (0x02, 0xd4)], ..Fake::default() };
        let (quiet, fake) = played(refuses.clone(), "", false);
        assert!(quiet.withheld && !quiet.report(true));
        assert_eq!(fake.sel, [[0; 16]; 0]);

        let (loud, _) = played(refuses, "", true);
        assert!(loud.report(true));
        assert!(reason(&loud).starts_with("rehearsal"), "{}", reason(&loud));
    }

    #[test]
    fn a_bmc_that_forgets_is_found_out() {
        let (played, _) = played(Fake { forgets: vec![0xf0], ..Fake::default() }, "", false);
        assert!(played.accepted > 0 && played.kept.is_empty() && !played.report(true));
    }

    #[test]
    fn the_made_up_crash_is_of_the_running_kernel() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let nothing = dead_kernel(root.path(), 2);
        assert_eq!((nothing.vmcoreinfo_end.as_str(), nothing.cpus.len()), ("", 2));

        write("proc/sys/kernel/osrelease", b"6.1.0-56-amd64\n");
        let symbols = "ffffffff81000000 T _stext\nffffffff81000200 t native_safe_halt\nffffffff81000400 t sysrq_handle_crash\n";
        write("proc/kallsyms", symbols.as_bytes());
        let kernel = dead_kernel(root.path(), 3);
        assert_eq!(kernel.vmcoreinfo_end, "OSRELEASE=6.1.0-56-amd64\n");
        let offsets: Vec<_> = kernel.cpus.iter().map(|cpu| cpu.rip - DeadKernel::STEXT).collect();
        assert_eq!(offsets, [0x20b, 0x20b, 0x416]);

        // As it looks to those who may not see.
        write("proc/kallsyms", b"0000000000000000 T _stext\n0000000000000000 t sysrq_handle_crash\n");
        assert_eq!(dead_kernel(root.path(), 3).cpus[2].rip, DeadKernel::idle(3).cpus[2].rip);
    }
}
