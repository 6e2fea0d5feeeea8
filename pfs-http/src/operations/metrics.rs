//! Prometheus metrics. Labels never name a stream, so cardinality stays bounded; the listing has
//! the stats of each stream.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pfs_host::{Caller, Daemon, wide};
use pfs_proto::{DaemonInfo, MountStat};
use pfs_stream::{Budget, ByTransport, Totals};
use prometheus_client::{
    encoding::{prometheus_text, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Metric, Registry},
};

use super::{Protocol, Tally};
use crate::{Site, problem::Problem};

const OPEN_METRICS: &str = "application/openmetrics-text";

/// Label names and values.
type Labels = Vec<(&'static str, String)>;

type Gauges = Family<Labels, Gauge>;
type Counters = Family<Labels, Counter>;

pub(super) async fn answer(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    let totals = match site.daemon.totals(&caller) {
        Ok(totals) => totals,
        Err(failure) => return Problem::from(failure).into_response(),
    };
    let mounts = site.daemon.mounts(&caller).await;
    let metrics = registry(&site.daemon, &totals, &site.tally, &mounts);
    let accepted =
        headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut body = String::new();
    let (media_type, done) = if accepted.contains(OPEN_METRICS) {
        (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            text::encode(&mut body, &metrics),
        )
    } else {
        (prometheus_text::CONTENT_TYPE, prometheus_text::encode(&mut body, &metrics))
    };
    if done.is_err() {
        let message = "the metrics cannot be written";
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            .into_response();
    }
    let headers = [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-store")];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), body).into_response()
}

/// Creates a registry with the current values of all metrics, for one response.
fn registry(daemon: &Daemon, totals: &Totals, tally: &Tally, mounts: &[MountStat]) -> Registry {
    let mut metrics = Metrics(Registry::with_prefix("pfs"));
    let info = daemon.info();
    metrics.daemon(&info);
    metrics.messages(daemon);
    metrics.streams(&info, totals);
    metrics.http(tally);
    if !mounts.is_empty() {
        metrics.mounts(mounts);
    }
    let help = "Clients and requests refused because of a limit or a missing permission";
    metrics.counters("refusals", help, "reason", daemon.refusals().counts());
    metrics.0
}

struct Metrics(Registry);

impl Metrics {
    fn daemon(&mut self, info: &DaemonInfo) {
        self.add(
            "build",
            "Version of the daemon",
            Info::new(vec![("version", info.version.clone())]),
        );
        let started = info.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.seconds("start_time_seconds", "When the daemon started", started);
        self.gauge(
            "connections",
            "Open connections, over the Unix socket and over HTTP",
            info.connections,
        );
        self.gauge("connections_limit", "Maximum number of open connections", info.max_connections);
    }

    fn messages(&mut self, daemon: &Daemon) {
        let budgets = [("arriving", daemon.arriving()), ("leaving", daemon.leaving())];
        let [used, limits] = [Budget::used, Budget::limit]
            .map(|of| budgets.map(|(name, budget)| (name, of(budget))));
        let help = "Memory of whole messages in flight to streams or clients";
        self.gauges("message_memory_bytes", help, "direction", used);
        self.gauges(
            "message_memory_limit_bytes",
            "Maximum memory of whole messages in flight",
            "direction",
            limits,
        );
    }

    fn streams(&mut self, info: &DaemonInfo, totals: &Totals) {
        let states = [("open", totals.open), ("closed", totals.closed)];
        self.gauges("streams", "Streams", "state", states);
        self.gauge("streams_limit", "Maximum number of streams", info.max_streams);
        self.gauge("ring_memory_bytes", "Memory of all rings", info.memory);
        self.gauge("ring_memory_limit_bytes", "Maximum memory of all rings", info.max_memory);

        let policies = [
            ("drop", totals.readers_drop),
            ("block", totals.readers_block),
            ("disconnect", totals.readers_disconnect),
        ];
        self.gauges("readers", "Attached readers, by slow policy", "policy", policies);
        self.gauge("writers", "Attached writers", totals.writers);
        self.gauge("writers_blocked", "Writers that now wait for a reader", totals.writers_waiting);
        let ends = [("finished", totals.finished), ("died", totals.died)];
        self.counters("writers_ended", "Writers that have ended", "how", ends);
        let blocked = Counter::<f64, AtomicU64>::default();
        blocked.inc_by(totals.waited.as_secs_f64());
        self.add("blocked_seconds", "Total time that writers have waited for readers", blocked);

        let help =
            "Block readers that became drop readers because writers waited for them for too long";
        self.counter("block_readers_given_up", help, totals.given_up);

        self.counters(
            "written_bytes",
            "Bytes appended by writers",
            "transport",
            by_transport(totals.written),
        );
        self.counters(
            "read_bytes",
            "Bytes read by readers",
            "transport",
            by_transport(totals.read),
        );
        self.counter("gaps", "Gaps reported to readers", totals.gaps);
        self.counter("lost_bytes", "Bytes in gaps reported to readers", totals.lost_bytes);
        self.counter(
            "lost_chunks",
            "Chunks in gaps reported to readers, where the number is known",
            totals.lost_chunks,
        );
    }

    /// Mounts of other daemons' streams.
    fn mounts(&mut self, mounts: &[MountStat]) {
        let (up, links, lags) = <(Gauges, Gauges, Gauges)>::default();
        let round_trips = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        let (reconnects, lost) = <(Counters, Counters)>::default();
        for MountStat { hop, links: followed } in mounts {
            let mount = || vec![("mount", hop.mount.clone())];
            up.get_or_create(&mount()).set(hop.round_trip.is_some().into());
            if let Some(time) = hop.round_trip {
                round_trips.get_or_create(&mount()).set(time.as_secs_f64());
            }
            for (state, connected) in [("up", true), ("down", false)] {
                let count = followed.iter().filter(|(_, link)| link.connected == connected).count();
                let labels = [mount(), vec![("state", state.to_owned())]].concat();
                links.get_or_create(&labels).set(saturating(wide(count)));
            }
            let lag = followed.iter().map(|(_, link)| link.lag).max().unwrap_or_default();
            lags.get_or_create(&mount()).set(saturating(lag));
            reconnects.get_or_create(&mount()).inc_by(hop.reconnects);
            lost.get_or_create(&mount()).inc_by(hop.lost_bytes);
        }
        self.add("mount_up", "Whether the daemon that owns the mounted streams answers", up);
        let help = "Time from a small request to the owner to its answer";
        self.add("mount_round_trip_seconds", help, round_trips);
        self.add("links", "Streams of other daemons that are followed", links);
        self.add(
            "link_lag_bytes",
            "The largest lag of a link: head at the owner minus head here",
            lags,
        );
        self.add("link_reconnects", "Links that were lost and restored", reconnects);
        self.add("link_lost_bytes", "Bytes that links did not get in time", lost);
    }

    fn http(&mut self, tally: &Tally) {
        let requests = Family::<Labels, Counter>::default();
        for ((protocol, method, status), count) in tally.requests() {
            let labels = [
                ("protocol", protocol.name()),
                ("method", method),
                ("status", &status.to_string()),
            ];
            requests
                .get_or_create(&labels.map(|(name, value)| (name, value.to_owned())).to_vec())
                .inc_by(count);
        }
        self.add("http_requests", "Requests, counted when the response begins", requests);
        let received =
            Protocol::ALL.map(|protocol| (protocol.name(), tally.bytes_received(protocol)));
        self.counters("http_received_bytes", "Bytes of request bodies", "protocol", received);
        let sent = Protocol::ALL.map(|protocol| (protocol.name(), tally.bytes_sent(protocol)));
        self.counters("http_sent_bytes", "Bytes of response bodies", "protocol", sent);
    }

    fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register(name, help, metric);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, counter(value));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, gauge(value));
    }

    fn seconds(&mut self, name: &str, help: &str, value: Duration) {
        let seconds = Gauge::<f64, AtomicU64>::default();
        seconds.set(value.as_secs_f64());
        self.add(name, help, seconds);
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [(&str, u64); N],
    ) {
        let family = Family::<Labels, Counter>::default();
        for (value, count) in values {
            family.get_or_create(&vec![(label, value.to_owned())]).inc_by(count);
        }
        self.add(name, help, family);
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [(&str, u64); N],
    ) {
        let family = Family::<Labels, Gauge>::default();
        for (value, count) in values {
            family.get_or_create(&vec![(label, value.to_owned())]).set(saturating(count));
        }
        self.add(name, help, family);
    }
}

