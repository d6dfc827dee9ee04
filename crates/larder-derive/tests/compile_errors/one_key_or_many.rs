use larder::Entry;
use serde::{Deserialize, Serialize};

use std::collections::{BTreeMap, VecDeque};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a", key(index = "computed", with = Self::computed, type = u8))]
struct A {
    #[key(primary)]
    id: String,
    #[key(index)]
    bytes: VecDeque<u8>,
    #[key(index)]
    map: BTreeMap<String, String>,
}

impl A {
    fn computed(&self) -> impl Iterator<Item = u8> {
        self.bytes.iter().copied()
    }
}

fn main() {}
