use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a", key(index = "id", with = Self::name, type = String))]
struct A {
    #[key(primary)]
    id: String,
    #[key(index = "name")]
    login: String,
    #[key(index)]
    name: String,
    #[key(index = "e_mail")]
    mail: String,
    #[key(index = "e-mail")]
    other: String,
}

fn main() {}
