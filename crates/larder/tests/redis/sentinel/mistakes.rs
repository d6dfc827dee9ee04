//! What is wrong with what was given, on real Sentinels: each error says what to change, and nothing is lost meanwhile.

use super::scripted::{Said, Sentinel, watching};
use crate::instance::Instance;
use crate::node::{Node, config, until};
use larder::Delivery;
use larder::connector::redis::inspect::Inspector;
use larder::connector::redis::{Address, RedisOptions, SentinelOptions, TlsOptions};
use larder_testing::certificates::{Authority, Life};
use larder_testing::log::Log;
use larder_testing::server::{Server, ServerOptions, Watched, required};
use std::path::{Path, PathBuf};
use tracing::Level;

/// A server, and one Sentinel that watches it.
struct Pair {
    server: Server,
    sentinel: Server,
}

impl Pair {
    /// One of each kind. `of` completes the options of the Sentinel.
    async fn all(of: impl Fn(ServerOptions) -> ServerOptions) -> Vec<Self> {
        let mut all = Vec::new();
        for binary in required().unwrap() {
            let server = Server::start(&binary, ServerOptions::default().tcp()).await.unwrap();
            let options = of(ServerOptions::default().tcp()).sentinel(Watched::NAME, server.port().unwrap(), 1);
            let sentinel = Server::start(&binary, options).await.unwrap();
            all.push(Self { server, sentinel });
        }
        all
    }

    fn sentinels(&self) -> SentinelOptions {
        SentinelOptions::new(Watched::NAME).host("127.0.0.1", self.sentinel.port().unwrap())
    }
}

/// Why larder cannot use what was given. What is changed meanwhile is deferred.
async fn refusal(options: RedisOptions) -> String {
    let node = Node::begin(options.clone());
    let text = Inspector::open(options).await.unwrap_err().to_string();
    assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
    assert_eq!(node.cache.status().journal, 1);
    text
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[tokio::test]
async fn a_sentinel_that_was_given_as_a_server_is_recognised() {
    for pair in Pair::all(|options| options).await {
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: pair.sentinel.port().unwrap() };
        let mut options = config(Path::new("/not/used"));
        options.address = address;
        says(&refusal(options.clone()).await, &["this is a Sentinel", "`hosts` of `sentinel`", "`master`"]);
        says(&refusal(options.database(3)).await, &["does not know SELECT", "Sentinel", "`hosts` of `sentinel`"]);
    }
}

#[tokio::test]
async fn a_server_that_was_given_as_a_sentinel_is_recognised() {
    for pair in Pair::all(|options| options).await {
        let port = pair.server.port().unwrap();
        let options = watching(SentinelOptions::new(Watched::NAME).host("127.0.0.1", port));
        says(
            &refusal(options).await,
            &["this is a server, and no Sentinel", "`hosts`", "`address`", &format!("127.0.0.1:{port}")],
        );
    }
}

#[tokio::test]
async fn a_name_that_no_sentinel_knows_is_told_with_those_that_it_knows() {
    for pair in Pair::all(|options| options).await {
        let mut other = pair.sentinels();
        other.master = "other".to_owned();
        says(&refusal(watching(other)).await, &["no master called `other`", "watches `mymaster`", "correct `master`"]);
    }
}

#[tokio::test]
async fn nobody_there_is_told_for_each_sentinel() {
    let nobody = SentinelOptions::new("m").host("127.0.0.1", 1).host("127.0.0.1", 2);
    says(
        &refusal(watching(nobody)).await,
        &["no Sentinel says which server is the master `m`", "127.0.0.1:1: ", "127.0.0.1:2: "],
    );
}

/// The Sentinels have a user and a password of their own, which are not those of the server.
#[tokio::test]
async fn a_wrong_password_for_the_sentinels_loses_nothing() {
    for pair in Pair::all(|options| options.config("user watcher on >rye +@all").config("user default off")).await {
        let (log, _guard) = Log::begin(Level::INFO);
        says(
            &refusal(watching(pair.sentinels())).await,
            &["the Sentinel wants a password", "`password` of `sentinel`"],
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "wheat").unwrap();
        let mut sentinels = pair.sentinels();
        sentinels.username = Some("watcher".to_owned());
        let password = larder::connector::Secret::from_file(&file).unwrap();
        let options = watching(sentinels.password(password));
        let wrong = refusal(options.clone()).await;
        says(&wrong, &["WRONGPASS", "correct `username` and `password` of `sentinel`", "not those of the servers"]);
        let node = Node::begin(options);
        until("it is refused", || log.count(&["cannot connect", "WRONGPASS"]) > 0).await;
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.cache.status().journal, 1);
        // The file is read again at every connect.
        std::fs::write(&file, "rye").unwrap();
        node.readable().await;
        assert_eq!(node.cache.status().journal, 0);
        assert!(!log.text().contains("wheat") && !log.text().contains("rye"), "{}", log.text());
    }
}

