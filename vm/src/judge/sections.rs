//! What the guests' commands printed, from ttyS1 (`section` in `guest/guest.sh`).

use anyhow::{Result, anyhow};
use std::collections::BTreeMap;

/// What a command in a guest printed.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its exit status.
    pub status: i32,
    /// What it printed, errors included.
    pub text: String,
}

/// Takes ttyS1's output apart. A section that does not end is left out: the machine died in it.
///
/// # Errors
/// When a section ends with something else than a status.
pub fn sections(output: &str) -> Result<BTreeMap<String, Section>> {
    let mut sections = BTreeMap::new();
    let mut rest = output;
    while let Some((_, begun)) = rest.split_once("== begin ") {
        let (name, body) = begun.split_once('\n').unwrap_or((begun, ""));
        let Some((text, ended)) = body.split_once(&format!("\n== end {name} ")) else { break };
        let (status, after) = ended.split_once('\n').unwrap_or((ended, ""));
        let status = status.parse().map_err(|_| anyhow!("section {name} ends with status {status:?}"))?;
        sections.insert(name.to_owned(), Section { status, text: text.to_owned() });
        rest = after;
    }
    Ok(sections)
}

/// Decodes base64 (RFC 4648), lines or not. `None` when it is something else.
#[must_use]
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{base64, sections};

    #[test]
    fn sections_have_a_name_a_text_and_a_status() {
        let output = "noise\n== begin a\nline\n\n== end a 0\n== begin b\n\n== end b 3\n== begin c\ncut o";
        let sections = sections(output).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!((sections["a"].text.as_str(), sections["a"].status), ("line\n", 0));
        assert_eq!((sections["b"].text.as_str(), sections["b"].status), ("", 3));
    }

    #[test]
    fn base64_is_decoded() {
        assert_eq!(base64("").unwrap(), b"");
        assert_eq!(base64("bGFzdA==").unwrap(), b"last");
        assert_eq!(base64("bGFz\ndHdv\ncmRz\n").unwrap(), b"lastwords");
        assert_eq!(base64("what?"), None);
    }
}
