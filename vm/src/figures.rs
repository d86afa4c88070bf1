//! The figures of `make bench`, each measured in one run beside the stock tool's: how large, how fast to load, how
//! fast the digest, and how long from the panic to the dump kernel's entry.

use crate::gdb::Stub;
use crate::kernels::{Kernel, Release};
use crate::monitor::Monitor;
use crate::scenario::{Arm, Bmc, Scenario};
use crate::segments::Segments;
use crate::{cache, lastwords, process};
use anyhow::{Context, Result, ensure};
use lastwords_core::stub;
use object::{Object, ObjectSection, SectionFlags, elf};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Bytes that are loaded: the image's, and those of the purgatory that kexec-tools carries in its program.
///
/// # Errors
/// When one of them is not found.
pub fn sizes() -> Result<(u64, u64)> {
    let kernel = Kernel::get(Release::V6_1)?;
    let folder = tempfile::tempdir()?;
    let wrapped = folder.path().join("wrapped");
    lastwords::wrap(&kernel.image, &wrapped, "")?;
    let bytes = fs::read(wrapped)?;
    let image =
        bytes.windows(8).position(|word| word == stub::MAGIC).context("no image in a wrapped kernel")?;
    let size = &bytes[image + stub::FILE_SIZE..][..4];
    let ours = u32::from_le_bytes(size.try_into()?);

    let kexec = fs::read("/usr/sbin/kexec").context("kexec-tools is not installed")?;
    // An ELF file in an ELF file; the magic alone also stands where kexec compares with it.
    let purgatory = (4..kexec.len())
        .filter(|at| kexec[*at..].starts_with(&elf::ELFMAG))
        .find_map(|at| object::File::parse(&kexec[at..]).ok())
        .context("no purgatory in kexec")?;
    let loaded =
        |flags| matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(elf::SHF_ALLOC));
    let stock =
        purgatory.sections().filter(|section| loaded(section.flags())).map(|section| section.size()).sum();
    Ok((u64::from(ours), stock))
}

/// MB/s of SHA-256: our code with SHA-NI (where this CPU has it), without, `sha256sum`, and `openssl speed`.
///
/// # Errors
/// When one of them does not run.
pub fn digests() -> Result<[(&'static str, f64); 4]> {
    let bytes: u32 = 512 << 20;
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(bytes.into())?;
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let began = std::time::Instant::now();
        process::output(Command::new("sha256sum").arg(file.path()))?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    // `+F:21:sha256:…:1850594000.00`, bytes a second at the end.
    let speed = ["speed", "-mr", "-seconds", "1", "-bytes", "1048576", "-evp", "sha256"];
    let openssl = process::text(Command::new("openssl").args(speed))?;
    let openssl: f64 = openssl.trim().rsplit(':').next().context("openssl speed says nothing")?.parse()?;
    Ok([
        ("the image's code, SHA-NI where the CPU has it", digest(&[])?),
        ("the image's code, without", digest(&["--cfg=sha2_backend=\"soft\""])?),
        ("sha256sum", f64::from(bytes) / 1e6 / best),
        ("openssl speed", openssl / 1e6),
    ])
}

/// Our digest, built as cli/build.rs builds the image, with more flags.
fn digest(more: &[&str]) -> Result<f64> {
    let target = cache::target()?.join("vm").join(if more.is_empty() { "digest" } else { "digest-soft" });
    let flags = [&["-Cno-redzone=yes", "--cfg=sha2_backend_soft=\"compact\""], more].concat().join("\x1f");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "run",
        "--quiet",
        "-p",
        "lastwords-purgatory",
        "--example",
        "digest",
        "--profile",
        "purgatory",
    ]);
    cargo.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    cargo.arg("--target-dir").arg(target).env("CARGO_ENCODED_RUSTFLAGS", flags);
    Ok(process::text(&mut cargo)?.trim().parse()?)
}

/// What it takes to load a dump kernel.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Seconds.
    pub seconds: f64,
    /// Peak memory of the process, in KiB.
    pub peak: u64,
}

/// Loads in turn, in one machine, with `lastwords load` and with `kexec -p -c`; the medians.
///
/// # Errors
/// When one of them does not load.
pub fn loads() -> Result<(Load, Load)> {
    const TURNS: usize = 5;
    let arguments = "/boot/vmlinuz --initrd=/boot/initrd --append='nr_cpus=1 reset_devices'";
    let outcome = Scenario::new(Release::V6_1)
        .arm(Arm::Not)
        .lastwords_at_hand()
        .before(&format!(
            "for turn in 1 2 3 4 5; do\n\
             section ours-$turn time -v lastwords load --via purgatory {arguments}\nlastwords unload\n\
             section stock-$turn time -v kexec -p -c {arguments}\nkexec -p -u\ndone\nsection end true"
        ))
        .death("poweroff -f")
        .run()?;
    let median = |who: &str| -> Result<Load> {
        let mut loads = Vec::new();
        for turn in 1..=TURNS {
            let text = outcome.text(&format!("{who}-{turn}"))?;
            let value = |name: &str| {
                let line = text.lines().find(|line| line.contains(name));
                line.and_then(|line| line.rsplit(": ").next()).with_context(|| format!("no {name}: {text}"))
            };
            // `Elapsed (wall clock) time (h:mm:ss or m:ss): 0m 1.40s`
            let elapsed = value("Elapsed")?.trim_end_matches('s');
            let (minutes, seconds) = elapsed.split_once("m ").context("busybox's time has another form")?;
            let seconds = minutes.parse::<f64>()? * 60.0 + seconds.parse::<f64>()?;
            loads.push(Load { seconds, peak: value("Maximum resident")?.parse()? });
        }
        loads.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        Ok(loads[TURNS / 2])
    };
    Ok((median("ours")?, median("stock")?))
}

