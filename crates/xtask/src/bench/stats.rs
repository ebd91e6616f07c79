//! Medians and their intervals, without assumptions about a distribution.

/// The median of `values` and an interval that holds it with at least 95 % confidence if there are six values or more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Order statistics: how many values lie below the median is binomial, whatever the distribution.
pub fn interval(values: &[f64]) -> Interval {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let dropped = droppable(sorted.len());
    let ends = sorted.get(dropped).zip(sorted.get(sorted.len().wrapping_sub(dropped + 1)));
    let (low, high) = ends.map_or((f64::NAN, f64::NAN), |(low, high)| (*low, *high));
    Interval { median: median(values), low, high }
}

/// How many values of `n` may be dropped at each end while the rest covers the median at 95 %.
fn droppable(n: usize) -> usize {
    let mut tail = 0.0;
    let mut term = 0.5f64.powi(n as i32);
    let mut dropped = 0;
    for k in 0..n / 2 {
        tail += term;
        if 2.0 * tail > 0.05 {
            break;
        }
        dropped = k;
        term *= (n - k) as f64 / (k + 1) as f64;
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_pairs_need_all_and_eleven_may_drop_one() {
        assert_eq!([1, 5, 7, 9, 11, 15].map(droppable), [0, 0, 0, 1, 1, 3]);
    }

    #[test]
    fn the_interval_is_made_of_measured_values() {
        let interval = interval(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(interval, Interval { median: 3.0, low: 1.0, high: 5.0 });
    }
}
