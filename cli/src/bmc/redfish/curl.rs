//! HTTPS by curl(1), as a process: a library for TLS would be half of the program, which goes into the dump kernel's RAM disk.
//!
//! All options go to curl's standard input, so that no password is in its arguments or its environment, and its own settings
//! (~/.curlrc, proxies) do not count. Both ends are files in memory: neither can keep us waiting, and what comes in is
//! measured while it comes. curl is ended when it is too much, or when time is over.
//!
//! Several addresses go to one curl, so that the handshake, the slowest part for a BMC, is made once for all of them.
//!
//! A login with each request fills a BMC's audit log and slows it down. So a session is opened where the service has some
//! (DSP0266, section 13.3), and closed at the end, whatever the end is.

use super::{address::Address, error::RedfishError};
use crate::sys;
use std::{
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
/// Longest time to close a session, which may be after the end of all time.
const CLOSING: Duration = Duration::from_secs(10);
/// Between two looks at curl.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a busy BMC is left alone that says so with a date.
const BUSY: u64 = 10;

/// Who asks, and what is left of the limits.
pub struct Curl {
    pub address: Address,
    pub user: String,
    pub password: Vec<u8>,
    pub ca_file: Option<PathBuf>,
    pub insecure: bool,
    /// Where a session can be opened once more.
    sessions: Option<String>,
    session: Option<Session>,
    /// Has the BMC said that the user has to change the password?
    must_change: bool,
    end: Instant,
    bytes: u64,
    requests: usize,
}

/// A session that is open.
struct Session {
    token: String,
    path: Option<String>,
}

/// What goes with a request.
enum With<'a> {
    Nothing,
    /// The session's token; without a session user and password.
    Login,
    /// Makes something of this JSON.
    Post(&'a [u8]),
    Delete,
}

/// An answer of the BMC.
pub struct Answer {
    pub status: u16,
    head: Vec<u8>,
    pub body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines =
            std::str::from_utf8(&self.head).ok()?.split('\n').filter_map(|line| line.split_once(':'));
        lines.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
    }
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
            sessions: None,
            session: None,
            must_change: false,
            end: Instant::now() + limit,
            bytes: MOST_BYTES,
            requests: MOST_REQUESTS,
        })
    }

    /// Asks for one, with the login or without.
    ///
    /// # Errors
    /// When there is no answer. An answer of any HTTP status is one.
    pub fn get(&mut self, path: &str, login: bool) -> Result<Answer, RedfishError> {
        self.one(path, &if login { With::Login } else { With::Nothing })
    }

    /// Asks for all of these with the login, in their order. Two without an answer, one after the other, are the last ones.
    pub fn get_all(&mut self, paths: &[String]) -> Vec<Result<Answer, RedfishError>> {
        self.ask(paths.to_vec(), &With::Login)
    }

    /// Opens a session, where the service has any and one is free. Otherwise each request has the login.
    ///
    /// # Errors
    /// When the login is refused: then it is not tried once more.
    pub fn open(&mut self, sessions: &str) -> Result<(), RedfishError> {
        // JSON has escapes of its own for others.
        let is_text = |password: &str| password.bytes().all(|byte| byte >= b' ');
        if !std::str::from_utf8(&self.password).is_ok_and(is_text) {
            return Ok(());
        }
        let mut login = Settings(b"{\"UserName\":".to_vec());
        login.quote(self.user.as_bytes());
        login.0.extend(b",\"Password\":");
        login.quote(&self.password);
        login.0.push(b'}');
        let answer = self.one(sessions, &With::Post(&login.0))?;
        match answer.status {
            200..=299 => {}
            // iLO's is 400.
            400 | 401 | 403 => return Err(self.refusal(401, sessions)),
            300..=399 | 404 | 405 | 429 | 500.. => return Ok(()),
            status => return Err(self.refusal(status, sessions)),
        }
        let token = answer.header("X-Auth-Token").filter(|token| !token.is_empty());
        let Some(token) = token else { return Ok(()) };
        // By whatever name the BMC knows itself. Nothing else is deleted.
        let own = answer.header("Location").and_then(|own| {
            find(own.as_bytes(), b"/Sessions/")?;
            self.address.path_of(&own[find(own.as_bytes(), b"/redfish/")?..])
        });
        self.session = Some(Session { token: token.to_owned(), path: own });
        Ok(())
    }

    /// As [`Curl::open`], and where the BMC forgets it meanwhile, once more.
    ///
    /// # Errors
    /// As there.
    pub fn log_in(&mut self, sessions: String) -> Result<(), RedfishError> {
        self.open(&sessions)?;
        self.sessions = Some(sessions).filter(|_| self.session.is_some());
        Ok(())
    }

    fn close(&mut self) {
        let path = self.session.as_ref().and_then(|session| session.path.clone());
        let Some(path) = path else { return };
        self.requests += 1;
        let end = std::mem::replace(&mut self.end, Instant::now() + CLOSING);
        let _ = self.run(&[path], &With::Delete, &mut Vec::new());
        self.end = end;
    }

    /// What an answer of another status than 200 means.
    pub fn refusal(&self, status: u16, path: &str) -> RedfishError {
        let (host, path) = (self.address.to_string(), path.to_owned());
        match status {
            401 | 403 if self.must_change => RedfishError::PasswordChange(host),
            401 => RedfishError::Login(host),
            403 => RedfishError::Forbidden(host, path),
            404 => RedfishError::NotFound(host, path),
            status if is_redirect(status) => RedfishError::Redirect(host, path),
            status => RedfishError::Status(host, path, status),
        }
    }

    fn one(&mut self, path: &str, with: &With) -> Result<Answer, RedfishError> {
        let answer = self.ask(vec![path.to_owned()], with).pop();
        answer.unwrap_or_else(|| Err(self.error(RedfishError::Broken)))
    }

    fn error(&self, error: fn(String) -> RedfishError) -> RedfishError {
        error(self.address.to_string())
    }

    /// Asks, and once more where that is worth it.
    fn ask(&mut self, mut paths: Vec<String>, with: &With) -> Vec<Result<Answer, RedfishError>> {
        let mut all: Vec<Result<Answer, _>> = Vec::new();
        'asking: while all.len() < paths.len() {
            let asked = all.len();
            let failed = self.run(&paths[asked..], with, &mut all).err();
            for at in asked..all.len() {
                if all[at].as_ref().is_ok_and(|answer| self.is_for_later(answer, &mut paths[at])) {
                    all.truncate(at);
                    continue 'asking;
                }
            }
            if let Some(error) = failed {
                let is_second = all.len() == asked && matches!(all.last(), Some(Err(_)));
                all.push(Err(error));
                if is_second {
                    break;
                }
            }
        }
        all
    }

    /// Is it to be asked for again? Then it is time to.
    fn is_for_later(&mut self, answer: &Answer, path: &mut String) -> bool {
        match answer.status {
            401 => {
                // Once: a token that is refused again is the end of it.
                let Some(sessions) = self.sessions.take() else { return false };
                self.close();
                let _ = self.open(&sessions);
            }
            429 | 503 => {
                let Some(after) = answer.header("Retry-After") else { return false };
                let wait = Duration::from_secs(after.parse().unwrap_or(BUSY).max(1));
                if wait >= self.left() {
                    return false;
                }
                thread::sleep(wait);
            }
            // iLO has its resources behind a slash, and its links without it.
            300..=399 if !path.ends_with('/') => {
                path.push('/');
                let is_it = answer.header("Location").is_some_and(|place| place.ends_with(&**path));
                if !is_it {
                    path.pop();
                }
                return is_it;
            }
            _ => return false,
        }
        true
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Runs curl. The answers that came before the first that did not are added.
    fn run(
        &mut self,
        paths: &[String],
        with: &With,
        all: &mut Vec<Result<Answer, RedfishError>>,
    ) -> Result<(), RedfishError> {
        let too_many = |what| RedfishError::TooMany(self.address.to_string(), what);
        self.requests = self.requests.checked_sub(paths.len()).ok_or_else(|| too_many("1000 requests"))?;
        let left = self.left();
        if left.is_zero() {
            return Err(self.error(RedfishError::Timeout));
        }
        let (mut child, mut output) =
            start(&self.settings(paths, with, left)).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => RedfishError::NoCurl,
                _ => RedfishError::Run(error),
            })?;
        let most = self.bytes.min(LONGEST.saturating_mul(paths.len() as u64));
        let ended = self.wait(&mut child, &output, most);
        // Where it has ended there is nobody to kill.
        let _ = (child.kill(), child.wait());
        let mut bytes = Vec::new();
        output.rewind().and_then(|()| output.read_to_end(&mut bytes)).map_err(RedfishError::Run)?;
        self.bytes = self.bytes.saturating_sub(bytes.len() as u64);
        if self.bytes == 0 {
            return Err(too_many("64 MiB"));
        }
        let before = all.len();
        take(&bytes, all);
        all.truncate(before + paths.len());
        for answer in all[before..].iter().flatten() {
            self.must_change |=
                answer.status != 200 && find(&answer.body, b"PasswordChangeRequired").is_some();
        }
        match ended?.code() {
            Some(0) if all.len() == before + paths.len() => Ok(()),
            code => {
                // The last one is what has failed.
                all.truncate(all.len().saturating_sub(1).max(before));
                Err(self.failure(code.unwrap_or(-1)))
            }
        }
    }

    /// Waits for its end.
    fn wait(&self, child: &mut Child, output: &File, most: u64) -> Result<ExitStatus, RedfishError> {
        loop {
            if let Some(status) = child.try_wait().map_err(RedfishError::Run)? {
                return Ok(status);
            }
            // With some room for what curl itself adds.
            if output.metadata().map_err(RedfishError::Run)?.len() > most + LONGEST / 8 {
                return Err(self.error(RedfishError::TooLong));
            }
            if Instant::now() >= self.end {
                return Err(self.error(RedfishError::Timeout));
            }
            thread::sleep(PAUSE);
        }
    }

    /// What curl is to do.
    fn settings(&self, paths: &[String], with: &With, left: Duration) -> Vec<u8> {
        let mut settings = Settings(FIXED.to_vec());
        // Whole seconds, at least one.
        settings.set("max-time", left.as_secs().max(1).to_string().as_bytes());
        if self.insecure {
            settings.0.extend(b"insecure\n");
        }
        if let Some(file) = &self.ca_file {
            settings.set("cacert", file.as_os_str().as_bytes());
        }
        match (with, &self.session) {
            (With::Nothing, _) => {}
            (With::Post(json), _) => {
                settings.set("header", b"Content-Type: application/json");
                settings.set("data-raw", json);
            }
            (_, Some(session)) => {
                settings.set("header", ["X-Auth-Token: ", &session.token].concat().as_bytes());
            }
            (_, None) => settings.set("user", &[self.user.as_bytes(), b":", &self.password].concat()),
        }
        if matches!(with, With::Delete) {
            settings.set("request", b"DELETE");
        }
        for path in paths {
            settings.set("url", self.address.url(path).as_bytes());
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
            0 | 1 | 8 | 16 | 18 | 52 | 55 | 56 | 92 => RedfishError::Broken(host),
            code => RedfishError::Failed(host, code),
        }
    }
}