fn counter(value: u64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value);
    counter
}

fn gauge(value: u64) -> Gauge {
    let gauge: Gauge = Gauge::default();
    gauge.set(saturating(value));
    gauge
}

fn saturating(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Values of the `transport` label.
fn by_transport(ByTransport { shm, unix, http }: ByTransport) -> [(&'static str, u64); 3] {
    [("shm", shm), ("unix", unix), ("http", http)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfs_host::{Daemon, Settings};
    use pfs_proto::{HopStat, LinkStat, SlowPolicy};

    #[test]
    fn both_formats_have_every_metric_under_its_name() {
        let daemon = Daemon::new(&Settings::default());
        let tally = Tally::default();
        tally.answered(Protocol::Plain, &axum::http::Method::GET, StatusCode::OK);
        let totals = Totals { gaps: 7, waited: Duration::from_millis(1500), ..Totals::default() };
        let link = LinkStat {
            connected: false,
            since: UNIX_EPOCH,
            policy: SlowPolicy::Drop,
            lag: 9,
            reconnects: 1,
            lost_bytes: 0,
            readers: 0,
        };
        let hop = HopStat {
            mount: "/edge".to_owned(),
            owner: String::new(),
            round_trip: Some(Duration::from_millis(2)),
            failure: None,
            reconnects: 3,
            lost_bytes: 5,
            link: None,
        };
        let mount = MountStat { hop, links: vec![("/edge/s".to_owned(), link)] };
        let metrics = registry(&daemon, &totals, &tally, &[mount]);
        let (mut open, mut classic) = (String::new(), String::new());
        text::encode(&mut open, &metrics).unwrap();
        prometheus_text::encode(&mut classic, &metrics).unwrap();
        assert!(open.ends_with("# EOF\n"));
        for line in [
            "pfs_gaps_total 7",
            "pfs_blocked_seconds_total 1.5",
            "pfs_readers{policy=\"block\"} 0",
            "pfs_http_requests_total{protocol=\"plain\",method=\"GET\",status=\"200\"} 1",
            "pfs_written_bytes_total{transport=\"shm\"} 0",
            "pfs_refusals_total{reason=\"quota\"} 0",
            "pfs_mount_up{mount=\"/edge\"} 1",
            "pfs_mount_round_trip_seconds{mount=\"/edge\"} 0.002",
            "pfs_links{mount=\"/edge\",state=\"up\"} 0",
            "pfs_links{mount=\"/edge\",state=\"down\"} 1",
            "pfs_link_lag_bytes{mount=\"/edge\"} 9",
            "pfs_link_reconnects_total{mount=\"/edge\"} 3",
            "pfs_link_lost_bytes_total{mount=\"/edge\"} 5",
        ] {
            for text in [&open, &classic] {
                assert!(text.lines().any(|other| other == line), "no {line} in {text}");
            }
        }
        assert!(open.contains("# TYPE pfs_gaps counter\n"));
        assert!(classic.contains(
            "# HELP pfs_gaps_total Gaps reported to readers.\n# TYPE pfs_gaps_total counter\n"
        ));
        assert!(
            classic.contains("# TYPE pfs_build_info gauge\npfs_build_info{version="),
            "{classic}"
        );
        assert!(!classic.contains("EOF"));
    }
}
