//! The routes of the service itself.

use super::{NODE, Service};
use crate::identity::{IdentityError, Looked, Way};
use crate::instance::InstanceKey;
use crate::source::Edit;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use larder::Delivery;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The header for the origin of an answer: `hit`, or `load` if this request has read the database.
const ORIGIN: &str = "x-larder";

/// The header for the delivery of an invalidation: `applied` or `deferred`.
const DELIVERY: &str = "x-larder-invalidation";

/// An error response.
pub(crate) struct Failed(StatusCode, String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<IdentityError> for Failed {
    fn from(error: IdentityError) -> Self {
        let status = match &error {
            error if error.is_invalid() => StatusCode::UNPROCESSABLE_ENTITY,
            IdentityError::Ending => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<JsonRejection> for Failed {
    fn from(error: JsonRejection) -> Self {
        Self(error.status(), error.body_text())
    }
}

impl Failed {
    pub(crate) fn not_found(what: String) -> Self {
        Self(StatusCode::NOT_FOUND, what)
    }

    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, what.into())
    }

    pub(crate) fn conflict(what: impl Into<String>) -> Self {
        Self(StatusCode::CONFLICT, what.into())
    }
}

pub(super) async fn by_host(State(service): State<Arc<Service>>, Path(host): Path<String>) -> Result<Response, Failed> {
    find(&service, InstanceKey::host(host)).await
}

pub(super) async fn by_id(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Result<Response, Failed> {
    find(&service, InstanceKey::id(id)).await
}

async fn find(service: &Service, key: InstanceKey) -> Result<Response, Failed> {
    let Looked { instance, origin, took, .. } = service.identity.look_up(NODE, &key).await?;
    let headers = [(ORIGIN, origin.name().to_owned()), (SERVER_TIMING, timing("lookup", took))];
    Ok(match instance {
        Some(instance) => (headers, Json(&*instance)).into_response(),
        None => (headers, Failed::not_found(format!("no instance has the {key}"))).into_response(),
    })
}

pub(super) async fn put(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    edit: Result<Json<Edit>, JsonRejection>,
) -> Result<Response, Failed> {
    let Json(edit) = edit?;
    let begun = Instant::now();
    let changed = service.identity.change(NODE, &id, edit, Way::WriteThrough).await?;
    let status = if changed.written.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, told(changed.delivery, begun), Json(changed.written.instance)).into_response())
}

pub(super) async fn delete(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Result<Response, Failed> {
    let begun = Instant::now();
    match service.identity.delete(NODE, &id).await? {
        Some((_, delivery)) => Ok((StatusCode::NO_CONTENT, told(delivery, begun)).into_response()),
        None => Err(Failed::not_found(format!("no instance has the id {id}"))),
    }
}

pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Result<Response, Failed> {
    let Some(metrics) = &service.metrics else {
        return Err(Failed::not_found("this process has another metrics recorder".to_owned()));
    };
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response())
}

const SERVER_TIMING: &str = "server-timing";

/// A value of the header `server-timing`, with the duration in milliseconds.
fn timing(what: &str, took: Duration) -> String {
    format!("{what};dur={:.3}", took.as_secs_f64() * 1e3)
}

fn told(delivery: Delivery, begun: Instant) -> [(&'static str, String); 2] {
    let delivery = match delivery {
        Delivery::Applied => "applied",
        Delivery::Deferred => "deferred",
    };
    [(DELIVERY, delivery.to_owned()), (SERVER_TIMING, timing("change", begun.elapsed()))]
}
