//! HTTPS by curl(1), as a process: a library for TLS would be half of the program, which goes into the dump kernel's RAM disk.
//!
//! All options go to curl's standard input, so that no password is in its arguments or its environment, and its own settings
//! (~/.curlrc, proxies) do not count. Both ends are files in memory: neither can keep us waiting, and what comes in is
//! measured while it comes. curl is ended when it is too much, or when time is over.
//!
//! Several addresses go to one curl, so that the handshake, the slowest part for a BMC, is made once for all of them.

use super::{address::Address, error::RedfishError};
use crate::sys;
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Most bytes of one answer: 4,096 entries of 2 KB.
pub const LONGEST: u64 = 8 << 20;
/// Most bytes of all.
const MOST_BYTES: u64 = 64 << 20;
/// Most requests.
const MOST_REQUESTS: usize = 1000;
/// Longest time to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two looks at curl.
const PAUSE: Duration = Duration::from_millis(10);

/// Who asks, and what is left of the limits.
pub struct Curl {
    pub address: Address,
    pub user: String,
    pub password: Vec<u8>,
    pub ca_file: Option<PathBuf>,
    pub insecure: bool,
    end: Instant,
    bytes: u64,
    requests: usize,
}

/// An answer of the BMC.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Curl {
    /// All that follows takes no longer than `limit`.
    ///
    /// # Errors
    /// [`RedfishError::Characters`].
    pub fn new(
        address: Address,
        user: &str,
        password: Vec<u8>,
        limit: Duration,
    ) -> Result<Self, RedfishError> {
        let has = |text: &[u8], bad: &[u8]| text.iter().any(|byte| bad.contains(byte));
        if has(user.as_bytes(), b":\0\r\n") || has(&password, b"\0\r\n") {
            return Err(RedfishError::Characters);
        }
        Ok(Self {
            address,
            user: user.to_owned(),
            password,
            ca_file: None,
            insecure: false,
            end: Instant::now() + limit,
            bytes: MOST_BYTES,
            requests: MOST_REQUESTS,
        })
    }

    /// Asks for all of these, in their order, with the login or without.
    ///
    /// # Errors
    /// When one has no answer. An answer of any HTTP status is one.
    pub fn get(&mut self, paths: &[String], login: bool) -> Result<Vec<Answer>, RedfishError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let host = || self.address.to_string();
        self.requests = self
            .requests
            .checked_sub(paths.len())
            .ok_or_else(|| RedfishError::TooMany(host(), "1000 requests"))?;
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RedfishError::Timeout(host()));
        }
        let settings =
            sys::memory_file(c"curl", &[&self.settings(paths, login, left)]).map_err(RedfishError::Run)?;
        let mut output = sys::memory_file(c"answers", &[]).map_err(RedfishError::Run)?;
        let child = Command::new("curl")
            .args(["-q", "--config", "-"])
            // Which has the password, perhaps, and settings of curl's.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::from(settings))
            .stdout(Stdio::from(output.try_clone().map_err(RedfishError::Run)?))
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RedfishError::NoCurl,
            _ => RedfishError::Run(error),
        })?;
        let most = self.bytes.min(LONGEST.saturating_mul(paths.len() as u64));
        let ended = self.wait(&mut child, &output, most);
        // Where it has ended there is nobody to kill.
        let _ = (child.kill(), child.wait());
        let ended = ended?;
        let mut bytes = Vec::new();
        output.rewind().and_then(|()| output.read_to_end(&mut bytes)).map_err(RedfishError::Run)?;
        self.bytes = self
            .bytes
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| RedfishError::TooMany(host(), "64 MiB"))?;
        match ended.code() {
            Some(0) => {}
            code => return Err(self.failure(code.unwrap_or(-1))),
        }
        answers(bytes, paths.len()).ok_or_else(|| RedfishError::Broken(host()))
    }

    /// Waits for its end.
    fn wait(&self, child: &mut Child, output: &File, most: u64) -> Result<ExitStatus, RedfishError> {
        loop {
            if let Some(status) = child.try_wait().map_err(RedfishError::Run)? {
                return Ok(status);
            }
            // With some room for what curl itself adds.
            if output.metadata().map_err(RedfishError::Run)?.len() > most + LONGEST / 8 {
                return Err(RedfishError::TooLong(self.address.to_string()));
            }
            if Instant::now() >= self.end {
                return Err(RedfishError::Timeout(self.address.to_string()));
            }
            thread::sleep(PAUSE);
        }
    }

    /// What curl is to do.
    fn settings(&self, paths: &[String], login: bool, left: Duration) -> Vec<u8> {
        let mut settings = Settings::default();
        for flag in ["silent", "fail-early", "globoff", "path-as-is", "tlsv1.2", "http1.1", "basic"] {
            settings.flag(flag);
        }
        settings.set("proto", "=https");
        // A BMC's answers are no business of a proxy for the world.
        settings.set("proxy", "");
        settings.set("header", "Accept: application/json");
        // DSP0266, 6.5; iLO wants it.
        settings.set("header", "OData-Version: 4.0");
        settings.set("connect-timeout", seconds(left.min(CONNECT)));
        settings.set("max-time", seconds(left));
        settings.set("max-filesize", LONGEST.to_string());
        settings.set("write-out", "\n%{http_code} %{size_download}\n");
        if self.insecure {
            settings.flag("insecure");
        }
        if let Some(file) = &self.ca_file {
            settings.set("cacert", file);
        }
        if login {
            let user = [self.user.as_bytes(), b":", &self.password].concat();
            settings.set("user", OsStr::from_bytes(&user));
        }
        for path in paths {
            settings.set("url", self.address.url(path));
        }
        settings.0
    }

    /// What its exit status means (man curl, EXIT CODES).
    fn failure(&self, code: i32) -> RedfishError {
        let host = self.address.to_string();
        match code {
            6 => RedfishError::Unresolved(host),
            7 => RedfishError::NoAnswer(host),
            28 => RedfishError::Timeout(host),
            35 | 59 => RedfishError::Tls(host),
            51 | 60 => RedfishError::Certificate(host),
            77 => RedfishError::CaFile,
            63 => RedfishError::TooLong(host),
            1 | 8 | 16 | 18 | 52 | 55 | 56 | 92 => RedfishError::Broken(host),
            code => RedfishError::Failed(host, code),
        }
    }
}