/// Starts curl, which writes to the file.
fn start(settings: &[u8]) -> io::Result<(Child, File)> {
    let settings = sys::memory_file(c"curl", &[settings])?;
    let output = sys::memory_file(c"answers", &[])?;
    let child = Command::new("curl")
        .args(["-q", "--config", "-"])
        // Which has the password, perhaps, and settings of curl's.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::from(settings))
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::null())
        .spawn()?;
    Ok((child, output))
}

/// What does not change. A BMC's answers are no business of a proxy for the world. iLO wants OData-Version (DSP0266, 6.5). Who
/// packs an answer unasked is understood. The size is [`LONGEST`].
const FIXED: &[u8] = b"silent
include
compressed
fail-early
globoff
path-as-is
tlsv1.2
http1.1
basic
proto = \"=https\"
proxy = \"\"
header = \"Accept: application/json\"
header = \"Accept-Encoding: identity\"
header = \"OData-Version: 4.0\"
connect-timeout = 10
max-filesize = 8388608
write-out = \"\\nlastwords: end of an answer: %{http_code} %{size_header}\\n\"
";

/// What stands behind an answer. A BMC that sends it, too, deceives nobody: all answers are its own.
const MARK: &[u8] = b"\nlastwords: end of an answer: ";

/// A file of curl's (`--config`).
struct Settings(Vec<u8>);

