//! The freestanding image: enters between the crashed kernel and the dump kernel, reports what the plan asks for, and
//! goes on to the dump kernel, whatever happened on the way.
//!
//! What it reports and how is `lastwords-core`'s; here is only what the machine needs. On a boot that is no crash boot
//! (no `elfcorehdr=` on the command line), or with nothing to report, it touches no register and changes nothing. As
//! the purgatory it also sees, after the report, whether the dump kernel is what was loaded.
//!
//! Where there is no dump kernel, the image resets the machine. Whatever ends it before that leads to a few instructions in
//! the dump kernel's place, which reset it, too.
#![no_std]
#![no_main]

mod arch;
mod digest;

use arch::{boot_params, entry, interrupts, machine, reset};
use lastwords_core::abi::{Header, NO_DUMP_KERNEL};
use lastwords_core::cmdline;
use lastwords_core::plan::{Plan, Then};
use lastwords_core::sequence::{Fault, Sequence, Step, ThisCpu};
use lastwords_core::store::erst::Platform;

/// Called once by the entry code, which goes on to the dump kernel when this returns.
extern "C" fn main(boot_params: u64, header: &Header) {
    let handoff = &header.handoff;
    let as_purgatory = handoff.segment_count > 0;
    if as_purgatory && interrupts::guard(&mut interrupts::take_machine_checks).is_err_and(is_confidential) {
        return;
    }
    let (mut restored, mut line) = (None, "");
    // What cannot be read says nothing. As the purgatory, the checksums are told of it.
    let _ = interrupts::guard(&mut || restored = digest::restore(handoff));
    let _ = interrupts::guard(&mut || line = boot_params::command_line(boot_params));
    let elfcorehdr = cmdline::elfcorehdr(line);
    if elfcorehdr.is_some() {
        entry::is_crash();
    }
    let mut plan = Plan::new(boot_params::embedded(&header.parameters), line);
    plan.then = (header.no_dump_kernel == NO_DUMP_KERNEL).then(|| plan.then.unwrap_or(Then::Reset));
    let reported = elfcorehdr.filter(|_| plan.then.is_some() || plan.reports_something());
    if reported.is_none() && !as_purgatory {
        return;
    }
    let (mut this_cpu, mut platform) = (ThisCpu::default(), Platform::default());
    let prepared = interrupts::guard(&mut || {
        interrupts::take_machine_checks();
        this_cpu = machine::this_cpu();
        platform = boot_params::platform(boot_params, core::ptr::from_ref(header) as u64);
        plan.tsc_khz = plan.tsc_khz.or_else(machine::tsc_khz);
    });
    if prepared.is_err_and(is_confidential) {
        return;
    }
    let mut machine = machine::X86::default();
    let mut sequence = Sequence::new(&mut machine, plan, plan.bmc(), elfcorehdr.unwrap_or(0), this_cpu);
    sequence.platform(platform);
    if let Some(name) = restored {
        sequence.restored(name);
    }
    let mut corrupt = None;
    for step in Step::ALL {
        if step == Step::Checksum {
            if let Err(fault) = interrupts::guard(&mut || corrupt = digest::corrupt(handoff)) {
                sequence.fault(step, fault);
            }
            if let Some(name) = corrupt {
                sequence.corrupt(name);
            }
        }
        // Without a report the steps are left out, but for what must be reported all the same.
        if reported.is_none() && corrupt.is_none() {
            continue;
        }
        if let Err(fault) = interrupts::guard(&mut || sequence.step(&mut machine, step)) {
            if is_confidential(fault) {
                return;
            }
            sequence.fault(step, fault);
        }
    }
    if let Some(then) = sequence.then() {
        // Whatever becomes of it, the next line ends it.
        let _ = interrupts::guard(&mut || sequence.end(&mut machine, then));
        if then == Then::Halt { reset::halt() } else { reset::triple_fault() }
    }
}

/// Is this a guest whose hypervisor is not to see what it does? Each access to a device would end in such an exception,
/// and nobody is there who would be told: the dump kernel starts at once.
fn is_confidential(fault: Fault) -> bool {
    interrupts::CONFIDENTIAL.contains(&fault.vector)
}

/// Nothing here panics: cli/build.rs refuses an image with this in it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
