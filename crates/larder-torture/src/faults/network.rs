//! Faults between the nodes and the server, and faults of nodes.
//!
//! # Bytes that change
//!
//! A stored object has a checksum, so larder can promise to notice changed bytes in it. The checksum leaves out two parts, which the server
//! writes: the deadline, and the flags of deleted keys. Replies of scripts, tickets among them, have no checksum: that their bytes arrive
//! unchanged is up to TCP or TLS. So the corruption here changes only bytes of objects that the checksum covers, and makes whole replies
//! impossible to parse.

use super::postgres::send;
use super::{Failed, FaultKind, Maker, Pooler, moment};
use crate::crew::Crew;
use crate::way::Way;
use larder_testing::proxy::{Direction, Fault, Proxy};
use rustix::process::Signal;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::sleep;

pub(super) const BOTH_WAYS: [Direction; 2] = [Direction::ToServer, Direction::ToClient];

/// The deadline in a stored object's bytes, which the checksum leaves out.
const DEADLINE: std::ops::Range<usize> = 20..28;
/// Where the flags of the keys begin, which the checksum leaves out.
const FLAGS: usize = 42;
/// The most keys of an object in this program, with one byte of flags for each.
const MOST_KEYS: usize = 6;

/// Makes faults of the network and of nodes.
pub(crate) struct Network {
    crew: Arc<Crew>,
    pooler: Option<Arc<Pooler>>,
}

impl Network {
    pub(crate) fn new(crew: Arc<Crew>, pooler: Option<Arc<Pooler>>) -> Self {
        Self { crew, pooler }
    }
}

impl Maker for Network {
    async fn make(&self, fault: FaultKind, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let places = self.crew.places();
        if fault == FaultKind::Clients {
            let place = rng.usize(..places);
            let (old, new) = self.crew.replace(place, moment(rng, 0..500)).await?;
            return Ok(format!("node {old}; node {new} takes its place"));
        }
        if fault == FaultKind::Pause {
            let place = rng.usize(..places);
            let Some(pid) = self.crew.pid(place).await else { return Ok("there was no node".to_owned()) };
            let time = moment(rng, 100..3_000);
            send(Some(pid), Signal::STOP)?;
            sleep(time).await;
            send(Some(pid), Signal::CONT)?;
            return Ok(format!("node {} for {} ms", self.crew.node_at(place), time.as_millis()));
        }
        if fault == FaultKind::Pooler {
            let missing = || Failed::Words("there is no pooler".to_owned());
            return self.pooler.as_ref().ok_or_else(missing)?.kill_for_a_while(rng).await;
        }
        // One node, or all.
        let only = rng.bool().then(|| rng.usize(..places));
        // One server, or both, where a node has two.
        let which = if fault == FaultKind::Corrupt { 1 } else { rng.u8(..3) };
        // One of several servers of Redis, or all.
        let one = rng.bool().then(|| rng.usize(..64));
        let ways = self.crew.ways().filter(|(place, _)| only.is_none_or(|only| only == *place));
        let proxies: Vec<&Proxy> = ways.flat_map(|(_, way)| to_server(way, which, one)).collect();
        let whom = only.map_or_else(|| "all nodes".to_owned(), |place| format!("node {}", self.crew.node_at(place)));
        let directions = match rng.u8(..3) {
            0 => &[Direction::ToServer][..],
            1 => &[Direction::ToClient],
            _ => &BOTH_WAYS,
        };
        let way = match directions {
            [Direction::ToServer] => "to the server",
            [Direction::ToClient] => "from the server",
            _ => "both ways",
        };
        let time = moment(rng, 200..2_000);
        let set = |directions: &[Direction], fault: &dyn Fn() -> Fault| {
            for proxy in &proxies {
                directions.iter().for_each(|direction| proxy.set(*direction, fault()));
            }
        };
        let said = match fault {
            FaultKind::Slow => {
                let delay = moment(rng, 2..180);
                let chopped = rng.u8(..4) == 0;
                set(directions, &|| if chopped { Fault::Chop } else { Fault::Delay(delay) });
                let how = if chopped { "byte by byte".to_owned() } else { format!("{} ms late", delay.as_millis()) };
                sleep(time).await;
                format!("{whom}, {way}, {how}, for {} ms", time.as_millis())
            }
            FaultKind::Corrupt => {
                let one_in = rng.u32(3..20);
                let rng = Arc::new(Mutex::new(rng.fork()));
                set(&[Direction::ToClient], &|| {
                    let rng = rng.clone();
                    Fault::rewrite(move |bytes| {
                        corrupt(bytes, &mut rng.lock().unwrap_or_else(PoisonError::into_inner), one_in)
                    })
                });
                sleep(time).await;
                format!("{whom}, one in {one_in}, for {} ms", time.as_millis())
            }
            FaultKind::TruncateBytes => {
                let after = if rng.bool() { rng.u64(..400) } else { rng.u64(..40_000) };
                set(directions, &|| Fault::Truncate { after });
                sleep(time).await;
                format!("{whom}, {way}, after {after} bytes, for {} ms", time.as_millis())
            }
            FaultKind::Bells => {
                set(&[Direction::ToClient], &|| Fault::rewrite(without_messages));
                sleep(time).await;
                format!("{whom}, for {} ms", time.as_millis())
            }
            FaultKind::Late => {
                set(directions, &|| Fault::Hold);
                // Longer than an operation may take, and mostly longer than a memory is valid.
                let time = if rng.bool() { moment(rng, 20..400) } else { time };
                sleep(time).await;
                format!("{whom}, {way}, for {} ms", time.as_millis())
            }
            FaultKind::Drop => {
                set(directions, &|| Fault::Blackhole);
                sleep(time).await;
                format!("{whom}, {way}, for {} ms", time.as_millis())
            }
            FaultKind::Close => {
                let refuse = rng.bool();
                for proxy in &proxies {
                    if refuse {
                        proxy.refuse().await;
                    }
                    proxy.drop_connections().await;
                }
                if refuse {
                    sleep(time).await;
                    for proxy in &proxies {
                        proxy.accept().await?;
                    }
                    format!("{whom}, refused for {} ms", time.as_millis())
                } else {
                    whom
                }
            }
            _ => return Err(Failed::Words(format!("{fault} does not happen to a network"))),
        };
        set(&BOTH_WAYS, &|| Fault::Pass);
        Ok(said)
    }
}

