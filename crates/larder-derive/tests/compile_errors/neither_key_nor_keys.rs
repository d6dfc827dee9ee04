use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Other;

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a", key(index = "x", with = Self::x, type = u8), key(index = "y", with = Self::y, each, type = f64))]
struct A {
    #[key(primary)]
    id: Other,
    #[key(index)]
    other: Other,
    #[key(index)]
    others: Vec<Other>,
    #[key(index)]
    nested: Option<Vec<String>>,
    #[key(index)]
    number: f64,
    #[key(index, each)]
    text: String,
}

impl A {
    fn x(&self) {}

    fn y(&self) -> Vec<f64> {
        vec![]
    }
}

fn main() {}
