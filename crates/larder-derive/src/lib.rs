//! `#[derive(Entry)]` for larder. The macro is documented where it is used: at `larder::Entry`.
//!
//! Three steps, a file each: `words.rs` reads the attributes, `declaration.rs` makes of them what the entry is, and `expansion.rs`
//! writes the code. Everything that is wrong is collected in `problems.rs` on the way, so that one build shows all of it.

mod declaration;
mod expansion;
mod names;
mod problems;
mod words;

use declaration::Declaration;
use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements the trait `Entry` for a struct, and gives the struct a constant for each of its indexes. The trait's page says which attributes
/// there are.
#[proc_macro_derive(Entry, attributes(entry, key, version))]
pub fn entry(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    match Declaration::of(&input) {
        Ok(declaration) => expansion::expand(&declaration),
        Err(error) => error.into_compile_error(),
    }
    .into()
}
