//! Writes the corpora that do not come from a fuzzing run: real crashes, logs and command lines, and what the project
//! itself makes. `cargo run --bin seeds`, in this folder.

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use lastwords_boot::{synthetic, wrap};
use lastwords_core::budget::Timer;
use lastwords_core::device::rtc;
use lastwords_core::hw::{Clock, Register, Registers, Second};
use lastwords_core::ipmi::commands::{Action, GetSelInfo, SetWatchdogTimer};
use lastwords_core::plan::Plan;
use lastwords_core::report::{CpuLocation, Line, Location, Stage};
use lastwords_core::store::sel::{self, event_record, mark, records, stream};
use lastwords_core::text::Text;
use lastwords_sim::{BT, CrashedKernel, Erst, LogBuf, SSIF, Sim};
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// A simulated machine, and what its registers have read, but for the clock.
struct Recording(Sim, Vec<u8>);

impl Registers for Recording {
    fn get(&mut self, register: Register) -> u8 {
        let value = self.0.get(register);
        if register != rtc::DATA {
            self.1.push(value);
        }
        value
    }

    fn put(&mut self, register: Register, value: u8) {
        self.0.put(register, value);
    }
}

impl Clock for Recording {
    fn ticks(&mut self) -> u64 {
        self.0.ticks()
    }

    fn second(&mut self) -> Second {
        self.0.second()
    }

    fn relax(&mut self) {
        self.0.relax();
    }
}

/// What the registers read while two commands are sent over this interface, which was left like this.
fn reads(interface: &str, left: impl FnOnce(&mut Sim)) -> Vec<u8> {
    let mut machine = Recording(Sim::default(), Vec::new());
    left(&mut machine.0);
    let mut timer = Timer::start(&mut machine, Some(2_400_000), 1000);
    let mut bmc = Plan::new("", interface).bmc();
    let watchdog = SetWatchdogTimer { seconds: 60, action: Action::Reset };
    bmc.send(&mut machine, &mut timer, &watchdog).expect("it works");
    bmc.send(&mut machine, &mut timer, &GetSelInfo).expect("it works");
    machine.1
}

