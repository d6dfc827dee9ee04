use larder::Entry;

#[derive(Entry)]
#[entry(cache = "a")]
struct A {
    #[key(primary)]
    id: String,
}

fn main() {}
