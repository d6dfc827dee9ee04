use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a", weight = Self::weigh, key(index = "x", with = Self::x, type = String))]
struct A {
    #[key(primary)]
    id: String,
}

impl A {
    fn weigh(&self) -> usize {
        1
    }

    fn x(self) -> String {
        self.id
    }
}

fn main() {}
