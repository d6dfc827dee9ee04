//! [`ServerOptions`].

/// The files of certificate, key and authority, in the server's folder.
pub(super) const TLS_FILES: [&str; 3] = ["server.crt", "server.key", "ca.crt"];

/// How a server is run. By default the server saves nothing, listens only on its Unix socket, and lets everybody in.
///
/// ```
/// use larder_testing::server::ServerOptions;
///
/// let small = ServerOptions::default().tcp().config("maxmemory 3mb").config("requirepass opensesame");
/// ```
///
/// Give no real passwords here: they can show up in the server's log and in `Debug`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerOptions {
    lines: Vec<String>,
    databases: Option<u16>,
    pub(super) persistent: bool,
    pub(super) sentinel: bool,
    pub(super) tcp: bool,
    /// Certificate, key and authority.
    pub(crate) tls: Option<[String; 3]>,
}

impl ServerOptions {
    /// Adds a line to the server's configuration file, after the lines that larder-testing writes, so that the added line wins:
    /// `maxmemory 3mb`, `user reader on >secret ~* +get`, `replicaof 127.0.0.1 16001`.
    #[must_use]
    pub fn config(mut self, line: impl Into<String>) -> ServerOptions {
        self.lines.push(line.into());
        self
    }

    /// Lets the server keep its data over a [restart](super::Server::restart), in a snapshot. A [killed](super::Server::kill) server goes
    /// back to its last snapshot. The server takes a snapshot after an hour, or when it is told to `SAVE`.
    #[must_use]
    pub fn persistent(mut self) -> ServerOptions {
        self.persistent = true;
        self
    }

    /// Lets the server listen on a free port of 127.0.0.1, too.
    #[must_use]
    pub fn tcp(mut self) -> ServerOptions {
        self.tcp = true;
        self
    }

    /// Lets the server listen on a free port of 127.0.0.1 with TLS, too, with this certificate and key. It trusts the clients of this
    /// authority, and asks every client for a certificate: the line `tls-auth-clients no` changes that. All three are in PEM format.
    #[must_use]
    pub fn tls(mut self, certificate: &str, key: &str, authority: &str) -> ServerOptions {
        self.tls = Some([certificate, key, authority].map(str::to_owned));
        self
    }

    /// Gives the server this many databases instead of 16.
    #[must_use]
    pub fn databases(mut self, count: u16) -> ServerOptions {
        self.databases = Some(count);
        self
    }

    /// Makes the server a Sentinel, which watches the master at this port of 127.0.0.1 under this name. So many Sentinels must agree that the
    /// master is down; each takes it to be down after a second. A Sentinel keeps over a restart what it has found out, and takes no other
    /// options then.
    #[must_use]
    pub fn sentinel(mut self, master: &str, port: u16, quorum: usize) -> ServerOptions {
        self.sentinel = true;
        self.config(format!("sentinel monitor {master} 127.0.0.1 {port} {quorum}"))
            .config(format!("sentinel down-after-milliseconds {master} 1000"))
            .config(format!("sentinel failover-timeout {master} 10000"))
    }

    pub(super) fn lines(&self) -> String {
        let mut lines = String::from(if self.persistent { "save 3600 1\n" } else { "save \"\"\n" });
        lines.extend(self.databases.map(|count| format!("databases {count}\n")));
        if self.tls.is_some() {
            let [certificate, key, authority] = TLS_FILES;
            lines.push_str(&format!("tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {authority}\n"));
        }
        lines.extend(self.lines.iter().map(|line| format!("{line}\n")));
        lines
    }
}
