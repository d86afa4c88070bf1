//! A text of a report, or what is left of it.

use crate::visible::is_control;
use std::fmt;

/// A text, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Without characters that are not shown as themselves.
    pub value: String,
    /// Is its beginning missing?
    pub headless: bool,
    /// Is its end missing?
    pub cut: bool,
}

impl Text {
    /// All of a text.
    pub fn new(bytes: &[u8]) -> Self {
        let printable = |letter: char| if is_control(letter) { char::REPLACEMENT_CHARACTER } else { letter };
        let text = String::from_utf8_lossy(bytes).trim_end().chars().map(printable).collect();
        Self { value: text, headless: false, cut: false }
    }

    /// One whose end is missing.
    pub fn cut(bytes: &[u8]) -> Self {
        Self { cut: true, ..Self::new(bytes) }
    }

    /// `symbol+12 [module]` as the kernel prints it: `symbol+0x12 [module]`.
    pub fn with_0x(mut self) -> Self {
        if let Some((symbol, rest)) = self.value.rsplit_once('+')
            && let offset = rest.split(' ').next().unwrap_or(rest)
            && offset.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !offset.is_empty()
        {
            self.value = format!("{symbol}+0x{rest}");
        }
        self
    }

    /// One whose beginning is missing.
    pub fn headless(bytes: &[u8]) -> Self {
        Self { headless: true, ..Self::new(bytes) }
    }

    /// Is all of it there?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.headless && !self.cut
    }

    /// With this mark where something is missing.
    #[must_use]
    pub fn marked(&self, mark: &str) -> String {
        let (before, after) = (if self.headless { mark } else { "" }, if self.cut { mark } else { "" });
        format!("{before}{}{after}", self.value)
    }
}

/// With `...` where something is missing.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.marked("..."))
    }
}
