//! Who has made a BMC, and what its entries in Redfish leave out.

use std::fmt;

/// Who has made the BMC, as far as it matters for what its entries leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Maker {
    /// iDRAC.
    Dell,
    /// iLO.
    Hpe,
    /// XCC.
    Lenovo,
    /// Anybody else.
    Other,
}

/// What it does not show.
impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dell => "iDRAC shows OEM records, which have the text of a panic, without their bytes",
            Self::Hpe => "iLO has no SEL in Redfish, and shows none of its bytes in the IML",
            Self::Lenovo => {
                "XCC has no SEL in Redfish, and shows of an event only its kind in the platform log"
            }
            Self::Other => "this BMC shows SEL records without their bytes",
        })
    }
}
