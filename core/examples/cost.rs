//! What the words cost: a whole report of a made-up crash on the simulated machine, for whoever counts
//! instructions.
//!
//! ```sh
//! cargo build --profile purgatory -p lastwords-core --example cost
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='*cost::words*' \
//!     target/purgatory/examples/cost CPUS LOG_KIB RECORDS typical|worst [PARAMETER ...]
//! ```
//!
//! `typical`: all CPUs but one idle in one place, and the end of the log is that of a real crash. `worst`:
//! each CPU in a place of its own, and a log of which each line is as dear as can be, to be read twice. The
//! log's text has LOG_KIB KiB, rounded up to a power of two, and RECORDS lines of equal length, 0 for 64
//! bytes each. BMC and UART let nobody wait: what waiting costs is no matter of instructions, unless a
//! PARAMETER is `answer_us=MICROSECONDS`, the BMC's time for a response. It prints a name and a number a
//! line: what the simulated machine counts.

use lastwords_core::plan::Plan;
use lastwords_core::sequence::{Sequence, Step, ThisCpu};
use lastwords_sim::{CrashedCpu, CrashedKernel, KCS, RingSize, Sim};
use std::env;

/// The log of a real crash.
const LOG: &str = include_str!("../tests/data/log-null-pointer-6.12.txt");

/// What is asked for.
const ALL: &str =
    "console=ttyS0 lastwords.ipmi_watchdog=start=120 lastwords.ipmi_handle_panic lastwords.output_cpu_ip";

/// Who has written a line, and a line that takes as long to read as any. As long as a CPU hangs that is done
/// to other CPUs' lines, too, and the other one's panic makes all of it be read again.
const HANGS: &str = "[C0] watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [made:312]";
const DEAR: [&str; 4] = [
    "BUG: BUG: BUG: BUG: INFO: BUG: BUG ",
    "watchdog: NMI watchdog: CPU 1: rcu: mce: ",
    "list_list_list_list_list_list_ corruptio",
    "{1}[Hardware Error]: {1}[Hardware Error]",
];
const PANIC: &str = "[C1] Kernel panic - not syncing: Fatal exception in interrupt";

fn lines(records: usize, len: usize, worst: bool) -> Vec<String> {
    if !worst {
        let text = |line: &'static str| line.split_once("] ").map_or("", |(_, text)| text);
        let (boot, crash) =
            LOG.split_at(LOG.find("BUG: ").and_then(|at| LOG.get(..at)?.rfind('[')).unwrap_or(0));
        let crash = crash.lines().map(|line| format!("[T312] {}", text(line)));
        let boot = boot.lines().map(text).cycle().map(|line| format!("[T1] {line:len$.len$}"));
        return boot.take(records.saturating_sub(crash.clone().count())).chain(crash).collect();
    }
    let dear = DEAR.iter().cycle().take(records.saturating_sub(2));
    let dear =
        dear.map(|line| format!("[C1] {}", line.repeat(1 + len / line.len()).get(..len).unwrap_or(line)));
    [HANGS.to_owned()].into_iter().chain(dear).chain([PANIC.to_owned()]).collect()
}

/// All that is counted.
#[inline(never)]
fn words(sim: &mut Sim, plan: Plan, elfcorehdr: u64, this_cpu: ThisCpu) {
    let mut sequence = Sequence::new(sim, plan, plan.bmc(), elfcorehdr, this_cpu);
    for step in Step::ALL {
        sequence.step(sim, step);
    }
}

fn main() {
    let args: Vec<_> = env::args().skip(1).collect();
    let [cpus, kib, records, kind, parameters @ ..] = &args[..] else {
        panic!("cost CPUS LOG_KIB RECORDS typical|worst [PARAMETER ...]");
    };
    let [cpus, kib, records] = [cpus, kib, records].map(|text| text.parse::<usize>().expect("a number"));
    let worst = kind == "worst";
    let size = (kib << 10).next_power_of_two();
    let records = if records == 0 { size / 64 } else { records };
    // A block has its descriptor's id before the text and is rounded up to it.
    let len = (size / records).saturating_sub(16).clamp(16, 1000);
    let mut kernel = CrashedKernel::idle(cpus);
    if worst {
        for (rip, cpu) in (CrashedKernel::STEXT + 0x1000..).zip(&mut kernel.cpus) {
            *cpu = CrashedCpu { rip, ..*cpu };
        }
    }
    let bits = |number: usize| number.next_power_of_two().trailing_zeros();
    kernel.ring = RingSize { count_bits: bits(records), size_bits: bits(size) };
    // Not in a burst, but within the time that is read.
    let times = (1..).map(|number| if worst { number * 2_000 } else { number });
    kernel.log = times.zip(lines(records, len, worst)).collect();
    let mut sim = Sim::default();
    let answer = parameters.iter().find_map(|parameter| parameter.strip_prefix("answer_us="));
    let answer_us = answer.map_or(0, |number| number.parse().expect("a number"));
    (sim.bmc.answer_us, sim.uart.byte_us) = (answer_us, 0);
    let elfcorehdr = kernel.put(&mut sim.memory);
    let line = format!("{ALL} {}", parameters.join(" "));
    let mut plan = Plan::new(KCS, &line);
    plan.tsc_khz = Some(sim.tsc_khz);
    let this_cpu = ThisCpu { apic_id: 0, tsc_aux: Some(cpus as u32 - 1) };
    words(&mut sim, plan, elfcorehdr, this_cpu);
    for (name, number) in [
        ("accesses", sim.accesses),
        ("rtc_reads", sim.rtc.reads),
        ("memory_reads", sim.memory.reads.len() as u64),
        ("console_bytes", sim.uart.sent.len() as u64),
        ("sel_records", sim.bmc.sel.len() as u64),
        ("requests", sim.bmc.requests.len() as u64),
        ("microseconds", sim.time_us),
    ] {
        println!("{name} {number}");
    }
}
