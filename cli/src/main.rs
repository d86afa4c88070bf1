//! `lastwords`: loads a Linux dump kernel with panic reporting to the BMC and the console, and reads the reports.
//!
//! One file a subcommand, in the room of what it is about: loading a dump kernel (`arm`), trying it out (`check`),
//! reading the reports (`read`), remembering this machine's crashes (`crashes`); `bmc` has the connections to a BMC, `symbols` the names of locations in a kernel, `message`
//! the form of errors and warnings. What can be wrong with a file, a table or an option is found out in modules without
//! system calls, which the tests can reach; system calls are all in `sys`.
#![deny(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod arm;
mod bmc;
mod check;
mod config;
mod crashes;
mod distro;
#[cfg(feature = "pages")]
mod help;
mod journal;
mod layout;
mod machine;
mod message;
mod read;
mod sort;
mod symbols;
#[allow(unsafe_code, reason = "system calls, each with its reason; all are in there")]
mod sys;
mod unpack;
mod utc;
mod visible;

use anyhow::Result;
use arm::{image, kexec, load, status, unload, wrap};
use check::{mark, probe, test};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use crashes::{list, report};
use distro::{enable, hook};
use std::{ffi::OsString, path::Path, process::ExitCode};

/// Report Linux kernel panics to the BMC and the console
///
/// Loads a dump kernel together with a small program that runs between the panicking kernel and the dump kernel. The
/// program reports the panic to the event log (SEL, System Event Log) of the BMC (baseboard management controller) and
/// to the console, even if the dump then fails.
#[derive(Debug, Parser)]
#[command(name = "lastwords", version, long_version = image::VERSION, propagate_version = true)]
#[command(after_long_help = "\
Examples:
  lastwords enable
  lastwords status
  lastwords test
  lastwords list
  lastwords read --host bmc17 --user admin

Exit status:
  0  done
  1  failed
  2  wrong usage
  3  no panic report (read, list), not ready (status, probe)

Files:
  /etc/lastwords.conf  what is reported, how kernels are signed
  /var/lib/lastwords   crashes of this server, symbols of its kernels
  /dev/ipmi0           this machine's BMC

Environment:
  LASTWORDS_KEXEC     path of the real kexec, under the name kexec
  LASTWORDS_PASSWORD  password for lastwords read --host
  IPMI_PASSWORD       the same, for those who use ipmitool
  NO_COLOR            no colour, unless --color always")]
struct Lastwords {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Enable(enable::Enable),
    Disable(enable::Disable),
    Status(status::Status),
    #[command(visible_alias = "rehearse")]
    Test(test::Test),
    List(list::List),
    Read(read::Read),
    Probe(probe::Probe),
    Load(load::Load),
    /// Unload the dump kernel
    ///
    /// Whichever program has loaded it. The reserved memory stays reserved. If no dump kernel is loaded, lastwords prints
    /// that and exits with 0.
    #[command(after_long_help = "\
Examples:
  lastwords unload

Exit status:
  0  no dump kernel is loaded any more
  1  failed
  2  wrong usage

Files:
  /run/lastwords/loaded.json  what was loaded; removed")]
    Unload,
    Wrap(wrap::Wrap),
    Mark(mark::Mark),
    Report(report::Report),
    #[command(hide = true)]
    Hook(hook::Hook),
    #[cfg(feature = "pages")]
    #[command(hide = true)]
    Completions(help::Completions),
    #[cfg(feature = "pages")]
    #[command(hide = true)]
    Man(help::Man),
}

fn main() -> ExitCode {
    sys::survive_file_limit();
    match kexec::arguments() {
        Some(arguments) => kexec::run(&arguments, |arguments| run(&parse(arguments)?)),
        None => match parse(std::env::args_os()) {
            Ok(lastwords) => run(&lastwords).unwrap_or_else(|error| {
                message::error(&error);
                hint();
                ExitCode::FAILURE
            }),
            Err(error) => {
                print(&error);
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
        },
    }
}

/// Reads the arguments. Help texts are as wide as the terminal, but no wider than can be read with ease.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Lastwords, clap::Error> {
    const WIDEST: usize = 100;
    let command = Lastwords::command().term_width(layout::width().min(WIDEST));
    Lastwords::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

/// Prints an error of wrong usage in the form of all others; or a help text, which is no error.
fn print(error: &clap::Error) {
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        // As much as clap itself would do.
        let _ = error.print();
        return;
    }
    message::complain(format_args!(
        "lastwords: {}",
        error.to_string().replace("\n  tip: ", "\nhint: ").trim_end()
    ));
    hint();
}

