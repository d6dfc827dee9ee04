use larder::{Entry, Key, KeyBytes};
use serde::{Deserialize, Serialize};

type Hosts = Vec<String>;
type Byte = u8;

/// A key, and no `KeyFor`.
#[derive(Serialize, Deserialize)]
struct Name(String);

impl Key for Name {
    type Owned = String;

    fn encode(&self) -> KeyBytes<'_> {
        self.0.encode()
    }

    fn to_owned_key(&self) -> String {
        self.0.clone()
    }
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a", key(index = "computed", with = Self::computed, type = u64))]
struct A {
    #[key(primary)]
    id: String,
    #[key(index)]
    hosts: Hosts,
    #[key(index)]
    bytes: Vec<Byte>,
    #[key(index, type = u64)]
    number: u32,
    #[key(index)]
    name: Name,
}

impl A {
    fn computed(&self) -> &str {
        &self.id
    }
}

fn main() {}
