//! What is known of one crash, row by row; what is alarming has a `!`.

use super::{
    Reading,
    crash::{Complete, Crash, NamedLocation, Panicked, Symbol},
    identity::Identity,
    log::Note,
};
use crate::layout::Row;
use crate::visible::visible;
use lastwords_core::{
    report::{Class, Location, Stage},
    store::sel::Source,
};

/// Where an idle CPU of x86 is: the instruction that waits for an interrupt stands in one of these, or these are around
/// it. Not `native_halt`: there CPUs are that were stopped.
const IDLE: &str = "acpi_idle_do_entry acpi_processor_ffh_cstate_enter acpi_safe_halt cpu_idle_poll \
    cpuidle_enter_state default_idle default_idle_call intel_idle intel_idle_hlt \
    intel_idle_ibrs intel_idle_irq intel_idle_xstate mwait_idle \
    mwait_idle_with_hints native_safe_halt poll_idle pv_native_safe_halt \
    tdx_safe_halt xen_safe_halt";

/// All rows of a crash.
pub fn rows(crash: &Crash, reading: &Reading) -> Vec<Row> {
    let mut rows = Vec::new();
    // Where there is no cause the reason is in the line above.
    if let Some(cause) = &crash.cause
        && crash.reason.as_ref() != Some(cause)
    {
        let reason = crash.reason.as_ref().map_or_else(|| "unknown".to_owned(), super::report::in_full);
        rows.push(Row::new("Reason", reason));
    }
    rows.extend(crash.location.as_ref().map(|location| Row::new("Location", location)));
    rows.extend(process(crash));
    for (index, function) in crash.call_trace.iter().enumerate() {
        rows.push(Row::new(if index == 0 { "Call trace" } else { "" }, function));
    }
    rows.extend(cpus(crash));
    rows.extend(kernel(crash));
    rows.extend(dump(crash));
    for part in &crash.corrupt {
        rows.push(Row::alarm("Dump kernel", format!("{part} corrupt: checksum differs from the one loaded")));
    }
    for part in &crash.restored {
        rows.push(Row::new("Dump kernel", format!("{part} was corrupt, restored from its copy")));
    }
    for text in &crash.unparsed {
        rows.push(Row::new("Unparsed", text));
    }
    if crash.source == Some(Source::Linux) {
        rows.push(Row::new("Source", "Linux IPMI driver (panic_op=string)"));
    }
    rows.extend(identity(crash));
    rows.extend(records(crash, reading));
    rows.extend(crash.pstore.as_ref().map(|path| Row::new("pstore", visible(path, ""))));
    rows
}

/// The process, and the CPU that panicked. Where that CPU was is of use only where the log has no location: by then it
/// is in the kernel's own way to the dump kernel.
fn process(crash: &Crash) -> Vec<Row> {
    match (&crash.process, &crash.panicked) {
        (Some(process), Some(Panicked::Cpu(cpu, _))) if crash.location.is_some() => {
            vec![Row::new("Process", format!("{process}, CPU {cpu}"))]
        }
        (process, panicked) => {
            let process = process.as_ref().map(|process| Row::new("Process", process));
            let panicked = panicked.as_ref().map(|panicked| match panicked {
                Panicked::Cpu(cpu, location) => {
                    Row::new("Panic CPU", format!("{cpu}, {}", shown(&location.of_panicked())))
                }
                Panicked::Unknown => Row::new("Panic CPU", "unknown, one of those below"),
            });
            process.into_iter().chain(panicked).collect()
        }
    }
}

/// The other CPUs, those first that did not respond or left nothing to read, those last that may have been off.
fn cpus(crash: &Crash) -> Vec<Row> {
    let label = |index| match (index, &crash.panicked) {
        (0, Some(Panicked::Cpu(..))) => "Other CPUs",
        (0, _) => "CPUs",
        _ => "",
    };
    let (silent, groups): (Vec<_>, Vec<_>) = crash
        .groups
        .iter()
        .partition(|group| matches!(group.location.location, Location::NotResponding | Location::Unread));
    let (off, groups): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|group| group.location.location.may_be_off());
    let mut rows = Vec::new();
    for group in silent {
        let text = format!("{} {}", group.count, shown(&group.location));
        rows.push(Row::alarm(label(rows.len()), text));
    }
    for group in groups.into_iter().chain(off) {
        let text = match group.location.symbol.name() {
            Some(name) if is_idle(name) => format!("{} idle ({name})", group.count),
            _ => format!("{} {}", group.count, shown(&group.location)),
        };
        rows.push(Row::new(label(rows.len()), text));
    }
    if crash.left_out > 0 {
        let text = format!("{} not reported: record limit (--sel-records)", crash.left_out);
        rows.push(Row::new(label(rows.len()), text));
    }
    rows
}

