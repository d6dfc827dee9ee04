//! stub
#![allow(missing_docs, dead_code)]
use std::path::PathBuf;
use std::time::Duration;
#[derive(Clone, Debug)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(p) => write!(f, "{}", p.display()),
        }
    }
}
#[derive(Clone, Debug)]
pub struct Secret(String);
impl Secret {
    pub fn new(s: impl Into<String>) -> Self {
        Self(s.into())
    }
    pub fn expose(&self) -> &str {
        &self.0
    }
}
#[derive(Clone, Debug, Default)]
pub struct BreakerSettings(crate::breaker::BreakerConfig);
impl std::ops::Deref for BreakerSettings {
    type Target = crate::breaker::BreakerConfig;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
impl std::ops::DerefMut for BreakerSettings {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
impl BreakerSettings {
    pub fn to_config(&self, max_in_flight: usize) -> crate::breaker::BreakerConfig {
        crate::breaker::BreakerConfig { max_in_flight, ..self.0.clone() }
    }
}
#[derive(Clone, Debug)]
pub struct RedisConfig {
    pub address: Address,
    pub database: u32,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub client_name: Option<String>,
    pub prefix: String,
    pub connect_timeout: Duration,
    pub operation_timeout: Duration,
    pub breaker: BreakerSettings,
    pub journal_limit: usize,
    pub hints: usize,
    pub max_in_flight: usize,
}
impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            address: Address::Tcp { host: "127.0.0.1".into(), port: 6379 },
            database: 0,
            username: None,
            password: None,
            client_name: None,
            prefix: "larder".into(),
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_millis(100),
            breaker: BreakerSettings::default(),
            journal_limit: 10000,
            hints: 100000,
            max_in_flight: 256,
        }
    }
}