/// Prints what may be wrong with the arguments although each of them can be read.
fn hint() {
    if let Some(hint) = arm::options::missing_equals(std::env::args_os()) {
        message::hint(hint);
    }
}

fn run(lastwords: &Lastwords) -> Result<ExitCode> {
    let root = Path::new("/");
    match &lastwords.command {
        Command::Load(load) => return load.run(root),
        Command::Unload => unload::run(root)?,
        Command::Status(status) => return status.run(root),
        Command::Wrap(wrap) => wrap.run(root)?,
        Command::Read(read) => return read.run(root),
        Command::Probe(probe) => return probe.run(root),
        Command::List(list) => return list.run(root),
        Command::Mark(mark) => return mark.run(root),
        Command::Report(report) => report.run(root)?,
        Command::Test(test) => return test.run(root),
        Command::Enable(enable) => return enable.run(root),
        Command::Disable(disable) => disable.run(root)?,
        Command::Hook(hook) => return Ok(hook.run(root)),
        #[cfg(feature = "pages")]
        Command::Completions(completions) => completions.run::<Lastwords>()?,
        #[cfg(feature = "pages")]
        Command::Man(man) => man.run::<Lastwords>()?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Lastwords::command().debug_assert();
    }

    /// Asserts that a help text's first line is an imperative: at most 70 characters, a capital letter first, no full
    /// stop, no third person.
    fn is_imperative(help: &str, of: &str) {
        let line = help.lines().next().unwrap_or_default();
        let line = line.split(" [default: ").next().unwrap_or_default();
        assert!(!line.is_empty() && line.len() <= 70, "{of}: {} characters: {line}", line.len());
        assert!(line.starts_with(|letter: char| letter.is_ascii_uppercase()), "{of}: {line}");
        assert!(!line.ends_with('.'), "{of}: {line}");
        let verb = line.split(' ').next().unwrap_or_default();
        assert!(!verb.ends_with('s') || verb.ends_with("ss"), "{of}: {line}");
    }

    #[test]
    fn help_texts_begin_with_an_imperative() {
        fn check(command: &Command) {
            let name = command.get_name();
            is_imperative(&command.get_about().expect(name).to_string(), name);
            for arg in command.get_arguments() {
                let of = format!("{name} --{}", arg.get_long().unwrap_or_default());
                is_imperative(&arg.get_help().expect(&of).to_string(), &of);
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = Lastwords::command();
        command.build();
        check(&command);
    }

    #[test]
    fn help_texts_have_the_words_of_the_field() {
        fn check(command: &Command) {
            const HOME_MADE: [&str; 8] =
                ["last words", "dead kernel", "armed", "disarm", "says", "tells", "words", "docs/"];
            let texts = [command.get_about(), command.get_long_about(), command.get_after_long_help()];
            let args = command.get_arguments();
            let helps = args.flat_map(|arg| [arg.get_help(), arg.get_long_help()]);
            for text in texts.into_iter().chain(helps).flatten() {
                let text = text.to_string().replace("lastwords", "");
                for word in HOME_MADE {
                    assert!(!text.contains(word), "{}: {word:?}: {text}", command.get_name());
                }
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = Lastwords::command();
        command.build();
        check(&command);
    }

    #[test]
    fn the_most_used_commands_come_first() {
        let names: Vec<_> =
            Lastwords::command().get_subcommands().map(|one| one.get_name().to_owned()).collect();
        let expected =
            "enable disable status test list read probe load unload wrap mark report hook completions man";
        assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
    }
}
