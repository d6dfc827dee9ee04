use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "user accounts", key(index = "", with = Self::name, type = String))]
struct A {
    #[key(primary, index = "id:1")]
    id: String,
    #[key(index = "-")]
    dash: String,
    #[key(index)]
    größe: u64,
    #[key(index)]
    fine: u64,
}

fn main() {}
