//! `lastwords status`: will the next panic be reported and dumped, and if not, what keeps it from that. Only what is known is shown.

use super::{
    alone, console,
    encryption::{self, Encryption},
    held::{self, Held, Kernel, Kind as Way, Seen, parameters},
    image,
    kdump::{Kdump, amount},
    loaded::{self, Loaded},
    setup::Setup,
    via::{self, Obstacle},
};
use crate::{
    bmc::{
        self, Presence,
        discovery::{self, Found},
    },
    check::tested::Tested,
    distro::wrapped::{self, Record},
    layout::{self, BAD, Color, Duration, GOOD, Row, wrap, write_rows},
    machine::{self, hostname},
    message,
};
use anyhow::{Context, Result};
use clap::Args;
use lastwords_boot as boot;
use lastwords_core::{
    device::{pvpanic::Hypervisor, uart::Serial},
    ipmi::{commands::Action, interface::Interface, watchdog::Watchdog},
    plan::{Plan, Then},
};
use serde_json::json;
use std::{fs, path::Path, process::ExitCode};

/// Exit status: not ready, or unknown.
const NOT_READY: u8 = 3;
/// Columns of the rows' labels.
const LABELS: usize = 13;

/// Show whether the next panic will be reported and dumped
///
/// Shows which dump kernel is loaded, whoever has loaded it, what it will report, and what keeps from that. Only root can see
/// what is loaded.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords status
  lastwords status --quiet || systemctl restart kdump

Exit status:
  0  ready
  1  failed
  2  wrong usage
  3  not ready, or unknown

Files:
  /proc/kcore                       what is loaded
  /boot, /var/lib/kdump             the kernels it may be
  /run/lastwords/loaded.json        when it was loaded
  /var/lib/lastwords/tested.json    result of the last lastwords test
  /var/lib/lastwords/crashes        crashes of this machine

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
        let report = Report::read(root);
        let printed = match (self.quiet, self.json) {
            (true, _) => Ok(()),
            (_, true) => message::json(&report.json()),
            (..) => message::report(report.text(layout::width())),
        };
        printed.context("standard output")?;
        Ok(match report.verdict().0 {
            Ready => ExitCode::SUCCESS,
            NotReady | Unknown => ExitCode::from(NOT_READY),
        })
    }
}

/// Writes one line to the journal on what is loaded, and remembers since when. For whoever has let another program load.
pub fn journal_line(root: &Path) {
    loaded::announce(root, None);
}

/// Will the next panic be reported and dumped?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ready,
    NotReady,
    Unknown,
}

use Verdict::{NotReady, Ready, Unknown};

/// What is known.
struct Report {
    host: Option<String>,
    kdump: Kdump,
    /// The dump kernel, where one is loaded.
    seen: Option<Seen>,
    /// What was remembered of this load.
    remembered: Option<Loaded>,
    /// The running kernel's release.
    release: Option<String>,
    /// The confidential guest that this is: nothing can be reported in it.
    guest: Option<&'static str>,
    setup: Setup,
    tested: Option<Tested>,
    /// What keeps from loading as the purgatory.
    obstacle: Option<Obstacle>,
    interfaces: Vec<Found>,
    /// Why no BMC would get what it is to get, where that can be seen.
    no_bmc: Option<String>,
    /// Nobody can see whether one would.
    unseen: bool,
    /// Seconds since 1970.
    now: i64,
}

impl Report {
    fn read(root: &Path) -> Self {
        let mut report = Self::without_bmc(root);
        let plan = report.plan().filter(Plan::talks_to_bmc);
        let presence = plan.map(|plan| match plan.interface {
            Some(interface) => bmc::presence(root, interface),
            None if report.has_our_image() => Presence::Nobody("none is named in what is loaded".to_owned()),
            // What an image of another version does without a name is not known here.
            None => Presence::Somebody,
        });
        match presence {
            Some(Presence::Nobody(why)) => report.no_bmc = Some(why),
            Some(Presence::Unseen) => report.unseen = report.tested.is_none(),
            Some(Presence::Somebody) | None => {}
        }
        report
    }

