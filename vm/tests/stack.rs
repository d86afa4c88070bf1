//! How deep the image's stack was used when it has said everything: its memory is zero when it is loaded, and is read from
//! outside when the dump kernel is about to start.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::image::{HEADER, Image};
use lastwords_vm::judge::segments::Segments;
use lastwords_vm::machine::gdb::Debugger;
use lastwords_vm::machine::kernels::Release;
use lastwords_vm::scenarios::{Arm, Scenario};
use serde_json::json;

/// The stack's size (`purgatory/src/arch/x86_64/entry.rs`), and what may be used of it: the rest is for compilers to come.
const STACK: u64 = 0x2_8000;
const MOST: u64 = 0x1_4000;

#[test]
fn the_stack_is_large_enough_twice_over() -> Result<()> {
    let debugger = Debugger::new()?;
    let mut segments = Segments::default();
    let mut used = None;
    Scenario::new(Release::V6_12)
        .cpus(8)
        .arm(Arm::Not)
        .lastwords_at_hand()
        .death(
            "lastwords load --via purgatory --verbose --no-symbols --ipmi-handle-panic --output-cpu-ip --output-log=64K \
             --ipmi-watchdog start=120 /boot/vmlinuz --initrd=/boot/initrd --append='console=ttyS0 quiet nr_cpus=1' \
             >/tmp/load 2>&1 || step not armed\ngrep '^segment' /tmp/load >/dev/console\n\
             step the dump kernel is loaded\nsleep 1\npanic_on 0",
        )
        .debugger(&debugger)
        .watch(|vm, line| {
            segments.read(&line.text);
            if line.text.contains("the dump kernel is loaded") {
                let mut gdb = debugger.connect()?;
                gdb.go_to(segments.entry()?)?;
                let image = segments.get("image")?.start;
                let header = gdb.read(image, HEADER)?;
                let end = image + Image::find(&header)?.memory_size()?;
                let mut unused = 0;
                'stack: for block in (end - STACK..end).step_by(1024) {
                    for byte in gdb.read(block, 1024)? {
                        if byte != 0 {
                            break 'stack;
                        }
                        unused += 1;
                    }
                }
                used = Some(STACK - unused);
                vm.monitor()?.execute("quit", &json!({}))?;
            }
            Ok(())
        })?;
    let used = used.context("the machine was not armed")?;
    println!("{used} of {STACK} bytes of stack were used");
    ensure!((0x400..MOST).contains(&used), "{used} bytes of stack were used");
    Ok(())
}
