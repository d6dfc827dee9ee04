//! The words in the attributes: `#[entry(…)]` on the struct, `#[key(…)]` on a field, and `key(…)` within `entry`.

use crate::problems::Problems;
use proc_macro2::TokenTree;
use quote::ToTokens;
use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, LitInt, LitStr, Member, Path, Token, Type};

/// The words of `#[entry(…)]`.
#[derive(Default)]
pub(crate) struct EntryWords {
    /// `cache = "instance"`.
    pub(crate) cache: Option<LitStr>,
    /// `revision = 3`.
    pub(crate) revision: Option<LitInt>,
    /// `weight = Self::bytes`.
    pub(crate) weight: Option<Path>,
    /// `crate = my_crate::larder`.
    pub(crate) krate: Option<Path>,
    /// All `key(…)`.
    pub(crate) keys: Vec<KeyWords>,
}

/// The words of `#[key(…)]` or `key(…)`.
pub(crate) struct KeyWords {
    /// The path `key`, for errors to point at.
    pub(crate) key: Path,
    /// `primary`.
    pub(crate) primary: Option<Path>,
    /// `index` or `index = "host"`.
    pub(crate) index: Option<IndexWord>,
    /// `each`.
    pub(crate) each: Option<Path>,
    /// `with = Self::domain`.
    pub(crate) with: Option<(Path, Path)>,
    /// `type = String`: the type of the keys.
    pub(crate) of: Option<(Path, Type)>,
    /// `fields = (tenant, slug)`.
    pub(crate) fields: Option<(Path, Vec<Member>)>,
    /// A word was wrong. A word that seems to be missing may have been meant by it.
    pub(crate) flawed: bool,
}

/// The name of an index.
pub(crate) enum IndexWord {
    /// `index = "host"`.
    Named(LitStr),
    /// `index`: the name of the field.
    OfField(Path),
}

impl EntryWords {
    /// Reads `#[entry(…)]`.
    pub(crate) fn read(&mut self, attribute: &Attribute, problems: &mut Problems) {
        each_word(attribute, "write `#[entry(cache = \"…\")]`", problems, |meta, problems| {
            let known = "`cache`, `revision`, `weight`, `key` and `crate`";
            match &*word(meta) {
                "cache" => value(meta, &mut self.cache, "write `cache = \"name\"`", problems),
                "index" => {
                    let message = "indexes have no type of their own any more: each is a constant of the struct, such as `Instance::HOST`; an \
                                   index is declared with `#[key(index = \"…\")]` or `key(index = \"…\", …)`";
                    problems.at(&meta.path, message);
                    skip(meta.input);
                }
                "revision" => value(meta, &mut self.revision, "write `revision = 1`", problems),
                "weight" => {
                    let usage = "write `weight = path::to::function`, a `fn(&Self) -> u64`; a closure cannot be used";
                    value(meta, &mut self.weight, usage, problems);
                }
                "crate" => value(meta, &mut self.krate, "write `crate = path::to::larder`, without quotes", problems),
                "key" => {
                    let mut words = KeyWords::none(meta.path.clone());
                    let usage = "write `key(index = \"…\", with = Self::function, type = …)` or `key(index = \"…\", fields = (a, b))`";
                    if !meta.input.peek(syn::token::Paren) {
                        problems.at(&meta.path, usage);
                        skip(meta.input);
                        return Ok(());
                    }
                    let end = meta.parse_nested_meta(|meta| words.read_word(&meta, problems));
                    if let Err(error) = end {
                        problems.add(error);
                        words.flawed = true;
                    }
                    self.keys.push(words);
                }
                other => unknown(meta, other, known, problems),
            }
            Ok(())
        });
    }
}

impl KeyWords {
    fn none(key: Path) -> Self {
        Self { key, primary: None, index: None, each: None, with: None, of: None, fields: None, flawed: false }
    }

    /// Reads `#[key(…)]`.
    pub(crate) fn read(attribute: &Attribute, problems: &mut Problems) -> Self {
        let mut words = Self::none(attribute.path().clone());
        let usage = "write `#[key(primary)]`, or `#[key(index = \"…\")]` for a secondary key";
        words.flawed =
            !each_word(attribute, usage, problems, |meta, problems| words.read_word(meta, problems)) || words.flawed;
        words
    }

