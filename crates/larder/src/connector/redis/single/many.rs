//! Several keys or objects in one call.
//!
//! | call | round trips |
//! |---|---|
//! | get, lookup | one: MGET of the objects that are known, a script for the index keys of those that are not, touches that are due, the clock. A second one for objects that are too large for a script, and where a hint was wrong |
//! | fill | one |
//! | set | two: the ticket, and then one |
//! | invalidate, delete | one (`delivery.rs`) |
//!
//! MGET and not GETs in a row: it costs the server a tenth to a quarter less and the client fewer replies. To MGET a value of another Redis
//! type is no value: a miss of its own key alone, which is not reported and not removed, unlike by a single get. A fill replaces it.
//!
//! A call of many more keys or objects is sent in lots, each when the one before was answered, so that nobody else is held up. All scripts of
//! a call that stores objects share its ticket, and each knows what others have touched since (`lua/store_many.lua`).

mod reading;
mod round_trip;
mod search;
mod storing;

/// Keys to be looked up, or objects to be stored, in one round trip.
const LOT: usize = 512;
