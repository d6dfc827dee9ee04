//! C11: whatever bytes a get finds in the place of an object, it answers with that object or with a miss.
//!
//! Each case damages everything that the cache has stored. If the bytes cannot be an object any more, the get that finds them must report
//! and remove them. If a connector can repair or ignore the damage, the get may be a hit, but only with the right object. Whichever
//! operation meets the damage first, the cache must work afterwards.

use super::trial::{Dice, Nodes, Sample, Trial, keys_by_index};
use super::{Subject, table};
use crate::entries::{Body, Misfit, Site, next};
use larder::{Lookup, Miss, Stored};

table! {
    C11 {
        cut_short if bytes,
        emptied if bytes,
        a_bit_flipped if bytes,
        something_appended if bytes,
        something_in_front if bytes,
        replaced_by_noise if bytes,
        a_header_and_then_noise if bytes,
        swapped_with_another_object if bytes,
        swapped_with_an_object_of_another_type if bytes,
        an_object_whose_bytes_could_not_be_read,
    }
}

fn acme() -> Site {
    Site::new("1", &["a.example", "b.example"], "Acme")
}

/// All stored bytes of the cache.
async fn stored<S: Subject>(trial: &Trial<'_, S>) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    trial.subject.rewrite(&trial.cache, &mut |bytes: &mut Vec<u8>| found.push(bytes.clone())).await;
    trial.history.require(!found.is_empty(), "the subject says that it stores bytes; it has to show them");
    found
}

/// The length of an object's bytes. Bytes that only help to find an object are shorter.
async fn longest<S: Subject>(trial: &Trial<'_, S>, nodes: &Nodes<Site>) -> usize {
    nodes.near.stores(&acme()).await;
    stored(trial).await.iter().map(Vec::len).max().unwrap_or_default()
}

/// Whether the damaged bytes can still be an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// The bytes cannot be an object any more.
    Certain,
    /// A connector may repair or ignore the damage.
    Possible,
}

/// Damages everything that is stored, and checks the answers that follow.
async fn damaged<S: Subject>(
    trial: &Trial<'_, S>,
    nodes: &Nodes<Site>,
    round: usize,
    how: &str,
    damage: Damage,
    edit: &mut (dyn FnMut(&mut Vec<u8>) + Send),
) {
    let before = Site { name: format!("before {how}"), ..acme() };
    nodes.near.stores(&before).await;
    if round.is_multiple_of(2) {
        // The other node gets a hint.
        nodes.far.get(Site::HOST, "a.example").await;
    }
    trial.history.step(format!("what is stored: {how}"));
    trial.subject.rewrite(&trial.cache, edit).await;
    first_met(nodes, round, &before, damage).await;
    let after = Site { name: format!("after {how}"), ..acme() };
    nodes.near.stores(&after).await;
    nodes.serve(&after).await;
    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
    nodes.lack(&after).await;
}

/// Runs the operation that meets the damage first. The round decides which operation that is.
async fn first_met(nodes: &Nodes<Site>, round: usize, before: &Site, damage: Damage) {
    let after = Site { name: "after".into(), ..acme() };
    match round % 9 {
        0 => nodes.far.stores(&after).await,
        1 => nodes.far.fills(&after, nodes.near.ticket().await).await,
        2 => nodes.far.stores(&Site::new("2", &["b.example"], "taker")).await,
        3 => nodes.near.invalidates(Site::HOST, ["a.example"]).await,
        4 => nodes.far.deletes(Site::HOST, ["b.example"]).await,
        5 => nodes.far.prunes().await,
        6 => nodes.near.truncates().await,
        _ => return reported_and_removed(nodes, before, damage).await,
    }
    for (index, key) in keys_by_index(before) {
        for node in [&nodes.near, &nodes.far] {
            let found = node.get(index, &key).await;
            let right = found.is_none_or(|found| keys_by_index(&*found).contains(&(index, key.clone())));
            node.history.require(right, "a wrong object");
        }
    }
}

