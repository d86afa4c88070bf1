//! `lastwords status`: will the next panic be reported and dumped, and if not, what keeps it from that. Only what is known is shown.

use super::{
    console,
    kdump::Kdump,
    loaded::{self, Known, Loaded},
    via::{self, Obstacle},
};
use crate::{
    bmc::discovery::{self, Kind},
    layout::{self, BAD, Color, Duration, GOOD, Row, wrap, write_rows},
    machine::{self, hostname},
    message,
};
use anyhow::{Context, Result};
use clap::Args;
use lastwords_core::{
    device::uart::Serial,
    ipmi::{commands::Action, interface::KcsPorts, watchdog::Watchdog},
    plan::Plan,
};
use serde_json::json;
use std::{path::Path, process::ExitCode};

/// Exit status: not ready.
const NOT_READY: u8 = 3;
/// Columns of the rows' labels.
const LABELS: usize = 13;

/// Show whether the next panic will be reported and dumped
///
/// Shows the loaded dump kernel and its reports, what keeps one from being loaded, and where the BMC (baseboard
/// management controller) is. Of a dump kernel that another program has loaded the reports are unknown.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords status
  lastwords status --quiet || systemctl restart kdump

Exit status:
  0  ready
  1  failed
  2  wrong usage
  3  not ready

Files:
  /run/lastwords/loaded.json  what lastwords load has loaded

Environment:
  NO_COLOR  no colour, unless --color always")]
pub struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing, only set the exit status
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    color: Color,
}

impl Status {
    /// Prints the status; not ready is exit status 3.
    ///
    /// # Errors
    /// When standard output fails.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        self.color.apply();
        let kdump = Kdump::read(root);
        let report = Report {
            host: hostname(root),
            loaded: if kdump.crash_loaded == Some(true) { loaded::known(root) } else { Known::Other },
            obstacle: via::obstacle(root, &kdump),
            interfaces: discovery::interfaces(root),
            now: machine::now(),
            kdump,
        };
        let printed = match (self.quiet, self.json) {
            (true, _) => Ok(()),
            (_, true) => message::json(&report.json()),
            (..) => message::report(report.text(layout::width())),
        };
        printed.context("standard output")?;
        Ok(if report.verdict().0 { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) })
    }
}

/// What is known.
struct Report {
    host: Option<String>,
    kdump: Kdump,
    /// What is known of the dump kernel, where one is loaded.
    loaded: Known,
    /// What keeps from loading as the purgatory.
    obstacle: Option<Obstacle>,
    interfaces: Vec<discovery::Interface>,
    /// Seconds since 1970.
    now: i64,
}

impl Report {
    fn ours(&self) -> Option<&Loaded> {
        match &self.loaded {
            Known::Ours(loaded) => Some(loaded),
            Known::Interrupted(_) | Known::Hidden | Known::Other => None,
        }
    }

