//! The demo over HTTP: the identity service, its metrics, and the page that shows and controls it.
//!
//! | route | what |
//! |---|---|
//! | `GET /instances/by-host/{host}`, `GET /instances/{id}` | an instance; the headers `x-larder` and `server-timing` tell its origin and its time |
//! | `PUT /instances/{id}` | changes or creates an instance, write-through; hosts that belonged to others move |
//! | `DELETE /instances/{id}` | deletes an instance, then invalidates it |
//! | `GET /metrics` | larder's metrics in Prometheus's text format |
//! | `GET /`, `GET /events` | the page, and its figures once a second |
//! | `POST /demo/…` | the page's buttons |

mod controls;
mod events;
pub(crate) mod live;
mod placement;
pub(crate) mod routes;

use super::backend::{Backend, BackendError};
use super::identity::Identity;
use super::instance::InstanceKey;
use super::load::{Load, Rates};
use super::node::Node;
use crate::print;
use axum::Router;
use axum::routing::{get, post};
use controls::ServerState;
use events::Events;
use larder::telemetry::Latencies;
use live::Live;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use placement::Placement;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Why the service failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("--listen {address}: {error}; give another address, or port 0 for any free port")]
    Listen { address: String, error: std::io::Error },
    #[error("the metrics recorder cannot be made: {0}")]
    Metrics(BuildError),
    #[error(transparent)]
    Followed(#[from] crate::followed::FollowedError),
    #[error("the service has ended: {0}")]
    Serve(std::io::Error),
}

/// Everything that a request needs.
struct Service {
    identity: Arc<Identity>,
    backend: Backend,
    /// All keys at the start, in random order.
    keys: Arc<[InstanceKey]>,
    events: Arc<Events>,
    live: Live,
    generator: Mutex<Generator>,
    server: Mutex<ServerState>,
    /// What the servers say of the cache. `None`: there are none, or none answers.
    placement: watch::Receiver<Option<Placement>>,
    metrics: Option<PrometheusHandle>,
}

/// The load generator, which the page switches on and off.
struct Generator {
    rates: Rates,
    running: Option<Load>,
}

/// The node that answers requests and makes the changes of the page. Load is on every node.
const NODE: usize = 0;

/// How many nodes share a Redis, each with connections and, on a tier, a memory of its own, as if they were processes.
const NODES: usize = 2;

/// Serves until it is told to end (SIGINT, SIGTERM).
pub(crate) async fn serve(
    backend: Backend,
    (instances, latency): (u32, Duration),
    listen: &str,
) -> Result<(), ServiceError> {
    let refused = |error| ServiceError::Listen { address: listen.to_owned(), error };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;

    // Install the recorder before the caches: metrics that are published before that are lost.
    let buckets = Matcher::Full("larder_server_operation_seconds".to_owned());
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(buckets, &Latencies::BOUNDS_IN_SECONDS)
        .map_err(ServiceError::Metrics)?
        .build_recorder();
    let metrics = Some(recorder.handle()).filter(|_| metrics::set_global_recorder(recorder).is_ok());
    let (tell, placement) = watch::channel(None);
    let service = Service::open(backend, (instances, latency), placement, metrics).await?;
    let sampler = tokio::spawn(live::sample(service.clone()));
    let nodes = service.identity.nodes.len();
    print(format_args!("{instances} instances; {}; objects in {}", count(nodes, "node"), service.backend.name()));
    service.backend.file().iter().flat_map(|file| file.lines()).for_each(|line| print(format_args!("  {line}")));
    print(format_args!("http://{address}/"));

    let served = tokio::select! {
        served = axum::serve(listener, router(service.clone())) => served.map_err(ServiceError::Serve),
        () = told_to_end() => Ok(()),
        never = placement::watch(service.backend.redis(), &tell) => match never {},
    };
    sampler.abort();
    service.generator().running = None;
    for node in &service.identity.nodes {
        node.shut_down().await;
    }
    service.backend.clean_up().await;
    served
}

impl Service {
    async fn open(
        backend: Backend,
        (instances, latency): (u32, Duration),
        placement: watch::Receiver<Option<Placement>>,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Arc<Self>, ServiceError> {
        let mut nodes = Vec::new();
        for _ in 0..if backend.redis().is_some() { NODES } else { 1 } {
            nodes.push(backend.node().await?);
        }
        let events = Arc::new(Events::default());
        if let Some(breaker) = nodes.get(NODE).and_then(Node::breaker) {
            let events = events.clone();
            breaker.subscribe(move |transition| events.transition(transition));
        }
        let identity = Identity::open(instances, latency, nodes);
        let mut keys = identity.source.keys();
        fastrand::shuffle(&mut keys);
        let server = if backend.server().is_some() { ServerState::Running } else { ServerState::NotOurs };
        Ok(Arc::new(Self {
            identity: Arc::new(identity),
            keys: keys.into(),
            events,
            live: Live::default(),
            generator: Mutex::new(Generator { rates: Rates { lookups: 1_000, changes: 2 }, running: None }),
            server: Mutex::new(server),
            placement,
            metrics,
            backend,
        }))
    }

    /// The numbers of all nodes.
    fn nodes(&self) -> Vec<usize> {
        (0..self.identity.nodes.len()).collect()
    }

    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server_state(&self) -> MutexGuard<'_, ServerState> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `1 node`, `2 nodes`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/instances/by-host/{host}", get(routes::by_host))
        .route("/instances/{id}", get(routes::by_id).put(routes::put).delete(routes::delete))
        .route("/metrics", get(routes::metrics))
        .route("/", get(live::page))
        .route("/events", get(live::events))
        .route("/demo/generator", post(controls::generator))
        .route("/demo/instances/{id}/rename", post(controls::rename))
        .route("/demo/instances/{id}/move-host", post(controls::move_host))
        .route("/demo/server/{action}", post(controls::server))
        .with_state(service)
}

/// Returns when the process is told to end (SIGINT, SIGTERM).
pub(crate) async fn told_to_end() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}
