//! The options that name a BMC on the LAN. The password never stands on the command line, where everybody can see it.

use super::{
    Connection, Host, Login,
    redfish::{self, Asking, Redfish},
};
use crate::{message, read};
use anyhow::{Context, Result, anyhow};
use clap::Args;
use std::{
    env,
    fs::File,
    io::Read,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    time::Duration,
};

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

    /// Take the BMC's own key (Kg) from the first line of FILE
    ///
    /// For BMCs that have one. At most 20 bytes of text, or 0x and hex digits.
    #[arg(long, value_name = "FILE", requires = "host", conflicts_with = "redfish")]
    kg_file: Option<PathBuf>,

    /// Trust the certificates in FILE (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", requires = "redfish", conflicts_with = "host")]
    ca_file: Option<PathBuf>,

    /// Accept any certificate; the password goes to whoever answers
    #[arg(long, requires = "redfish", conflicts_with = "host")]
    insecure: bool,
}

/// Bytes of a file with a password or key that are read: they have 20 at most (IPMI 2.0, 13.28).
const LONGEST_LINE: u64 = 4096;

impl Remote {
    /// Connects to the BMC that the options name. `None` when they name none. After so much time every command fails.
    ///
    /// # Errors
    /// When there is no password, or the BMC refuses the login.
    pub fn connect(&self, limit: Duration) -> Result<Option<Connection>> {
        let (Some(host), Some(user)) = (&self.host, &self.user) else { return Ok(None) };
        let login = Login { user: user.clone().into_bytes(), password: self.password()?, kg: self.kg()? };
        Ok(Some(Connection::lan(host, &login, limit)?))
    }

    /// Finds the Redfish service that the options name. `None` when they name none. After so much time every request fails.
    ///
    /// # Errors
    /// When there is no password, no curl, or no such service.
    pub fn redfish(&self, limit: Duration) -> Result<Option<Redfish>> {
        let (Some(address), Some(user)) = (&self.redfish, &self.user) else { return Ok(None) };
        let asking = Asking {
            user: user.clone(),
            password: self.password()?,
            ca_file: self.ca_file.clone(),
            insecure: self.insecure,
            limit,
        };
        Ok(Some(Redfish::open(address, asking)?))
    }

    fn password(&self) -> Result<Vec<u8>> {
        let (password, from) = if let Some(file) = &self.password_file {
            (first_line(file)?, file.display().to_string())
        } else {
            let set = |name: &'static str| Some((env::var_os(name)?.into_vec(), name.to_owned()));
            PASSWORDS.into_iter().find_map(set).context(
                "no password\nhint: give --password-file, or set LASTWORDS_PASSWORD or IPMI_PASSWORD",
            )?
        };
        if password.is_empty() {
            message::warning(&anyhow!("{from}: the password is empty"));
        }
        Ok(password)
    }

    fn kg(&self) -> Result<Option<Vec<u8>>> {
        let Some(file) = &self.kg_file else { return Ok(None) };
        let line = first_line(file)?;
        let digits = line.strip_prefix(b"0x").and_then(|digits| str::from_utf8(digits).ok());
        let Some(digits) = digits else { return Ok(Some(line)) };
        let byte = |at| digits.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let key: Option<_> = (0..digits.len()).step_by(2).map(byte).collect();
        Ok(Some(key.with_context(|| format!("{}: no hex digits behind 0x", message::path(file)))?))
    }
}

/// A file's first line: it is all that counts. What editors and `PowerShell` write in front of it to show the form is no part of
/// it; one in 16-bit characters is read as UTF-8.
fn first_line(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = File::open(file).with_context(|| message::path(file))?;
    opened.take(LONGEST_LINE).read_to_end(&mut bytes).with_context(|| message::path(file))?;
    if matches!(bytes[..], [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0xef, 0xbb, 0xbf, ..]) {
        bytes = read::text(&bytes).into_bytes();
    }
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    bytes.truncate(end.unwrap_or(bytes.len()));
    Ok(bytes)
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
    fn a_key_is_text_or_hex() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let remote = Remote { kg_file: Some(file.clone()), ..Remote::default() };
        for (text, key) in [
            (&b"a key\n"[..], &b"a key"[..]),
            (b"0x00ff7A\n", &[0, 0xff, 0x7a]),
            (b"0xen", b""),
            (b"\xef\xbb\xbf0x7a\r\n", b"\x7a"),
            (b"\xff\xfe0\0x\0\x37\0a\0\r\0\n\0", b"\x7a"),
            (b"\xfe\xff\0k\0\xe4", "k\u{e4}".as_bytes()),
            (b"\xff\xfe", b""),
        ] {
            fs::write(&file, text).unwrap();
            match remote.kg() {
                Ok(found) => assert_eq!(found.unwrap(), key),
                Err(error) => assert!(key.is_empty() && error.to_string().contains("no hex"), "{error}"),
            }
        }
        assert_eq!(Remote::default().kg().unwrap(), None);
    }

    #[test]
    fn a_host_needs_a_user_and_nothing_stands_alone() {
        let parse = |options: &str| Only::try_parse_from(format!("test {options}").split_whitespace());
        assert!(parse("").unwrap().remote.connect(Duration::ZERO).unwrap().is_none());
        assert!(parse("--host bmc7:9623 --user reader").is_ok());
        assert!(parse("-H bmc7 -U reader").is_ok());
        assert!(parse("--redfish https://bmc7 -U reader --ca-file x").is_ok());
        for wrong in [
            "--host bmc7",
            "--user reader",
            "--password-file x",
            "--kg-file x",
            "--redfish https://bmc7 -U reader --kg-file x",
            "--host : --user reader",
            "--redfish https://bmc7",
            "--redfish http://bmc7 -U reader",
            "--redfish https://bmc7 --host bmc7 -U reader",
            "--ca-file x",
            "--insecure",
            "--host bmc7 -U reader --insecure",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
