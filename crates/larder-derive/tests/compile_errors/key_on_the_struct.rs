use larder::Entry;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "a", key(index = "x"), key(with = Self::y), key(primary, index, with = Self::z))]
#[entry(key(index = "w", with = Self::w, fields = (id, name)), key(index = "v", each, fields = (id, name)))]
#[entry(key(index = "u", type = String, fields = (id, name)), key(index = "t", with = Self::t))]
#[key(index = "host")]
struct A {
    #[key(primary)]
    id: String,
    #[key(index = "name", with = Self::name)]
    name: String,
    #[key(index = "mail", fields = (id, mail))]
    mail: String,
    #[entry(key(index = "login"))]
    login: String,
}

fn main() {}
