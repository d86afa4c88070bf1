//! The whole sequence against a simulated machine: each option alone does its own thing and nothing else, all
//! together in the order of the design, and what fails takes nothing else with it.

use lastwords_core::plan::{Plan, Then};
use lastwords_core::report::Line;
use lastwords_core::sequence::{Fault, Sequence, Step, ThisCpu};
use lastwords_core::store::sel::{Decoded, Decoder, parse, text};
use lastwords_sim::{Answer, CrashedCpu, CrashedKernel, KCS, LOG, LogBuf, Sim};

type Break = fn(&mut Sim);

/// Reports the crash of `kernel` by the parameters on `line`.
fn report(sim: &mut Sim, kernel: &CrashedKernel, line: &str) {
    let elfcorehdr = kernel.put(&mut sim.memory);
    let plan = Plan::new(KCS, line);
    let last = kernel.cpus.len() as u32 - 1;
    let this_cpu = ThisCpu { apic_id: 2 * last, tsc_aux: Some(0x1000 | last) };
    let mut sequence = Sequence::new(sim, plan, plan.bmc(), elfcorehdr, this_cpu);
    for step in Step::ALL {
        sequence.step(sim, step);
    }
}

fn reported(line: &str) -> Sim {
    let mut sim = Sim::default();
    report(&mut sim, &CrashedKernel::idle(4), line);
    sim
}

/// The SEL's text, a record a line.
fn records(sim: &Sim) -> Vec<String> {
    sim.bmc
        .sel
        .iter()
        .map(|record| String::from_utf8_lossy(&record[5..]).trim_end_matches('\0').to_owned())
        .collect()
}

/// The same, without the values of crash id and signature.
fn sel(sim: &Sim) -> Vec<String> {
    let mut records = records(sim);
    for text in &mut records {
        match parse(text.as_bytes(), false) {
            Line::CrashId(_) => "#ID".clone_into(text),
            Line::Signature(_) => "~SIGNATURE".clone_into(text),
            _ => {}
        }
    }
    records
}

#[test]
fn with_no_option_the_bmc_and_the_console_get_nothing() {
    let sim = reported("console=ttyS0 quiet lastwords.console=none");
    assert!(sim.bmc.requests.is_empty());
    assert!(sim.uart.sent.is_empty());
    assert!(sim.memory.reads.is_empty());
}

#[test]
fn the_event_alone() {
    let sim = reported("lastwords.ipmi_handle_panic");
    // Without a log nothing is known of the reason.
    assert_eq!(sim.bmc.events, [[0x41, 0x04, 0x20, 0, 0x6f, 0x01, 0xff, 0xff]]);
    assert_eq!(sel(&sim), ["id 5f3e9a1b", "#ID"]);
    assert_eq!(commands(&sim), [(4, 2), (10, 0x44), (10, 0x40), (10, 0x44)]);
    assert!(sim.uart.sent.is_empty());
}

#[test]
fn the_hypervisor_is_told_behind_the_platform_event_where_its_device_takes_it() {
    let line = "console=ttyS0 lastwords.ipmi_handle_panic lastwords.notify_hypervisor";
    for (takes, place, writes, says) in [
        (3, "=0x505", &[(0x505, 2)][..], "hypervisor: sent"),
        (7, "=mmio:0xfebf1000", &[(0x505, 2)], "hypervisor: sent"),
        (1, "=0x505", &[], "hypervisor: no pvpanic device that takes it"),
        (0xff, "=0x505", &[], "hypervisor: no pvpanic device that takes it"),
        (3, "", &[], "hypervisor: no pvpanic device that takes it"),
    ] {
        let mut sim = Sim { pvpanic: takes, mmio: vec![(0xfebf_1000, 0x505)], ..Sim::default() };
        report(&mut sim, &CrashedKernel::idle(4), &format!("{line}{place}"));
        assert_eq!(sim.other_writes, writes, "{takes:#x} {place}");
        let text = sim.uart.text();
        let at = |text_of: &str| text.find(text_of).unwrap_or_else(|| panic!("{text_of}: {text}"));
        assert!(at("platform event: sent") < at(says), "{text}");
        assert_eq!(sim.bmc.events.len(), 1);
    }
    let sim = reported("lastwords.ipmi_handle_panic");
    assert!(sim.other_writes.is_empty());
}

/// Network function and command of every request.
fn commands(sim: &Sim) -> Vec<(u8, u8)> {
    sim.bmc.requests.iter().map(|request| (request[0] >> 2, request[1])).collect()
}

/// A kernel with the end of a real log.
fn with_log(cpus: usize) -> CrashedKernel {
    let log = include_str!("data/log-fatal-exception-6.12.txt");
    let lines: Vec<_> = log.lines().filter_map(|line| Some(line.split_once("] ")?.1)).collect();
    // The report, its registers and trace, and the panic; as many as the small ring holds.
    let wanted = |line: &&str| {
        [
            "BUG:",
            "Oops",
            "CPU: ",
            "RIP: 0010",
            "Call Trace",
            " crash_init",
            " do_one",
            " do_init",
            "Kernel panic",
        ]
        .iter()
        .any(|begin| line.starts_with(begin) || line.starts_with(&format!(" {}", begin.trim())))
    };
    CrashedKernel::idle(cpus).with_log(&lines.into_iter().filter(wanted).collect::<Vec<_>>())
}

#[test]
fn the_reason_is_in_the_event_the_sel_and_on_the_console() {
    let mut sim = Sim::default();
    report(&mut sim, &with_log(4), "console=ttyS0 lastwords.ipmi_handle_panic");
    assert_eq!(sim.bmc.events, [[0x41, 0x04, 0x20, b'F', 0x6f, 0xa1, b'a', b't']]);
    let expected = [
        "Fatal excep",
        "tion",
        "id 5f3e9a1b",
        "NULL deref ",
        "at 18",
        "RIP null_po",
        "inter+a [cr",
        "ash]",
        "Comm insmod",
        "#ID",
        "~SIGNATURE",
        "< crash_ini",
        "t",
    ];
    assert_eq!(sel(&sim), expected);
    let text = sim.uart.text();
    assert!(text.contains("kernel 6.1.0-99-amd64 panicked on CPU 3: Fatal exception\n"), "{text}");
    let details = "lastwords: cause NULL deref at 18, RIP null_pointer+a [crash], Comm insmod, called by crash_init, crash ID ";
    assert!(text.contains(details), "{text}");
}

/// Before 5.14 VMCOREINFO has no build id, before 5.10 the log has another form.
#[test]
fn an_older_kernels_crash_is_reported_without_its_build_id() {
    let mut kernel = with_log(4);
    kernel.log_buf = Some(LogBuf { len: 4096, caller_id: None });
    kernel.vmcoreinfo =
        kernel.vmcoreinfo.replace("BUILD-ID", "NONE").replace("6.1.0-99-amd64", "4.18.0-553.el8.x86_64");
    kernel.cpus[1].answered = false;
    kernel.online = Some(vec![0, 2, 3]);
    let mut sim = Sim::default();
    let line = "console=ttyS0 lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.output_log=1000 \
                lastwords.cpu_online_mask=0x3000000,0x5f3e9a1b";
    report(&mut sim, &kernel, line);
    let expected = [
        "Fatal excep",
        "tion",
        "3=9c2a36",
        "NULL deref ",
        "at 18",
        "RIP null_po",
        "inter+a [cr",
        "ash]",
        "Comm insmod",
        "#ID",
        "~SIGNATURE",
        "2*103f0",
        "1*off",
    ];
    assert_eq!(sel(&sim)[..expected.len()], expected);
    let text = sim.uart.text();
    assert!(text.contains("kernel 4.18.0-553.el8.x86_64 panicked on CPU 3: Fatal exception\n"), "{text}");
    assert!(text.contains("] Kernel panic - not syncing: Fatal exception\n"), "{text}");
}

