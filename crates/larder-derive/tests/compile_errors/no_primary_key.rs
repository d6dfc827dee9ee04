use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a")]
struct A {
    #[key(index = "host")]
    hosts: Vec<String>,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "b")]
struct B;

fn main() {}
