//! What an entry is, after its attributes were read and found consistent.

use crate::names;
use crate::problems::Problems;
use crate::words::{EntryWords, IndexWord, KeyWords};
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::HashMap;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Field, Fields, Generics, Ident, LitStr, Member, Path, Type, Visibility, parse_quote,
};

/// The stored layout has one byte for the index.
const MOST_INDEXES: usize = 255;

/// Only tuples of up to four parts are keys.
const MOST_PARTS: usize = 4;

/// An entry, as its struct declares it.
pub(crate) struct Declaration<'a> {
    pub(crate) name: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) visibility: &'a Visibility,
    /// The path to larder.
    pub(crate) krate: Path,
    pub(crate) cache: String,
    pub(crate) revision: Option<u32>,
    pub(crate) weight: Option<Path>,
    pub(crate) version: Option<Place>,
    /// The indexes, the primary one first.
    pub(crate) indexes: Vec<Index>,
}

/// An index, and where its keys come from.
pub(crate) struct Index {
    pub(crate) name: String,
    /// The constant that stands for the index.
    pub(crate) constant: Ident,
    pub(crate) primary: bool,
    pub(crate) each: bool,
    pub(crate) source: Source,
    /// The type of the keys, if the attribute gives it.
    pub(crate) of: Option<Type>,
}

impl Index {
    /// The place that errors about the type of the keys point at.
    pub(crate) fn span(&self) -> Span {
        match (&self.of, &self.source) {
            (Some(of), _) => of.span(),
            (None, Source::Field(place)) => place.of.span(),
            (None, Source::With(function)) => function.span(),
            (None, Source::Parts(_)) => self.constant.span(),
        }
    }
}

/// Where the keys of an index come from.
pub(crate) enum Source {
    /// A field.
    Field(Place),
    /// A function.
    With(Path),
    /// Several fields that make one key.
    Parts(Vec<Place>),
}

/// A field.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) member: Member,
    /// The field's type. Errors about it point here.
    pub(crate) of: Type,
}

impl<'a> Declaration<'a> {
    /// The entry that `input` declares, or everything that is wrong with it.
    pub(crate) fn of(input: &'a DeriveInput) -> syn::Result<Self> {
        let mut problems = Problems::default();
        let fields = match &input.data {
            Data::Struct(data) => &data.fields,
            Data::Enum(data) => return Err(not_a_struct(data.enum_token, "an enum")),
            Data::Union(data) => return Err(not_a_struct(data.union_token, "a union")),
        };
        refuse_generics(&input.generics, &mut problems);
        for attribute in &input.attrs {
            if is(attribute, "key") {
                problems
                    .at(attribute, "this belongs on a field; on the struct, keys are declared with `#[entry(key(…))]`");
            } else if is(attribute, "version") {
                problems.at(attribute, "this belongs on the field that holds the version");
            }
        }
        let mut words = EntryWords::default();
        let attributes: Vec<_> = input.attrs.iter().filter(|attribute| is(attribute, "entry")).collect();
        for attribute in &attributes {
            words.read(attribute, &mut problems);
        }
        let cache = cache_name(&input.ident, &attributes, words.cache, &mut problems);
        let revision = words.revision.and_then(|number| match number.base10_parse::<u32>() {
            Ok(revision) => Some(revision),
            Err(_) => {
                problems.at(number, "a revision is a number from 0 to 4294967295");
                None
            }
        });
        let (mut indexes, version) = declared_on_fields(fields, &mut problems);
        for key in words.keys {
            indexes.extend(Declared::on_struct(key, fields, &mut problems));
        }
        let indexes = in_order(input, indexes, &mut problems);
        let declaration = Self {
            name: &input.ident,
            generics: &input.generics,
            visibility: &input.vis,
            krate: words.krate.unwrap_or_else(|| parse_quote!(::larder)),
            cache,
            revision,
            weight: words.weight,
            version,
            indexes,
        };
        problems.or(declaration)
    }
}

fn not_a_struct(token: impl ToTokens, what: &str) -> syn::Error {
    let message = format!(
        "`Entry` can be derived for a struct, and this is {what}: make it a field of a struct that has the keys beside it, or \
         implement `larder::Entry` by hand"
    );
    syn::Error::new_spanned(token, message)
}

fn refuse_generics(generics: &Generics, problems: &mut Problems) {
    for parameter in &generics.params {
        match parameter {
            syn::GenericParam::Lifetime(lifetime) => problems.at(
                lifetime,
                "an entry owns all it holds, since it stays in the cache when its reader is gone: use `String` instead of \
                 `&str`, `Vec<T>` instead of `&[T]`",
            ),
            syn::GenericParam::Type(_) | syn::GenericParam::Const(_) => problems.at(
                parameter,
                "an entry is one type with one cache: write the concrete type in place of this parameter, or a struct for \
                 each with a `cache` of its own",
            ),
        }
    }
}

