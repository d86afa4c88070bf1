//! The configuration: /etc/lastwords.conf (TOML), and /etc/lastwords.conf.d/*.conf over it in the order of their names. What
//! is reported has the names of `lastwords load`'s options, read by the same table of parameters.

use crate::arm::file;
use anyhow::{Context, Result, anyhow, bail, ensure};
use lastwords_core::plan::{PARAMETERS, PREFIX, Plan};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sign {
    /// Private key (PEM or DER).
    pub key: Option<PathBuf>,
    /// Its certificate (PEM or DER).
    pub cert: Option<PathBuf>,
    /// A shell command that signs `$IN` and writes `$OUT`.
    pub command: Option<String>,
}

/// `[next-boot]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NextBoot {
    /// A line in the message of the day until `lastwords list --seen`.
    pub motd: bool,
}

impl Default for NextBoot {
    fn default() -> Self {
        Self { motd: true }
    }
}

/// One file as it stands.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    report: BTreeMap<String, toml::Value>,
    sign: toml::Table,
    #[serde(rename = "next-boot")]
    next_boot: toml::Table,
}

impl Config {
    /// Reads all files. One that is not there has no lines.
    ///
    /// # Errors
    /// When a file cannot be read or has something that is not understood, with its name and line.
    pub fn read(root: &Path) -> Result<Self> {
        let mut whole = File::default();
        for path in files(root)? {
            let text = match file::read_text(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result.with_context(|| path.display().to_string())?,
            };
            let file: File = toml::from_str(&text)
                .map_err(|error| {
                    let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
                    anyhow!("line {line}: {}", error.message())
                })
                .and_then(|file: File| file.check().map(|()| file))
                .with_context(|| path.display().to_string())?;
            whole.report.extend(file.report);
            whole.sign.extend(file.sign);
            whole.next_boot.extend(file.next_boot);
        }
        whole.config()
    }
}

impl File {
    fn check(&self) -> Result<()> {
        for (name, value) in &self.report {
            parameter(name, value)?;
        }
        Ok(())
    }

    fn config(self) -> Result<Config> {
        // In the table's order, whatever the files have.
        let parameters: Vec<_> = PARAMETERS
            .iter()
            .filter_map(|one| {
                let (name, value) = self.report.get_key_value(key(one))?;
                parameter(name, value).transpose()
            })
            .collect::<Result<_>>()?;
        let sign: Sign = self.sign.try_into().context("[sign]")?;
        ensure!(
            sign.key.is_some() == sign.cert.is_some(),
            "[sign] has key or cert without the other\nhint: give both, or neither"
        );
        ensure!(
            sign.key.is_none() || sign.command.is_none(),
            "[sign] has key and command\nhint: give one of the two"
        );
        Ok(Config {
            parameters: parameters.join(" "),
            sign,
            next_boot: self.next_boot.try_into().context("[next-boot]")?,
        })
    }
}

/// A parameter's key: its option's name, or its own.
pub fn key(parameter: &lastwords_core::plan::Parameter) -> &'static str {
    parameter.option.unwrap_or(parameter.name)
}

/// A line of `[report]` as a parameter; `None` where it is switched off.
fn parameter(name: &str, value: &toml::Value) -> Result<Option<String>> {
    let Some(parameter) = PARAMETERS.iter().find(|one| key(one) == name) else {
        bail!(
            "[report] {name}: no such setting\nhint: the settings are the reporting options of lastwords load"
        );
    };
    let text = match value {
        toml::Value::Boolean(false) => return Ok(None),
        toml::Value::Boolean(true) => None,
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::String(text) => Some(text.clone()),
        _ => bail!("[report] {name}: takes true, false, a number or a text"),
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
            ("[report]\nserial = \"a b\"\n", "serial"),
            ("\n[report\n", "line 2: "),
            ("[sign]\nkey = '/k'\n", "key or cert"),
            ("[sign]\nkee = '/k'\n", "unknown field"),
            ("[sing]\n", "unknown field"),
        ] {
            let found = format!("{:#}", read(&[("lastwords.conf", text)]).unwrap_err());
            assert!(found.contains(error), "{found}");
        }
    }
}
