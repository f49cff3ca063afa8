//! [`Window`]: the time-weighted trailing average of a gauge.

use std::collections::VecDeque;

/// The window is kept in at most about twice this many pieces, however often the gauge is read.
const PIECES: i64 = 64;

/// A stretch of time with what is known of it.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Unix nanoseconds.
    start: i64,
    end: i64,
    /// Nanoseconds of it in which the gauge was known; less than its length where it has gaps.
    known: i64,
    /// The gauge integrated over that time.
    area: f64,
}

/// Averages a gauge over the last `span` nanoseconds, weighted by time. Between two readings the gauge is taken to move
/// in a straight line; time between readings that are not two ends of one interval is unknown and has no weight.
#[derive(Clone, Debug)]
pub(super) struct Window {
    span: i64,
    pieces: VecDeque<Piece>,
    /// Time and value of the last reading, unless a gap has begun.
    last: Option<(i64, f64)>,
}

impl Window {
    /// An empty one of `span` nanoseconds.
    pub(super) fn new(span: i64) -> Self {
        Self { span, pieces: VecDeque::new(), last: None }
    }

    /// Goes on with what another window has seen.
    pub(super) fn adopt(&mut self, old: Self) {
        let span = self.span;
        *self = Self { span, ..old };
    }

    /// What comes next is not the other end of an interval that has begun.
    pub(super) fn gap(&mut self) {
        self.last = None;
    }

    /// Forgets everything: the clock went back.
    pub(super) fn clear(&mut self) {
        self.last = None;
        self.pieces.clear();
    }

    /// Takes a reading at `time` and gives the average up to it. With nothing known before, that is the value itself.
    pub(super) fn observe(&mut self, time: i64, value: f64) -> f64 {
        if let Some((since, before)) = self.last
            && time > since
        {
            let known = time - since;
            self.add(Piece {
                start: since,
                end: time,
                known,
                area: f64::midpoint(before, value) * known as f64,
            });
        }
        self.last = Some((time, value));
        let from = time.saturating_sub(self.span);
        while self.pieces.front().is_some_and(|piece| piece.end <= from) {
            self.pieces.pop_front();
        }
        let (mut area, mut known) = (0.0, 0.0);
        for piece in &self.pieces {
            // Only the oldest piece can reach out of the window.
            let outside = (from - piece.start).max(0) as f64;
            let share = 1.0 - outside / (piece.end - piece.start) as f64;
            area += piece.area * share;
            known += piece.known as f64 * share;
        }
        if known > 0.0 { area / known } else { value }
    }

    fn add(&mut self, next: Piece) {
        match self.pieces.back_mut() {
            Some(last) if next.end - last.start <= self.span / PIECES => {
                last.end = next.end;
                last.known += next.known;
                last.area += next.area;
            }
            _ => self.pieces.push_back(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn window(seconds: i64) -> Window {
        Window::new(seconds * SECOND)
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }

    #[test]
    fn a_late_start_averages_what_is_known() {
        let mut window = window(60);
        close(window.observe(0, 100.0), 100.0);
        close(window.observe(10 * SECOND, 200.0), 150.0);
        close(window.observe(20 * SECOND, 200.0), 175.0);
    }

    #[test]
    fn what_is_older_than_the_window_has_no_weight() {
        let mut window = window(60);
        window.observe(0, 1e9);
        window.observe(SECOND, 100.0);
        for second in 2..=61 {
            window.observe(second * SECOND, 100.0);
        }
        close(window.observe(62 * SECOND, 100.0), 100.0);
    }

    /// Readings at uneven distances weigh by the time that they stand for.
    #[test]
    fn weights_are_times() {
        let mut window = window(100);
        window.observe(0, 0.0);
        window.observe(SECOND, 0.0);
        window.observe(SECOND + 1, 100.0);
        close((window.observe(100 * SECOND, 100.0) * 100.0).round(), 9900.0);
    }

    #[test]
    fn a_gap_has_no_weight_and_a_clock_that_goes_back_starts_anew() {
        let mut window = window(60);
        window.observe(0, 10.0);
        window.observe(10 * SECOND, 10.0);
        window.gap();
        // 20 seconds of nothing, in which the gauge went to 30.
        close(window.observe(30 * SECOND, 30.0), 10.0);
        close(window.observe(40 * SECOND, 30.0), 20.0);
        window.clear();
        close(window.observe(5 * SECOND, 7.0), 7.0);
        // The same moment twice is no interval.
        close(window.observe(5 * SECOND, 9.0), 9.0);
    }

    #[test]
    fn memory_is_bounded_and_merged_pieces_stay_right() {
        let mut window = window(3600);
        let mut last = 0.0;
        for second in 0..20_000i64 {
            if second % 7 == 3 {
                window.gap();
            }
            // A straight line: its average over the last hour is its value half an hour ago.
            last = window.observe(second * SECOND, second as f64);
        }
        assert!(window.pieces.len() <= 2 * PIECES as usize + 2, "{}", window.pieces.len());
        let exact = 19_999.0 - 1800.0;
        assert!((last - exact).abs() < 30.0, "{last} is far from {exact}");
    }
}
