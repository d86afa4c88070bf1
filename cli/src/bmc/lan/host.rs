//! A BMC's address on the LAN, as a user writes it.

use std::{fmt, str::FromStr};

/// The port of RMCP.
const PORT: u16 = 623;

/// A host's name or address, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    pub port: u16,
}

impl FromStr for Host {
    type Err = &'static str;

    /// `host`, `host:port`, `192.0.2.1:623`, `2001:db8::1`, `[2001:db8::1]:623`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "takes a host or an address, and a port behind a colon where it is not 623";
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']').ok_or(WRONG)?;
                match port.strip_prefix(':') {
                    None if port.is_empty() => (name, None),
                    port => (name, Some(port.ok_or(WRONG)?)),
                }
            }
            None => match text.split_once(':') {
                Some((name, port)) if !port.contains(':') => (name, Some(port)),
                _ => (text, None),
            },
        };
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| WRONG)?;
        if name.is_empty() || port == 0 {
            return Err(WRONG);
        }
        Ok(Self { name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.name.contains(':')) {
            (PORT, _) => f.write_str(&self.name),
            (port, true) => write!(f, "[{}]:{port}", self.name),
            (port, false) => write!(f, "{}:{port}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (text, name, port, shown) in [
            ("bmc7", "bmc7", 623, "bmc7"),
            ("192.0.2.1:9623", "192.0.2.1", 9623, "192.0.2.1:9623"),
            ("2001:db8::1", "2001:db8::1", 623, "2001:db8::1"),
            ("[2001:db8::1]:9623", "2001:db8::1", 9623, "[2001:db8::1]:9623"),
            ("[::1]", "::1", 623, "::1"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(host, Host { name: name.to_owned(), port });
            assert_eq!(host.to_string(), shown);
        }
        for bad in ["", ":623", "bmc7:", "bmc7:x", "bmc7:0", "bmc7:65536", "[::1", "[::1]9623", "[]:623"] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }
}
