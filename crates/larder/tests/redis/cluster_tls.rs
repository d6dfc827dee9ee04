//! A cluster with TLS, on the way to its nodes and between them.

use crate::cluster::{INSTANCES, Node, SITES, options, set_site};
use crate::instance::Instance;
use crate::node::until;
use larder::connector::redis::{RedisCluster, RedisOptions, TlsOptions};
use larder::{Connector, Schema};
use larder_testing::certificates::{Authority, Life};
use larder_testing::cluster::Cluster;
use larder_testing::log::Log;
use larder_testing::server::{Server, ServerBinary, ServerOptions, required};
use tracing::Level;

/// A cluster, and a folder for the files of its clients.
struct Secured {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Secured {
    /// One of each kind: three primaries, each with a replica. Their certificates are of 127.0.0.1.
    async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for binary in required().unwrap() {
            let authority = Authority::new("ours").unwrap();
            let pair = authority.issue("node", &["127.0.0.1"], Life::Long).unwrap();
            let options = ServerOptions::default()
                .tls(&pair.certificate, &pair.key, &authority.pem)
                .config("cluster-require-full-coverage no");
            let cluster = Cluster::start(&binary, options, 3, 1).await.unwrap();
            let folder = tempfile::tempdir().unwrap();
            let own = authority.issue("larder", &[], Life::Long).unwrap();
            for (name, text) in [("ca", &authority.pem), ("cert", &own.certificate), ("key", &own.key)] {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            all.push(Self { cluster, folder });
        }
        all
    }

    fn options(&self) -> RedisOptions {
        let address = |node: &Server| format!("127.0.0.1:{}", node.tls_port().unwrap());
        let [first, others @ ..] = self.cluster.nodes() else { panic!("no node") };
        let path = |name: &str| self.folder.path().join(name);
        let tls = TlsOptions::new().ca_file(path("ca")).client_certificate(path("cert"), path("key"));
        options(&self.cluster).address(address(first)).cluster(others.iter().map(address)).tls(tls)
    }

    async fn node(&self) -> Node {
        let node = Node::begin(self.options());
        node.readable().await;
        node
    }