async fn reported_and_removed(nodes: &Nodes<Site>, before: &Site, damage: Damage) {
    let troubles = |nodes: &Nodes<Site>| {
        let of = |stats: &larder::contract::Stats| stats.miss(Miss::Undecodable).get() + stats.faults.get();
        of(nodes.near.cache.stats()) + of(nodes.far.cache.stats())
    };
    let reported = troubles(nodes);
    let mut hits = 0;
    for (index, key) in keys_by_index(before) {
        for node in [&nodes.far, &nodes.near] {
            let found = node.get(index, &key).await;
            hits += usize::from(found.is_some());
            node.history.require(found.is_none_or(|found| *found == *before), "not what was stored");
        }
    }
    let history = &nodes.near.history;
    if damage == Damage::Possible {
        return;
    }
    history.require(hits == 0, "these bytes cannot be the object that was stored");
    history.require(troubles(nodes) > reported, "a miss for damaged bytes must be counted as one");
    for (index, key) in keys_by_index(before) {
        let found = nodes.far.lookup(index, &key).await;
        let removed = matches!(found, Lookup::Miss { cause: Miss::Absent, ticket: Some(_), .. });
        history.require(removed, "damaged bytes must be removed by the get that meets them");
    }
}

async fn cut_short<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for length in 1..longest(&trial, &nodes).await {
        let how = format!("cut after {length} bytes");
        damaged(&trial, &nodes, length, &how, Damage::Certain, &mut |bytes| bytes.truncate(length)).await;
    }
}

async fn emptied<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for round in 0..9 {
        damaged(&trial, &nodes, round, "emptied", Damage::Certain, &mut Vec::clear).await;
    }
}

async fn a_bit_flipped<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for place in 0..longest(&trial, &nodes).await {
        // Each of eight bytes in a row has another bit flipped. The highest bit is flipped in every byte.
        for bit in [place % 8, 7] {
            let flip = &mut |bytes: &mut Vec<u8>| {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << bit;
                }
            };
            let how = format!("bit {bit} of byte {place} flipped");
            // Rounds in steps of two would leave half of the operations out.
            damaged(&trial, &nodes, 7 + place % 2, &how, Damage::Possible, flip).await;
            damaged(&trial, &nodes, place + bit, &how, Damage::Possible, flip).await;
        }
    }
}

async fn something_appended<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (round, tail) in [&b"\0"[..], b"x", b"\r\n", &[0xc1], &[0; 4096]].into_iter().cycle().take(18).enumerate() {
        let how = format!("{} bytes appended", tail.len());
        damaged(&trial, &nodes, round, &how, Damage::Possible, &mut |bytes| bytes.extend_from_slice(tail)).await;
    }
}

async fn something_in_front<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (round, front) in [&b"\0"[..], b"x", b"\r\n", &[0xff; 64]].into_iter().cycle().take(18).enumerate() {
        let how = format!("{} bytes in front", front.len());
        let insert = &mut |bytes: &mut Vec<u8>| drop(bytes.splice(..0, front.iter().copied()));
        damaged(&trial, &nodes, round, &how, Damage::Certain, insert).await;
    }
}

async fn replaced_by_noise<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let mut dice = Dice::new(11);
    for round in 0..54 {
        // The last is longer than any length that a header of a few bytes can name by accident.
        let length = 1 + dice.throw(if round == 53 { 300_000 } else { 400 });
        let noise: Vec<_> = (0..length).map(|_| dice.throw(256) as u8).collect();
        let how = format!("replaced by {length} bytes of noise");
        damaged(&trial, &nodes, round, &how, Damage::Certain, &mut |bytes| bytes.clone_from(&noise)).await;
    }
}

