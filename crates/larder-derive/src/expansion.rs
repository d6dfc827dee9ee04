//! The code that a declaration becomes.
//!
//! Whether a field holds one key or several depends on its type, which a macro cannot see; `larder::__derive` decides it.

use crate::declaration::{Declaration, Index, Place, Source};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

/// The enum of the indexes, and the implementations of `Index` and `Entry`.
pub(crate) fn expand(declaration: &Declaration<'_>) -> TokenStream {
    let enumeration = enumeration(declaration);
    let Declaration { name, generics, krate, cache, enumeration: index, .. } = declaration;
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let revision = declaration.revision.map(|revision| quote!(const REVISION: u32 = #revision;));
    let version = declaration.version.as_ref().map(|place| version(krate, place));
    let weight = declaration.weight.as_ref().map(|function| {
        let span = located_at(function.span());
        // Its type is written out, so that the error about another type points at the path.
        let call = quote_spanned!(span=> let weigh: fn(&Self) -> u64 = #function;);
        quote! {
            fn weight(&self) -> ::core::option::Option<u64> {
                #call
                ::core::option::Option::Some(weigh(self))
            }
        }
    });
    let keys = Ident::new("keys", Span::mixed_site());
    let add = declaration.indexes.iter().map(|index| add(declaration, index, &keys));
    quote! {
        #enumeration

        #[automatically_derived]
        impl #impl_generics #krate::Entry for #name #type_generics #where_clause {
            type Index = #index;

            const CACHE: &'static str = #cache;

            #revision

            fn keys(&self, #keys: &mut #krate::Keys<#index>) {
                use #krate::__derive::methods::*;
                #(#add)*
            }

            #version

            #weight
        }
    }
}

fn enumeration(declaration: &Declaration<'_>) -> TokenStream {
    let Declaration { name, visibility, krate, enumeration, indexes, .. } = declaration;
    let doc = format!(" The indexes of [`{name}`], the primary one first.");
    let variants: Vec<_> = indexes.iter().map(|index| &index.variant).collect();
    let names: Vec<_> = indexes.iter().map(|index| &index.name).collect();
    let docs = indexes.iter().map(|index| {
        let what = match (&index.source, index.primary) {
            (_, true) => ", the primary index",
            (Source::Parts(_), false) => ", by several parts",
            (_, false) => "",
        };
        format!(" `{}`{what}.", index.name)
    });
    quote! {
        #[doc = #doc]
        #[allow(clippy::enum_variant_names)]
        #[derive(
            ::core::clone::Clone,
            ::core::marker::Copy,
            ::core::fmt::Debug,
            ::core::cmp::PartialEq,
            ::core::cmp::Eq,
            ::core::hash::Hash,
        )]
        #visibility enum #enumeration {
            #(#[doc = #docs] #variants,)*
        }

        #[automatically_derived]
        impl #krate::Index for #enumeration {
            const NAMES: &'static [&'static str] = &[#(#names),*];

            fn position(self) -> usize {
                self as usize
            }

            fn from_name(name: &str) -> ::core::option::Option<Self> {
                match name {
                    #(#names => ::core::option::Option::Some(Self::#variants),)*
                    _ => ::core::option::Option::None,
                }
            }
        }
    }
}

fn version(krate: &syn::Path, Place { member, span }: &Place) -> TokenStream {
    let span = located_at(*span);
    let read = quote_spanned! {span=>
        (&&#krate::__derive::Kind::of(&self.#member)).version().read(&self.#member)
    };
    quote! {
        const VERSIONED: bool = true;

        fn version(&self) -> ::core::option::Option<u64> {
            use #krate::__derive::methods::*;
            ::core::option::Option::Some(#read)
        }
    }
}

/// The statement that adds the keys of one index.
fn add(
    declaration: &Declaration<'_>,
    Index { variant, primary, each, source, .. }: &Index,
    keys: &Ident,
) -> TokenStream {
    let Declaration { krate, enumeration, .. } = declaration;
    let index = quote!(#enumeration::#variant);
    let derive = quote!(#krate::__derive);
    let (span, value) = match source {
        Source::Field(Place { member, span }) => (located_at(*span), quote!(&self.#member)),
        Source::With(function) => {
            let span = located_at(function.span());
            (span, quote_spanned!(span=> (#function)(self)))
        }
        Source::Parts(places) => {
            let parts = places.iter().map(|place| {
                let member = &place.member;
                let found = found(place.span);
                let key = exactly_one(&derive, &found, located_at(place.span));
                quote!({ let #found = &self.#member; #key })
            });
            return quote!(#keys.add(#index, (#(#parts,)*)););
        }
    };
    let found = found(span);
    let add = if *primary {
        let key = exactly_one(&derive, &found, span);
        quote!(#keys.add(#index, #key);)
    } else if *each {
        quote_spanned!(span=> #derive::Each.add(#keys, #index, #found);)
    } else {
        quote_spanned!(span=> (&&&&&#derive::Kind::of(&#found)).keys().add(#keys, #index, #found);)
    };
    quote!({ let #found = #value; #add })
}

fn exactly_one(derive: &TokenStream, found: &Ident, span: Span) -> TokenStream {
    quote_spanned!(span=> (&&&&&#derive::Kind::of(&#found)).key().exactly(#found))
}

/// The variable that holds the value, which nothing of the user's can meet.
fn found(span: Span) -> Ident {
    Ident::new("found", Span::mixed_site().located_at(span))
}

/// Where errors point at, while lints still see generated code.
fn located_at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn larder_is_called_what_the_user_calls_it() {
        let input = parse_quote! {
            #[entry(cache = "a", crate = facade::store, weight = weigh, key(index = "x", with = x), key(index = "y", fields = (a, b)))]
            struct A { #[key(primary)] a: u8, #[key(index)] b: u8, #[version] c: u8 }
        };
        let code = expand(&Declaration::of(&input).unwrap()).to_string();
        assert!(code.contains("facade :: store :: Entry"));
        assert!(!code.contains("larder"), "{code}");
    }
}