fn is(attribute: &Attribute, name: &str) -> bool {
    attribute.path().is_ident(name)
}

fn cache_name(name: &Ident, attributes: &[&Attribute], cache: Option<LitStr>, problems: &mut Problems) -> String {
    let Some(cache) = cache else {
        let suggested = names::suggested_cache(&name.to_string());
        let message = format!("the name of the cache is missing: write `#[entry(cache = {suggested:?})]`");
        match attributes.last() {
            None => problems.at(name, message),
            // If the attribute is empty, or its cache is wrong, there is an error already.
            Some(last) if matches!(&last.meta, syn::Meta::List(_)) && !attributes.iter().any(|a| says(a, "cache")) => {
                problems.at(last, message);
            }
            Some(_) => {}
        }
        return String::new();
    };
    if let Some(complaint) = names::complaint(&cache.value()) {
        problems.at(&cache, complaint);
    }
    cache.value()
}

/// An index as declared, before it is compared with the other indexes.
struct Declared {
    name: String,
    /// The place that errors about the name point at.
    named_at: Box<dyn ToTokens>,
    /// The place that errors about the index point at.
    key: Path,
    primary: bool,
    each: bool,
    source: Source,
    of: Option<Type>,
}

fn declared_on_fields(fields: &Fields, problems: &mut Problems) -> (Vec<Declared>, Option<Place>) {
    let mut indexes = Vec::new();
    let mut version: Option<Place> = None;
    for (member, field) in fields.members().zip(fields) {
        let mut keyed = false;
        refuse_unstored(field, problems);
        for attribute in &field.attrs {
            if is(attribute, "entry") {
                problems
                    .at(attribute, "`#[entry(…)]` belongs on the struct; on a field write `#[key(…)]` or `#[version]`");
            } else if is(attribute, "key") {
                if keyed {
                    let message = "a field is declared in one `#[key(…)]`; for another index of the same field write \
                                   `#[entry(key(index = \"…\", with = Self::function, type = …))]` on the struct";
                    problems.at(attribute, message);
                    continue;
                }
                keyed = true;
                let words = KeyWords::read(attribute, problems);
                indexes.extend(Declared::on_field(words, &member, field, problems));
            } else if is(attribute, "version") {
                if attribute.meta.require_path_only().is_err() {
                    problems.at(attribute, "write `#[version]`, without a value");
                }
                if version.is_some() {
                    problems.at(attribute, "an object has one version, and another field is it already");
                } else {
                    version = Some(Place::of(&member, field));
                }
            }
        }
    }
    (indexes, version)
}

/// Refuses a key or version that is not stored: it would silently be lost when the object comes back from a server.
fn refuse_unstored(field: &Field, problems: &mut Problems) {
    let Some(needed) = field.attrs.iter().find(|attribute| is(attribute, "key") || is(attribute, "version")) else {
        return;
    };
    let skips = ["skip", "skip_serializing", "skip_deserializing"];
    let skipped = field.attrs.iter().filter(|attribute| is(attribute, "serde"));
    for attribute in skipped.filter(|attribute| skips.iter().any(|word| says(attribute, word))) {
        let what = if is(needed, "key") { "key" } else { "version" };
        problems.at(attribute, format!("a {what} has to be stored with the object, and this field is not"));
    }
}

impl Place {
    fn of(member: &Member, field: &Field) -> Self {
        Self { member: member.clone(), of: field.ty.clone() }
    }
}

impl Declared {
    fn on_field(words: KeyWords, member: &Member, field: &Field, problems: &mut Problems) -> Option<Self> {
        let mut flawed = words.flawed;
        let elsewhere = words.with.as_ref().map(|(word, _)| (word, "with = …, type = …"));
        let elsewhere = elsewhere.or(words.fields.as_ref().map(|(word, _)| (word, "fields = (…)")));
        if let Some((word, usage)) = elsewhere {
            problems.at(word, format!("this belongs to the struct: `#[entry(key(index = \"…\", {usage}))]`"));
            flawed = true;
        }
        flawed |= primary_each(&words, problems);
        let (name, named_at): (_, Box<dyn ToTokens>) = match (words.index, &words.primary) {
            (Some(IndexWord::Named(name)), _) => (name.value(), Box::new(name)),
            (Some(IndexWord::OfField(word)), _) => {
                (field_name(member, &word, problems)?, Box::new(field.ident.clone()))
            }
            (None, Some(primary)) => (field_name(member, primary, problems)?, Box::new(field.ident.clone())),
            (None, None) => {
                if !flawed {
                    let message = "say which index: `#[key(index = \"…\")]`, or `#[key(index)]` for one that is named after \
                                   the field";
                    problems.at(&words.key, message);
                }
                return None;
            }
        };
        (!flawed).then(|| Self {
            name,
            named_at,
            key: words.key,
            primary: words.primary.is_some(),
            each: words.each.is_some(),
            source: Source::Field(Place::of(member, field)),
            of: words.of.map(|(_, of)| of),
        })
    }

