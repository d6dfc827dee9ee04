//! What is handed to the `metrics` recorder is what `docs/metrics.md` shows.

use crate::place::{LONG, until};
use crate::user::{User, user};
use larder::config::Config;
use larder::{Cache, Caches};
use larder_testing::server::{Server, ServerOptions, required};
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

/// Unit, kind, help, and how often it was described.
type Described = (String, &'static str, String, usize);

/// Notes what is handed over.
#[derive(Default)]
struct Recorder {
    /// Name, kind, and names of the labels.
    seen: Mutex<BTreeSet<(String, &'static str, Vec<String>)>>,
    label_values: Mutex<HashSet<String>>,
    described: Mutex<BTreeMap<String, Described>>,
    seconds: Arc<Mutex<Vec<f64>>>,
}

impl Recorder {
    fn see(&self, key: &Key, kind: &'static str) {
        let labels = key.labels().map(|label| label.key().to_owned()).collect();
        self.seen.lock().unwrap().insert((key.name().to_owned(), kind, labels));
        let own = |name: &str| name != "cache" && name != "server";
        let values = key.labels().filter(|label| own(label.key())).map(|label| label.value().to_owned());
        self.label_values.lock().unwrap().extend(values);
    }

    fn describe(&self, name: KeyName, kind: &'static str, unit: Option<Unit>, help: &str) {
        let unit = unit.filter(|unit| *unit != Unit::Count).map_or("", |unit| unit.as_str());
        let mut described = self.described.lock().unwrap();
        let times = described.get(name.as_str()).map_or(0, |(.., times)| *times);
        described.insert(name.as_str().to_owned(), (unit.to_owned(), kind, help.to_owned(), times + 1));
    }
}

struct Seconds(Arc<Mutex<Vec<f64>>>);

impl HistogramFn for Seconds {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, "counter", unit, &help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, "gauge", unit, &help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, "histogram", unit, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.see(key, "counter");
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.see(key, "gauge");
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.see(key, "histogram");
        Histogram::from_arc(Arc::new(Seconds(self.seconds.clone())))
    }
}

/// A row of the page.
struct Row {
    name: String,
    kind: String,
    unit: String,
    labels: Vec<String>,
    help: String,
}

fn page() -> (String, Vec<Row>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `larder_")).filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, unit, labels, help] = cells[..] else { return None };
        let unticked = |text: &str| text.trim().trim_matches('`').to_owned();
        Some(Row {
            name: unticked(name),
            kind: kind.to_owned(),
            unit: unit.to_owned(),
            labels: labels.split(',').map(unticked).collect(),
            help: help.to_owned(),
        })
    });
    let rows = rows.collect();
    (page, rows)
}

#[tokio::test]
async fn what_is_handed_over_is_what_the_page_shows_and_is_described_once() {
    let (page, rows) = page();
    assert!(rows.len() > 30, "the rows of the page are read");
    let (memory, server) = (
        "caches: { user: { connector: memory, audit_share: 1 } }".to_owned(),
        Server::start(&required().unwrap()[0], ServerOptions::default()).await.unwrap(),
    );
    let redis = format!(
        "{{ connectors: {{ redis: {{ url: 'unix://{}' }} }}, caches: {{ user: {{ connector: redis }} }} }}",
        server.socket().display()
    );
    let recorder = Recorder::default();
    // Published before there is a recorder, as by a service that installs it last.
    let early = Caches::from_config(Config::from_yaml(&memory).unwrap()).await.unwrap();
    let _cache: Cache<User> = early.open().unwrap();
    early.shutdown().await;

    let _guard = metrics::set_default_local_recorder(&recorder);
    for config in [&memory, &redis] {
        let caches = Caches::from_config(Config::from_yaml(config).unwrap()).await.unwrap();
        let cache: Cache<User> = caches.open().unwrap();
        let source = |served: Arc<User>| async move { Ok::<_, String>(Some((*served).clone())) };
        let _audit = (*config == memory).then(|| caches.audit::<User, _, _, _>(source).unwrap());
        until("the cache can be read", || cache.status().readable).await;
        // The latencies are recorded from when they were published first.
        until("the metrics were published", || recorder.seen.lock().unwrap().len() > 20).await;
        assert!(cache.get(User::ID, 1_u32).await.is_none());
        cache.set(user(1, &["jo"])).await;
        assert!(cache.get(User::ID, 1_u32).await.is_some());
        caches.shutdown().await;
    }

    // Handed over only when something was found to be stale.
    let rare = "larder_audit_stale_age_seconds";
    let shown: BTreeSet<_> = rows.iter().map(|row| (row.name.clone(), &*row.kind, row.labels.clone())).collect();
    let mut seen: BTreeSet<_> = recorder
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|(name, kind, labels)| (name.clone(), *kind, labels.clone()))
        .collect();
    seen.insert((rare.to_owned(), "histogram", vec!["cache".to_owned()]));
    assert_eq!(shown, seen);
    for value in &*recorder.label_values.lock().unwrap() {
        assert!(page.contains(&format!("`{value}`")), "docs/metrics.md does not say what `{value}` means");
    }
    let described = recorder.described.lock().unwrap();
    for row in &rows {
        let (unit, kind, help, times) = &described[&row.name];
        assert_eq!((unit, *kind, help), (&row.unit, &*row.kind, &row.help), "{}", row.name);
        assert_eq!(*times, 1, "{} is described once", row.name);
    }
    assert_eq!(described.len(), rows.len());
    let seconds = recorder.seconds.lock().unwrap();
    assert!(!seconds.is_empty() && seconds.iter().all(|seconds| *seconds > 0.0), "{seconds:?}");
    assert!(seconds.iter().all(|seconds| *seconds < LONG.as_secs_f64()), "in seconds: {seconds:?}");
}
