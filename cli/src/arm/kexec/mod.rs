//! Called by the name `kexec`: takes the calls that are about the dump kernel, as kdump-tools, kdumpctl and SUSE's kdump
//! make them, and hands everything else, unchanged, to the real kexec.
//!
//! Never worse than plain kdump: when a dump kernel cannot be loaded with panic reporting, the real kexec loads it
//! without, and a warning has the reason. Our own work is done by a process of its own, so that this holds whatever becomes
//! of it: an error, a bug, no memory, a signal.

pub mod call;

use super::via::Via;
use crate::{
    message,
    sys::{self, Forked},
};
use anyhow::{Context, Error, Result, anyhow};
use call::Call;
use clap::Args;
use lastwords_core::cmdline;
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    ops::Range,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Names the real kexec.
const KEXEC: &str = "LASTWORDS_KEXEC";
/// Is set for the real kexec, so that two of us do not call each other for ever.
const HANDED_ON: &str = "LASTWORDS_HANDED_ON";
/// Where the real kexec may have gone: renamed by hand, diverted by dpkg, or later in the search path.
const NAMES: [&str; 3] = ["kexec.real", "kexec.distrib", "kexec"];
/// Where a kexec is when the search path has none.
const FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/// The options of `kexec` that `load` takes as they are (kexec(8)).
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of kexec(8)")]
pub struct KexecOptions {
    /// Load the dump kernel (what this command does anyway)
    #[arg(short = 'p', long)]
    pub load_panic: bool,
    /// Unload the dump kernel, as `lastwords unload` does
    #[arg(short, long)]
    pub unload: bool,
    /// Print nothing, exit with 1 if a dump kernel is loaded, else with 0
    ///
    /// The exit status is 255 where the running kernel does not show it.
    #[arg(short = 'S', long)]
    pub status: bool,
    /// Use kexec_file_load(2), as --via wrap does
    #[arg(short = 's', long, overrides_with_all = ["kexec_syscall", "kexec_syscall_auto"])]
    kexec_file_syscall: bool,
    /// Use kexec_load(2), as --via purgatory does
    #[arg(short = 'c', long, overrides_with_all = ["kexec_file_syscall", "kexec_syscall_auto"])]
    kexec_syscall: bool,
    /// Use the system call that is allowed (the default)
    #[arg(short = 'a', long, overrides_with_all = ["kexec_file_syscall", "kexec_syscall"])]
    kexec_syscall_auto: bool,
    /// Put nothing below this address (--via purgatory) [default: 0x0]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    mem_min: Option<u64>,
    /// Put nothing above this address (--via purgatory) [default: none]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    mem_max: Option<u64>,
    /// Start the dump kernel even if it is corrupt, as --on-corrupt boot does
    #[arg(short = 'i', long)]
    pub no_checks: bool,
    /// Do not let the dump kernel use EFI (--via purgatory)
    #[arg(long)]
    pub noefi: bool,
    /// Accept kexec's option (these are the only arguments there are)
    #[arg(long, hide = true)]
    args_linux: bool,
    /// Accept kexec's option (always done where the kernel can)
    #[arg(long, hide = true)]
    hotplug: bool,
    /// Accept kexec's option (always done)
    #[arg(long, hide = true)]
    elf64_core_headers: bool,
    /// Accept kexec's option (these are the only types there are)
    #[arg(short = 't', long = "type", hide = true, value_parser = ["bzImage", "bzImage64"])]
    kind: Option<String>,
}

impl KexecOptions {
    /// The loading method that is asked for.
    pub fn via(&self) -> Option<Via> {
        if self.kexec_file_syscall { Some(Via::Wrap) } else { self.kexec_syscall.then_some(Via::Purgatory) }
    }

    /// The addresses that may be used.
    pub fn limits(&self) -> Range<u64> {
        self.mem_min.unwrap_or(0)..self.mem_max.map_or(u64::MAX, |last| last.saturating_add(1))
    }
}

/// As strtoul(3) reads it: octal with a 0 in front.
fn address(text: &str) -> Result<u64, &'static str> {
    let octal =
        text.strip_prefix('0').filter(|digits| digits.starts_with(|digit: char| digit.is_ascii_digit()));
    let number = octal.map_or_else(|| cmdline::number(text), |digits| u64::from_str_radix(digits, 8).ok());
    number.ok_or("takes an address such as 0x10000000")
}

/// The arguments, when we are called by the name `kexec`.
pub fn arguments() -> Option<Vec<OsString>> {
    let mut arguments = env::args_os();
    let name = arguments.next()?;
    (Path::new(&name).file_name() == Some(OsStr::new("kexec"))).then(|| arguments.collect())
}

/// How our process ends when it could not do it. All others but 0, and 1 and 255, which are for `-S`, mean the same; this
/// one has printed why.
const FAILED: u8 = 254;
/// Before the reason for calling the real kexec.
const INSTEAD: &str = "no panic reporting, calling the real kexec instead";

