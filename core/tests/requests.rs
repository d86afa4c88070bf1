//! Every byte that the BMC gets, against a stored set: what is written by one version stays readable by the next only
//! if nobody changes a record unnoticed. `data/requests.txt` was made before the IPMI code was put in its present
//! order; it changes only where docs/sel-format.md or docs/parameters.md changes too.

use lastwords_core::plan::Plan;
use lastwords_core::sequence::{Sequence, Step, ThisCpu};
use lastwords_sim::{CrashedCpu, CrashedKernel, KCS, Sim};
use std::fmt::Write as _;
use std::{fs, path::Path};

/// The lines of a log that tell of a crash, as many as the simulated ring holds.
fn essence(log: &str) -> Vec<&str> {
    let begins = [
        "BUG:",
        "Oops",
        "CPU: ",
        "RIP: 0010",
        "Call Trace",
        "Kernel panic",
        "kernel BUG",
        "watchdog:",
        "rcu:",
        "INFO:",
        "sysrq:",
        "mce:",
        "NMI",
        "Mem-Info",
        "Out of memory",
        "general protection",
        "traps:",
        "<TASK>",
    ];
    let text = log.lines().filter_map(|line| Some(line.split_once("] ")?.1));
    let lines: Vec<_> = text
        .filter(|line| {
            let line = line.trim_start();
            begins.iter().any(|begin| line.starts_with(begin))
                || line.contains("+0x")
                || line.contains("oom-killer")
        })
        .collect();
    // The ring has 32 records and 2 KiB.
    let mut bytes = 0;
    let mut kept: Vec<_> = lines
        .iter()
        .rev()
        .take_while(|line| {
            bytes += line.len() + 16;
            bytes < 1900
        })
        .take(31)
        .copied()
        .collect();
    kept.reverse();
    kept
}

fn requests(sim: &mut Sim, kernel: &CrashedKernel, line: &str) -> String {
    let elfcorehdr = kernel.put(&mut sim.memory);
    let last = kernel.cpus.len() as u32 - 1;
    let this_cpu = ThisCpu { apic_id: 2 * last, tsc_aux: Some(0x1000 | last) };
    let mut sequence =
        Sequence::new(sim, Plan::new(KCS, line), Plan::new(KCS, line).bmc(), elfcorehdr, this_cpu);
    for step in Step::ALL {
        if step == Step::Checksum && line.contains("DAMAGED") {
            sequence.corrupt(b"initrd");
        }
        sequence.step(sim, step);
    }
    let mut text = String::new();
    for request in &sim.bmc.requests {
        for byte in request {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text
}

const ALL: &str =
    "console=ttyS0 lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.ipmi_watchdog=start=300";

#[test]
fn every_request_is_byte_for_byte_what_it_was() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut logs: Vec<_> = fs::read_dir(&data)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem()?.to_str()?.strip_prefix("log-")?.to_owned();
            Some((name, fs::read_to_string(path).unwrap()))
        })
        .collect();
    logs.sort();
    let mut all = String::new();
    for (name, log) in &logs {
        let kernel = CrashedKernel::idle(4).with_log(&essence(log));
        let _ = write!(all, "{name}\n{}\n", requests(&mut Sim::default(), &kernel, ALL));
    }
    let (_, log) = logs.iter().find(|(name, _)| name == "null-pointer-6.1").unwrap();
    let mut mixed = CrashedKernel::idle(12).with_log(&essence(log));
    mixed.cpus[2].answered = false;
    for cpu in &mut mixed.cpus[4..6] {
        *cpu = CrashedCpu { pid: 77, rip: 0x40_1000, cs: 0x33, answered: true };
    }
    mixed.cpus[6].rip = 0xffff_ffff_c05a_1234;
    mixed.cpus[7].rip = 0xffff_8880_1234_5678;
    mixed.cpus[8].rip = 0x1_2345_6789;
    for line in [
        "lastwords.ipmi_handle_panic",
        "lastwords.output_cpu_ip=sel",
        "lastwords.ipmi_watchdog=stop",
        "lastwords.ipmi_watchdog=start=6553,power-cycle lastwords.apic_ids=0-30/2",
        "lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.sel_records=7",
        "lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.sel_records=1",
        "lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.sel_type=system",
        "lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.sel_type=event",
        "lastwords.ipmi_handle_panic lastwords.output_cpu_ip DAMAGED",
        "lastwords.ipmi_handle_panic lastwords.sel_type=system DAMAGED",
    ] {
        let _ = write!(all, "{line}\n{}\n", requests(&mut Sim::default(), &mixed, line));
    }
    mixed.online = Some((0..12).filter(|cpu| *cpu != 3).collect());
    mixed.cpus[3].answered = false;
    let mask = format!(
        "lastwords.output_cpu_ip=sel lastwords.cpu_online_mask={:#x},0x5f3e9a1b",
        CrashedKernel::ONLINE_MASK
    );
    let _ = write!(all, "{mask}\n{}\n", requests(&mut Sim::default(), &mixed, &mask));
    for (name, refused) in [
        ("OEM records refused", vec![(0xf0, 0xcc)]),
        ("all records refused", vec![(0xf0, 0xc1), (0x02, 0xd4)]),
        ("full", vec![(0xf0, 0xc4)]),
    ] {
        let mut sim = Sim::default();
        sim.bmc.refused = refused;
        let _ = write!(all, "{name}\n{}\n", requests(&mut sim, &mixed, ALL));
    }
    let stored = data.join("requests.txt");
    if std::env::var_os("STORE_REQUESTS").is_some() {
        fs::write(&stored, &all).unwrap();
    }
    assert_eq!(all, fs::read_to_string(stored).unwrap());
}
