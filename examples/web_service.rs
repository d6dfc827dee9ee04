//! A web service (axum) that looks up a tenant on every request, by the request's host name.
//!
//! ```sh
//! cargo run -p larder-examples --bin web_service
//! curl -H 'Host: acme.example' http://127.0.0.1:3000/
//! curl -X POST http://127.0.0.1:3000/tenants/1/name/Acme%20Inc.
//! ```

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use larder::{Cache, CacheOptions, Caches, Entry};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "tenant")]
struct Tenant {
    #[key(primary)]
    id: u64,
    #[key(index = "host")]
    hosts: Vec<String>,
    name: String,
}

/// The database, and the cache in front of it.
#[derive(Clone)]
struct Service {
    database: Database,
    tenants: Cache<Tenant>,
}

/// Every request begins with this lookup. On a miss the tenant is read from the database, once for all requests that wait for it.
async fn greet(State(service): State<Service>, headers: HeaderMap) -> Result<String, StatusCode> {
    let host = headers.get("host").and_then(|host| host.to_str().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let database = service.database.clone();
    let tenant = service
        .tenants
        .get_or_load(Tenant::HOST, host, |host| async move { database.tenant_by_host(&host).await })
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    tenant.map(|tenant| format!("Welcome to {}\n", tenant.name)).ok_or(StatusCode::NOT_FOUND)
}

/// A change: first the database, then the cache.
async fn rename(
    State(service): State<Service>,
    Path((id, name)): Path<(u64, String)>,
) -> Result<StatusCode, StatusCode> {
    if !service.database.rename(id, name).await {
        return Err(StatusCode::NOT_FOUND);
    }
    service.tenants.invalidate(Tenant::ID, [id]).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(StatusCode::NO_CONTENT)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let caches =
        Caches::builder().cache::<Tenant>(CacheOptions::on("memory").max_age(Duration::from_secs(3600))).open().await?;
    let service = Service { database: Database::default(), tenants: caches.open()? };
    service.database.insert(Tenant { id: 1, hosts: vec!["acme.example".into()], name: "Acme".into() });

    let routes = Router::new().route("/", get(greet)).route("/tenants/{id}/name/{name}", post(rename));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, routes.with_state(service))
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    // Tries once more to deliver changes that could not be delivered to a server yet.
    println!("{}", caches.shutdown().await);
    Ok(())
}

/// Stands for a real database: see `database.rs`.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<Vec<Tenant>>>);

impl Database {
    fn insert(&self, tenant: Tenant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(tenant);
    }

    async fn tenant_by_host(&self, host: &str) -> Result<Option<Tenant>, std::io::Error> {
        let tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(tenants.iter().find(|tenant| tenant.hosts.iter().any(|own| own == host)).cloned())
    }

    async fn rename(&self, id: u64, name: String) -> bool {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match tenants.iter_mut().find(|tenant| tenant.id == id) {
            Some(tenant) => {
                tenant.name = name;
                true
            }
            None => false,
        }
    }
}
