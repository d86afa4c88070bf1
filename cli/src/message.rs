//! What is printed: output, and on standard error `lastwords: error: FACT` and below it `hint: WHAT TO DO`.
//!
//! Nothing that is printed can end the tool: a log on a full disk or a reader that has gone must not keep a dump kernel
//! from being loaded. So all texts of what is done go through here, and `println!`, which panics, is denied in the crate.
//!
//! An error's text carries its hint behind [`HINT`]. Here the hints are taken out of a chain of errors, so that the facts
//! stand in one line and each hint in a line of its own.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// What separates an error's fact from what to do about it.
const HINT: &str = "\nhint: ";

/// Prints a line of output.
pub fn output(line: impl Display) {
    // Whoever cannot take it has still got what it tells of.
    let _ = writeln!(io::stdout(), "{line}");
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

/// Prints a line on standard error.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The fact, without what to do about it.
pub fn fact(text: &str) -> &str {
    text.split(HINT).next().unwrap_or(text)
}

/// An error of the system as our texts have it: `no such file or directory`, without its number.
pub fn system(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or(&text);
    let mut letters = text.chars();
    match (letters.next(), letters.as_str()) {
        // Not where a name such as RPC begins it.
        (Some(first), rest) if !rest.starts_with(|letter: char| letter.is_ascii_uppercase()) => {
            format!("{}{rest}", first.to_ascii_lowercase())
        }
        _ => text.to_owned(),
    }
}

/// The facts of an error and its causes in one line, the hints below.
fn chain(error: &anyhow::Error) -> String {
    let (mut facts, mut hints) = (Vec::new(), Vec::new());
    for cause in error.chain() {
        let text = match (cause.downcast_ref::<io::Error>(), cause.downcast_ref::<clap::Error>()) {
            (Some(error), _) => system(error),
            (_, Some(error)) => usage(error),
            _ => cause.to_string(),
        };
        let mut parts = text.split(HINT);
        facts.extend(parts.next().map(str::to_owned));
        hints.extend(parts.map(str::to_owned));
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
}
