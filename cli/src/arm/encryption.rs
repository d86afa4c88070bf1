//! Encrypted memory and confidential guests: what the image can do there when the kernel has panicked.

use super::cpus::Cpus;
use crate::sys;
use std::{fs, path::Path};

/// What is encrypted on this machine, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Nothing, or nothing that the image notices. In an SEV guest the kernel maps memory with the encryption bit for what
    /// it jumps to (`init_pgtable` in `arch/x86/kernel/machine_kexec_64.c`).
    None,
    /// SME: what the kernel jumps to finds memory mapped without the encryption bit, and reads noise in the crashed
    /// kernel's memory (likewise).
    Memory,
    /// A guest in which each access to an I/O port is an exception (#VC, #VE) that only a kernel can handle. The name is
    /// that of the technique.
    Guest(&'static str),
}

/// Finds it out below `root`.
pub fn find(root: &Path) -> Encryption {
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    // The device of a guest's firmware, and its privilege level, from Linux 5.19 and 6.11 on.
    let snp =
        ["dev/sev-guest", "sys/devices/system/cpu/sev/vmpl"].iter().any(|path| root.join(path).exists());
    let machine = Machine {
        cpus: &Cpus::read(root),
        cpuid: sys::encrypted_virtualization(),
        snp,
        cmdline: &text("proc/cmdline"),
        release: &text("proc/sys/kernel/osrelease"),
    };
    machine.encryption()
}

struct Machine<'a> {
    cpus: &'a Cpus,
    /// [`sys::encrypted_virtualization`].
    cpuid: u32,
    /// Does the kernel show that it is an SEV-SNP guest?
    snp: bool,
    cmdline: &'a str,
    release: &'a str,
}

impl Machine<'_> {
    fn encryption(&self) -> Encryption {
        const SEV_ES: u32 = 1 << 3;
        const SEV_SNP: u32 = 1 << 4;
        let is_guest = self.cpus.has("hypervisor");
        if self.cpus.has("tdx_guest") {
            Encryption::Guest("TDX")
        } else if self.snp || is_guest && (self.cpuid & SEV_SNP != 0 || self.cpus.has("sev_snp")) {
            Encryption::Guest("SEV-SNP")
        } else if is_guest && (self.cpuid & SEV_ES != 0 || self.cpus.has("sev_es")) {
            Encryption::Guest("SEV-ES")
        } else if !is_guest && self.cpus.has("sme") && self.sme_is_active() {
            Encryption::Memory
        } else {
            Encryption::None
        }
    }

    /// The flag is there where the kernel uses SME, but before Linux 5.18 wherever the firmware lets it
    /// (`early_detect_mem_encrypt` in `arch/x86/kernel/cpu/amd.c`).
    fn sme_is_active(&self) -> bool {
        let mut numbers = self.release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
        let (major, minor) = (numbers.next(), numbers.next());
        let shows_use =
            matches!((major, minor), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 18));
        shows_use || self.cmdline.split_whitespace().any(|word| word == "mem_encrypt=on")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_found() {
        use Encryption::{Guest, Memory, None};
        const SEV: u32 = 2;
        for (flags, cpuid, snp, cmdline, release, found) in [
            ("fpu", 0, false, "", "6.1.0", None),
            ("fpu sme sev sev_es sev_snp", 0x1f, false, "quiet", "6.1.0-28-amd64", Memory),
            ("fpu sev sev_es sev_snp", 0x1f, false, "mem_encrypt=off", "6.1.0", None),
            ("fpu sme", 1, false, "quiet", "5.10.0-30-amd64", None),
            ("fpu sme", 1, false, "quiet mem_encrypt=on", "5.10.0", Memory),
            ("fpu sme", 1, false, "", "", None),
            ("fpu hypervisor", SEV, false, "", "6.1.0", None),
            ("fpu hypervisor", SEV | 8, false, "", "6.1.0", Guest("SEV-ES")),
            ("fpu hypervisor sev sev_es", 0, false, "", "6.1.0", Guest("SEV-ES")),
            ("fpu hypervisor", SEV | 0x18, false, "", "6.1.0", Guest("SEV-SNP")),
            ("fpu hypervisor", 0, true, "", "6.1.0", Guest("SEV-SNP")),
            ("fpu hypervisor tdx_guest", 0, false, "", "6.1.0", Guest("TDX")),
        ] {
            let cpus = Cpus::parse(&format!("processor : 0\nflags\t\t: {flags}\n"));
            let machine = Machine { cpus: &cpus, cpuid, snp, cmdline, release };
            assert_eq!(machine.encryption(), found, "{flags} {cpuid:#x} {cmdline} {release}");
        }
    }

    #[test]
    fn a_stored_machine_is_read() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("proc/cpuinfo", "flags : fpu\n"), ("sys/devices/system/cpu/sev/vmpl", "0\n")] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(find(root.path()), Encryption::Guest("SEV-SNP"));
    }
}
