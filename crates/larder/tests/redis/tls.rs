//! TLS on real servers, with certificates that the tests make.

use crate::instance::{Instance, instance};
use crate::node::{Node, until};
use larder::breaker::State;
use larder::connector::redis::inspect::{Inspector, dial};
use larder::connector::redis::{Address, RedisOptions, TlsOptions};
use larder::{Delivery, Stored};
use larder_testing::certificates::{Authority, Life, Pair};
use larder_testing::log::Log;
use larder_testing::server::{Server, ServerOptions, required};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tracing::Level;

/// The name in the certificate of each server. No DNS knows it.
const NAME: &str = "cache.example";

/// A server with TLS and without, and a folder for the files of its clients.
struct Secured {
    server: Server,
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Secured {
    /// One of each kind, whose certificate is of [`NAME`] and of 127.0.0.1. With `lines` of configuration.
    async fn all(lines: &[&str]) -> Vec<Self> {
        Self::all_with(Life::Long, lines).await
    }

    async fn all_with(life: Life, lines: &[&str]) -> Vec<Self> {
        let mut all = Vec::new();
        for binary in required().unwrap() {
            let authority = Authority::new("ours").unwrap();
            let pair = authority.issue(NAME, &[NAME, "127.0.0.1"], life).unwrap();
            let options = ServerOptions::default().tcp().tls(&pair.certificate, &pair.key, &authority.pem);
            let options = lines.iter().fold(options, |options, line| options.config(*line));
            let server = Server::start(&binary, options).await.unwrap();
            let secured = Self { server, folder: tempfile::tempdir().unwrap(), authority };
            secured.file("ca", &secured.authority.pem);
            secured.own("", &secured.authority.issue("larder", &[], Life::Long).unwrap());
            all.push(secured);
        }
        all
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes a certificate and a key of a client.
    fn own(&self, name: &str, pair: &Pair) {
        self.file(&format!("{name}cert"), &pair.certificate);
        self.file(&format!("{name}key"), &pair.key);
    }

    /// The authority is trusted, no certificate is shown, and the server is known by its address.
    fn anonymous(&self) -> TlsOptions {
        TlsOptions::new().ca_file(self.path("ca"))
    }

    /// With a certificate.
    fn tls(&self) -> TlsOptions {
        self.showing("")
    }

    fn showing(&self, name: &str) -> TlsOptions {
        let (certificate, key) = (self.path(&format!("{name}cert")), self.path(&format!("{name}key")));
        self.anonymous().client_certificate(certificate, key)
    }

    fn options(&self, tls: TlsOptions) -> RedisOptions {
        config(self.server.tls_port().unwrap()).tls(tls)
    }

    /// Why larder cannot use the server.
    /// Why larder cannot use what was given. What is changed meanwhile is deferred.
    async fn refusal(&self, options: RedisOptions) -> String {
        let node = Node::begin(options.clone());
        let text = Inspector::open(options).await.unwrap_err().to_string();
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.cache.status().journal, 1);
        text
    }

    /// How many connections of larder's the server has.
    async fn connections(&self) -> usize {
        let list = self.server.command(&["CLIENT", "LIST"]).await.unwrap();
        let list = String::from_utf8_lossy(list.bytes().unwrap()).into_owned();
        list.lines().filter(|line| line.contains("name=larder-test ")).count()
    }
}

/// No answer is late, slow or shed, and a server that has refused is tried again at once.
fn config(port: u16) -> RedisOptions {
    let patience = Duration::from_secs(20);
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
    let mut options = RedisOptions::new(address).connect_timeout(patience).operation_timeout(patience);
    options.client_name = Some("larder-test".to_owned());
    options.breaker.slow_call = patience;
    options.breaker.ramp = Duration::ZERO;
    options.breaker.open_refused = Duration::from_millis(50);
    options
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[tokio::test]
async fn a_name_an_address_and_a_url_lead_to_a_server_with_tls() {
    for secured in Secured::all(&[]).await {
        let port = secured.server.tls_port().unwrap();
        let file = |name: &str| secured.path(name).display().to_string();
        let url = format!(
            "rediss://127.0.0.1:{port}/1?server_name={NAME}&ca_file={}&cert_file={}&key_file={}",
            file("ca"),
            file("cert"),
            file("key")
        );
        let mut by_url = config(port);
        by_url.tls = RedisOptions::from_url(&url).unwrap().tls;
        for options in [secured.options(secured.tls()), secured.options(secured.tls().server_name(NAME)), by_url] {
            let node = Node::begin(options);
            node.readable().await;
            node.set("1", &["a"], "encrypted").await;
            assert!(node.by_host("a").await.is_some());
            let large = "x".repeat(300_000);
            node.set("2", &["b"], &large).await;
            assert_eq!(node.by_id("2").await.unwrap().name, large);
            assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
            assert_eq!(node.redis.breaker().state(), State::Closed);
        }
        // In strict mode there are two connections, and both are encrypted.
        let strict = secured.options(secured.tls()).wait_replicas(1);
        let inspector = Inspector::open(strict).await.unwrap();
        drop(inspector);
        let (_socket, ends) = dial(&secured.options(secured.tls())).await.unwrap();
        let ends = ends.unwrap();
        assert!(ends.server.is_some_and(|end| !end.is_near()) && ends.client.is_some(), "{ends:?}");
    }
}

#[tokio::test]
async fn each_refusal_says_who_refuses_what_and_what_to_change() {
    for secured in Secured::all(&[]).await {
        secured.file("theirs", &Authority::new("theirs").unwrap().pem);
        secured.file("text", "seven sheep");
        secured.own("other", &secured.authority.issue("larder", &[], Life::Long).unwrap());
        secured.own("old", &secured.authority.issue("larder", &[], Life::Expired).unwrap());
        secured.own("foreign", &Authority::new("theirs").unwrap().issue("larder", &[], Life::Long).unwrap());
        let file = |name: &str| secured.path(name);
        let roots = |name: &str| secured.tls().ca_file(file(name));
        for (tls, words) in [
            (roots("theirs"), ["the server's certificate is refused", "no authority in `ca_file`"]),
            (roots("missing"), ["ca_file", "No such file"]),
            (roots("text"), ["ca_file", "it holds no certificate"]),
            (secured.tls().server_name("other.example"), ["does not name other.example", "`server_name`"]),
            (secured.anonymous().client_certificate(file("cert"), file("text")), ["key_file", "holds no private key"]),
            (
                secured.anonymous().client_certificate(file("cert"), file("otherkey")),
                ["cannot be used together", "the key is that of another certificate"],
            ),
            (secured.anonymous(), ["the server asks for a client's certificate", "`cert_file`"]),
            (secured.showing("old"), ["the server refuses the client's certificate", "it has expired"]),
            (secured.showing("foreign"), ["the server refuses the client's certificate", "no authority"]),
        ] {
            let text = secured.refusal(secured.options(tls)).await;
            says(&text, &words);
            assert!(!text.contains("seven sheep") && !text.contains("PRIVATE"), "{text}");
        }
        let plain = secured.server.port().unwrap();
        // A server without TLS waits for the end of a line, and says nothing.
        let hasty = config(plain).connect_timeout(Duration::from_secs(1));
        let text = secured.refusal(hasty.tls(secured.tls())).await;
        says(&text, &["no answer to the handshake of TLS", "this is no port for TLS", "connect without TLS"]);
        let text = secured.refusal(config(secured.server.tls_port().unwrap())).await;
        says(&text, &["if this is a port for TLS", "`rediss://`"]);
    }
    for secured in Secured::all_with(Life::Expired, &[]).await {
        let text = secured.refusal(secured.options(secured.tls())).await;
        says(&text, &["the server's certificate is refused", "it has expired: renew it on the server"]);
    }
}

/// A refusal opens the breaker at once. With TLS 1.3 a client's certificate is refused after the handshake, with the first reply.
#[tokio::test]
async fn nothing_is_lost_while_certificates_are_refused() {
    for secured in Secured::all(&[]).await {
        let foreign = Authority::new("theirs").unwrap();
        let good = secured.authority.issue("larder", &[], Life::Long).unwrap();
        for wrong in ["ca", "cert"] {
            match wrong {
                "ca" => secured.file("ca", &foreign.pem),
                _ => secured.own("", &foreign.issue("larder", &[], Life::Long).unwrap()),
            }
            let node = Node::begin(secured.options(secured.tls()));
            let breaker = node.redis.breaker();
            until("the breaker has opened", || breaker.snapshot().opened > 0).await;
            assert_eq!(breaker.snapshot().failures, 0, "{wrong}: it was refused, and not counted as a failure");
            assert_eq!(node.cache.set(instance("1", &["a"], "lost")).await, Stored::Unavailable);
            assert_eq!(node.cache.invalidate(Instance::ID, ["2"]).await.unwrap(), Delivery::Deferred);
            secured.file("ca", &secured.authority.pem);
            secured.own("", &good);
            node.readable().await;
            assert_eq!(node.cache.status().journal, 0, "{wrong}");
        }
    }
}

/// Pitfall T15: a session that is resumed has the certificate of its first handshake, also after another one was put in its place. So a
/// certificate that the server does not accept was "connected".
#[tokio::test]
async fn t15_a_session_with_the_old_certificate_is_not_resumed() {
    for secured in Secured::all(&[]).await {
        let node = Node::begin(secured.options(secured.tls()));
        node.readable().await;
        // With the same certificate the session is resumed: a new generation must be what prevents that.
        let (log, _guard) = Log::begin(Level::INFO);
        secured.server.client_kill_all().await.unwrap();
        until("the connection is lost", || log.count(&["given up"]) > 0).await;
        node.readable().await;
        let foreign = Authority::new("theirs").unwrap();
        secured.own("", &foreign.issue("larder", &[], Life::Long).unwrap());
        secured.server.client_kill_all().await.unwrap();
        until("the new certificate is refused", || log.count(&["no authority that has issued `cert_file`"]) > 0).await;
        assert!(!node.cache.status().readable);
        secured.own("", &secured.authority.issue("larder", &[], Life::Long).unwrap());
        node.readable().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_under_load_and_nobody_notices() {
    for secured in Secured::all(&[]).await {
        let others = Authority::new("others").unwrap();
        let pair = secured.authority.issue(NAME, &[NAME, "127.0.0.1"], Life::Long).unwrap();
        let both = format!("{}{}", secured.authority.pem, others.pem);
        secured.server.renew_tls(&pair.certificate, &pair.key, &both).await.unwrap();
        let node = Arc::new(Node::begin(secured.options(secured.tls())));
        node.readable().await;
        let (done, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let workers: Vec<_> = (0..4)
            .map(|worker: u32| {
                let (node, done, end) = (node.clone(), done.clone(), end.clone());
                tokio::spawn(async move {
                    let (id, host) = (worker.to_string(), format!("host {worker}"));
                    while !end.load(Ordering::SeqCst) {
                        node.set(&id, &[&host], "under load").await;
                        assert!(node.by_host(&host).await.is_some());
                        assert_eq!(node.cache.invalidate(Instance::ID, [&*id]).await.unwrap(), Delivery::Applied);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let more = async || {
            let before = done.load(Ordering::SeqCst);
            until("the load goes on", || done.load(Ordering::SeqCst) > before + 50).await;
        };
        more().await;
        secured.own("", &others.issue("larder", &[], Life::Long).unwrap());
        node.redis.reload().await.unwrap();
        more().await;
        assert_eq!(secured.connections().await, 1, "the connection that was there goes on");
        end.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!(node.redis.breaker().snapshot().failures, 0);

        // From now on the server accepts the new certificate only.
        secured.server.renew_tls(&pair.certificate, &pair.key, &others.pem).await.unwrap();
        secured.server.client_kill_all().await.unwrap();
        until("the connection is lost", || !node.cache.status().readable).await;
        node.readable().await;
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_keep_the_old_ones_and_say_so_once() {
    for secured in Secured::all(&[]).await {
        let node = Node::begin(secured.options(secured.tls()));
        node.readable().await;
        let new = secured.authority.issue("larder", &[], Life::Long).unwrap();
        let old = secured.authority.issue("larder", &[], Life::Expired).unwrap();
        let whole = |name: &str| std::fs::read_to_string(secured.path(name)).unwrap();
        let (certificate, key, roots) = (whole("cert"), whole("key"), whole("ca"));
        let write = |certificate: &str, key: &str, roots: &str| {
            secured.file("cert", certificate);
            secured.file("key", key);
            secured.file("ca", roots);
        };
        let halves: [(&str, &str, &str, &str); 4] = [
            (&new.certificate, &key, &roots, "the key is that of another certificate"),
            (&old.certificate, &old.key, &roots, "has expired on 2020-01-01"),
            (&certificate, "", &roots, "holds no private key"),
            (&certificate, &key, "seven sheep", "it holds no certificate"),
        ];
        for (certificate, key, roots, why) in halves {
            let (log, _guard) = Log::begin(Level::INFO);
            write(certificate, key, roots);
            for _ in 0..2 {
                says(&node.redis.reload().await.unwrap_err().to_string(), &[why]);
            }
            secured.server.client_kill_all().await.unwrap();
            until("the connection is lost", || log.count(&["given up"]) > 0).await;
            node.readable().await;
            assert_eq!(log.count(&["what stood there before stays in use", why]), 1, "{}", log.text());
        }
        let (log, _guard) = Log::begin(Level::INFO);
        write(&new.certificate, &new.key, &roots);
        node.redis.reload().await.unwrap();
        assert_eq!(log.count(&["new connections use them"]), 1, "{}", log.text());
    }
}

#[tokio::test]
async fn the_end_of_certificates_is_warned_of_once() {
    for secured in Secured::all_with(Life::Days(9), &[]).await {
        secured.own("", &secured.authority.issue("larder", &[], Life::Days(5)).unwrap());
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::begin(secured.options(secured.tls()));
        node.readable().await;
        secured.server.client_kill_all().await.unwrap();
        until("the connection is lost", || log.count(&["given up"]) > 0).await;
        node.readable().await;
        for (whose, days) in
            [("the server's certificate ends on", "in 9 days"), ("the client's certificate ends on", "in 5 days")]
        {
            assert_eq!(log.count(&["WARN", whose, days, "renew it"]), 1, "{}", log.text());
        }
    }
}

#[test]
fn tls_is_refused_on_a_unix_socket_and_with_half_a_pair() {
    let wrong = |options: RedisOptions| options.validate().unwrap_err().to_string();
    let socket = RedisOptions::new("/run/redis.sock").tls(TlsOptions::new());
    says(&wrong(socket), &["tls is given", "Unix socket"]);
    let mut half = TlsOptions::new();
    half.cert_file = Some(Path::new("/etc/cert.pem").to_owned());
    says(&wrong(RedisOptions::new("host").tls(half)), &["tls.cert_file has no key", "`key_file`"]);
    says(&wrong(RedisOptions::new("host").tls(TlsOptions::new().server_name("a b"))), &["tls.server_name is `a b`"]);
}
