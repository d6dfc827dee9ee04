use larder::{Entry, Index, Keys, Schema};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Number(usize);

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

impl Index for Number {
    const NAMES: &'static [&'static str] = &NAMES;

    fn position(self) -> usize {
        self.0
    }

    fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(Self)
    }
}

#[derive(Serialize, Deserialize)]
struct Many;

impl Entry for Many {
    type Index = Number;

    const CACHE: &'static str = "many";

    fn keys(&self, keys: &mut Keys<Number>) {
        keys.add(Number(0), "1");
    }
}

fn main() {
    let _ = Schema::of::<Many>();
}
