//! An instance with its restrictions, as both nodes keep it.

use larder::Entry;
use serde::{Deserialize, Serialize};

/// One tenant of the platform: made of its row, the rows of its domains, and its row of restrictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
pub(super) struct Instance {
    #[key(primary)]
    pub(super) id: String,
    #[key(index = "host")]
    pub(super) hosts: Vec<String>,
    pub(super) name: String,
    /// How many users it may have, from its restrictions. The demo only ever raises it, so a lower limit is an older state.
    pub(super) user_limit: i64,
}
