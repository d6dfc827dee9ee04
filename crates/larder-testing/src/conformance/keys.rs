//! C14: a key is any bytes that a user sends. Bytes that have a meaning in a server's protocol, in a pattern, as a separator or in a text
//! encoding have none in a key. No key reaches the data of another key, index, tenant or cache.

use super::trial::{Nodes, Sample, Trial, key_ref};
use super::{Subject, table};
use crate::entries::{Account, Blob, Site};
use larder::{Entry, Error, Key, Keys, Lookup, MAX_KEY_LEN, Miss, Stored};

table! {
    C14 {
        any_bytes_are_a_key,
        a_pattern_matches_only_itself,
        keys_that_look_alike_are_different,
        names_that_a_server_may_use,
        the_longest_key_works,
        a_key_beyond_the_longest_is_none,
        an_empty_key_is_none,
        each_index_has_its_own_keys,
        an_index_whose_name_begins_like_another,
        caches_whose_names_begin_alike,
        parts_of_a_key_do_not_run_into_each_other,
        tenants_do_not_see_each_other,
    }
}

/// Keys with bytes that have a special meaning somewhere.
const AWKWARD: [&[u8]; 36] = [
    b"\0",
    b"\0\0",
    b"a\0b",
    b"a",
    b"A",
    b"a ",
    b" a",
    b" ",
    b"\n",
    b"a\nb",
    b"\r\n",
    b"\r\n$1\r\nx",
    b"\t",
    b":",
    b"a:b",
    b"::",
    b"{",
    b"}",
    b"{}",
    b"{a}",
    b"{a}b",
    b"*",
    b"a*",
    b"?",
    b"[a-z]",
    b"[^a]",
    b"\\",
    b"\\*",
    b"'",
    b"\"",
    b"'; --",
    b"%s%n",
    b"\xff",
    b"\xff\xfe\x00",
    b"\xc3\x28",
    "a\u{301}".as_bytes(),
];

/// An object that has this key in all three indexes.
fn alone(key: &[u8]) -> Blob {
    Blob::new(key, Some(key), Some(key))
}

/// Checks that the far node finds exactly the objects at the places for which `there` is true.
async fn finds<E: Sample>(nodes: &Nodes<E>, objects: &[E], there: impl Fn(usize) -> bool) {
    for (place, object) in objects.iter().enumerate() {
        for key in Keys::of(object) {
            let found = nodes.far.get(key.index(), key.bytes()).await;
            let right = found.as_deref() == there(place).then_some(object);
            nodes.far.history.require(right, format!("expected {:?}", there(place).then_some(object)));
        }
    }
}

/// Stores objects that have no key in common, forgets them one after the other, and checks after each step that no other object is affected.
async fn are_apart<E: Sample>(nodes: &Nodes<E>, objects: &[E]) {
    for object in objects {
        nodes.near.stores(object).await;
    }
    for object in objects {
        nodes.serve(object).await;
    }
    for (place, object) in objects.iter().enumerate() {
        let keys = Keys::of(object);
        let Some(key) = keys.get(place % keys.len()) else { continue };
        let ticket = nodes.near.ticket().await;
        nodes.near.invalidates(key.index(), [key.bytes()]).await;
        finds(nodes, objects, |other| other > place).await;
        nodes.far.refuses(object, ticket).await;
    }
    for object in objects {
        nodes.near.stores(object).await;
    }
    for (place, object) in objects.iter().enumerate() {
        for key in Keys::of(object) {
            nodes.near.deletes(key.index(), [key.bytes()]).await;
        }
        finds(nodes, objects, |other| other > place).await;
    }
    nodes.near.prunes().await;
    for object in objects {
        nodes.near.fills(object, nodes.near.ticket().await).await;
    }
    nodes.near.prunes().await;
    finds(nodes, objects, |_| true).await;
    nodes.near.truncates().await;
    finds(nodes, objects, |_| false).await;
}

async fn any_bytes_are_a_key<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    are_apart(&nodes, &AWKWARD.map(alone)).await;
}

async fn a_pattern_matches_only_itself<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let plain = alone(b"plain");
    nodes.near.stores(&plain).await;
    for pattern in ["*", "pl*", "?lain", "plai?", "[p]lain", "[^x]lain", "%", "_lain", ".*", "plain*", "pl\\ain", "**"]
    {
        for index in [Blob::I, Blob::ID, Blob::ID2] {
            nodes.near.misses(index, pattern).await;
            nodes.near.invalidates(index, [pattern]).await;
            nodes.near.deletes(index, [pattern]).await;
        }
        nodes.serve(&plain).await;
    }
}