    /// What the loaded image will do, where that is known.
    fn plan(&self) -> Option<Plan<'_>> {
        self.ours().map(|loaded| Plan::new("", &loaded.parameters))
    }

    /// Is it ready, and for what?
    fn verdict(&self) -> (bool, &'static str) {
        let Kdump { crash_loaded, crash_size, busy, load_disabled, limit_panic, .. } = self.kdump;
        let reserved = crash_size > 0 || busy;
        match crash_loaded {
            None => (false, "this kernel has no kdump"),
            Some(false) if !reserved || load_disabled || limit_panic == Some(0) => {
                (false, "no dump kernel can be loaded")
            }
            Some(false) => (false, "no dump kernel is loaded"),
            Some(true) => match self.plan() {
                None => (true, "the next panic will be dumped; reports unknown"),
                Some(plan) if reports(&plan).is_empty() => {
                    (false, "the next panic will be dumped, but not reported")
                }
                Some(_) => (true, "the next panic will be reported and dumped"),
            },
        }
    }

    fn text(&self, width: usize) -> String {
        let (ready, verdict) = self.verdict();
        let (style, title) = if ready { (GOOD, "READY") } else { (BAD, "NOT READY") };
        let host = self.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        let verdict = wrap(&format!("{title}{host}: {verdict}"), 0, 2, width);
        let mut text = format!("{style}{verdict}{style:#}\n\n");
        // A String takes everything.
        let _ = write_rows(&mut text, &self.rows(), LABELS, width);
        text
    }

    fn rows(&self) -> Vec<Row> {
        let kdump = &self.kdump;
        let mut rows = vec![self.dump_kernel()];
        if let Some(plan) = self.plan() {
            let reports = reports(&plan);
            for (index, report) in reports.iter().enumerate() {
                rows.push(Row::new(if index == 0 { "Reports" } else { "" }, report));
            }
            if reports.is_empty() {
                let fix = "lastwords load with --ipmi-handle-panic, --output-cpu-ip or --output-log";
                rows.push(Row::alarm("Reports", "none").fix(fix));
            }
            let line = self.ours().map(|loaded| loaded.parameters.as_str()).unwrap_or_default();
            if let Some(word) = console::foreign(&plan, line) {
                rows.push(Row::new("Console", format!("none: {word} is no UART (--serial)")));
            }
            rows.push(Row::new("Watchdog", watchdog(plan.watchdog)));
        } else if kdump.crash_loaded == Some(true) {
            rows.push(Row::new("Reports", "unknown"));
        }
        rows.extend(self.method());
        rows.push(match kdump.crash_size {
            _ if kdump.busy => Row::new("Memory", "unknown: another program is loading a kernel"),
            0 => Row::alarm("Memory", "none reserved").fix("boot with crashkernel=256M"),
            size => Row::new("Memory", format!("{} MiB reserved", size >> 20)),
        });
        rows.push(Row::new(
            "Lockdown",
            kdump.lockdown.as_ref().map_or_else(
                || "none".to_owned(),
                |mode| format!("{mode}: only signed kernels can be loaded"),
            ),
        ));
        rows.extend(self.loading());
        rows.push(self.bmc());
        rows
    }

    fn dump_kernel(&self) -> Row {
        const LABEL: &str = "Dump kernel";
        let Kdump { crash_loaded, crash_size, busy, load_disabled, .. } = self.kdump;
        match (crash_loaded, &self.loaded) {
            (None, _) => Row::alarm(LABEL, "not supported by the running kernel")
                .fix("boot a kernel with CONFIG_CRASH_DUMP=y"),
            (Some(false), _) if crash_size == 0 && !busy || load_disabled => Row::alarm(LABEL, "none loaded"),
            (Some(false), _) => Row::alarm(LABEL, "none loaded").fix("lastwords load --help"),
            (Some(true), Known::Ours(loaded)) => Row::new(
                LABEL,
                format!(
                    "{}, loaded {} ago",
                    loaded.kernel.display(),
                    Duration(self.now.saturating_sub(loaded.time).max(0))
                ),
            ),
            (Some(true), Known::Interrupted(loaded)) => Row::new(
                LABEL,
                format!(
                    "{}, if no other program has loaded one since; loading was interrupted",
                    loaded.kernel.display()
                ),
            )
            .fix("load again"),
            (Some(true), Known::Hidden) => {
                Row::new(LABEL, "loaded; the kernel does not show which one (run as root)")
            }
            (Some(true), Known::Other) => Row::new(LABEL, "loaded by another program or unknown"),
        }
    }

    /// How it was loaded; where that is unknown, how `lastwords load` would.
    fn method(&self) -> Option<Row> {
        const LABEL: &str = "Method";
        let name = |method: &str| match method {
            "purgatory" => "purgatory (kexec_load)".to_owned(),
            _ => "wrap (kexec_file_load)".to_owned(),
        };
        if let Some(loaded) = self.ours() {
            return Some(Row::new(LABEL, name(&loaded.method)));
        }
        let next = |method, why: &str| Row::new(LABEL, format!("{} at the next load{why}", name(method)));
        match &self.obstacle {
            _ if self.kdump.load_disabled || self.kdump.crash_size == 0 && !self.kdump.busy => None,
            None => Some(next("purgatory", "")),
            Some(Obstacle::Permission) => Some(Row::new(LABEL, "unknown (run as root)")),
            Some(obstacle) => Some(next("wrap", &format!(": {obstacle}"))),
        }
    }

    /// What keeps from loading.
    fn loading(&self) -> Option<Row> {
        const LABEL: &str = "Loading";
        if self.kdump.load_disabled {
            let text = "disabled until the next boot (sysctl kernel.kexec_load_disabled)";
            return Some(if self.kdump.crash_loaded == Some(true) {
                Row::new(LABEL, text)
            } else {
                Row::alarm(LABEL, text).fix("reboot")
            });
        }
        let limit = self.kdump.limit_panic?;
        let text = format!("possible {limit} more times (sysctl kernel.kexec_load_limit_panic)");
        let bad = limit == 0 && self.kdump.crash_loaded != Some(true);
        Some(if bad { Row::alarm(LABEL, text).fix("reboot") } else { Row::new(LABEL, text) })
    }

    fn bmc(&self) -> Row {
        const LABEL: &str = "BMC";
        let plan = self.plan().filter(Plan::talks_to_bmc);
        let wanted = plan.is_some();
        let tabled = discovery::best(&self.interfaces).and_then(discovery::Interface::ports);
        // What the image uses is what it was loaded with, whatever the tables have.
        if let Some(ports) = plan.map(|plan| plan.kcs_ports).filter(|ports| Some(*ports) != tabled)
            && ports != KcsPorts::DEFAULT
        {
            return Row::new(LABEL, format!("KCS {ports} as loaded (untested: lastwords probe)"));
        }
        let Some(best) = discovery::best(&self.interfaces) else {
            let text = format!("none found; KCS {} is tried (untested: lastwords probe)", KcsPorts::DEFAULT);
            return Row::new(LABEL, text);
        };
        let source = source(best.source);
        if let Some(ports) = best.ports() {
            return Row::new(LABEL, format!("KCS {ports} from {source} (untested: lastwords probe)"));
        }
        let text = format!("{} from {source}: not supported", kind(best.kind));
        if wanted { Row::alarm(LABEL, text).fix("use --serial") } else { Row::new(LABEL, text) }
    }

    /// For programs. What is unknown is null.
    fn json(&self) -> serde_json::Value {
        let Kdump { crash_loaded, crash_size, crash_ranges, lockdown, load_disabled, limit_panic, .. } =
            &self.kdump;
        let (ready, verdict) = self.verdict();
        let ours = self.ours();
        let ranges = crash_ranges.iter().filter(|range| *range.end() != 0);
        json!({
            "schema": 1,
            "ready": ready,
            "verdict": verdict,
            "host": self.host,
            "loaded": crash_loaded,
            "kernel": ours.map(|loaded| loaded.kernel.display().to_string()),
            "loaded_at": ours.map(|loaded| loaded.time),
            "parameters": ours.map(|loaded| &loaded.parameters),
            "method": ours.map(|loaded| &loaded.method),
            "reports": self.plan().map(|plan| reports(&plan)),
            "watchdog": self.plan().map(|plan| watchdog(plan.watchdog)),
            "reserved_bytes": crash_size,
            "reserved_ranges": ranges.map(|range| format!("{:#x}-{:#x}", range.start(), range.end())).collect::<Vec<_>>(),
            "lockdown": lockdown,
            "load_disabled": load_disabled,
            "load_limit": limit_panic,
            "bmc_interfaces": self.interfaces.iter().map(|interface| json!({
                "kind": kind(interface.kind),
                "registers": interface.ports().map(|ports| ports.to_string()),
                "source": source(interface.source),
                "used": discovery::best(&self.interfaces) == Some(interface),
            })).collect::<Vec<_>>(),
        })
    }
}

