//! Where a report lasts: the BMC's System Event Log, and the platform's error store. Each is a folder or file of its own.

pub mod erst;
pub mod sel;

use crate::budget::Timer;
use crate::report::{Content, Line};

/// A store of panic reports.
pub trait Store<M> {
    /// Why something could not be stored.
    type Error;

    /// Stores a report's lines, as many as there is room for, most important first.
    ///
    /// # Errors
    /// When the store does not accept them; what came before is stored.
    fn report(
        &mut self,
        machine: &mut M,
        timer: &mut Timer,
        content: &mut Content,
    ) -> Result<(), Self::Error>;

    /// Adds one line more to the report that was stored.
    ///
    /// # Errors
    /// When the store does not accept it.
    fn line(&mut self, machine: &mut M, timer: &mut Timer, line: Line) -> Result<(), Self::Error>;
}
