//! Logs and metrics: set-up, and every metric's name, once. A leaf: anybody may use it.
//!
//! Metrics are OpenTelemetry instruments. They go out over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` (or its metrics
//! variant) is set, and cost next to nothing otherwise. There is no span and no info log per frame.

use std::sync::LazyLock;

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use std::time::Duration;

/// Flushes and ends what [`init`] began when it is dropped.
pub struct Guard {
    metrics: Option<SdkMeterProvider>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Text,
    Json,
}

/// Sets up logging to standard error (`RUST_LOG` filters, `filter` if it is not set) and, if an OTLP endpoint is
/// configured by the standard variables, the export of metrics. Must be called within the runtime: the exporter lives on it.
pub fn init(format: Format, filter: &str) -> Result<Guard, ObserveError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let registry = tracing_subscriber::registry().with(filter);
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let result = match format {
        Format::Json => registry.with(to_stderr.json()).try_init(),
        Format::Text => registry.with(to_stderr).try_init(),
    };
    result.map_err(|error| ObserveError(error.to_string()))?;
    let metrics = if otlp_is_configured() { Some(otlp_metrics()?) } else { None };
    Ok(Guard { metrics })
}

/// The log or the exporter cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up observation: {0}")]
pub struct ObserveError(String);

impl Drop for Guard {
    /// Sends what is left. Blocks for a moment: drop it where blocking is allowed.
    fn drop(&mut self) {
        if let Some(metrics) = self.metrics.take()
            && let Err(error) = metrics.shutdown()
        {
            tracing::warn!(%error, "last metrics not exported");
        }
    }
}

/// `pileway.frames.received` by type.
pub fn frame_received(name: &'static str) {
    METRICS.frames_received.add(1, &[KeyValue::new("frame", name)]);
}

/// `pileway.frames.sent` by type.
pub fn frame_sent(name: &'static str) {
    METRICS.frames_sent.add(1, &[KeyValue::new("frame", name)]);
}

/// `pileway.frames.refused` by reason.
pub fn frame_refused(reason: &'static str) {
    METRICS.frames_refused.add(1, &[KeyValue::new("reason", reason)]);
}

/// `pileway.frames.swapped_crc`: valid frames with their CRC high byte first.
pub fn swapped_crc() {
    METRICS.swapped_crc.add(1, &[]);
}

/// `pileway.logins` by result.
pub fn login(result: &'static str) {
    METRICS.logins.add(1, &[KeyValue::new("result", result)]);
}

/// `pileway.authorisation.duration` in seconds by how it is decided and result: who may charge with a card or a VIN.
pub fn authorisation(mode: &'static str, result: &'static str, took: Duration) {
    let labels = [KeyValue::new("mode", mode), KeyValue::new("result", result)];
    METRICS.authorisation_duration.record(took.as_secs_f64(), &labels);
}

/// `pileway.admission.duration` in seconds by how it is decided and result: which piles may log in.
pub fn admission(mode: &'static str, result: &'static str, took: Duration) {
    let labels = [KeyValue::new("mode", mode), KeyValue::new("result", result)];
    METRICS.admission_duration.record(took.as_secs_f64(), &labels);
}

/// `pileway.claims` by what for and result.
pub fn claim(purpose: &'static str, result: &'static str) {
    METRICS.claims.add(1, &[KeyValue::new("for", purpose), KeyValue::new("result", result)]);
}

/// `pileway.takeovers` by where the session was that had to end: `here` or `elsewhere`.
pub fn takeover(from: &'static str) {
    METRICS.takeovers.add(1, &[KeyValue::new("from", from)]);
}

/// `pileway.sessions` by state: one more, or one less.
pub fn sessions(state: &'static str, change: i64) {
    METRICS.sessions.add(change, &[KeyValue::new("state", state)]);
}

/// `pileway.sessions.ended` by reason.
pub fn session_ended(reason: &'static str) {
    METRICS.sessions_ended.add(1, &[KeyValue::new("reason", reason)]);
}

/// `pileway.settlements` by outcome.
pub fn settlement(outcome: &'static str) {
    METRICS.settlements.add(1, &[KeyValue::new("outcome", outcome)]);
}

/// `pileway.journal.depth`: what waits for the store.
pub fn journal_depth(entries: usize) {
    METRICS.journal_depth.record(entries as u64, &[]);
}

/// `pileway.journal.dropped` by what it was: documents that were out of date when the store was back.
pub fn journal_dropped(what: &'static str) {
    METRICS.journal_dropped.add(1, &[KeyValue::new("what", what)]);
}

/// `pileway.journal.doubtful`: batches that waited so long that the store may have forgotten whether it has them.
pub fn journal_doubtful() {
    METRICS.journal_doubtful.add(1, &[]);
}

