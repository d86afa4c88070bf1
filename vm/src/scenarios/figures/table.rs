//! Tables, as Markdown, which is what the terminal gets, too; and that of aims.

use std::fmt::Write as _;

/// What a figure may be at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Most {
    /// So much.
    Is(f64),
    /// This part of an anchor, which was measured in the same run.
    Part(f64, &'static str, f64),
    /// So many times an anchor.
    Times(f64, &'static str, f64),
}

/// A figure that has an aim.
#[derive(Clone, Debug)]
pub struct Aim {
    /// Of what.
    pub what: String,
    /// The figure.
    pub figure: f64,
    /// Its unit, and the anchor's.
    pub unit: &'static str,
    /// What it may be at most. A part's divisor, name and figure; times' factor, name and figure.
    pub most: Most,
}

impl Aim {
    /// Is it reached?
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.most {
            Most::Is(most) => self.figure <= most,
            Most::Part(divisor, _, anchor) => self.figure * divisor <= anchor,
            Most::Times(factor, _, anchor) => self.figure <= factor * anchor,
        }
    }

    fn row(&self) -> Vec<String> {
        let (figure, unit) = (number(self.figure), self.unit);
        let anchored = |name, anchor| format!("{name}: {} {unit}", number(anchor));
        let (anchor, ratio, aim) = match self.most {
            Most::Is(most) => (String::new(), String::new(), format!("{} {unit}", number(most))),
            Most::Part(divisor, name, anchor) => {
                (anchored(name, anchor), format!("1/{:.1}", anchor / self.figure), format!("1/{divisor}"))
            }
            Most::Times(factor, name, anchor) => {
                (anchored(name, anchor), format!("{:.2}", self.figure / anchor), number(factor))
            }
        };
        let holds = if self.holds() { "yes" } else { "NO" };
        [self.what.clone(), format!("{figure} {unit}"), anchor, ratio, aim, holds.to_owned()].to_vec()
    }

    /// The table of some.
    #[must_use]
    pub fn table(aims: &[Self]) -> String {
        let rows: Vec<_> = aims.iter().map(Self::row).collect();
        table(&["what", "figure", "anchor", "ratio", "at most", "holds"], &rows)
    }
}

/// A number with three significant digits or more, and thousands apart.
#[must_use]
pub fn number(number: f64) -> String {
    let digits = match number {
        _ if number >= 100.0 || number.fract() == 0.0 => 0,
        _ if number >= 10.0 => 1,
        _ if number >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{number:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((&*text, None), |(whole, rest)| (whole, Some(rest)));
    let mut apart = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            apart.push(',');
        }
        apart.push(digit);
    }
    fraction.map_or(apart.clone(), |fraction| format!("{apart}.{fraction}"))
}

/// A table with this head, its columns as wide as their widest cell.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let wide = |column: usize| {
        let cells = rows.iter().chain([&head]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(wide).collect();
    let mut text = String::new();
    let mut line = |row: &[String], fill: char| {
        for (cell, width) in row.iter().zip(&widths) {
            let pad = width - cell.chars().count();
            let _ = write!(text, "| {cell}{} ", fill.to_string().repeat(pad));
        }
        text.push_str("|\n");
    };
    line(&head, ' ');
    line(&vec![String::new(); head.len()], '-');
    for row in rows {
        line(row, ' ');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aim(figure: f64, most: Most) -> Aim {
        Aim { what: "loading".to_owned(), figure, unit: "M", most }
    }

    #[test]
    fn an_aim_is_reached_up_to_its_limit() {
        for (at, above, most) in [
            (20.0, 20.1, Most::Is(20.0)),
            (10.0, 10.1, Most::Part(10.0, "kexec", 100.0)),
            (44.0, 44.1, Most::Times(4.4, "a quarter", 10.0)),
        ] {
            assert!(aim(at, most).holds());
            assert!(!aim(above, most).holds());
        }
    }

    #[test]
    fn a_row_has_figure_anchor_ratio_and_aim() {
        let aims = [aim(4.0, Most::Part(50.0, "kexec -c", 7200.0)), aim(2.5, Most::Is(2.0))];
        let text = "| what    | figure | anchor            | ratio    | at most | holds |\n\
                    | ------- | ------ | ----------------- | -------- | ------- | ----- |\n\
                    | loading | 4 M    | kexec -c: 7,200 M | 1/1800.0 | 1/50    | yes   |\n\
                    | loading | 2.50 M |                   |          | 2 M     | NO    |\n";
        assert_eq!(Aim::table(&aims), text);
    }

    #[test]
    fn numbers_can_be_read() {
        for (value, text) in
            [(1234567.8, "1,234,568"), (45.678, "45.7"), (2.0, "2"), (1.234, "1.23"), (0.05, "0.050")]
        {
            assert_eq!(number(value), text);
        }
    }
}