#[test]
fn with_only_the_instruction_pointers_asked_for_nothing_else_is_reported() {
    let mut sim = Sim::default();
    report(&mut sim, &with_log(4), "console=ttyS0 lastwords.output_cpu_ip");
    assert_eq!(sel(&sim), ["id 5f3e9a1b", "3=9c2a36", "#ID", "3*103f0"]);
    assert!(sim.bmc.events.is_empty());
    let text = sim.uart.text();
    assert!(!text.contains("exception") && !text.contains("insmod"), "{text}");
}

#[test]
fn a_typical_crash_of_256_cpus_takes_fourteen_records() {
    let mut kernel = with_log(256);
    kernel.cpus[7].answered = false;
    let mut sim = Sim::default();
    report(&mut sim, &kernel, "lastwords.output_cpu_ip=sel lastwords.ipmi_handle_panic");
    let expected = [
        "Fatal excep",
        "tion",
        "id 5f3e9a1b",
        "ff=9c2a36",
        "NULL deref ",
        "at 18",
        "RIP null_po",
        "inter+a [cr",
        "ash]",
        "Comm insmod",
        "#ID",
        "~SIGNATURE",
        "fe*103f0",
        "1*off/dead",
    ];
    assert_eq!(sel(&sim), expected);
}

#[test]
fn where_the_sel_is_nearly_full_the_reason_and_the_panicked_cpu_come_first() {
    let line = "console=ttyS0 lastwords.output_cpu_ip=sel lastwords.ipmi_handle_panic";
    for (free, expected) in [
        // No room at all: perhaps the oldest ones go.
        (0, &["Fatal excep", "tion", "id 5f3e9a1b", "3=9c2a36"][..]),
        (6 * 16, &["Fatal excep", "tion", "id 5f3e9a1b", "3=9c2a36", "Comm insmod", "3*103f0"]),
        (7 * 16, &["Fatal excep", "tion", "id 5f3e9a1b", "3=9c2a36", "NULL deref ", "at 18", "3*103f0"]),
    ] {
        let mut sim = Sim::default();
        sim.bmc.sel_free = free;
        report(&mut sim, &with_log(4), line);
        assert_eq!(sel(&sim), expected);
    }
    for (records, expected) in [
        (1, &["Fatal exc.."][..]),
        (2, &["Fatal exc..", "3=9c2a36"]),
        (3, &["Fatal excep", "tion", "3=9c2a36"]),
    ] {
        let mut sim = Sim::default();
        report(&mut sim, &with_log(4), &format!("{line} lastwords.sel_records={records}"));
        assert_eq!(sel(&sim), expected);
    }
}

#[test]
fn a_bmc_that_cuts_get_sel_info_short_gets_a_few_records() {
    for len in 0..4 {
        let mut sim = Sim::default();
        let answer = [&[0x2c, 0x40, 0][..], &[0x51, 9, 0, 0xff, 0xff][..len]].concat();
        sim.bmc.answers = [Answer::Obey, Answer::Obey, Answer::Obey, Answer::Bytes(answer)].into();
        report(&mut sim, &with_log(4), "lastwords.ipmi_handle_panic");
        assert_eq!(sel(&sim), ["Fatal excep", "tion", "id 5f3e9a1b", "Comm insmod"], "{len} bytes");
    }
}

/// What our decoder makes of the SEL and the platform events together.
fn decoded(sim: &Sim) -> Vec<String> {
    let event = |data: &Vec<u8>| {
        let mut record = [0, 0, 2, 0, 0, 0, 0, data[0], 0, data[1], data[2], 0, 0, 0, 0, 0];
        record[11..].copy_from_slice(&data[3..]);
        record
    };
    let mut decoder = Decoder::default();
    let mut lines = Vec::new();
    let mut keep = |found: Decoded| {
        if let Decoded::Line(line) = found {
            lines.push(String::from_utf8(text(line).as_bytes().to_vec()).unwrap());
        }
    };
    for record in sim.bmc.events.iter().map(event).chain(sim.bmc.sel.iter().copied()) {
        decoder.push(&record, &mut keep);
    }
    decoder.finish(&mut keep);
    lines
}

#[test]
fn a_bmc_that_refuses_text_records_gets_system_events_and_then_platform_events() {
    let line = "console=ttyS0 lastwords.output_cpu_ip=sel lastwords.ipmi_handle_panic";
    let short = ["Fatal exception", "3=9c2a36"];
    for code in [0xc1, 0xcc, 0xd4] {
        let mut sim = Sim::default();
        sim.bmc.refused = vec![(0xf0, code)];
        report(&mut sim, &with_log(4), line);
        assert_eq!(decoded(&sim), short);
        // STX, 15 characters, LF, 8 characters, filled up, and the end with its check: three at a time.
        assert_eq!(sim.bmc.sel.len(), 10);
        assert!(sim.uart.text().contains("SEL: 10 system event records added"), "{}", sim.uart.text());

        sim.bmc = lastwords_sim::KcsBmc::default();
        sim.bmc.refused = vec![(0xf0, code), (0x02, code)];
        report(&mut sim, &with_log(4), line);
        assert!(sim.bmc.sel.is_empty());
        assert_eq!(decoded(&sim), short);
        assert_eq!(sim.bmc.events.len(), 1 + 10);
        assert!(sim.uart.text().contains("SEL: 10 platform events sent"), "{}", sim.uart.text());
    }
}

#[test]
fn memory_mapped_registers_serve_as_well() {
    let mut sim = Sim::default();
    sim.mmio = vec![(0xfe00_0000, 0xca2), (0xfe00_0004, 0xca3)];
    sim.mmio.extend((0..8).map(|register| (0xfd00_0000 + 4 * u64::from(register), 0x3f8 + register)));
    let line = "lastwords.ipmi_kcs_ports=mmio:0xfe000000,4 lastwords.console=mmio32:0xfd000000 \
                lastwords.output_cpu_ip";
    report(&mut sim, &CrashedKernel::idle(4), line);
    assert_eq!(sel(&sim), ["id 5f3e9a1b", "3=9c2a36", "#ID", "3*103f0"]);
    assert!(sim.uart.text().contains("panicked on CPU 3\n"));

    // Nobody there.
    let mut sim = Sim::default();
    report(&mut sim, &CrashedKernel::idle(1), &format!("{line} lastwords.console=ttyS0"));
    let text = sim.uart.text();
    assert!(text.contains("register mmio:0xfe000004 reads 0xff, no BMC answers there"), "{text}");
}

