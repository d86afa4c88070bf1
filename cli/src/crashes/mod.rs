//! This machine's crashes over time: what the next boot does with a new one (`report`), what is remembered of them (`store`,
//! shown by `list`), who is told (`announce`), and the BMC's watchdog that one has started (`watchdog`).

mod announce;
pub mod list;
pub mod report;
pub mod store;
pub mod watchdog;
