//! TLS as libpq's `sslmode` means it, on real servers with certificates that the tests make.

use crate::node::{Node, until};
use crate::refusals::{refusal_of, says};
use larder::connector::postgres::PostgresOptions;
use larder_testing::log::Log;
use larder_testing::postgres::{PostgresServer, required};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;

/// An authority, and what it has issued.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, common: &str, names: &[&str], expired: bool) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        if expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

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
            let secured = Self { server, folder: tempfile::tempdir().unwrap(), authority: Authority::new("ours") };
            secured.file("ca", &secured.authority.pem);
            secured.server.write("ca.crt", &secured.authority.pem).unwrap();
            secured.serve(&secured.authority.issue("localhost", &["localhost"], false));
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
        secured.file("ca", &Authority::new("theirs").pem);
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
        let client = Authority::new("ours").issue("larder", &[], false);
        let key = secured.file("key", &client.key);
        secured.file("cert", &secured.authority.issue("larder", &[], false).certificate);
        secured.file("theirs", &Authority::new("theirs").pem);
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
        secured.serve(&secured.authority.issue("localhost", &["localhost"], true));
        let text = refusal_of(&secured.dsn("sslmode=verify-ca sslrootcert=@ca")).await;
        says(&text, &["the server's certificate is refused", "it has expired"]);
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    for secured in Secured::all().await {
        secured.let_in("hostssl all all all cert");
        for (name, authority, expired) in
            [("good", None, false), ("old", None, true), ("foreign", Some(Authority::new("theirs")), false)]
        {
            let pair = authority.as_ref().unwrap_or(&secured.authority).issue("larder", &[], expired);
            secured.file(&format!("{name}.crt"), &pair.certificate);
            secured.file(&format!("{name}.key"), &pair.key);
        }
        let with = |name: &str| format!("sslmode=verify-full sslrootcert=@ca sslcert=@{name}.crt sslkey=@{name}.key");
        assert!(secured.is_encrypted(&with("good")).await);
        for name in ["old", "foreign"] {
            says(&refusal_of(&secured.dsn(&with(name))).await, &["it may not accept `sslcert`"]);
        }
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
        let renewed = Authority::new("renewed");
        secured.serve(&renewed.issue("localhost", &["localhost"], false));
        let (log, _guard) = Log::begin(Level::INFO);
        secured
            .server
            .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'larder'")
            .unwrap();
        until("the connection is lost", || log.count(&["given up"]) > 0).await;
        assert!(!node.cache.status().readable);
        secured.file("ca", &renewed.pem);
        node.readable().await;
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