/// `intel_idle+0x7b`, `mwait_idle_with_hints.constprop.0+0x59`.
fn is_idle(name: &str) -> bool {
    let function = name.split(['+', '.']).next().unwrap_or(name);
    IDLE.split(' ').any(|idle| idle == function) && !name.contains('[')
}

/// Where a CPU was, behind its number or how many there were.
fn shown(NamedLocation { location, symbol }: &NamedLocation) -> String {
    match (location, symbol) {
        (Location::NotResponding, _) => "did not respond to the stop NMI".to_owned(),
        (Location::Off, _) => "offline".to_owned(),
        (Location::OffOrNotResponding, _) => "offline, or did not respond to the stop NMI".to_owned(),
        (Location::Unread, _) => "with an unreadable crash note".to_owned(),
        (Location::User, _) => "in user space".to_owned(),
        (_, Symbol::Known(name)) => format!("in {name}"),
        (Location::Kernel(offset), _) => format!("at _stext+{offset:#x}"),
        (Location::Address(address), Symbol::OtherBoot) => {
            format!("at {address:#018x} (the symbols are of another boot)")
        }
        (Location::Address(address), Symbol::NotFound) => format!("at {address:#018x} (no symbol)"),
        (Location::Address(address), _) => format!("at {address:#018x}"),
    }
}

fn kernel(crash: &Crash) -> Option<Row> {
    let id = crash.build_id?;
    Some(Row::new(
        "Kernel",
        match &crash.release {
            Some(release) => format!("{release} (build ID {id:08x})"),
            None => format!("build ID {id:08x}"),
        },
    ))
}

/// For those who count and compare crashes.
fn identity(crash: &Crash) -> Vec<Row> {
    let Identity { id, id_is_recorded, signature, signature_is_recorded, class, .. } = Identity::of(crash);
    let id = id.map(|id| {
        let mark = if id_is_recorded { "" } else { " (derived)" };
        Row::new("Crash ID", id + mark)
    });
    let signature = signature.map(|signature| {
        let mark = if signature_is_recorded { "" } else { " (partial)" };
        Row::new("Signature", format!("{signature:08x}{mark}"))
    });
    let class = (class != Class::Unknown).then(|| Row::new("Class", class.name()));
    id.into_iter().chain(signature).chain(class).collect()
}

fn dump(crash: &Crash) -> Option<Row> {
    let stages = crash.dump.iter().map(|stage| match stage {
        Stage::Started => "started",
        Stage::Saved => "saved",
        Stage::Failed => "failed",
    });
    let text = stages.collect::<Vec<_>>().join(", ");
    match crash.dump.last() {
        None if crash.is_test() => None,
        None if crash.no_dump => Some(Row::new("Dump", "none: no dump kernel was loaded")),
        None => Some(Row::new("Dump", "unknown: no progress recorded (lastwords mark)")),
        Some(Stage::Saved) => Some(Row::new("Dump", text)),
        Some(Stage::Failed) => Some(Row::alarm(
            "Dump",
            crash.why.as_ref().map_or_else(|| text.clone(), |why| format!("{text}: {why}")),
        )),
        Some(Stage::Started) => Some(Row::alarm("Dump", text + "; no result recorded")),
    }
}

fn records(crash: &Crash, reading: &Reading) -> Option<Row> {
    let Crash { records, missing, .. } = crash;
    match missing {
        _ if *records == 0 => None,
        0 if crash.complete == Complete::No => {
            Some(Row::alarm("Records", format!("{records}; some are missing, doubled or changed")))
        }
        0 if reading.notes.contains(Note::NoSequence) => {
            Some(Row::new("Records", format!("{records}; missing ones unknown")))
        }
        // What test reports have in common with each other is of no consequence.
        0 if crash.complete == Complete::Unknown && !crash.is_test() => {
            Some(Row::new("Records", format!("{records}; may be incomplete")))
        }
        // Their numbers show what is missing between them, and not what is behind the last one.
        0 if crash.is_open => Some(Row::new("Records", format!("{records}; more may be missing"))),
        0 => Some(Row::new("Records", format!("{records}, none missing"))),
        _ => Some(Row::alarm("Records", format!("{records}, {missing} missing"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_a_fixed_list_of_functions() {
        for name in ["native_safe_halt+0xb", "mwait_idle_with_hints.constprop.0+0x59", "intel_idle+0x7b"] {
            assert!(is_idle(name), "{name}");
        }
        for name in ["native_halt+0xa", "default_idle_enter+0x1", "default_idle+0x1 [evil]", "idle_cpu+0x3"] {
            assert!(!is_idle(name), "{name}");
        }
    }
}
