//! `#[derive(Entry)]` as its users see it.
#![allow(missing_docs)]

use larder::{Entry, Index, Keys};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
struct Instance {
    #[key(primary)]
    id: String,
    #[key(index = "host")]
    hosts: Vec<String>,
    #[version]
    sequence: u64,
}

#[test]
fn the_usual_entry() {
    assert_eq!(InstanceIndex::NAMES, ["id", "host"]);
    let x = Instance { id: "a".into(), hosts: vec!["x".into(), "y".into()], sequence: 4 };
    assert_eq!(Keys::of(&x).len(), 3);
    assert_eq!(x.version(), Some(4));
}
