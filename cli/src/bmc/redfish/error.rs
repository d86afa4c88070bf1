//! Why a Redfish service could not be asked, and what the user can do about it.

use crate::message;
use std::{fmt, io, path::PathBuf};

/// Why a Redfish service could not be asked. The first text is the BMC's address.
#[derive(thiserror::Error)]
pub enum RedfishError {
    #[error("--redfish needs the program curl, which is missing\nhint: install the package curl")]
    NoCurl,
    #[error("curl: {error}", error = message::system(.0))]
    Run(io::Error),
    #[error("curl failed with exit status {1} at {0}\nhint: man curl lists its exit statuses")]
    Failed(String, i32),
    #[error("no address is known for {0}\nhint: check the BMC's name, or give its IP address")]
    Unresolved(String),
    #[error("{0} does not answer\nhint: check the BMC's address, and that its web server (HTTPS) is enabled")]
    NoAnswer(String),
    #[error(
        "{0} and this machine have no common version of TLS (1.2 or later) or no common cipher\nhint: update the BMC's firmware, or use --host (IPMI over LAN)"
    )]
    Tls(String),
    #[error(
        "the certificate of {0} is not trusted, or is for another name\n\
         hint: give the certificate of who signed it with --ca-file FILE, and the name that it is for; --insecure does without"
    )]
    Certificate(String),
    #[error(
        "--ca-file: there is no certificate in it that curl can read\nhint: give a file of certificates in PEM"
    )]
    CaFile,
    #[error("--ca-file: {file}: {error}", file = message::path(.0), error = message::system(.1))]
    CaFileOpen(PathBuf, io::Error),
    #[error("{0} did not answer in time\nhint: retry with a longer --timeout, or restart the BMC")]
    Timeout(String),
    #[error("{0} broke the connection off\nhint: retry, or restart the BMC")]
    Broken(String),
    #[error("an answer of {0} is longer than {limit} MiB\nhint: use --host (IPMI over LAN)", limit = super::curl::LONGEST >> 20)]
    TooLong(String),
    #[error("{0} has more answers than a log can take ({1})\nhint: use --host (IPMI over LAN)")]
    TooMany(String, &'static str),
    #[error(
        "{0} refuses the login\n\
         hint: check user and password: --user, --password-file; some BMCs lock a user after a few refused logins"
    )]
    Login(String),
    #[error(
        "{0} wants a new password of this user first\n\
         hint: change it in the BMC's web interface, or take another user: --user"
    )]
    PasswordChange(String),
    #[error("{0} does not let this user read {1}\nhint: give the user a role that may read (ReadOnly)")]
    Forbidden(String, String),
    #[error("{0} has nothing at {1}\nhint: check the address, and that the BMC has Redfish enabled")]
    NotFound(String, String),
    #[error(
        "{0} redirects {1} elsewhere, which is not followed\nhint: give the address that it redirects to"
    )]
    Redirect(String, String),
    #[error("{0} answers {1} with HTTP status {2}\nhint: retry, or restart the BMC")]
    Status(String, String, u16),
    #[error("{0} answers {1} with an error: {2:?}\nhint: retry, or restart the BMC")]
    Said(String, String, String),
    #[error("the answer of {0} to {1} is no Redfish resource\nhint: retry, or restart the BMC")]
    Garbled(String, String),
    #[error("the log of {0} was cleared or lost old entries while it was read\nhint: retry")]
    Moved(String),
    #[error("{0} links to {1:?}, which is not on it and is not followed")]
    Elsewhere(String, String),
    #[error("the list of entries of {0} goes on with what has been read")]
    Circle(String),
    #[error(
        "{0} has no log of system events in Redfish\nhint: use --host (IPMI over LAN), or read the SEL on the server"
    )]
    NoLog(String),
    #[error("{0} has logs of several systems\nhint: choose one:{1}")]
    Several(String, String),
    #[error("a user's name has no colon, and neither name nor password a NUL or a line end")]
    Characters,
}

/// As people see it: what is derived is large.
impl fmt::Debug for RedfishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
