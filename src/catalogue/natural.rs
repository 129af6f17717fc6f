//! The natural order of labels: `A-2` before `A-10`, row 9 before row 10.

use std::cmp::Ordering;

/// Compares runs of digits by their value and everything else by its bytes. Labels that differ only in
/// leading zeros (`7`, `07`) are told apart by length and then by bytes, so that the order is total and
/// equal means identical.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    by_value(left.as_bytes(), right.as_bytes())
        .then_with(|| left.len().cmp(&right.len()))
        .then_with(|| left.cmp(right))
}

fn by_value(mut left: &[u8], mut right: &[u8]) -> Ordering {
    loop {
        match (left, right) {
            ([], []) => return Ordering::Equal,
            ([], _) => return Ordering::Less,
            (_, []) => return Ordering::Greater,
            ([l, ..], [r, ..]) if l.is_ascii_digit() && r.is_ascii_digit() => {
                let (left_number, left_rest) = split_number(left);
                let (right_number, right_rest) = split_number(right);
                // Without leading zeros the longer number is the greater one, however long it is.
                let order =
                    (left_number.len().cmp(&right_number.len())).then_with(|| left_number.cmp(right_number));
                if order.is_ne() {
                    return order;
                }
                (left, right) = (left_rest, right_rest);
            }
            ([l, left_rest @ ..], [r, right_rest @ ..]) => {
                if l != r {
                    return l.cmp(r);
                }
                (left, right) = (left_rest, right_rest);
            }
        }
    }
}

/// The leading digits without their leading zeros, and what follows the digits.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    let zeros = number.iter().take_while(|byte| **byte == b'0').count();
    (&number[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_count_this_way() {
        let sorted = [
            "", "1", "2", "9", "10", "010", "A", "A-2", "A-10", "A-10-1", "A-10-2", "A-10-10", "B-1", "Z10",
            "a1", "row 9", "row 10", "Ä1",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        let long = "9".repeat(60);
        assert_eq!(compare(&long, &format!("1{long}")), Ordering::Less, "numbers of any length");
    }

    fn label() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof!["[0-9]{1,3}", "0{1,2}", "[A-C]", "-", " ", "\\PC"].prop_map(|s: String| s),
            0..5,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Antisymmetric, transitive, and equal only where identical.
        #[test]
        fn the_order_is_total(a in label(), b in label(), c in label()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &b).is_eq(), a == b);
            let mut three = [&a, &b, &c];
            three.sort_by(|l, r| compare(l, r));
            prop_assert!(compare(three[0], three[1]).is_le());
            prop_assert!(compare(three[1], three[2]).is_le());
            prop_assert!(compare(three[0], three[2]).is_le());
        }
    }
}
