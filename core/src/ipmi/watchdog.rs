//! What is to be done with the BMC's watchdog timer (IPMI 2.0 section 27), as a parameter says it.

use super::commands::Action;
use crate::cmdline;
use core::fmt;

/// What to do with the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// Leave it alone.
    Leave,
    /// Stop it.
    Stop,
    /// Start it, so that a dump kernel that hangs is cut off.
    Start {
        /// Initial countdown in seconds (1 to 6553: the field has 16 bits of 100 ms).
        seconds: u16,
        /// What the BMC does when it runs out.
        action: Action,
    },
}

impl Action {
    /// All actions with their names in the parameter.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("reset", Self::Reset),
        ("power-cycle", Self::PowerCycle),
        ("power-off", Self::PowerOff),
        ("none", Self::None),
    ];

    /// The action's name in the parameter.
    #[must_use]
    pub fn name(self) -> &'static str {
        cmdline::name_of(&Self::NAMES, self)
    }
}

impl Watchdog {
    /// Reads `start=SECONDS[,ACTION]` or `stop`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str =
            "takes start=SECONDS[,ACTION] (1 to 6553; reset, power-cycle, power-off or none) or stop";
        if text == "stop" {
            return Ok(Self::Stop);
        }
        let value = text.strip_prefix("start=").ok_or(WHY)?;
        let (count, action) = cmdline::cut(value, b',').unwrap_or((value, "reset"));
        let action = cmdline::named(&Action::NAMES, action).ok_or(WHY)?;
        Ok(Self::Start { seconds: cmdline::up_to(count, 6553).ok_or(WHY)?, action })
    }
}

impl fmt::Display for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave => Ok(()),
            Self::Stop => f.write_str("stop"),
            Self::Start { seconds, action } => write!(f, "start={seconds},{}", action.name()),
        }
    }
}
