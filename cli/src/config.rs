//! The configuration: /etc/lastwords.conf (TOML), and /etc/lastwords.conf.d/*.conf over it in the order of their names. What
//! is reported has the names of `lastwords load`'s options, read by the same table of parameters.

use crate::{arm::file, bmc};
use anyhow::{Context, Result, anyhow, bail, ensure};
use lastwords_core::plan::{PARAMETERS, PREFIX, Plan};
use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};
use toml::de::{DeTable, DeValue};

/// The file that `lastwords enable` writes, and the administrator changes.
pub const FILE: &str = "etc/lastwords.conf";
/// Files that win over it.
pub const FOLDER: &str = "etc/lastwords.conf.d";

/// What is configured. The default is that of a file without any line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What is reported at a panic, as parameters with blanks between.
    pub parameters: String,
    /// How wrapped kernels are signed.
    pub sign: Sign,
    /// What the next boot does with a new crash.
    pub next_boot: NextBoot,
}

/// `[sign]`: at most one of key and command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sign {
    /// Private key (PEM or DER).
    pub key: Option<PathBuf>,
    /// Its certificate (PEM or DER).
    pub cert: Option<PathBuf>,
    /// A shell command that signs `$IN` and writes `$OUT`.
    pub command: Option<String>,
}

/// `[next-boot]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextBoot {
    /// A line in the message of the day until `lastwords list --seen`.
    pub motd: bool,
}

impl Default for NextBoot {
    fn default() -> Self {
        Self { motd: true }
    }
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Switch(bool),
    Number(i64),
    Text(String),
}

/// What the files have so far, by section and name.
#[derive(Default)]
struct Settings(BTreeMap<(String, String), Value>);

impl Config {
    /// Reads all files. One that is not there has no lines.
    ///
    /// # Errors
    /// When a file cannot be read or has something that is not understood, with its name and line.
    pub fn read(root: &Path) -> Result<Self> {
        let mut settings = Settings::default();
        for path in files(root)? {
            let text = match file::read_text(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result.with_context(|| path.display().to_string())?,
            };
            settings.add(&text).with_context(|| path.display().to_string())?;
        }
        settings.config()
    }
}

impl Settings {
    /// Takes a file's text.
    fn add(&mut self, text: &str) -> Result<()> {
        let line = |at: Range<usize>| text[..at.start].matches('\n').count() + 1;
        let sections = DeTable::parse(text).map_err(|error| {
            anyhow!("line {}: {}", line(error.span().unwrap_or_default()), error.message())
        })?;
        for (section, table) in sections.into_inner() {
            let at = || format!("line {}", line(section.span()));
            let section = section.get_ref();
            let DeValue::Table(table) = table.into_inner() else {
                return Err(anyhow!("{section}: stands in no section")).with_context(at);
            };
            ensure!(
                ["report", "sign", "next-boot"].contains(&&**section),
                "{}: [{section}]: no such section",
                at()
            );
            for (name, value) in table {
                let line = line(name.span());
                let name = name.into_inner();
                let value =
                    checked(section, &name, value.get_ref()).with_context(|| format!("line {line}"))?;
                self.0.insert((section.to_string(), name.into_owned()), value);
            }
        }
        Ok(())
    }

    fn get(&self, section: &str, name: &str) -> Option<&Value> {
        self.0.get(&(section.to_owned(), name.to_owned()))
    }

    fn text(&self, section: &str, name: &str) -> Option<&str> {
        match self.get(section, name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn config(&self) -> Result<Config> {
        // In the table's order, whatever the files have.
        let parameters = PARAMETERS
            .iter()
            .filter_map(|one| parameter(key(one), self.get("report", key(one))?).transpose())
            .collect::<Result<Vec<_>>>()?;
        let named = |name: &&str| parameters.iter().any(|one| one.starts_with(&format!("{PREFIX}{name}=")));
        ensure!(
            bmc::PARAMETERS.into_iter().filter(named).count() < 2,
            "[report] has ipmi-interface and ipmi-kcs-ports\nhint: give one of the two, and false for the other"
        );
        let path = |name| self.text("sign", name).map(PathBuf::from);
        let command = self.text("sign", "command").map(str::to_owned);
        let sign = Sign { key: path("key"), cert: path("cert"), command };
        ensure!(
            sign.key.is_some() == sign.cert.is_some(),
            "[sign] has key or cert without the other\nhint: give both, or neither"
        );
        ensure!(
            sign.key.is_none() || sign.command.is_none(),
            "[sign] has key and command\nhint: give one of the two"
        );
        let motd = self.get("next-boot", "motd") != Some(&Value::Switch(false));
        Ok(Config { parameters: parameters.join(" "), sign, next_boot: NextBoot { motd } })
    }
}

/// The value of a setting that there is, and may have it.
fn checked(section: &str, name: &str, value: &DeValue) -> Result<Value> {
    let value = match value {
        DeValue::Boolean(switch) => Some(Value::Switch(*switch)),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::Number)
        }
        DeValue::String(text) => Some(Value::Text(text.to_string())),
        _ => None,
    };
    match (section, name, value) {
        ("report", _, Some(value)) => parameter(name, &value).map(|_| value),
        ("report", ..) => bail!("[report] {name}: takes true, false, a number or a text"),
        ("sign", "key" | "cert" | "command", Some(value @ Value::Text(_)))
        | ("next-boot", "motd", Some(value @ Value::Switch(_))) => Ok(value),
        ("sign", "key" | "cert" | "command", _) => bail!("[sign] {name}: takes a text"),
        ("next-boot", "motd", _) => bail!("[next-boot] motd: takes true or false"),
        _ => bail!("[{section}] {name}: no such setting"),
    }
}

