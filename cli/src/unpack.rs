//! What is packed, unpacked by the program that its users have: a library for each form would go into every RAM disk with
//! the tool, for files that are read elsewhere.

use std::{
    io::{self, Read, Write},
    process::{Command, Stdio},
    thread,
};

/// What `PROGRAM -dc` makes of these bytes, but no more than `most` bytes and one, which shows that there are more. `None`
/// where there is no such program.
///
/// # Errors
/// `InvalidData` when the program fails; else the system's.
pub fn with(program: &str, bytes: &[u8], most: u64) -> io::Result<Option<Vec<u8>>> {
    let started = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else { return Ok(None) };
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let mut unpacked = Vec::new();
    let read = thread::scope(|scope| {
        // It ends when the program has seen enough.
        scope.spawn(|| input.map(|mut input| input.write_all(bytes)));
        output.map_or(Ok(0), |output| output.take(most + 1).read_to_end(&mut unpacked))
    });
    let is_all = unpacked.len() as u64 <= most;
    if read.is_err() || !is_all {
        let _ = child.kill();
    }
    let status = child.wait()?;
    read?;
    if is_all && !status.success() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("cannot be unpacked: {program} failed"),
        ));
    }
    Ok(Some(unpacked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_unpacks_is_bounded_and_its_failure_is_ours() {
        assert!(with("false", b"", 9).unwrap_err().to_string().contains("false failed"));
        assert_eq!(with("true", b"abc", 9).unwrap(), Some(Vec::new()));
        assert_eq!(with("no-such-program", b"", 9).unwrap(), None);
        // All of it, or one byte more than is wanted.
        for (most, len) in [(2, 3), (3, 3), (9, 3)] {
            let gz = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            let mut gz = gz.expect("gzip: install gzip");
            gz.stdin.take().unwrap().write_all(b"abc").unwrap();
            let packed = gz.wait_with_output().unwrap().stdout;
            assert_eq!(with("gzip", &packed, most).unwrap().map(|bytes| bytes.len()), Some(len));
        }
    }
}