#[test]
fn where_no_interface_is_named_a_bmc_is_looked_for_once_and_nothing_is_written_to_it() {
    let line =
        "console=ttyS0 lastwords.ipmi_watchdog=start=60 lastwords.ipmi_handle_panic lastwords.output_cpu_ip";
    for (absent, found) in [
        (true, "port 0xca3 reads 0xff, no BMC answers there"),
        (false, "port 0xca3 reads 0x00, lastwords.ipmi_kcs_ports=0xca2,0xca3 would use it"),
    ] {
        let mut sim = Sim::default();
        sim.bmc.absent = absent;
        let kernel = CrashedKernel::idle(4);
        let elfcorehdr = kernel.put(&mut sim.memory);
        let plan = Plan::new("", line);
        let mut sequence = Sequence::new(&mut sim, plan, plan.bmc(), elfcorehdr, ThisCpu::default());
        for step in Step::ALL {
            sequence.step(&mut sim, step);
        }
        let text = sim.uart.text();
        for step in ["watchdog", "platform event", "SEL: gave up after 0 records", "watchdog again"] {
            let whole = format!("{step}: no BMC interface is named; {found}");
            assert_eq!(text.matches(&whole).count(), 1, "{whole}: {text}");
        }
        assert!(text.contains("starting the dump kernel"), "{text}");
        // The CMOS clock and the UART.
        let written: Vec<_> = sim.written.iter().filter(|port| !(0x3f8..=0x3ff).contains(*port)).collect();
        assert_eq!(written, [&0x70], "{text}");
        assert_eq!(sim.bmc.looks, 1);
    }
}

#[test]
fn a_bmc_that_comes_back_from_a_reset_of_its_own_gets_the_last_watchdog_start() {
    let mut sim = Sim::default();
    sim.bmc.away_us = 400..500_000;
    // The log takes its time on the serial line.
    let log: Vec<_> = (0..30).map(|line| format!("{line} {}", "x".repeat(200))).collect();
    let kernel = CrashedKernel::idle(4).with_log(&log.iter().map(String::as_str).collect::<Vec<_>>());
    report(&mut sim, &kernel, "console=ttyS0 lastwords.ipmi_watchdog=start=60 lastwords.output_log=8K");
    let text = sim.uart.text();
    assert!(text.contains("watchdog: port 0xca3 reads 0xff"), "{text}");
    assert!(text.contains("watchdog again: started, 60 s to reset"), "{text}");
    assert!(sim.bmc.watchdog.is_some_and(|watchdog| watchdog.running));
}

#[test]
fn a_ring_that_says_it_is_endless_costs_little() {
    let mut kernel = CrashedKernel::idle(1).with_log(&["first", "second"]);
    // Descriptors of no length: each can be read, none is consistent.
    kernel.vmcoreinfo_end = "SIZE(prb_desc)=0\n".to_owned();
    let mut sim = Sim::default();
    let elfcorehdr = kernel.put(&mut sim.memory);
    let mut ring = sim.memory.get(LOG, 0x1000);
    // 2^24 records, and a tail that is far behind the head.
    ring[0x10..0x14].copy_from_slice(&24u32.to_le_bytes());
    ring[0x30..0x38].copy_from_slice(&0u64.to_le_bytes());
    sim.memory.put(LOG, ring);
    let plan = Plan::new(KCS, "console=ttyS0 lastwords.ipmi_handle_panic lastwords.output_log=1M");
    let mut sequence = Sequence::new(&mut sim, plan, plan.bmc(), elfcorehdr, ThisCpu::default());
    for step in Step::ALL {
        sequence.step(&mut sim, step);
    }
    assert!(sim.memory.reads.len() < 100_000, "{} reads", sim.memory.reads.len());
    assert!(sim.uart.text().contains("starting the dump kernel"));
}

#[test]
fn a_slow_bmc_leaves_time_for_the_console() {
    let mut sim = Sim::default();
    sim.bmc.answer_us = 2_000_000;
    let line =
        "console=ttyS0 lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.ipmi_watchdog=start=60";
    report(&mut sim, &with_log(8), line);
    let text = sim.uart.text();
    assert!(text.contains("SEL: gave up after 3 records"), "{text}");
    assert!(text.contains("CPU 0  pid 0") && text.contains("CPU 7* pid 312"), "{text}");
    assert!(sim.time_us <= 16_000_000, "{}", sim.time_us);
}

/// What a budget of ten seconds holds where each answer takes so long.
#[test]
fn an_unresponsive_bmc_gets_the_reason_before_any_question() {
    let line = "console=ttyS0 lastwords.budget=10 lastwords.ipmi_handle_panic lastwords.output_cpu_ip \
                lastwords.ipmi_watchdog=start=60 lastwords.tsc_khz=2400000";
    for (seconds, said, events) in [
        // Watchdog set and started, event, and the reason as far as it goes.
        (1, &["Fatal excep", "tion", "id 5f3e9a1b", "7=9c2a36", "NULL deref "][..], 1),
        (2, &["Fatal excep", "tion"], 1),
        (3, &["Fatal excep"], 1),
        // No time for the event, of which the console is told.
        (4, &["Fatal excep"], 0),
    ] {
        let mut sim = Sim::default();
        sim.bmc.answer_us = seconds * 1_000_000;
        report(&mut sim, &with_log(8), line);
        let text = sim.uart.text();
        assert_eq!(sel(&sim), said, "{seconds} s an answer: {text}");
        assert_eq!(sim.bmc.events.len(), events, "{seconds} s an answer: {text}");
        assert!(sim.bmc.watchdog.as_ref().is_some_and(|watchdog| watchdog.running), "{seconds} s an answer");
        assert!(!commands(&sim).contains(&(10, 0x40)), "{seconds} s an answer: it was asked");
        assert!(text.contains("starting the dump kernel"), "{text}");
        assert!(sim.time_us <= 11_000_000, "{seconds} s an answer: {} us", sim.time_us);
    }
}

#[test]
fn a_full_sel_is_no_reason_to_try_others() {
    let mut sim = Sim::default();
    sim.bmc.refused = vec![(0xf0, 0xc4)];
    report(&mut sim, &with_log(4), "console=ttyS0 lastwords.ipmi_handle_panic");
    assert_eq!(commands(&sim), [(4, 2), (10, 0x44)]);
    assert!(
        sim.uart.text().contains("SEL: gave up after 0 records: the BMC refused with completion code 0xc4")
    );
}

#[test]
fn a_bmc_that_refuses_text_records_only_now_is_counted_anew() {
    let mut sim = Sim::default();
    // A record, Get SEL Info, another one, and no more.
    sim.bmc.answers = [Answer::Obey, Answer::Obey, Answer::Obey, Answer::Code(0xcc)].into();
    report(&mut sim, &with_log(4), "console=ttyS0 lastwords.output_cpu_ip=sel");
    assert_eq!(decoded(&sim), ["id 5f3e9a1b", "3=9c2a36", "3=9c2a36"]);
    assert!(sim.uart.text().contains("SEL: 4 system event records added"), "{}", sim.uart.text());
}