/// A parameter's key: its option's name, or its own.
pub fn key(parameter: &lastwords_core::plan::Parameter) -> &'static str {
    parameter.option.unwrap_or(parameter.name)
}

/// A line of `[report]` as a parameter; `None` where it is switched off.
fn parameter(name: &str, value: &Value) -> Result<Option<String>> {
    let Some(parameter) = PARAMETERS.iter().find(|one| key(one) == name) else {
        let hint = if ["serial", "serial-baud", "console-serial", "console-vga"].contains(&name) {
            "console = \"UART[,BAUD][,vga]\" has what these options have, such as console = \"ttyS0,115200\""
        } else {
            "the settings are the reporting options of lastwords load"
        };
        bail!("[report] {name}: no such setting\nhint: {hint}");
    };
    let text = match value {
        Value::Switch(false) => return Ok(None),
        Value::Switch(true) => None,
        Value::Number(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.clone()),
    };
    if let Some(text) = &text {
        ensure!(
            !text.contains(|letter: char| letter.is_ascii_whitespace() || letter == '"'),
            "[report] {name}: takes no blanks or quotation marks"
        );
    }
    let text = text.or_else(|| parameter.alone.filter(|_| !parameter.value.is_empty()).map(str::to_owned));
    Plan::default()
        .set(parameter.name, text.as_deref())
        .map_err(|what| anyhow!("[report] {name}: {what}"))?;
    let name = parameter.name;
    Ok(Some(text.map_or_else(|| format!("{PREFIX}{name}"), |text| format!("{PREFIX}{name}={text}"))))
}

/// All files, the one that wins last.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join(FOLDER);
    let mut over: Vec<_> = match fs::read_dir(&folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
    .with_context(|| folder.display().to_string())?;
    over.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    over.sort();
    over.insert(0, root.join(FILE));
    Ok(over)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Config> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(FOLDER)).unwrap();
        for (name, text) in files {
            fs::write(root.path().join("etc").join(name), text).unwrap();
        }
        Config::read(root.path())
    }

    #[test]
    fn files_become_parameters_and_later_ones_win() {
        assert_eq!(read(&[]).unwrap(), Config::default());
        let config = read(&[
            (
                "lastwords.conf",
                "[report]\nipmi-handle-panic = true\noutput-cpu-ip = true\noutput-log = \"4K\"\nbudget = 9\n\
                 [sign]\nkey = '/k'\ncert = '/c'\n",
            ),
            ("lastwords.conf.d/20.conf", "[report]\nbudget = 11\n[next-boot]\nmotd = false\n"),
            ("lastwords.conf.d/10.conf", "[report]\nbudget = 10\noutput-log = false\n"),
            ("lastwords.conf.d/30.conf~", "nonsense"),
        ])
        .unwrap();
        assert_eq!(
            config.parameters,
            "lastwords.ipmi_handle_panic lastwords.output_cpu_ip=sel,console lastwords.budget=11"
        );
        assert_eq!(config.sign.key, Some("/k".into()));
        assert!(!config.next_boot.motd);
    }

    #[test]
    fn the_bmcs_interface_and_the_console_are_settings() {
        let config = read(&[
            ("lastwords.conf", "[report]\nipmi-kcs-ports = \"0xca8,0xcac\"\nconsole = \"ttyS1,9600,vga\"\n"),
            (
                "lastwords.conf.d/10.conf",
                "[report]\nipmi-kcs-ports = false\nipmi-interface = \"ssif:i801:0x700,0x42\"\n",
            ),
        ]);
        assert_eq!(
            config.unwrap().parameters,
            "lastwords.ipmi_interface=ssif:i801:0x700,0x42 lastwords.console=ttyS1,9600,vga"
        );
    }

    #[test]
    fn a_file_that_would_hang_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(FILE)).unwrap();
        assert!(format!("{:#}", Config::read(root.path()).unwrap_err()).contains("not a regular file"));
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_file() {
        for (text, error) in [
            ("[report]\nipmi-handle-panik = true\n", "ipmi-handle-panik: no such setting"),
            ("[report]\nbudget = \"soon\"\n", "budget: takes"),
            ("[report]\nbudget = [1]\n", "budget: takes"),
            ("[report]\nserial = \"ttyS1\"\n", "console = \"ttyS0,115200\""),
            ("[report]\nconsole = \"a b\"\n", "console: takes no blanks"),
            ("[report]\nipmi-interface = \"0xca2\"\n", "ipmi-interface: takes kcs:"),
            ("[report]\nipmi-interface = \"bt:0xe4\"\nipmi-kcs-ports = \"0xca2\"\n", "give one of the two"),
            ("\n[report\n", "line 2: "),
            ("[sign]\nkey = '/k'\n", "key or cert"),
            ("[sign]\nkee = '/k'\n", "line 2: [sign] kee: no such setting"),
            ("[sign]\nkey = 7\n", "line 2: [sign] key: takes a text"),
            ("[next-boot]\nmotd = 'no'\n", "line 2: [next-boot] motd: takes true or false"),
            ("\n[sing]\n", "line 2: [sing]: no such section"),
            ("motd = true\n", "line 1: motd: stands in no section"),
            ("[report]\nbudget = 0x1_0000_0000_0000_0000\n", "budget: takes"),
        ] {
            let found = format!("{:#}", read(&[("lastwords.conf", text)]).unwrap_err());
            assert!(found.contains(error), "{found}");
        }
    }
}