async fn keys_that_look_alike_are_different<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let long = "k".repeat(600);
    let alike = [
        "1",
        "01",
        "1.0",
        "+1",
        "1 ",
        "0x1",
        "٣",
        "3",
        "ﬀ",
        "ff",
        "É",
        "E\u{301}",
        "é",
        "K",
        "\u{212a}",
        "k",
        "straße",
        "strasse",
        "a.example",
        "A.example",
        "a.example.",
        "a%2eexample",
        &long,
        &long[1..],
    ];
    let blobs: Vec<_> = alike.iter().map(|key| alone(key.as_bytes())).collect();
    are_apart(&nodes, &blobs).await;
}

/// The names under which a connector may store its data on a server. A user may send them as keys.
async fn names_that_a_server_may_use<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Blob>().await;
    let victim = alone(b"1");
    let schema = trial.schema::<Blob>();
    let (cache, shape) = (schema.cache(), schema.fingerprint());
    let mut names =
        vec!["c".to_owned(), "o".into(), "i".into(), "v".into(), "s".into(), "clock".into(), "o1".into(), "v1".into()];
    names.extend([
        format!("o{shape:016x}:1"),
        format!("{shape:016x}:1"),
        format!(":{shape:016x}:1"),
        shape.to_string(),
    ]);
    for index in Blob::INDEXES {
        names.extend([
            format!("i{index}:1"),
            format!("{index}:1"),
            format!(":{index}:1"),
            format!("{index}\01"),
            format!("i{index}"),
        ]);
    }
    let inner = names.clone();
    for prefix in ["larder:", ":", "", "../", "larder."] {
        names.extend(inner.iter().map(|name| format!("{prefix}{cache}:{name}")));
    }
    let blobs: Vec<_> = names.iter().map(|name| alone(name.as_bytes())).collect();
    nodes.near.stores(&victim).await;
    for blob in &blobs {
        nodes.near.stores(blob).await;
        nodes.near.serves(Blob::ID, &blob.i, blob).await;
    }
    nodes.serve(&victim).await;
    finds(&nodes, &blobs, |_| true).await;
    for name in &names {
        nodes.near.invalidates(Blob::ID, [name]).await;
        nodes.far.deletes(Blob::I, [name]).await;
        nodes.far.invalidates(Blob::ID2, [name]).await;
    }
    nodes.serve(&victim).await;
    finds(&nodes, &blobs, |_| false).await;
}

async fn the_longest_key_works<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let key = |length: usize, last: u8| {
        let mut key = vec![b'k'; length];
        if let Some(byte) = key.last_mut() {
            *byte = last;
        }
        key
    };
    let blobs = [
        alone(&key(MAX_KEY_LEN, b'1')),
        alone(&key(MAX_KEY_LEN, b'2')),
        alone(&key(MAX_KEY_LEN - 1, b'1')),
        alone(&key(MAX_KEY_LEN / 2, b'1')),
    ];
    are_apart(&nodes, &blobs).await;
}

async fn a_key_beyond_the_longest_is_none<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    is_none(&trial, &nodes, &vec![b'k'; MAX_KEY_LEN + 1]).await;
}

async fn an_empty_key_is_none<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    is_none(&trial, &nodes, b"").await;
}

/// Checks that a key is rejected everywhere, and that no other object is found or changed by it.
async fn is_none<S: Subject>(trial: &Trial<'_, S>, nodes: &Nodes<Blob>, key: &[u8]) {
    let longest = alone(&vec![b'k'; MAX_KEY_LEN]);
    let plain = alone(b"plain");
    nodes.near.stores(&longest).await;
    nodes.near.stores(&plain).await;
    for index in [Blob::I, Blob::ID, Blob::ID2] {
        nodes.near.misses(index, key).await;
        let found = nodes.near.lookup(index, key).await;
        let told = matches!(found, Lookup::Miss { cause: Miss::InvalidKey, .. });
        trial.history.require(told, "the miss must tell that there can be no such key");
        // The connector must reject the key, too, for callers without a cache.
        let found = nodes.near.connector.get(key_ref(index, key)).await;
        trial.history.require(found.is_err(), "a connector must not find anything under such a key");
        let complaints = [nodes.far.cache.invalidate(index, [key]).await, nodes.far.cache.delete(index, [key]).await];
        let complained = complaints.iter().all(|answer| matches!(answer, Err(Error::Key { .. })));
        trial.history.require(complained, format!("the key must be complained about, not {complaints:?}"));
    }
    for blob in [Blob::new(key, None, None), Blob::new("1", Some(key), None), Blob::new("1", None, Some(key))] {
        let stored = nodes.near.set(&blob).await;
        trial.history.require(stored == Stored::Unfit, "an object with such a key is not storable");
        let stored = nodes.near.fill(&blob, nodes.near.ticket().await).await;
        trial.history.require(stored == Stored::Unfit, "an object with such a key is not storable");
        nodes.lack_key(Blob::I, "1").await;
    }
    nodes.serve(&longest).await;
    nodes.serve(&plain).await;
}

