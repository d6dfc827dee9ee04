//! What larder costs the client: gets per second through one connection, compared with the bare client that GETs and decodes the same.

use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::redis_get::{Questions, get, gets, objects, plain_get};
use crate::sample::{Sample, Shape, host, id};
use crate::testbed::{Beside, Names, Opening, TASKS, Testbed, text};
use larder_testing::server::ServerBinary;
use std::sync::Arc;

/// One client thread, 64 tasks, one connection.
pub(crate) fn throughput(binary: &ServerBinary, payload: usize, suffix: &str) -> Group {
    let rows = [("redis-client", "get by primary key"), ("redis-client-secondary", "get by secondary key")];
    compared(binary, payload, suffix, "gets a second through one connection", rows, Testbed::start)
}

/// The same over TLS, by larder and by the bare client.
pub(crate) fn over_tls(binary: &ServerBinary, suffix: &str) -> Group {
    let rows = [("redis-client-tls", "get by primary key"), ("redis-client-secondary-tls", "get by secondary key")];
    let name = "gets a second through one connection over TLS";
    compared(binary, 300, &format!("300B/{suffix}"), name, rows, Testbed::start_over_tls)
}

type Start = fn(&ServerBinary, usize) -> Result<Arc<Testbed>, String>;

fn compared(
    binary: &ServerBinary,
    payload: usize,
    suffix: &str,
    name: &str,
    rows: [(&str, &str); 2],
    start: Start,
) -> Group {
    let binary = binary.clone();
    Group {
        name: format!("{name}, {suffix}"),
        rows: rows
            .map(|(row, ours)| Comparison::new(format!("{row}/{suffix}"), ours, "GET and decode", Bar::Least(0.85)))
            .into(),
        contestants: Box::new(move |effort| {
            let (shape, objects, operations) = (Shape::of(payload), objects(payload), gets(payload, effort));
            let bed = start(&binary, 1)?;
            let cache = bed.open(Opening::plain())?;
            bed.fill_beside(&cache, shape, 0..objects, Beside::Packed)?;
            let names = Names::of(&cache);
            let asked = |name: &str, by, questions: Questions| {
                let (bed, cache) = (bed.clone(), cache.clone());
                Contestant::new(name, "k/s", move || {
                    let work = |_| get(cache.clone(), by, questions.clone(), operations.div_ceil(TASKS));
                    bed.cost(TASKS, work).map(|cost| cost.rate / 1e3)
                })
            };
            let ours = asked("get by primary key", Sample::ID, Arc::new((0..objects).map(id).collect()));
            let hosts = (0..objects).map(|number| host(number, number % 3)).collect();
            let secondary = asked("get by secondary key", Sample::HOST, Arc::new(hosts));
            let questions: Questions = Arc::new((0..objects).map(|number| names.packed(number)).collect());
            let theirs = Contestant::new("GET and decode", "k/s", move || {
                let work = |_| plain_get(bed.bare.clone(), questions.clone(), operations.div_ceil(TASKS), decode);
                bed.cost(TASKS, work).map(|cost| cost.rate / 1e3)
            });
            Ok(vec![ours, secondary, theirs])
        }),
        varies: true,
    }
}

/// Decodes the object into an `Arc`, as larder does.
pub(crate) fn decode(bytes: &[u8]) -> Result<(), String> {
    std::hint::black_box(Arc::new(rmp_serde::from_slice::<Sample>(bytes).map_err(text)?));
    Ok(())
}
