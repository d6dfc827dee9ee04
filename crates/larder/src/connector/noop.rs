//! The connector that stores nothing: a cache that is switched off.

use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lookup, Miss, Object, Pruned, Status, Stored, Ticket,
    Transactions, Value,
};

/// Every get is a miss; everything else is done at once, since there is nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noop;

impl Connector for Noop {
    fn get<'a>(&'a self, _: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        Answer::now(Err(Miss::Off))
    }

    fn lookup<'a>(&'a self, _: KeyRef<'a>) -> Answer<'a, Lookup> {
        Answer::now(Lookup::miss(Miss::Off, None))
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        Answer::now(None)
    }

    fn fill(&self, _: Object, _: Ticket) -> Answer<'_, Fill> {
        Answer::now(Fill::undated(Stored::Off))
    }

    fn put(&self, _: Object, _: Option<Ticket>) -> Answer<'_, Stored> {
        Answer::now(Stored::Off)
    }

    fn invalidate(&self, _: Vec<KeyBuf>, _: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        Answer::now(Ok(Delivery::Applied))
    }

    fn delete(&self, _: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        Answer::now(Ok(Delivery::Applied))
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        Answer::now(Ok(Delivery::Applied))
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        Answer::now(Ok(Pruned::default()))
    }

    fn transactions(&self) -> Transactions<'_> {
        Transactions::Off
    }

    fn status(&self) -> Status {
        Status { readable: true, ..Status::default() }
    }
}
