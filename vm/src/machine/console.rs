//! The machine's serial console, line by line.

use std::fmt::Write as _;
use std::time::Duration;

/// A line of the console.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was complete, from the machine's start.
    pub at: Duration,
    /// The line, without escape sequences.
    pub text: String,
}

/// The last lines of a console, for an error.
#[must_use]
pub fn tail(console: &[Line]) -> String {
    let mut text = String::from("the console's last lines:");
    for line in &console[console.len().saturating_sub(60)..] {
        let _ = write!(text, "\n{:8.3} {}", line.at.as_secs_f64(), line.text);
    }
    text
}

/// A line as a person sees it: without the terminal's escape sequences and control characters.
#[must_use]
pub fn plain(bytes: &[u8]) -> String {
    let line = String::from_utf8_lossy(bytes);
    let mut text = String::new();
    let mut chars = line.trim_end_matches(['\n', '\r']).chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // CSI sequences end in a letter; others are two characters long.
            if chars.next() == Some('[') {
                chars.by_ref().find(char::is_ascii_alphabetic);
            }
        } else if char == '\t' || !char.is_control() {
            text.push(char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_line_loses_escape_sequences_and_its_end() {
        assert_eq!(plain(b"\x1b[2J\x1b[01;01Hhello \x1b=w\tx\r\n"), "hello w\tx");
        assert_eq!(plain(b"\x1b["), "");
    }
}
