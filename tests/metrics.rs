//! The metrics of groups of event consumers, as they go out. In a binary of its own: the provider is one per process, and is
//! set before anything is counted.

mod common;
#[allow(dead_code, reason = "written for other tests too")]
#[path = "cluster/nodes.rs"]
mod nodes;
#[allow(dead_code, reason = "written for other tests too")]
#[path = "events/reader.rs"]
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics, SumDataPoint};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Temporality};
use pileway::api::pb::GroupStart;
use pileway::store::Partition;

use common::{eventually, within};
use nodes::Shared;
use reader::{Message, Reader, Teller, code, to_join};

/// Counts by name and labels, as they were last exported.
type Counts = BTreeMap<String, i128>;

#[derive(Clone, Default)]
struct Exported(Arc<Mutex<Counts>>);

impl PushMetricExporter for Exported {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut counts = Counts::new();
        for metric in metrics.scope_metrics().flat_map(ScopeMetrics::metrics) {
            match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => note(&mut counts, metric.name(), sum.data_points()),
                AggregatedMetrics::I64(MetricData::Sum(sum)) => note(&mut counts, metric.name(), sum.data_points()),
                _ => {}
            }
        }
        *self.0.lock().expect("held briefly") = counts;
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn note<'a, T: Copy + Into<i128> + 'a>(
    counts: &mut Counts,
    name: &str,
    points: impl Iterator<Item = &'a SumDataPoint<T>>,
) {
    for point in points {
        let mut labels: Vec<_> = point.attributes().map(|label| format!("{}={}", label.key, label.value)).collect();
        labels.sort_unstable();
        counts.insert(format!("{name}{{{}}}", labels.join(",")), point.value().into());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_is_delivered_misses_and_leaves_open_is_counted() {
    let exported = Exported::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exported.clone()).build();
    opentelemetry::global::set_meter_provider(provider.clone());
    let count = |name: &str| {
        provider.force_flush().expect("exports");
        exported.0.lock().expect("held briefly").get(name).copied().unwrap_or(0)
    };
    let becomes = async |name: &str, expected: i128| {
        let what = format!("{name} to be {expected}");
        eventually(&what, || async { (count(name) == expected).then_some(()) }).await;
    };

    let shared = Shared::new();
    let node = shared
        .node_with("a", |config| {
            (config.events.max_per_partition, config.events.trim_every) = (1000, Duration::from_millis(100));
            config.events.idle_group = Duration::from_millis(1);
        })
        .await;
    let teller = Teller::on(&shared.store);
    let mut first = Reader::join(&node.api, "g").await;
    for pile in 0..100 {
        teller.tell(pile, [1]).await;
    }
    let all = first.take(100).await;
    let [delivered, again] = ["delivered", "redelivered"].map(|what| format!("pileway.events.{what}{{group=g}}"));
    assert_eq!((count(&delivered), count(&again)), (100, 0));
    let open = "pileway.events.unacknowledged{group=g}";
    becomes(open, 100).await;
    for told in &all {
        first.acknowledge(told).await;
    }
    becomes(open, 0).await;

    // What a consumer leaves open is nobody's here while nobody is there, and comes again to the next ones: each its part.
    // All but the last of each partition is acknowledged, and with that it is known that the last was delivered.
    let partitions: BTreeSet<_> = (0..100).map(|pile| Partition::of(code(pile), shared.store.partitions())).collect();
    let left = partitions.len() as i128;
    for pile in 0..100 {
        teller.tell(pile, [2, 3]).await;
    }
    for told in first.take(200).await.iter().filter(|told| told.number == 2) {
        first.acknowledge(told).await;
    }
    becomes(open, left).await;
    assert_eq!((count(&delivered), count(&again)), (300, 0));
    drop(first);
    becomes(open, 0).await;
    let both = [Reader::join(&node.api, "g").await, Reader::join(&node.api, "g").await];
    becomes(open, left).await;
    becomes(&again, left).await;
    drop(both);
    becomes(open, 0).await;

    // More than is kept, behind the back of one that reads slowly.
    let mut slow = Reader::with(&node.api, to_join("slow", GroupStart::Now, 5)).await;
    teller.tell(1, 1001..=1010).await;
    let some = slow.take(5).await;
    teller.tell(1, 1011..=3000).await;
    eventually("too much to go", || async { (count("pileway.events.trimmed{}") > 900).then_some(()) }).await;
    slow.acknowledge(&some[4]).await;
    let told = within("a gap", slow.message()).await.expect("goes on");
    assert!(matches!(told, Some(Message::Gap(_))), "{told:?}");
    assert_eq!(count("pileway.events.gaps{group=slow,reason=trimmed}"), 1);

    assert_eq!(count("pileway.events.groups.lapsed{group=slow}"), 0, "somebody is in it");
    drop(slow);
    becomes("pileway.events.groups.lapsed{group=slow}", 1).await;
}
