use larder::Entry;
use serde::{Deserialize, Serialize};

type Ids = Vec<String>;

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a")]
struct A {
    #[key(primary)]
    id: Option<String>,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "b")]
struct B {
    #[key(primary)]
    ids: Ids,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "c", key(primary, index = "id", with = Self::id, type = u64))]
struct C {
    ids: Vec<u64>,
}

impl C {
    fn id(&self) -> Option<u64> {
        self.ids.first().copied()
    }
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "d")]
struct D {
    #[key(primary, each)]
    ids: Vec<u64>,
}

fn main() {}