/// `panic reason and CPU locations, to SEL and ttyS0`: what goes where, a line for each where it differs.
fn reports(plan: &Plan) -> Vec<String> {
    let list = |parts: &[(bool, &str)]| {
        let parts: Vec<_> = parts.iter().filter(|(is, _)| *is).map(|(_, part)| *part).collect();
        match parts[..] {
            [] => None,
            [one] => Some(one.to_owned()),
            [ref first @ .., last] => Some(format!("{} and {last}", first.join(", "))),
        }
    };
    let log = format!("last {} bytes of the log", plan.output_log);
    let sel = list(&[(plan.handle_panic, "panic reason"), (plan.cpu_ip.sel, "CPU locations")]);
    let consoles = list(&[
        (plan.console.serial.is_some(), &plan.console.serial.map(uart).unwrap_or_default()),
        (plan.console.vga, "VGA"),
    ]);
    // The console has the headline wherever there is anything to report.
    let on_console = list(&[
        (plan.talks_to_bmc() || plan.cpu_ip.console || plan.output_log > 0, "panic reason"),
        (plan.cpu_ip.console, "CPU locations"),
        (plan.output_log > 0, &log),
    ]);
    match (sel, on_console.zip(consoles)) {
        (None, None) => Vec::new(),
        (Some(sel), None) => vec![format!("{sel}, to SEL")],
        (Some(sel), Some((text, consoles))) if sel == text => vec![format!("{sel}, to SEL and {consoles}")],
        (sel, Some((text, consoles))) => {
            let sel = sel.map(|sel| format!("{sel}, to SEL"));
            sel.into_iter().chain([format!("{text}, to {consoles}")]).collect()
        }
    }
}

/// `ttyS0` where it is one of a PC's, else where its registers are.
fn uart(serial: Serial) -> String {
    let names = (0..4).map(|number| format!("ttyS{number}"));
    let name = names.into_iter().find(|name| Serial::parse(name).is_some_and(|pc| pc.base == serial.base));
    name.unwrap_or_else(|| format!("UART {}", serial.base))
}