/// How the dump kernel is armed for the way from panic to entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `kexec -p -c`.
    Stock,
    /// `lastwords load`, with nothing to say.
    Silent,
    /// `lastwords load` with everything.
    Words,
}

/// Millions of guest instructions from the panic to the dump kernel's entry point, with an initial RAM disk of `mib` MiB: one CPU,
/// and a virtual clock that goes on by a nanosecond an instruction (`-icount shift=0`). Read from the ACPI PM timer,
/// so that it is right within 280 instructions.
///
/// # Errors
/// When the machine does not come there.
pub fn panic_to_entry(way: Way, mib: u64) -> Result<f64> {
    let stub = Stub::new()?;
    let options = stub.options();
    let (load, words) = match way {
        Way::Stock => ("kexec -p -c -d", ""),
        Way::Silent => ("lastwords load --via purgatory --verbose", ""),
        Way::Words => (
            "lastwords load --via purgatory --verbose",
            "--ipmi-handle-panic --output-cpu-ip --ipmi-watchdog start=120 --console-serial",
        ),
    };
    // Zeros behind an initial RAM disk are passed over when it is unpacked.
    let grow = format!("truncate -s {} /boot/initrd", mib << 20);
    let scenario = Scenario::new(Release::V6_1)
        .cpus(1)
        .first_append("crashkernel=384M")
        .bmc(Bmc::Simulator)
        .qemu(["-icount", "shift=0,sleep=off", "-rtc", "clock=vm", options[0].as_str(), options[1].as_str()])
        .arm(Arm::Not)
        .lastwords_at_hand()
        .limit(Duration::from_secs(900))
        .death(&format!(
            "{grow}\n{load} /boot/vmlinuz --initrd=/boot/initrd --append='console=ttyS0 quiet nr_cpus=1' {words} \
             >/tmp/load 2>&1 || step not armed\ngrep -E '^segment|kernel at 0x' /tmp/load >/dev/console\n\
             echo \"panic is at 0x$(sed -n 's/ T panic$//p' /proc/kallsyms)\" >/dev/console\n\
             step the dump kernel is armed\nsleep 1\npanic_on 0"
        ));
    let mut segments = Segments::default();
    let mut panic = None;
    let mut took = None;
    scenario.watch(|vm, line| {
        segments.read(&line.text);
        if let Some((_, address)) = line.text.split_once("panic is at 0x") {
            panic = Some(u64::from_str_radix(address.trim(), 16)?);
        }
        if line.text.contains("the dump kernel is armed") {
            let mut gdb = stub.connect()?;
            let mut monitor = vm.monitor()?;
            gdb.go_to(panic.context("no symbol panic")?)?;
            let (began, began_second) = (pm_timer(&mut monitor)?, rtc_second(&mut monitor)?);
            gdb.go_to(segments.entry()?)?;
            let (ticks, second) = (pm_timer(&mut monitor)?, rtc_second(&mut monitor)?);
            // The PM timer is fine, but counts to 2^24 only, which is 4.7 s; the RTC tells how often it has.
            let fine = f64::from(ticks.wrapping_sub(began) & 0xff_ffff) / PM_HZ;
            let coarse = f64::from((second + 60 - began_second) % 60);
            let turn = f64::from(1 << 24) / PM_HZ;
            let turns = ((coarse - fine) / turn).round().max(0.0);
            took = Some((fine + turns * turn) * 1e9);
            monitor.execute("quit", &serde_json::json!({}))?;
        }
        Ok(())
    })?;
    let took = took.context("the machine was not armed")?;
    ensure!(took > 0.0, "the clock stood still");
    Ok(took / 1e6)
}

/// Ticks a second of the ACPI PM timer (ACPI 6.5, 4.8.3.3).
const PM_HZ: f64 = 3_579_545.0;

/// The RTC's seconds, in BCD.
fn rtc_second(monitor: &mut Monitor) -> Result<u32> {
    monitor.human("o /b 0x70 0")?;
    let text = monitor.human("i /b 0x71")?;
    let value = text.rsplit("0x").next().context("no RTC")?;
    value.trim().parse().with_context(|| format!("no RTC: {text}"))
}

/// The ACPI PM timer of QEMU's q35.
fn pm_timer(monitor: &mut Monitor) -> Result<u32> {
    // `portl[0x0608] = 0x1234567`
    let text = monitor.human("i /w 0x608")?;
    let value = text.rsplit("0x").next().context("no PM timer")?;
    u32::from_str_radix(value.trim(), 16).with_context(|| format!("no PM timer: {text}"))
}
