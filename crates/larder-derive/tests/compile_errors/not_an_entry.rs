use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct A {
    id: String,
}

fn cached<E: larder::Entry>() {}

fn look_up(key: impl larder::Key) {
    drop(key);
}

fn use_them() {
    cached::<A>();
    look_up(1.5);
    look_up((1, Some("x")));
}

fn main() {}
