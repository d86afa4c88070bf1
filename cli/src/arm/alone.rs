//! Without a dump kernel: the image alone reports, and the machine is reset (`--no-dump-kernel`). What that takes away from
//! the running kernel, what cannot go with it, and how much memory it needs.

use super::{
    image::IMAGE,
    kdump::amount,
    ranges::IoMem,
    via::Via,
    x86_64::{PAGE, first_kernel, purgatory},
};
use crate::{distro::service::Service, message};
use anyhow::{Error, Result, anyhow, bail};
use lastwords_core::{
    cmdline,
    device::pvpanic::Event,
    ipmi::watchdog::Watchdog,
    plan::{Plan, Then, is_console},
};
use std::{fs, path::Path};

/// What stands for a kernel's name where there is none.
pub const NAME: &str = "no dump kernel";

/// Refuses what a plan has and cannot do: without a dump kernel, or with one.
pub fn check(plan: &Plan, alone: bool) -> Result<()> {
    if alone && matches!(plan.watchdog, Watchdog::Start { .. }) {
        bail!(
            "--ipmi-watchdog start: the countdown would go on after the reset, and cut the next boot off\n\
             hint: leave it out; --ipmi-watchdog stop stops a countdown that the crashed kernel has left"
        );
    }
    if !alone && plan.then.is_some() {
        bail!("--then (lastwords.then) is for --no-dump-kernel alone\nhint: leave it out");
    }
    if !alone && plan.hypervisor.event() == Some(Event::Panicked) {
        bail!(
            "--notify-hypervisor=panicked: hosts pause, reset or destroy the guest then, and the dump would be lost\n\
             hint: --notify-hypervisor; panicked is for --no-dump-kernel"
        );
    }
    Ok(())
}

/// The words of the running kernel's command line that tell where its console is.
pub fn console(root: &Path) -> String {
    let line = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    let words = cmdline::words(&line).filter(|word| is_console(word.split('=').next().unwrap_or(word)));
    words.collect::<Vec<_>>().join(" ")
}

/// Refuses files and machines that it is not for: `guest` is the confidential guest that this is.
pub fn check_files(guest: Option<&str>, has_initrd: bool) -> Result<()> {
    if let Some(guest) = guest {
        bail!(
            "this is a confidential guest ({guest}), in which only a kernel reaches the BMC and the console: without a dump \
             kernel nothing would be reported\nhint: load a dump kernel"
        );
    }
    if has_initrd {
        bail!("there is no dump kernel in it that could use an initial RAM disk\nhint: leave --initrd out");
    }
    Ok(())
}

/// What will become of a panic, and of the machine.
pub fn verdict(plan: &Plan) -> &'static str {
    match plan.then {
        None | Some(Then::Reset) => {
            "the next panic will be reported, then the machine resets (no dump kernel)"
        }
        Some(Then::PowerCycle) => {
            "the next panic will be reported, then the BMC power-cycles the machine (no dump kernel)"
        }
        Some(Then::PowerOff) => {
            "the next panic will be reported, then the BMC powers the machine off (no dump kernel)"
        }
        Some(Then::Halt) => "the next panic will be reported, then the machine halts (no dump kernel)",
    }
}

/// Refuses a reservation in which image and core header alone have no room. What else the kernel puts there it knows best.
pub fn fits_with_kexec_file_load(root: &Path, reserved: u64) -> Result<()> {
    let least = first_kernel::hotplug_size(root).unwrap_or(0) + purgatory::memory_size(&IMAGE);
    if reserved < least {
        return Err(too_small(reserved, needs(root, Via::Wrap)));
    }
    Ok(())
}

/// Bytes of reserved memory that this machine needs, with some room to spare.
pub fn needs(root: &Path, via: Via) -> u64 {
    let iomem = IoMem::parse(&fs::read_to_string(root.join("proc/iomem")).unwrap_or_default());
    let tables = purgatory::page_tables_size(&iomem, first_kernel::has_gib_pages(root), true);
    let others = match via {
        // Core header, boot_params and its copy, the instructions that reset the machine.
        Via::Purgatory => 8 * PAGE,
        // The kernel's own purgatory, boot_params, the page before the image; and the core header as large as it may become.
        Via::Wrap => 10 * PAGE + first_kernel::hotplug_size(root).unwrap_or(0),
    };
    purgatory::memory_size(&IMAGE) + tables + others
}

