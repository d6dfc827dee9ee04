//! The code that is generated for a declaration.
//!
//! Whether a field holds one key or several depends on its type, which a macro cannot see. `larder::__derive` decides that.

use crate::declaration::{Declaration, Index, Place, Source};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{GenericArgument, PathArguments, Type};

/// The constants of the indexes, and the implementation of `Entry`.
pub(crate) fn expand(declaration: &Declaration<'_>) -> TokenStream {
    let constants = constants(declaration);
    let Declaration { name, generics, krate, cache, .. } = declaration;
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let names = declaration.indexes.iter().map(|index| &index.name);
    let revision = declaration.revision.map(|revision| quote!(const REVISION: u32 = #revision;));
    let version = declaration.version.as_ref().map(|place| version(krate, place));
    let weight = declaration.weight.as_ref().map(|function| {
        let span = located_at(function.span());
        // The type is written out, so that an error about another type points at the path.
        let call = quote_spanned!(span=> let weigh: fn(&Self) -> u64 = #function;);
        quote! {
            fn weight(&self) -> ::core::option::Option<u64> {
                #call
                ::core::option::Option::Some(weigh(self))
            }
        }
    });
    let keys = Ident::new("keys", Span::mixed_site());
    let add = declaration.indexes.iter().map(|index| add(krate, index, &keys));
    quote! {
        #constants

        #[automatically_derived]
        impl #impl_generics #krate::Entry for #name #type_generics #where_clause {
            const CACHE: &'static str = #cache;
            const INDEXES: &'static [&'static str] = &[#(#names),*];

            #revision

            fn keys(&self, #keys: &mut #krate::Keys<Self>) {
                use #krate::__derive::methods::*;
                #(#add)*
            }

            #version

            #weight
        }
    }
}

/// A constant for each index.
fn constants(declaration: &Declaration<'_>) -> TokenStream {
    let Declaration { name, generics, visibility, krate, indexes, .. } = declaration;
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let constants = indexes.iter().enumerate().map(|(position, index)| {
        let what = match (&index.source, index.primary) {
            (_, true) => ", the primary index",
            (Source::Parts(_), false) => ", by several parts",
            (_, false) => "",
        };
        let doc = format!(" The index `{}`{what}.", index.name);
        // All tokens have one span. If the type cannot be a key, all errors about it then point at one place, and are shown once.
        let span = located_at(index.span());
        let constant = Ident::new(&index.constant.to_string(), span);
        let (krate, of) = (at(span, quote!(#krate)), key_type(krate, index));
        let declared =
            quote_spanned!(span=> const #constant: #krate::Index<Self, #of> = #krate::Index::at::<#position>(););
        quote!(#[doc = #doc] #visibility #declared)
    });
    quote! {
        // The constant is as visible as the struct. Its type may name the type of a private field.
        #[allow(private_interfaces)]
        #[automatically_derived]
        impl #impl_generics #name #type_generics #where_clause {
            #(#constants)*
        }
    }
}

/// The owned type of the keys of an index.
fn key_type(krate: &syn::Path, Index { each, source, of, .. }: &Index) -> TokenStream {
    let owned = |of: &dyn ToTokens, span| quote_spanned!(located_at(span)=> <#of as #krate::Key>::Owned);
    match source {
        _ if let Some(of) = of => owned(of, of.span()),
        Source::Field(Place { of, .. }) if *each => {
            let span = located_at(of.span());
            let item = quote_spanned!(span=> <&'static #of as ::core::iter::IntoIterator>::Item);
            owned(&item, of.span())
        }
        Source::Field(Place { of, .. }) => key_type_of_field(krate, of),
        Source::Parts(places) => {
            let parts = places.iter().map(|place| key_type_of_field(krate, &place.of));
            quote!((#(#parts,)*))
        }
        // A function without a type was refused earlier.
        Source::With(_) => quote!(()),
    }
}

/// The owned type of the keys in a field, as far as the field's type is written out. The compiler checks whether the values have it.
fn key_type_of_field(krate: &syn::Path, of: &Type) -> TokenStream {
    let span = located_at(of.span());
    match item_of_list(of) {
        Some(item) if !is_byte(item) => quote_spanned!(span=> <#item as #krate::Key>::Owned),
        _ => quote_spanned!(span=> <#of as #krate::__derive::Field>::Key),
    }
}

/// The type `T` of a type that is written `Vec<T>`, `[T; N]`, `Box<[T]>`, `Rc<[T]>` or `Arc<[T]>`.
fn item_of_list(of: &Type) -> Option<&Type> {
    let path = match of {
        Type::Group(group) => return item_of_list(&group.elem),
        Type::Paren(group) => return item_of_list(&group.elem),
        Type::Array(array) => return Some(&array.elem),
        Type::Path(path) => path.path.segments.last()?,
        _ => return None,
    };
    let PathArguments::AngleBracketed(arguments) = &path.arguments else { return None };
    let GenericArgument::Type(argument) = arguments.args.first()? else { return None };
    match (&*path.ident.to_string(), argument) {
        ("Vec", item) => Some(item),
        ("Box" | "Rc" | "Arc", Type::Slice(slice)) => Some(&slice.elem),
        _ => None,
    }
}

fn is_byte(of: &Type) -> bool {
    match of {
        Type::Group(group) => is_byte(&group.elem),
        Type::Paren(group) => is_byte(&group.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "u8"),
        _ => false,
    }
}

fn version(krate: &syn::Path, Place { member, of }: &Place) -> TokenStream {
    let span = located_at(of.span());
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
fn add(krate: &syn::Path, Index { constant, primary, each, source, of, .. }: &Index, keys: &Ident) -> TokenStream {
    let derive = quote!(#krate::__derive);
    let (span, value) = match source {
        Source::Field(Place { member, of }) => (located_at(of.span()), quote!(&self.#member)),
        Source::With(function) => {
            let span = located_at(function.span());
            (span, quote_spanned!(span=> (#function)(self)))
        }
        Source::Parts(places) => {
            let parts = places.iter().map(|Place { member, of }| {
                let span = located_at(of.span());
                let found = found(span);
                quote_spanned!(span=> {
                    let #found = &self.#member;
                    (&&&&&#derive::Kind::of(&#found)).key().exactly(#found)
                })
            });
            return quote!(#keys.add(Self::#constant, (#(#parts,)*)););
        }
    };
    let constant = Ident::new(&constant.to_string(), span);
    let index = quote_spanned!(span=> Self::#constant);
    let found = found(span);
    let add = if *primary {
        quote_spanned!(span=> (&&&&&#derive::Kind::of(&#found)).key().add(#keys, #index, #found);)
    } else if *each {
        quote_spanned!(span=> #derive::Each.add(#keys, #index, #found);)
    } else {
        let kind = if matches!(source, Source::Field(_)) && of.is_none() { quote!(of_field) } else { quote!(of) };
        quote_spanned!(span=> (&&&&&#derive::Kind::#kind(&#found)).keys().add(#keys, #index, #found);)
    };
    quote!({ let #found = #value; #add })
}

/// The variable that holds the value. It cannot collide with a name of the user's.
fn found(span: Span) -> Ident {
    Ident::new("found", Span::mixed_site().located_at(span))
}

/// The same tokens, as if they had been written at `span`.
fn at(span: Span, tokens: TokenStream) -> TokenStream {
    let placed = tokens.into_iter().map(|mut token| {
        token.set_span(span);
        token
    });
    placed.collect()
}

/// A span that errors point at, and that lints still treat as generated code.
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
            #[entry(cache = "a", crate = facade::store, weight = weigh, key(index = "x", with = x, type = u8), key(index = "y", fields = (a, b)))]
            struct A { #[key(primary)] a: u8, #[key(index)] b: u8, #[version] c: u8 }
        };
        let code = expand(&Declaration::of(&input).unwrap()).to_string();
        assert!(code.contains("facade :: store :: Entry"));
        assert!(!code.contains("larder"), "{code}");
    }
}