    /// All but whether somebody is where the loaded image speaks to.
    fn without_bmc(root: &Path) -> Self {
        let kdump = Kdump::read(root);
        let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).ok();
        let release = release.map(|text| text.trim().to_owned());
        let last = loaded::last(root);
        let named = last.as_ref().map(|last| last.kernel.as_path());
        let seen = (kdump.crash_loaded == Some(true)).then(|| held::look(root, named));
        let checksum = match &seen {
            Some(Seen::Other(checksum)) => Some(checksum),
            Some(Seen::Held(held)) => Some(&held.checksum),
            Some(Seen::Hidden) | None => None,
        };
        Self {
            host: hostname(root),
            remembered: checksum.and_then(|checksum| loaded::remembered(root, checksum)),
            seen,
            guest: match encryption::find(root) {
                Encryption::Guest(guest) => Some(guest),
                Encryption::Memory | Encryption::None => None,
            },
            setup: Setup::read(root, release.as_deref()),
            tested: Tested::read(root),
            release,
            obstacle: via::obstacle(root, &kdump),
            interfaces: discovery::interfaces(root),
            no_bmc: None,
            unseen: false,
            now: machine::now(),
            kdump,
        }
    }

    fn is_alone(&self) -> bool {
        self.held().is_some_and(|held| held.alone)
    }

    fn held(&self) -> Option<&Held> {
        match &self.seen {
            Some(Seen::Held(held)) => Some(held),
            Some(Seen::Hidden | Seen::Other(_)) | None => None,
        }
    }

    /// The lines with parameters that the loaded image reads.
    fn lines(&self) -> Option<[&str; 2]> {
        self.held().filter(|_| self.guest.is_none()).and_then(Held::lines)
    }

    /// What the loaded image will do, where that is known.
    fn plan(&self) -> Option<Plan<'_>> {
        self.lines().map(|[embedded, line]| Plan::new(embedded, line))
    }

    /// What will be reported; `None` where that is unknown.
    fn reports(&self) -> Option<Vec<String>> {
        let held = self.held()?;
        if self.guest.is_some() {
            return Some(Vec::new());
        }
        match &held.image {
            None => Some(Vec::new()),
            Some(image) => match &image.parameters {
                Err(boot::Error::OtherVersion(_)) => None,
                // A corrupt one starts the dump kernel and reports nothing.
                Err(_) => Some(Vec::new()),
                Ok(_) => self.plan().map(|plan| reports(&plan)),
            },
        }
    }

    /// The loaded kernel's release.
    fn loaded_release(&self) -> Option<&str> {
        let of_file = self.held()?.kernel.as_ref().and_then(|kernel| kernel.release.as_deref());
        of_file.or_else(|| self.remembered.as_ref()?.release.as_deref())
    }

    /// Is another kernel loaded than the one that is running?
    fn is_of_another_kernel(&self) -> bool {
        self.loaded_release().zip(self.release.as_deref()).is_some_and(|(loaded, running)| loaded != running)
    }

    /// Is the initial RAM disk one of another kernel, by its name?
    fn has_foreign_initrd(&self) -> bool {
        let path = || self.held()?.initrd.as_ref()?.path.as_deref()?.file_name()?.to_str();
        let Some((name, release)) = path().zip(self.loaded_release()) else { return false };
        let version =
            ["initrd.img-", "initramfs-", "initrd-"].iter().find_map(|prefix| name.strip_prefix(prefix));
        version.is_some_and(|version| {
            version.starts_with(|first: char| first.is_ascii_digit()) && !version.starts_with(release)
        })
    }

    /// The command that loads again.
    fn reload(&self) -> String {
        self.setup
            .service
            .map_or_else(|| "lastwords load --help".to_owned(), |service| service.reload.join(" "))
    }

    /// Is it ready, and for what?
    fn verdict(&self) -> (Verdict, &'static str) {
        let Kdump { crash_loaded, crash_size, busy, load_disabled, limit_panic, .. } = self.kdump;
        let reserved = crash_size > 0 || busy;
        match crash_loaded {
            None => (NotReady, "this kernel has no kdump"),
            Some(false) if !reserved || load_disabled || limit_panic == Some(0) => {
                (NotReady, "no dump kernel can be loaded")
            }
            Some(false) => (NotReady, "no dump kernel is loaded"),
            Some(true) if self.is_alone() => match self.reports() {
                None => (Unknown, "no dump kernel: reports unknown, then the machine resets"),
                Some(reports) if reports.is_empty() => {
                    (NotReady, "no dump kernel: the next panic will not be reported, only end")
                }
                Some(_) if self.no_bmc.is_some() => {
                    (NotReady, "no dump kernel: the report of the next panic will not reach the BMC")
                }
                Some(_) if self.has_failed_test() => {
                    (NotReady, "no dump kernel: the last test of the report failed")
                }
                Some(_) if self.unseen => {
                    (Unknown, "no dump kernel: whether the BMC gets the report of the next panic is unknown")
                }
                Some(_) => (Ready, self.plan().map_or("", |plan| alone::verdict(&plan))),
            },
            Some(true) => match self.reports() {
                None => (Unknown, "a dump kernel is loaded; reports unknown"),
                Some(reports) if reports.is_empty() => {
                    (NotReady, "the next panic will be dumped, but not reported")
                }
                Some(_) if self.no_bmc.is_some() => {
                    (NotReady, "the next panic will be dumped, but its report will not reach the BMC")
                }
                Some(_) if self.has_failed_test() => {
                    (NotReady, "the next panic will be dumped; the last test of its report failed")
                }
                Some(_) if self.unseen => {
                    (Unknown, "the next panic will be dumped; whether the BMC gets its report is unknown")
                }
                Some(_) if self.has_foreign_initrd() => {
                    (NotReady, "the next panic will be reported, but may not be dumped")
                }
                Some(_) if self.setup.enabled && self.is_of_another_kernel() => {
                    (NotReady, "the dump kernel is not the running kernel")
                }
                Some(_) => (Ready, "the next panic will be reported and dumped"),
            },
        }
    }

    fn text(&self, width: usize) -> String {
        let (verdict, text) = self.verdict();
        let (style, title) = match verdict {
            Ready => (GOOD, "READY"),
            NotReady => (BAD, "NOT READY"),
            Unknown => (BAD, "UNKNOWN"),
        };
        let host = self.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        let verdict = wrap(&format!("{title}{host}: {text}"), 0, 2, width);
        let mut text = format!("{style}{verdict}{style:#}\n\n");
        // A String takes everything.
        let _ = write_rows(&mut text, &self.rows(), LABELS, width);
        text
    }

    fn rows(&self) -> Vec<Row> {
        let kdump = &self.kdump;
        let mut rows = vec![self.dump_kernel()];
        rows.extend(self.initrd());
        rows.extend(self.report_rows());
        if let Some((plan, [_, line])) = self.plan().zip(self.lines()) {
            if let Some(word) = console::foreign(&plan, line) {
                rows.push(Row::new("Console", format!("none: {word} is no UART (--serial)")));
            }
            rows.push(self.watchdog(plan.watchdog));
        }
        rows.extend(self.method());
        rows.push(match kdump.crash_size {
            _ if kdump.busy => Row::new("Memory", "unknown: another program is loading a kernel"),
            0 => Row::alarm("Memory", "none reserved").fix("boot with crashkernel=256M"),
            size => Row::new("Memory", format!("{} reserved", amount(size))),
        });
        rows.push(Row::new(
            "Lockdown",
            kdump.lockdown.as_ref().map_or_else(
                || "none".to_owned(),
                |mode| format!("{mode}: only signed kernels can be loaded"),
            ),
        ));
        rows.extend(self.secure_boot());
        rows.extend(self.loading());
        rows.extend(self.bmc());
        rows.extend(self.test());
        rows.extend(self.crash());
        rows.extend(self.enabled());
        rows
    }

    fn dump_kernel(&self) -> Row {
        const LABEL: &str = "Dump kernel";
        let Kdump { crash_loaded, crash_size, busy, load_disabled, .. } = self.kdump;
        let since = self
            .remembered
            .as_ref()
            .map(|loaded| format!(", loaded {} ago", Duration(self.now.saturating_sub(loaded.time).max(0))));
        let since = since.unwrap_or_default();
        match (crash_loaded, &self.seen) {
            (None, _) => Row::alarm(LABEL, "not supported by the running kernel")
                .fix("boot a kernel with CONFIG_CRASH_DUMP=y"),
            (Some(false), _) if crash_size == 0 && !busy || load_disabled => Row::alarm(LABEL, "none loaded"),
            (Some(false), _) | (_, None) => Row::alarm(LABEL, "none loaded").fix(self.reload()),
            (Some(true), Some(Seen::Held(held))) if held.alone => Row::new(LABEL, format!("none{since}")),
            (Some(true), Some(Seen::Held(held))) => {
                let Some(Kernel { path, .. }) = &held.kernel else { return self.lost(LABEL, &since) };
                let path = path.display();
                if self.is_of_another_kernel() {
                    let release = |release: Option<&str>| release.unwrap_or_default().to_owned();
                    let (loaded, running) =
                        (release(self.loaded_release()), release(self.release.as_deref()));
                    let text = format!("{path} ({loaded}){since}; the running kernel is {running}");
                    return Row::alarm(LABEL, text).fix(self.reload());
                }
                Row::new(LABEL, format!("{path}{since}"))
            }
            (Some(true), Some(Seen::Hidden)) => {
                let why = match self.kdump.lockdown.as_deref() {
                    Some("confidentiality") => "lockdown",
                    _ => "run as root",
                };
                Row::new(LABEL, format!("loaded; the kernel does not show which one ({why})"))
            }
            (Some(true), Some(Seen::Other(_))) => Row::new(LABEL, format!("unknown{since}")),
        }
    }

    /// The row of a kernel whose file is not there.
    fn lost(&self, label: &'static str, since: &str) -> Row {
        let remembered = self.remembered.as_ref().filter(|loaded| !loaded.kernel.as_os_str().is_empty());
        let text = match remembered {
            Some(loaded) => format!("{}{since}; the file has changed or gone since", loaded.kernel.display()),
            None => format!("of a kernel that is not, or no longer, in /boot{since}"),
        };
        Row::alarm(label, text).fix(self.reload())
    }

    fn initrd(&self) -> Option<Row> {
        const LABEL: &str = "Initrd";
        let initrd = self.held()?.initrd.as_ref()?;
        Some(match &initrd.path {
            Some(path) if self.has_foreign_initrd() => {
                Row::alarm(LABEL, format!("{}: not the dump kernel's", path.display())).fix(self.reload())
            }
            Some(path) => Row::new(LABEL, path.display()),
            None => {
                Row::new(LABEL, format!("{} bytes, not of a file in /boot or /var/lib/kdump", initrd.size))
            }
        })
    }

    /// What is reported where, and if nothing, why so.
    fn report_rows(&self) -> Vec<Row> {
        const LABEL: &str = "Reports";
        if self.seen.is_none() {
            return Vec::new();
        }
        let Some(reports) = self.reports() else { return vec![Row::new(LABEL, "unknown")] };
        let old = || {
            let loaded = self.held()?.image.as_ref()?.checksum.as_ref()?;
            (*loaded != image::CHECKSUM)
                .then(|| Row::new("", "by another version of lastwords than this one"))
        };
        if !reports.is_empty() {
            let label = |index| if index == 0 { LABEL } else { "" };
            let rows = reports.iter().enumerate().map(|(index, report)| Row::new(label(index), report));
            return rows.chain(old()).collect();
        }
        let record = self.setup.record.as_ref();
        vec![match self.held() {
            _ if self.guest.is_some() => {
                Row::alarm(LABEL, format!("none: confidential guest ({})", self.guest.unwrap_or_default()))
            }
            Some(Held { kind: Way::Plain, .. }) if self.setup.enabled => {
                let why = match record {
                    Some(record) => record.refused.clone().map_or_else(
                        || "the wrapped kernel is not loaded".to_owned(),
                        |why| format!("the wrapped kernel was refused: {}", message::fact(&why)),
                    ),
                    None => "there is no wrapped kernel of the running one".to_owned(),
                };
                Row::alarm(LABEL, format!("none: plain kdump is loaded; {why}")).fix("lastwords enable")
            }
            Some(Held { kind: Way::Plain, .. }) => {
                Row::alarm(LABEL, "none: plain kdump is loaded").fix("lastwords enable")
            }
            Some(Held { image: Some(held::Image { parameters: Err(_), .. }), .. }) => {
                Row::alarm(LABEL, "none: the image is corrupt").fix(self.reload())
            }
            _ => Row::alarm(LABEL, "none")
                .fix("lastwords load with --ipmi-handle-panic, --output-cpu-ip or --output-log"),
        }]
    }

    fn watchdog(&self, watchdog: Watchdog) -> Row {
        const LABEL: &str = "Watchdog";
        let text = watchdog_text(watchdog);
        match watchdog {
            Watchdog::Start { seconds, action }
                if self.setup.reports_at_boot && self.is_recorded(seconds, action) =>
            {
                Row::new(LABEL, format!("{text}, stopped at the next boot"))
            }
            Watchdog::Start { action, .. } if action != Action::None => {
                Row::alarm(LABEL, format!("{text}; not stopped at the next boot")).fix("lastwords enable")
            }
            _ => Row::new(LABEL, text),
        }
    }

    /// Will the next boot know this timer as ours?
    fn is_recorded(&self, seconds: u16, action: Action) -> bool {
        self.setup
            .timer
            .as_ref()
            .is_some_and(|timer| timer.countdown == seconds && timer.action == action.name())
    }

    /// How it was loaded; where that is unknown, how `lastwords load` would.
    fn method(&self) -> Option<Row> {
        const LABEL: &str = "Method";
        if let Some(held) = self.held() {
            return Some(Row::new(LABEL, held.method()));
        }
        let next = |method, why: &str| Row::new(LABEL, format!("{method} at the next load{why}"));
        match &self.obstacle {
            _ if self.kdump.load_disabled || self.kdump.crash_size == 0 && !self.kdump.busy => None,
            None => Some(next("purgatory (kexec_load)", "")),
            Some(Obstacle::Permission) => Some(Row::new(LABEL, "unknown (run as root)")),
            Some(obstacle) => Some(next("wrap (kexec_file_load)", &format!(": {obstacle}"))),
        }
    }

    /// Secure Boot, and by whom what is loaded is signed. Without EFI there is nothing to show.
    fn secure_boot(&self) -> Option<Row> {
        const LABEL: &str = "Secure Boot";
        let on = self.setup.secure_boot? || self.kdump.lockdown.is_some();
        if !on {
            return None;
        }
        let state = if self.setup.secure_boot == Some(true) { "on" } else { "off" };
        let record = self.setup.record.as_ref();
        let loaded = self.held().and_then(|held| held.kernel.as_ref()?.signed.clone());
        let key = loaded.or_else(|| record?.key_id.as_ref().map(|key| format!("key ID {key}")));
        Some(match (key, record) {
            (Some(key), _) => Row::new(LABEL, format!("{state}, dump kernel signed: {key}")),
            (None, Some(record)) => {
                let path = file(record);
                Row::alarm(LABEL, format!("{state}; {path} is not signed")).fix(
                    "set key and cert, or command, in [sign] of /etc/lastwords.conf; then lastwords enable",
                )
            }
            (None, None) => Row::new(LABEL, state),
        })
    }

    /// Did the last test of what is to get to the BMC fail?
    fn has_failed_test(&self) -> bool {
        let plan = self.plan().filter(Plan::talks_to_bmc);
        plan.is_some() && self.tested.as_ref().is_some_and(|tested| !tested.passed)
    }

    /// The last `lastwords test`.
    fn test(&self) -> Option<Row> {
        const LABEL: &str = "Last test";
        let tested = self.tested.as_ref()?;
        let ago = Duration(self.now.saturating_sub(tested.time).max(0));
        Some(if tested.passed {
            Row::new(LABEL, format!("passed {ago} ago"))
        } else {
            let why = tested.error.as_deref().unwrap_or("unknown reason");
            Row::alarm(LABEL, format!("failed {ago} ago: {why}")).fix("lastwords test")
        })
    }

    /// The last crash that was read.
    fn crash(&self) -> Option<Row> {
        let crash = self.setup.crash.as_ref()?;
        let (time, summary) = (crash.time(), &crash.summary);
        Some(Row::new("Last crash", format!("{time}: {summary}; {}", crash.dump_text())))
    }

    /// Whether lastwords is in the distribution's kdump.
    fn enabled(&self) -> Option<Row> {
        const LABEL: &str = "Setup";
        let service = self.setup.service?.name;
        Some(if let Some(why) = &self.setup.unlike_configuration {
            Row::alarm(LABEL, format!("enabled in {service}; {why}")).fix("lastwords enable")
        } else if self.setup.enabled {
            Row::new(LABEL, format!("enabled in {service}"))
        } else {
            Row::new(LABEL, format!("not enabled in {service} (lastwords enable)"))
        })
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

    /// The interface that is used, and the others that were found.
    fn bmc(&self) -> Vec<Row> {
        const LABEL: &str = "BMC";
        let plan = self.plan().filter(Plan::talks_to_bmc);
        let untested = if self.tested.is_some() { "" } else { " (untested: lastwords test)" };
        let best = discovery::best(&self.interfaces);
        let used = self.used();
        let known = |interface| self.interfaces.iter().find(|one| one.may_be(interface));
        let row = if plan.is_some() { Row::alarm } else { Row::new };
        let first = match (used, best) {
            (Some(interface), _) => {
                let from =
                    known(interface).map_or("as loaded".to_owned(), |one| format!("from {}", source(one)));
                let text = format!("{} {from}", short(interface));
                match &self.no_bmc {
                    Some(why) => {
                        Row::alarm(LABEL, format!("{text}: {why}")).fix("lastwords probe, then load again")
                    }
                    None if self.unseen => {
                        Row::alarm(LABEL, format!("{text}; nobody can see whether one is there"))
                            .fix("load the BMC's driver, then lastwords test")
                    }
                    None => Row::new(LABEL, format!("{text}{untested}")),
                }
            }
            (None, Some(_)) => Row::alarm(LABEL, "none is named in what is loaded: none gets a report")
                .fix("lastwords load, or lastwords enable, again"),
            (None, None) if self.interfaces.is_empty() => {
                row(LABEL, "none found: reports go to the console alone".to_owned()).fix("lastwords probe")
            }
            (None, None) => row(LABEL, "none that can be used".to_owned()).fix("lastwords probe"),
        };
        // What several sources have stands there once, with the most trustworthy of them.
        let mut seen = vec![used];
        let others = self.interfaces.iter().filter_map(|one| match one.interface() {
            Ok(interface) if seen.contains(&Some(interface)) => None,
            Ok(interface) => {
                seen.push(Some(interface));
                Some(format!("not used: {} from {}", short(interface), source(one)))
            }
            Err(_) if used.is_some_and(|used| one.may_be(used)) => None,
            Err(_) => Some(one.to_string()),
        });
        let others: Vec<_> = others.map(|text| Row::new("", text)).collect();
        std::iter::once(first).chain(others).collect()
    }

    fn has_our_image(&self) -> bool {
        let image = self.held().and_then(|held| held.image.as_ref());
        image.is_some_and(|image| image.checksum.as_deref() == Some(image::CHECKSUM))
    }

    /// The interface that a panic is reported through: the one that was loaded, else the one that would be.
    fn used(&self) -> Option<Interface> {
        let found = discovery::best(&self.interfaces).map(|(_, interface)| interface);
        match self.plan().filter(Plan::talks_to_bmc) {
            // What an image of another version does without a name is not known here.
            Some(plan) if plan.interface.is_some() || self.has_our_image() => plan.interface,
            _ => found,
        }
    }

    /// For programs. What is unknown is null.
    fn json(&self) -> serde_json::Value {
        let Kdump { crash_loaded, crash_size, crash_ranges, lockdown, load_disabled, limit_panic, .. } =
            &self.kdump;
        let (verdict, text) = self.verdict();
        let held = self.held();
        let kernel = held.and_then(|held| held.kernel.as_ref());
        let initrd = held.and_then(|held| held.initrd.as_ref());
        let path = |path: &Path| path.display().to_string();
        let ranges = crash_ranges.iter().filter(|range| *range.end() != 0);
        let (loaded_as, method) = match held.map(|held| held.kind) {
            None => (None, None),
            Some(Way::Plain) => (Some("plain"), None),
            Some(Way::Wrapped) => (Some("wrapped"), Some("wrap")),
            Some(Way::Purgatory) => (Some("purgatory"), Some("purgatory")),
        };
        json!({
            "schema": 1,
            "ready": match verdict {
                Ready => Some(true),
                NotReady => Some(false),
                Unknown => None,
            },
            "verdict": text,
            "host": self.host,
            "loaded": crash_loaded,
            "loaded_as": loaded_as,
            "system_call": held.map(|held| if held.by_file { "kexec_file_load" } else { "kexec_load" }),
            "no_dump_kernel": held.map(|held| held.alone),
            "then": self.plan().filter(|_| self.is_alone()).map(|plan| plan.then.unwrap_or(Then::Reset).to_string()),
            "kernel": kernel.map(|kernel| path(&kernel.path)),
            "kernel_release": held.and_then(|_| self.loaded_release()),
            "running_release": self.release,
            "is_running_kernel": self.loaded_release().zip(self.release.as_deref()).map(|(one, other)| one == other),
            "loaded_at": self.remembered.as_ref().map(|loaded| loaded.time),
            "cmdline": held.map(|held| &held.cmdline),
            "initrd": initrd.and_then(|initrd| initrd.path.as_deref()).map(path),
            "initrd_bytes": initrd.map(|initrd| initrd.size),
            "parameters": self.lines().map(parameters),
            "image_sha256": held.and_then(|held| held.image.as_ref()?.checksum.as_ref()),
            "method": method,
            "reports": self.reports(),
            "watchdog": self.plan().map(|plan| watchdog_text(plan.watchdog)),
            "watchdog_stopped_at_boot": self.plan().and_then(|plan| match plan.watchdog {
                Watchdog::Start { seconds, action } => Some(self.setup.reports_at_boot && self.is_recorded(seconds, action)),
                Watchdog::Leave | Watchdog::Stop => None,
            }),
            "reserved_bytes": crash_size,
            "reserved_ranges": ranges.map(|range| format!("{:#x}-{:#x}", range.start(), range.end())).collect::<Vec<_>>(),
            "lockdown": lockdown,
            "secure_boot": self.setup.secure_boot,
            "signed_by": kernel.and_then(|kernel| kernel.signed.as_ref()),
            "wrapped_kernel": self.setup.record.as_ref().map(|record| json!({
                "path": file(record),
                "key_id": record.key_id,
                "refused": record.refused,
            })),
            "load_disabled": load_disabled,
            "load_limit": limit_panic,
            "bmc_interfaces": self.interfaces.iter().map(|interface| json!({
                "kind": interface.kind.to_string(),
                "registers": interface.interface().ok().map(registers),
                "interface": interface.interface().ok().map(|interface| interface.to_string()),
                "needs": interface.interface().err(),
                "source": source(interface),
                "used": self.used().is_some_and(|used| interface.may_be(used)),
            })).collect::<Vec<_>>(),
            "bmc_problem": self.no_bmc,
            "last_test": self.tested.as_ref().map(|tested| json!({
                "time": tested.time,
                "passed": tested.passed,
                "error": tested.error,
                "build_id": tested.build_id,
            })),
            "last_crash": self.setup.crash.as_ref().map(|crash| json!({
                "id": crash.text("id"),
                "time": crash.time(),
                "reason": crash.text("reason"),
                "dump": crash.dump(),
            })),
            "enabled": self.setup.enabled,
            "unlike_configuration": self.setup.unlike_configuration,
            "kdump_service": self.setup.service.map(|service| service.name),
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
    let mut reports = match (sel, on_console.zip(consoles)) {
        (None, None) => Vec::new(),
        (Some(sel), None) => vec![format!("{sel}, to SEL")],
        (Some(sel), Some((text, consoles))) if sel == text => vec![format!("{sel}, to SEL and {consoles}")],
        (sel, Some((text, consoles))) => {
            let sel = sel.map(|sel| format!("{sel}, to SEL"));
            sel.into_iter().chain([format!("{text}, to {consoles}")]).collect()
        }
    };
    if plan.pstore > 0 {
        reports.push("reason, CPUs and log, to pstore".to_owned());
    }
    if matches!(plan.hypervisor, Hypervisor::At(..)) {
        reports.push("that it panicked, to the hypervisor".to_owned());
    }
    reports
}

/// The wrapped kernel of a record.
fn file(record: &Record) -> String {
    wrapped::path(Path::new("/"), &record.version).display().to_string()
}

/// `ttyS0` where it is one of a PC's, else where its registers are.
fn uart(serial: Serial) -> String {
    let names = (0..4).map(|number| format!("ttyS{number}"));
    let name = names.into_iter().find(|name| Serial::parse(name).is_some_and(|pc| pc.base == serial.base));
    name.unwrap_or_else(|| format!("UART {}", serial.base))
}

fn watchdog_text(watchdog: Watchdog) -> String {
    match watchdog {
        Watchdog::Leave => "not changed".to_owned(),
        Watchdog::Stop => "stopped".to_owned(),
        Watchdog::Start { seconds, action: Action::None } => format!("no action after {seconds} s"),
        Watchdog::Start { seconds, action } => format!("{} after {seconds} s", action.name()),
    }
}

/// `KCS 0xca2,0xca3`: an interface in a few words.
fn short(interface: Interface) -> String {
    let kind = match interface {
        Interface::Kcs(_) => "KCS",
        Interface::Bt(_) => "BT",
        Interface::Ssif(_) => "SSIF",
    };
    format!("{kind} {}", registers(interface))
}

/// Where it is, without its kind.
fn registers(interface: Interface) -> String {
    match interface {
        Interface::Kcs(ports) => ports.to_string(),
        Interface::Bt(ports) => ports.to_string(),
        Interface::Ssif(controller) => controller.to_string(),
    }
}

fn source(found: &Found) -> &'static str {
    match found.source {
        discovery::Source::Driver if found.kind == discovery::Kind::Ssif => "ipmi_ssif",
        discovery::Source::Driver => "ipmi_si",
        discovery::Source::Smbios => "SMBIOS type 38",
        discovery::Source::Spmi => "ACPI SPMI",
        discovery::Source::Acpi => "ACPI IPI0001",
        discovery::Source::Pci => "PCI",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::{
        Kind, Place, Source,
        tests::{KCS_CA2, found},
    };
    use crate::{
        crashes::store::tests::crash,
        crashes::watchdog::{self, Timer},
        distro::service::SERVICES,
    };

    const NOW: i64 = 1_795_397_900;

    /// Loaded as the purgatory, with this command line.
    fn held(cmdline: &str) -> Held {
        Held {
            checksum: "ab".to_owned(),
            kind: Way::Purgatory,
            by_file: false,
            alone: false,
            image: Some(held::Image {
                parameters: Ok(String::new()),
                checksum: Some(image::CHECKSUM.to_owned()),
            }),
            cmdline: cmdline.to_owned(),
            kernel: Some(Kernel {
                path: "/boot/vmlinuz-6.1.0-56-amd64".into(),
                release: Some("6.1.0-56-amd64".to_owned()),
                itself: true,
                signed: None,
            }),
            initrd: Some(held::Initrd {
                size: 6 << 20,
                path: Some("/var/lib/kdump/initrd.img-6.1.0-56-amd64".into()),
            }),
        }
    }

    fn loaded(cmdline: &str) -> Seen {
        Seen::Held(Box::new(held(cmdline)))
    }

    fn plain() -> Seen {
        Seen::Held(Box::new(Held { kind: Way::Plain, image: None, by_file: true, ..held("quiet") }))
    }

    /// A machine on which this is loaded, with a BMC that the driver has.
    fn report(seen: Seen) -> Report {
        let remembered = json!({
            "schema": 1, "boot_id": "", "image": "ab", "time": NOW - 3 * 24 * 60 * 60 - 60,
            "kernel": "/boot/vmlinuz-6.1.0-56-amd64", "release": null,
        });
        let is_held = matches!(seen, Seen::Held(_));
        Report {
            host: Some("db04".to_owned()),
            kdump: Kdump {
                crash_loaded: Some(true),
                crash_size: 256 << 20,
                crash_ranges: std::iter::once(0x2500_0000..=0x34ff_ffff).collect(),
                ..Kdump::default()
            },
            remembered: is_held.then(|| serde_json::from_value(remembered).unwrap()),
            seen: Some(seen),
            release: Some("6.1.0-56-amd64".to_owned()),
            guest: None,
            setup: Setup {
                secure_boot: Some(false),
                reports_at_boot: true,
                timer: Some(timer(300)),
                ..Setup::default()
            },
            tested: None,
            obstacle: None,
            interfaces: vec![KCS_CA2],
            no_bmc: None,
            unseen: false,
            now: NOW,
        }
    }

    /// A timer as it is written down.
    fn timer(seconds: u16) -> Timer {
        let root = tempfile::tempdir().unwrap();
        let line = format!("lastwords.ipmi_watchdog=start={seconds}");
        watchdog::record(root.path(), &Plan::new("", &line)).unwrap();
        watchdog::planned(root.path()).unwrap()
    }

    /// The record of a wrapped kernel.
    fn record(refused: Option<String>, key: Option<&str>) -> Record {
        let mut record = Record::default();
        (record.version, record.refused, record.key_id) = ("6.1".to_owned(), refused, key.map(str::to_owned));
        record
    }

    fn nothing() -> Report {
        Report { seen: None, ..report(Seen::Hidden) }
    }

    fn enabled(report: &mut Report, record: Option<Record>) {
        let service = Some(&SERVICES[0]);
        report.setup = Setup { enabled: true, service, record, ..report.setup.clone() };
    }

    fn shown(report: &Report) -> String {
        let text = report.text(80);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80), "{text}");
        text
    }

    const ALL: &str = "lastwords.ipmi_handle_panic lastwords.output_cpu_ip lastwords.ipmi_watchdog=start=300 \
                       lastwords.ipmi_kcs_ports=0xca2,0xca3";

    #[test]
    fn ready() {
        let report = report(loaded(&format!("console=ttyS0,115200 {ALL}")));
        assert_eq!(report.verdict().0, Ready);
        assert_eq!(
            shown(&report),
            "\
READY on db04: the next panic will be reported and dumped

  Dump kernel  /boot/vmlinuz-6.1.0-56-amd64, loaded 3 days ago
  Initrd       /var/lib/kdump/initrd.img-6.1.0-56-amd64
  Reports      panic reason and CPU locations, to SEL and ttyS0
  Watchdog     reset after 300 s, stopped at the next boot
  Method       purgatory (kexec_load)
  Memory       256 MiB reserved
  Lockdown     none
  BMC          KCS 0xca2,0xca3 from ipmi_si (untested: lastwords test)
"
        );
    }

    #[test]
    fn without_a_dump_kernel_it_is_ready_where_the_report_gets_out_and_says_what_comes_then() {
        const REPORTS: &str =
            "console=ttyS0 lastwords.ipmi_handle_panic lastwords.ipmi_kcs_ports=0xca2,0xca3";
        let alone = |cmdline: &str| {
            let held = Held { alone: true, kernel: None, initrd: None, ..held(cmdline) };
            let mut machine = report(Seen::Held(Box::new(held)));
            (machine.kdump.crash_size, machine.release) = (2 << 20, Some("6.12.117".to_owned()));
            machine
        };
        let ready = alone(REPORTS);
        assert_eq!(
            shown(&ready),
            "\
READY on db04: the next panic will be reported, then the machine resets (no dump
  kernel)

  Dump kernel  none, loaded 3 days ago
  Reports      panic reason, to SEL and ttyS0
  Watchdog     not changed
  Method       purgatory (kexec_load)
  Memory       2 MiB reserved
  Lockdown     none
  BMC          KCS 0xca2,0xca3 from ipmi_si (untested: lastwords test)
"
        );
        let json = ready.json();
        assert_eq!(
            (&json["ready"], &json["no_dump_kernel"], &json["then"]),
            (&json!(true), &json!(true), &json!("reset"))
        );
        for (then, text) in [
            ("power-cycle", "then the BMC power-cycles the machine"),
            ("power-off", "then the BMC powers the machine off"),
            ("halt", "then the machine halts"),
        ] {
            let ready = alone(&format!("{REPORTS} lastwords.then={then}"));
            let (verdict, shown) = ready.verdict();
            assert!(verdict == Ready && shown.contains(text), "{shown}");
            assert_eq!(ready.json()["then"], then);
        }
        let mut silent = alone("console=ttyS0");
        assert_eq!(silent.verdict().0, NotReady);
        silent = Report { no_bmc: Some("nobody".to_owned()), ..alone(REPORTS) };
        assert_eq!(silent.verdict().0, NotReady);
        silent = Report { unseen: true, ..alone(REPORTS) };
        assert_eq!(silent.verdict().0, Unknown);
        // With a dump kernel a parameter alone changes nothing.
        let dumps = report(loaded(&format!("{ALL} lastwords.then=halt")));
        assert_eq!(dumps.verdict(), (Ready, "the next panic will be reported and dumped"));
        assert_eq!((&dumps.json()["no_dump_kernel"], &dumps.json()["then"]), (&json!(false), &json!(null)));
    }

    #[test]
    fn what_the_kernel_does_not_show_is_unknown() {
        let locked = |seen| {
            let mut report = report(seen);
            report.kdump.lockdown = Some("integrity".to_owned());
            report.obstacle = Some(Obstacle::Lockdown("integrity".to_owned()));
            report.interfaces[0].kind = Kind::Smic;
            report
        };
        let other = locked(Seen::Other("ab".to_owned()));
        assert_eq!((other.verdict().0, &other.json()["ready"]), (Unknown, &json!(null)));
        assert_eq!(
            shown(&other),
            "\
UNKNOWN on db04: a dump kernel is loaded; reports unknown

  Dump kernel  unknown
  Reports      unknown
  Method       wrap (kexec_file_load) at the next load: lockdown (integrity)
               forbids kexec_load(2)
  Memory       256 MiB reserved
  Lockdown     integrity: only signed kernels can be loaded
  Secure Boot  off
  BMC          none that can be used
               fix: lastwords probe
               SMIC at 0xca2, from the running ipmi_si driver (not usable: SMIC
               is not supported)
"
        );
        let hidden = shown(&locked(Seen::Hidden));
        assert!(
            hidden.contains("Dump kernel  loaded; the kernel does not show which one (run as root)\n"),
            "{hidden}"
        );
    }

    #[test]
    fn plain_kdump_is_not_ready_and_where_lastwords_is_enabled_the_reason_is_shown() {
        let mut report = report(plain());
        assert_eq!(report.verdict(), (NotReady, "the next panic will be dumped, but not reported"));
        let text = shown(&report);
        assert!(
            text.contains(
                "! Reports      none: plain kdump is loaded\n               fix: lastwords enable\n"
            ),
            "{text}"
        );
        assert!(text.contains("  Method       plain kdump (kexec_file_load)\n"), "{text}");
        for (refused, why) in [
            (Some("unknown key\nhint: sign it"), "the wrapped kernel was refused: unknown key"),
            (None, "the wrapped kernel is not loaded"),
        ] {
            let refused = refused.map(str::to_owned);
            enabled(&mut report, Some(record(refused, None)));
            let text = report.text(200);
            assert!(text.contains(&format!("none: plain kdump is loaded; {why}")), "{text}");
            assert!(!text.contains("hint"), "{text}");
        }
        enabled(&mut report, None);
        assert!(report.text(200).contains("there is no wrapped kernel of the running one"));
        assert!(shown(&report).contains("  Setup        enabled in kdump-tools\n"));
    }

    #[test]
    fn another_kernel_than_the_running_one_is_alarming_and_where_lastwords_is_enabled_not_ready() {
        let mut report = report(loaded(ALL));
        report.release = Some("6.1.0-57-amd64".to_owned());
        assert_eq!(report.verdict().0, Ready);
        enabled(&mut report, None);
        assert_eq!(report.verdict(), (NotReady, "the dump kernel is not the running kernel"));
        let text = shown(&report);
        let row = "\
! Dump kernel  /boot/vmlinuz-6.1.0-56-amd64 (6.1.0-56-amd64), loaded 3 days ago;
               the running kernel is 6.1.0-57-amd64
               fix: kdump-config reload
";
        assert!(text.contains(row), "{text}");
        assert_eq!(report.json()["is_running_kernel"], false);
    }

    #[test]
    fn a_kernel_whose_file_has_gone_is_ready_and_alarming() {
        let mut seen = held(ALL);
        seen.kernel = None;
        let mut report = report(Seen::Held(Box::new(seen)));
        assert_eq!(report.verdict().0, Ready);
        assert!(
            report
                .text(200)
                .contains("! Dump kernel  /boot/vmlinuz-6.1.0-56-amd64, loaded 3 days ago; the file has")
        );
        report.remembered = None;
        let text = report.text(200);
        assert!(text.contains("! Dump kernel  of a kernel that is not, or no longer, in /boot"), "{text}");
        assert_eq!(report.json()["is_running_kernel"], json!(null));
    }

    #[test]
    fn an_initrd_of_another_kernel_is_not_ready() {
        let with = |name: &str| {
            let mut held = held(ALL);
            held.initrd = Some(held::Initrd { size: 9, path: Some(name.into()) });
            report(Seen::Held(Box::new(held)))
        };
        let foreign = with("/var/lib/kdump/initrd.img-6.1.0-49-amd64");
        assert_eq!(foreign.verdict().0, NotReady);
        assert!(
            shown(&foreign).contains("! Initrd       /var/lib/kdump/initrd.img-6.1.0-49-amd64: not the dump")
        );
        for name in
            ["/boot/initramfs-6.1.0-56-amd64kdump.img", "/boot/initrd", "/var/lib/kdump/initrd.img-new"]
        {
            assert_eq!(with(name).verdict().0, Ready, "{name}");
        }
    }

    #[test]
    fn a_corrupt_image_and_a_confidential_guest_report_nothing_and_an_unknown_one_is_unknown() {
        let with = |error: boot::Error| {
            let mut held = held(ALL);
            held.image = Some(held::Image { parameters: Err(error), checksum: None });
            report(Seen::Held(Box::new(held)))
        };
        let corrupt = with(boot::Error::Damaged);
        assert_eq!(corrupt.verdict().0, NotReady);
        assert!(shown(&corrupt).contains("! Reports      none: the image is corrupt\n"));
        assert_eq!(with(boot::Error::OtherVersion(9)).verdict().0, Unknown);
        let mut guest = report(loaded(ALL));
        guest.guest = Some("SEV-SNP");
        assert_eq!(guest.verdict().0, NotReady);
        assert!(shown(&guest).contains("! Reports      none: confidential guest (SEV-SNP)\n"));
    }

    #[test]
    fn a_watchdog_that_nothing_stops_is_alarming() {
        let text = |line: &str| {
            let mut report = report(loaded(line));
            report.setup.reports_at_boot = false;
            report.text(80)
        };
        let started = text(ALL);
        assert!(
            started.contains("! Watchdog     reset after 300 s; not stopped at the next boot"),
            "{started}"
        );
        assert!(text("lastwords.ipmi_watchdog=stop").contains("  Watchdog     stopped\n"));
        let none = text("lastwords.ipmi_watchdog=start=300,none");
        assert!(none.contains("  Watchdog     no action after 300 s\n"), "{none}");
    }

    #[test]
    fn an_unsigned_kernel_is_alarming_where_signatures_are_needed() {
        let mut report = report(loaded(ALL));
        enabled(&mut report, Some(record(None, None)));
        assert!(!shown(&report).contains("Secure Boot"));
        report.setup.secure_boot = Some(true);
        let text = report.text(200);
        assert!(
            text.contains("! Secure Boot  on; /var/lib/kdump/lastwords/vmlinuz-6.1 is not signed"),
            "{text}"
        );
        assert!(
            text.contains(
                "fix: set key and cert, or command, in [sign] of /etc/lastwords.conf; then lastwords enable"
            ),
            "{text}"
        );
        enabled(&mut report, Some(record(None, Some("6cce"))));
        assert!(shown(&report).contains("  Secure Boot  on, dump kernel signed: key ID 6cce\n"));
    }

    #[test]
    fn the_last_test_and_the_last_crash_are_shown() {
        let mut report = report(loaded(ALL));
        let mut tested = Tested::new(Path::new("/nonexistent"), None, 14);
        tested.time = NOW - 2 * 60 * 60;
        report.tested = Some(tested.clone());
        report.setup.crash = Some(crash("06bz7sfyrb", 0));
        let text = shown(&report);
        let rows = "  BMC          KCS 0xca2,0xca3 from ipmi_si\n  Last test    passed 2 hours ago\n  \
                    Last crash   2026-11-22 16:17:10: NULL pointer dereference at 0x18 in\n";
        assert!(text.contains(rows), "{text}");
        assert_eq!(report.verdict().0, Ready);
        (tested.passed, tested.error) = (false, Some("no answer".to_owned()));
        report.tested = Some(tested);
        let verdict = "the next panic will be dumped; the last test of its report failed";
        assert_eq!(report.verdict(), (NotReady, verdict));
        assert!(shown(&report).contains("! Last test    failed 2 hours ago: no answer\n"));
    }

    #[test]
    fn while_another_program_loads_the_reservation_is_unknown() {
        let mut report = nothing();
        report.kdump = Kdump { crash_loaded: Some(false), crash_size: 0, busy: true, ..report.kdump };
        assert_eq!(report.verdict(), (NotReady, "no dump kernel is loaded"));
        let text = shown(&report);
        assert!(
            text.contains("Memory       unknown: another program") && !text.contains("crashkernel"),
            "{text}"
        );
    }

    #[test]
    fn a_silent_dump_kernel_is_not_ready() {
        let report = report(loaded("console=ttyS0"));
        assert_eq!(report.verdict().0, NotReady);
        let text = shown(&report);
        let begin = "\
NOT READY on db04: the next panic will be dumped, but not reported

  Dump kernel  /boot/vmlinuz-6.1.0-56-amd64, loaded 3 days ago
  Initrd       /var/lib/kdump/initrd.img-6.1.0-56-amd64
! Reports      none
               fix: lastwords load with --ipmi-handle-panic, --output-cpu-ip or
               --output-log
  Watchdog     not changed
";
        assert!(text.starts_with(begin), "{text}");
    }

    #[test]
    fn nothing_can_be_loaded() {
        let mut report = nothing();
        report.kdump = Kdump { crash_loaded: Some(false), ..Kdump::default() };
        report.interfaces.clear();
        assert_eq!(report.verdict().0, NotReady);
        assert_eq!(
            shown(&report),
            "\
NOT READY on db04: no dump kernel can be loaded

! Dump kernel  none loaded
! Memory       none reserved
               fix: boot with crashkernel=256M
  Lockdown     none
  BMC          none found: reports go to the console alone
               fix: lastwords probe
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
        let mut report = nothing();
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
        assert_eq!(reports("lastwords.notify_hypervisor=0x505"), "that it panicked, to the hypervisor");
        assert_eq!(reports("lastwords.notify_hypervisor"), "");
    }

    #[test]
    fn every_bmc_interface_is_shown_and_which_one_is_used_and_what_another_would_need() {
        let bmc = |line: &str, interfaces: Vec<Found>| {
            let mut report = report(loaded(line));
            report.interfaces = interfaces;
            let text = report.text(200);
            let start = text.find("BMC").unwrap() - 2;
            (
                anstream::adapter::strip_str(&text[start..]).to_string(),
                report.json()["bmc_interfaces"].clone(),
            )
        };
        let bt = found(Kind::Bt, Place::Io { address: 0xe4, spacing: 1 }, Source::Acpi);
        let ssif = found(Kind::Ssif, Place::Smbus { address: 0x42, controller: Some(0x700) }, Source::Driver);
        let kcs = |source| found(Kind::Kcs, Place::Io { address: 0xca2, spacing: 1 }, source);
        let smic = found(Kind::Smic, Place::Io { address: 0xca9, spacing: 1 }, Source::Spmi);
        let all = vec![ssif.clone(), kcs(Source::Smbios), smic, bt.clone(), kcs(Source::Acpi)];
        let ssif_named = format!("{ALL} lastwords.ipmi_interface=ssif:i801:0x700,0x42");
        let (text, json) = bmc(&ssif_named, all.clone());
        let rows = "  BMC          SSIF i801:0x700,0x42 from ipmi_ssif (untested: lastwords test)\n               \
                    not used: KCS 0xca2,0xca3 from SMBIOS type 38\n               \
                    SMIC at 0xca9, from ACPI SPMI (not usable: SMIC is not supported)\n               \
                    not used: BT 0xe4 from ACPI IPI0001\n";
        assert_eq!(text, rows);
        let used: Vec<_> = json.as_array().unwrap().iter().map(|one| one["used"] == true).collect();
        assert_eq!(used, [true, false, false, false, false]);
        assert_eq!(json[2]["needs"], "SMIC is not supported");
        // What is loaded counts.
        let (text, json) = bmc(&format!("{ALL} lastwords.ipmi_kcs_ports=0xca2"), all.clone());
        assert!(
            text.starts_with("  BMC          KCS 0xca2,0xca3 from SMBIOS type 38 (")
                && json[1]["used"] == true,
            "{text}"
        );
        assert!(text.contains("not used: SSIF i801:0x700,0x42 from ipmi_ssif\n"), "{text}");
        let (text, _) = bmc(&format!("{ALL} lastwords.ipmi_interface=bt:0xe8"), all);
        assert!(text.starts_with("  BMC          BT 0xe8 as loaded ("), "{text}");
        // With none named nothing is reported to it.
        let (text, json) = bmc("lastwords.ipmi_handle_panic", vec![bt]);
        assert!(
            text.starts_with("! BMC          none is named in what is loaded") && json[0]["used"] == false,
            "{text}"
        );
        assert!(
            bmc("lastwords.ipmi_handle_panic", Vec::new())
                .0
                .starts_with("! BMC          none found: reports go to the console alone\n")
        );
    }

    #[test]
    fn a_bmc_that_would_get_nothing_is_not_ready() {
        let mut report = report(loaded(ALL));
        report.no_bmc = Some("port 0xca3 reads 0xff: nobody answers there".to_owned());
        let verdict = "the next panic will be dumped, but its report will not reach the BMC";
        assert_eq!(report.verdict(), (NotReady, verdict));
        let row = "! BMC          KCS 0xca2,0xca3 from ipmi_si: port 0xca3 reads 0xff: nobody answers there\n               \
                   fix: lastwords probe, then load again\n";
        let text = report.text(200);
        assert!(anstream::adapter::strip_str(&text).to_string().contains(row), "{text}");
        assert_eq!(report.json()["bmc_problem"], "port 0xca3 reads 0xff: nobody answers there");
    }

    #[test]
    fn where_nobody_can_see_whether_a_bmc_is_there_nothing_is_promised() {
        let mut report = report(loaded(ALL));
        report.unseen = true;
        let verdict = "the next panic will be dumped; whether the BMC gets its report is unknown";
        assert_eq!((report.verdict(), &report.json()["ready"]), ((Unknown, verdict), &json!(null)));
        let text = report.text(200);
        assert!(
            text.contains("nobody can see whether one is there") && text.contains("then lastwords test"),
            "{text}"
        );
    }

    #[test]
    fn json_has_what_the_text_has() {
        let json = report(loaded(ALL)).json();
        assert_eq!((&json["schema"], &json["ready"]), (&json!(1), &json!(true)));
        assert_eq!(json["kernel"], "/boot/vmlinuz-6.1.0-56-amd64");
        assert_eq!(json["reports"], json!(["panic reason and CPU locations, to SEL"]));
        assert_eq!(json["reserved_ranges"], json!(["0x25000000-0x34ffffff"]));
        let bmc = json!([{"kind": "KCS", "registers": "0xca2,0xca3", "interface": "kcs:0xca2,0xca3",
            "needs": null, "source": "ipmi_si", "used": true}]);
        assert_eq!(json["bmc_interfaces"], bmc);
        assert_eq!(json["cmdline"], ALL);
        assert_eq!((&json["loaded_as"], &json["parameters"]), (&json!("purgatory"), &json!(ALL)));
        assert_eq!(report(Seen::Hidden).json()["parameters"], json!(null));
    }
}
