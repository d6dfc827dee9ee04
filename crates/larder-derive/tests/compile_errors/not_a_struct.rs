use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a")]
enum A {
    One {
        #[key(primary)]
        id: String,
    },
}

#[derive(Entry)]
#[entry(cache = "b")]
union B {
    id: u8,
}

fn main() {}