#[test]
fn the_plan_may_begin_with_another_type_of_record() {
    for (sel_type, records, events) in [("system", 10, 1), ("event", 0, 11)] {
        let mut sim = Sim::default();
        let line =
            format!("lastwords.output_cpu_ip=sel lastwords.ipmi_handle_panic lastwords.sel_type={sel_type}");
        report(&mut sim, &with_log(4), &line);
        assert_eq!((sim.bmc.sel.len(), sim.bmc.events.len()), (records, events));
        assert_eq!(decoded(&sim), ["Fatal exception", "3=9c2a36"]);
    }
}

#[test]
fn the_logs_end_comes_as_dmesg_prints_it() {
    let kernel =
        CrashedKernel::idle(1).with_log(&["first", "second\nhalf", "Kernel panic - not syncing: why"]);
    let mut sim = Sim::default();
    report(&mut sim, &kernel, "console=ttyS0 lastwords.output_log");
    assert!(sim.bmc.requests.is_empty());
    let lines = "[    0.001000] first\n[    0.002000] second\n[    0.002000] half\n\
                 [    0.003000] Kernel panic - not syncing: why\n";
    assert!(sim.uart.text().contains(lines), "{}", sim.uart.text());

    let mut sim = Sim::default();
    report(&mut sim, &kernel, "console=ttyS0 lastwords.output_log=30");
    let text = sim.uart.text();
    assert!(text.contains("] Kernel panic") && !text.contains("second"), "{text}");
}

#[test]
fn the_watchdog_alone_started_and_started_again_before_the_jump() {
    let sim = reported("lastwords.ipmi_watchdog=start=60,power-cycle");
    let set = vec![0x18, 0x24, 4, 3, 0, 0x10, 0x58, 0x02];
    assert_eq!(sim.bmc.requests, [set, vec![0x18, 0x22], vec![0x18, 0x22]]);
}

#[test]
fn the_watchdog_alone_stopped() {
    let sim = reported("lastwords.ipmi_watchdog=stop");
    assert_eq!(sim.bmc.requests, [[0x18, 0x24, 4, 0, 0, 0x10, 0x70, 0x17]]);
    assert!(!sim.bmc.watchdog.as_ref().unwrap().running);
}

#[test]
fn the_sel_alone() {
    let sim = reported("lastwords.output_cpu_ip=sel");
    assert_eq!(sel(&sim), ["id 5f3e9a1b", "3=9c2a36", "#ID", "3*103f0"]);
    assert_eq!(commands(&sim), [(10, 0x44), (10, 0x40), (10, 0x44), (10, 0x44), (10, 0x44)]);
    assert!(sim.uart.sent.is_empty());
}

#[test]
fn the_console_alone() {
    let sim = reported("console=ttyS0 lastwords.output_cpu_ip=console");
    assert!(sim.bmc.requests.is_empty());
    let text = sim.uart.text();
    assert!(text.contains("kernel 6.1.0-99-amd64 panicked on CPU 3\n"), "{text}");
    assert!(text.contains("CPU 0  pid 0 RIP ffffffff8e2103f0 _stext+0x103f0\n"), "{text}");
    assert!(text.contains("CPU 3* pid 312 RIP ffffffff8ebc2a36 _stext+0x9c2a36\n"), "{text}");
}

#[test]
fn all_together_most_important_first() {
    let sim = reported(
        "console=ttyS0 lastwords.ipmi_watchdog=start=60 lastwords.ipmi_handle_panic lastwords.output_cpu_ip",
    );
    let (set, reset, event, info, add) = ((6, 0x24), (6, 0x22), (4, 2), (10, 0x40), (10, 0x44));
    assert_eq!(commands(&sim), [set, reset, event, add, info, add, add, add, reset]);
    let text = sim.uart.text();
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(place("panicked on CPU") < place("watchdog: started"));
    assert!(place("watchdog: started") < place("platform event: sent"));
    assert!(place("platform event: sent") < place("SEL: 4 records"));
    assert!(place("SEL: 4 records") < place("CPU 0"));
    assert!(place("CPU 3*") < place("watchdog again: started"));
    assert!(place("watchdog again: started") < place("starting the dump kernel"));
}

#[test]
fn cpus_that_never_answered_and_cpus_in_user_space() {
    let mut kernel = CrashedKernel::idle(8);
    kernel.cpus[2].answered = false;
    for cpu in &mut kernel.cpus[4..6] {
        *cpu = CrashedCpu { pid: 77, rip: 0x40_1000, cs: 0x33, answered: true };
    }
    // In a module.
    kernel.cpus[6].rip = 0xffff_ffff_c05a_1234;
    let mut sim = Sim::default();
    report(&mut sim, &kernel, "console=ttyS0 lastwords.output_cpu_ip");
    assert_eq!(
        sel(&sim),
        ["id 5f3e9a1b", "7=9c2a36", "#ID", "3*103f0", "2*user", "1*@c05a1234", "1*off/dead"]
    );
    let text = sim.uart.text();
    assert!(text.contains("CPU 2  is offline or did not respond to the stop NMI\n"), "{text}");
    assert!(text.contains("CPU 4  pid 77 RIP 0000000000401000 user\n"), "{text}");
    assert!(text.contains("CPU 6  pid 0 RIP ffffffffc05a1234\n"), "{text}");
}

#[test]
fn merged_notes_are_read_as_well() {
    let mut kernel = CrashedKernel::idle(3);
    kernel.merged = true;
    let mut sim = Sim::default();
    report(&mut sim, &kernel, "lastwords.output_cpu_ip=sel");
    assert_eq!(sel(&sim), ["id 5f3e9a1b", "2=9c2a36", "#ID", "2*103f0"]);
}

/// The report of a crash of `kernel` on the CPU that shows itself so.
fn on_cpu(kernel: &CrashedKernel, this_cpu: ThisCpu, line: &str) -> Sim {
    let mut sim = Sim::default();
    let elfcorehdr = kernel.put(&mut sim.memory);
    let line = format!("console=ttyS0 lastwords.output_cpu_ip {line}");
    let plan = Plan::new(KCS, &line);
    let mut sequence = Sequence::new(&mut sim, plan, plan.bmc(), elfcorehdr, this_cpu);
    for step in Step::ALL {
        sequence.step(&mut sim, step);
    }
    sim
}

#[test]
fn a_cpu_is_known_by_the_list_of_the_time_of_loading_and_by_its_own_record_where_it_is_not_in_it() {
    let kernel = CrashedKernel::idle(4);
    for (apic_id, tsc_aux, list, expected) in [
        // A CPU that was offline when the list was made.
        (6, Some(0x1003), "0,2,4,4294967295", "3=9c2a36"),
        // What KVM has left there of a guest.
        (6, Some(0x1001), "0,2,4,6", "3=9c2a36"),
        (6, Some(0xfff), "0,2,4,6", "3=9c2a36"),
        (6, Some(0x3), "", "3=9c2a36"),
        // 0 is what the register has where the kernel has written nothing.
        (6, Some(0), "0,2,4,6", "3=9c2a36"),
        (6, Some(0), "0,2,4", "0=103f0"),
        (6, None, "0-6/2", "3=9c2a36"),
        // More CPUs than the register has bits for, and an id of more than 31 bits.
        (0x8000_0001, Some(0x2123), "0-4386,0x80000001", "1123=unread"),
    ] {
        let list = if list.is_empty() { String::new() } else { format!("lastwords.apic_ids={list}") };
        let sim = on_cpu(&kernel, ThisCpu { apic_id, tsc_aux }, &list);
        assert_eq!(sel(&sim)[1], expected, "{apic_id} {tsc_aux:?} {list}");
    }
}