/// `pileway.orders.anomalies` by kind.
pub fn anomaly(kind: &'static str) {
    METRICS.anomalies.add(1, &[KeyValue::new("kind", kind)]);
}

/// `pileway.command.duration` in seconds by command and outcome.
pub fn command(name: &'static str, outcome: &'static str, took: Duration) {
    let labels = [KeyValue::new("command", name), KeyValue::new("outcome", outcome)];
    METRICS.command_duration.record(took.as_secs_f64(), &labels);
}

/// `pileway.commands.routed` by route: local, cached, registry, offline, unavailable.
pub fn routed(route: &'static str) {
    METRICS.routed.add(1, &[KeyValue::new("route", route)]);
}

/// `pileway.commands.not_owner`: a node that was asked did not hold the session (any more).
pub fn not_owner() {
    METRICS.not_owner.add(1, &[]);
}

/// `pileway.peer.hop.duration` in seconds by outcome.
pub fn hop(outcome: &'static str, took: Duration) {
    METRICS.hop_duration.record(took.as_secs_f64(), &[KeyValue::new("outcome", outcome)]);
}

/// `pileway.evictions` by outcome.
pub fn eviction(outcome: &'static str) {
    METRICS.evictions.add(1, &[KeyValue::new("outcome", outcome)]);
}

/// `pileway.lease.renewals` by result, and `pileway.lease.age` in seconds since the last one that succeeded.
pub fn lease_renewal(result: &'static str, age: Duration) {
    METRICS.lease_renewals.add(1, &[KeyValue::new("result", result)]);
    METRICS.lease_age.record(age.as_secs_f64(), &[]);
}

/// `pileway.orphans.adopted`: piles of runs that are over.
pub fn orphan_adopted() {
    METRICS.orphans_adopted.add(1, &[]);
}

/// `pileway.events.delivered` to groups, by group; `pileway.events.redelivered` what of it had been delivered before.
pub fn event_delivered(group: &str, again: bool) {
    let labels = [KeyValue::new("group", group.to_owned())];
    METRICS.events_delivered.add(1, &labels);
    if again {
        METRICS.events_redelivered.add(1, &labels);
    }
}

/// `pileway.events.unacknowledged` by group: in the partitions of its consumers here. One consumer's part of it, which goes
/// with the consumer.
pub struct UnacknowledgedEvents {
    group: KeyValue,
    events: i64,
}

impl UnacknowledgedEvents {
    pub fn of(group: &str) -> Self {
        Self { group: KeyValue::new("group", group.to_owned()), events: 0 }
    }

    pub fn are(&mut self, events: u64) {
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        METRICS.events_unacknowledged.add(events - self.events, std::slice::from_ref(&self.group));
        self.events = events;
    }
}

impl Drop for UnacknowledgedEvents {
    fn drop(&mut self) {
        self.are(0);
    }
}

/// `pileway.events.gaps` by group and reason.
pub fn events_gap(group: &str, reason: &'static str) {
    METRICS.events_gaps.add(1, &[KeyValue::new("group", group.to_owned()), KeyValue::new("reason", reason)]);
}

/// `pileway.events.trimmed`: deleted from the log.
pub fn events_trimmed(events: u64) {
    METRICS.events_trimmed.add(events, &[]);
}

/// `pileway.events.groups.lapsed` by group: it keeps no events any more.
pub fn events_group_lapsed(group: &str) {
    METRICS.events_lapsed.add(1, &[KeyValue::new("group", group.to_owned())]);
}

struct Metrics {
    frames_received: Counter<u64>,
    frames_sent: Counter<u64>,
    frames_refused: Counter<u64>,
    swapped_crc: Counter<u64>,
    logins: Counter<u64>,
    authorisation_duration: Histogram<f64>,
    admission_duration: Histogram<f64>,
    claims: Counter<u64>,
    takeovers: Counter<u64>,
    sessions: UpDownCounter<i64>,
    sessions_ended: Counter<u64>,
    settlements: Counter<u64>,
    journal_depth: Gauge<u64>,
    journal_dropped: Counter<u64>,
    journal_doubtful: Counter<u64>,
    anomalies: Counter<u64>,
    command_duration: Histogram<f64>,
    routed: Counter<u64>,
    not_owner: Counter<u64>,
    hop_duration: Histogram<f64>,
    evictions: Counter<u64>,
    lease_renewals: Counter<u64>,
    lease_age: Gauge<f64>,
    orphans_adopted: Counter<u64>,
    events_delivered: Counter<u64>,
    events_redelivered: Counter<u64>,
    events_unacknowledged: UpDownCounter<i64>,
    events_gaps: Counter<u64>,
    events_trimmed: Counter<u64>,
    events_lapsed: Counter<u64>,
}