/// Whole seconds, at least one.
fn seconds(time: Duration) -> String {
    time.as_secs().max(1).to_string()
}

/// A file of curl's (`--config`).
#[derive(Default)]
struct Settings(Vec<u8>);

impl Settings {
    fn flag(&mut self, name: &str) {
        self.0.extend([name.as_bytes(), b"\n"].concat());
    }

    fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.extend([name.as_bytes(), b" = \""].concat());
        for byte in value.as_ref().as_bytes() {
            match byte {
                b'"' | b'\\' => self.0.extend([b'\\', *byte]),
                b'\n' => self.0.extend(b"\\n"),
                byte => self.0.push(*byte),
            }
        }
        self.0.extend(b"\"\n");
    }
}

/// Takes apart what curl has written: each body, and behind it the line of `write-out`. It is read from its end, where a
/// body cannot put a line of its own.
fn answers(mut bytes: Vec<u8>, count: usize) -> Option<Vec<Answer>> {
    let mut answers = Vec::new();
    while answers.len() < count {
        bytes.pop_if(|byte| *byte == b'\n')?;
        let line = bytes.split_off(bytes.iter().rposition(|byte| *byte == b'\n')?);
        let (status, size) = std::str::from_utf8(&line).ok()?.trim_start().split_once(' ')?;
        let body = bytes.split_off(bytes.len().checked_sub(size.parse().ok()?)?);
        answers.push(Answer { status: status.parse().ok()?, body });
    }
    answers.reverse();
    bytes.is_empty().then_some(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curl(user: &str, password: &str) -> Result<Curl, RedfishError> {
        Curl::new("https://bmc7:8443".parse().unwrap(), user, password.into(), Duration::from_secs(100))
    }

    #[test]
    fn no_character_of_a_password_ends_its_setting() {
        let curl = curl("admin", "a\"\\ \tb#'").unwrap();
        let settings = curl.settings(&["/x".to_owned()], true, Duration::from_secs(9));
        let text = String::from_utf8(settings).unwrap();
        assert!(text.contains("\nuser = \"admin:a\\\"\\\\ \tb#'\"\n"), "{text}");
        assert!(text.ends_with("\nurl = \"https://bmc7:8443/x\"\n"), "{text}");
        let without = curl.settings(&["/x".to_owned()], false, Duration::from_secs(9));
        assert!(!String::from_utf8(without).unwrap().contains("user"));
    }

    #[test]
    fn what_would_end_a_setting_or_a_name_is_refused() {
        for (user, password) in [("a:b", "x"), ("a\nurl = x", "x"), ("a", "x\ny"), ("a", "x\0")] {
            assert!(matches!(curl(user, password), Err(RedfishError::Characters)), "{user} {password}");
        }
    }

    #[test]
    fn a_body_cannot_make_itself_two() {
        let taken = |bytes: &str, count| {
            let answers = answers(bytes.as_bytes().to_vec(), count)?;
            Some(
                answers
                    .iter()
                    .map(|one| (one.status, String::from_utf8_lossy(&one.body).into_owned()))
                    .collect::<Vec<_>>(),
            )
        };
        let body = |status, text: &str| (status, text.to_owned());
        assert_eq!(taken("{}\n200 2\n", 1), Some(vec![body(200, "{}")]));
        let lie = "{}\n200 2\n{}";
        assert_eq!(
            taken(&format!("{lie}\n200 {}\n\n404 0\n", lie.len()), 2),
            Some(vec![body(200, lie), body(404, "")])
        );
        for wrong in ["", "{}", "{}\n200 2\n", "{}\n200 9\n\n200 0\n", "x{}\n200 2\n\n200 0\n", "{}\n200 2"] {
            assert_eq!(taken(wrong, 2), None, "{wrong:?}");
        }
    }
}
