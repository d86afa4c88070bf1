//! What a call by the name `kexec` is for: read as kexec-tools read it (2.0.32, `main` in `kexec/kexec.c`), option by
//! option, since the last one that contradicts another counts.

use crate::arm::getopt::{self, Given, Line, Spec, Takes};
use std::ffi::{OsStr, OsString};

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// It is about the dump kernel: arguments of `lastwords load` that do the same, and what is to be said of what they do
    /// not do.
    Ours {
        /// The arguments, behind `load`.
        arguments: Vec<OsString>,
        /// What is done in another way than by kexec.
        notes: Vec<&'static str>,
    },
    /// The real kexec's; why, where it loads a dump kernel.
    Real(Option<String>),
}

/// What an option is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// `-l`, `-p`, `-f`, `-e`, `-u`, `-S`, `-x`: what is to be done.
    Load,
    Panic,
    Force,
    Exec,
    Unload,
    Status,
    NoIfdown,
    /// `-s`, `-c`, `-a`: the system call.
    SystemCall,
    /// `lastwords load` has the same option.
    Same,
    /// `lastwords load` has it by the name of `--append` or `--initrd`.
    Append,
    Initrd,
    /// What the option asks for is done anyway, or has no part in loading a dump kernel.
    Anyway,
    /// Sets the speed of a UART that another option names.
    Speed,
    /// `-t`.
    Type,
    /// `--elf32-core-headers`, which we do not make.
    Elf32,
    /// Only for kexec_load(2), and only the real kexec does it.
    OldCall,
    /// Only the real kexec does it.
    Foreign,
    /// The real kexec prints something and does nothing else.
    Print,
}

use Meaning::{
    Anyway, Append, Elf32, Exec, Force, Foreign, Initrd, Load, NoIfdown, OldCall, Panic, Print, Same, Speed,
    Status, SystemCall, Type, Unload,
};

const fn flag(letter: char, name: &'static str, meaning: Meaning) -> (Spec, Meaning) {
    (Spec { name, letter: Some(letter), value: false }, meaning)
}

const fn long(name: &'static str, meaning: Meaning) -> (Spec, Meaning) {
    (Spec { name, letter: None, value: false }, meaning)
}

const fn value(name: &'static str, meaning: Meaning) -> (Spec, Meaning) {
    (Spec { name, letter: None, value: true }, meaning)
}

/// kexec's options on x86_64 (kexec(8), `--help`).
const OPTIONS: [(Spec, Meaning); 51] = [
    flag('h', "help", Print),
    flag('v', "version", Print),
    flag('f', "force", Force),
    flag('i', "no-checks", Same),
    flag('x', "no-ifdown", NoIfdown),
    flag('y', "no-sync", Anyway),
    flag('l', "load", Load),
    flag('u', "unload", Unload),
    flag('e', "exec", Exec),
    long("exec-live-update", Foreign),
    long("load-preserve-context", Foreign),
    long("load-jump-back-helper", Foreign),
    long("load-live-update", Foreign),
    value("entry", Foreign),
    (Spec { name: "type", letter: Some('t'), value: true }, Type),
    flag('p', "load-panic", Panic),
    value("mem-min", Same),
    value("mem-max", Same),
    long("reuseinitrd", Foreign),
    flag('s', "kexec-file-syscall", SystemCall),
    flag('c', "kexec-syscall", SystemCall),
    flag('a', "kexec-syscall-auto", SystemCall),
    flag('d', "debug", Same),
    flag('S', "status", Status),
    long("print-ckr-size", Print),
    long("hotplug", Anyway),
    long("no-cma", Anyway),
    long("force-dtb", Foreign),
    long("reset-vga", OldCall),
    value("serial", Same),
    value("serial-baud", Speed),
    long("console-vga", Same),
    long("console-serial", Same),
    long("elf32-core-headers", Elf32),
    long("elf64-core-headers", Anyway),
    long("pass-memmap-cmdline", OldCall),
    long("noefi", Same),
    long("reuse-video-type", Anyway),
    value("command-line", Append),
    value("append", Append),
    long("reuse-cmdline", Same),
    value("initrd", Initrd),
    value("ramdisk", Initrd),
    long("args-elf", Anyway),
    long("args-linux", Anyway),
    long("args-none", Anyway),
    value("module", Foreign),
    long("real-mode", Foreign),
    long("entry-32bit", Foreign),
    value("dtb", Foreign),
    (Spec { name: "?", letter: Some('?'), value: false }, Print),
];

