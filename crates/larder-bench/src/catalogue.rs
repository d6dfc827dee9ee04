//! All that is measured, in the order it is told.

use crate::measure::Group;
use crate::{breaker, memory, redis_client, redis_get, redis_store};
use larder_testing::server::{ServerBinary, required};

/// What belongs together for a reader.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// What its figures mean to a user.
    pub(crate) meaning: &'static str,
    pub(crate) groups: Vec<Group>,
}

/// Bytes of an object as MessagePack, and how they are called.
const PAYLOADS: [(usize, &str); 3] = [(300, "300B"), (2_000, "2kB"), (20_000, "20kB")];

pub(crate) fn sections() -> Result<Vec<Section>, String> {
    let servers = required().map_err(|error| error.to_string())?;
    let each = |group: fn(&ServerBinary, usize, &str) -> Group| -> Vec<Group> {
        let mut groups = Vec::new();
        for (payload, called) in PAYLOADS {
            for binary in &servers {
                groups.push(group(binary, payload, &format!("{called}/{}", server(binary))));
            }
        }
        groups
    };
    Ok(vec![
        Section {
            title: "Reading from Redis",
            meaning: "",
            groups: [each(redis_get::without_ages), each(redis_get::with_last_use_age)].into_iter().flatten().collect(),
        },
        Section { title: "Writing to Redis", meaning: "", groups: each(redis_store::writing) },
        Section { title: "Memory in Redis", meaning: "", groups: each(redis_store::memory) },
        Section { title: "The client's side", meaning: "", groups: each(redis_client::throughput) },
        Section {
            title: "Memory connector",
            meaning: "",
            groups: vec![memory::primary(), memory::secondary(), memory::threads()],
        },
        Section { title: "Breaker", meaning: "", groups: vec![breaker::closed(), breaker::open()] },
    ])
}

/// A server as a part of a row's name: `redis-7.0.15`.
fn server(binary: &ServerBinary) -> String {
    let (major, minor, patch) = binary.version;
    format!("{:?}-{major}.{minor}.{patch}", binary.flavour).to_lowercase()
}
