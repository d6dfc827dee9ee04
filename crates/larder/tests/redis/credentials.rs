//! Passwords that change while a service runs: in their file, or because a program provides tokens that end.

use crate::node::{Node, config, servers, until};
use larder::connector::redis::RedisOptions;
use larder::connector::{Credentials, CredentialsProvider, Secret};
use larder_testing::log::Log;
use larder_testing::server::{Server, ServerOptions};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tracing::Level;

fn guarded() -> ServerOptions {
    ServerOptions::default().config("requirepass opensesame")
}

/// A server that refuses is tried again at once.
fn patient(server: &Server) -> RedisOptions {
    let mut options = config(server.socket()).connect_timeout(Duration::from_secs(20));
    options.breaker.open_refused = Duration::from_millis(50);
    options
}

#[tokio::test]
async fn a_password_file_is_read_at_every_connect() {
    for server in servers(guarded()).await {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "opensesame\n").unwrap();
        let node = Node::begin(patient(&server).password(Secret::from_file(&file).unwrap()));
        node.readable().await;
        let (log, _guard) = Log::begin(Level::INFO);
        server.config_set("requirepass", "openbarley").await.unwrap();
        server.client_kill_all().await.unwrap();
        until("the connection is lost", || log.count(&["given up"]) > 0).await;
        std::fs::remove_file(&file).unwrap();
        until("the file is missed", || {
            log.count(&["password file", "cannot be read"]) > 0 || !node.cache.status().readable
        })
        .await;
        std::fs::write(&file, "openbarley").unwrap();
        node.readable().await;
        assert!(!log.text().contains("barley") && !log.text().contains("sesame"), "{}", log.text());
    }
}

/// Issues a token for each user of [`USERS`] in turn.
#[derive(Default)]
struct Tokens {
    asked: AtomicUsize,
    fails: AtomicBool,
    /// Zero: for ever.
    lasts: Duration,
}

struct Issuer(Arc<Tokens>);

const USERS: [&str; 2] = ["even", "odd"];

impl CredentialsProvider for Issuer {
    async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        let asked = self.0.asked.fetch_add(1, Ordering::SeqCst);
        if self.0.fails.load(Ordering::SeqCst) {
            return Err("the issuer is being restarted".into());
        }
        let user = USERS[asked % 2];
        let credentials = Credentials::new(format!("token-of-{user}")).username(user);
        Ok(if self.0.lasts.is_zero() { credentials } else { credentials.valid_for(self.0.lasts) })
    }
}

fn with_users() -> ServerOptions {
    let user = |user: &str| format!("user {user} on >token-of-{user} ~* &* +@all");
    USERS.into_iter().fold(ServerOptions::default(), |options, name| options.config(user(name)))
}

/// Whose the connections of larder are.
async fn users(server: &Server) -> Vec<String> {
    let list = server.command(&["CLIENT", "LIST"]).await.unwrap();
    let list = String::from_utf8_lossy(list.bytes().unwrap()).into_owned();
    let of = |line: &str| line.split(' ').find_map(|field| field.strip_prefix("user=").map(str::to_owned));
    list.lines().filter_map(of).filter(|user| USERS.contains(&&**user)).collect()
}

/// The same connection belongs to another user after AUTH.
#[tokio::test]
async fn a_token_is_renewed_on_the_connection_before_it_ends() {
    for server in servers(with_users()).await {
        let tokens = Arc::new(Tokens { lasts: Duration::from_secs(3), ..Tokens::default() });
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::begin(patient(&server).credentials_provider(Issuer(tokens.clone())));
        node.readable().await;
        let mut seen = Vec::new();
        for _ in 0..3_000 {
            let now = users(&server).await;
            assert_eq!(now.len(), 1, "one connection, and the same: {}", log.text());
            if seen.last() != now.first() {
                seen.extend(now);
            }
            if seen.len() == 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(seen, ["even", "odd", "even"]);
        assert_eq!(log.count(&["given up"]), 0, "{}", log.text());
        node.set("1", &["a"], "as another user").await;
    }
}

#[tokio::test]
async fn without_a_new_token_the_connection_lasts_until_the_old_one_ends() {
    for server in servers(with_users()).await {
        let tokens = Arc::new(Tokens { lasts: Duration::from_secs(2), ..Tokens::default() });
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::begin(patient(&server).credentials_provider(Issuer(tokens.clone())));
        node.readable().await;
        tokens.fails.store(true, Ordering::SeqCst);
        until("the token has ended", || log.count(&["given up: its credentials have ended"]) > 0).await;
        let text = log.text();
        let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("`{words}` is missing in: {text}"));
        assert!(place("no login with new credentials") < place("given up: its credentials"), "{text}");
        assert!(place("the issuer is being restarted") < place("given up: its credentials"), "{text}");
        tokens.fails.store(false, Ordering::SeqCst);
        node.readable().await;
        assert!(!log.text().contains("token-of"), "{}", log.text());
    }
}

#[test]
fn a_provider_and_a_password_are_one_too_many() {
    let issuer = || Issuer(Arc::new(Tokens::default()));
    let mut options = RedisOptions::default().credentials_provider(issuer());
    options.username = Some("larder".to_owned());
    assert!(options.validate().is_ok(), "a user name needs no password then");
    let error = options.password("barley").validate().unwrap_err().to_string();
    assert!(error.contains("provider of credentials") && !error.contains("barley"), "{error}");
    let options = RedisOptions::default().credentials_provider(issuer());
    assert_eq!(options, options.clone());
    assert_ne!(options, RedisOptions::default().credentials_provider(issuer()));
}