#[test]
fn a_panicked_cpu_without_a_note_is_named_all_the_same() {
    let mut kernel = CrashedKernel::idle(4);
    kernel.cpus[1].answered = false;
    let line = "lastwords.cpu_numbers=0-2,9";
    for (cpu, marked, others) in [(5, "5=unread", 4), (1, "1=unread", 3)] {
        let sim = on_cpu(&kernel, ThisCpu { apic_id: 0, tsc_aux: Some(cpu) }, line);
        assert_eq!(sel(&sim)[1], marked);
        let count: u32 =
            sel(&sim)[2..].iter().filter_map(|line| line.split_once('*')?.0.parse::<u32>().ok()).sum();
        assert_eq!(count, others);
        let text = sim.uart.text();
        assert!(text.contains(&format!("panicked on CPU {cpu}\n")), "{text}");
        assert_eq!(text.contains(&format!("CPU {cpu}* crash note unreadable\n")), cpu == 1, "{text}");
        assert!(text.contains("CPU 9  pid 312"), "{text}");
    }
}

#[test]
fn cpus_that_are_off_come_last_and_are_not_called_dead() {
    let mut kernel = CrashedKernel::idle(20);
    for cpu in &mut kernel.cpus[4..16] {
        cpu.answered = false;
    }
    kernel.online = Some((0..5).chain(16..20).collect());
    let mask = format!("lastwords.cpu_online_mask={:#x},0x5f3e9a1b", CrashedKernel::ONLINE_MASK);
    let sim = on_cpu(&kernel, ThisCpu { apic_id: 0, tsc_aux: Some(19) }, &mask);
    assert_eq!(sel(&sim)[1..], ["13=9c2a36", "#ID", "7*103f0", "1*dead", "b*off"]);
    let text = sim.uart.text();
    assert!(text.contains("CPU 4  did not respond to the stop NMI\n"), "{text}");
    assert!(text.contains("CPU 5  is offline\n"), "{text}");
    let sim = on_cpu(&kernel, ThisCpu { apic_id: 0, tsc_aux: Some(19) }, "");
    assert_eq!(sel(&sim)[1..], ["13=9c2a36", "#ID", "7*103f0", "c*off/dead"]);
}

#[test]
fn where_nothing_tells_the_cpu_it_is_reported_as_unknown() {
    for line in ["", "lastwords.apic_ids=7-9"] {
        let mut sim = Sim::default();
        let kernel = CrashedKernel::idle(4);
        let elfcorehdr = kernel.put(&mut sim.memory);
        let line = format!("console=ttyS0 lastwords.output_cpu_ip {line}");
        let this_cpu = ThisCpu { apic_id: 6, tsc_aux: None };
        let mut sequence =
            Sequence::new(&mut sim, Plan::new(KCS, &line), Plan::new(KCS, &line).bmc(), elfcorehdr, this_cpu);
        for step in Step::ALL {
            sequence.step(&mut sim, step);
        }
        assert_eq!(sel(&sim), ["id 5f3e9a1b", "?=?", "#ID", "3*103f0", "1*9c2a36"]);
        let text = sim.uart.text();
        assert!(text.contains("panicked on an unknown CPU, local APIC ID 6\n"), "{text}");
        assert!(!text.contains('*'), "{text}");
    }
}

#[test]
fn a_machine_with_more_places_than_records_says_what_was_cut() {
    let mut kernel = CrashedKernel::idle(200);
    for (number, cpu) in kernel.cpus.iter_mut().enumerate() {
        cpu.rip += 16 * number as u64;
    }
    let mut sim = Sim::default();
    report(&mut sim, &kernel, "lastwords.output_cpu_ip=sel lastwords.sel_records=10");
    let sel = sel(&sim);
    assert_eq!(sel.len(), 10);
    assert_eq!(sel.last().unwrap(), "+c1");
}

#[test]
fn a_thousand_cpus_all_elsewhere_take_the_limit_and_the_rest_is_counted() {
    let mut kernel = with_log(1024);
    for (number, cpu) in kernel.cpus.iter_mut().enumerate() {
        cpu.rip += 16 * number as u64;
    }
    let mut sim = Sim::default();
    report(&mut sim, &kernel, "lastwords.output_cpu_ip=sel lastwords.ipmi_handle_panic");
    let said = sel(&sim);
    assert_eq!(said.len(), 32);
    // Twelve records are the reason's, the panicked CPU's and the ids, one is this.
    assert_eq!(said.last().unwrap(), &format!("+{:x}", 1023 - 19));
}

#[test]
fn a_parameter_that_is_not_understood_is_reported() {
    let sim = reported("console=ttyS0 lastwords.budget=soon lastwords.ipmi_handle_panic");
    assert_eq!(sim.bmc.events.len(), 1);
    let text = sim.uart.text();
    assert!(text.contains("lastwords.budget=soon: not understood; ignored\n"), "{text}");
}

#[test]
fn what_fails_is_reported_and_takes_nothing_with_it() {
    let mut sim = Sim::default();
    sim.bmc.absent = true;
    report(
        &mut sim,
        &CrashedKernel::idle(2),
        "console=ttyS0 lastwords.ipmi_handle_panic lastwords.output_cpu_ip",
    );
    let text = sim.uart.text();
    assert!(text.contains("platform event: port 0xca3 reads 0xff, no BMC answers there"), "{text}");
    assert!(text.contains("SEL: gave up after 0 records: port 0xca3 reads 0xff"), "{text}");
    assert!(text.contains("CPU 1*"), "{text}");

    let mut sim = Sim::default();
    sim.bmc.answers = [Answer::Obey, Answer::Obey, Answer::Code(0xc4)].into();
    report(&mut sim, &CrashedKernel::idle(2), "console=ttyS0 lastwords.output_cpu_ip");
    let text = sim.uart.text();
    assert!(
        text.contains("SEL: gave up after 1 records: the BMC refused with completion code 0xc4"),
        "{text}"
    );
    assert!(text.contains("CPU 1*"), "{text}");
}

#[test]
fn without_an_elf_core_header_the_bmc_still_hears_of_it() {
    for (address, words) in
        [(0x5000_0000, "unreadable at 0x50000000"), (0x10_0000, "no ELF core header at 0x100000")]
    {
        let mut sim = Sim::default();
        CrashedKernel::idle(2).put(&mut sim.memory);
        let plan = Plan::new(KCS, "console=ttyS0 lastwords.ipmi_handle_panic lastwords.output_cpu_ip");
        let mut sequence = Sequence::new(&mut sim, plan, plan.bmc(), address, ThisCpu::default());
        for step in Step::ALL {
            sequence.step(&mut sim, step);
        }
        assert_eq!(sim.bmc.events.len(), 1);
        let text = sim.uart.text();
        assert!(text.contains(words), "{text}");
        assert!(text.contains("starting the dump kernel"), "{text}");
    }
}

