//! Text of others (a log, a symbols file, a BMC, a file's name, the system's errors) as text that can be printed.
//!
//! Alone in its file, without any crate: the fuzz targets take it, and the files that need it, as they are.

use std::{io, path::Path};

/// Is it a character that is not shown as itself: a control character (among them DEL and those from U+0080 on), one that
/// ends a line, turns the direction of writing, or is invisible?
#[must_use]
pub fn is_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with `?` for what is not shown as itself, but for these characters.
pub fn visible(text: &str, but: &str) -> String {
    let shown = |letter| if is_control(letter) && !but.contains(letter) { '?' } else { letter };
    text.chars().map(shown).collect()
}

/// Nothing but printable ASCII: what comes from a log or a file may hold anything.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' }).collect()
}

/// A path, for errors.
#[must_use]
pub fn path(path: &Path) -> String {
    visible(&path.display().to_string(), "")
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