/// Options that kexec takes for those of its loaders (OPT_ARCH_MAX and above).
const LOADERS: &str = "command-line append reuse-cmdline initrd ramdisk args-elf args-linux args-none module \
    real-mode entry-32bit dtb pass-memmap-cmdline noefi reuse-video-type";

/// Options of `lastwords load` that kexec has not.
const FURTHER: [(&str, Takes); 22] = [
    ("ipmi-interface", Takes::Value),
    ("ipmi-kcs-ports", Takes::Value),
    ("ipmi-handle-panic", Takes::Nothing),
    ("ipmi-watchdog", Takes::Value),
    ("output-cpu-ip", Takes::Optional),
    ("ipmi-timeout", Takes::Value),
    ("budget", Takes::Value),
    ("sel-records", Takes::Value),
    ("sel-type", Takes::Value),
    ("output-log", Takes::Optional),
    ("output-pstore", Takes::Optional),
    ("notify-hypervisor", Takes::Optional),
    ("on-corrupt", Takes::Value),
    ("via", Takes::Value),
    ("digest", Takes::Value),
    ("no-symbols", Takes::Nothing),
    ("no-dump-kernel", Takes::Nothing),
    ("then", Takes::Value),
    ("sign-cert", Takes::Value),
    ("sign-command", Takes::Value),
    ("sign-key", Takes::Value),
    ("verbose", Takes::Nothing),
];

/// The types of kernels that we load, whatever `-t` makes of them.
const TYPES: [&str; 3] = ["bzImage", "bzImage64", "uki"];

/// Reads a call. Returns as well the arguments that the real kexec understands. `in_order`: POSIXLY_CORRECT is set.
pub fn read(arguments: &[OsString], in_order: bool) -> (Call, Vec<OsString>) {
    let specs = OPTIONS.map(|(spec, _)| spec);
    let line = getopt::read(arguments, &specs, &FURTHER, in_order);
    (call(&line), line.rest)
}

fn meaning(given: &Given<'_>) -> Option<Meaning> {
    let (_, meaning) = OPTIONS.iter().find(|(spec, _)| spec.name == given.name && !given.further)?;
    Some(*meaning)
}

/// What kexec is to do in the end.
#[derive(Clone, Copy, Debug, Default)]
struct Deeds {
    load: bool,
    unload: bool,
    exec: bool,
    status: bool,
    ifdown: bool,
    /// Is it about the dump kernel?
    panic: bool,
    /// Was `-l` given?
    ordinary: bool,
}

impl Deeds {
    fn of(line: &Line<'_>) -> Self {
        let mut deeds = Self { load: true, ..Self::default() };
        let meanings = line.options.iter().filter_map(meaning);
        let no_ifdown = meanings.clone().any(|meaning| meaning == NoIfdown);
        for meaning in meanings {
            match meaning {
                Panic => (deeds.load, deeds.exec, deeds.panic) = (true, false, true),
                Load => (deeds.load, deeds.exec, deeds.ordinary) = (true, false, true),
                Force => (deeds.load, deeds.exec, deeds.ifdown) = (true, true, true),
                Exec => (deeds.load, deeds.exec, deeds.ifdown) = (false, true, true),
                Unload => (deeds.load, deeds.unload) = (false, true),
                Status => deeds.status = true,
                _ => {}
            }
        }
        deeds.ifdown &= !no_ifdown;
        deeds
    }
}

