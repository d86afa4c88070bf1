//! How fast the digest is: the image's code, and what else there is.

use super::table::number;
use super::{Page, image_example};
use crate::machine::process;
use anyhow::{Context, Result};
use std::process::Command;

/// MB/s: our digest; SHA-256 as the image has it, and with SHA-NI (where this CPU has it), `sha256sum`, and
/// `openssl speed`.
///
/// # Errors
/// When one of them does not run.
pub fn digests() -> Result<[(&'static str, f64); 5]> {
    let bytes: u32 = 512 << 20;
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(bytes.into())?;
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let began = std::time::Instant::now();
        process::output(Command::new("sha256sum").arg(file.path()))?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    // `+F:21:sha256:…:1850594000.00`, bytes a second at the end.
    let speed = ["speed", "-mr", "-seconds", "1", "-bytes", "1048576", "-evp", "sha256"];
    let openssl = process::text(Command::new("openssl").args(speed))?;
    let openssl: f64 = openssl.trim().rsplit(':').next().context("openssl speed says nothing")?.parse()?;
    let ([lanes, sha256], [_, soft]) = (digest(&[])?, digest(&["--cfg=sha2_backend=\"soft\""])?);
    Ok([
        ("the image's XXH64 in four lanes", lanes),
        ("SHA-256 with SHA-NI, where the CPU has it", sha256),
        ("the image's SHA-256", soft),
        ("sha256sum", f64::from(bytes) / 1e6 / best),
        ("openssl speed", openssl / 1e6),
    ])
}

/// Our digests, with more flags.
fn digest(more: &[&str]) -> Result<[f64; 2]> {
    let text = process::text(&mut Command::new(image_example("lastwords-purgatory", "digest", more)?))?;
    let (lanes, sha256) = text.trim().split_once('\n').context("not two figures")?;
    Ok([lanes.parse()?, sha256.parse()?])
}

/// The page's part.
///
/// # Errors
/// When it cannot be measured.
pub fn report(page: &mut Page) -> Result<()> {
    page.section(
        "Checksums on this host",
        "MB/s of memory that is in the cache: a time, other than all of the above. It depends on the CPU and on what else runs.",
    );
    let rows = digests()?.map(|(name, speed)| vec![name.to_owned(), number(speed)]);
    page.table(&["checksum", "MB/s"], &rows);
    Ok(())
}
