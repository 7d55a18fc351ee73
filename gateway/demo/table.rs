//! The table that `demo --check` prints.

use super::story::Row;

/// The rows as a table, and a line that counts them.
pub fn render(rows: &[Row]) -> String {
    let heads = ["", "sent", "expected", "came", "the backend saw"];
    let mut lines = vec![heads.map(str::to_owned)];
    for row in rows {
        let mark = if row.good { "ok" } else { "FAULT" };
        lines.push([
            mark.to_owned(),
            row.sent.to_owned(),
            row.expected.clone(),
            row.came.clone(),
            row.saw.clone(),
        ]);
    }
    let mut widths = [0; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        if number == 0 {
            text.push_str(&"-".repeat(widths.iter().sum::<usize>() + 8));
            text.push('\n');
        }
    }
    let faults = rows.iter().filter(|row| !row.good).count();
    text.push_str(&match faults {
        0 => format!("\n{} requests, all as expected\n", rows.len()),
        faults => format!("\n{} requests, {faults} NOT as expected\n", rows.len()),
    });
    text
}

/// Names in a row, or a word for none.
pub fn listed(names: &[&str]) -> String {
    match names.is_empty() {
        true => "empty".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_not_as_expected_is_marked_and_counted() {
        let row = |good| Row {
            sent: "x",
            expected: "200 allowed".to_owned(),
            came: "401 token-missing".to_owned(),
            saw: "nothing".to_owned(),
            good,
        };
        assert!(render(&[row(true)]).ends_with("1 requests, all as expected\n"));
        let text = render(&[row(true), row(false)]);
        assert!(text.contains("FAULT  x"), "{text}");
        assert!(text.ends_with("2 requests, 1 NOT as expected\n"), "{text}");
    }
}
