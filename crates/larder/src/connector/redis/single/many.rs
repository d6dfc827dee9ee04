//! Several keys or objects in one call.
//!
//! | call | round trips |
//! |---|---|
//! | get, lookup | one; two if an object is too large for a script, or a hint was wrong |
//! | fill | one |
//! | set | one; one more for objects that were overtaken; one more for a ticket, if several scripts are needed or this node has seen none |
//! | invalidate, delete | one (`remote/guard.rs`) |
//!
//! The round trip of a get has an MGET of the objects that are known, a script for the index keys of the others, the touches that are due,
//! and for a lookup the clock. MGET costs the server a tenth to a quarter less than single GETs, and the client gets fewer replies. For MGET,
//! a value of another Redis type is no value: its key misses. Unlike a single get, MGET does not report and remove the value. A fill replaces
//! the value.
//!
//! A call of many more keys or objects is sent in lots, each after the one before was answered, so that other operations are not held up. All
//! scripts of a call that stores objects share its ticket, and each knows what others have touched since (`lua/store_many.lua`).

mod reading;
mod round_trip;
mod search;
mod storing;

/// How many keys are looked up, or objects stored, in one round trip at most.
const LOT: usize = 512;
