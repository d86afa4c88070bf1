//! Command lines as getopt_long(3) reads them: options anywhere, short ones together, long ones abbreviated where that
//! is unique. kexec reads its own so, and clap does not.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

/// An option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its long name.
    pub name: &'static str,
    /// Its letter.
    pub letter: Option<char>,
    /// Does it take a value?
    pub value: bool,
}

/// An option on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<'a> {
    /// Its long name.
    pub name: &'a str,
    /// Its value.
    pub value: Option<OsString>,
    /// Is it one of the further options?
    pub further: bool,
}

/// A command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line<'a> {
    /// The options in their order.
    pub options: Vec<Given<'a>>,
    /// What is no option.
    pub operands: Vec<OsString>,
    /// All arguments but the further options.
    pub rest: Vec<OsString>,
    /// What is wrong with the first one that is wrong. It is left out of `options`.
    pub error: Option<String>,
}

/// Does a further option take a value?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// It takes none.
    Nothing,
    /// It may have one behind a `=`.
    Optional,
    /// It has one.
    Value,
}

/// Reads a command line. Of the further options each must be written out. `in_order`: the first operand ends the
/// options (POSIXLY_CORRECT).
pub fn read<'a>(
    arguments: &[OsString],
    specs: &[Spec],
    further: &[(&'a str, Takes)],
    in_order: bool,
) -> Line<'a> {
    let mut line = Line::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let bytes = argument.as_bytes();
        if bytes == b"--" {
            line.rest.push(argument.clone());
            line.operands.extend(arguments.clone().cloned());
            line.rest.extend(arguments.cloned());
            break;
        } else if let Some(long) = bytes.strip_prefix(b"--") {
            let (name, value) = match long.iter().position(|byte| *byte == b'=') {
                Some(at) => (&long[..at], Some(OsStr::from_bytes(&long[at + 1..]).to_owned())),
                None => (long, None),
            };
            let is_further = || further.iter().find(|(other, _)| other.as_bytes() == name).copied();
            let is_spec = specs.iter().any(|spec| spec.name.as_bytes() == name);
            if let Some((name, takes)) = is_further().filter(|_| !is_spec) {
                let value = match (takes, value) {
                    (Takes::Value, None) => arguments.next().cloned(),
                    (_, value) => value,
                };
                line.options.push(Given { name, value, further: true });
                continue;
            }
            line.rest.push(argument.clone());
            let name = match find(name, specs) {
                Ok(spec) => match (spec.value, value) {
                    (true, None) => match arguments.next() {
                        Some(value) => {
                            line.rest.push(value.clone());
                            Ok(Given { name: spec.name, value: Some(value.clone()), further: false })
                        }
                        None => Err("has no value"),
                    },
                    (false, Some(_)) => Err("takes no value"),
                    (_, value) => Ok(Given { name: spec.name, value, further: false }),
                },
                Err(error) => Err(error),
            };
            line.take(argument, name);
        } else if let Some(letters) = bytes.strip_prefix(b"-").filter(|letters| !letters.is_empty()) {
            line.rest.push(argument.clone());
            let mut letters = letters.iter();
            while let Some(letter) = letters.next() {
                let is_it = |spec: &&Spec| spec.letter == Some(char::from(*letter));
                let given = match specs.iter().find(is_it) {
                    None => Err("is unknown"),
                    Some(Spec { name, value: false, .. }) => Ok(Given { name, value: None, further: false }),
                    Some(Spec { name, .. }) => {
                        let behind = std::mem::take(&mut letters).as_slice();
                        let value = if behind.is_empty() {
                            let next = arguments.next();
                            line.rest.extend(next.cloned());
                            next.cloned()
                        } else {
                            Some(OsStr::from_bytes(behind).to_owned())
                        };
                        value
                            .map(|value| Given { name, value: Some(value), further: false })
                            .ok_or("has no value")
                    }
                };
                line.take(argument, given);
            }
        } else {
            line.rest.push(argument.clone());
            line.operands.push(argument.clone());
            if in_order {
                line.operands.extend(arguments.clone().cloned());
                line.rest.extend(arguments.cloned());
                break;
            }
        }
    }
    line
}

impl<'a> Line<'a> {
    fn take(&mut self, argument: &OsStr, given: Result<Given<'a>, &str>) {
        match given {
            Ok(given) => self.options.push(given),
            Err(error) => {
                self.error.get_or_insert_with(|| format!("{} {error}", argument.display()));
            }
        }
    }
}