/// An ELF file with a few symbols.
fn vmlinux() -> Vec<u8> {
    let mut elf = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = elf.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
    for (name, value) in [("_stext", 0x1000), ("do_one", 0x1010), ("__do_one", 0x1010), ("_etext", 0x1020)] {
        elf.add_symbol(Symbol {
            name: name.into(),
            value,
            size: 0,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
    }
    elf.write().expect("it is whole")
}

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = root.join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };

    let data = root.join("../core/tests/data");
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(&path)?;
        if name.starts_with("log-") {
            let text = String::from_utf8_lossy(&bytes);
            let lines = text.lines().map(|line| line.split_once("] ").map_or(line, |(_, line)| line));
            let log: String = lines
                .rev()
                .take(60)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .flat_map(|line| [line, "\n"])
                .collect();
            put("cause", &name, &[b" ", log.as_bytes()].concat())?;
        } else if name.starts_with("crash-") {
            put("crash", &name, &bytes)?;
        }
    }
    let store = Erst::default();
    put("erst", "server", &[&[0; 16], &store.table()[..]].concat())?;
    let slow = [500u64.to_le_bytes(), (0x1000_0000_0000_0000u64 | 5 << 32 | 50_000).to_le_bytes()].concat();
    put("erst", "slow", &[&slow, &store.table()[..]].concat())?;
    let log = [
        "BUG: kernel NULL pointer dereference, address: 0000000000000018",
        "Kernel panic - not syncing: why",
    ];
    let kernel = CrashedKernel::idle(3).with_log(&log);
    put("vmcoreinfo", "simulated", kernel.vmcoreinfo.as_bytes())?;
    // Before 5.10, with a CPU that is off and more ranges of RAM than are kept at hand.
    let log_buf = LogBuf { len: 1024, caller_id: Some(312) };
    let mut older = CrashedKernel { log_buf: Some(log_buf), ranges: 100, nodes: 70, ..kernel.clone() };
    older.online = Some(vec![0, 2]);
    older.cpus[1].answered = false;
    let mut without_callers = older.clone();
    without_callers.log_buf = Some(LogBuf { caller_id: None, ..log_buf });
    for (name, kernel) in [
        ("simulated-with-log", kernel),
        ("simulated-with-log-buf", older),
        ("simulated-with-log-buf-without-callers", without_callers),
    ] {
        let mut sim = Sim::default();
        let elfcorehdr = kernel.put(&mut sim.memory);
        let piece = |(addr, bytes): (u64, &[u8])| {
            [&addr.to_le_bytes()[..], &(bytes.len() as u64).to_le_bytes(), bytes].concat()
        };
        let (first, rest): (Vec<_>, Vec<_>) = sim.memory.pieces().partition(|(addr, _)| *addr == elfcorehdr);
        put("crash", name, &first.into_iter().chain(rest).map(piece).collect::<Vec<_>>().concat())?;
    }

    // A request that is taken byte by byte, and an answer of three bytes.
    let taken = [0x80].repeat(3 * 20);
    put("kcs", "answered", &[&[0u8; 3][..], &taken, &[0x41, 0x2c, 0x41, 0x44, 0x41, 0, 0]].concat())?;
    put("kcs", "error", &[0xc0; 40])?;
    put("bt", "answered", &reads(BT, |_| {}))?;
    put("bt", "left-reading", &reads(BT, |sim| sim.bt.leave_reading(&[4, 0x1c, 1, 0x01, 0])))?;
    put("bt", "request-under-way", &reads(BT, |sim| sim.bt.leave_request(20, 100, &[4, 0x1c, 1, 0x01, 0])))?;
    put("ssif", "answered", &reads(SSIF, |sim| sim.bmc.answer_us = 0))?;
    put("ssif", "not-ready", &reads(SSIF, |sim| sim.bmc.answer_us = 15_000))?;
    put("ssif", "under-way", &reads(SSIF, |sim| sim.i801.leave_busy(true, 0x15, 0x84, Some(400))))?;
    put("plan", "all", b"elfcorehdr=834932K console=ttyS0,115200 lastwords.ipmi_handle_panic lastwords.output_cpu_ip=sel \
        lastwords.ipmi_watchdog=start=300,power-cycle lastwords.ipmi_kcs_ports=0xca8,0xcac lastwords.ipmi_timeout=9 \
        lastwords.ipmi_interface=bt:mmio:0xfe000000,4 lastwords.ipmi_interface=ssif:i801:0x700,0x42 \
        lastwords.budget=30 lastwords.sel_records=40 lastwords.sel_type=system lastwords.output_log=64K \
        lastwords.console=ttyS1,9600,vga lastwords.notify_hypervisor=mmio:0xfebf1000 lastwords.on_corrupt=boot lastwords.tsc_khz=2394000 lastwords.apic_ids=0-14/2,1-15/2 \
        lastwords.cpu_numbers=0-1,3 lastwords.cpu_online_mask=0x1c2f5a0,0x5f3e9a1b")?;

    let lines = [
        Line::Reason(b"sysrq triggered crash"),
        Line::BuildId(0x5f3e_9a1b),
        Line::Panicked(CpuLocation { cpu: 1, location: Location::Kernel(0x9c_2a36) }),
        Line::Cause(b"NULL deref at 18"),
        Line::Rip(b"null_pointer+a"),
        Line::Group { count: 254, location: Location::User },
        Line::Group { count: 2, location: Location::Unread },
        Line::Group { count: 12, location: Location::Off },
        Line::Group { count: 300, location: Location::OffOrNotResponding },
        Line::Omitted(3),
    ];
    let mut sel: Vec<[u8; 16]> = vec![event_record(*b"sys")];
    for line in &lines {
        sel.extend(records(sel::text(*line).as_bytes(), (sel.len() - 1) as u8));
    }
    sel.push(mark(Stage::Saved));
    put("sel", "words", &sel.concat())?;
    let text: Text<48> = stream([&b"hung_task: blocked tasks"[..], b"1=9c2a36"]);
    let events = text
        .as_bytes()
        .chunks(3)
        .map(|chunk| event_record(std::array::from_fn(|at| chunk.get(at).copied().unwrap_or(0))));
    put("sel", "events", &events.collect::<Vec<_>>().concat())?;

    // Every packet as it is; some lost, twice, cut, changed.
    put("lan", "kind", &[0; 4])?;
    put("lan", "not-kind", &[0, 144, 128, 0, 0, 192, 30, 1, 0, 160, 40, 0, 144, 0, 250, 3, 6, 0, 255, 0])?;

    // What the tools write of one log; in another encoding, and of two hosts in one stream.
    for entry in fs::read_dir(root.join("../cli/tests/read"))? {
        let path = entry?.path();
        if !path.is_file() {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(&path)?;
        if name.starts_with("ipmi") {
            put("text", &name, bytes.get(..4096).unwrap_or(&bytes))?;
        }
        if name == "ipmitool-list" {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = text.lines().take(40).collect();
            let wide = |line: &&str| {
                format!("{line}\r\n").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()
            };
            put(
                "text",
                "utf-16",
                &[b"\xff\xfe", &lines.iter().flat_map(wide).collect::<Vec<_>>()[..]].concat(),
            )?;
            let hosts = lines.iter().zip(["bmc1", "bmc2"].into_iter().cycle());
            put(
                "text",
                "hosts",
                hosts.map(|(line, host)| format!("{host}: {line}\n")).collect::<String>().as_bytes(),
            )?;
        }
    }

    let table = "ffffffff81000000 T _stext\nffffffff81000010 t do_one\nffffffff81000020 T _etext\n\
        ffffffffc0200000 t later\t[first]\n";
    let saved = format!(
        "# build-id 5f3e9a1b\n# release 6.1.0\n# booted 1795364771\n\
        # module first ffffffffc0200000 ffffffffc0202000\n{table}"
    );
    put("symbols", "kallsyms", table.as_bytes())?;
    put("symbols", "saved", saved.as_bytes())?;
    put("symbols", "modules", format!("{table}first 8192 0 - Live 0xffffffffc0200000\n").as_bytes())?;
    let vmlinux = vmlinux();
    put("symbols", "vmlinux", &vmlinux)?;
    for (name, bytes) in [("packed", table.as_bytes()), ("packed-vmlinux", &vmlinux)] {
        let mut gz = GzEncoder::new(Vec::new(), Compression::best());
        gz.write_all(bytes)?;
        put("symbols", name, &gz.finish()?)?;
    }

    // As `load` packs what it saves.
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(saved.as_bytes())?;
    put("symbols", "packed-saved", &zlib.finish()?)?;

    put("bzimage", "synthetic", &synthetic::Kernel::default().build())?;
    let wrapped =
        wrap(&synthetic::Kernel::default().build(), &synthetic::image(4096, 8192), "lastwords.budget=1");
    put("bzimage", "wrapped", &wrapped.map_err(io::Error::other)?)?;
    put("bzimage", "signed", &synthetic::Kernel { certificates: 64, ..Default::default() }.build())
}
