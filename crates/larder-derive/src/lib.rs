//! `#[derive(Entry)]` for larder. Its documentation is at `larder::Entry`.
//!
//! There are three steps, each in a file of its own: `words.rs` reads the attributes, `declaration.rs` turns them into what the entry is,
//! and `expansion.rs` writes the code. `problems.rs` collects everything that is wrong, so that one build shows all of it.

mod declaration;
mod expansion;
mod names;
mod problems;
mod words;

use declaration::Declaration;
use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements the trait `Entry` for a struct, and gives the struct a constant for each of its indexes. The trait's page describes the
/// attributes.
#[proc_macro_derive(Entry, attributes(entry, key, version))]
pub fn entry(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    match Declaration::of(&input) {
        Ok(declaration) => expansion::expand(&declaration),
        Err(error) => error.into_compile_error(),
    }
    .into()
}
