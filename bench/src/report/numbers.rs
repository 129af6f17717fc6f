//! Numbers as people read them.

/// What stands where there is no number.
pub const NONE: &str = "–";

/// `41,200`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// With so many digits behind the point: `9,812.0`.
pub fn fixed(number: f64, decimals: usize) -> String {
    if !number.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{:.decimals$}", number.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    // More digits than a u64 holds are shown as they are.
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), count);
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.'));
    let sign = if number < 0.0 && !is_zero { "−" } else { "" };
    format!("{sign}{whole}{rest}")
}

/// With so many digits that mean something, and no more than 3 behind the point: `0.412`, `2.10`, `9,812`.
pub fn significant(number: f64, digits: usize) -> String {
    let mut tens = number.abs();
    let mut decimals = digits.saturating_sub(1);
    while tens >= 10.0 && decimals > 0 {
        tens /= 10.0;
        decimals -= 1;
    }
    while tens < 1.0 && tens > 0.0 && decimals < 3 {
        tens *= 10.0;
        decimals += 1;
    }
    fixed(number, if number == 0.0 { 0 } else { decimals })
}

/// Milliseconds, without the unit.
pub fn millis(millis: f64) -> String {
    significant(millis, 3)
}

/// A rate, without the unit: `9,812`, `41.2`.
pub fn rate(per_second: f64) -> String {
    significant(per_second, 3)
}

/// With the unit that fits: `12.0 s`, `2 min 05 s`.
pub fn seconds(seconds: f64) -> String {
    if seconds.is_finite() && seconds >= 119.95 {
        let whole = fixed((seconds / 60.0).floor(), 0);
        return format!("{whole} min {:02.0} s", (seconds % 60.0).floor());
    }
    format!("{} s", fixed(seconds, 1))
}

/// `4.2 GB`, in powers of ten.
#[expect(clippy::cast_precision_loss, reason = "a size for people")]
pub fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB"] {
        if size < 1_000.0 {
            break;
        }
        size /= 1_000.0;
        unit = larger;
    }
    format!("{} {unit}", significant(size, 3))
}

/// `1 seat`, `2 seats`.
pub fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (41_200, "41,200")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(counted(1, "seat"), "1 seat");
        assert_eq!(counted(1_500, "seat"), "1,500 seats");
    }

    #[test]
    fn digits_that_mean_something() {
        let cases = [
            (0.0, "0"),
            (0.000_4, "0.000"),
            (0.004_12, "0.004"),
            (0.0412, "0.041"),
            (0.412, "0.412"),
            (2.1, "2.10"),
            (21.04, "21.0"),
            (210.4, "210"),
            (9_812.4, "9,812"),
            (-2.1, "−2.10"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ];
        for (number, text) in cases {
            assert_eq!(significant(number, 3), text, "{number}");
        }
        assert_eq!(fixed(1e30, 0), "1000000000000000019884624838656");
        assert_eq!(fixed(-0.001, 2), "0.00");
    }

    #[test]
    fn spans_and_sizes_have_units() {
        assert_eq!(seconds(12.04), "12.0 s");
        assert_eq!(seconds(125.9), "2 min 05 s");
        assert_eq!(seconds(119.97), "1 min 59 s");
        assert_eq!(seconds(f64::NAN), "– s");
        assert_eq!(bytes(12), "12.0 B");
        assert_eq!(bytes(4_200_000_000), "4.20 GB");
    }
}
