//! [`Certificates`]: those of the server and of its clients in a run with `--tls`. Nodes read theirs from files.

use larder_testing::certificates::{Authority, Fault, Life, Pair};
use std::path::Path;
use tokio::sync::Mutex;

/// The files of a client, in the folder.
pub(crate) const AUTHORITY: &str = "ca.pem";
pub(crate) const CERTIFICATE: &str = "client.pem";
pub(crate) const KEY: &str = "client.key";

/// Why certificates were not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotMade {
    #[error("a certificate: {0}")]
    Certificate(#[from] Fault),
    #[error("the file of a certificate: {0}")]
    File(#[from] std::io::Error),
}

/// The authority that is in force, and the files that nodes read.
#[derive(Debug)]
pub(crate) struct Certificates {
    folder: tempfile::TempDir,
    authority: Mutex<Authority>,
}

impl Certificates {
    /// An authority, and a client's certificate of it.
    pub(crate) fn new() -> Result<Self, NotMade> {
        let authority = Authority::new("the first authority")?;
        let folder = tempfile::Builder::new().prefix("larder-torture-").tempdir()?;
        write(folder.path(), &authority, &authority.pem)?;
        Ok(Self { folder, authority: Mutex::new(authority) })
    }

    /// Where the files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A certificate for the server, and those whom the server is to trust.
    pub(crate) async fn of_server(&self, life: Life) -> Result<(Pair, String), NotMade> {
        let authority = self.authority.lock().await;
        Ok((issue(&authority, life)?, authority.pem.clone()))
    }

    /// Puts another authority in the place of this one. Nodes and server are to trust both, until each has a certificate of the new one. Returns the server's
    /// new certificate, and both authorities.
    pub(crate) async fn other_authority(&self) -> Result<(Pair, String), NotMade> {
        let new = Authority::new("another authority")?;
        let mut authority = self.authority.lock().await;
        let both = format!("{}{}", authority.pem, new.pem);
        write(self.folder(), &new, &both)?;
        let pair = issue(&new, Life::Long)?;
        *authority = new;
        Ok((pair, both))
    }
}

/// A server's certificate. Nodes know the server by the address of their proxy.
fn issue(authority: &Authority, life: Life) -> Result<Pair, Fault> {
    authority.issue("cache.example", &["127.0.0.1"], life)
}

/// Writes the files of a client.
fn write(folder: &Path, authority: &Authority, trusted: &str) -> Result<(), NotMade> {
    let own = authority.issue("larder", &[], Life::Long)?;
    for (name, text) in [(AUTHORITY, trusted), (CERTIFICATE, &own.certificate), (KEY, &own.key)] {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}
