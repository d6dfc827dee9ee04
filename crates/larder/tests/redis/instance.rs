//! The entry of these tests.

use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
pub(crate) struct Instance {
    #[key(primary)]
    pub(crate) id: String,
    #[key(index = "host")]
    pub(crate) hosts: Vec<String>,
    pub(crate) name: String,
}

pub(crate) fn instance(id: &str, hosts: &[&str], name: &str) -> Instance {
    Instance { id: id.to_owned(), hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), name: name.to_owned() }
}