    fn on_struct(words: KeyWords, fields: &Fields, problems: &mut Problems) -> Option<Self> {
        let mut flawed = words.flawed;
        flawed |= primary_each(&words, problems);
        let named = match words.index {
            Some(IndexWord::Named(name)) => Some(name),
            Some(IndexWord::OfField(word)) => {
                problems.at(word, "this index has no field to be named after: write `index = \"…\"`");
                return None;
            }
            None if flawed => None,
            None => {
                problems.at(&words.key, "the name of the index is missing: write `key(index = \"…\", …)`");
                None
            }
        };
        let source = match (words.with, words.fields) {
            (Some((word, function)), None) => {
                if words.of.is_none() && !flawed {
                    let message = "say of which type the keys are that the function returns: `type = String`, and for a key of several \
                                   parts `type = (String, u64)`";
                    problems.at(word, message);
                    flawed = true;
                }
                Some(Source::With(function))
            }
            (None, Some((word, members))) => {
                if let Some(each) = &words.each {
                    problems.at(each, "`each` and `fields = (…)` do not go together: several fields make one key");
                    flawed = true;
                }
                if let Some((of, _)) = &words.of {
                    problems.at(of, "`type` and `fields = (…)` do not go together: the fields have their types");
                    flawed = true;
                }
                parts(&word, &members, fields, problems).map(Source::Parts)
            }
            (Some(_), Some((word, _))) => {
                problems.at(word, "`with` and `fields` do not go together: write one of them");
                None
            }
            (None, None) => {
                if !flawed {
                    let message = "say where the key comes from: `with = Self::function, type = …`, or `fields = (first, second)` for a \
                                   key of several fields";
                    problems.at(&words.key, message);
                }
                None
            }
        };
        let (name, source) = (named?, source?);
        (!flawed).then(|| Self {
            name: name.value(),
            named_at: Box::new(name),
            key: words.key,
            primary: words.primary.is_some(),
            each: words.each.is_some(),
            source,
            of: words.of.map(|(_, of)| of),
        })
    }
}

/// Whether a primary key is declared with `each`. Adds an error if it is.
fn primary_each(words: &KeyWords, problems: &mut Problems) -> bool {
    match (&words.primary, &words.each) {
        (Some(_), Some(each)) => {
            problems.at(each, "`each` and `primary` do not go together: an object has exactly one primary key");
            true
        }
        _ => false,
    }
}

fn field_name(member: &Member, word: &Path, problems: &mut Problems) -> Option<String> {
    match member {
        Member::Named(name) => Some(name.to_string().trim_start_matches("r#").to_owned()),
        Member::Unnamed(_) => {
            problems.at(word, "this field has no name that the index could take: write `index = \"…\"`");
            None
        }
    }
}

fn parts(word: &Path, members: &[Member], fields: &Fields, problems: &mut Problems) -> Option<Vec<Place>> {
    let mut parts = Vec::with_capacity(members.len());
    for (position, member) in members.iter().enumerate() {
        if members.iter().take(position).any(|earlier| earlier == member) {
            problems.at(member, "this field is here twice");
            return None;
        }
        match fields.members().zip(fields).find(|(name, _)| name == member) {
            // Errors about the type point at the field, whose type it is.
            Some((_, field)) => parts.push(Place::of(member, field)),
            None => {
                let names: Vec<_> = fields.members().map(|name| format!("`{}`", name.to_token_stream())).collect();
                problems.at(member, format!("there is no such field; the fields are {}", names.join(", ")));
                return None;
            }
        }
    }
    match parts.len() {
        0 | 1 => problems
            .at(word, "a key of several fields needs two at least; one field is declared with `#[key(…)]` on it"),
        2..=MOST_PARTS => return Some(parts),
        _ => problems
            .at(word, format!("a key has at most {MOST_PARTS} parts; compute it: `with = Self::function, type = …`")),
    }
    None
}