    /// Asserts that larder has connections to this node, and none of them to its port without TLS.
    async fn is_reached_with_tls_only(&self, node: usize) {
        let server = &self.cluster.nodes()[node];
        let list = server.command(&["CLIENT", "LIST", "TYPE", "normal"]).await.unwrap();
        let list = String::from_utf8_lossy(list.bytes().unwrap()).into_owned();
        let to = |port: Option<u16>| list.contains(&format!(" laddr=127.0.0.1:{} ", port.unwrap()));
        assert!(to(server.tls_port()) && !to(server.port()), "{list}");
    }
}

/// Nodes say where the slots are, and where one has gone. Each of these addresses must be the one with TLS.
#[tokio::test]
async fn primaries_slots_that_move_and_replicas_that_take_over_are_reached_with_tls() {
    for secured in Secured::all().await {
        let cluster = &secured.cluster;
        let (node, observer) = (secured.node().await, secured.node().await);
        node.set("1", "a", "first").await;
        set_site(&node).await;
        observer.finds("a", "first").await;
        assert_eq!((cluster.primary(INSTANCES).await.unwrap(), cluster.primary(SITES).await.unwrap()), (0, 1));
        for primary in [0, 1] {
            secured.is_reached_with_tls_only(primary).await;
        }

        cluster.move_slot(INSTANCES, 0, 2).await.unwrap();
        node.invalidate("a").await;
        assert_eq!(observer.by_host("a").await, None);
        node.set("1", "a", "moved").await;
        observer.finds("a", "moved").await;
        secured.is_reached_with_tls_only(2).await;

        cluster.nodes()[2].kill();
        cluster.promoted(5).await.unwrap();
        node.invalidate("b").await;
        assert_eq!((node.by_host("a").await, observer.by_host("a").await), (None, None), "the replica may lack writes");
        node.set("1", "a", "promoted").await;
        observer.finds("a", "promoted").await;
        secured.is_reached_with_tls_only(5).await;
    }
}

/// A cluster of one node, whose certificate bears a name. `lines`: more of its configuration.
async fn named(binary: &ServerBinary, name: &str, lines: &[&str]) -> (Cluster, Authority) {
    let authority = Authority::new("ours").unwrap();
    let pair = authority.issue(name, &[name], Life::Long).unwrap();
    let options = ServerOptions::default().tls(&pair.certificate, &pair.key, &authority.pem);
    let options = lines.iter().fold(options.config("tls-auth-clients no"), |options, line| options.config(*line));
    (Cluster::start(binary, options, 1, 0).await.unwrap(), authority)
}

/// Nodes announce numbers, which no certificate here bears. The name is the one that they announce beside it, or the one that was given.
#[tokio::test]
async fn a_node_is_known_by_the_name_that_it_announces_or_that_was_given() {
    for binary in required().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca");
        let none: [&str; 0] = [];
        let tls = TlsOptions::new().ca_file(&ca);
        let to = |cluster: &Cluster, host: &str, tls: &TlsOptions| {
            let address = format!("{host}:{}", cluster.nodes()[0].tls_port().unwrap());
            options(cluster).address(address.as_str()).cluster(none).tls(tls.clone())
        };

        let (cluster, authority) = named(&binary, "localhost", &["cluster-announce-hostname localhost"]).await;
        std::fs::write(&ca, &authority.pem).unwrap();
        let node = Node::begin(to(&cluster, "localhost", &tls));
        node.readable().await;
        node.set("1", "a", "by the announced name").await;

        let (cluster, authority) = named(&binary, "cache.example", &[]).await;
        std::fs::write(&ca, &authority.pem).unwrap();
        let node = Node::begin(to(&cluster, "127.0.0.1", &tls.clone().server_name("cache.example")));
        node.readable().await;
        node.set("1", "a", "by the given name").await;
    }
}

/// As on one server: each mistake is told, and what is changed meanwhile is deferred.
#[tokio::test]
async fn mistakes_of_tls_to_a_cluster_are_told() {
    for secured in Secured::all().await {
        let path = |name: &str| secured.folder.path().join(name);
        let theirs = Authority::new("theirs").unwrap();
        std::fs::write(path("theirs"), &theirs.pem).unwrap();
        let right = TlsOptions::new().ca_file(path("ca")).client_certificate(path("cert"), path("key"));
        let plain = format!("127.0.0.1:{}", secured.cluster.nodes()[0].port().unwrap());
        let none: [&str; 0] = [];
        for (wrong, words) in [
            (
                secured.options().tls(right.clone().ca_file(path("theirs"))),
                ["certificate is refused", "no authority in `ca_file`"],
            ),
            (
                secured.options().tls(right.clone().server_name("other.example")),
                ["does not name other.example", "`server_name`"],
            ),
            (
                secured.options().tls(TlsOptions::new().ca_file(path("ca"))),
                ["asks for a client's certificate", "`cert_file`"],
            ),
            (
                secured.options().address(plain.as_str()).cluster(none),
                ["this is no port for TLS", "connect without TLS"],
            ),
        ] {
            let (log, _guard) = Log::begin(Level::WARN);
            let node = Node::begin(wrong);
            until("it is told", || log.count(&words) > 0).await;
            node.defers().await;
        }
        // Files that cannot be used: what stood there before stays in use.
        let redis = RedisCluster::open(secured.options()).unwrap();
        let cache = redis.connector(Schema::of::<Instance>()).unwrap();
        until("it can be read", || cache.status().readable).await;
        redis.reload().await.unwrap();
        std::fs::write(path("key"), theirs.issue("larder", &[], Life::Long).unwrap().key).unwrap();
        let error = redis.reload().await.unwrap_err().to_string();
        assert!(error.contains("the key is that of another certificate"), "{error}");
    }
}
