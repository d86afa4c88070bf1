//! The freestanding image: enters between the crashed kernel and the dump kernel, says what the plan asks for, and
//! goes on to the dump kernel, whatever happened on the way.
//!
//! What it says and how is `lastwords-core`'s; here is only what the machine needs. On a boot that is no crash boot
//! (no `elfcorehdr=` on the command line), or with nothing to say, it touches no port and changes nothing.
#![no_std]
#![no_main]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the image is x86_64 only so far");

mod libc;
mod x86_64;

use lastwords_core::cmdline;
use lastwords_core::plan::Plan;
use lastwords_core::say::{Say, Step, ThisCpu};
use lastwords_core::stub::Header;
use x86_64::{boot_params, interrupts, machine};

/// Called once by the entry code, which goes on to the dump kernel when this returns.
extern "C" fn main(boot_params: u64, header: &Header) {
    let line = boot_params::command_line(boot_params);
    let Some(elfcorehdr) = cmdline::elfcorehdr(line) else { return };
    let mut plan = Plan::new(boot_params::text(&header.parameters), line);
    if !plan.says_something() {
        return;
    }
    interrupts::set_up();
    let mut machine = machine::X86;
    let mut this_cpu = ThisCpu::default();
    // Without it nothing tells which CPU this is, which is said then.
    let _ = interrupts::guard(&mut || this_cpu = machine::this_cpu());
    plan.tsc_khz = plan.tsc_khz.or_else(machine::tsc_khz);
    let mut say = Say::new(&mut machine, plan, elfcorehdr, this_cpu);
    for step in Step::ALL {
        if let Err(fault) = interrupts::guard(&mut || say.step(&mut machine, step)) {
            say.fault(step, fault);
        }
    }
}

/// Nothing here panics: cli/build.rs refuses an image with this in it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
