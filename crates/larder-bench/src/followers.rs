//! What nodes that follow a cache cost the server: their questions, what reads of others cost beside them, and what each of them adds to a change.

use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::redis_get::{Questions, contestant, get, plain_get};
use crate::sample::{Sample, Shape, id};
use crate::testbed::{Beside, Opening, Testbed, text};
use crate::tiers::Node;
use larder::connector::tiered::{Consistency, TieredOptions};
use larder::{Cache, Delivery};
use larder_testing::server::ServerBinary;
use std::sync::Arc;
use std::time::Duration;

const FOLLOWERS: usize = 100;
const OBJECTS: u32 = 1_000;

/// So short that a server has hardly anything else to do than to answer followers.
const SHORTEST: Duration = Duration::from_millis(25);

/// So long that they ask for hardly anything but what changes.
const LONGEST: Duration = Duration::from_secs(10);

const ONE_BY_ONE: &str = "GET, one after the other";

fn followers(bed: &Testbed, options: &TieredOptions) -> Result<Vec<Node>, String> {
    (0..FOLLOWERS).map(|_| Node::with(bed, options)).collect()
}

/// What a GET costs whose client waits for the reply, as a follower does, in µs.
fn one_by_one(bed: &Arc<Testbed>, count: usize) -> Contestant {
    let bed = bed.clone();
    Contestant::new(ONE_BY_ONE, "µs", move || {
        let (bare, keys) = (bed.bare.clone(), Arc::new(vec!["plain_".to_owned()]));
        bed.run(redis::cmd("SET").arg("plain_").arg("x".repeat(300)).exec_async(&mut bare.clone())).map_err(text)?;
        bed.cost(1, |_| plain_get(bare.clone(), keys.clone(), count, |_| Ok(()))).map(|cost| cost.cpu / 1e3)
    })
}

pub(crate) fn question(binary: &ServerBinary, suffix: &str) -> Group {
    let ours = "a question of a follower";
    let binary = binary.clone();
    Group {
        name: format!("what a follower's question costs the server, {suffix}"),
        rows: vec![Comparison::new(format!("tier-follow/{suffix}"), ours, ONE_BY_ONE, Bar::Most(3.0))],
        contestants: Box::new(move |effort| {
            let (quiet, bed) = (Testbed::start(&binary, 1)?, Testbed::start(&binary, 1)?);
            let follow = Contestant::new(ours, "µs", move || {
                let _following = followers(&bed, &TieredOptions::new().validity(SHORTEST))?;
                let before = (bed.run(bed.server.used_cpu()).map_err(text)?, bed.calls("evalsha")?);
                let time = effort.of(Duration::from_secs(2), Duration::from_secs(1));
                bed.run(async move { tokio::time::sleep(time).await });
                let (used, asked) = (bed.run(bed.server.used_cpu()).map_err(text)?, bed.calls("evalsha")?);
                Ok(used.saturating_sub(before.0).as_secs_f64() * 1e6 / (asked - before.1))
            });
            Ok(vec![follow, one_by_one(&quiet, effort.of(20_000, 5_000))])
        }),
        varies: true,
    }
}

pub(crate) fn reads(binary: &ServerBinary, suffix: &str) -> Group {
    let (beside, alone) = ("a get beside a hundred followers", "a get without followers");
    let binary = binary.clone();
    Group {
        name: format!("what a get costs the server beside followers, {suffix}"),
        rows: vec![Comparison::new(format!("tier-reads-followed/{suffix}"), beside, alone, Bar::Most(1.05))],
        contestants: Box::new(move |effort| {
            let gets = effort.of(400_000, 100_000);
            let mut all = Vec::new();
            for name in [beside, alone] {
                let bed = Testbed::start(&binary, 1)?;
                let nodes = if name == beside { followers(&bed, &TieredOptions::new())? } else { Vec::new() };
                let cache = bed.open(Opening::plain())?;
                bed.fill_beside(&cache, Shape::of(300), 0..OBJECTS, Beside::Copy)?;
                let asked: Questions = Arc::new((0..OBJECTS).map(id).collect());
                all.push(contestant(name, &bed, gets, move |count| {
                    let _following = &nodes;
                    get(cache.clone(), Sample::ID, asked.clone(), count)
                }));
            }
            Ok(all)
        }),
        varies: true,
    }
}

pub(crate) fn changes(binary: &ServerBinary, suffix: &str) -> Group {
    let (strict, bounded) = ("each follower of a strict cache", "each follower of a bounded cache");
    let rows = vec![
        Comparison::new(format!("tier-change-strict/{suffix}"), strict, ONE_BY_ONE, Bar::Most(2.5)),
        Comparison::new(format!("tier-change-bounded/{suffix}"), bounded, ONE_BY_ONE, Bar::Most(0.8)),
    ];
    let binary = binary.clone();
    Group {
        name: format!("what each of a hundred followers adds to a change, {suffix}"),
        rows,
        contestants: Box::new(move |effort| {
            let count = effort.of(200, 60);
            let quiet = Testbed::start(&binary, 1)?;
            let plain = quiet.open(Opening::plain())?;
            let mut all = vec![one_by_one(&quiet, effort.of(20_000, 5_000))];
            let quiet = Arc::new((quiet, plain));
            for (name, consistency) in [(strict, Consistency::Strict), (bounded, Consistency::Bounded)] {
                let bed = Testbed::start(&binary, 1)?;
                let nodes = followers(&bed, &TieredOptions::new().validity(LONGEST).consistency(consistency))?;
                let quiet = quiet.clone();
                all.push(Contestant::new(name, "µs", move || {
                    let writer = nodes.first().ok_or("there is no node")?;
                    let (followed, alone) = (cost(&bed, &writer.cache, count)?, cost(&quiet.0, &quiet.1, count)?);
                    Ok((followed - alone) / FOLLOWERS as f64)
                }));
            }
            Ok(all)
        }),
        varies: true,
    }
}

/// What an invalidation costs the server, and what its followers do then, in µs.
fn cost(bed: &Testbed, cache: &Cache<Sample>, count: usize) -> Result<f64, String> {
    let before = bed.run(bed.server.used_cpu()).map_err(text)?;
    bed.run(async {
        for number in 0..count as u32 {
            match cache.invalidate(Sample::ID, [id(number)]).await {
                Ok(Delivery::Applied) => {}
                other => return Err(format!("an invalidation ended as {other:?}")),
            }
            // Each follower asks for this change, and not for several at once.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })?;
    let used = bed.run(bed.server.used_cpu()).map_err(text)?.saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / count as f64)
}
