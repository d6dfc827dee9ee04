//! Credentials that a program provides, for tokens that are valid for minutes: [`CredentialsProvider`].

use super::secret::Secret;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A password, and perhaps whose it is and how long it is valid.
///
/// ```
/// use larder::connector::Credentials;
/// use std::time::Duration;
///
/// let credentials = Credentials::new("barley").username("larder").valid_for(Duration::from_secs(900));
/// # let _ = credentials;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) username: Option<String>,
    pub(crate) password: Secret,
    pub(crate) valid_for: Option<Duration>,
}

impl Credentials {
    /// A password that does not end, for the user that the options name.
    pub fn new(password: impl Into<Secret>) -> Self {
        Self { username: None, password: password.into(), valid_for: None }
    }

    /// The same password for this user, instead of the one that the options name.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The same password, which is valid for this time from now on. A connection to Redis logs in again after half of that time, with new
    /// credentials. A session of PostgreSQL outlives its password, so there the time has no effect.
    #[must_use]
    pub fn valid_for(mut self, valid_for: Duration) -> Self {
        self.valid_for = Some(valid_for);
        self
    }
}

/// Gives the credentials for each login to a server, such as a token that an identity service issues for a quarter of an hour.
///
/// larder asks at each connect, and again on a connection to Redis before the credentials end (see [`Credentials::valid_for`]).
///
/// ```
/// use larder::connector::redis::RedisOptions;
/// use larder::connector::{Credentials, CredentialsProvider};
/// use std::error::Error;
/// use std::time::Duration;
///
/// struct Tokens;
///
/// impl CredentialsProvider for Tokens {
///     async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
///         let token = fetch_token().await?;
///         Ok(Credentials::new(token).username("larder").valid_for(Duration::from_secs(900)))
///     }
/// }
/// # async fn fetch_token() -> Result<String, std::io::Error> { Ok("token".into()) }
///
/// let options = RedisOptions::new("cache.internal:6379").credentials_provider(Tokens);
/// # assert!(options.validate().is_ok());
/// ```
pub trait CredentialsProvider: Send + Sync + 'static {
    /// The credentials that are valid now.
    ///
    /// # Errors
    ///
    /// There are none now. The text of the error is logged, so it must hold no secret. A connect that gets no credentials has failed, and is
    /// tried again. A connection that is there goes on without new credentials until the old ones end.
    ///
    /// # Cancellation
    ///
    /// The future is dropped if it takes longer than what is left of `connect_timeout`, or of the old credentials.
    fn credentials(&self) -> impl Future<Output = Result<Credentials, Box<dyn Error + Send + Sync>>> + Send;
}

type Provided<'a> = Pin<Box<dyn Future<Output = Result<Credentials, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// A provider of any type.
trait AnyProvider: Send + Sync {
    #[cfg_attr(not(any(feature = "redis", feature = "postgres")), allow(dead_code, reason = "no server, no login"))]
    fn provide(&self) -> Provided<'_>;
}

impl<P: CredentialsProvider> AnyProvider for P {
    fn provide(&self) -> Provided<'_> {
        Box::pin(self.credentials())
    }
}

/// A provider among options. It equals its clones only.
#[derive(Clone)]
pub(crate) struct Provider(Arc<dyn AnyProvider>);

impl Provider {
    pub(crate) fn new(provider: impl CredentialsProvider) -> Self {
        Self(Arc::new(provider))
    }
}

impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsProvider")
    }
}

#[cfg(any(feature = "redis", feature = "postgres"))]
pub(crate) use login::Login;

#[cfg(any(feature = "redis", feature = "postgres"))]
mod login {
    use crate::connector::credentials::Provider;
    use crate::connector::remote::{Trouble, What};
    use crate::connector::secret::Secret;
    use std::time::Duration;

    /// Who logs in, at one connect.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Login {
        pub(crate) username: Option<String>,
        pub(crate) password: Option<Secret>,
        #[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "a session of PostgreSQL outlives its password"))]
        pub(crate) valid_for: Option<Duration>,
    }

    impl Login {
        /// Asks the provider, or reads the password's file again: either may have changed since the last connect.
        pub(crate) async fn now(
            username: Option<&str>,
            password: Option<&Secret>,
            provider: Option<&Provider>,
        ) -> Result<Self, Trouble> {
            let username = username.map(str::to_owned);
            if let Some(Provider(provider)) = provider {
                let credentials = provider.provide().await;
                let credentials = credentials
                    .map_err(|error| Trouble::broken(format!("the program provides no credentials: {error}")))?;
                return Ok(Self {
                    username: credentials.username.or(username),
                    password: Some(credentials.password),
                    valid_for: credentials.valid_for,
                });
            }
            let Some(password) = password.cloned() else { return Ok(Self { username, ..Self::default() }) };
            if password.file().is_none() {
                return Ok(Self { username, password: Some(password), valid_for: None });
            }
            // The disk may hang, so the file is not read here, where other tasks wait.
            let read = tokio::task::spawn_blocking(move || password.read_again());
            match read.await.map_err(|_| Trouble::Unavailable)? {
                Ok(password) => Ok(Self { username, password: Some(password), valid_for: None }),
                Err(error) => {
                    let text = format!("{error}: restore the file, or give another `password_file`");
                    Err(Trouble::Error { what: What::Refused, text })
                }
            }
        }
    }
}
