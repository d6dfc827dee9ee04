//! The section `connectors`. Each connector has a name and a kind. A connector that is named after its kind does not need to say it.

use super::error::Problems;
use super::note::Note;
use super::postgres;
use super::redis::{self, Redis};
use super::sentinel::{self, SENTINEL};
use super::setting::{self, Setting, text};
use super::tiered;
use super::tls::TLS;
use super::tree::{Node, Value};
use super::{breaker, memory, tls};
use crate::caches::plan::Plan;
use crate::caches::{ConnectorKind, ConnectorName, ConnectorOptions};
use crate::connector::postgres::options::PostgresOptions;
use crate::connector::redis::options::RedisOptions;
use crate::connector::tiered::options::TieredOptions;
use crate::nearest::nearest;

/// The setting that says which kind a connector is.
pub(super) const KIND: &str = "kind";

/// The accepted kinds.
const KINDS: &str = "memory, redis, tiered, postgres or own";

/// The section of a connector with a server that has the settings of its circuit breaker.
pub(super) const BREAKER: &str = "breaker";

const MASK: &str = "`***` is what larder shows in place of a password; give the password itself";

/// The settings of the connectors that are named after their kinds, where these do not say where the server is, or which connector they are over.
/// They are shown, and not used.
#[derive(Clone, Debug, Default)]
pub(super) struct Unaddressed {
    pub(super) redis: Option<RedisOptions>,
    pub(super) tiered: Option<TieredOptions>,
    pub(super) postgres: Option<PostgresOptions>,
}

/// A connector that the program provides has no settings but the kind.
const NONE: &[Setting<()>] = &[];

/// Reads all connectors into the plan, and returns those that do not say where their server is, or which connector they are over.
pub(super) fn read(section: &Node, plan: &mut Plan, problems: &mut Problems, notes: &mut Vec<Note>) -> Unaddressed {
    if !matches!(section.value, Value::Nothing | Value::Map(_)) {
        problems.add(&section.origin, format!("is {}: give a mapping of connectors by name", section.kind()));
    }
    let mut unaddressed = Unaddressed::default();
    for (written, node) in section.children() {
        let name = ConnectorName::from(written.as_str());
        if node.is_nothing() && ConnectorKind::of_name(&name).is_some() {
            continue;
        }
        let kind = kind_of(written, node);
        if let Err(problem) = plan.expect_free(&name, kind.unwrap_or(ConnectorKind::Own)) {
            problems.add(&node.origin, problem);
            continue;
        }
        let options = match kind {
            Some(ConnectorKind::Memory) => memory::read_options(node, problems).into(),
            Some(ConnectorKind::Redis) => {
                let Redis { options, addressed } = Redis::read(node, problems);
                for path in redis::hidden(&options) {
                    let origin = path.iter().fold(node.origin.clone(), |origin, name| origin.child(name));
                    notes.push(Note::new(&origin, MASK));
                }
                if !addressed {
                    if ConnectorKind::of_name(&name).is_none() {
                        problems.add(&node.origin, redis::NO_ADDRESS);
                    } else {
                        unaddressed.redis = Some(options);
                    }
                    continue;
                }
                options.into()
            }
            Some(ConnectorKind::Tiered) => {
                let tier = tiered::read_options(node, problems);
                let Some(over) = tier.over else {
                    if ConnectorKind::of_name(&name).is_some() {
                        unaddressed.tiered = Some(tier.options);
                    } else if node.child(tiered::OVER).is_none() {
                        problems.add(&node.origin, tiered::NO_OVER);
                    }
                    continue;
                };
                tier.options.over(over).into()
            }
            Some(ConnectorKind::Postgres) => {
                let options = postgres::read_options(node, problems);
                if postgres::hidden(&options) {
                    notes.push(Note::new(&node.origin.child("password"), MASK));
                }
                if options.url.is_empty() {
                    if ConnectorKind::of_name(&name).is_some() {
                        unaddressed.postgres = Some(options);
                    } else if node.child("url").is_none() {
                        problems.add(&node.origin, postgres::NO_URL);
                    }
                    continue;
                }
                options.into()
            }
            Some(ConnectorKind::Own) => {
                setting::read(node, NONE, &[KIND], &mut (), problems);
                ConnectorOptions::Own
            }
            Some(ConnectorKind::Noop) | None => {
                no_kind(written, node, problems);
                continue;
            }
        };
        if let Err(problem) = plan.add_connector(name, options) {
            problems.add(&node.origin, problem);
        }
    }
    tiered::expect_servers(section, plan, problems);
    unaddressed
}

/// The kind that a connector says, or that it is named after.
pub(super) fn kind_of(name: &str, node: &Node) -> Option<ConnectorKind> {
    match node.child(KIND) {
        Some(kind) => {
            let kind = text(kind).ok()?;
            let mut kinds = ConnectorKind::NAMES.into_iter().chain([ConnectorKind::Own]);
            kinds.find(|known| known.name() == kind)
        }
        None => ConnectorKind::of_name(&ConnectorName::from(name)),
    }
}

