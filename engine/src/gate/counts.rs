//! Counts by number, and their sums: what stands before a number, in logarithmic time.
//!
//! A binary indexed tree (Fenwick: "A new data structure for cumulative frequency tables", 1994). It grows by
//! doubling, and its length is a power of two, so that the first number that counts anything is found by
//! walking down.

/// Counts of 0, 1, 2, …; none is negative.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Node `i`, from 1, holds the sum of the `i & -i` counts that end with number `i - 1`.
    nodes: Vec<u32>,
}

impl Counts {
    pub fn add(&mut self, number: usize, count: u32) {
        self.reach(number);
        let mut node = number + 1;
        while node < self.nodes.len() {
            self.nodes[node] += count;
            node += node & node.wrapping_neg();
        }
    }

    /// Takes back what was added.
    pub fn subtract(&mut self, number: usize, count: u32) {
        let mut node = number + 1;
        while node < self.nodes.len() {
            self.nodes[node] -= count;
            node += node & node.wrapping_neg();
        }
    }

    /// The sum of all counts before `number`.
    #[must_use]
    pub fn before(&self, number: usize) -> u32 {
        let mut node = number.min(self.nodes.len().saturating_sub(1));
        let mut sum = 0;
        while node > 0 {
            sum += self.nodes[node];
            node &= node - 1;
        }
        sum
    }

    #[must_use]
    pub fn total(&self) -> u32 {
        self.nodes.last().copied().unwrap_or(0)
    }

    /// The first number whose count is not zero.
    #[must_use]
    pub fn first(&self) -> Option<usize> {
        if self.total() == 0 {
            return None;
        }
        let mut step = self.nodes.len() - 1;
        let mut node = 0;
        while step > 1 {
            step /= 2;
            if self.nodes[node + step] == 0 {
                node += step;
            }
        }
        Some(node)
    }

    fn reach(&mut self, number: usize) {
        if self.nodes.is_empty() {
            self.nodes = vec![0; 2];
        }
        while number + 1 >= self.nodes.len() {
            let total = self.total();
            let last = 2 * (self.nodes.len() - 1);
            self.nodes.resize(last + 1, 0);
            self.nodes[last] = total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::mix;

    #[test]
    fn agrees_with_a_vector() {
        let (mut counts, mut twin) = (Counts::default(), Vec::new());
        assert_eq!((counts.first(), counts.total(), counts.before(9)), (None, 0, 0));
        for round in 0..5_000u64 {
            let draw = mix(round);
            let number = usize::try_from(draw % (1 + round / 20)).unwrap();
            if number >= twin.len() {
                twin.resize(number + 1, 0u32);
            }
            if draw >> 62 == 0 {
                counts.add(number, 3);
                twin[number] += 3;
            } else {
                let most = twin[number];
                counts.subtract(number, most);
                twin[number] = 0;
            }
            assert_eq!(counts.before(number), twin[..number].iter().sum());
            assert_eq!(counts.total(), twin.iter().sum());
            assert_eq!(counts.first(), twin.iter().position(|count| *count > 0));
        }
    }
}
