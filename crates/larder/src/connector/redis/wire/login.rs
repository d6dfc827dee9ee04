//! Logs in again on a connection before its credentials end, if the program's provider says that they do.
//!
//! # Steps
//!
//! 1. When about half of the time is over, the provider is asked again. The moment varies from connection to connection, so that the nodes
//!    of a service do not ask all at once.
//! 2. AUTH with the new credentials is sent on the connection, and in strict mode on the connection for WAIT.
//! 3. If either fails, the connection stays as it is, and both are tried again when half of the time that is left is over.
//! 4. If the credentials end without new ones, the connection is given up, and a new one is made as after any loss.

use super::connection::Connection;
use crate::connector::credentials::Login;
use crate::connector::redis::options::RedisOptions;
use crate::connector::remote::Trouble;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The shortest pause between two attempts.
const LEAST: Duration = Duration::from_millis(100);

/// Keeps the credentials of a connection valid. Dropped, it stops.
pub(crate) struct Renewed {
    ended: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for Renewed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Renewed {
    /// Begins to keep the credentials valid that these connections, of one server, have logged in with at `since`. `None`: they do not end.
    pub(crate) fn begin(
        config: &RedisOptions,
        connections: Vec<Connection>,
        login: &Login,
        since: Instant,
    ) -> Option<Self> {
        let ends = since.checked_add(login.valid_for?)?;
        let ended = Arc::new(AtomicBool::new(false));
        let renewing = Renewing { config: config.clone(), connections };
        let flag = ended.clone();
        let task = tokio::spawn(async move {
            renewing.run(ends).await;
            flag.store(true, Ordering::Release);
        });
        Some(Self { ended, task: task.abort_handle() })
    }

    /// Whether the credentials have ended without new ones.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

struct Renewing {
    config: RedisOptions,
    connections: Vec<Connection>,
}

impl Renewing {
    /// Returns when the credentials have ended without new ones.
    async fn run(&self, mut ends: Instant) {
        let server = &self.config.address;
        let mut failed = false;
        while let Some(pause) = next(ends.saturating_duration_since(Instant::now()), fastrand::f64()) {
            tokio::time::sleep(pause).await;
            let asked = Instant::now();
            let left = ends.saturating_duration_since(asked);
            match tokio::time::timeout(left, self.log_in()).await {
                Ok(Ok(valid_for)) => {
                    if failed {
                        tracing::info!(%server, "logged in again with new credentials");
                    }
                    failed = false;
                    match valid_for.and_then(|valid_for| asked.checked_add(valid_for)) {
                        Some(new) => ends = new,
                        // They do not end any more.
                        None => return std::future::pending().await,
                    }
                }
                refused => {
                    let why = match &refused {
                        Ok(Err(trouble)) => trouble.to_string(),
                        _ => "no answer before the old ones end".to_owned(),
                    };
                    if !failed {
                        tracing::warn!(%server, "no login with new credentials, so the connection is given up when the old ones end: {why}");
                    }
                    failed = true;
                }
            }
        }
    }

    async fn log_in(&self) -> Result<Option<Duration>, Trouble> {
        let RedisOptions { username, password, provider, .. } = &self.config;
        let login = Login::now(username.as_deref(), password.as_ref(), provider.as_ref()).await?;
        let mut auth = redis::cmd("AUTH");
        if let Some(username) = &login.username {
            auth.arg(username);
        }
        auth.arg(login.password.as_ref().map(|password| password.expose()).unwrap_or_default());
        for connection in &self.connections {
            connection.send(&auth).await?;
        }
        Ok(login.valid_for)
    }
}

/// How long to wait before the next attempt, if credentials are valid for the time that is `left`. `None`: they have ended. `random` is
/// from 0 to 1.
fn next(left: Duration, random: f64) -> Option<Duration> {
    if left.is_zero() {
        return None;
    }
    Some(left.mul_f64(0.4 + 0.1 * random).max(LEAST).min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_half_of_the_time_is_left_for_what_may_go_wrong() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        assert_eq!(next(minutes(15), 0.0), Some(minutes(6)));
        assert_eq!(next(minutes(10), 1.0), Some(minutes(5)));
        assert_eq!(next(Duration::ZERO, 0.5), None, "they have ended");
        // The attempts end with the credentials, and do not become endless.
        let (mut left, mut attempts) = (minutes(15), 0);
        while let Some(pause) = next(left, 0.0) {
            left -= pause;
            attempts += 1;
        }
        assert!(attempts < 30, "{attempts}");
    }
}
