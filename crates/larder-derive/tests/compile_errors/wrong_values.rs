use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a", revision = "1", weight = |a| 1, crate = "larder")]
#[entry(key(index = "x", with = |a| &a.id), key(index = 5, with = Self::x, type = u8), key(index = "w", with = Self::w, type = 5), key = "x")]
#[entry(key(index = "y", fields = "id"), key(index = "z", fields(id, version)))]
struct A {
    #[key(primary = true)]
    id: String,
    #[key(index("host"))]
    hosts: Vec<String>,
    #[version(u64)]
    version: u64,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "b", revision = 4294967296)]
struct B {
    #[key(primary index = "b")]
    id: String,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "c", revision = -1)]
struct C {
    #[key(primary)]
    id: String,
}

fn main() {}
