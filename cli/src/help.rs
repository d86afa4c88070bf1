//! `lastwords completions` and `lastwords man`, both from the options' own definition: for whoever makes a package, or builds
//! from source. A package has what they make, and a program without them.

use anyhow::{Context, Result};
use clap::{Arg, Args, Command, CommandFactory, ValueEnum, builder::Resettable};
use clap_complete::shells;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
};

/// Print shell completions
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords completions bash \\
      > /usr/share/bash-completion/completions/lastwords")]
pub struct Completions {
    /// Shell to complete for
    shell: Shell,
}

/// The shells of servers.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Completions {
    /// Prints the completions.
    ///
    /// # Errors
    /// When standard output fails.
    pub fn run<C: CommandFactory>(&self) -> Result<()> {
        let (mut text, mut command) = (Vec::new(), shown(&C::command()));
        match self.shell {
            Shell::Bash => {
                clap_complete::generate(shells::Bash, &mut command, "lastwords", &mut text);
                text = behind_equals(&String::from_utf8(text)?, &command).into_bytes();
            }
            Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "lastwords", &mut text),
            Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "lastwords", &mut text),
        }
        io::stdout().write_all(&text).context("standard output")
    }
}

/// The command without the subcommands that its help does not show: `clap_complete` offers them all.
fn shown(command: &Command) -> Command {
    let subcommands: Vec<_> = command.get_subcommands().filter(|one| !one.is_hide_set()).cloned().collect();
    Command::new("lastwords").args(command.get_arguments().cloned()).subcommands(subcommands)
}

/// bash sees `--option=` and a blank behind `--option` as one: at both the word before is `--option`. clap's script does not
/// tell them apart (clap_complete 4.5), so that it offers values behind a blank where an option takes its value behind a
/// `=` only; and it has none where a value has begun, for then the word before is `=`.
fn behind_equals(script: &str, command: &Command) -> String {
    const PREVIOUS: &str = "    prev=\"$3\"\n";
    let options = command.get_subcommands().flat_map(Command::get_arguments);
    let options = options.filter(|option| option.is_require_equals_set()).filter_map(Arg::get_long);
    let options: BTreeSet<_> = options.map(|option| format!("--{option}")).collect();
    let options = options.into_iter().collect::<Vec<_>>().join("|");
    let ours = format!(
        "    if [[ \"${{prev}}\" == \"=\" ]]; then\n        prev=\"${{COMP_WORDS[COMP_CWORD-2]}}\"\n    \
         elif [[ \"${{prev}}\" =~ ^({options})$ && \"${{COMP_WORDS[COMP_CWORD]}}\" != \"=\" ]]; then\n        \
         prev=\"\"\n    fi\n"
    );
    script.replacen(PREVIOUS, &(PREVIOUS.to_owned() + &ours), 1)
}

/// Print the man page, or write one for each command
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords man | man -l -
  lastwords man --out /usr/local/share/man/man8")]
pub struct Man {
    /// Write the pages of all commands to DIR [default: print one page]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    /// Prints the page of the program, or writes all pages.
    ///
    /// # Errors
    /// When standard output fails, or a file cannot be written.
    pub fn run<C: CommandFactory>(&self) -> Result<()> {
        // The image's checksum is too long for a page's footer.
        let mut root = C::command().disable_help_subcommand(true).long_version(Resettable::Reset);
        root.build();
        let Some(out) = &self.out else {
            return io::stdout().write_all(&page(&root, &root)?).context("standard output");
        };
        std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        for command in all(&root) {
            let path = out.join(format!("{}.{SECTION}", title(command)));
            // A link in its place is not followed.
            if path.is_symlink() {
                std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
            }
            std::fs::write(&path, page(&root, command)?).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

/// The manual's section for system administration.
const SECTION: &str = "8";

/// The program and its subcommands, without those for scripts alone.
fn all(root: &Command) -> impl Iterator<Item = &Command> {
    std::iter::once(root).chain(root.get_subcommands().filter(|command| !command.is_hide_set()))
}

/// `lastwords-load`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The man page of a command, in roff.
fn page(root: &Command, command: &Command) -> io::Result<Vec<u8>> {
    let man = clap_mangen::Man::new(command.clone())
        .section(SECTION)
        .source(format!("lastwords {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    synopsis(command).to_writer(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    sections(command).to_writer(&mut text)?;
    see_also(root, command).to_writer(&mut text)?;
    Ok(text)
}

/// How the command is called: as clap_mangen has it, but with the options' values.
fn synopsis(command: &Command) -> Roff {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let mut line = vec![bold(name)];
    let (positional, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(|arg| !arg.is_hide_set()).partition(|arg| arg.is_positional());
    for arg in options.into_iter().chain(positional) {
        let (before, after) = if arg.is_required_set() { (" ", "") } else { (" [", "]") };
        line.push(roman(before));
        line.extend(argument(arg));
        line.push(roman(after));
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("command")]);
    }
    let mut roff = Roff::default();
    roff.control("SH", ["SYNOPSIS"]).text(line);
    roff
}

/// `--initrd FILE`, `--output-log[=BYTES]`, `KERNEL`.
fn argument(arg: &Arg) -> Vec<Inline> {
    let value = arg.get_value_names().unwrap_or_default().join(" ");
    let name = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => return vec![italic(value)],
    };
    if !arg.get_action().takes_values() {
        return vec![bold(name)];
    }
    let (before, after) = if arg.is_require_equals_set() { ("[=", "]") } else { (" ", "") };
    vec![bold(name), roman(before), italic(value), roman(after)]
}

/// The sections of each page that the help text has behind the options, and what they are where it has not.
const SECTIONS: [(&str, &str); 4] = [
    ("Exit status", "  0  done\n  1  failed\n  2  wrong usage"),
    ("Files", "None."),
    ("Environment", "None."),
    ("Examples", "None."),
];

/// The paragraphs `Examples:`, `Files:` and so on of the help text, as sections.
fn sections(command: &Command) -> Roff {
    let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::default();
    for (name, otherwise) in SECTIONS {
        let heading = format!("{name}:");
        let lines: Vec<_> = help
            .lines()
            .skip_while(|line| *line != heading)
            .skip(1)
            .take_while(|line| line.is_empty() || line.starts_with(' '))
            .collect();
        let lines = if lines.is_empty() { otherwise.lines().collect() } else { lines };
        roff.control("SH", [name.to_uppercase().as_str()]);
        if name == "Examples" {
            roff.control("nf", []);
            for line in lines {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
            roff.control("fi", []);
            continue;
        }
        for line in lines {
            // `  NAME  what it is`; what goes on in the next line has no name.
            match line.strip_prefix("  ").and_then(|line| line.split_once("  ")) {
                Some((name, text)) if !name.is_empty() => {
                    roff.control("TP", []).text([bold(name)]).text([roman(text.trim())]);
                }
                _ => {
                    roff.text([roman(line.trim())]);
                }
            }
        }
    }
    roff
}

/// The other pages, and those of the programs around this one.
fn see_also(root: &Command, command: &Command) -> Roff {
    let own = all(root).filter(|one| title(one) != title(command));
    let own = own.map(|one| (title(one), SECTION));
    let others = [("lastwords.conf", "5"), ("crash", "8"), ("ipmitool", "1"), ("kexec", "8")];
    let mut line = Vec::new();
    for (name, section) in own.chain(others) {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(name), roman(format!("({section})"))]);
    }
    let mut roff = Roff::default();
    roff.control("SH", ["SEE ALSO"]).text(line);
    roff
}
