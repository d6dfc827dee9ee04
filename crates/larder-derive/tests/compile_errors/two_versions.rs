use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a")]
struct A {
    #[key(primary)]
    id: String,
    #[version]
    sequence: u64,
    #[version]
    changed: u64,
}

fn main() {}