fn no_kind(name: &str, node: &Node, problems: &mut Problems) {
    match node.child(KIND) {
        Some(kind) => problems.add(&kind.origin, format!("is {}: give {KINDS}", kind.shown())),
        None => {
            let near = nearest(name, ConnectorKind::NAMES.map(ConnectorKind::name));
            let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            problems.add(&node.origin, format!("has no `{KIND}`{hint}: give {KINDS}"));
        }
    }
}

/// Adds a note for each connector that no cache uses. Connectors that are named after their kind get none.
pub(super) fn note_unused(section: &Node, plan: &Plan, notes: &mut Vec<Note>) {
    for (written, node) in section.children() {
        let name = ConnectorName::from(written.as_str());
        let polled = plan.feeds().any(|(_, feed)| feed.connector == name);
        if ConnectorKind::of_name(&name).is_none() && !plan.uses(&name) && !polled {
            notes.push(Note::new(&node.origin, "no cache is on it, so nothing comes of it"));
        }
    }
}

/// The paths, below its name, of all settings that a connector of this kind may have. `None`: the settings of all kinds.
pub(super) fn settings(kind: Option<ConnectorKind>) -> Vec<Vec<&'static str>> {
    let mut paths = Vec::new();
    if matches!(kind, Some(ConnectorKind::Memory) | None) {
        paths.extend(memory::SETTINGS.iter().map(|setting| vec![setting.name]));
    }
    if matches!(kind, Some(ConnectorKind::Redis) | None) {
        paths.extend(redis::SETTINGS.iter().map(|setting| vec![setting.name]));
        paths.push(vec![TLS]);
        paths.extend(tls::SETTINGS.iter().map(|setting| vec![TLS, setting.name]));
        paths.extend(sentinel::SETTINGS.iter().map(|setting| vec![SENTINEL, setting.name]));
        paths.push(vec![SENTINEL, TLS]);
        paths.extend(tls::SETTINGS.iter().map(|setting| vec![SENTINEL, TLS, setting.name]));
    }
    if matches!(kind, Some(ConnectorKind::Tiered) | None) {
        paths.extend(tiered::SETTINGS.iter().map(|setting| vec![setting.name]));
    }
    if matches!(kind, Some(ConnectorKind::Postgres) | None) {
        paths.extend(postgres::SETTINGS.iter().map(|setting| vec![setting.name]));
    }
    if matches!(kind, Some(ConnectorKind::Redis | ConnectorKind::Postgres) | None) {
        paths.extend(breaker::SETTINGS.iter().map(|setting| vec![BREAKER, setting.name]));
    }
    paths
}

/// A connector that is switched off, and the reason, as an error shows it.
#[cfg_attr(not(feature = "zitadel"), allow(dead_code, reason = "only Zitadel's block switches connectors off"))]
pub(super) struct Disabled(pub(super) ConnectorName, pub(super) String);

/// Reports a connector that cannot be used, at the setting that names it.
pub(super) fn expect_usable(
    at: &Node,
    name: &ConnectorName,
    plan: &Plan,
    disabled: &[Disabled],
    problems: &mut Problems,
) {
    if let Some(Disabled(_, why)) = disabled.iter().find(|Disabled(other, _)| other == name) {
        problems.add(&at.origin, format!("is {name}, but {why}: set it to true, or give another connector"));
    } else if plan.connector(name).is_some() || plan.unaddressed(name).is_some() {
    } else if ConnectorKind::of_name(name) == Some(ConnectorKind::Postgres) {
        problems.add(&at.origin, format!("is postgres, but `connectors.postgres` {} there", postgres::NO_URL));
    } else if ConnectorKind::of_name(name) == Some(ConnectorKind::Redis) {
        problems.add(&at.origin, format!("is redis, but `connectors.redis` {} there", redis::NO_ADDRESS));
    } else if ConnectorKind::of_name(name) == Some(ConnectorKind::Tiered) {
        problems.add(&at.origin, format!("is tiered, but `connectors.tiered` {} there", tiered::NO_OVER));
    } else {
        let near = nearest(name.as_str(), known(plan));
        let hint = near.map(|near| format!(", which is no connector (did you mean `{near}`?)")).unwrap_or_default();
        problems.add(&at.origin, format!("is {}{hint}: give {}", at.shown(), alternatives(plan)));
    }
}

/// The names of connectors that a cache may give.
fn known(plan: &Plan) -> Vec<&str> {
    let mut known = vec!["none", "memory", "redis", "tiered", "postgres"];
    let names = plan.connectors().map(|(name, _)| name);
    known.extend(names.filter(|name| ConnectorKind::of_name(name).is_none()).map(ConnectorName::as_str));
    known
}

/// The same names, as an error lists them.
pub(super) fn alternatives(plan: &Plan) -> String {
    let mut known = known(plan);
    let last = known.pop().unwrap_or_default();
    format!("{} or {last}", known.join(", "))
}
