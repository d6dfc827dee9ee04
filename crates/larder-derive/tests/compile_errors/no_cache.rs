use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
struct UserAccount {
    #[key(primary)]
    id: String,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(revision = 1)]
struct A {
    #[key(primary)]
    id: String,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry]
struct B {
    #[key(primary)]
    id: String,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry("c")]
struct C {
    #[key(primary)]
    id: String,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = d)]
struct D {
    #[key(primary)]
    id: String,
}

fn main() {}
