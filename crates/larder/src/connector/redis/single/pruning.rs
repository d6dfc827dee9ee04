//! Removes index keys that lead to no object.

use crate::connector::redis::scripts;
use crate::connector::redis::single::Store;
use crate::connector::redis::single::clearing;
use crate::connector::redis::wire::caller::Caller;
use crate::connector::remote::{BATCH, Channel, Trouble};
use crate::contract::{Error, Pruned};
use redis::{Cmd, Value as Reply};

impl Store {
    pub(crate) async fn prune_keys(&self) -> Result<Pruned, Error> {
        let unavailable = |trouble: Trouble| {
            self.miss(&trouble);
            Error::Unavailable { cache: self.schema.cache.clone(), reason: trouble.to_string() }
        };
        let (channel, clock) = (Channel::Shared(&self.link), self.local.layout.clock());
        let mut pruned = Pruned::default();
        let mut cursor = b"0".to_vec();
        loop {
            let (next, names) =
                clearing::scan(&channel, &cursor, &self.local.layout.index_keys()).await.map_err(unavailable)?;
            // The names include indexes of other releases. No node of these may be left to prune them.
            for batch in names.chunks(BATCH) {
                let arguments = |call: &mut Cmd| {
                    call.arg(1 + batch.len()).arg(&clock);
                    for name in batch {
                        call.arg(name);
                    }
                    call.arg(self.local.layout.object_prefix()).arg(self.local.layout.before_index());
                };
                let reply = channel.script(&scripts::PRUNE, arguments).await.map_err(unavailable)?;
                if let Reply::Int(removed) = reply {
                    pruned.keys += u64::try_from(removed).unwrap_or(0);
                }
            }
            if next == b"0" {
                return Ok(pruned);
            }
            cursor = next;
        }
    }
}
