//! [`Renewal`]: the configuration of TLS in use, made anew when its files have changed.
//!
//! # A configuration for each generation of files
//!
//! A configuration keeps the sessions that can be resumed. A session that is resumed has the identity of its first handshake: the server
//! sees the old certificate, also if it has ended since. So new files give a new configuration, without sessions (pitfall T15).
//!
//! # Files that cannot be used
//!
//! Whoever renews a certificate writes two files, one after the other. In between, certificate and key are no pair. So a configuration that
//! works stays in use until the files give another that works, and one warning says what is wrong with them.

use super::CertificateError;
use super::certificate::Validity;
use super::explaining::Words;
use super::files::{Files, Material, Roots};
use parking_lot::Mutex;
use rustls::ClientConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;
use tokio::runtime::Handle;

/// How often the files are looked at while a connection is in use, in ms. They are looked at before each connection as well.
const LOOK_EVERY: u64 = 60_000;

/// How often a certificate that ends is warned of, in ms.
const WARN_EVERY: u64 = 24 * 3600 * 1000;

/// Makes a configuration of what stands in the files.
type Make = dyn Fn(Material) -> Result<ClientConfig, rustls::Error> + Send + Sync;

/// The configuration of TLS for one server.
pub(crate) struct Renewal {
    /// The server's address, for the log.
    server: String,
    files: Files,
    words: &'static Words,
    make: Box<Make>,
    state: Mutex<State>,
    /// When the files were last looked at beside connecting, in ms of the node's clock.
    looked: AtomicU64,
    /// Whether a look is under way. On a disk that hangs, one thread waits and no second one.
    looking: AtomicBool,
}

#[derive(Default)]
struct State {
    current: Option<Generation>,
    /// What was last said of files that cannot be used.
    told: Option<CertificateError>,
    /// Of the certificate that the server has shown at the last handshake.
    server: Option<Validity>,
    warned: [Warned; 2],
}

struct Generation {
    config: Arc<ClientConfig>,
    digest: u128,
    validity: Option<Validity>,
}

/// When the end of a certificate was last warned of.
#[derive(Clone, Copy, Default)]
struct Warned(Option<u64>);

impl Warned {
    /// Whether it is time to warn of a certificate. `now` is the time of the node's clock, in ms.
    fn is_due(&mut self, validity: &Validity, today: SystemTime, now: u64) -> bool {
        let due = validity.ends_soon(today) && self.0.is_none_or(|last| now >= last.saturating_add(WARN_EVERY));
        if due {
            self.0 = Some(now);
        }
        due
    }
}

impl Renewal {
    pub(crate) fn new(
        server: String,
        files: Files,
        words: &'static Words,
        make: impl Fn(Material) -> Result<ClientConfig, rustls::Error> + Send + Sync + 'static,
    ) -> Self {
        let (state, looked, looking) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        Self { server, files, words, make: Box::new(make), state, looked, looking }
    }

    /// The configuration for a new connection. Reads the files, on a thread of the runtime that may wait for the disk.
    ///
    /// # Errors
    ///
    /// The files cannot be used, and none that could were there before.
    pub(crate) async fn config(self: &Arc<Self>) -> Result<Arc<ClientConfig>, CertificateError> {
        let looked = self.reload_on(&Handle::current()).await;
        match (&self.state.lock().current, looked) {
            (Some(generation), _) => Ok(generation.config.clone()),
            (None, Err(error)) => Err(error),
            // Not reached: a look without an error leaves a configuration.
            (None, Ok(())) => Err(CertificateError("TLS is not set up".to_owned())),
        }
    }

    /// Reads the files now, on a thread of this runtime, so that the next connection uses what stands there.
    ///
    /// # Errors
    ///
    /// The files cannot be used. What was used before stays in use.
    pub(crate) async fn reload_on(self: &Arc<Self>, runtime: &Handle) -> Result<(), CertificateError> {
        let renewal = self.clone();
        let Ok((looked, news)) = runtime.spawn_blocking(move || renewal.look()).await else {
            return Err(CertificateError("the runtime has ended, and so have its connections".to_owned()));
        };
        let server = &*self.server;
        match news {
            None => {}
            Some(News::Renewed) => tracing::info!(%server, "the files of TLS have changed: new connections use them"),
            Some(News::Unusable(error)) => tracing::warn!(
                %server,
                "the files of TLS have changed and cannot be used, so what stood there before stays in use: {error}"
            ),
        }
        looked
    }

    /// Looks at the files, if nobody has for a minute, and warns of certificates that end. `now` is the time of the node's clock, in ms. Must
    /// be called on a runtime. The caller does not wait.
    pub(crate) fn look_if_due(self: &Arc<Self>, now: u64) {
        let looked = self.looked.load(Ordering::Relaxed);
        if now < looked.saturating_add(LOOK_EVERY) || self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        self.looked.store(now, Ordering::Relaxed);
        let renewal = self.clone();
        tokio::spawn(async move {
            // What cannot be used has been told to the log.
            let _ = renewal.reload_on(&Handle::current()).await;
            renewal.warn(now);
            renewal.looking.store(false, Ordering::Release);
        });
    }

