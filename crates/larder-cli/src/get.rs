//! `larder get`: shows what is stored under a key, as JSON.

use crate::failure::Failure;
use crate::output;
use crate::payload::{self, Shown};
use crate::server::Index;
use crate::spelling::{self, Spelling};
use crate::target::Target;
use clap::Args;
use larder::connector::inspect::{Expiry, Found, FoundCopy, FoundKey, Listing};
use serde::Serialize;
use std::process::ExitCode;

/// The arguments of `larder get`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// The cache
    cache: String,
    /// The index, by its name
    index: String,
    /// The key; give a key of several parts by --part
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    spelling: Spelling,
    /// Print one JSON object, with everything that is known about what is stored
    #[arg(long)]
    json: bool,
}

/// The result. Its serialised form is the output of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    cache: String,
    index: String,
    /// `true` if the index exists. Missing if the server does not show it: see `larder get --help`.
    index_exists: Option<bool>,
    key: Shown,
    /// Whether a service finds an object under the key.
    found: bool,
    /// Why a service finds none.
    reason: Option<String>,
    primary_key: Option<Shown>,
    copies: Vec<Copy>,
    /// Releases that have used the cache and have not stored the object.
    not_stored_by: Vec<String>,
}

/// What one release has stored.
#[derive(Debug, Serialize)]
struct Copy {
    /// The release, by the fingerprint of its schema.
    fingerprint: String,
    served: bool,
    /// The size of the whole stored object.
    bytes: u64,
    payload_bytes: Option<u64>,
    version: Option<u64>,
    /// In milliseconds since 1970. Missing if it is not known.
    max_age_ends_at_ms: Option<u64>,
    expires_in_ms: Option<u64>,
    /// If true, a missing `expires_in_ms` means that the object does not expire. If false, it means that the expiry is not known.
    expiry_known: bool,
    keys: Vec<ListedKey>,
    /// Why the object is not served.
    reason: Option<String>,
    object: Option<Shown>,
}

