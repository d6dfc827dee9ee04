//! A cluster with TLS, on the way to its nodes and between them.

use crate::cluster::{INSTANCES, Node, SITES, options, set_site};
use larder::connector::redis::{RedisOptions, TlsOptions};
use larder_testing::certificates::{Authority, Life};
use larder_testing::cluster::Cluster;
use larder_testing::server::{Server, ServerOptions, required};

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