/// Made at first use, which is after [`init`] has set the provider.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = global::meter("pileway");
    Metrics {
        frames_received: counter(&meter, "pileway.frames.received", "Valid frames from piles, by type"),
        frames_sent: counter(&meter, "pileway.frames.sent", "Frames to piles, by type"),
        frames_refused: counter(&meter, "pileway.frames.refused", "Bytes and frames nobody can use, by reason"),
        swapped_crc: counter(&meter, "pileway.frames.swapped_crc", "Valid frames with their CRC high byte first"),
        logins: counter(&meter, "pileway.logins", "Logins, by result"),
        authorisation_duration: meter
            .f64_histogram("pileway.authorisation.duration")
            .with_description("Questions whether a card or a VIN may charge, by how it is decided and result")
            .with_unit("s")
            .build(),
        admission_duration: meter
            .f64_histogram("pileway.admission.duration")
            .with_description("Questions whether a pile may log in, by how it is decided and result")
            .with_unit("s")
            .build(),
        claims: counter(&meter, "pileway.claims", "Claims of piles, by what for and result"),
        takeovers: counter(&meter, "pileway.takeovers", "Logins that ended an older session, by where that was"),
        sessions: meter
            .i64_up_down_counter("pileway.sessions")
            .with_description("Sessions, by state: live, provisional (not claimed yet), lost (silent)")
            .build(),
        sessions_ended: counter(&meter, "pileway.sessions.ended", "Sessions that ended, by reason"),
        settlements: counter(&meter, "pileway.settlements", "Records made durable, by outcome"),
        journal_depth: meter
            .u64_gauge("pileway.journal.depth")
            .with_description("Batches and records in the journal that are not in the store yet")
            .build(),
        journal_dropped: counter(&meter, "pileway.journal.dropped", "Journaled documents that came too late, by kind"),
        journal_doubtful: counter(&meter, "pileway.journal.doubtful", "Batches that may have been written twice"),
        anomalies: counter(&meter, "pileway.orders.anomalies", "Breaches of supervised rules, by kind"),
        routed: counter(&meter, "pileway.commands.routed", "Commands, by the way to the pile's session"),
        not_owner: counter(&meter, "pileway.commands.not_owner", "Nodes asked that did not hold the session"),
        hop_duration: meter
            .f64_histogram("pileway.peer.hop.duration")
            .with_description("Calls to another node, by outcome")
            .with_unit("s")
            .build(),
        evictions: counter(&meter, "pileway.evictions", "Older sessions on other nodes, by outcome"),
        lease_renewals: counter(&meter, "pileway.lease.renewals", "Renewals of this node's lease, by result"),
        lease_age: meter
            .f64_gauge("pileway.lease.age")
            .with_description("Since the lease was last renewed, when a renewal was tried")
            .with_unit("s")
            .build(),
        orphans_adopted: counter(&meter, "pileway.orphans.adopted", "Piles taken over from runs that are over"),
        events_delivered: counter(&meter, "pileway.events.delivered", "Events delivered to groups, by group"),
        events_redelivered: counter(&meter, "pileway.events.redelivered", "Events delivered before, by group"),
        events_unacknowledged: meter
            .i64_up_down_counter("pileway.events.unacknowledged")
            .with_description("Events behind the cursors of a group's consumers here, by group")
            .build(),
        events_gaps: counter(&meter, "pileway.events.gaps", "Times a group misses events, by group and reason"),
        events_trimmed: counter(&meter, "pileway.events.trimmed", "Events deleted from the log"),
        events_lapsed: counter(&meter, "pileway.events.groups.lapsed", "Groups idle for too long, by group"),
        command_duration: meter
            .f64_histogram("pileway.command.duration")
            .with_description("From a command's arrival to its answer, by command and outcome")
            .with_unit("s")
            .build(),
    }
});

fn counter(meter: &Meter, name: &'static str, what: &'static str) -> Counter<u64> {
    meter.u64_counter(name).with_description(what).build()
}

fn otlp_is_configured() -> bool {
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"]
        .iter()
        .any(|key| std::env::var_os(key).is_some())
}

fn otlp_metrics() -> Result<SdkMeterProvider, ObserveError> {
    let exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic().build();
    let exporter = exporter.map_err(|error| ObserveError(error.to_string()))?;
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter).build();
    global::set_meter_provider(provider.clone());
    Ok(provider)
}

/// Our own words, and of the libraries only what is wrong.
pub const NODE_FILTER: &str = "warn,pileway=info";