#[test]
fn a_fault_in_a_step_is_printed_with_the_next_lines() {
    let mut sim = Sim::default();
    let elfcorehdr = CrashedKernel::idle(2).put(&mut sim.memory);
    let plan = Plan::new(KCS, "console=ttyS0 lastwords.ipmi_handle_panic lastwords.output_cpu_ip");
    let mut sequence = Sequence::new(&mut sim, plan, plan.bmc(), elfcorehdr, ThisCpu::default());
    for step in Step::ALL {
        if step == Step::Crash {
            sequence.fault(step, Fault { vector: 14, offset: 0x1234, address: 0xdead_beef });
        } else {
            sequence.step(&mut sim, step);
        }
    }
    let text = sim.uart.text();
    assert!(text.contains("crashed kernel: exception 14 at image+0x1234, CR2 0xdeadbeef\n"), "{text}");
    assert!(text.contains("starting the dump kernel"), "{text}");
}

#[test]
fn a_watchdog_that_failed_at_first_is_tried_again_at_the_end() {
    let mut sim = Sim::default();
    sim.bmc.answers = [Answer::Code(0xc3)].into();
    report(&mut sim, &CrashedKernel::idle(2), "lastwords.ipmi_watchdog=start=60");
    assert!(sim.bmc.watchdog.unwrap().running);
}

#[test]
fn when_the_budget_is_spent_only_the_watchdog_is_started_again() {
    let mut sim = Sim::default();
    sim.bmc.answer_us = 900_000;
    let khz = sim.tsc_khz;
    let line = format!(
        "console=ttyS0 lastwords.tsc_khz={khz} lastwords.budget=3 lastwords.ipmi_watchdog=start=60 \
         lastwords.ipmi_handle_panic lastwords.output_cpu_ip"
    );
    sim.bmc.answers = [Answer::Obey, Answer::Obey, Answer::Obey, Answer::Nothing].into();
    let began = sim.time_us;
    report(&mut sim, &CrashedKernel::idle(2), &line);
    let took = (sim.time_us - began) / 1000;
    assert!((3000..=4000).contains(&took), "{took} ms");
    let last = sim.bmc.requests.last().unwrap();
    assert_eq!(last, &[0x18, 0x22]);
    assert!(sim.bmc.sel.is_empty());
}

#[test]
fn the_budget_holds_whatever_one_part_does() {
    let line = "console=ttyS0 lastwords.tsc_khz=2400000 lastwords.budget=15 lastwords.ipmi_watchdog=start=60 \
        lastwords.ipmi_handle_panic lastwords.output_cpu_ip";
    let parts: [(&str, Break); 8] = [
        ("silent BMC", |sim| sim.bmc.then = Answer::Nothing),
        ("slow BMC", |sim| sim.bmc.answer_us = 4_000_000),
        ("stuck IBF", |sim| sim.bmc.stuck_status = Some(0x02)),
        ("stuck OBF", |sim| sim.bmc.stuck_status = Some(0x01)),
        ("error for ever", |sim| sim.bmc.then = Answer::Error),
        ("busy for ever", |sim| sim.bmc.then = Answer::Code(0xc0)),
        ("UART never ready", |sim| sim.uart.byte_us = u64::MAX),
        ("UART at 300 baud", |sim| sim.uart.byte_us = 33_333),
    ];
    for (name, break_it) in parts {
        let mut sim = Sim::default();
        break_it(&mut sim);
        report(&mut sim, &CrashedKernel::idle(64), line);
        let took = sim.time_us / 1000;
        assert!(took <= 16_000, "{name}: {took} ms");
    }
}

#[test]
fn the_vga_screen_scrolls_and_shows_the_last_lines() {
    let mut sim = Sim::default();
    sim.memory.put(0xb8000, vec![b'x'; 80 * 25 * 2]);
    report(&mut sim, &CrashedKernel::idle(2), "lastwords.console=vga lastwords.output_cpu_ip=console");
    let screen = sim.memory.get(0xb8000, 80 * 25 * 2);
    let row = |row: usize| -> String {
        screen[row * 160..][..160].iter().step_by(2).map(|glyph| char::from(*glyph)).collect()
    };
    assert!(row(24).starts_with("lastwords: starting the dump kernel"));
    assert!(row(23).starts_with("lastwords: CPU 1* pid 312 RIP"));
    assert_eq!(row(0), "x".repeat(80));
    assert!(sim.uart.sent.is_empty());
}

#[test]
fn a_uart_is_set_up_only_when_a_speed_is_given() {
    assert_eq!(reported("lastwords.console=ttyS0 lastwords.ipmi_handle_panic").uart.divisor, None);
    let sim = reported("lastwords.console=ttyS0,9600 lastwords.ipmi_handle_panic");
    assert_eq!(sim.uart.divisor, Some(12));
    assert!(sim.uart.text().contains("platform event: sent"));
}

#[test]
fn a_uart_that_is_not_there_costs_one_look() {
    let mut sim = Sim::default();
    sim.uart.absent = true;
    report(&mut sim, &CrashedKernel::idle(2), "lastwords.console=ttyS0 lastwords.output_cpu_ip");
    assert!(sim.uart.sent.is_empty());
    assert_eq!(sim.bmc.sel.len(), 4);
}

/// Runs the steps with a damaged segment, then the reset.
fn report_corrupt(sim: &mut Sim, line: &str, segment: &[u8]) {
    let elfcorehdr = CrashedKernel::idle(2).put(&mut sim.memory);
    let this_cpu = ThisCpu { apic_id: 1, tsc_aux: Some(1) };
    let mut sequence =
        Sequence::new(sim, Plan::new(KCS, line), Plan::new(KCS, line).bmc(), elfcorehdr, this_cpu);
    for step in Step::ALL {
        if step == Step::Checksum {
            sequence.corrupt(segment);
        }
        sequence.step(sim, step);
    }
    sequence.end(sim, Then::Reset);
}

#[test]
fn a_damaged_dump_kernel_is_named_to_bmc_and_console_and_the_bmc_resets() {
    let mut sim = Sim::default();
    report_corrupt(&mut sim, "console=ttyS0 lastwords.output_cpu_ip=sel", b"initrd");
    assert_eq!(sel(&sim), ["id 5f3e9a1b", "1=9c2a36", "#ID", "1*103f0", "bad initrd"]);
    assert_eq!(sim.bmc.sel[4][4], 0x84, "it goes on with the sequence");
    let text = sim.uart.text();
    assert!(text.contains("dump kernel corrupt: checksum of initrd differs from the one loaded\n"), "{text}");
    assert!(text.contains("resetting the machine"), "{text}");
    assert_eq!(sim.bmc.resets, 1);
}

/// Healthy UARTs that let wait for each byte, in the middle of one of which the budget ends.
#[test]
fn a_uart_that_the_budget_cuts_off_prints_the_last_line() {
    for byte_us in [87, 260, 1_042] {
        for budget in 2..5 {
            let log: Vec<_> =
                (0..120).map(|line| format!("line {line} of a log that takes its time")).collect();
            let kernel =
                CrashedKernel::idle(64).with_log(&log.iter().map(String::as_str).collect::<Vec<_>>());
            let mut sim = Sim::default();
            sim.uart.byte_us = byte_us;
            let line = format!(
                "console=ttyS0 lastwords.budget={budget} lastwords.output_cpu_ip=console lastwords.output_log=1M \
                 lastwords.tsc_khz=2400000"
            );
            report(&mut sim, &kernel, &line);
            let text = sim.uart.text();
            assert!(text.contains("starting the dump kernel"), "{byte_us} us, {budget} s: {text}");
        }
    }
}

