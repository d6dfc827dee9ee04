//! TLS as libpq's `sslmode` means it, on real servers with certificates that the tests make.

use crate::node::{Node, until};
use crate::refusals::{refusal_of, says};
use larder::connector::postgres::PostgresOptions;
use larder::connector::{Credentials, CredentialsProvider};
use larder_testing::certificates::{Authority, Life, Pair};
use larder_testing::log::Log;
use larder_testing::postgres::{PostgresServer, required};
use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::Level;

/// A server on TCP, and a folder for the files of its clients.
struct Secured {
    server: PostgresServer,
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Secured {
    /// One of each version, whose certificate is of `localhost`.
    async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for binaries in required().unwrap() {
            let server = PostgresServer::start_on_tcp(&binaries, &[]).await.unwrap();
            let secured =
                Self { server, folder: tempfile::tempdir().unwrap(), authority: Authority::new("ours").unwrap() };
            secured.file("ca", &secured.authority.pem);
            secured.server.write("ca.crt", &secured.authority.pem).unwrap();
            secured.serve(&secured.authority.issue("localhost", &["localhost"], Life::Long).unwrap());
            all.push(secured);
        }
        all
    }

    /// Has the server use this certificate.
    fn serve(&self, pair: &Pair) {
        self.server.write("server.crt", &pair.certificate).unwrap();
        self.server.write("server.key", &pair.key).unwrap();
        self.server.reload("ssl = on\nssl_ca_file = 'ca.crt'").unwrap();
    }

    /// Whom the server lets in by TCP.
    fn let_in(&self, rule: &str) {
        self.server.write("pg_hba.conf", &format!("local all all trust\n{rule}\n")).unwrap();
        self.server.reload("").unwrap();
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A DSN. `@` stands for the folder of the client's files.
    fn dsn(&self, more: &str) -> String {
        let more = more.replace('@', &format!("{}/", self.folder.path().display()));
        let host = if more.contains("host=") { "" } else { "host=localhost " };
        format!("{host}hostaddr=127.0.0.1 port={} user=larder dbname=larder {more}", self.server.port())
    }

    fn options(&self, more: &str) -> PostgresOptions {
        let patience = Duration::from_secs(20);
        let mut options = PostgresOptions::from_url(&self.dsn(more)).unwrap();
        options.breaker.slow_call = patience;
        options.operation_timeout(patience).connect_timeout(patience)
    }

    /// How many of larder's sessions are encrypted, and how many are not.
    fn sessions(&self, encrypted: bool) -> String {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'larder' AND ssl = {encrypted}"
        );
        self.server.psql(&sql).unwrap()
    }

    fn end_sessions(&self) {
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'larder'";
        self.server.psql(ended).unwrap();
    }

