//! Whether console lines reach anybody: the image writes to a 16550 UART and the VGA text screen, the dump kernel may have
//! another console.

use anyhow::{Error, anyhow};
use lastwords_core::{
    cmdline,
    plan::{ConsoleDevices, Plan, is_console},
};

/// A dump kernel's console to which the image cannot write, where that leaves it none: `console=hvc0`, say. `null` is meant
/// to be none, as is what our own parameter says.
pub fn foreign<'a>(plan: &Plan, line: &'a str) -> Option<&'a str> {
    let is_foreign = |word: &&str| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let is_none =
            matches!(value, "" | "null" | "none") || ConsoleDevices::of_kernel(word).serial.is_some();
        (is_console(name) || name == "netconsole") && !is_none
    };
    let is_asked = cmdline::last_value(line, "lastwords.console").is_some();
    let is_silent =
        plan.console.serial.is_none() && !plan.console.vga && plan.reports_something() && !is_asked;
    cmdline::words(line).filter(is_foreign).last().filter(|_| is_silent)
}

/// Says that console lines would be printed nowhere, where that is not what was asked for.
pub fn silent(plan: &Plan, line: &str, asked: bool) -> Option<Error> {
    let nowhere = plan.console.serial.is_none() && !plan.console.vga;
    // Who asks for the SEL as well may have no console.
    let wanted = plan.output_log > 0 || plan.cpu_ip.console && !plan.cpu_ip.sel;
    let reason = match foreign(plan, line) {
        _ if asked => return None,
        Some(word) => format!("{word} is neither a UART nor a VGA text screen that lastwords can write to"),
        None if nowhere && wanted => "the dump kernel's command line names no serial console".to_owned(),
        None => return None,
    };
    Some(anyhow!(
        "the next panic will not be reported to a console: {reason}\n\
         hint: --serial ttyS0 (lastwords.console=ttyS0) reports to a UART, --console-vga to a VGA text screen"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_that_cannot_be_written_to_is_named() {
        const ALL: &str = "lastwords.ipmi_handle_panic lastwords.output_cpu_ip";
        for (line, reason) in [
            ("console=hvc0", Some("console=hvc0 is")),
            ("console=tty0 console=ttyAMA0,115200 quiet", Some("console=ttyAMA0,115200 is")),
            ("console=tty0", Some("console=tty0 is")),
            ("console=ttyUSB0,115200n8", Some("console=ttyUSB0,115200n8 is")),
            ("console=ttyS4", Some("console=ttyS4 is")),
            ("netconsole=@/eth0,@10.0.0.1/", Some("netconsole=@/eth0,@10.0.0.1/ is")),
            ("earlyprintk=vga", Some("earlyprintk=vga is")),
            ("earlyprintk=xdbc console=hvc0", Some("console=hvc0 is")),
            ("console=hvc0 console=ttyS0", None),
            ("console=tty0 earlyprintk=serial,ttyS0,115200", None),
            ("console=tty0 console=uart8250,io,0x3f8", None),
            ("console=tty0 lastwords.console=vga", None),
            ("console=null", None),
            ("console=", None),
            ("quiet", None),
            ("quiet lastwords.output_log", Some("names no serial console")),
            ("quiet -- console=hvc0", None),
        ] {
            let line = format!("{ALL} {line}");
            let found = silent(&Plan::new("", &line), &line, false).map(|error| error.to_string());
            assert_eq!(found.is_some(), reason.is_some(), "{line}: {found:?}");
            assert!(found.unwrap_or_default().contains(reason.unwrap_or_default()), "{line}");
        }
        // Nothing is to be printed, or nowhere by wish.
        assert!(silent(&Plan::new("", "console=hvc0"), "console=hvc0", false).is_none());
        let none = format!("{ALL} console=hvc0 lastwords.console=none");
        assert!(silent(&Plan::new("", &none), &none, true).is_none());
        assert!(foreign(&Plan::new("", &none), &none).is_none());
        let console = "lastwords.output_cpu_ip=console quiet";
        assert!(silent(&Plan::new("", console), console, false).is_some());
    }
}
