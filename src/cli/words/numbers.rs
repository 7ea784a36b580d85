//! Numbers as people say them.

/// Returns seconds as people say them.
pub(in crate::cli) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {:02} min", s as u64 / 3600, s as u64 % 3600 / 60),
    }
}

/// Returns a count with separators: 12,345.
pub(in crate::cli) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a share in percent.
pub(in crate::cli) fn percent(x: f64) -> f64 {
    100.0 * x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [0, 999, 1000, 1234567].map(count),
            ["0", "999", "1,000", "1,234,567"].map(String::from)
        );
        assert_eq!(duration(5.24), "5.2 s");
        assert_eq!(duration(125.9), "2 min 05 s");
        assert_eq!(duration(7380.0), "2 h 03 min");
    }
}
