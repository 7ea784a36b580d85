//! Tables on stdout: cells padded so that columns stand under each other.

/// Returns the lines of a table whose columns are two blanks apart; those named in `right` are flush
/// right. No line ends in blanks.
pub fn aligned(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let num_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let len = |cell: &String| cell.chars().count();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..num_columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let blanks = " ".repeat(widths[column] - len(cell));
            let (before, after) = if right.contains(&column) {
                (blanks, String::new())
            } else {
                (String::new(), blanks)
            };
            line += &format!("{}{before}{cell}{after}", if column > 0 { "  " } else { "" });
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Returns the text, or a dash for none.
pub fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows: Vec<Vec<String>> = vec![row(&["a", "9", "x"]), row(&["\u{e4}bc", "10", ""])];
        assert_eq!(aligned(&rows, &[1]), ["a     9  x", "\u{e4}bc  10"]);
        assert!(aligned(&[], &[]).is_empty());
    }
}