/// A BMC that takes longer for the last start of its watchdog than there is time: it is not stopped in it.
#[test]
fn what_the_bmc_was_asked_for_last_is_not_taken_back() {
    let mut sim = Sim::default();
    sim.bmc.answer_us = 900_000;
    let line = "lastwords.ipmi_watchdog=start=60 lastwords.budget=3 lastwords.tsc_khz=2400000 lastwords.ipmi_handle_panic";
    report(&mut sim, &CrashedKernel::idle(2), line);
    let last = sim.bmc.requests.last().map(|request| (request[0] >> 2, request[1]));
    assert_eq!(last, Some((6, 0x22)), "Reset Watchdog Timer is the last: {:x?}", sim.bmc.requests);
    assert!(sim.bmc.is_at_work(), "it was aborted");
}

#[test]
fn what_a_copy_has_put_right_is_named_and_the_dump_kernel_starts() {
    let mut sim = Sim::default();
    let elfcorehdr = CrashedKernel::idle(2).put(&mut sim.memory);
    let plan = Plan::new(KCS, "console=ttyS0 lastwords.output_cpu_ip=sel");
    let this_cpu = ThisCpu { apic_id: 1, tsc_aux: Some(1) };
    let mut sequence = Sequence::new(&mut sim, plan, plan.bmc(), elfcorehdr, this_cpu);
    sequence.restored(b"boot_params");
    for step in Step::ALL {
        sequence.step(&mut sim, step);
    }
    // A record has eleven characters.
    let sel = sel(&sim);
    assert_eq!(sel.concat(), "id 5f3e9a1b1=9c2a36#ID1*103f0restored boot_params");
    assert_eq!(parse(b"restored boot_params", false), Line::Restored(b"boot_params"));
    let text = sim.uart.text();
    assert!(text.contains("dump kernel: boot_params was corrupt, restored from its copy\n"), "{text}");
    assert!(text.contains("starting the dump kernel"), "{text}");
}

#[test]
fn a_bmc_that_nobody_asked_for_is_left_alone_and_the_chipset_resets() {
    let mut sim = Sim::default();
    report_corrupt(&mut sim, "console=ttyS0", b"kernel");
    assert!(sim.bmc.requests.is_empty());
    assert_eq!(sim.other_writes, [(0xcf9, 0xf3), (0xcf9, 0xf7), (0x64, 0xfe)]);
}

#[test]
fn a_bmc_that_does_not_reset_is_followed_by_the_chipset() {
    for answer in [Answer::Code(0xc1), Answer::Nothing, Answer::Obey] {
        let mut sim = Sim::default();
        sim.bmc.then = answer;
        report_corrupt(&mut sim, "lastwords.tsc_khz=2400000 lastwords.ipmi_handle_panic", b"kernel");
        assert_eq!(sim.other_writes.len(), 3);
    }
}

/// The console's lines of CPUs, without what stands before each.
fn cpu_lines(sim: &Sim) -> Vec<String> {
    let text = sim.uart.text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("lastwords: "));
    lines.filter(|line| line.starts_with("CPU ") || line.contains(" CPUs ")).map(str::to_owned).collect()
}

/// The report on the console of a crash on the last of `cpus` CPUs, of which each is where `place` says.
fn on_the_console(cpus: usize, place: impl Fn(usize) -> CrashedCpu) -> Sim {
    let mut kernel = CrashedKernel::idle(cpus);
    for number in 0..cpus - 1 {
        kernel.cpus[number] = place(number);
    }
    let mut sim = Sim::default();
    report(&mut sim, &kernel, "console=ttyS0 lastwords.output_cpu_ip=console");
    sim
}

/// A CPU in the kernel's image, so far behind `_stext`.
fn at(offset: u64) -> CrashedCpu {
    CrashedCpu { pid: 0, rip: CrashedKernel::STEXT + offset, cs: 0x10, answered: true }
}

#[test]
fn up_to_64_cpus_each_one_has_its_line_on_the_console() {
    let lines = cpu_lines(&on_the_console(64, |_| at(0x103f0)));
    assert_eq!(lines.len(), 64);
    assert_eq!(lines[62], "CPU 62  pid 0 RIP ffffffff8e2103f0 _stext+0x103f0");
    let lines = cpu_lines(&on_the_console(65, |_| at(0x103f0)));
    assert_eq!(
        lines,
        [
            "CPU 64* pid 312 RIP ffffffff8ebc2a36 _stext+0x9c2a36",
            "64 CPUs RIP ffffffff8e2103f0 _stext+0x103f0: 0-63"
        ]
    );
}

#[test]
fn of_many_cpus_those_unlike_the_rest_are_on_the_console_in_full_and_the_rest_in_groups() {
    let lines = cpu_lines(&on_the_console(100, |number| match number {
        3 | 50 => at(0x77770),
        7 => CrashedCpu { pid: 77, rip: 0xffff_ffff_c05a_1234, cs: 0x10, answered: true },
        10..=12 | 14 => CrashedCpu { pid: 5, rip: 0x40_1000 + number as u64, cs: 0x33, answered: true },
        20..=29 => CrashedCpu { answered: false, ..at(0) },
        number if number % 2 == 1 => at(0x20000),
        _ => at(0x103f0),
    }));
    assert_eq!(
        lines,
        [
            "CPU 99* pid 312 RIP ffffffff8ebc2a36 _stext+0x9c2a36",
            "41 CPUs RIP ffffffff8e2103f0 _stext+0x103f0: 0,2,4,6,8,16,18,30,32,34,36,38,40,42,44,46,48,52,54,56,58,\
             60,62,64,66,68,70,72,74,76,78,80,82,84,86,88,90,92,94,96,98",
            "41 CPUs RIP ffffffff8e220000 _stext+0x20000: 1,5,9,13,15,17,19,31,33,35,37,39,41,43,45,47,49,51,53,55,\
             57,59,61,63,65,67,69,71,73,75,77,79,81,83,85,87,89,91,93,95,97",
            "4 CPUs user: 10-12,14",
            "CPU 3  pid 0 RIP ffffffff8e277770 _stext+0x77770",
            "CPU 50  pid 0 RIP ffffffff8e277770 _stext+0x77770",
            "CPU 7  pid 77 RIP ffffffffc05a1234",
            "10 CPUs offline or did not respond to the stop NMI: 20-29",
        ]
    );
}

#[test]
fn a_list_of_cpus_that_is_too_long_for_its_line_says_how_many_more_there_are() {
    let lines =
        cpu_lines(&on_the_console(1024, |number| at(if number % 2 == 0 { 0x103f0 } else { 0x20000 })));
    let [_, even, odd] = &lines[..] else { panic!("{lines:?}") };
    for (line, count) in [(even, 512), (odd, 511)] {
        let (list, more) = line.split_once(": ").unwrap().1.split_once(" and ").unwrap();
        let more: usize = more.strip_suffix(" more").unwrap().parse().unwrap();
        assert_eq!(list.split(',').count() + more, count, "{line}");
        assert!(list.split(',').count() > 40 && line.len() < 288 - 11, "{line}");
    }
}

