//! The freestanding image: enters between the crashed kernel and the dump kernel, says what the plan asks for, and
//! goes on to the dump kernel, whatever happened on the way.
//!
//! What it says and how is `lastwords-core`'s; here is only what the machine needs. On a boot that is no crash boot
//! (no `elfcorehdr=` on the command line), or with nothing to say, it touches no port and changes nothing. As the
//! purgatory it also sees, after the words, whether the dump kernel is what was loaded.
#![no_std]
#![no_main]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the image is x86_64 only so far");

mod digest;
mod libc;
mod x86_64;

use lastwords_core::cmdline;
use lastwords_core::plan::{OnCorrupt, Plan};
use lastwords_core::say::{Say, Step, ThisCpu};
use lastwords_core::stub::Header;
use x86_64::{boot_params, interrupts, machine};

/// Called once by the entry code, which goes on to the dump kernel when this returns.
extern "C" fn main(boot_params: u64, header: &Header) {
    let line = boot_params::command_line(boot_params);
    let elfcorehdr = cmdline::elfcorehdr(line);
    let mut plan = Plan::new(boot_params::text(&header.parameters), line);
    let handoff = &header.handoff;
    let words = elfcorehdr.filter(|_| plan.says_something());
    if words.is_none() && handoff.segment_count == 0 {
        return;
    }
    interrupts::set_up();
    let mut machine = machine::X86;
    let mut this_cpu = ThisCpu::default();
    // Without it nothing tells which CPU this is, which is said then.
    let _ = interrupts::guard(&mut || this_cpu = machine::this_cpu());
    plan.tsc_khz = plan.tsc_khz.or_else(machine::tsc_khz);
    let mut say = Say::new(&mut machine, plan, elfcorehdr.unwrap_or(0), this_cpu);
    let mut corrupt = None;
    for step in Step::ALL {
        if step == Step::Digest {
            if let Err(fault) = interrupts::guard(&mut || corrupt = digest::corrupt(handoff)) {
                say.fault(step, fault);
            }
            if let Some(name) = corrupt {
                say.corrupt(name);
            }
        }
        // Without words the steps are left out, but for what must be said all the same.
        if words.is_none() && corrupt.is_none() {
            continue;
        }
        if let Err(fault) = interrupts::guard(&mut || say.step(&mut machine, step)) {
            say.fault(step, fault);
        }
    }
    if corrupt.is_some() {
        match plan.on_corrupt {
            OnCorrupt::Boot => {}
            OnCorrupt::Halt => machine::halt(),
            OnCorrupt::Reset => {
                // Whatever becomes of it, the next line resets the machine.
                let _ = interrupts::guard(&mut || say.reset(&mut machine));
                machine::triple_fault()
            }
        }
    }
}

/// Nothing here panics: cli/build.rs refuses an image with this in it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