/// The indexes: the primary one first, the others in the order in which they were declared.
fn in_order(input: &DeriveInput, declared: Vec<Declared>, problems: &mut Problems) -> Vec<Index> {
    let (primary, secondary): (Vec<_>, Vec<_>) = declared.into_iter().partition(|index| index.primary);
    if primary.is_empty() {
        let message = "the primary key is missing: mark the field that identifies the object with `#[key(primary)]`, or write \
                       `#[entry(key(primary, index = \"…\", fields = (…)))]` where several fields do";
        // A primary key that was declared with a mistake is not missing: it has an error already.
        if !says_primary(input) {
            problems.at(&input.ident, message);
        }
    }
    for second in primary.iter().skip(1) {
        let message = "an object has one primary key, and another is declared already; for one that is made of several fields \
                       write `#[entry(key(primary, index = \"…\", fields = (first, second)))]` on the struct";
        problems.at(&second.key, message);
    }
    let mut indexes = Vec::new();
    let mut constants = HashMap::new();
    for declared in primary.into_iter().chain(secondary) {
        let Declared { name, named_at, key, primary, each, source, of } = declared;
        if let Some(complaint) = names::complaint(&name) {
            problems.at(named_at, format!("{complaint}; write `index = \"…\"`"));
            continue;
        }
        let Some(constant) = names::constant(&name) else {
            problems
                .at(named_at, "the name of an index needs a letter or a digit, for the constant that stands for it");
            continue;
        };
        match constants.insert(constant.clone(), name.clone()) {
            Some(earlier) if earlier == name => {
                let message = format!(
                    "another index is called `{name}` already; where several fields feed one index, compute its keys: \
                     `#[entry(key(index = {name:?}, with = Self::function, type = …))]`"
                );
                problems.at(named_at, message);
                continue;
            }
            Some(earlier) => {
                let message =
                    format!("the indexes `{earlier}` and `{name}` would both become the constant `{constant}`");
                problems.at(named_at, message);
                continue;
            }
            None => {}
        }
        if indexes.len() == MOST_INDEXES {
            problems.at(&key, format!("an entry has at most {MOST_INDEXES} indexes, and this is one more"));
            break;
        }
        let constant = Ident::new(&constant, Span::call_site().located_at(key.span()));
        indexes.push(Index { name, constant, primary, each, source, of });
    }
    indexes
}

fn says_primary(input: &DeriveInput) -> bool {
    let Data::Struct(data) = &input.data else { return false };
    let on_fields = data.fields.iter().flat_map(|field| &field.attrs);
    let mut attributes = input.attrs.iter().chain(on_fields).filter(|a| is(a, "entry") || is(a, "key"));
    attributes.any(|attribute| says(attribute, "primary"))
}

/// Whether a word is anywhere in an attribute, even in a wrong place.
fn says(attribute: &Attribute, word: &str) -> bool {
    fn within(tokens: TokenStream, word: &str) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(found) => found == word,
            TokenTree::Group(group) => within(group.stream(), word),
            _ => false,
        })
    }
    within(attribute.meta.to_token_stream(), word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::format_ident;

    fn with_secondary_indexes(count: usize) -> DeriveInput {
        let fields = (0..count).map(|number| format_ident!("field{number}"));
        parse_quote! {
            #[entry(cache = "many")]
            struct Many { #(#[key(index)] #fields: u8,)* #[key(primary)] id: u8 }
        }
    }

    #[test]
    fn an_entry_has_at_most_255_indexes() {
        let most = with_secondary_indexes(MOST_INDEXES - 1);
        assert_eq!(Declaration::of(&most).unwrap().indexes.len(), 255);
        let over = with_secondary_indexes(MOST_INDEXES);
        let error = Declaration::of(&over).err().unwrap().to_string();
        assert_eq!(error, "an entry has at most 255 indexes, and this is one more");
    }

    #[test]
    fn the_primary_index_is_the_first() {
        let input = with_secondary_indexes(2);
        let declaration = Declaration::of(&input).unwrap();
        let names: Vec<_> = declaration.indexes.iter().map(|index| (&*index.name, index.primary)).collect();
        assert_eq!(names, [("id", true), ("field0", false), ("field1", false)]);
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let input = parse_quote! {
            #[entry(cache = "a b", speed = 3, revision = "x")]
            struct Wrong<T> { #[key] id: T, #[key(index = "")] host: T, #[version = 1] version: T }
        };
        let error = Declaration::of(&input).err().unwrap();
        // A parameter, an unknown word, a revision, the name of a cache, a key, a version, no primary key, the name of an index.
        assert_eq!(error.into_iter().count(), 8);
    }
}
