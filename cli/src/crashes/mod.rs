//! What this machine remembers of its crashes: which watchdog one of them would have started.

pub mod watchdog;