async fn each_index_has_its_own_keys<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for key in AWKWARD {
        let blobs = [Blob::new(key, None, None), Blob::new("1", Some(key), None), Blob::new("2", None, Some(key))];
        are_apart(&nodes, &blobs).await;
    }
    // One object may have the same key in several indexes.
    let all = alone(b"k");
    nodes.near.stores(&all).await;
    nodes.far.deletes(Blob::ID, ["k"]).await;
    nodes.lack_key(Blob::ID, "k").await;
    nodes.serve_key(Blob::I, "k", &all).await;
    nodes.serve_key(Blob::ID2, "k", &all).await;
}

/// A connector that joins the index name and the key without a border confuses `id` and `2x` with `id2` and `x`.
async fn an_index_whose_name_begins_like_another<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for between in ["", ":", "\0", "::", "/", ".", "{", "}"] {
        let key = |text: &str| format!("{text}{between}x").into_bytes();
        let blobs = [
            Blob::new(key("d"), Some(&key("2")), Some(&key("2"))),
            Blob::new(key("d2"), Some(&key("")), Some(&key(""))),
            Blob::new(key("id"), Some(&key("id")), Some(&key("id"))),
            Blob::new(key("id2"), Some(&key("id2")), Some(&key("id2"))),
            Blob::new(key("i"), Some(&key("i")), Some(&key("i"))),
        ];
        are_apart(&nodes, &blobs).await;
    }
}

async fn caches_whose_names_begin_alike<S: Subject>(trial: Trial<'_, S>) {
    let keys: Vec<Vec<u8>> =
        ["1", "x:1", ":1", "x1", ".x:1", "*", "o1", "id:1", "x:o1", "x:id:1"].map(Into::into).into();
    let mut caches = Vec::new();
    for end in ["", "x", ".x", "x.", "-", "x-x", "_x"] {
        let name = format!("{}{end}", trial.cache);
        let schema = trial.schema::<Site>().named(name.as_str());
        let nodes = trial.nodes_with::<Site>(schema).await;
        let sites: Vec<_> = keys
            .iter()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .map(|key| Site::new(&key, &[&format!("{key}.example")], &name))
            .collect();
        caches.push((nodes, sites));
    }
    for (nodes, sites) in &caches {
        for site in sites {
            nodes.near.stores(site).await;
        }
    }
    for (nodes, sites) in &caches {
        finds(nodes, sites, |_| true).await;
    }
    for (emptied, (nodes, sites)) in caches.iter().enumerate() {
        match emptied % 3 {
            0 => nodes.near.truncates().await,
            1 => nodes.near.invalidates(Site::ID, &keys).await,
            _ => {
                let hosts: Vec<_> = sites.iter().flat_map(|site| &site.hosts).collect();
                nodes.near.deletes(Site::HOST, &hosts).await;
                nodes.near.deletes(Site::ID, &keys).await;
            }
        }
        for (place, (nodes, sites)) in caches.iter().enumerate() {
            finds(nodes, sites, |_| place > emptied).await;
        }
    }
}

async fn parts_of_a_key_do_not_run_into_each_other<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let accounts = [
        Account::new("a", 11, &[("a", "b,1:c"), ("", "a")]),
        Account::new("a1", 1, &[("a,1:b", "c"), ("a", "")]),
        Account::new("a:1", 1, &[("a:b", "c"), (":", "a")]),
        Account::new("a", 1, &[("a", "b:c"), ("a", ":")]),
        Account::new("", 1, &[("a,", "b"), ("1:a", ",")]),
        Account::new("a,1:1", 1, &[("a", ",b"), ("1", ":a,")]),
        Account::new("1:a,", 11, &[("a\0", "b"), ("\0", "\0")]),
        Account::new("11", 11, &[("a", "\0b"), ("", "\0\0")]),
    ];
    for account in &accounts {
        let keys = Keys::of(account);
        let others = accounts.iter().filter(|other| *other != account);
        let clash = others.flat_map(Keys::of).any(|key| keys.contains(&key));
        trial.history.require(!clash, format!("another account has one of the keys of {account:?}"));
    }
    are_apart(&nodes, &accounts).await;
}

async fn tenants_do_not_see_each_other<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let names = ["acme", "acm", "acme ", "acme,", "ACME", "e", "", "*"];
    let accounts = names.map(|tenant| Account::new(tenant, 1, &[(tenant, "admin"), (tenant, "eadmin"), (tenant, "1")]));
    are_apart(&nodes, &accounts).await;
    for account in &accounts {
        nodes.near.stores(account).await;
    }
    // With typed keys, as a service does.
    for (tenant, account) in names.iter().zip(&accounts) {
        let found = nodes.far.cache.get(Account::LOGIN, (*tenant, "admin")).await;
        trial.history.step(format!("far: get the admin of {tenant:?} -> {found:?}"));
        trial.history.require(found.as_deref() == Some(account), "the admin of another tenant, or none");
        nodes.far.invalidates(Account::LOGIN, [(*tenant, "admin").encode()].map(|key| key.to_vec())).await;
        nodes.lack(account).await;
    }
}
