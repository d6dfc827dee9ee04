use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a", key(primary, index = "both", fields = (id, uuid)))]
struct A {
    #[key(primary)]
    id: String,
    #[key(primary)]
    uuid: String,
}

fn main() {}
