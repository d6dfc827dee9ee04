use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a", cache = "b")]
#[entry(cache = "c", key(index = "x", with = Self::x, with = Self::x, type = u8, type = u8))]
struct A {
    #[key(primary, primary)]
    id: String,
    #[key(index = "host", index)]
    #[key(index = "more")]
    hosts: Vec<String>,
}

fn main() {}