fn call(line: &Line<'_>) -> Call {
    let deeds = Deeds::of(line);
    let has = |one| line.options.iter().any(|given| meaning(given) == Some(one));
    if has(Print) {
        return Call::Real(None);
    }
    if let Some(error) = &line.error {
        return Call::Real(Some(error.clone()).filter(|_| deeds.panic));
    }
    // They are wrong usage where nothing is loaded.
    let has_loaders = line.options.iter().any(|given| LOADERS.split(' ').any(|loader| loader == given.name));
    if (deeds.status || !deeds.load) && has_loaders {
        return Call::Real(None);
    }
    if deeds.status {
        let ours = deeds.panic || !deeds.ordinary;
        let arguments = vec!["--status".into()];
        return if ours { Call::Ours { arguments, notes: Vec::new() } } else { Call::Real(None) };
    }
    if !deeds.panic {
        return Call::Real(None);
    }
    // With kexec it depends on the order which of the two counts.
    if deeds.unload && line.operands.is_empty() && !deeds.exec {
        return Call::Ours { arguments: vec!["--unload".into()], notes: Vec::new() };
    }
    if !deeds.load || deeds.unload || line.operands.is_empty() {
        return Call::Real(None);
    }
    if deeds.exec {
        return Call::Real(Some("-f behind -p starts a kernel at once".to_owned()));
    }
    match arguments(line) {
        Err(option) => Call::Real(Some(format!("{option} is an option that only kexec-tools have"))),
        Ok((arguments, mut notes)) => {
            if deeds.ifdown {
                notes.push("network interfaces stay up, which kexec would take down (-f or -e before -p)");
            }
            Call::Ours { arguments, notes }
        }
    }
}