/// What is no longer done where a kernel panics; with warnings of what somebody may miss.
pub fn announce(root: &Path) {
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    if text("sys/module/kernel/parameters/crash_kexec_post_notifiers").trim() != "Y" {
        message::output(
            "while this is loaded, a panic runs none of Linux's own: IPMI panic events (panic_op), pstore dump, panic notifiers",
        );
        if let Some(error) = pstore(text("sys/module/pstore/parameters/backend").trim()) {
            message::warning(&error);
        }
    }
    if let Some(service) = Service::find(root).filter(|service| service.is_on(root)) {
        let units = service.units.join(" ");
        message::warning(&anyhow!(
            "{} is switched on, and will load a dump kernel in this place: at boot, on hotplug, or never, for want of memory\n\
             hint: systemctl disable --now {units}",
            service.name
        ));
    }
}

/// What is missing where pstore had the crashed kernel's log. To ERST the image writes it itself.
fn pstore(backend: &str) -> Option<Error> {
    let is_one = !matches!(backend, "" | "(null)" | "null" | "erst");
    is_one.then(|| {
        anyhow!(
            "the kernel's log will no longer be in pstore after a panic ({backend})\n\
             hint: --output-log prints it to the console; or boot with crash_kexec_post_notifiers"
        )
    })
}

/// How much memory there is, and how much that takes.
pub fn too_small(reserved: u64, needed: u64) -> Error {
    let has = if reserved == 0 {
        "no memory is reserved".to_owned()
    } else {
        format!("{} are reserved", amount(reserved))
    };
    anyhow!(
        "{has}, and without a dump kernel this machine needs {}\nhint: boot with crashkernel={}M",
        amount(needed),
        needed.div_ceil(1 << 20)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::Root;

    #[test]
    fn what_cannot_go_with_it_or_without_it_is_refused() {
        for (line, alone, why) in [
            ("lastwords.ipmi_watchdog=start=60", true, Some("cut the next boot off")),
            ("lastwords.ipmi_watchdog=start=60", false, None),
            ("lastwords.ipmi_watchdog=stop", true, None),
            ("lastwords.then=halt", true, None),
            ("lastwords.then=halt", false, Some("--no-dump-kernel alone")),
            ("lastwords.notify_hypervisor=panicked", true, None),
            ("lastwords.notify_hypervisor=0x505,panicked", false, Some("the dump would be lost")),
            ("lastwords.notify_hypervisor", false, None),
        ] {
            let error = check(&Plan::new("", line), alone).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), why.is_some(), "{line}: {error:?}");
            assert!(error.unwrap_or_default().contains(why.unwrap_or_default()), "{line}");
        }
    }

    #[test]
    fn its_console_is_the_running_kernels() {
        let root = Root::new();
        assert_eq!(console(root.path()), "");
        root.write(
            "proc/cmdline",
            "root=/dev/sda1 console=tty0 quiet earlyprintk=serial console=ttyS1,9600 -- console=x\n",
        );
        assert_eq!(console(root.path()), "console=tty0 earlyprintk=serial console=ttyS1,9600");
    }

    #[test]
    fn a_machine_needs_one_or_two_mib_and_with_small_pages_four_kib_for_each_gib() {
        let root = Root::new();
        let needs = |via, gib: u64, flags: &str, hotplug: &str| {
            let last = (gib << 30) - 1;
            root.write(
                "proc/iomem",
                format!("00001000-0009fbff : System RAM\n00100000-{last:08x} : System RAM\n"),
            );
            root.write("proc/cpuinfo", format!("processor : 0\nflags : {flags}\n"));
            root.write("sys/kernel/crash_elfcorehdr_size", hotplug);
            needs(root.path(), via)
        };
        // What was measured to be the least beside the image, and this much to spare at most.
        let image = purgatory::memory_size(&IMAGE);
        let least = |needs: u64, kib: u64| (kib << 10..(kib + 100) << 10).contains(&(needs - image));
        for gib in [1, 6, 64] {
            assert!(least(needs(Via::Purgatory, gib, "fpu pdpe1gb", "917616"), 32));
            assert!(least(needs(Via::Wrap, gib, "fpu pdpe1gb", ""), 64));
            assert!(least(needs(Via::Wrap, gib, "fpu pdpe1gb", "917616"), 956));
        }
        assert!(least(needs(Via::Purgatory, 64, "fpu", "917616"), 284));
    }

    #[test]
    fn what_pstore_loses_is_named() {
        for (backend, is_lost) in
            [("", false), ("(null)", false), ("efi_pstore", true), ("ramoops", true), ("erst", false)]
        {
            assert_eq!(pstore(backend).is_some(), is_lost, "{backend}");
        }
    }
}