    /// Connects, and answers whether that is encrypted.
    async fn is_encrypted(&self, more: &str) -> bool {
        let node = Node::begin(self.options(more));
        node.readable().await;
        let sessions = (self.sessions(true), self.sessions(false));
        drop(node);
        until("the sessions have ended", || self.sessions(true) == "0" && self.sessions(false) == "0").await;
        match (sessions.0.as_str(), sessions.1.as_str()) {
            ("4", "0") => true,
            ("0", "4") => false,
            other => panic!("{more}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn each_mode_is_what_libpq_makes_of_it() {
    for secured in Secured::all().await {
        let either = "host all all all trust";
        for (rule, more, encrypted) in [
            (either, "sslmode=disable", false),
            (either, "sslmode=allow", false),
            (either, "", true),
            (either, "sslmode=require", true),
            (either, "sslmode=require sslrootcert=@ca", true),
            (either, "sslmode=verify-ca sslrootcert=@ca host=other", true),
            (either, "sslmode=verify-full sslrootcert=@ca", true),
            (either, "sslmode=verify-full sslrootcert=@ca ssl_min_protocol_version=TLSv1.3 sslsni=0", true),
            ("hostssl all all all trust", "sslmode=allow", true),
            ("hostnossl all all all trust", "sslmode=prefer", false),
        ] {
            secured.let_in(rule);
            assert_eq!(secured.is_encrypted(more).await, encrypted, "{rule}, {more}");
        }
        // What cannot be verified is not refused where encryption is only preferred.
        secured.let_in(either);
        secured.file("ca", &Authority::new("theirs").unwrap().pem);
        assert!(!secured.is_encrypted("sslrootcert=@ca").await);
        secured.server.reload("ssl = off").unwrap();
        assert!(!secured.is_encrypted("").await, "the server has no TLS");
        says(&refusal_of(&secured.dsn("sslmode=require")).await, &["the server does not offer TLS", "sslmode=prefer"]);
    }
}

#[tokio::test]
async fn each_refusal_says_what_to_change() {
    for secured in Secured::all().await {
        secured.let_in("host all all all trust");
        let client = Authority::new("ours").unwrap().issue("larder", &[], Life::Long).unwrap();
        let key = secured.file("key", &client.key);
        secured.file("cert", &secured.authority.issue("larder", &[], Life::Long).unwrap().certificate);
        secured.file("theirs", &Authority::new("theirs").unwrap().pem);
        secured.file("text", "seven sheep");
        for (more, words) in [
            (
                "sslmode=require sslrootcert=@theirs",
                ["the server's certificate is refused", "no authority in `sslrootcert`"],
            ),
            ("sslmode=verify-full sslrootcert=@ca host=other", ["does not name other", "sslmode=verify-ca"]),
            ("sslmode=verify-ca sslrootcert=@missing", ["sslrootcert", "No such file"]),
            ("sslmode=verify-ca sslrootcert=@text", ["sslrootcert", "it holds no certificate"]),
            ("sslmode=require sslcert=@cert sslkey=@text", ["sslkey", "it holds no private key"]),
            ("sslmode=require sslcert=@cert sslkey=@key", ["sslcert", "cannot be used together"]),
        ] {
            let text = refusal_of(&secured.dsn(more)).await;
            says(&text, &words);
            assert!(!text.contains("seven sheep") && !text.contains("PRIVATE"), "{text}");
        }
        drop(key);
        secured.serve(&secured.authority.issue("localhost", &["localhost"], Life::Expired).unwrap());
        let text = refusal_of(&secured.dsn("sslmode=verify-ca sslrootcert=@ca")).await;
        says(&text, &["the server's certificate is refused", "it has expired"]);
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    for secured in Secured::all().await {
        secured.let_in("hostssl all all all cert");
        let theirs = Authority::new("theirs").unwrap();
        for (name, authority, life) in [
            ("good", &secured.authority, Life::Long),
            ("old", &secured.authority, Life::Expired),
            ("foreign", &theirs, Life::Long),
        ] {
            let pair = authority.issue("larder", &[], life).unwrap();
            secured.file(&format!("{name}.crt"), &pair.certificate);
            secured.file(&format!("{name}.key"), &pair.key);
        }
        let with = |name: &str| format!("sslmode=verify-full sslrootcert=@ca sslcert=@{name}.crt sslkey=@{name}.key");
        assert!(secured.is_encrypted(&with("good")).await);
        says(&refusal_of(&secured.dsn(&with("old"))).await, &["because it has expired", "renew `sslcert`"]);
        says(&refusal_of(&secured.dsn(&with("foreign"))).await, &["it knows no authority that has issued `sslcert`"]);
        let text = refusal_of(&secured.dsn("sslmode=require")).await;
        says(&text, &["requires a valid client certificate"]);
    }
}

/// The files are read at every connect.
#[tokio::test]
async fn a_renewed_authority_is_believed_without_a_restart() {
    for secured in Secured::all().await {
        secured.let_in("host all all all trust");
        let node = Node::begin(secured.options("sslmode=verify-full sslrootcert=@ca"));
        node.readable().await;
        let renewed = Authority::new("renewed").unwrap();
        secured.serve(&renewed.issue("localhost", &["localhost"], Life::Long).unwrap());
        let (log, _guard) = Log::begin(Level::INFO);
        secured.end_sessions();
        until("the connection is lost", || log.count(&["given up"]) > 0).await;
        assert!(!node.cache.status().readable);
        secured.file("ca", &renewed.pem);
        node.readable().await;
    }
}

/// Whoever renews a certificate writes two files, one after the other.
#[tokio::test]
async fn a_pair_that_does_not_match_keeps_the_old_one() {
    for secured in Secured::all().await {
        secured.let_in("hostssl all all all cert");
        let write = |pair: &Pair, name: &str| match name {
            "cert" => secured.file("cert", &pair.certificate),
            _ => secured.file("key", &pair.key),
        };
        let [old, new] = [1, 2].map(|_| secured.authority.issue("larder", &[], Life::Long).unwrap());
        write(&old, "cert");
        write(&old, "key");
        let node = Node::begin(secured.options("sslmode=verify-full sslrootcert=@ca sslcert=@cert sslkey=@key"));
        node.readable().await;
        write(&new, "cert");
        let (log, _guard) = Log::begin(Level::INFO);
        says(
            &node.postgres.reload().await.unwrap_err().to_string(),
            &["sslcert", "the key is that of another certificate"],
        );
        secured.end_sessions();
        until("the connection is lost", || log.count(&["given up"]) > 0).await;
        node.readable().await;
        assert_eq!(log.count(&["what stood there before stays in use"]), 1, "{}", log.text());
        write(&new, "key");
        node.postgres.reload().await.unwrap();
        assert_eq!(log.count(&["new connections use them"]), 1, "{}", log.text());
    }
}

/// What the issuer gives at the moment, and how often it was asked. The first time it gives nothing.
#[derive(Default)]
struct Tokens {
    token: Mutex<String>,
    asked: AtomicUsize,
}

struct Issuer(Arc<Tokens>);

impl CredentialsProvider for Issuer {
    async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        if self.0.asked.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err("the issuer is being restarted".into());
        }
        Ok(Credentials::new(self.0.token.lock().unwrap().clone()).username("larder"))
    }
}

/// A session outlives its password, so the provider is asked at each connect, and not in between.
#[tokio::test]
async fn a_program_provides_the_password_at_each_connect() {
    for secured in Secured::all().await {
        secured.let_in("host all all all scram-sha-256");
        let tokens = Arc::new(Tokens::default());
        let issue = |token: &str| {
            secured.server.psql(&format!("ALTER ROLE larder PASSWORD '{token}'")).unwrap();
            token.clone_into(&mut tokens.token.lock().unwrap());
        };
        issue("barley");
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::begin(secured.options("sslmode=require").credentials_provider(Issuer(tokens.clone())));
        node.readable().await;
        assert_eq!(log.count(&["no credentials: the issuer is being restarted"]), 1, "{}", log.text());
        let asked = tokens.asked.load(Ordering::SeqCst);
        issue("rye");
        assert!(node.name_by_id("nobody").await.is_none());
        assert_eq!(tokens.asked.load(Ordering::SeqCst), asked, "the sessions go on");
        secured.end_sessions();
        until("the connection is lost", || log.count(&["given up"]) > 0).await;
        node.readable().await;
        assert!(tokens.asked.load(Ordering::SeqCst) > asked);
    }
}

/// The password is bound to the server's certificate.
#[tokio::test]
async fn scram_is_bound_to_the_channel() {
    for secured in Secured::all().await {
        secured.server.psql("ALTER ROLE larder PASSWORD 'barley'").unwrap();
        secured.let_in("host all all all scram-sha-256");
        assert!(secured.is_encrypted("sslmode=require channel_binding=require password=barley").await);
        says(
            &refusal_of(&secured.dsn("sslmode=disable channel_binding=require password=barley")).await,
            &["channel binding"],
        );
    }
}