    /// Notes the certificate that the server has shown. Where every certificate is accepted, its end ends nothing.
    pub(crate) fn seen(&self, certificate: Option<&[u8]>) {
        let certificate = certificate.filter(|_| self.files.roots != Roots::None);
        self.state.lock().server = certificate.and_then(Validity::of);
    }

    /// How long the server's certificate and the client's own are valid, as far as is known.
    pub(crate) fn validity(&self) -> (Option<Validity>, Option<Validity>) {
        let state = self.state.lock();
        (state.server, state.current.as_ref().and_then(|generation| generation.validity))
    }

    /// Warns of certificates that end soon, once a day. `now` is the time of the node's clock, in ms.
    pub(crate) fn warn(&self, now: u64) {
        let (server, own) = self.validity();
        let today = SystemTime::now();
        let mut state = self.state.lock();
        let [of_server, of_client] = &mut state.warned;
        for (whose, validity, warned) in [("the server's", server, of_server), ("the client's", own, of_client)] {
            if let Some(validity) = validity
                && warned.is_due(&validity, today, now)
            {
                tracing::warn!(server = %self.server, "{whose} certificate {}: renew it", validity.end(today));
            }
        }
    }

    /// Reads the files, and makes a new configuration if they have changed. Also returns what the log should say.
    fn look(&self) -> (Result<(), CertificateError>, Option<News>) {
        let mut state = self.state.lock();
        match self.read(state.current.as_ref()) {
            Ok(read) => {
                let news = (read.is_some() && state.current.is_some()).then_some(News::Renewed);
                state.current = read.or(state.current.take());
                state.told = None;
                (Ok(()), news)
            }
            Err(error) => {
                // Without one to keep, the error is that of the connection.
                let is_news = state.current.is_some() && state.told.as_ref() != Some(&error);
                state.told = Some(error.clone());
                (Err(error.clone()), is_news.then_some(News::Unusable(error)))
            }
        }
    }

    /// Reads the files. `None`: they are as they were.
    fn read(&self, known: Option<&Generation>) -> Result<Option<Generation>, CertificateError> {
        let material = self.files.read(self.words)?;
        if known.is_some_and(|generation| generation.digest == material.digest) {
            return Ok(None);
        }
        let now = SystemTime::now();
        let (digest, validity) = (material.digest, material.validity);
        // The server decides about a certificate that is not valid. But it is no reason to give up one that is.
        let gives_up_one = known.is_some_and(|known| known.validity.is_none_or(|known| known.is_valid(now)));
        if gives_up_one
            && let Some(error) = validity.and_then(|validity| self.files.not_valid(self.words, &validity, now))
        {
            return Err(error);
        }
        let config = (self.make)(material).map_err(|error| self.files.no_pair(self.words, &error))?;
        Ok(Some(Generation { config: Arc::new(config), digest, validity }))
    }
}

/// What a look at the files has found, for the log.
enum News {
    Renewed,
    Unusable(CertificateError),
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal").field("server", &self.server).field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Roots;
    use super::*;
    use larder_testing::certificates::Authority;
    use rustls::RootCertStore;
    use std::time::Duration;

    /// A connection may stay open for months. The files are looked at all the same.
    #[tokio::test]
    async fn files_are_looked_at_once_a_minute() {
        static WORDS: Words = Words { roots: "ca", certificate: "cert", key: "key", other_name: "", no_tls: "" };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        let write = || std::fs::write(&path, Authority::new("ours").unwrap().pem).unwrap();
        let made = Arc::new(AtomicU64::new(0));
        let counted = made.clone();
        let files = Files { roots: Roots::File(path.clone()), client: None };
        let renewal = Arc::new(Renewal::new("h".to_owned(), files, &WORDS, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }));
        write();
        renewal.config().await.unwrap();
        for (now, expected) in [(LOOK_EVERY - 1, 1), (LOOK_EVERY, 2), (2 * LOOK_EVERY - 1, 2), (2 * LOOK_EVERY, 3)] {
            write();
            renewal.look_if_due(now);
            while renewal.looking.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
            assert_eq!(made.load(Ordering::SeqCst), expected, "{now}");
        }
    }

    #[test]
    fn an_end_is_warned_of_once_a_day() {
        let (today, hour, day) = (SystemTime::now(), 3_600_000, Duration::from_secs(24 * 3600));
        let (near, far) = [10, 20].map(|left| Validity { begins: today - day * 300, ends: today + day * left }).into();
        let mut warned = Warned::default();
        assert!(!warned.is_due(&far, today, hour));
        assert!(warned.is_due(&near, today, hour));
        assert!(!warned.is_due(&near, today, hour + WARN_EVERY - 1));
        assert!(warned.is_due(&near, today, hour + WARN_EVERY));
    }
}
