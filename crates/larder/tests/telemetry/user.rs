//! The entry of these tests.

use larder::Entry;
use serde::{Deserialize, Serialize};

/// A user, found by any of their logins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "user")]
pub(crate) struct User {
    #[key(primary)]
    pub(crate) id: u32,
    #[key(index = "login")]
    pub(crate) logins: Vec<String>,
}

pub(crate) fn user(id: u32, logins: &[&str]) -> User {
    User { id, logins: logins.iter().map(|login| (*login).to_owned()).collect() }
}
