//! A process of our own for what may fail in any way.

use std::{
    fs, io,
    process::{self, ExitStatus},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// What it was before [`fork_and_wait`] changed it.
static SCORE: OnceLock<String> = OnceLock::new();

/// Which of the two processes one is in.
#[derive(Debug)]
pub enum Forked {
    /// The new one.
    Child,
    /// The one that waited, and how the other ended.
    Parent(ExitStatus),
}

/// Goes on in a new process, waits for its end, and goes on in this one. `bound` ends the new one with SIGTERM when this
/// one ends before it.
///
/// # Errors
/// When there can be no new process; then nothing has gone on anywhere.
pub fn fork_and_wait(bound: bool) -> io::Result<Forked> {
    use std::os::unix::process::ExitStatusExt;
    // SAFETY: no handler is installed. Whoever started the tool may have it ignore SIGCHLD, and then nobody could wait
    // for the new process.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // SAFETY: the tool starts no threads, so the new process is as whole as this one, with all locks free.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            if bound {
                // SAFETY: the call takes a number and writes nothing to our memory. Where it fails, a new process that
                // is left over ends by itself.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) };
            }
            // Where memory runs out, this process is to go, and no other of the machine. Best effort.
            if let Ok(score) = fs::read_to_string(OOM_SCORE) {
                let _ = SCORE.set(score);
                let _ = fs::write(OOM_SCORE, "1000");
            }
            Ok(Forked::Child)
        }
        child => {
            let mut status = 0;
            loop {
                // SAFETY: the kernel writes one number to `status`, which is exclusively ours.
                if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
                    return Ok(Forked::Parent(ExitStatus::from_raw(status)));
                }
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Does something in a process of its own, and does not wait longer than this for it: a process that hangs in a driver stays
/// where it is. Its exit status, or none where the time is over.
///
/// # Errors
/// When there can be no new process; then nothing was done.
pub fn in_time(time: Duration, work: impl FnOnce() -> i32) -> io::Result<Option<ExitStatus>> {
    use std::os::unix::process::ExitStatusExt;
    let end = Instant::now() + time;
    // SAFETY: no handler is installed. Whoever started the tool may have it ignore SIGCHLD, and then nobody could wait
    // for the new process.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // SAFETY: the tool starts no threads, so the new process is as whole as this one, with all locks free.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: the call takes a number and does not come back. Nothing is left to do: what is printed is printed at once.
        0 => unsafe { libc::_exit(work()) },
        child => child,
    };
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one number to `status`, which is exclusively ours. The call does not wait.
        if unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child {
            return Ok(Some(ExitStatus::from_raw(status)));
        }
        if Instant::now() >= end {
            // SAFETY: the call takes two numbers and touches no memory. The child has not been waited for, so its number
            // is no other process's.
            unsafe { libc::kill(child, libc::SIGKILL) };
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// So often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Makes a system call in a process of its own, and then `undo`: also when that process is killed in between.
///
/// # Errors
/// The call's, those of undoing it, or ENOMEM when the process was killed, as by the OOM killer.
pub fn try_and_undo(
    call: impl FnOnce() -> io::Result<()>,
    undo: impl Fn() -> io::Result<()>,
) -> io::Result<()> {
    match fork_and_wait(false)? {
        Forked::Child => {
            let result = call().and_then(|()| undo());
            let code = result.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
            process::exit(code)
        }
        Forked::Parent(status) => match status.code() {
            Some(0) => Ok(()),
            // The call's error, or that of undoing it: once more does no harm.
            Some(error) => {
                let _ = undo();
                Err(io::Error::from_raw_os_error(error))
            }
            None => undo().and(Err(io::Error::from_raw_os_error(libc::ENOMEM))),
        },
    }
}

/// Ends a process group, whose leader is a child of ours that nobody has waited for.
pub fn kill_group(leader: u32) {
    let Ok(leader) = libc::pid_t::try_from(leader) else { return };
    // SAFETY: the call takes two numbers and touches no memory. The child has not been waited for, so its number is no other
    // process's; it is no 0 or 1, which would be others than its group.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

/// A limit on the size of files (RLIMIT_FSIZE) is an error of writing, as a full disk is, and no end of the process.
pub fn survive_file_limit() {
    // SAFETY: the signal is ignored, no handler is installed.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Ends this process after so many seconds, wherever it then is.
pub fn end_after(seconds: u32) {
    // SAFETY: the call takes a number and touches no memory. No handler is installed, so SIGALRM ends the process.
    unsafe { libc::alarm(seconds) };
}

/// From here on this process need not be the first to go where memory runs out.
pub fn spare() {
    if let Some(score) = SCORE.get() {
        let _ = fs::write(OOM_SCORE, score);
    }
}

/// `signal 9`, or `exit status: 101`.
#[must_use]
pub fn end(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_left_behind() {
        let hangs = || -> i32 {
            loop {
                thread::park();
            }
        };
        assert_eq!(in_time(Duration::from_millis(1), hangs).unwrap(), None);
        for code in [0, 3] {
            let ended = in_time(Duration::from_secs(600), || code).unwrap().unwrap();
            assert_eq!(ended.code(), Some(code));
        }
    }
}
