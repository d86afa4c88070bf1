//! How fast the CPU's time stamp counter runs.

use std::time::{Duration, Instant};

/// Frequency of the TSC in kHz, measured against the system's clock for 50 ms. Only where the TSC runs at one rate
/// in all power states (`constant_tsc` and `nonstop_tsc`) does the number hold at other times.
#[must_use]
pub fn measure_tsc_khz() -> u32 {
    let (tsc, time) = tsc_and_time();
    std::thread::sleep(Duration::from_millis(50));
    let (later_tsc, later_time) = tsc_and_time();
    let nanoseconds = (later_time - time).as_nanos().max(1);
    let khz = u128::from(later_tsc.wrapping_sub(tsc)) * 1_000_000 / nanoseconds;
    u32::try_from(khz).unwrap_or(u32::MAX)
}

/// The TSC and the time, read as close together as they were in one of ten tries: we may be interrupted in between.
fn tsc_and_time() -> (u64, Instant) {
    // SAFETY: every x86_64 CPU has the instruction; where a kernel forbids it to user space (prctl PR_SET_TSC, never
    // set for a program that did not ask for it) it would end us with a signal and break nothing.
    let rdtsc = || unsafe { std::arch::x86_64::_rdtsc() };
    let tries = std::array::from_fn::<_, 10, _>(|_| {
        let before = rdtsc();
        let time = Instant::now();
        let took = rdtsc().wrapping_sub(before);
        (took, before.wrapping_add(took / 2), time)
    });
    let (_, tsc, time) = tries.into_iter().min_by_key(|(took, ..)| *took).unwrap_or((0, 0, Instant::now()));
    (tsc, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tsc_measures_the_same_twice() {
        let (one, other) = (f64::from(measure_tsc_khz()), f64::from(measure_tsc_khz()));
        assert!(one > 10_000.0 && (one / other - 1.0).abs() < 0.05, "{one} {other}");
    }
}
