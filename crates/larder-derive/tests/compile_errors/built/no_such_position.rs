use larder::{Entry, Index, Keys};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Instance {
    id: u64,
}

impl Instance {
    const ID: Index<Self, u64> = Index::at::<0>();
    const HOST: Index<Self, String> = Index::at::<1>();
}

impl Entry for Instance {
    const CACHE: &'static str = "instance";
    const INDEXES: &'static [&'static str] = &["id"];

    fn keys(&self, keys: &mut Keys<Self>) {
        keys.add(Self::ID, self.id);
    }
}

fn main() {
    assert_eq!(Instance::HOST.name(), "host");
}