#[derive(Debug, Serialize)]
struct ListedKey {
    /// The name of the index. For the primary index: the name that the release has registered, or the name that was asked for. Missing if
    /// neither is known.
    index: Option<String>,
    primary: bool,
    key: Shown,
    /// The parts of the key, if it looks like a key of several parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<Shown>>,
    deleted: bool,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    let server = options.target.server_of(&options.cache)?;
    let key = options.spelling.key(&options.keys)?;
    let inspector = server.open().await?;
    let cache = inspector.cache(&options.cache).await?;
    let index = cache.index(&options.index).await?;
    if index.is_absent() {
        return Err(Failure::Problem(missing(cache.name(), &options.index, &index)));
    }
    let found = index.find(&key).await?;
    let report = Report::of(cache.name(), &options.index, &key, &index, found);
    if options.json {
        output::line(serde_json::to_string_pretty(&report)?);
    } else {
        report.tell()?;
    }
    Ok(if report.found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says that the index does not exist, or that nothing shows it, and names the indexes that exist.
pub(crate) fn missing(cache: &str, name: &str, index: &Index<'_>) -> String {
    let what = match index.is_absent() {
        true => format!("the cache `{cache}` has no index `{name}`"),
        false => format!("nothing in the cache `{cache}` shows an index `{name}`"),
    };
    let others = match index.others() {
        [] => ", or any other".to_owned(),
        others => format!("; it has `{}`", others.join("`, `")),
    };
    let near = index.nearest().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    what + &others + &near
}

impl Report {
    fn of(cache: &str, name: &str, key: &[u8], index: &Index<'_>, found: Found) -> Self {
        let primary = found.primary.as_deref().map(Shown::key);
        let not_stored_by = found.without.iter().map(|release| format!("{release:016x}")).collect();
        let Found { distrusted, by_index_key, noted, .. } = found;
        let primary_index = index.is_primary().then_some(name);
        let copies: Vec<Copy> = found.copies.into_iter().map(|copy| Copy::of(copy, primary_index)).collect();
        let served = copies.iter().any(|copy| copy.served);
        let reason = if let Some(why) = distrusted {
            Some(why.to_owned())
        } else if served {
            None
        } else if !index.is_proven() && copies.is_empty() {
            Some(format!("no object has this primary key, and {}", missing(cache, name, index)))
        } else if noted && copies.is_empty() {
            Some("a note says that the source has nothing under this key, and is kept for its negative age".to_owned())
        } else if copies.is_empty() && by_index_key {
            Some("its index key leads to an object that is gone: invalidated or expired".to_owned())
        } else if primary.is_none() && copies.is_empty() {
            Some("no index key leads from it to an object: never stored, invalidated, or expired".to_owned())
        } else if copies.is_empty() {
            Some(
                "no release has stored an object with this primary key, or it was invalidated or has expired"
                    .to_owned(),
            )
        } else {
            copies.iter().find_map(|copy| copy.reason.clone())
        };
        Self {
            cache: cache.to_owned(),
            index: name.to_owned(),
            // An index that is known to be absent was refused before.
            index_exists: index.is_proven().then_some(true),
            key: Shown::key(key),
            found: served && distrusted.is_none(),
            reason,
            primary_key: primary,
            copies,
            not_stored_by,
        }
    }

    /// Prints the objects to stdout, for a program that reads them, and remarks about them to stderr.
    fn tell(&self) -> Result<(), Failure> {
        if let Some(reason) = &self.reason {
            let what = if self.copies.is_empty() { "nothing there" } else { "not served" };
            eprintln!("larder: {what}: {reason}");
        }
        for copy in &self.copies {
            eprintln!("{}", copy.header());
            for key in &copy.keys {
                eprintln!("  {}", key.line()?);
            }
            if let Some(object) = &copy.object {
                output::line(serde_json::to_string_pretty(object)?);
            }
        }
        if self.found && !self.not_stored_by.is_empty() {
            eprintln!("not stored by the releases {}: they will load it", self.not_stored_by.join(", "));
        }
        Ok(())
    }
}

impl Copy {
    fn of(copy: FoundCopy, asked_for: Option<&str>) -> Self {
        let primary_index = copy.primary_index.as_deref().or(asked_for);
        let unserved = match copy.listing {
            Listing::Live | Listing::Unreadable => None,
            Listing::Deleted => Some("the object is there, and this key was deleted from it"),
            Listing::Missing => Some("its index key leads to an object that does not list it"),
            Listing::Invalidated => {
                Some("it was invalidated, or an object has taken one of its keys over; its row waits to be removed")
            }
            Listing::Truncated => Some("the cache was truncated since it was stored; its row waits to be removed"),
            Listing::Outdated => Some("a higher version was set; its row waits to be removed"),
            Listing::Expired => Some("its max age is over"),
            Listing::Unused => Some("its last-use age is over: nobody got it in time"),
        };
        let mut shown = Self {
            fingerprint: format!("{:016x}", copy.fingerprint),
            served: false,
            bytes: copy.bytes,
            payload_bytes: None,
            version: None,
            max_age_ends_at_ms: None,
            expires_in_ms: match copy.expiry {
                Expiry::In(left) => Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                Expiry::Never | Expiry::Unknown => None,
            },
            expiry_known: copy.expiry != Expiry::Unknown,
            keys: Vec::new(),
            reason: unserved.map(str::to_owned),
            object: None,
        };
        let unreadable =
            |why: &str| format!("its bytes cannot be read ({why}); a service that finds them removes them");
        match copy.object {
            Err(why) => shown.reason = Some(unreadable(&why)),
            Ok(object) => {
                shown.payload_bytes = Some(object.payload.len() as u64);
                shown.version = object.version;
                shown.max_age_ends_at_ms = object.deadline;
                shown.keys = object.keys.into_iter().map(|key| ListedKey::of(key, primary_index)).collect();
                match payload::show(&object.payload) {
                    Ok(payload) => shown.object = Some(payload),
                    Err(why) => shown.reason = Some(unreadable(&why)),
                }
            }
        }
        shown.served = shown.reason.is_none();
        shown
    }

    fn header(&self) -> String {
        let mut facts = vec![format!("release {}", self.fingerprint), format!("{} bytes", self.bytes)];
        facts.extend(self.version.map(|version| format!("version {version}")));
        facts.push(match self.expires_in_ms {
            Some(left) => format!("expires in {}.{:03} s", left / 1000, left % 1000),
            None if self.expiry_known => "does not expire".to_owned(),
            None => "expiry unknown".to_owned(),
        });
        facts.extend(self.reason.clone());
        facts.join(", ")
    }
}

impl ListedKey {
    fn of(key: FoundKey, primary_index: Option<&str>) -> Self {
        let primary = key.index.is_none();
        let index = key.index.or_else(|| primary_index.map(str::to_owned));
        let parts = spelling::parts(&key.bytes).map(|parts| parts.into_iter().map(Shown::key).collect());
        Self { index, primary, key: Shown::key(&key.bytes), parts, deleted: key.deleted }
    }

    fn line(&self) -> Result<String, Failure> {
        let index = self.index.as_deref().unwrap_or("primary index");
        let deleted = if self.deleted { " (deleted)" } else { "" };
        let parts = match &self.parts {
            Some(parts) => format!(", of the parts {}", serde_json::to_string(parts)?),
            None => String::new(),
        };
        Ok(format!("{index}: {}{parts}{deleted}", serde_json::to_string(&self.key)?))
    }
}
