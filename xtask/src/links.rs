//! Follows the links of the markdown files: to other files of this repository, and to headings.
//!
//! Links are `[text](target)` and `[name]: target`. A path in backticks that begins with one of this repository's folders is a link, too,
//! because the docs point at sources in that way. Code blocks are not read, and links to the web are not followed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Each link that leads nowhere, as `file:line: what`.
pub(crate) fn broken(root: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    find_markdown(root, &mut files)?;
    files.sort();
    let mut broken = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let shown = file.strip_prefix(root).unwrap_or(&file).display();
        for (line, link) in links(&text) {
            if let Err(why) = follow(root, &file, &link) {
                broken.push(format!("{shown}:{line}: {why}"));
            }
        }
    }
    Ok(broken)
}

fn find_markdown(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        if entry.file_type()?.is_dir() {
            let skipped = name == "target" || name == "node_modules" || name.to_string_lossy().starts_with('.');
            if !skipped {
                find_markdown(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Link {
    /// What a link names.
    Target(String),
    /// A path of this repository in backticks.
    Path(String),
}

/// The links of a text, with the number of their line.
fn links(text: &str) -> Vec<(usize, Link)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            links.extend(target.split_whitespace().next().map(|target| (number, Link::Target(target.to_owned()))));
        }
        // Every second part is between backticks. Links count only outside of backticks, paths only between them.
        for (place, part) in line.split('`').enumerate() {
            if place % 2 == 1 {
                links.extend(repository_path(part).map(|path| (number, Link::Path(path))));
                continue;
            }
            for after in part.split("](").skip(1) {
                let target = after.split([')', ' ']).next().unwrap_or_default();
                links.push((number, Link::Target(target.trim_matches(['<', '>']).to_owned())));
            }
        }
    }
    links
}

/// The lines that are not in a code block, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let begins = ["```", "~~~"].into_iter().find(|fence| line.trim_start().starts_with(fence));
        match (fence, begins) {
            (None, None) => Some((number + 1, line)),
            (None, Some(_)) => {
                fence = begins;
                None
            }
            (Some(_), _) => {
                if begins == fence {
                    fence = None;
                }
                None
            }
        }
    })
}

/// The path in this repository that the code names, if it certainly names one.
fn repository_path(code: &str) -> Option<String> {
    let ours = ["crates/", "xtask/", "docs/", ".ci/"].iter().any(|folder| code.starts_with(folder));
    let plain = !code.contains(['*', '{', '<', '…', ' ', '$']);
    (ours && plain).then(|| code.split(':').next().unwrap_or(code).to_owned())
}

fn follow(root: &Path, file: &Path, link: &Link) -> Result<(), String> {
    let target = match link {
        Link::Path(path) if root.join(path).exists() => return Ok(()),
        Link::Path(path) => return Err(format!("there is no `{path}`")),
        Link::Target(target) => target,
    };
    let on_the_web = ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
    if on_the_web {
        return Ok(());
    }
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = match path.strip_prefix('/') {
        Some(from_root) => root.join(from_root),
        None if path.is_empty() => file.to_owned(),
        None => file.parent().unwrap_or(root).join(path),
    };
    if !path.exists() {
        return Err(format!("`{target}` leads to no file"));
    }
    // A line of a source file, as #L12, is not a heading.
    if heading.is_empty() || path.extension().is_none_or(|extension| extension != "md") {
        return Ok(());
    }
    let text = fs::read_to_string(&path).map_err(|error| format!("`{target}`: {error}"))?;
    if anchors(&text).iter().any(|anchor| anchor == heading) {
        Ok(())
    } else {
        Err(format!("`{target}` leads to no heading"))
    }
}

/// The anchors of the headings of a text, as web pages that show the text make them.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept =
            heading.trim().chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
        let plain: String =
            kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect();
        let earlier = anchors.iter().filter(|anchor| **anchor == plain).count();
        anchors.push(if earlier == 0 { plain } else { format!("{plain}-{earlier}") });
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_and_code_is_not() {
        let text = "\
see [the key](src/key.rs#L3) and [another](<b.md> \"title\"), `[not](this)`
[name]: docs/name.md
```rust
let [x](y) = 3; // `crates/none.rs`
```
`crates/larder/src/key.rs:12`, `crates/*`, `crates/{a,b}.rs` and `other/thing`
";
        let target = |line, target: &str| (line, Link::Target(target.to_owned()));
        let path = |line, path: &str| (line, Link::Path(path.to_owned()));
        let expected = [
            target(1, "src/key.rs#L3"),
            target(1, "b.md"),
            target(2, "docs/name.md"),
            path(6, "crates/larder/src/key.rs"),
        ];
        assert_eq!(links(text), expected);
    }

    #[test]
    fn headings_get_the_anchors_that_a_forge_gives_them() {
        let text = "# The contract\n## C1–C14, *all* of `them`!\n```\n# no heading\n```\n# The contract\n";
        assert_eq!(anchors(text), ["the-contract", "c1c14-all-of-them", "the-contract-1"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_line() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("larder-links-{}", std::process::id()));
        fs::create_dir_all(folder.join("docs"))?;
        fs::write(folder.join("a.md"), "# A\n[b](docs/b.md#b) [c](docs/c.md) [d](#d) [web](https://example.org/x)\n")?;
        fs::write(folder.join("docs/b.md"), "# B\n[a](../a.md#a) [root](/a.md)\n`docs/gone.md`\n")?;
        let found = broken(&folder)?;
        fs::remove_dir_all(&folder)?;
        let expected = [
            "a.md:2: `docs/c.md` leads to no file",
            "a.md:2: `#d` leads to no heading",
            "docs/b.md:3: there is no `docs/gone.md`",
        ];
        assert_eq!(found, expected);
        Ok(())
    }
}