/// Does what `kexec` with these arguments would do. `ours` does what `lastwords` with its arguments does.
pub fn run(arguments: &[OsString], ours: impl FnOnce(Vec<OsString>) -> Result<ExitCode>) -> ExitCode {
    let failed = |error: Error| {
        message::error(&error);
        ExitCode::FAILURE
    };
    let (call, understood) = call::read(arguments, env::var_os("POSIXLY_CORRECT").is_some());
    let (for_load, notes) = match call {
        Call::Ours { arguments, notes } => (arguments, notes),
        Call::Real(None) => return failed(hand_on(arguments)),
        Call::Real(Some(reason)) => {
            message::warning(&Error::msg(reason).context(INSTEAD));
            return failed(hand_on(&understood));
        }
    };
    let reason = match sys::fork_and_wait(true) {
        Ok(Forked::Child) => {
            let load = ["lastwords", "load"].map(OsString::from);
            let result = ours(load.into_iter().chain(for_load).collect());
            for note in notes.into_iter().filter(|_| result.is_ok()) {
                message::warning(&Error::msg(note));
            }
            return result.unwrap_or_else(|error| {
                message::warning(&error.context(INSTEAD));
                ExitCode::from(FAILED)
            });
        }
        Ok(Forked::Parent(status)) => match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(code @ (0 | 1 | 255)) => return ExitCode::from(code),
            Some(FAILED) => None,
            _ => Some(anyhow!("lastwords was ended by {}", sys::end(status))),
        },
        Err(error) => Some(Error::new(error).context("no process")),
    };
    if let Some(reason) = reason {
        message::warning(&reason.context(INSTEAD));
    }
    failed(hand_on(&understood))
}

/// Becomes the real kexec; comes back only with an error.
fn hand_on(arguments: &[OsString]) -> Error {
    if env::var_os(HANDED_ON).is_some() {
        return Error::msg(format!(
            "the real kexec was not found, only this one again\nhint: set {KEXEC} to the path of the real one"
        ));
    }
    let real = match real() {
        Ok(real) => real,
        Err(error) => return error,
    };
    let error = Command::new(&real).args(arguments).env(HANDED_ON, "1").exec();
    Error::new(error).context(real.display().to_string())
}

fn real() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let own = env::current_exe().context("/proc/self/exe")?;
    let folders = own.parent().map(Path::to_owned).into_iter().chain(env::split_paths(&path));
    let folders: Vec<_> = folders.chain(env::split_paths(FOLDERS)).collect();
    find(env::var_os(KEXEC).map(PathBuf::from), &own, &folders).with_context(|| {
        format!("the real kexec was not found\nhint: install kexec-tools, or set {KEXEC} to its path")
    })
}

/// The real kexec: the one that is named, else the first in the folders that is not `own`, by the less usual names first.
fn find(named: Option<PathBuf>, own: &Path, folders: &[PathBuf]) -> Option<PathBuf> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let own = identity(own);
    let is_other_program = |path: &PathBuf| {
        let program =
            fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0);
        program && identity(path) != own
    };
    let by_name = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    named.into_iter().chain(by_name).find(is_other_program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_real_kexec_is_not_ourselves() {
        let root = tempfile::tempdir().unwrap();
        let folders = ["a", "b"].map(|name| root.path().join(name));
        let program = |path: &Path, mode| {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        let own = folders[0].join("lastwords");
        program(&own, 0o755);
        symlink(&own, folders[0].join("kexec")).unwrap();
        assert_eq!(find(None, &own, &folders), None);
        let later = folders[1].join("kexec");
        program(&later, 0o644);
        assert_eq!(find(None, &own, &folders), None);
        program(&later, 0o755);
        assert_eq!(find(None, &own, &folders), Some(later.clone()));
        let diverted = folders[1].join("kexec.distrib");
        program(&diverted, 0o755);
        assert_eq!(find(None, &own, &folders), Some(diverted));
        assert_eq!(find(Some(later.clone()), &own, &folders), Some(later.clone()));
        assert_eq!(find(Some(folders[0].join("kexec")), &own, &folders[..1]), None);
    }

    #[test]
    fn the_last_system_call_wins() {
        use clap::Parser;
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            kexec: KexecOptions,
        }
        for (line, via) in [
            ("", None),
            ("-s", Some(Via::Wrap)),
            ("-c", Some(Via::Purgatory)),
            ("-s -c", Some(Via::Purgatory)),
            ("-c -a", None),
            ("-a -s", Some(Via::Wrap)),
        ] {
            let only = Only::try_parse_from(["test"].into_iter().chain(line.split_whitespace())).unwrap();
            assert_eq!(only.kexec.via(), via, "{line}");
        }
        for (min, max) in [("0x1000", "8191"), ("010000", "017777")] {
            let arguments =
                ["test".to_owned(), format!("--mem-min={min}"), "--mem-max".to_owned(), max.to_owned()];
            assert_eq!(Only::try_parse_from(arguments).unwrap().kexec.limits(), 0x1000..0x2000);
        }
        assert_eq!(address("08"), Err("takes an address such as 0x10000000"));
        assert_eq!(address("0"), Ok(0));
    }
}
