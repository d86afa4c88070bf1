//! What people read on a terminal: a verdict, rows with a label, wrapped text. ASCII only, no wider than the terminal;
//! colour is never the only sign.

pub use crate::visible::printable;
use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use clap::{Args, ValueEnum};
use std::{
    env,
    fmt::{self, Write},
    io::{self, IsTerminal},
};

/// All is well.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// It is not.
pub const BAD: Style = AnsiColor::Red.on_default().bold();

/// Columns where there is no terminal.
pub const WIDTH: usize = 80;
/// Columns of the margin before a label.
const MARGIN: usize = 2;
/// Narrower than this nothing can be read.
const NARROWEST: usize = 40;

/// The option that chooses colour.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Color {
    /// Use colour: auto, always or never
    ///
    /// auto means on a terminal, unless NO_COLOR is set or TERM is dumb.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    color: When,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum When {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// From now on `anstream` does as was asked.
    pub fn apply(self) {
        let choice = match self.color {
            When::Auto => ColorChoice::Auto,
            When::Always => ColorChoice::Always,
            When::Never => ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// Is there somebody at a terminal who waits, and can a line there be written over?
#[must_use]
pub fn can_show_progress() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// The columns of standard output.
#[must_use]
pub fn width() -> usize {
    let terminal = io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    terminal.map_or(WIDTH, |(width, _)| usize::from(width.0).max(NARROWEST))
}

/// A label and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    alarm: bool,
    label: &'static str,
    text: String,
    fix: Option<String>,
}

impl Row {
    /// An ordinary one. Without a label it goes on with the row before.
    pub fn new(label: &'static str, text: impl fmt::Display) -> Self {
        Self { alarm: false, label, text: text.to_string(), fix: None }
    }

    /// One with a `!` in the margin.
    pub fn alarm(label: &'static str, text: impl fmt::Display) -> Self {
        Self { alarm: true, ..Self::new(label, text) }
    }

    /// And what to do about it.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Writes rows, wrapped, with labels of so many columns.
pub fn write_rows(f: &mut impl Write, rows: &[Row], labels: usize, width: usize) -> fmt::Result {
    let indent = MARGIN + labels;
    for Row { alarm, label, text, fix } in rows {
        let text = wrap(text, indent, indent, width);
        if *alarm {
            writeln!(f, "{BAD}! {label:<labels$}{text}{BAD:#}")?;
        } else {
            writeln!(f, "  {label:<labels$}{text}")?;
        }
        if let Some(fix) = fix {
            writeln!(f, "{:indent$}{}", "", wrap(&format!("fix: {fix}"), indent, indent, width))?;
        }
    }
    Ok(())
}

/// A text in printable ASCII, broken between words where its lines would be wider than `width`, and within a word that
/// is wider by itself. The first line begins in this `column`, the others are indented.
#[must_use]
pub fn wrap(text: &str, column: usize, indent: usize, width: usize) -> String {
    let mut wrapped = String::new();
    let mut used = column;
    let break_line = |wrapped: &mut String| {
        let _ = write!(wrapped, "\n{:indent$}", "");
        indent
    };
    for (index, word) in printable(text).split(' ').enumerate() {
        if index > 0 && used + 1 + word.len() > width {
            used = break_line(&mut wrapped);
        } else if index > 0 {
            wrapped.push(' ');
            used += 1;
        }
        for letter in word.chars() {
            if used >= width {
                used = break_line(&mut wrapped);
            }
            wrapped.push(letter);
            used += 1;
        }
    }
    wrapped
}

/// Seconds as people count them: `8 minutes`.
pub struct Duration(pub i64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(24 * 60 * 60, "day"), (60 * 60, "hour"), (60, "minute"), (1, "second")];
        let (count, unit) = units
            .into_iter()
            .map(|(seconds, unit)| (self.0 / seconds, unit))
            .find(|(count, _)| *count > 0)
            .unwrap_or((0, "second"));
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(rows: &[Row], width: usize) -> String {
        let mut text = String::new();
        write_rows(&mut text, rows, 12, width).unwrap();
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn rows_have_a_margin_a_label_and_wrapped_text() {
        let memory = Row::alarm("Memory", "none reserved").fix("boot with crashkernel=256M");
        let other = Row::new("Other CPUs", "2 idle (native_safe_halt+0xb) and a few words that do not fit");
        assert_eq!(
            rows(&[memory, other, Row::new("", "1 in user space")], 50),
            "\
! Memory      none reserved
              fix: boot with crashkernel=256M
  Other CPUs  2 idle (native_safe_halt+0xb) and a
              few words that do not fit
              1 in user space
"
        );
    }

    #[test]
    fn what_is_not_ascii_never_reaches_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c\u{fffd}\n\u{85}~"), "a?[2Jb?c???~");
    }

    #[test]
    fn ages_are_in_the_biggest_unit() {
        for (seconds, text) in
            [(0, "0 seconds"), (1, "1 second"), (119, "1 minute"), (7200, "2 hours"), (900_000, "10 days")]
        {
            assert_eq!(Duration(seconds).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn no_line_is_wider_and_nothing_is_lost(
            text in ".{0,300}", column in 0..30usize, indent in 0..16usize, width in 40..120usize,
        ) {
            let wrapped = wrap(&text, column, indent, width);
            let shown = format!("{:column$}{wrapped}", "");
            prop_assert!(shown.lines().all(|line| line.len() <= width), "{shown}");
            let letters = |text: &str| text.replace([' ', '\n'], "");
            prop_assert_eq!(letters(&wrapped), letters(&printable(&text)));
        }
    }
}
