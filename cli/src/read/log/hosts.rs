//! The SELs of several hosts in one stream, as tools for many hosts hand it on: each line with its host in front, or a title
//! above the lines of each.

use std::collections::BTreeMap;

/// What a host's lines begin with where the tool says that its command failed.
const FAILED: &str = "Error: ";

/// The lines of each host, without its name in front; `None` where these are not several hosts' lines.
pub fn by_host(text: &str) -> Option<Vec<(String, String)>> {
    let mut hosts: Vec<(String, String)> = Vec::new();
    let mut places = BTreeMap::new();
    let mut add = |host: &str, line: &str| {
        let at = *places.entry(host.to_owned()).or_insert_with(|| {
            hosts.push((host.to_owned(), String::new()));
            hosts.len() - 1
        });
        let (_, lines) = &mut hosts[at];
        lines.push_str(line);
    };
    let mut titled = None;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        // Blanks at a line's end may be a text's own.
        let bare = line.trim_end();
        if is_rule(bare)
            && let Some(host) = lines.peek().map(|host| host.trim_end())
            && let mut rest = lines.clone().skip(1)
            && rest.next().is_some_and(|below| is_rule(below.trim_end()))
        {
            titled = Some(host);
            lines.nth(1);
        } else if let Some((host, failure)) = title(bare) {
            titled = Some(host);
            add(host, "");
            if let Some(failure) = failure {
                add(host, &format!("{FAILED}{failure}\n"));
            }
        } else if let Some(host) = bare.strip_suffix(':').filter(|host| is_name(host))
            && lines.peek().is_some_and(|below| below.starts_with(' '))
        {
            titled = Some(host);
        } else if let Some(host) = titled {
            add(host, line);
        } else if !bare.is_empty() {
            let (host, rest) = prefixed(line)?;
            add(host, rest);
        }
    }
    // The numbers of lines (`grep -n`) are no hosts.
    let is_number = |host: &str| host.bytes().all(|byte| byte.is_ascii_digit());
    let are_numbers =
        hosts.len() > 1 && hosts.iter().all(|(host, lines)| is_number(host) && lines.lines().count() == 1);
    (!hosts.is_empty() && !are_numbers).then_some(hosts)
}

/// `dshbak` and `ipmi-sel -B`: a host between two of these.
fn is_rule(line: &str) -> bool {
    line.len() >= 8 && line.bytes().all(|byte| byte == b'-')
}

/// A title that stands alone, and what failed there: pssh's `[1] 13:22:11 [SUCCESS] db04`, ansible's
/// `db04 | CHANGED | rc=0 >>`.
fn title(line: &str) -> Option<(&str, Option<&str>)> {
    let words: Vec<_> = line.splitn(5, ' ').collect();
    if let [number, _, state @ ("[SUCCESS]" | "[FAILURE]"), host, rest @ ..] = &words[..]
        && number.starts_with('[')
    {
        let failure = rest.first().copied().unwrap_or(state);
        return Some((host, (*state == "[FAILURE]").then_some(failure)));
    }
    let (host, state) = line.split_once(" | ").filter(|(host, _)| is_name(host))?;
    if ["CHANGED", "SUCCESS"].iter().any(|begin| state.starts_with(begin)) {
        return Some((host, None));
    }
    ["FAILED", "UNREACHABLE"].iter().any(|begin| state.starts_with(begin)).then_some((host, Some(state)))
}

/// A host in front of a line, as `pdsh`, `clush` and `ipmi-sel -h a,b` put it there: `db04: …`, `[fe80::1]:623: …`. What pdsh
/// itself says of one has its own host before that.
fn prefixed(line: &str) -> Option<(&str, &str)> {
    let (host, rest) = match line.split_once(": ") {
        Some(parts) => parts,
        None => (line.trim_end().strip_suffix(':')?, "\n"),
    };
    if host.starts_with("pdsh@")
        && let Some((of, said)) = prefixed(rest)
    {
        return Some((of, said));
    }
    // `ipmi-raw` has `rcvd:` in front of each answer.
    (is_name(host) && host != "rcvd").then_some((host, rest))
}

fn is_name(host: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[],:%@".contains(&byte);
    host.bytes().all(is_part) && host.bytes().any(|byte| byte.is_ascii_alphanumeric())
}
