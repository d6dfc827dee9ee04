//! A short run of each target: all seeds, then what becomes of them by chance, the same in every run.

use fastrand::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs a target on its seeds and on so many other bytes, and shows which of them it does not stand.
fn run(name: &str, tries: u64, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
    let mut seeds: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| file.unwrap().path())
        .collect();
    seeds.sort();
    let seeds: Vec<_> = seeds.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let check = |bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
            panic!("mend it, and keep these bytes as a file in fuzz/seeds/{name}: b\"{}\"", bytes.escape_ascii());
        }
    };
    seeds.iter().for_each(|seed| check(seed));
    let long = std::env::var("LARDER_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let (mut rng, time, tries) = match long {
        Some(seconds) => (Rng::new(), Duration::from_secs(seconds), u64::MAX),
        None => (Rng::with_seed(1), Duration::MAX, tries),
    };
    let begun = Instant::now();
    for _ in (0..tries).take_while(|_| begun.elapsed() < time) {
        check(&changed(&seeds, &mut rng));
    }
}

/// A seed, changed in a few places.
fn changed(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = rng.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..rng.usize(1..6) {
        let place = rng.usize(0..=bytes.len());
        let some = place..rng.usize(place..=bytes.len().min(place + 40));
        match rng.u8(0..7) {
            0 => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << rng.u8(0..8)),
            1 => bytes
                .iter_mut()
                .skip(place)
                .take(1)
                .for_each(|byte| *byte = *rng.choice(b"\0\x01\x7f\xff09:,.-'\"{}[]=#\n &*!").unwrap()),
            2 => drop(bytes.drain(some)),
            3 => {
                let again = bytes[some].to_vec();
                bytes.splice(place..place, again);
            }
            4 => bytes.truncate(place),
            5 => {
                let other = rng.choice(seeds).unwrap();
                let from = rng.usize(0..=other.len());
                let piece = &other[from..rng.usize(from..=other.len().min(from + 40))];
                bytes.splice(some, piece.iter().copied());
            }
            _ => {
                let noise: Vec<_> = (0..rng.usize(1..9)).map(|_| rng.u8(..)).collect();
                bytes.splice(place..place, noise);
            }
        }
    }
    bytes
}

#[test]
fn keys_are_told_apart() {
    run("keys", 20_000, super::keys);
}

#[cfg(all(feature = "toml", feature = "yaml"))]
#[test]
fn a_configuration_is_read_or_its_fault_is_found() {
    run("configuration", 400, super::configuration);
}

#[cfg(feature = "redis")]
#[test]
fn an_object_is_read_or_refused() {
    run("object", 2_000, super::object);
}
