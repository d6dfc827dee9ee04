use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(
    cache = "a",
    key(index = "x", fields = (id, nmae)),
    key(index = "y", fields = (id)),
    key(index = "z", fields = ()),
    key(index = "w", fields = (id, id)),
    key(index = "v", fields = (id, a, b, c, d)),
)]
struct A {
    #[key(primary)]
    id: String,
    a: u8,
    b: u8,
    c: u8,
    d: u8,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "b", key(primary, index = "id", fields = (0, 1, 2)))]
struct B(String, Option<String>, Vec<u64>);

fn main() {}
