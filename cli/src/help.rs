//! `lastwords completions` and `lastwords man`: what the options' own definition gives for free.

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// Prints completions for a shell.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Example:
  lastwords completions bash > /usr/share/bash-completion/completions/lastwords")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Does it.
    pub fn run<C: CommandFactory>(&self) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut C::command(), "lastwords", &mut text);
        io::stdout().write_all(&text).context("standard output")
    }
}

/// Prints the man page, or writes one for each subcommand.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords man | man -l -
  lastwords man --out /usr/local/share/man/man8")]
pub struct Man {
    /// Write lastwords.8, lastwords-wrap.8 and so on to this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    /// Does it.
    pub fn run<C: CommandFactory>(&self) -> Result<()> {
        let command = C::command().disable_help_subcommand(true);
        let Some(out) = &self.out else {
            return clap_mangen::Man::new(command)
                .section("8")
                .render(&mut io::stdout())
                .context("standard output");
        };
        std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        let mut root = command;
        root.build();
        let pages = std::iter::once(&root).chain(root.get_subcommands());
        for command in pages {
            let page = clap_mangen::Man::new(command.clone()).section("8");
            let path = out.join(page.get_filename());
            let mut text = Vec::new();
            page.render(&mut text)?;
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}
