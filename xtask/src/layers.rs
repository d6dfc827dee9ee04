//! Checks the order of the library's modules: each module imports only from modules that stand before it.
//!
//! The check reads paths that begin with `crate::` or `super::`, outside comments and tests. [`ORDER`] names modules by their paths. A module
//! that is not named there belongs to its parent module.

use std::fs;
use std::io;
use std::path::Path;

/// The library's modules. Each may import from itself, and from the modules before it in the list.
const ORDER: &[&str] = &[
    "sync",
    "duration",
    "nearest",
    "protection",
    "failure",
    "option_error",
    "clock",
    "breaker",
    "telemetry",
    "key",
    "entry",
    "codec",
    "contract",
    "connector::noop",
    "connector::memory",
    "connector::near",
    "connector::remote",
    "connector::inspect",
    "connector::secret",
    "connector::credentials",
    "connector::tls",
    "connector::redis::options",
    "connector::postgres::tls",
    "connector::postgres::options::url",
    "connector::postgres::address",
    "connector::postgres::options",
    "connector::redis::index_names",
    "connector::redis::scripts",
    "connector::redis::layout",
    "connector::redis::slots",
    "connector::redis::wire",
    "connector::redis::topology",
    "connector::redis::sentinel",
    "connector::redis::route",
    "connector::redis::single",
    "connector::redis",
    "connector::redis::cluster",
    "connector::redis::inspect",
    "connector::tiered::options",
    "connector::tiered",
    "connector::postgres",
    "connector::postgres::inspect",
    "connector",
    "feed",
    "transaction",
    "cache",
    "caches",
    "config",
    "fuzz",
];

/// Each import that runs upwards, and each module without a place in the order, as one line of text.
pub(crate) fn upward(root: &Path) -> io::Result<Vec<String>> {
    let source = root.join("crates/larder/src");
    let mut files = Vec::new();
    find(&source, &mut Vec::new(), &mut files)?;
    let mut wrong = Vec::new();
    for (module, text) in &files {
        let Some(here) = layer(module) else {
            if module != "lib" {
                wrong.push(format!("{module} has no place in the order of xtask/src/layers.rs: give it one"));
            }
            continue;
        };
        for path in imports(text, module) {
            if let Some(there) = layer(&path)
                && there > here
            {
                let (from, to) = (ORDER.get(here).unwrap_or(&""), ORDER.get(there).unwrap_or(&""));
                wrong.push(format!("{module} imports {path}, but {from} stands before {to}"));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    Ok(wrong)
}

/// The place of a module or an item in the order. If its path begins with several names in [`ORDER`], the longest decides.
fn layer(path: &str) -> Option<usize> {
    let within = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let places = ORDER.iter().enumerate().filter(|(_, name)| within(name));
    places.max_by_key(|(_, name)| name.len()).map(|(place, _)| place)
}

/// Finds every source file, with the path of its module. Files that hold only tests are left out.
fn find(folder: &Path, path: &mut Vec<String>, files: &mut Vec<(String, String)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.path();
        let Some(name) = file.file_stem().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        if name == "tests" {
            continue;
        }
        path.push(name);
        if entry.file_type()?.is_dir() {
            find(&file, path, files)?;
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            files.push((path.join("::"), fs::read_to_string(&file)?));
        }
        path.pop();
    }
    Ok(())
}

/// The modules and items that a file names, from the root of the crate.
fn imports(text: &str, module: &str) -> Vec<String> {
    let code = code(text);
    let mut found = Vec::new();
    for (word, _) in [("crate::", 0), ("super::", 1)] {
        for (at, _) in code.match_indices(word) {
            let before = code.get(..at).unwrap_or_default();
            // `super::super::` is read where it begins; `$crate` and `pub(in crate::x)` import nothing.
            let continues =
                before.ends_with("::") || before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
            if continues || before.ends_with("(in ") {
                continue;
            }
            let mut rest = code.get(at..).unwrap_or_default();
            let mut base: Vec<&str> = module.split("::").collect();
            if let Some(after) = rest.strip_prefix("crate::") {
                (base, rest) = (Vec::new(), after);
            }
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            for path in tree(rest) {
                found.push(base.iter().copied().chain(path.split("::")).collect::<Vec<_>>().join("::"));
            }
        }
    }
    found
}

/// The paths of the use tree at the beginning of the text: `a::{b, c::d}` stands for `a::b` and `a::c::d`.
fn tree(text: &str) -> Vec<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
    let rest = text.get(name.len()..).unwrap_or_default();
    let Some(inside) = rest.strip_prefix('{').filter(|_| name.is_empty() || name.ends_with("::")) else {
        return vec![name.trim_end_matches(':').to_owned()];
    };
    let mut paths = Vec::new();
    let (mut depth, mut begin) = (0_u32, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                let part = inside.get(begin..at).unwrap_or_default().trim();
                if !part.is_empty() {
                    paths.extend(tree(part).into_iter().map(|path| format!("{name}{path}")));
                }
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    paths
}

/// The code without comments, and without the tests at the end of the file.
fn code(text: &str) -> String {
    let tests = ["\n#[cfg(test)]\nmod ", "\n#[cfg(all(test, "].iter().filter_map(|begin| text.find(begin)).min();
    let text = tests.and_then(|end| text.get(..end)).unwrap_or(text);
    // An import that only the docs need does not count.
    let mut lines = Vec::new();
    let mut for_docs = false;
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default();
        if !for_docs {
            lines.push(code);
        }
        for_docs = line.trim() == "#[cfg(doc)]" || for_docs && !line.contains(';');
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_whatever_their_form() {
        let text = "use crate::contract::{Ticket, schema::{self, Schema}};\nuse super::super::wire;\nfn f(x: crate::clock::Clock) {}\n\
                    // crate::cache\n#[cfg(doc)]\nuse crate::caches::Caches;\npub(in crate::connector) struct X;\n\
                    #[cfg(test)]\nmod tests { use crate::fuzz; }\n";
        let mut found = imports(text, "connector::redis::single");
        found.sort();
        assert_eq!(
            found,
            [
                "clock::Clock",
                "connector::wire",
                "contract::Ticket",
                "contract::schema::Schema",
                "contract::schema::self"
            ]
        );
    }

    #[test]
    fn the_longest_name_is_the_place() {
        assert!(layer("connector::redis::wire::replies") < layer("connector::redis::Redis"));
        assert!(layer("connector::remote") < layer("connector::redis"));
        assert_eq!(layer("nowhere"), None);
        assert_eq!(layer("cached"), None, "a name is not the beginning of another");
    }
}