#[test]
fn a_thousand_idle_cpus_take_less_than_a_tenth_of_a_second_at_115200() {
    let sim = on_the_console(1024, |number| at([0x103f0, 0x20000, 0x30000][usize::from(number % 8 > 6)]));
    let bytes: usize = cpu_lines(&sim).iter().map(|line| "lastwords: ".len() + line.len() + 2).sum();
    assert!(bytes <= 1150, "{bytes}");
}

#[test]
fn of_64_places_each_one_is_on_the_console_and_of_more_it_says_how_many_cpus_are_left_out() {
    for (cpus, places, lines, left_out) in
        [(129, 64, 129, None), (1025, 64, 65, None), (1025, 100, 65, Some(360)), (1025, 1024, 65, Some(960))]
    {
        let sim = on_the_console(cpus, |number| at(0x1000 + 16 * (number % places) as u64));
        let said = cpu_lines(&sim);
        let more = said.last().and_then(|line| line.strip_suffix(" more CPUs left out"));
        assert_eq!(more.map(|more| more.parse().unwrap()), left_out, "{said:?}");
        assert_eq!(said.len() - usize::from(left_out.is_some()), lines, "{places} places: {said:?}");
        // A default budget is 10 s, a byte 87 us.
        assert!(sim.uart.sent.len() < 40_000, "{places} places: {}", sim.uart.sent.len());
        assert!(sim.uart.text().contains(&format!("CPU {}* pid 312", cpus - 1)));
    }
}

/// Runs the steps where there is no dump kernel, then what becomes of the machine.
fn report_alone(sim: &mut Sim, line: &str, then: Then) {
    let elfcorehdr = CrashedKernel::idle(2).put(&mut sim.memory);
    let plan = Plan { then: Some(then), ..Plan::new(KCS, line) };
    let this_cpu = ThisCpu { apic_id: 1, tsc_aux: Some(1) };
    let mut sequence = Sequence::new(sim, plan, plan.bmc(), elfcorehdr, this_cpu);
    for step in Step::ALL {
        sequence.step(sim, step);
    }
    assert_eq!(sequence.then(), Some(then));
    sequence.end(sim, then);
}

/// Data of the Chassis Control requests that the BMC got.
fn chassis(sim: &Sim) -> Vec<u8> {
    let requests = sim.bmc.requests.iter().filter(|request| request[..2] == [0, 2]);
    requests.map(|request| request[2]).collect()
}

const OWN_WAYS: [(u16, u8); 3] = [(0xcf9, 0xf3), (0xcf9, 0xf7), (0x64, 0xfe)];

#[test]
fn without_a_dump_kernel_the_machine_resets_itself_and_asks_the_bmc_where_that_does_not_work() {
    let mut sim = Sim::default();
    report_alone(&mut sim, "console=ttyS0 lastwords.ipmi_handle_panic lastwords.output_cpu_ip", Then::Reset);
    let text = sim.uart.text();
    assert!(text.contains("resetting the machine") && !text.contains("dump kernel"), "{text}");
    let records = sel(&sim);
    assert!(records.iter().any(|text| text == "no dump"), "{records:?}");
    assert_eq!(parse(b"no dump", false), Line::NoDump);
    assert_eq!((sim.other_writes.as_slice(), sim.bmc.resets), (&OWN_WAYS[..], 1));
    // The BMC is left alone where nobody has asked for it.
    let mut sim = Sim::default();
    report_alone(&mut sim, "console=ttyS0", Then::Reset);
    assert_eq!((sim.other_writes.as_slice(), sim.bmc.requests.len()), (&OWN_WAYS[..], 0));
}

#[test]
fn without_a_dump_kernel_the_bmc_switches_the_machine_off_and_where_it_does_not_the_machine_is_reset() {
    for (then, data, last) in
        [(Then::PowerCycle, 2, "power-cycling the machine"), (Then::PowerOff, 0, "powering the machine off")]
    {
        for answer in [Answer::Obey, Answer::Code(0xc1), Answer::Nothing] {
            let is_asked = !matches!(answer, Answer::Nothing);
            let mut sim = Sim::default();
            sim.bmc.then = answer;
            report_alone(&mut sim, "console=ttyS0 lastwords.tsc_khz=2400000", then);
            assert!(sim.uart.text().contains(last), "{}", sim.uart.text());
            assert_eq!(sim.other_writes, OWN_WAYS);
            assert!(!is_asked || chassis(&sim) == [data], "{:?}", sim.bmc.requests);
        }
    }
}

#[test]
fn a_machine_that_is_to_halt_is_not_touched_any_more() {
    let mut sim = Sim::default();
    report_alone(&mut sim, "console=ttyS0 lastwords.ipmi_handle_panic", Then::Halt);
    assert!(sim.uart.text().contains("halting the machine"), "{}", sim.uart.text());
    assert!(sim.other_writes.is_empty() && chassis(&sim).is_empty());
}

/// With what is over behind the budget: the last lines, half a second for the BMC, and the machine's own ways at once.
#[test]
fn a_bmc_that_does_not_respond_delays_the_reset_by_no_more_than_two_seconds_behind_the_budget() {
    for then in [Then::Reset, Then::PowerCycle, Then::PowerOff] {
        for budget in [1, 3, 15] {
            let mut sim = Sim::default();
            sim.bmc.then = Answer::Nothing;
            let line = format!(
                "console=ttyS0 lastwords.tsc_khz=2400000 lastwords.budget={budget} lastwords.ipmi_handle_panic \
                 lastwords.output_cpu_ip"
            );
            report_alone(&mut sim, &line, then);
            assert_eq!(sim.other_writes.first(), Some(&OWN_WAYS[0]), "{then:?}");
            let ms = sim.reset_us.unwrap() / 1000;
            assert!(ms <= budget * 1000 + 2000, "{then:?}, {budget} s: {ms} ms");
        }
    }
}

/// PANICKED is the end of a guest: with a dump kernel it is never raised, and without one last.
#[test]
fn panicked_is_raised_only_without_a_dump_kernel_and_only_where_it_is_asked_for() {
    const PANICKED: &str = "lastwords.notify_hypervisor=0x505,panicked lastwords.ipmi_handle_panic";
    const CRASH_LOADED: &str = "lastwords.notify_hypervisor=0x505 lastwords.ipmi_handle_panic";
    let raised = |sim: &Sim| -> Vec<u8> {
        sim.other_writes.iter().filter(|(port, _)| *port == 0x505).map(|(_, value)| *value).collect()
    };
    let device = || Sim { pvpanic: 3, ..Sim::default() };
    for (line, alone) in [(PANICKED, 1), (CRASH_LOADED, 2)] {
        let mut sim = device();
        report(&mut sim, &CrashedKernel::idle(2), line);
        assert_eq!(raised(&sim), [2], "{line}");
        for then in [Then::Reset, Then::Halt] {
            let mut sim = device();
            report_alone(&mut sim, line, then);
            assert_eq!(raised(&sim), [alone], "{line}");
        }
    }
}
