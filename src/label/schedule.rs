//! How the temperature of the search falls.

use serde::Serialize;

/// The published cooling schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// T0 / (1 + beta ln(1 + n)), n the accepted changes (the authors' code).
    #[default]
    Log,
    /// T0 / (1 + beta ln n), n the iteration (the paper).
    Paper,
    /// T0 * decay^n, n the accepted changes (the authors' code).
    Exp,
}

impl ScheduleKind {
    /// Returns the published beta: 2 in the code, 0.99 in the paper.
    pub fn default_beta(self) -> f64 {
        match self {
            Self::Log | Self::Exp => 2.0,
            Self::Paper => 0.99,
        }
    }
}

/// A cooling schedule with its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Schedule {
    /// Which formula.
    pub kind: ScheduleKind,
    /// Temperature at the start, in units of the score.
    pub initial: f64,
    /// Temperature never falls below this.
    pub last: f64,
    /// Speed of the logarithmic schedules.
    pub beta: f64,
    /// Factor per accepted change of the exponential schedule.
    pub decay: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        let kind = ScheduleKind::default();
        Self { kind, initial: 10.0, last: 0.01, beta: kind.default_beta(), decay: 0.99 }
    }
}

impl Schedule {
    /// Returns the temperature at `iteration` (from 1) after `num_accepted` accepted changes.
    ///
    /// # Source
    /// Wen et al. 2025, Algorithm 1 (`Paper`) and the authors' code (`Log`, `Exp`).
    pub fn temperature(&self, iteration: u64, num_accepted: u64) -> f64 {
        let accepted = num_accepted as f64;
        let falling = match self.kind {
            ScheduleKind::Log => self.initial / (1.0 + self.beta * accepted.ln_1p()),
            ScheduleKind::Paper => {
                self.initial / (1.0 + self.beta * (iteration.max(1) as f64).ln())
            }
            ScheduleKind::Exp => self.initial * self.decay.powf(accepted),
        };
        falling.max(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 5e-4, "{a} is not {b}");
    }

    #[test]
    fn temperatures_by_hand() {
        let log = Schedule::default();
        close(log.temperature(77, 0), 10.0);
        close(log.temperature(77, 1), 4.1906); // 10 / (1 + 2 * 0.6931)
        close(log.temperature(77, 9), 1.7839); // 10 / (1 + 2 * 2.3026)
        let paper = Schedule { kind: ScheduleKind::Paper, beta: 0.99, ..log };
        close(paper.temperature(1, 50), 10.0);
        close(paper.temperature(10, 50), 3.0492); // 10 / (1 + 0.99 * 2.3026)
        let exp = Schedule { kind: ScheduleKind::Exp, ..log };
        close(exp.temperature(1, 0), 10.0);
        close(exp.temperature(500, 1), 9.9);
        close(exp.temperature(500, 100), 3.6603); // 10 * 0.99^100
        close(exp.temperature(5000, 5000), 0.01);
        // 7 changes accepted in 60 iterations: 10 * 0.9^7, and not 10 * 0.9^60 = 0.018.
        close(Schedule { decay: 0.9, ..exp }.temperature(60, 7), 4.7830);
    }
}
