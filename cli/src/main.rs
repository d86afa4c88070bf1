//! `lastwords`: arms a Linux dump kernel with last words for the BMC and the console.
//!
//! One module a subcommand. What can be wrong with a file, a table or an option is found out in modules without
//! system calls, which the tests can reach; system calls are all in `sys`.

mod bzimage;
mod cmdline;
mod discovery;
mod help;
mod image;
mod ipmi;
mod kexec;
mod kimage;
mod layout;
mod load;
mod loaded;
mod machine;
mod mark;
mod options;
mod probe;
mod ranges;
mod read;
mod refusal;
mod rehearse;
mod status;
mod symbols;
#[cfg(test)]
#[path = "../tests/synthetic/mod.rs"]
mod synthetic;
mod sys;
mod unload;
mod via;
mod wrap;
mod x86_64;

use anyhow::Result;
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
    Rehearse(rehearse::Rehearse),
    Completions(help::Completions),
    Man(help::Man),
}

fn main() -> ExitCode {
    match kexec::arguments() {
        Some(arguments) => kexec::run(&arguments, |arguments| run(&Lastwords::try_parse_from(arguments)?)),
        None => run(&Lastwords::parse()).unwrap_or_else(|error| {
            eprintln!("lastwords: {error:#}");
            ExitCode::FAILURE
        }),
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
        Command::Rehearse(rehearse) => return rehearse.run(root),
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
