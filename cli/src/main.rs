//! `lastwords`: arms a Linux dump kernel with last words for the BMC and the console.
//!
//! One file a subcommand, in the room of what it is about: arming a dump kernel (`arm`), trying it out (`check`),
//! reading what was said (`read`); `bmc` has the ways to a BMC, `symbols` the names of places in a kernel. What can be
//! wrong with a file, a table or an option is found out in modules without system calls, which the tests can reach;
//! system calls are all in `sys`.
#![deny(unsafe_code)]

mod arm;
mod bmc;
mod check;
mod help;
mod layout;
mod machine;
mod read;
mod symbols;
#[allow(unsafe_code, reason = "system calls, each with its reason; all are in there")]
mod sys;

use anyhow::Result;
use arm::{image, kexec, load, status, unload, wrap};
use check::{mark, probe, test};
use clap::{Parser, Subcommand};
use std::{path::Path, process::ExitCode};

/// Lets a panicking Linux server tell its BMC and its console why and where it died, before the dump kernel starts.
#[derive(Debug, Parser)]
#[command(name = "lastwords", version = image::VERSION.as_str(), propagate_version = true)]
#[command(after_long_help = "\
Examples:
  lastwords load /boot/vmlinuz --initrd /var/lib/kdump/initrd.img --reuse-cmdline --ipmi-handle-panic --output-cpu-ip
  lastwords wrap /boot/vmlinuz -o /var/lib/kdump/vmlinuz

Exit status: 0 done, 1 failed, 2 wrong usage.")]
struct Lastwords {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Load(load::Load),
    /// Disarms the dump kernel, whoever armed it
    ///
    /// The reserved memory stays reserved. When nothing is armed it says so, and that is no failure.
    Unload,
    Status(status::Status),
    Wrap(wrap::Wrap),
    Read(read::Read),
    Probe(probe::Probe),
    Mark(mark::Mark),
    #[command(visible_alias = "rehearse")]
    Test(test::Test),
    Completions(help::Completions),
    Man(help::Man),
}

fn main() -> ExitCode {
    match kexec::arguments() {
        Some(arguments) => kexec::run(&arguments, |arguments| run(&Lastwords::try_parse_from(arguments)?)),
        None => match Lastwords::try_parse() {
            Ok(lastwords) => run(&lastwords).unwrap_or_else(|error| {
                eprintln!("lastwords: error: {error:#}");
                hint();
                ExitCode::FAILURE
            }),
            Err(error) => {
                // As much as clap itself would do; a help text is no error.
                let _ = error.print();
                if error.use_stderr() {
                    hint();
                }
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
        },
    }
}

/// What may be wrong with the arguments although each of them can be read.
fn hint() {
    if let Some(hint) = arm::options::missing_equals(std::env::args_os()) {
        eprintln!("hint: {hint}");
    }
}

fn run(lastwords: &Lastwords) -> Result<ExitCode> {
    let root = Path::new("/");
    match &lastwords.command {
        Command::Load(load) => return load.run(root),
        Command::Unload => unload::run(root)?,
        Command::Status(status) => return status.run(root),
        Command::Wrap(wrap) => wrap.run()?,
        Command::Read(read) => return read.run(root),
        Command::Probe(probe) => probe.run(root)?,
        Command::Mark(mark) => mark.run(root)?,
        Command::Test(test) => return test.run(root),
        Command::Completions(completions) => completions.run::<Lastwords>()?,
        Command::Man(man) => man.run::<Lastwords>()?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        super::Lastwords::command().debug_assert();
    }
}
