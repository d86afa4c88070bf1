//! How fast a dump kernel is loaded.

use crate::machine::kernels::Release;
use crate::scenarios::{Arm, Scenario};
use anyhow::{Context, Result};

/// What it takes to load a dump kernel.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Seconds.
    pub seconds: f64,
    /// Peak memory of the process, in KiB.
    pub peak: u64,
}

/// Loads in turn, in one machine, with `lastwords load` and with `kexec -p -c`; the medians.
///
/// # Errors
/// When one of them does not load.
pub fn loads() -> Result<(Load, Load)> {
    const TURNS: usize = 5;
    let arguments = "/boot/vmlinuz --initrd=/boot/initrd --append='nr_cpus=1 reset_devices'";
    let outcome = Scenario::new(Release::V6_1)
        .boots_here()
        .arm(Arm::Not)
        .lastwords_at_hand()
        .before(&format!(
            "for turn in 1 2 3 4 5; do\n\
             section ours-$turn time -v lastwords load --via purgatory {arguments}\nlastwords unload\n\
             section stock-$turn time -v kexec -p -c {arguments}\nkexec -p -u\ndone\nsection end true"
        ))
        .death("poweroff -f")
        .run()?;
    let median = |who: &str| -> Result<Load> {
        let mut loads = Vec::new();
        for turn in 1..=TURNS {
            let text = outcome.text(&format!("{who}-{turn}"))?;
            let value = |name: &str| {
                let line = text.lines().find(|line| line.contains(name));
                line.and_then(|line| line.rsplit(": ").next()).with_context(|| format!("no {name}: {text}"))
            };
            // `Elapsed (wall clock) time (h:mm:ss or m:ss): 0m 1.40s`
            let elapsed = value("Elapsed")?.trim_end_matches('s');
            let (minutes, seconds) = elapsed.split_once("m ").context("busybox's time has another form")?;
            let seconds = minutes.parse::<f64>()? * 60.0 + seconds.parse::<f64>()?;
            loads.push(Load { seconds, peak: value("Maximum resident")?.parse()? });
        }
        loads.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        Ok(loads[TURNS / 2])
    };
    Ok((median("ours")?, median("stock")?))
}
