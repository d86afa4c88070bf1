//! `lastwords status`: is a dump kernel armed, and could one be?

use super::{
    kdump::Kdump,
    via::{self, Obstacle},
};
use crate::bmc::discovery;
use anyhow::{Context, Result};
use std::{
    fmt,
    io::{self, Write},
    path::Path,
};

/// Does it.
pub fn run(root: &Path) -> Result<()> {
    let kdump = Kdump::read(root);
    let obstacle = via::obstacle(root, &kdump);
    let report = Report { kdump, obstacle, interfaces: discovery::interfaces(root) };
    write!(io::stdout(), "{report}").context("standard output")
}

struct Report {
    kdump: Kdump,
    /// What keeps from loading as the purgatory.
    obstacle: Option<Obstacle>,
    interfaces: Vec<discovery::Interface>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kdump = &self.kdump;
        writeln!(
            f,
            "dump kernel:     {}",
            match kdump.crash_loaded {
                Some(true) => "armed",
                Some(false) => "not armed",
                None => "this kernel has no kdump (CONFIG_CRASH_DUMP)",
            }
        )?;
        if kdump.crash_size == 0 {
            writeln!(f, "reserved memory: none, boot with crashkernel=256M or more")?;
        } else {
            write!(f, "reserved memory: {} MiB", kdump.crash_size >> 20)?;
            // Without privileges all addresses read as zero.
            for range in kdump.crash_ranges.iter().filter(|range| *range.end() != 0) {
                write!(f, ", {:#x}-{:#x}", range.start(), range.end())?;
            }
            writeln!(f)?;
        }
        match &kdump.lockdown {
            Some(mode) => writeln!(f, "lockdown:        {mode}, only signed kernels can be armed")?,
            None => writeln!(f, "lockdown:        none")?,
        }
        match &self.obstacle {
            // Said below.
            _ if kdump.load_disabled => {}
            None => writeln!(f, "way in:          as the purgatory, kexec_load(2) is allowed")?,
            Some(why @ Obstacle::Permission) => writeln!(f, "way in:          {why}")?,
            Some(why) => writeln!(f, "way in:          wrapped, because {why}")?,
        }
        if kdump.load_disabled {
            writeln!(
                f,
                "loading kernels: switched off until the next boot (sysctl kernel.kexec_load_disabled)"
            )?;
        }
        if let Some(limit) = kdump.limit_panic {
            writeln!(f, "loading kernels: {limit} more times (sysctl kernel.kexec_load_limit_panic)")?;
        }
        if self.interfaces.is_empty() {
            writeln!(f, "BMC interface:   none found, KCS at 0xca2,0xca3 would be tried")?;
        }
        let best = discovery::best(&self.interfaces);
        for (at, interface) in self.interfaces.iter().enumerate() {
            let title = if at == 0 { "BMC interface:" } else { "" };
            let used =
                if self.interfaces.len() > 1 && best == Some(interface) { ": this one is used" } else { "" };
            writeln!(f, "{title:<16} {interface}{used}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::{Interface, Kind, Source, Space};

    #[test]
    fn a_machine_that_is_armed() {
        let interface = Interface {
            kind: Kind::Kcs,
            space: Space::Io,
            address: 0xca2,
            spacing: 1,
            source: Source::Driver,
        };
        let report = Report {
            kdump: Kdump {
                crash_loaded: Some(true),
                crash_size: 256 << 20,
                crash_ranges: std::iter::once(0x2500_0000..=0x34ff_ffff).collect(),
                lockdown: Some("integrity".to_owned()),
                ..Kdump::default()
            },
            obstacle: Some(Obstacle::Lockdown("integrity".to_owned())),
            interfaces: vec![interface, Interface { address: 0xca3, source: Source::Spmi, ..interface }],
        };
        assert_eq!(
            report.to_string(),
            "\
dump kernel:     armed
reserved memory: 256 MiB, 0x25000000-0x34ffffff
lockdown:        integrity, only signed kernels can be armed
way in:          wrapped, because lockdown (integrity) forbids kexec_load(2)
BMC interface:   KCS at I/O ports 0xca2,0xca3, from the running ipmi_si driver: this one is used
                 KCS at I/O ports 0xca3,0xca4, from ACPI SPMI
"
        );
    }

    #[test]
    fn a_machine_that_cannot_be_armed() {
        let kdump = Kdump { load_disabled: true, limit_panic: Some(0), ..Kdump::default() };
        assert_eq!(
            Report { kdump, obstacle: None, interfaces: Vec::new() }.to_string(),
            "\
dump kernel:     this kernel has no kdump (CONFIG_CRASH_DUMP)
reserved memory: none, boot with crashkernel=256M or more
lockdown:        none
loading kernels: switched off until the next boot (sysctl kernel.kexec_load_disabled)
loading kernels: 0 more times (sysctl kernel.kexec_load_limit_panic)
BMC interface:   none found, KCS at 0xca2,0xca3 would be tried
"
        );
    }
}
