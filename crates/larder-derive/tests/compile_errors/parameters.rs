use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a")]
struct A<'a> {
    #[key(primary)]
    id: &'a str,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "b")]
struct B<T, const N: usize> {
    #[key(primary)]
    id: T,
}

fn main() {}