/// Bytes that begin right: the noise behind the beginning holds arbitrary lengths and counts.
async fn a_header_and_then_noise<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let longest = longest(&trial, &nodes).await;
    let mut dice = Dice::new(12);
    for round in 0..90 {
        let kept = 1 + dice.throw(longest - 1);
        let noise: Vec<_> = (0..longest).map(|_| dice.throw(256) as u8).collect();
        let blur = &mut |bytes: &mut Vec<u8>| {
            for (byte, noise) in bytes.iter_mut().zip(&noise).skip(kept).take(8) {
                *byte = *noise;
            }
        };
        damaged(&trial, &nodes, round, &format!("8 bytes from byte {kept} on are noise"), Damage::Possible, blur).await;
    }
}

/// Swaps two stored values.
async fn swap<S: Subject>(trial: &Trial<'_, S>, first: usize, second: usize) {
    let all = stored(trial).await;
    let (Some(one), Some(other)) = (all.get(first), all.get(second)) else { return };
    trial.history.step(format!("two stored values change places, of {} and {} bytes", one.len(), other.len()));
    let swap = &mut |bytes: &mut Vec<u8>| {
        if bytes == one {
            bytes.clone_from(other);
        } else if bytes == other {
            bytes.clone_from(one);
        }
    };
    trial.subject.rewrite(&trial.cache, swap).await;
}

/// Every pair of the numbers below `places`.
fn pairs(places: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..places).flat_map(move |first| (first + 1..places).map(move |second| (first, second)))
}

async fn right_or_missing<E: Sample>(nodes: &Nodes<E>, objects: &[E]) {
    for object in objects {
        for (index, key) in keys_by_index(object) {
            for node in [&nodes.near, &nodes.far] {
                let found = node.get(index, &key).await;
                node.history.require(found.is_none_or(|found| *found == *object), "a wrong object");
            }
        }
    }
}

async fn swapped_with_another_object<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    // Both objects have the same length, so only their keys differ.
    let sites = [acme(), Site::new("2", &["c.example", "d.example"], "Bolt")];
    for site in &sites {
        nodes.near.stores(site).await;
    }
    for (first, second) in pairs(stored(&trial).await.len()) {
        swap(&trial, first, second).await;
        right_or_missing(&nodes, &sites).await;
        for site in &sites {
            nodes.near.stores(site).await;
            nodes.serve(site).await;
        }
    }
}

async fn swapped_with_an_object_of_another_type<S: Subject>(trial: Trial<'_, S>) {
    let (nodes, others) = (trial.nodes::<Site>().await, trial.nodes::<next::Site>().await);
    let (site, other) = (acme(), next::Site::new("1", &["a.example", "b.example"], "Acme"));
    nodes.near.fills(&site, nodes.near.ticket().await).await;
    others.near.fills(&other, others.near.ticket().await).await;
    for (first, second) in pairs(stored(&trial).await.len()) {
        swap(&trial, first, second).await;
        right_or_missing(&nodes, std::slice::from_ref(&site)).await;
        right_or_missing(&others, std::slice::from_ref(&other)).await;
        nodes.near.stores(&site).await;
        nodes.serve(&site).await;
        others.near.fills(&other, others.near.ticket().await).await;
        others.serve(&other).await;
    }
}

/// A set or fill that was accepted must be found. A connector that keeps objects as they are may store this one. A connector that keeps
/// bytes must refuse it.
async fn an_object_whose_bytes_could_not_be_read<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let misfit = Misfit::new(&["1"], &["a.example", "b.example"], Body::Unreadable);
    let fine = Misfit { body: Body::Text("fine".into()), ..misfit.clone() };
    for fill in [false, true] {
        let ticket = nodes.near.ticket().await;
        let stored = if fill { nodes.near.fill(&misfit, ticket).await } else { nodes.near.set(&misfit).await };
        match stored {
            Stored::Accepted => nodes.serve(&misfit).await,
            Stored::Unfit => nodes.lack(&misfit).await,
            _ => trial.history.fail("it is stored, or it is unfit"),
        }
        nodes.near.stores(&fine).await;
        nodes.serve(&fine).await;
        nodes.near.invalidates(Misfit::ID, ["1"]).await;
    }
}