impl Settings {
    fn set(&mut self, name: &str, value: &[u8]) {
        self.0.extend(name.as_bytes());
        self.0.extend(b" = ");
        self.quote(value);
        self.0.push(b'\n');
    }

    /// As curl and JSON have it.
    fn quote(&mut self, value: &[u8]) {
        self.0.push(b'"');
        for byte in value {
            if matches!(byte, b'"' | b'\\') {
                self.0.push(b'\\');
            }
            self.0.push(*byte);
        }
        self.0.push(b'"');
    }
}

/// Takes apart what curl has written: for each address head, body, and the line of `write-out`.
fn take(mut bytes: &[u8], all: &mut Vec<Result<Answer, RedfishError>>) {
    while let Some(at) = find(bytes, MARK) {
        let (answer, rest) = (&bytes[..at], &bytes[at + MARK.len()..]);
        let Some(end) = find(rest, b"\n") else { break };
        bytes = &rest[end + 1..];
        let mut numbers = rest[..end].split(|byte| *byte == b' ').map(number);
        let (status, size) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let Some((head, body)) = answer.split_at_checked(size) else { break };
        all.push(Ok(Answer { status: status as u16, head: head.to_vec(), body: body.to_vec() }));
    }
}

/// Of digits that curl has written.
fn number(digits: &[u8]) -> usize {
    digits
        .iter()
        .fold(0, |number: usize, digit| number.wrapping_mul(10).wrapping_add(usize::from(digit & 0xf)))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The session ends with it.
impl Drop for Curl {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curl(user: &str, password: &str) -> Result<Curl, RedfishError> {
        Curl::new("https://bmc7:8443".parse().unwrap(), user, password.into(), Duration::from_secs(100))
    }

    #[test]
    fn no_character_of_a_password_or_a_token_ends_its_setting() {
        let mut curl = curl("admin", "a\"\\ \tb#'").unwrap();
        let settings = |curl: &Curl, with| {
            let settings = curl.settings(&["/x".to_owned()], &with, Duration::from_secs(9));
            String::from_utf8(settings).unwrap()
        };
        let text = settings(&curl, With::Login);
        assert!(text.contains("\nuser = \"admin:a\\\"\\\\ \tb#'\"\n"), "{text}");
        assert!(text.ends_with("\nurl = \"https://bmc7:8443/x\"\n"), "{text}");
        assert!(!settings(&curl, With::Nothing).contains("user"));
        curl.session = Some(Session { token: "a\"\\b".to_owned(), path: None });
        let text = settings(&curl, With::Login);
        assert!(
            text.contains("\nheader = \"X-Auth-Token: a\\\"\\\\b\"\n") && !text.contains("user"),
            "{text}"
        );
        let text = settings(&curl, With::Post(b"{\"a\": \"\\n\"}"));
        assert!(
            text.contains("\ndata-raw = \"{\\\"a\\\": \\\"\\\\n\\\"}\"\n") && !text.contains("user"),
            "{text}"
        );
    }

    #[test]
    fn what_would_end_a_setting_or_a_name_is_refused() {
        for (user, password) in [("a:b", "x"), ("a\nurl = x", "x"), ("a", "x\ny"), ("a", "x\0")] {
            assert!(matches!(curl(user, password), Err(RedfishError::Characters)), "{user} {password}");
        }
    }

    #[test]
    fn a_body_cannot_make_itself_two_and_what_is_cut_is_none() {
        let taken = |bytes: &str| {
            let mut all = Vec::new();
            take(bytes.replace("MARK", "\nlastwords: end of an answer: ").as_bytes(), &mut all);
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            all.into_iter()
                .flatten()
                .map(|one| (one.status, text(one.head), text(one.body)))
                .collect::<Vec<_>>()
        };
        let one = |status, head: &str, text: &str| (status, head.to_owned(), text.to_owned());
        assert_eq!(taken("A: b\r\n\r\n{}MARK200 8\n"), [one(200, "A: b\r\n\r\n", "{}")]);
        let lie = "{}\n200 2\n{}\nlastwords:";
        assert_eq!(taken(&format!("{lie}MARK200 0\nxMARK404 1\n")), [one(200, "", lie), one(404, "x", "")]);
        for wrong in ["", "{}", "{}MARK200 3\n", "{}MARK200 0", "{}MARK200 99\n"] {
            assert_eq!(taken(wrong), [], "{wrong:?}");
        }
        assert_eq!(taken("aMARK200 0\nbMARK2"), [one(200, "", "a")]);
    }

    #[test]
    fn a_head_is_searched_for_a_name_in_letters_of_any_case() {
        let head = "HTTP/1.1 201 Created\r\nx-auth-token:  a b \r\nLocation: https://x/y\r\nEmpty:\r\n\r\n";
        let answer = Answer { status: 201, head: head.into(), body: Vec::new() };
        let found = ["X-Auth-Token", "LOCATION", "empty"].map(|name| answer.header(name));
        assert_eq!(found, [Some("a b"), Some("https://x/y"), Some("")]);
        for none in ["HTTP/1.1 201 Created", "X-Auth", ""] {
            assert_eq!(answer.header(none), None, "{none}");
        }
    }
}
