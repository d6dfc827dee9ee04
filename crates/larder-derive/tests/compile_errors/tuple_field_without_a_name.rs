use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a")]
struct A(#[key(primary)] u8, #[key(index)] u8);

fn main() {}
