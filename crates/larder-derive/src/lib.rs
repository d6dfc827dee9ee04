//! stub
/// stub
#[proc_macro_derive(Entry, attributes(entry, key, version))]
pub fn entry(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    proc_macro::TokenStream::new()
}
