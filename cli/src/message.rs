//! What is printed: output, and on standard error `lastwords: error: FACT` and below it `hint: WHAT TO DO`.
//!
//! Nothing that is printed can end the tool: a log on a full disk or a reader that has gone must not keep a dump kernel
//! from being loaded. So all texts of what is done go through here, and `println!`, which panics, is denied in the crate.
//!
//! What is printed may be from anywhere: a log, a symbols file, a BMC, a file's name. So nothing leaves through here that a
//! terminal takes for a command or shows in another order, and JSON has it escaped. Standard output and standard error
//! are nowhere else.
//!
//! An error's text carries its hint behind [`HINT`]. Here the hints are taken out of a chain of errors, so that the facts
//! stand in one line and each hint in a line of its own.

use crate::visible::{is_control, visible};
pub use crate::visible::{path, system};
use serde::Serialize;
use std::{
    fmt::{Display, Write as _},
    io::{self, Write},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// What separates an error's fact from what to do about it.
const HINT: &str = "\nhint: ";

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(200);

/// Prints a line of output.
pub fn output(line: impl Display) {
    // Whoever cannot take it has still got what it tells of.
    let _ = writeln!(io::stdout(), "{}", visible(&line.to_string(), ""));
}

/// Prints a report, with its colours where they are wanted.
///
/// # Errors
/// When standard output fails.
pub fn report(text: impl Display) -> io::Result<()> {
    let text = text.to_string();
    let mut out = anstream::stdout();
    // A colour is ESC [ NUMBERS m.
    for (index, part) in text.split("\x1b[").enumerate() {
        let colour = part.find(|letter: char| !letter.is_ascii_digit() && letter != ';');
        let colour = colour.filter(|end| index > 0 && part[*end..].starts_with('m')).map(|end| end + 1);
        let (colour, rest) = part.split_at(colour.unwrap_or(0));
        match (index, colour) {
            (0, _) => {}
            (_, "") => write!(out, "?[")?,
            (_, colour) => write!(out, "\x1b[{colour}")?,
        }
        write!(out, "{}", visible(rest, "\n"))?;
    }
    out.flush()
}

/// Prints JSON.
///
/// # Errors
/// When standard output fails.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    writeln!(io::stdout(), "{}", escaped(value)?)
}

/// JSON without any character that is not shown as itself.
fn escaped(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = String::new();
    for letter in serde_json::to_string_pretty(value)?.chars() {
        // A newline is never in a string. All others are.
        if letter == '\n' || !is_control(letter) {
            text.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    Ok(text)
}

/// Prints an error with all of its causes.
pub fn error(error: &anyhow::Error) {
    complain(format_args!("lastwords: error: {}", chain(error)));
}

/// Prints a warning with all of its causes.
pub fn warning(error: &anyhow::Error) {
    complain(format_args!("lastwords: warning: {}", chain(error)));
}

/// Prints what to do about the error or warning above.
pub fn hint(text: impl Display) {
    complain(format_args!("hint: {text}"));
}

/// Is there a line of [`progress`]?
static HAS_PROGRESS: AtomicBool = AtomicBool::new(false);

/// Prints how far reading a SEL has come, in one line of a terminal, now and then.
pub fn progress() -> Box<dyn FnMut(usize, Option<u16>) + Send> {
    let mut last = Instant::now();
    Box::new(move |read, count| {
        // A terminal on a serial line is slow.
        if last.elapsed() >= PROGRESS {
            last = Instant::now();
            let of = count.map(|count| format!(" of {count}")).unwrap_or_default();
            HAS_PROGRESS.store(true, Relaxed);
            let _ = write!(io::stderr(), "\rReading the SEL: {read}{of} records");
        }
    })
}

/// Clears the line of [`progress`], where there is one.
pub fn end_progress() {
    if HAS_PROGRESS.swap(false, Relaxed) {
        let _ = write!(io::stderr(), "\r{:50}\r", "");
    }
}

/// Standard error, for the output of another program.
pub fn errors_of_others() -> Stdio {
    io::stderr().into()
}

/// Prints a line on standard error.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", visible(&line.to_string(), "\n"));
}

/// Standard error, for a program that we run and whose output is not ours.
pub fn standard_error() -> Stdio {
    io::stderr().into()
}

/// The fact, without what to do about it.
pub fn fact(text: &str) -> &str {
    text.split(HINT).next().unwrap_or(text)
}

/// The facts of an error and its causes in one line, the hints below.
pub fn chain(error: &anyhow::Error) -> String {
    let (mut facts, mut hints) = (Vec::new(), Vec::new());
    for cause in error.chain() {
        let text = match (cause.downcast_ref::<io::Error>(), cause.downcast_ref::<clap::Error>()) {
            (Some(error), _) => system(error),
            (_, Some(error)) => usage(error),
            _ => cause.to_string(),
        };
        let mut parts = text.split(HINT).map(|part| visible(part, ""));
        facts.extend(parts.next());
        hints.extend(parts);
    }
    hints.into_iter().fold(facts.join(": "), |text, hint| text + HINT + &hint)
}

/// The first line of what clap would print.
fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn facts_stand_in_one_line_and_hints_below() {
        let missing = || io::Error::from_raw_os_error(2);
        for (error, text) in [
            (anyhow!("nothing"), "nothing"),
            (anyhow!("full\nhint: clear it"), "full\nhint: clear it"),
            (anyhow!("b\nhint: two").context("a\nhint: one"), "a: b\nhint: one\nhint: two"),
            (anyhow::Error::new(missing()), "no such file or directory"),
            (Err::<(), _>(missing()).context("/boot/x").unwrap_err(), "/boot/x: no such file or directory"),
        ] {
            let error = error.context("not loaded");
            assert_eq!(chain(&error), format!("not loaded: {text}"));
        }
        assert_eq!(fact("full\nhint: clear it"), "full");
        let folder = tempfile::NamedTempFile::new_in("/nonexistent/folder").unwrap_err();
        assert_eq!(chain(&anyhow::Error::new(folder)), "no such file or directory");
    }

    #[test]
    fn nothing_is_printed_that_is_not_shown_as_itself() {
        for (text, shown) in [
            ("Grüße\x1b[2J\x07\x7f", "Grüße?[2J??"),
            ("a\u{9b}b\u{202e}c\u{2066}d\u{200b}e\u{2028}f\u{e0041}", "a?b?c?d?e?f?"),
            ("a\nb\rc", "a\nb?c"),
        ] {
            assert_eq!(visible(text, "\n"), shown);
        }
        let error = anyhow!("bad\nname\nhint: two\nlines");
        assert_eq!(chain(&error), "bad?name\nhint: two?lines");
    }

    #[test]
    fn json_is_the_same_text_escaped() {
        let text = "Grüße\x1b[2J\n\x7f\u{9b}\u{202e}\u{e0041}\"\\";
        let json = escaped(&[text]).unwrap();
        assert!(!json.chars().any(|letter| letter != '\n' && is_control(letter)), "{json:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
    }
}
