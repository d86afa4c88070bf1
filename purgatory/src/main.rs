//! The freestanding image: enters between the crashed kernel and the dump kernel, reports what the plan asks for, and
//! goes on to the dump kernel, whatever happened on the way.
//!
//! What it reports and how is `lastwords-core`'s; here is only what the machine needs. On a boot that is no crash boot
//! (no `elfcorehdr=` on the command line), or with nothing to report, it touches no register and changes nothing. As
//! the purgatory it also sees, after the report, whether the dump kernel is what was loaded.
#![no_std]
#![no_main]

mod arch;
mod digest;

use arch::{boot_params, interrupts, machine, reset};
use lastwords_core::abi::Header;
use lastwords_core::cmdline;
use lastwords_core::plan::{OnCorrupt, Plan};
use lastwords_core::sequence::{Sequence, Step, ThisCpu};

/// Called once by the entry code, which goes on to the dump kernel when this returns.
extern "C" fn main(boot_params: u64, header: &Header) {
    let line = boot_params::command_line(boot_params);
    let elfcorehdr = cmdline::elfcorehdr(line);
    let mut plan = Plan::new(boot_params::embedded(&header.parameters), line);
    let handoff = &header.handoff;
    let reported = elfcorehdr.filter(|_| plan.reports_something());
    if reported.is_none() && handoff.segment_count == 0 {
        return;
    }
    interrupts::set_up();
    let mut machine = machine::X86::default();
    let mut this_cpu = ThisCpu::default();
    // Without it nothing tells which CPU this is, which is reported then.
    let _ = interrupts::guard(&mut || this_cpu = machine::this_cpu());
    plan.tsc_khz = plan.tsc_khz.or_else(machine::tsc_khz);
    let mut sequence = Sequence::new(&mut machine, plan, plan.bmc(), elfcorehdr.unwrap_or(0), this_cpu);
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
            sequence.fault(step, fault);
        }
    }
    if corrupt.is_some() {
        match plan.on_corrupt {
            OnCorrupt::Boot => {}
            OnCorrupt::Halt => reset::halt(),
            OnCorrupt::Reset => {
                // Whatever becomes of it, the next line resets the machine.
                let _ = interrupts::guard(&mut || sequence.reset(&mut machine));
                reset::triple_fault()
            }
        }
    }
}

/// Nothing here panics: cli/build.rs refuses an image with this in it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
