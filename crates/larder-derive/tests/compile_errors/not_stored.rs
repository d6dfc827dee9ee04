use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a")]
struct A {
    #[key(primary)]
    #[serde(rename = "key")]
    id: String,
    #[serde(skip)]
    #[key(index = "host")]
    hosts: Vec<String>,
    #[key(index)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fine: Option<String>,
    #[serde(default, skip_deserializing)]
    #[version]
    sequence: u64,
    #[serde(skip)]
    neither: u64,
}

fn main() {}