/// The arguments of `lastwords load` that do the same, or the option that has none.
fn arguments(line: &Line<'_>) -> Result<(Vec<OsString>, Vec<&'static str>), String> {
    let system_call = line.options.iter().rfind(|given| meaning(given) == Some(SystemCall));
    let file_load = system_call.is_some_and(|given| given.name == "kexec-file-syscall");
    let has_uart = line.options.iter().any(|given| matches!(given.name, "serial" | "console-serial"));
    // Of each name the last one.
    let mut kept: Vec<(&str, Option<&OsStr>)> = Vec::new();
    let mut notes = Vec::new();
    for given in &line.options {
        let value = given.value.as_deref();
        let name = match meaning(given) {
            None | Some(Same) => given.name,
            Some(Append) => "append",
            Some(Initrd) => "initrd",
            Some(Panic) => "load-panic",
            Some(Speed) if has_uart => given.name,
            Some(Elf32) if !file_load => {
                notes.push("the ELF core header stays one of 64 bits (--elf32-core-headers)");
                continue;
            }
            Some(Type) if file_load || TYPES.iter().any(|kind| value == Some(OsStr::new(kind))) => continue,
            Some(OldCall) if file_load => continue,
            Some(Foreign | OldCall | Type) => return Err(format!("--{}", given.name)),
            Some(SystemCall) if system_call == Some(given) => given.name,
            Some(_) => continue,
        };
        kept.retain(|(other, _)| *other != name);
        kept.push((name, value));
    }
    let written = kept.into_iter().map(|(name, value)| {
        let mut argument = OsString::from(format!("--{name}"));
        if let Some(value) = value {
            argument.push("=");
            argument.push(value);
        }
        argument
    });
    // kexec takes the first operand and leaves the others.
    let kernel = line.operands.first().cloned();
    Ok((written.chain(["--".into()]).chain(kernel).collect(), notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::load::Load;
    use clap::{Arg, Args, Command};
    use proptest::prelude::*;
    use std::process;

    fn of(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn read_text(text: &str) -> Call {
        read(&of(text), false).0
    }

    /// The arguments of `load`; whose the call is otherwise, and why.
    fn shown(call: &Call) -> String {
        match call {
            Call::Ours { arguments, notes } => {
                let words: Vec<_> = arguments.iter().map(|word| word.display().to_string()).collect();
                [&words[..], &notes.iter().map(|note| format!("({note})")).collect::<Vec<_>>()]
                    .concat()
                    .join(" ")
            }
            Call::Real(None) => "real".to_owned(),
            Call::Real(Some(reason)) => format!("real: {reason}"),
        }
    }

    #[test]
    fn what_distributions_call_is_ours() {
        for (line, arguments) in [
            // Debian's and Ubuntu's kdump-config.
            (
                "-p --command-line=quiet --initrd=/var/lib/kdump/initrd.img /var/lib/kdump/vmlinuz",
                "--load-panic --append=quiet --initrd=/var/lib/kdump/initrd.img -- /var/lib/kdump/vmlinuz",
            ),
            (
                "-p -s --command-line=q --initrd=I K",
                "--load-panic --kexec-file-syscall --append=q --initrd=I -- K",
            ),
            // Fedora's and RHEL's kdumpctl, under Secure Boot with KEXEC_ARGS="-s".
            (
                "-s -d -s -p --command-line=q --initrd=I K",
                "--debug --kexec-file-syscall --load-panic --append=q --initrd=I -- K",
            ),
            (
                "-s -s -p --command-line=q --initrd=I K",
                "--kexec-file-syscall --load-panic --append=q --initrd=I -- K",
            ),
            (
                "-c -d -p --command-line=q --initrd=I K",
                "--kexec-syscall --debug --load-panic --append=q --initrd=I -- K",
            ),
            ("--elf32-core-headers -s -p K", "--kexec-file-syscall --load-panic -- K"),
            (
                "-p --elf32-core-headers K",
                "--load-panic -- K (the ELF core header stays one of 64 bits (--elf32-core-headers))",
            ),
            ("-s -p --elf64-core-headers --hotplug K", "--kexec-file-syscall --load-panic -- K"),
            // SUSE's load.sh.
            (
                "-p /var/lib/kdump/kernel --append=q --initrd=/var/lib/kdump/initrd --noefi -a",
                "--load-panic --append=q --initrd=/var/lib/kdump/initrd --noefi --kexec-syscall-auto -- \
                 /var/lib/kdump/kernel",
            ),
            (
                "-p K --append=q --initrd=I -a -a",
                "--load-panic --append=q --initrd=I --kexec-syscall-auto -- K",
            ),
            ("-p K -a -s", "--load-panic --kexec-file-syscall -- K"),
            // Arch's, Gentoo's and hand-written units.
            (
                "-p K --initrd=I --append=q --reuse-cmdline",
                "--load-panic --initrd=I --append=q --reuse-cmdline -- K",
            ),
            ("--load-panic --type=bzImage K", "--load-panic -- K"),
            ("-p -t bzImage64 K", "--load-panic -- K"),
            ("-d -d -p -p K", "--debug --load-panic -- K"),
            (
                "--load-pan --init I --app q --kexec-f K",
                "--load-panic --initrd=I --append=q --kexec-file-syscall -- K",
            ),
            (
                "--load-panic --ram=I --command q --reuse-c K",
                "--load-panic --initrd=I --append=q --reuse-cmdline -- K",
            ),
            (
                "-p K --append=1 --command-line=2 --initrd=1 --ramdisk 2",
                "--load-panic --append=2 --initrd=2 -- K",
            ),
            ("-p K --mem-min=0x1000 --mem-min=0x2000", "--load-panic --mem-min=0x2000 -- K"),
            ("-l -p K", "--load-panic -- K"),
            ("-p -l K", "--load-panic -- K"),
            ("-i -p -y -x K", "--no-checks --load-panic -- K"),
            ("-f -x -p K", "--load-panic -- K"),
            (
                "-f -p K",
                "--load-panic -- K (network interfaces stay up, which kexec would take down (-f or -e before -p))",
            ),
            ("-pdis K more", "--load-panic --debug --no-checks --kexec-file-syscall -- K"),
            ("-p -s --reset-vga --pass-memmap-cmdline -t elf K", "--load-panic --kexec-file-syscall -- K"),
            ("-p --reuse-video-type --no-cma --args-linux K", "--load-panic -- K"),
            ("-p --serial=ttyS1 --serial-baud=9600 K", "--load-panic --serial=ttyS1 --serial-baud=9600 -- K"),
            // Without a UART it has no effect.
            ("-p --serial-baud=9600 K", "--load-panic -- K"),
            ("-p --via wrap -- -K", "--load-panic --via=wrap -- -K"),
            ("-p -u", "--unload"),
            ("-up", "--unload"),
            ("-u -s -p", "--unload"),
            ("-S", "--status"),
            ("-p -S", "--status"),
            ("-l -p -S", "--status"),
            ("-d -S", "--status"),
        ] {
            assert_eq!(shown(&read_text(line)), arguments, "{line}");
        }
    }

    #[test]
    fn what_is_not_about_the_dump_kernel_or_not_ours_to_do_is_the_real_kexecs() {
        for (line, reason) in [
            ("-l -S", ""),
            ("-S --load", ""),
            ("-l K --append -p", ""),
            ("-l K --append=-p", ""),
            ("-l -t p K", ""),
            ("-ltp K", ""),
            ("--load-preserve-context K", ""),
            ("--load-p K", ""),
            ("-u", ""),
            ("-e", ""),
            ("-p -e", ""),
            ("--version", ""),
            ("-p --help", ""),
            ("-p -?", ""),
            ("-p --print-ckr-size", ""),
            ("-l -- -p", ""),
            ("-l --no-such-option K", ""),
            ("", ""),
            // It prints its usage, or unloads before it loads.
            ("-p", ""),
            ("-p -u K", ""),
            ("-u -p K", ""),
            ("-p -u --append=Q", ""),
            ("-S --reuse-cmdline", ""),
            ("-p -f K", ": -f behind -p starts a kernel at once"),
            ("-p --reset-vga K", ": --reset-vga is an option that only kexec-tools have"),
            ("-p --reset-vga -c K", ": --reset-vga is an option that only kexec-tools have"),
            ("-p -t multiboot-x86 K", ": --type is an option that only kexec-tools have"),
            ("-p --reuseini K", ": --reuseinitrd is an option that only kexec-tools have"),
            ("-p --entry-3 K", ": --entry-32bit is an option that only kexec-tools have"),
            ("-p --real-mode K", ": --real-mode is an option that only kexec-tools have"),
            ("-p --dtb=x K", ": --dtb is an option that only kexec-tools have"),
            ("--load-live -p K", ": --load-live-update is an option that only kexec-tools have"),
            ("-p --no-such-option K", ": --no-such-option is unknown"),
            ("-p --kexec-s K", ": --kexec-s is ambiguous"),
            ("-p K --append", ": --append has no value"),
            ("-p --load-panic=1 K", ": --load-panic=1 takes no value"),
            ("-p --vi=wrap K", ": --vi=wrap is unknown"),
        ] {
            assert_eq!(shown(&read_text(line)), format!("real{reason}"), "{line}");
        }
    }

    #[test]
    fn the_real_kexec_gets_what_is_kexecs_as_it_was_given() {
        let line = of("--via wrap --load-pan -p --output-cpu-ip --app  x K -- --via");
        assert_eq!(read(&line, false).1, of("--load-pan -p --app x K -- --via"));
        assert!(matches!(read(&of("K -p"), true).0, Call::Real(None)));
    }

    #[test]
    fn every_option_of_load_is_known() {
        let mut load = Load::augment_args(Command::new("load"));
        load.build();
        let is_kexecs = |name: &str| OPTIONS.iter().any(|(spec, _)| spec.name == name);
        let mut theirs: Vec<_> = load
            .get_arguments()
            .flat_map(|arg| {
                let names = arg.get_long_and_visible_aliases().unwrap_or_default();
                names.into_iter().map(move |name| (name, arg))
            })
            .filter(|(name, _)| !is_kexecs(name))
            .map(|(name, arg)| {
                let takes = match (arg.get_action().takes_values(), arg.is_require_equals_set()) {
                    (false, _) => Takes::Nothing,
                    (true, true) => Takes::Optional,
                    (true, false) => Takes::Value,
                };
                (name, takes)
            })
            .collect();
        let mut ours = FURTHER.to_vec();
        theirs.sort_by_key(|(name, _)| *name);
        ours.sort_by_key(|(name, _)| *name);
        assert_eq!(ours, theirs);
    }

    /// What `load` gets it understands.
    #[test]
    fn load_has_every_option_that_is_the_same() {
        let load = Load::augment_args(Command::new("load"));
        for (Spec { name, value, .. }, meaning) in OPTIONS {
            if matches!(meaning, Same | Append | Initrd | Speed | SystemCall | Panic | Unload | Status) {
                let name = if name == "ramdisk" { "initrd" } else { name };
                let name = if name == "command-line" { "append" } else { name };
                let find = |arg: &&Arg| {
                    arg.get_long_and_visible_aliases().is_some_and(|names| names.contains(&name))
                };
                let arg = load.get_arguments().find(find).unwrap_or_else(|| panic!("--{name}"));
                assert_eq!(arg.get_action().takes_values(), value, "--{name}");
            }
        }
    }

    #[test]
    fn abbreviations_are_those_of_getopt_long() {
        let names: Vec<_> = OPTIONS
            .iter()
            .filter(|(spec, _)| spec.name != "?")
            .map(|(spec, _)| format!("{}{}", spec.name, if spec.value { ":" } else { "" }))
            .collect();
        for (spec, _) in OPTIONS {
            for end in 1..=spec.name.len() {
                let argument = format!("--{}", &spec.name[..end]);
                let arguments = [&argument, "x"].map(OsString::from);
                let output = process::Command::new("getopt")
                    .args(["-q", "-u", "-o", "", "-l", &names.join(","), "--"])
                    .args(&arguments)
                    .output()
                    .expect("getopt of util-linux");
                let name = String::from_utf8(output.stdout).expect("ASCII");
                let name =
                    name.split_whitespace().next().filter(|_| output.status.success()).map(str::to_owned);
                let specs = OPTIONS.map(|(spec, _)| spec);
                let line = getopt::read(&arguments, &specs, &[], false);
                let ours = line.options.first().map(|given| format!("--{}", given.name));
                assert_eq!(ours.filter(|name| name != "--?"), name, "{argument}");
            }
        }
    }

    proptest! {
        /// By kexec's rules told in another way: from the last option of the kind that decides.
        #[test]
        fn whatever_the_order_the_last_ones_count(
            words in prop::collection::vec("-[lpfeuxysacdi]|--append=[ab]|--initrd=[ab]|--reset-vga", 0..8)
        ) {
            let call = read_text(&format!("{} K", words.join(" ")));
            let last = |of: &[&str]| words.iter().rposition(|word| of.contains(&word.as_str()));
            let has = |word: &str| words.iter().any(|other| other == word);
            let loads = last(&["-p", "-l", "-f"]) >= last(&["-e", "-u"]);
            let starts = last(&["-f", "-e"]) > last(&["-p", "-l"]);
            let is_ours = has("-p") && loads && !starts && !has("-u");
            let file_load = last(&["-s"]) > last(&["-a", "-c"]);
            match call {
                Call::Ours { arguments, notes } => {
                    prop_assert!(is_ours && (!has("--reset-vga") || file_load));
                    let value = |name: &str| {
                        let found = words.iter().rfind(|word| word.starts_with(name));
                        let ours: Vec<_> = arguments.iter().filter(|word| word.to_string_lossy().starts_with(name)).collect();
                        (found.map(OsString::from), ours)
                    };
                    for name in ["--append", "--initrd"] {
                        let (found, ours) = value(name);
                        prop_assert_eq!(ours, found.iter().collect::<Vec<_>>());
                    }
                    prop_assert_eq!(arguments.contains(&"--kexec-file-syscall".into()), file_load);
                    prop_assert_eq!(notes.is_empty(), has("-x") || !has("-f") && !has("-e"));
                }
                Call::Real(reason) => {
                    prop_assert!(!is_ours || has("--reset-vga"));
                    prop_assert!(reason.is_some() || !has("-p") || !loads || has("-u"));
                }
            }
        }
    }
}
