//! The options that name a BMC on the LAN. The password never stands on the command line, where everybody can see it.

use super::{
    Connection, Host,
    redfish::{self, Asking, Redfish},
};
use crate::message;
use anyhow::{Context, Result};
use clap::Args;
use std::{env, fs::File, io::Read, os::unix::ffi::OsStringExt, path::PathBuf, time::Duration};

/// The environment variables that have the password when no file is given, ours before ipmitool's.
const PASSWORDS: [&str; 2] = ["LASTWORDS_PASSWORD", "IPMI_PASSWORD"];

/// A BMC on the LAN.
#[derive(Args, Clone, Debug, Default)]
pub struct Remote {
    /// Read the SEL of the BMC at this address [default port: 623]
    ///
    /// Over the LAN (RMCP+, cipher suite 17 or 3). The password is in --password-file, or in the environment variable
    /// LASTWORDS_PASSWORD or IPMI_PASSWORD.
    #[arg(short = 'H', long, value_name = "HOST[:PORT]", requires = "user", group = "bmc")]
    host: Option<Host>,

    /// Read the SEL of the BMC that has Redfish at https://HOST
    ///
    /// For BMCs without IPMI over LAN. Needs curl. Some makers do not show all of a SEL record in Redfish; lastwords then
    /// prints that. User and password are given as for --host. Where the BMC has several systems, or another log is meant, its
    /// address stands behind the host: https://HOST/redfish/v1/Systems/2
    #[arg(long, value_name = "https://HOST[:PORT]", requires = "user", group = "bmc", value_parser = redfish::checked)]
    redfish: Option<String>,

    /// Log in as this user (privilege level User or role ReadOnly)
    #[arg(short = 'U', long, value_name = "NAME", requires = "bmc")]
    user: Option<String>,

    /// Take the password from the first line of FILE
    #[arg(long, value_name = "FILE", requires = "bmc")]
    password_file: Option<PathBuf>,

    /// Trust the certificates in FILE (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", requires = "redfish", conflicts_with = "host")]
    ca_file: Option<PathBuf>,

    /// Accept any certificate; the password goes to whoever answers
    #[arg(long, requires = "redfish", conflicts_with = "host")]
    insecure: bool,

    /// Give up after so many seconds (1 to 65535) [default: 120]
    ///
    /// All answers of a Redfish service together. What was read until then is shown.
    #[arg(long, value_name = "SECONDS", requires = "redfish", conflicts_with = "host", value_parser = clap::value_parser!(u16).range(1..))]
    timeout: Option<u16>,
}

/// Bytes of a password file that are read: a password has 20 at most (IPMI 2.0, 13.28).
const LONGEST_LINE: u64 = 4096;

impl Remote {
    /// Connects to the BMC that the options name. `None` when they name none.
    ///
    /// # Errors
    /// When there is no password, or the BMC refuses the login.
    pub fn connect(&self) -> Result<Option<Connection>> {
        let (Some(host), Some(user)) = (&self.host, &self.user) else { return Ok(None) };
        Ok(Some(Connection::lan(host, user, &self.password()?)?))
    }

    /// Finds the Redfish service that the options name. `None` when they name none.
    ///
    /// # Errors
    /// When there is no password, no curl, or no such service.
    pub fn redfish(&self) -> Result<Option<Redfish>> {
        let (Some(address), Some(user)) = (&self.redfish, &self.user) else { return Ok(None) };
        let asking = Asking {
            user: user.clone(),
            password: self.password()?,
            ca_file: self.ca_file.clone(),
            insecure: self.insecure,
            limit: Duration::from_secs(self.timeout.unwrap_or(redfish::LIMIT).into()),
        };
        Ok(Some(Redfish::open(address, asking)?))
    }

    fn password(&self) -> Result<Vec<u8>> {
        if let Some(file) = &self.password_file {
            // The first line is all that counts.
            let mut bytes = Vec::new();
            let opened = File::open(file).with_context(|| message::path(file))?;
            opened.take(LONGEST_LINE).read_to_end(&mut bytes).with_context(|| message::path(file))?;
            let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            bytes.truncate(end.unwrap_or(bytes.len()));
            return Ok(bytes);
        }
        let password = PASSWORDS.into_iter().find_map(env::var_os);
        let password =
            password.context("no password\nhint: give --password-file, or set LASTWORDS_PASSWORD")?;
        Ok(password.into_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::fs;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        remote: Remote,
    }

    #[test]
    fn the_password_is_the_files_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        for (text, password) in
            [("secret\nmore\n", "secret"), ("se cret \r\n", "se cret "), ("secret", "secret"), ("", "")]
        {
            fs::write(&file, text).unwrap();
            let remote = Remote { password_file: Some(file.clone()), ..Remote::default() };
            assert_eq!(remote.password().unwrap(), password.as_bytes());
        }
    }

    #[test]
    fn a_host_needs_a_user_and_nothing_stands_alone() {
        let parse = |options: &str| Only::try_parse_from(format!("test {options}").split_whitespace());
        assert!(parse("").unwrap().remote.connect().unwrap().is_none());
        assert!(parse("--host bmc7:9623 --user reader").is_ok());
        assert!(parse("-H bmc7 -U reader").is_ok());
        assert!(parse("--redfish https://bmc7 -U reader --ca-file x --timeout 5").is_ok());
        for wrong in [
            "--host bmc7",
            "--user reader",
            "--password-file x",
            "--host : --user reader",
            "--redfish https://bmc7",
            "--redfish http://bmc7 -U reader",
            "--redfish https://bmc7 --host bmc7 -U reader",
            "--ca-file x",
            "--insecure",
            "--host bmc7 -U reader --insecure",
            "--timeout 5",
            "--redfish https://bmc7 -U reader --timeout 0",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
