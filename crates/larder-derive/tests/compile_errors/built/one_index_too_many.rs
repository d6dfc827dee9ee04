use larder::{Entry, Keys, Schema};
use serde::{Deserialize, Serialize};

const LETTERS: &str = match std::str::from_utf8(&[b'x'; 256]) {
    Ok(letters) => letters,
    Err(_) => "",
};

/// `x`, `xx`, `xxx` and so on.
const NAMES: [&str; 256] = {
    let mut names = [""; 256];
    let mut place = 0;
    while place < names.len() {
        names[place] = LETTERS.split_at(place + 1).0;
        place += 1;
    }
    names
};

#[derive(Serialize, Deserialize)]
struct Many;

impl Entry for Many {
    const CACHE: &'static str = "many";
    const INDEXES: &'static [&'static str] = &NAMES;

    fn keys(&self, _: &mut Keys<Self>) {}
}

fn main() {
    let _ = Schema::of::<Many>();
}
