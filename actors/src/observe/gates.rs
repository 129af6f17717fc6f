//! What gates count, by concert, for as long as they serve here.

use std::sync::Arc;

use engine::gate::Load;
use engine::{ConcertId, Span};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConcertLabels {
    concert: u64,
}

/// Of every gate of the process.
#[derive(Debug)]
pub(super) struct GateMetrics {
    waiting: Family<ConcertLabels, Gauge>,
    active: Family<ConcertLabels, Gauge>,
    unmirrored: Family<ConcertLabels, Gauge>,
    admitted: Family<ConcertLabels, Counter>,
    wait_seconds: Histogram,
}

impl Default for GateMetrics {
    fn default() -> Self {
        let (waiting, active, unmirrored, admitted) = Default::default();
        Self { waiting, active, unmirrored, admitted, wait_seconds: minutes() }
    }
}

/// Bounds from a second to a day.
fn minutes() -> Histogram {
    Histogram::new([1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0, 10_800.0, 36_000.0, 86_400.0])
}

impl GateMetrics {
    #[rustfmt::skip]
    pub fn register(&self, r: &mut Registry) {
        r.register("gate_waiting", "People in line, those away included", self.waiting.clone());
        r.register("gate_active", "Live passes", self.active.clone());
        r.register("gate_unmirrored", "Changes of the line that a crash would lose", self.unmirrored.clone());
        r.register("gate_admitted", "People let in", self.admitted.clone());
        r.register_with_unit("gate_wait", "From joining to being let in", Unit::Seconds, self.wait_seconds.clone());
    }
}

/// One gate's, for as long as it serves here.
#[derive(Debug)]
pub struct GateGauges {
    metrics: Metrics,
    labels: ConcertLabels,
    waiting: Gauge,
    active: Gauge,
    unmirrored: Gauge,
    admitted: Counter,
}

impl GateGauges {
    #[must_use]
    pub fn new(metrics: &Metrics, concert: ConcertId) -> Arc<Self> {
        let labels = ConcertLabels { concert: concert.0 };
        let gates = &metrics.0.gates;
        Arc::new(Self {
            waiting: gates.waiting.get_or_create_owned(&labels),
            active: gates.active.get_or_create_owned(&labels),
            unmirrored: gates.unmirrored.get_or_create_owned(&labels),
            admitted: gates.admitted.get_or_create_owned(&labels),
            metrics: metrics.clone(),
            labels,
        })
    }

    pub fn show(&self, load: Load) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.waiting.set(number(load.waiting as u64));
        self.active.set(number(load.passes as u64));
        self.unmirrored.set(number(load.unmirrored));
    }

    /// Somebody was let in; how long they waited is not known of those who joined before a restore.
    pub fn admitted(&self, waited: Option<Span>) {
        self.admitted.inc();
        if let Some(waited) = waited {
            #[expect(clippy::cast_precision_loss, reason = "shown in seconds")]
            self.metrics.0.gates.wait_seconds.observe(waited.0 as f64 / 1e6);
        }
    }
}

impl Drop for GateGauges {
    /// The counter stays: it goes on where the gate serves here again.
    fn drop(&mut self) {
        let gates = &self.metrics.0.gates;
        gates.waiting.remove(&self.labels);
        gates.active.remove(&self.labels);
        gates.unmirrored.remove(&self.labels);
    }
}
