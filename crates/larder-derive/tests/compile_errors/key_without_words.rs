use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a")]
struct A {
    #[key(primary)]
    id: String,
    #[key]
    host: String,
    #[key()]
    name: String,
    #[key = "mail"]
    mail: String,
    #[key("login")]
    login: String,
    #[key(each)]
    tags: Vec<String>,
}

fn main() {}