/// The option of this name, or the only one whose name begins so.
fn find(name: &[u8], specs: &[Spec]) -> Result<Spec, &'static str> {
    if let Some(spec) = specs.iter().find(|spec| spec.name.as_bytes() == name) {
        return Ok(*spec);
    }
    let mut found = specs.iter().filter(|spec| spec.name.as_bytes().starts_with(name));
    match (found.next(), found.next()) {
        (Some(spec), None) => Ok(*spec),
        (Some(_), Some(_)) => Err("is ambiguous"),
        (None, _) => Err("is unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    const SPECS: [Spec; 6] = [
        Spec { name: "load", letter: Some('l'), value: false },
        Spec { name: "load-panic", letter: Some('p'), value: false },
        Spec { name: "load-live-update", letter: None, value: false },
        Spec { name: "type", letter: Some('t'), value: true },
        Spec { name: "append", letter: None, value: true },
        Spec { name: "debug", letter: Some('d'), value: false },
    ];

    fn of(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    /// The options written out, `--`, the operands; `None` for an error.
    fn shown(line: &Line) -> Option<String> {
        let options = line.options.iter().flat_map(|Given { name, value, .. }| {
            std::iter::once(format!("--{name}")).chain(value.iter().map(|value| value.display().to_string()))
        });
        let operands = line.operands.iter().map(|operand| operand.display().to_string());
        let words: Vec<_> = options.chain(["--".to_owned()]).chain(operands).collect();
        let text = format!(" {}", words.join(" "));
        line.error.is_none().then_some(text)
    }

    /// What getopt_long(3) makes of it, by getopt(1).
    fn getopt(arguments: &[OsString], in_order: bool) -> Option<String> {
        let letters: String = SPECS
            .iter()
            .filter_map(|spec| Some(format!("{}{}", spec.letter?, if spec.value { ":" } else { "" })))
            .collect();
        let names: Vec<_> =
            SPECS.iter().map(|spec| format!("{}{}", spec.name, if spec.value { ":" } else { "" })).collect();
        let mut command = Command::new("getopt");
        command.env_remove("POSIXLY_CORRECT");
        if in_order {
            command.env("POSIXLY_CORRECT", "1");
        }
        let output = command
            .args(["-q", "-u", "-o", &letters, "-l", &names.join(","), "--"])
            .args(arguments)
            .output()
            .expect("getopt of util-linux");
        let text = String::from_utf8(output.stdout).expect("ASCII");
        let mut written_out = String::new();
        let mut is_option = true;
        for word in text.trim_end_matches('\n').split(' ').skip(1) {
            is_option &= word != "--";
            let spec = SPECS
                .iter()
                .find(|spec| is_option && spec.letter.is_some_and(|letter| word == format!("-{letter}")));
            written_out += &spec.map_or_else(|| format!(" {word}"), |spec| format!(" --{}", spec.name));
        }
        output.status.success().then_some(written_out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn it_reads_what_getopt_long_reads(
            words in prop::collection::vec(
                "--(load|load-|load-p|load-panic|load-l|l|lo|d|deb|debug|t|type|type=a|app|append|append=|append=b|debug=c|x)\
                 |-[lpdt]{1,3}|-tq|-x|--|-|K|/boot/k", 0..6),
            in_order: bool,
        ) {
            let arguments: Vec<_> = words.iter().map(OsString::from).collect();
            let line = read(&arguments, &SPECS, &[], in_order);
            // A value that is a letter's own name cannot be told from the letter in its output.
            prop_assume!(line.options.iter().all(|given| given.value.as_ref().is_none_or(|value| !value.as_bytes().starts_with(b"-"))));
            prop_assert_eq!(shown(&line), getopt(&arguments, in_order), "{:?}", arguments);
            prop_assert_eq!(&line.rest, &arguments);
        }
    }

    #[test]
    fn further_options_are_taken_out() {
        let further = [("via", Takes::Value), ("output-log", Takes::Optional), ("load", Takes::Value)];
        let arguments = of("--via wrap -p --output-log K --output-log=9 --via=x --load --vi -- --via");
        let line = read(&arguments, &SPECS, &further, false);
        assert_eq!(line.rest, of("-p K --load --vi -- --via"));
        assert_eq!(line.operands, of("K --via"));
        let options: Vec<_> =
            line.options.iter().map(|given| (given.name, given.value.as_deref(), given.further)).collect();
        let value = |text| Some(OsStr::new(text));
        assert_eq!(
            options,
            [
                ("via", value("wrap"), true),
                ("load-panic", None, false),
                ("output-log", None, true),
                ("output-log", value("9"), true),
                ("via", value("x"), true),
                // It is the first table's.
                ("load", None, false),
            ]
        );
        assert_eq!(line.error.as_deref(), Some("--vi is unknown"));
    }
}
