use larder::{Entry, Index, Keys};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Instance {
    id: u64,
    hosts: Vec<String>,
}

impl Instance {
    const ID: Index<Self, u64> = Index::at::<0>();
    const HOST: Index<Self, String> = Index::at::<1>();
}

impl Entry for Instance {
    const CACHE: &'static str = "instance";
    const INDEXES: &'static [&'static str] = &["id", "host"];

    fn keys(&self, keys: &mut Keys<Self>) {
        keys.add(Self::HOST, self.id);
        self.hosts.iter().for_each(|host| keys.add(Self::ID, host));
        keys.add(Other::NAME, "x");
    }
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "other")]
struct Other {
    #[key(primary)]
    name: String,
}

fn main() {}