#[tokio::test]
async fn a_password_for_a_sentinel_without_one_and_a_missing_right_are_told() {
    for pair in Pair::all(|options| options.config("user poor on >rye +ping")).await {
        says(
            &refusal(watching(pair.sentinels().password("rye"))).await,
            &["has no password", "remove `password` of `sentinel`"],
        );
        let poor = pair.sentinels().credentials("poor", "rye");
        says(&refusal(watching(poor)).await, &["grant this user `+sentinel|master"]);
    }
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// The files of this authority and of another one.
fn authorities(folder: &Path, ours: &Authority) -> [PathBuf; 2] {
    let theirs = Authority::new("theirs").unwrap();
    [("ca", ours), ("other", &theirs)].map(|(name, authority)| written(folder, name, &authority.pem))
}

/// TLS to the Sentinels is apart from TLS to the servers: here only the Sentinels have it.
#[tokio::test]
async fn mistakes_of_tls_to_the_sentinels_are_told_as_those_to_a_server() {
    let authority = Authority::new("ours").unwrap();
    let pair_of = |life| authority.issue("sentinel.example", &["sentinel.example"], life).unwrap();
    let (valid, expired) = (pair_of(Life::Long), pair_of(Life::Expired));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| written(folder.path(), name, text);
    let [ca, other] = authorities(folder.path(), &authority);
    let own = authority.issue("larder", &[], Life::Long).unwrap();
    let (certificate, key) = (file("cert", &own.certificate), file("key", &own.key));
    let with = |certificate: &larder_testing::certificates::Pair| {
        let tls = certificate.clone();
        let authority = authority.pem.clone();
        move |options: ServerOptions| options.tls(&tls.certificate, &tls.key, &authority)
    };
    let right = TlsOptions::new().ca_file(&ca).client_certificate(&certificate, &key).server_name("sentinel.example");
    for pair in Pair::all(with(&valid)).await {
        let port = pair.sentinel.tls_port().unwrap();
        let at = |tls| watching(SentinelOptions::new(Watched::NAME).host("127.0.0.1", port).tls(tls));
        let node = Node::begin(at(right.clone()));
        node.readable().await;
        node.set("1", &["a"], "found over TLS, stored without").await;
        for (wrong, words) in [
            (right.clone().ca_file(&other), &["no authority in `ca_file` has issued it"][..]),
            (right.clone().server_name("another.example"), &["does not name another.example", "`server_name`"]),
            (
                TlsOptions::new().ca_file(&ca).server_name("sentinel.example"),
                &["asks for a client's certificate", "`cert_file`"],
            ),
        ] {
            says(&refusal(at(wrong)).await, words);
        }
        let plain = watching(SentinelOptions::new(Watched::NAME).host("127.0.0.1", port));
        says(&refusal(plain).await, &["if this is a port for TLS, give `tls: true` under `sentinel`"]);
        says(
            &refusal(watching(pair.sentinels().tls(right.clone()))).await,
            &["no port for TLS", "connect without TLS"],
        );
    }
    for pair in Pair::all(with(&expired)).await {
        let port = pair.sentinel.tls_port().unwrap();
        let at = watching(SentinelOptions::new(Watched::NAME).host("127.0.0.1", port).tls(right.clone()));
        says(&refusal(at).await, &["it has expired", "renew it on the server"]);
    }
}

/// TLS to the server that a Sentinel names, and none to the Sentinel.
#[tokio::test]
async fn the_server_that_a_sentinel_names_is_reached_with_tls_and_mistakes_are_told() {
    let authority = Authority::new("ours").unwrap();
    let pair = authority.issue("server", &["127.0.0.1"], Life::Long).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [ca, other] = authorities(folder.path(), &authority);
    for binary in required().unwrap() {
        let secured = ServerOptions::default().tcp().tls(&pair.certificate, &pair.key, &authority.pem);
        let server = Server::start(&binary, secured.config("tls-auth-clients no")).await.unwrap();
        let named = Said { port: server.tls_port().unwrap(), ..Said::of(&server, 0) };
        let sentinel = Sentinel::start(named).await;
        let watched = watching(SentinelOptions::new(Watched::NAME).host("127.0.0.1", sentinel.port()));
        let node = Node::begin(watched.clone().tls(TlsOptions::new().ca_file(&ca)));
        node.readable().await;
        node.set("1", &["a"], "stored over TLS").await;
        let refused = refusal(watched.clone().tls(TlsOptions::new().ca_file(&other))).await;
        says(&refused, &["the server's certificate is refused", "no authority in `ca_file`"]);
        let named = TlsOptions::new().ca_file(&ca).server_name("another.example");
        says(&refusal(watched.clone().tls(named)).await, &["does not name another.example", "`server_name`"]);
        says(&refusal(watched).await, &["if this is a port for TLS"]);
    }
}
