//! What every connector with a server behind it shares.

pub(crate) mod envelope;
pub(crate) mod hints;
pub(crate) mod journal;
pub(crate) mod recovery;
pub(crate) mod supervisor;