/// The proxies to one of the servers, or to all. `one`: to which of several servers of Redis.
fn to_server(way: &Way, which: u8, one: Option<usize>) -> Vec<&Proxy> {
    match (which, way.redis.as_slice(), one) {
        (0, [_, ..], _) if !way.postgres.is_empty() => way.postgres.iter().collect(),
        (_, redis @ [_, _, ..], Some(one)) => redis.get(one % redis.len()).into_iter().collect(),
        (1, [redis], _) => vec![redis],
        _ => way.proxies().collect(),
    }
}

/// These bytes, or nothing if they are messages of a channel. Those come over a connection of their own, each in one piece.
fn without_messages(bytes: Vec<u8>) -> Vec<u8> {
    let is_message = bytes.get(1..).is_some_and(|rest| rest.starts_with(b"3\r\n$8\r\nsmessage"));
    if is_message { Vec::new() } else { bytes }
}

/// Changes a byte of about one object in `one_in`. Rarely makes a whole reply impossible to parse instead.
fn corrupt(mut bytes: Vec<u8>, rng: &mut fastrand::Rng, one_in: u32) -> Vec<u8> {
    if rng.u32(..one_in * 8) == 0
        && let Some(first) = bytes.first_mut()
        && b"$*:+-_%".contains(first)
    {
        *first = b'?';
        return bytes;
    }
    let mut from = 0;
    while let Some(object) = find(bytes.get(from..).unwrap_or_default()) {
        let (start, length) = (from + object.0, object.1);
        from = start + length.max(1);
        if rng.u32(..one_in) != 0 {
            continue;
        }
        let at = rng.usize(..length.max(1));
        if DEADLINE.contains(&at) || (FLAGS..FLAGS + MOST_KEYS).contains(&at) {
            continue;
        }
        if let Some(byte) = bytes.get_mut(start + at).filter(|_| at < length) {
            *byte ^= rng.u8(1..);
        }
    }
    bytes
}

/// The first stored object in these bytes: its position and its length.
fn find(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let end = from + bytes.get(from..)?.windows(5).position(|window| window == b"\r\nL1\x01")?;
        let start = bytes.get(..end)?.iter().rposition(|byte| *byte == b'$')?;
        let length = std::str::from_utf8(bytes.get(start + 1..end)?).ok().and_then(|text| text.parse().ok());
        if let Some(length) = length {
            return Some((end + 2, length));
        }
        from = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_withheld_and_nothing_else_is() {
        for message in
            ["*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$0\r\n\r\n", ">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$0\r\n\r\n"]
        {
            assert!(without_messages(message.into()).is_empty());
        }
        for other in ["", "*3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n", "$8\r\nsmessage\r\n"] {
            assert_eq!(without_messages(other.into()), other.as_bytes());
        }
    }

    #[test]
    fn only_objects_are_changed_and_only_where_their_checksum_reaches() {
        let object: Vec<u8> = [b"L1\x01".to_vec(), vec![7; 97]].concat();
        let reply =
            [b"$17\r\n\x01tickettickettic\r\n$100\r\n".to_vec(), object.clone(), b"\r\n$2\r\nok\r\n".to_vec()].concat();
        let start = 23 + 6;
        assert_eq!(find(&reply), Some((start, 100)));
        let mut rng = fastrand::Rng::with_seed(1);
        let mut changed = 0;
        for _ in 0..2_000 {
            let after = corrupt(reply.clone(), &mut rng, 2);
            let differing: Vec<usize> = (0..reply.len()).filter(|at| after[*at] != reply[*at]).collect();
            match differing.as_slice() {
                [] => {}
                [0] => assert_eq!(after[0], b'?'),
                [at] => {
                    let at = at.checked_sub(start).unwrap();
                    assert!(at < 100 && !DEADLINE.contains(&at) && !(FLAGS..FLAGS + MOST_KEYS).contains(&at), "{at}");
                    changed += 1;
                }
                more => panic!("{more:?}"),
            }
        }
        assert!(changed > 500);
    }
}
