//! The nodes over HTTP: a page that changes rows by SQL, and shows when each node knew.
//!
//! | route | what |
//! |---|---|
//! | `GET /`, `GET /events` | the page, and its figures four times a second |
//! | `POST /demo/instances/{id}/change` | changes the restrictions of an instance by plain SQL |
//! | `POST /demo/nodes/{number}/cut-off`, `…/connect` | cuts a node off from the feed, or connects it again; the first node is 1 |

use super::instance::Instance;
use super::node::{Counts, Known};
use super::watch::Change;
use super::{Followed, FollowedError, READ};
use crate::print;
use crate::service::live::{filled, stream_of};
use crate::service::routes::Failed;
use crate::service::{ServiceError, told_to_end};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

const PAGE: &str = include_str!("page.html");

/// How often figures are taken.
const EVERY: Duration = Duration::from_millis(250);

/// How many changes the page shows.
const CHANGES: usize = 12;

struct Service {
    followed: Followed,
    figures: watch::Sender<Arc<str>>,
}

#[derive(Serialize)]
struct Figures {
    server: String,
    nodes: Vec<NodeFigures>,
    rows: Vec<Row>,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct NodeFigures {
    cut_off: bool,
    /// Whether the node reads its memory.
    reads: bool,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Row {
    /// As the database has it.
    #[serde(flatten)]
    instance: Instance,
    /// The user limit that each node has in memory. `null`: it would ask the database.
    in_memory: Vec<Option<i64>>,
}

/// Serves until it is told to end (SIGINT, SIGTERM).
pub(crate) async fn serve(followed: Followed, listen: &str) -> Result<(), ServiceError> {
    let refused = |error| ServiceError::Listen { address: listen.to_owned(), error };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    print(format_args!("two nodes follow the feed of {}", followed.name));
    print(format_args!("http://{address}/"));

    let _readers = followed.read_steadily().await?;
    let service = Arc::new(Service { followed, figures: watch::Sender::new("null".into()) });
    let sampler = tokio::spawn(sample(service.clone()));
    let router = Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/demo/instances/{id}/change", post(change))
        .route("/demo/nodes/{number}/{action}", post(node))
        .with_state(service);
    let served = tokio::select! {
        served = axum::serve(listener, router) => served.map_err(ServiceError::Serve),
        () = told_to_end() => Ok(()),
    };
    sampler.abort();
    served
}

/// Takes figures until its task is aborted.
async fn sample(service: Arc<Service>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let taken = match service.followed.figures().await {
            Ok(figures) => serde_json::to_string(&figures).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match taken {
            Ok(json) => drop(service.figures.send_replace(json.into())),
            Err(error) => tracing::error!("the page's figures cannot be taken: {error}"),
        }
    }
}

impl Followed {
    async fn figures(&self) -> Result<Figures, FollowedError> {
        let mut rows = Vec::new();
        for instance in self.tables.first(READ).await? {
            let mut in_memory = Vec::new();
            for node in &self.nodes {
                in_memory.push(match node.known(&instance.id, &self.watch).await {
                    Known::Limit(limit) => Some(limit),
                    Known::Nothing | Known::Unread => None,
                });
            }
            rows.push(Row { instance, in_memory });
        }
        let nodes = self.nodes.iter().map(|node| NodeFigures {
            cut_off: node.is_cut_off(),
            reads: node.reads(),
            counts: node.counts(),
        });
        let nodes = nodes.collect();
        Ok(Figures { server: self.name.clone(), nodes, rows, changes: self.watch.newest(CHANGES) })
    }
}

async fn page(State(service): State<Arc<Service>>) -> impl IntoResponse {
    Html(filled(PAGE, &service.figures.borrow()))
}

async fn events(State(service): State<Arc<Service>>) -> impl IntoResponse {
    stream_of(service.figures.subscribe())
}

/// Answers as soon as the change is committed. The figures say when the nodes knew.
async fn change(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Result<Json<Option<Change>>, Failed> {
    match service.followed.change(&id).await {
        Ok(number) => Ok(Json(service.followed.watch.change(number))),
        Err(error @ FollowedError::NoInstance(_)) => Err(Failed::not_found(error.to_string())),
        Err(error) => Err(Failed::conflict(error.to_string())),
    }
}

async fn node(
    State(service): State<Arc<Service>>,
    Path((number, action)): Path<(usize, String)>,
) -> Result<Json<()>, Failed> {
    let node = number.checked_sub(1).and_then(|place| service.followed.nodes.get(place));
    let Some(node) = node else { return Err(Failed::not_found(format!("there is no node {number}"))) };
    match action.as_str() {
        "cut-off" => node.cut_off(true),
        "connect" => node.cut_off(false),
        other => return Err(Failed::not_found(format!("{other} is none of cut-off, connect"))),
    }
    Ok(Json(()))
}
