//! Of a server with TLS.

use super::{check, findings, only_problem, yaml};
use larder_testing::certificates::{Authority, Life};
use larder_testing::server::{Server, ServerOptions, required};
use std::fs;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

/// Writes a file of this name.
fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn certificates_are_judged_and_shown() {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let (ca, other) = (file(folder.path(), "ca", &ours.pem), file(folder.path(), "other", &theirs.pem));
    for binary in required().unwrap() {
        let pair = ours.issue("cache.example", &["127.0.0.1"], Life::Days(100)).unwrap();
        let options =
            ServerOptions::default().tcp().tls(&pair.certificate, &pair.key, &ours.pem).config("tls-auth-clients no");
        let options = options.config("maxmemory 100mb").config("maxmemory-policy noeviction");
        let server = runtime.block_on(Server::start(&binary, options)).unwrap();
        let (port, plain) = (server.tls_port().unwrap(), server.port().unwrap());
        let with =
            |port: u16, ca: &Path| format!("address: '127.0.0.1:{port}', tls: {{ ca_file: '{}' }}", ca.display());

        let (checked, found) = findings(&with(port, &ca));
        assert_eq!((checked.code, checked.logged.as_str()), (Some(0), ""), "{found:?}");
        let is_shown = |(topic, level, text, _): &(String, String, String, String)| {
            topic == "tls"
                && level == "ok"
                && text.contains("the server's certificate ends on")
                && text.contains("in 100 days")
        };
        assert!(found.iter().any(is_shown), "{found:?}");

        only_problem(&with(port, &other), "tls", "no authority in `ca_file` has issued it");
        let named = with(port, &ca).replace("ca_file", "server_name: other.example, ca_file");
        only_problem(&named, "tls", "does not name other.example");
        only_problem(&with(plain, &ca), "reachable", "no port for TLS");
        only_problem(&format!("address: '127.0.0.1:{port}'"), "reachable", "may expect TLS");

        let soon = ours.issue("cache.example", &["127.0.0.1"], Life::Days(10)).unwrap();
        runtime.block_on(server.renew_tls(&soon.certificate, &soon.key, &ours.pem)).unwrap();
        let told = check("caches.yaml", &yaml(&with(port, &ca)), &[]).told;
        assert!(told.contains("in 10 days") && told.contains("renew what ends"), "{told}");
    }
}
