//! The machine of a fault, and the script by which its kernel dies.

use super::bmc::Shared;
use super::run::FIRST_LINE_PARAMETERS;
use super::{Fault, OPTIONS, OPTIONS_ALONE, Way};
use crate::machine::bmc::Bmc;
use crate::machine::kernels::Release;
use crate::scenarios::crash_kinds::Kind;
use crate::scenarios::{Arm, Call, Scenario};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

impl Fault {
    pub(super) fn scenario(self, way: Way, shared: &Arc<Shared>, tell: Sender<()>) -> Scenario {
        if let Self::Alone(fault) = self {
            return fault.alone(way, fault.scenario(way, shared, tell));
        }
        let (device, interface) = match self {
            Self::Bt(_) => ("isa-ipmi-bt,bmc=bmc0", "bt:0xe4"),
            Self::Ssif(_) => ("smbus-ipmi,bmc=bmc0,address=0x42", "ssif:i801:0x700,0x42"),
            _ => ("isa-ipmi-kcs,bmc=bmc0", "kcs:0xca2,0xca3"),
        };
        // Where there is no BMC in the tables, none is tried that is not named.
        let asked = format!("--ipmi-interface {interface} {OPTIONS}");
        let arm = match way {
            Way::Purgatory => Arm::Lastwords(format!("--via purgatory {asked}")),
            Way::Wrap => Arm::Wrapped(Call::FileLoad, asked),
            Way::Linux | Way::Kexec => Arm::Stock(Call::FileLoad),
        };
        let (append, panic_op) = match way {
            Way::Linux => ("crash_kexec_post_notifiers", "panic_op=string"),
            _ => ("", ""),
        };
        // The driver looks for minutes at a register that is stuck, and takes none of these for a BMC.
        let (bmc, options, driver) = match self {
            Self::NoBmc => (Bmc::None, Vec::new(), ""),
            Self::Stuck(status) => (Bmc::None, stuck([(0xca2, 0), (0xca3, status)]), ""),
            Self::Bt(Self::Stuck(status)) => (Bmc::None, stuck([(0xe4, *status), (0xe5, 0)]), ""),
            _ => (Bmc::Ours(self.manner(Arc::clone(shared), tell)), Vec::new(), "ipmi"),
        };
        let mut scenario = Scenario::new(Release::V6_1)
            .cpus(self.cpus() as u32)
            .bmc(bmc)
            .bmc_device(device)
            .arm(arm)
            .append(FIRST_LINE_PARAMETERS)
            .first_append(&format!("crashkernel=256M {append}"))
            .before(&format!("insmod /modules/ipmi_msghandler.ko {panic_op}\n{driver}"))
            .death(&format!("step the fault sets in\nsleep 1\n{}", self.death()))
            .limit(Duration::from_secs(150));
        if matches!(self, Self::NmisAtRequests | Self::NmiAfterTheKernel | Self::NmiStorm) {
            // Without an APIC nobody can mask an NMI.
            scenario = scenario.cpu("max,la57=off,erms=off,-apic");
        }
        for [option, value] in options {
            scenario = scenario.qemu([option.as_str(), value.as_str()]);
        }
        scenario
    }

    /// The same machine without a dump kernel. What else there is then is Linux's own reset after a second.
    fn alone(self, way: Way, scenario: Scenario) -> Scenario {
        let asked = format!("--no-dump-kernel --ipmi-interface kcs:0xca2,0xca3 {OPTIONS_ALONE}");
        let (load, append) = match way {
            Way::Purgatory => {
                (format!("lastwords load --via purgatory --no-symbols {asked}"), "crashkernel=2M")
            }
            Way::Wrap => (
                format!(
                    "lastwords wrap -o /tmp/alone {asked} && kexec -s -p /tmp/alone --command-line=console=ttyS0"
                ),
                "crashkernel=2M",
            ),
            Way::Linux | Way::Kexec => ("true".to_owned(), "panic=1"),
        };
        let death = self.death();
        scenario.arm(Arm::Not).payload().lastwords_at_hand().first_append(append).death(&format!(
            "section arm sh -c '{load}' || {{ step not armed; poweroff -f; }}\n\
             step the dump kernel is loaded\nstep the fault sets in\nsleep 1\n{death}"
        ))
    }

    /// The script by which the kernel dies.
    fn death(self) -> String {
        match self {
            Self::Traffic => {
                "for turn in 1 2 3 4; do while :; do ipmitool raw 6 1 >/dev/null 2>&1; done & done\n\
                              sleep 3\npanic_on 0"
                    .to_owned()
            }
            Self::PanicInNmi => Kind::Nmi.death(),
            Self::HardLockup => Kind::HardLockup.death(),
            Self::PanicInInterrupt => {
                "kernel kernel/sysrq 1\nstep panic in an interrupt\nsleep 60".to_owned()
            }
            Self::TwoPanics => "step panic on both CPUs\n\
                                on_cpu 1 sh -c 'echo c >/proc/sysrq-trigger' &\n\
                                on_cpu 0 sh -c 'echo c >/proc/sysrq-trigger'"
                .to_owned(),
            Self::PanicInPanic => "oops 0 double_panic".to_owned(),
            Self::DamagedBootParams => {
                "grep 'Crash kernel' /proc/iomem >/dev/console\nstep a bit is to change\nsleep 2\npanic_on 0"
                    .to_owned()
            }
            _ => "panic_on 0".to_owned(),
        }
    }
}

/// QEMU's options for registers that always read the same.
fn stuck(ports: [(u16, u8); 2]) -> Vec<[String; 2]> {
    let port = |(port, value): (u16, u8)| {
        [
            ["-chardev".to_owned(), format!("null,id=port{port:x}")],
            [
                "-device".to_owned(),
                format!("isa-debugcon,iobase={port:#x},readback={value:#x},chardev=port{port:x}"),
            ],
        ]
    };
    ports.map(port).concat()
}
