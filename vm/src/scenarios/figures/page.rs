//! The page that `make bench` writes: docs/performance.md, with its plots beside it.

use super::plot::{Line, plot};
use super::table::{Aim, table};
use anyhow::Result;
use std::fs;
use std::path::PathBuf;

/// What stands above everything.
const HEAD: &str = "# Performance

<!-- `make bench` writes this page, and the plots. -->

`make bench` measures all figures of this page in one run, beside the stock tools. It fails when an aim is missed.

";

/// The page, as far as it is written.
#[derive(Debug)]
pub struct Page {
    /// Where it goes.
    pub folder: PathBuf,
    /// Its aims so far.
    pub aims: Vec<Aim>,
    text: String,
}

impl Page {
    /// An empty one.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, aims: Vec::new(), text: String::new() }
    }

    /// A heading and a text.
    pub fn section(&mut self, title: &str, text: &str) {
        self.text += "## ";
        self.paragraph(title);
        self.paragraph(text);
    }

    /// More text.
    pub fn paragraph(&mut self, text: &str) {
        self.text += text;
        self.text += "\n\n";
    }

    /// A table, which the terminal gets at once.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let table = table(head, rows);
        println!("{table}");
        self.paragraph(table.trim_end());
    }

    /// A plot over logarithmic axes, in the file `performance-NAME.svg`: what is shown, what goes across,
    /// with labels at these places, and what goes up.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn plot(
        &mut self,
        name: &str,
        title: &str,
        across: (&str, &[f64]),
        up: &str,
        lines: &[Line],
    ) -> Result<()> {
        let file = format!("performance-{name}.svg");
        plot(&self.folder.join(&file), title, across, up, lines)?;
        self.paragraph(&format!(
            "![{title}: {up} over {}; the table has the same figures]({file})",
            across.0
        ));
        Ok(())
    }

    /// Writes it, and says whether all aims hold.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<bool> {
        let aims = Aim::table(&self.aims);
        println!("{aims}");
        fs::write(
            self.folder.join("performance.md"),
            format!("{HEAD}{}", format!("## Aims\n\n{aims}\n{}", self.text).trim_end()) + "\n",
        )?;
        Ok(self.aims.iter().all(Aim::holds))
    }
}
