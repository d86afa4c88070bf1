//! The address of a Redfish service, as a user writes it, and the links in its answers that are followed: those within that
//! address alone. A BMC that names another host gets no password sent there.

use std::{fmt, str::FromStr};

/// Longest link that is followed.
const LONGEST: usize = 2048;

/// `https://HOST[:PORT]`, and where to begin there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As in an address: `bmc7`, `192.0.2.1`, `[2001:db8::1]`.
    pub host: String,
    pub port: u16,
    /// A resource, where the user names one.
    pub path: Option<String>,
}

/// The port of HTTPS.
const PORT: u16 = 443;

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "takes https://HOST or https://HOST:PORT, and behind it the path of a system or log, if need be";
        let rest = text.strip_prefix("https://").ok_or(WRONG)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| WRONG)?),
            _ => (authority, PORT),
        };
        let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match name {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && !host.starts_with('-')
                    && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            }
        };
        if !is_host || port == 0 || !(path.is_empty() || is_path(path)) {
            return Err(WRONG);
        }
        let path = Some(path.to_owned()).filter(|path| path.len() > 1);
        Ok(Self { host: host.to_owned(), port, path })
    }
}

/// `bmc7`, `bmc7:8443`: for people.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if self.port == PORT { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Address {
    /// The whole address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{self}{path}")
    }

    /// The path that a link of an answer names. `None` where it leads elsewhere, or is none.
    pub fn path_of(&self, link: &str) -> Option<String> {
        if is_path(link) {
            return Some(link.to_owned());
        }
        let other: Self = link.parse().ok()?;
        let is_same = other.host.eq_ignore_ascii_case(&self.host) && other.port == self.port;
        other.path.filter(|_| is_same)
    }
}

/// Is it a path of one host, in characters that an address has?
fn is_path(text: &str) -> bool {
    let is_of_path = |byte: u8| byte.is_ascii_graphic() && !b"\"\\<>^`{}|#".contains(&byte);
    text.starts_with('/') && !text.starts_with("//") && text.len() <= LONGEST && text.bytes().all(is_of_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_a_host_and_no_more_than_a_path() {
        for (text, shown, path) in [
            ("https://bmc7", "bmc7", None),
            ("https://bmc7:8443/", "bmc7:8443", None),
            ("https://192.0.2.1:443", "192.0.2.1", None),
            ("https://[2001:db8::1]", "[2001:db8::1]", None),
            (
                "https://[2001:db8::1]:8443/redfish/v1/Systems/2",
                "[2001:db8::1]:8443",
                Some("/redfish/v1/Systems/2"),
            ),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.path.as_deref()), (shown, path), "{text}");
        }
        for bad in [
            "bmc7",
            "http://bmc7",
            "https://",
            "https://:443",
            "https://bmc7:0",
            "https://bmc7:65536",
            "https://u:p@bmc7",
            "https://u@bmc7",
            "https://-bmc7",
            "https://bmc7 /",
            "https://bmc\n7",
            "https://[bmc7]",
            "https://2001:db8::1",
            "https://bmc7//evil",
            "https://bmc7/a b",
            "https://bmc7/\"",
            "https://bmc7?x",
            "ftp://bmc7",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_to_anywhere_else_is_not_followed() {
        let address: Address = "https://bmc7:8443".parse().unwrap();
        for link in [
            "/redfish/v1/Systems",
            "https://bmc7:8443/redfish/v1/Systems",
            "https://BMC7:8443/redfish/v1/Systems",
        ] {
            assert_eq!(address.path_of(link).as_deref(), Some("/redfish/v1/Systems"), "{link}");
        }
        for link in [
            "https://evil/redfish/v1/Systems",
            "https://bmc7/redfish/v1/Systems",
            "http://bmc7:8443/x",
            "//evil/x",
            "x",
            "",
            "https://bmc7:8443@evil/x",
            "https://bmc7:8443.evil/x",
            "/x\r\nHost: evil",
            "/\\evil",
            "file:///etc/passwd",
            "/x\"",
        ] {
            assert_eq!(address.path_of(link), None, "{link}");
        }
        assert_eq!(address.path_of(&format!("/{}", "a".repeat(LONGEST))), None);
    }
}