fn watchdog(watchdog: Watchdog) -> String {
    match watchdog {
        Watchdog::Leave => "not changed".to_owned(),
        Watchdog::Stop => "stopped".to_owned(),
        Watchdog::Start { seconds, action: Action::None } => format!("no action after {seconds} s"),
        Watchdog::Start { seconds, action } => format!("{} after {seconds} s", action.name()),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Kcs => "KCS",
        Kind::Smic => "SMIC",
        Kind::Bt => "BT",
        Kind::Ssif => "SSIF",
    }
}

fn source(source: discovery::Source) -> &'static str {
    match source {
        discovery::Source::Driver => "ipmi_si",
        discovery::Source::Smbios => "SMBIOS type 38",
        discovery::Source::Spmi => "ACPI SPMI",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::{Interface, Space};

    const NOW: i64 = 1_795_397_900;

    fn loaded(parameters: &str) -> Known {
        let loaded = json!({
            "schema": 1, "boot_id": "", "image": null, "time": NOW - 3 * 24 * 60 * 60 - 60,
            "kernel": "/boot/vmlinuz-6.1.0-56-amd64", "method": "purgatory", "parameters": parameters,
        });
        Known::Ours(serde_json::from_value(loaded).unwrap())
    }

    /// A machine on which this is loaded, with a BMC that the driver has.
    fn report(loaded: Known) -> Report {
        let driver = Interface {
            kind: Kind::Kcs,
            space: Space::Io,
            address: 0xca2,
            spacing: 1,
            source: discovery::Source::Driver,
        };
        Report {
            host: Some("db04".to_owned()),
            kdump: Kdump {
                crash_loaded: Some(true),
                crash_size: 256 << 20,
                crash_ranges: std::iter::once(0x2500_0000..=0x34ff_ffff).collect(),
                ..Kdump::default()
            },
            loaded,
            obstacle: None,
            interfaces: vec![driver],
            now: NOW,
        }
    }

    fn shown(report: &Report) -> String {
        let text = report.text(80);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80), "{text}");
        text
    }

    const ALL: &str = "lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.ipmi_watchdog=start=300";

    #[test]
    fn ready() {
        let report = report(loaded(&format!("console=ttyS0,115200 {ALL}")));
        assert!(report.verdict().0);
        assert_eq!(
            shown(&report),
            "\
READY on db04: the next panic will be reported and dumped

  Dump kernel  /boot/vmlinuz-6.1.0-56-amd64, loaded 3 days ago
  Reports      panic reason and CPU locations, to SEL and ttyS0
  Watchdog     reset after 300 s
  Method       purgatory (kexec_load)
  Memory       256 MiB reserved
  Lockdown     none
  BMC          KCS 0xca2,0xca3 from ipmi_si (untested: lastwords probe)
"
        );
    }

    #[test]
    fn what_another_program_has_loaded_is_unknown() {
        let locked = |loaded| {
            let mut report = report(loaded);
            report.kdump.lockdown = Some("integrity".to_owned());
            report.obstacle = Some(Obstacle::Lockdown("integrity".to_owned()));
            report.interfaces[0].kind = Kind::Bt;
            report
        };
        assert!(locked(Known::Other).verdict().0);
        assert_eq!(
            shown(&locked(Known::Other)),
            "\
READY on db04: the next panic will be dumped; reports unknown

  Dump kernel  loaded by another program or unknown
  Reports      unknown
  Method       wrap (kexec_file_load) at the next load: lockdown (integrity)
               forbids kexec_load(2)
  Memory       256 MiB reserved
  Lockdown     integrity: only signed kernels can be loaded
  BMC          BT from ipmi_si: not supported
"
        );
        let hidden = shown(&locked(Known::Hidden));
        assert!(
            hidden.contains("Dump kernel  loaded; the kernel does not show which one (run as root)\n"),
            "{hidden}"
        );
    }

    #[test]
    fn a_load_that_was_interrupted_is_shown() {
        let Known::Ours(record) = loaded(ALL) else { panic!("it is ours") };
        let report = report(Known::Interrupted(record));
        // Which of the two it is nobody knows, and so what will be reported.
        assert_eq!(report.verdict(), (true, "the next panic will be dumped; reports unknown"));
        let text = shown(&report);
        let begin = "  Dump kernel  /boot/vmlinuz-6.1.0-56-amd64, if no other program has loaded one";
        assert!(text.contains(begin) && text.contains("fix: load again\n"), "{text}");
    }

    #[test]
    fn while_another_program_loads_the_reservation_is_unknown() {
        let mut report = report(Known::Other);
        report.kdump = Kdump { crash_loaded: Some(false), crash_size: 0, busy: true, ..report.kdump };
        assert_eq!(report.verdict(), (false, "no dump kernel is loaded"));
        let text = shown(&report);
        assert!(
            text.contains("Memory       unknown: another program") && !text.contains("crashkernel"),
            "{text}"
        );
    }

    #[test]
    fn a_silent_dump_kernel_is_not_ready() {
        let report = report(loaded("console=ttyS0"));
        assert!(!report.verdict().0);
        let text = shown(&report);
        let begin = "\
NOT READY on db04: the next panic will be dumped, but not reported

  Dump kernel  /boot/vmlinuz-6.1.0-56-amd64, loaded 3 days ago
! Reports      none
               fix: lastwords load with --ipmi-handle-panic, --output-cpu-ip or
               --output-log
  Watchdog     not changed
";
        assert!(text.starts_with(begin), "{text}");
    }

    #[test]
    fn nothing_can_be_loaded() {
        let mut report = report(Known::Other);
        report.kdump = Kdump { crash_loaded: Some(false), ..Kdump::default() };
        report.interfaces.clear();
        assert!(!report.verdict().0);
        assert_eq!(
            shown(&report),
            "\
NOT READY on db04: no dump kernel can be loaded

! Dump kernel  none loaded
! Memory       none reserved
               fix: boot with crashkernel=256M
  Lockdown     none
  BMC          none found; KCS 0xca2,0xca3 is tried (untested: lastwords probe)
"
        );
        report.kdump = Kdump { crash_size: 256 << 20, load_disabled: true, ..report.kdump };
        let text = shown(&report);
        let disabled = "\
! Loading      disabled until the next boot (sysctl kernel.kexec_load_disabled)
               fix: reboot
";
        assert!(text.starts_with("NOT READY") && text.contains(disabled), "{text}");
        report.kdump = Kdump::default();
        let text = shown(&report);
        assert!(
            text.contains("this kernel has no kdump\n") && text.contains("CONFIG_CRASH_DUMP=y\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_loaded_yet() {
        let mut report = report(Known::Other);
        report.kdump.crash_loaded = Some(false);
        let begin = "\
NOT READY on db04: no dump kernel is loaded

! Dump kernel  none loaded
               fix: lastwords load --help
  Method       purgatory (kexec_load) at the next load
  Memory       256 MiB reserved
";
        assert!(shown(&report).starts_with(begin), "{}", shown(&report));
    }

    #[test]
    fn a_console_that_cannot_be_written_to_is_shown() {
        let text = |line: &str| report(loaded(&format!("{ALL} {line}"))).text(200);
        let silent = text("console=tty0 console=hvc0");
        assert!(silent.contains("Console      none: console=hvc0 is no UART (--serial)\n"), "{silent}");
        assert!(!text("console=hvc0 earlyprintk=serial,ttyS0").contains("Console"));
        assert!(!text("console=hvc0 lastwords.console=none").contains("Console"));
    }

    #[test]
    fn reports_say_what_goes_where() {
        let reports = |line: &str| reports(&Plan::new("", line)).join("; ");
        assert_eq!(reports(""), "");
        assert_eq!(reports("console=ttyS1"), "");
        assert_eq!(reports("lastwords.ipmi_handle_panic"), "panic reason, to SEL");
        assert_eq!(
            reports("lastwords.ipmi_handle_panic lastwords.console=ttyS1 lastwords.output_cpu_ip=console"),
            "panic reason, to SEL; panic reason and CPU locations, to ttyS1"
        );
        assert_eq!(
            reports("lastwords.output_log=1k lastwords.console=0x4000"),
            "panic reason and last 1024 bytes of the log, to UART 0x4000"
        );
        assert_eq!(reports("lastwords.ipmi_watchdog=stop console=ttyS0"), "panic reason, to ttyS0");
    }

    #[test]
    fn json_has_what_the_text_has() {
        let json = report(loaded(ALL)).json();
        assert_eq!((&json["schema"], &json["ready"]), (&json!(1), &json!(true)));
        assert_eq!(json["kernel"], "/boot/vmlinuz-6.1.0-56-amd64");
        assert_eq!(json["reports"], json!(["panic reason and CPU locations, to SEL"]));
        assert_eq!(json["reserved_ranges"], json!(["0x25000000-0x34ffffff"]));
        let bmc = json!([{"kind": "KCS", "registers": "0xca2,0xca3", "source": "ipmi_si", "used": true}]);
        assert_eq!(json["bmc_interfaces"], bmc);
        assert_eq!(report(Known::Other).json()["parameters"], json!(null));
    }
}
