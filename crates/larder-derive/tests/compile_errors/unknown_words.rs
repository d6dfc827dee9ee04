use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cash = "a", ttl = 5, index = ByName, store::cache = "a")]
struct A {
    #[key(primary, unique)]
    id: String,
    #[key(name = "host", each)]
    hosts: Vec<String>,
}

fn main() {}