    fn read_word(&mut self, meta: &ParseNestedMeta<'_>, problems: &mut Problems) -> syn::Result<()> {
        match &*word(meta) {
            "primary" => self.flawed |= !flag(meta, &mut self.primary, problems),
            "each" => self.flawed |= !flag(meta, &mut self.each, problems),
            "index" => {
                if self.index.is_some() {
                    twice(meta, problems);
                } else if ends(meta.input) {
                    self.index = Some(IndexWord::OfField(meta.path.clone()));
                } else {
                    let mut name = None;
                    value::<LitStr>(meta, &mut name, "write `index = \"name\"`", problems);
                    self.flawed |= name.is_none();
                    self.index = name.map(IndexWord::Named);
                }
            }
            "with" => {
                let mut with = self.with.take().map(|(_, function)| function);
                let usage = "write `with = Self::function`, a `fn(&Self)` that returns a key or an iterator of keys; a \
                             closure cannot be used";
                value::<Path>(meta, &mut with, usage, problems);
                self.flawed |= with.is_none();
                self.with = with.map(|function| (meta.path.clone(), function));
            }
            "type" => {
                let mut of = self.of.take().map(|(_, of)| of);
                value::<Type>(meta, &mut of, "write `type = String`, or whatever the type of the keys is", problems);
                self.flawed |= of.is_none();
                self.of = of.map(|of| (meta.path.clone(), of));
            }
            "fields" => {
                if self.fields.is_some() {
                    twice(meta, problems);
                } else {
                    match members(meta) {
                        Ok(members) => self.fields = Some((meta.path.clone(), members)),
                        Err(error) => {
                            problems.add(error);
                            skip(meta.input);
                            self.flawed = true;
                        }
                    }
                }
            }
            other => {
                unknown(meta, other, "`primary`, `index`, `each`, `type`, `with` and `fields`", problems);
                self.flawed = true;
            }
        }
        Ok(())
    }
}

fn members(meta: &ParseNestedMeta<'_>) -> syn::Result<Vec<Member>> {
    if !(meta.input.peek(Token![=]) && meta.input.peek2(syn::token::Paren)) {
        return Err(syn::Error::new_spanned(&meta.path, "write `fields = (first, second)`"));
    }
    let input = meta.value()?;
    let content;
    syn::parenthesized!(content in input);
    Ok(Punctuated::<Member, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}

/// Reads the words within the parentheses of an attribute. Returns false if there are none, or if they cannot be read.
fn each_word(
    attribute: &Attribute,
    usage: &str,
    problems: &mut Problems,
    mut read: impl FnMut(&ParseNestedMeta<'_>, &mut Problems) -> syn::Result<()>,
) -> bool {
    let first = attribute.meta.require_list().ok().and_then(|list| list.tokens.clone().into_iter().next());
    match first {
        None => {
            problems.at(attribute, usage);
            return false;
        }
        Some(TokenTree::Literal(literal)) => {
            problems.at(literal, usage);
            return false;
        }
        Some(_) => {}
    }
    match attribute.parse_nested_meta(|meta| read(&meta, problems)) {
        Ok(()) => true,
        Err(error) => {
            problems.add(error);
            false
        }
    }
}

fn word(meta: &ParseNestedMeta<'_>) -> String {
    meta.path.get_ident().map(ToString::to_string).unwrap_or_default()
}

/// Reads `= value`. A wrong value is reported and skipped, so that the words after it are still read.
fn value<T: Parse>(meta: &ParseNestedMeta<'_>, place: &mut Option<T>, usage: &str, problems: &mut Problems) {
    let found = match meta.value() {
        Ok(input) => {
            let ahead = input.fork();
            let culprit = rest(&ahead);
            match input.parse::<T>() {
                Ok(found) if ends(input) => Ok(found),
                _ if culprit.is_empty() => Err(syn::Error::new_spanned(&meta.path, usage)),
                _ => Err(syn::Error::new_spanned(culprit, usage)),
            }
        }
        Err(_) => Err(syn::Error::new_spanned(&meta.path, usage)),
    };
    skip(meta.input);
    match found {
        Ok(_) if place.is_some() => twice(meta, problems),
        Ok(found) => *place = Some(found),
        Err(error) => problems.add(error),
    }
}

/// Reads a word that has no value. Returns false if the word is followed by something else.
fn flag(meta: &ParseNestedMeta<'_>, place: &mut Option<Path>, problems: &mut Problems) -> bool {
    if place.is_some() {
        twice(meta, problems);
    } else if !ends(meta.input) {
        problems.at(&meta.path, format!("`{}` has no value; a comma or the end is expected after it", word(meta)));
        skip(meta.input);
        return false;
    }
    *place = Some(meta.path.clone());
    true
}

fn twice(meta: &ParseNestedMeta<'_>, problems: &mut Problems) {
    problems.at(&meta.path, format!("`{}` is here twice", word(meta)));
    skip(meta.input);
}

fn unknown(meta: &ParseNestedMeta<'_>, word: &str, known: &str, problems: &mut Problems) {
    let word = if word.is_empty() { meta.path.to_token_stream().to_string().replace(' ', "") } else { word.to_owned() };
    problems.at(&meta.path, format!("`{word}` is not known here; the words are {known}"));
    skip(meta.input);
}

fn ends(input: ParseStream<'_>) -> bool {
    input.is_empty() || input.peek(Token![,])
}

/// The tokens up to the next comma.
fn rest(input: ParseStream<'_>) -> proc_macro2::TokenStream {
    let mut tokens = proc_macro2::TokenStream::new();
    while !ends(input) {
        match input.parse::<TokenTree>() {
            Ok(token) => token.to_tokens(&mut tokens),
            Err(_) => break,
        }
    }
    tokens
}

fn skip(input: ParseStream<'_>) {
    rest(input);
}
