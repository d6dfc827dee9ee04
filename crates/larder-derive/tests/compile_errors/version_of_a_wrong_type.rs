use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a")]
struct A(#[key(primary, index = "id")] u8, #[version] i64);

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "b")]
struct B(#[key(primary, index = "id")] u8, #[version] Option<u64>);

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "c")]
struct C(#[key(primary, index = "id")] u8, #[version] u128);

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "d")]
struct D(#[key(primary, index = "id")] u8, #[version] String);

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "e")]
#[version]
struct E(#[key(primary, index = "id")] u8);

fn main() {}
