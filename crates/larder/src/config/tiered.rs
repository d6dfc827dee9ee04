//! The settings of a tiered connector: which connector it is over, how much it may hold, and what a change waits for.

use super::connectors::KIND;
use super::error::Problems;
use super::redis;
use super::setting::{
    Place, Refused, Setting, bytes, duration, number, plain, put, read, text, time, written_bytes, written_text,
};
use super::tree::Node;
use crate::caches::plan::Plan;
use crate::caches::{ConnectorKind, ConnectorName, ConnectorOptions, TierOptions};
use crate::connector::memory::options::MAX_OBJECTS;
use crate::connector::tiered::options::TieredOptions;
use crate::contract::{Consistency, VALIDITY};
use crate::nearest::fold;

/// The settings of a tiered connector, while they are read or written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) over: Option<ConnectorName>,
    pub(super) options: TieredOptions,
}

impl From<&TierOptions> for Draft {
    fn from(tier: &TierOptions) -> Self {
        Self { over: Some(tier.over.clone()), options: tier.options.clone() }
    }
}

pub(super) const OVER: &str = "over";

pub(super) const NO_OVER: &str =
    "does not say which connector it is over: give `over`, the name of a connector of the kind redis or postgres";

pub(super) const SETTINGS: &[Setting<Draft>] = &[
    Setting {
        name: OVER,
        give: "the name of a connector of the kind redis or postgres",
        read: |tier, node| put(&mut tier.over, text(node).map(|name| Some(name.into()))),
        write: |tier| tier.over.as_ref().and_then(written_text),
    },
    Setting {
        name: "max_objects",
        give: MAX_OBJECTS,
        read: |tier, node| put(&mut tier.options.max_objects, number(node)),
        write: |tier| plain(tier.options.max_objects),
    },
    Setting {
        name: "max_bytes",
        give: "a size such as 64 MiB, or 0 for no limit",
        read: |tier, node| put(&mut tier.options.max_bytes, bytes(node)),
        write: |tier| written_bytes(tier.options.max_bytes),
    },
    Setting {
        name: "consistency",
        give: "strict, bounded or wait-only",
        read: |tier, node| {
            let given = fold(text(node)?);
            let known = Consistency::ALL.into_iter().find(|known| fold(known.name()) == given);
            put(&mut tier.options.consistency, known.ok_or(Refused::Shown("")))
        },
        write: |tier| plain(tier.options.consistency),
    },
    Setting {
        name: "validity",
        give: VALIDITY,
        read: |tier, node| put(&mut tier.options.validity, duration(node)),
        write: |tier| time(tier.options.validity),
    },
];

pub(super) fn read_options(section: &Node, problems: &mut Problems) -> Draft {
    let mut tier = Draft::default();
    let given = read(section, SETTINGS, &[KIND], &mut tier, problems);
    let place = Place { section, given: &given, inherited: None };
    tier.options.examine(&mut |error| place.report(&error, problems));
    tier
}

/// Reports each tiered connector that cannot be over the connector that it names. All connectors have been read.
pub(super) fn expect_servers(connectors: &Node, plan: &Plan, problems: &mut Problems) {
    for (name, node) in connectors.children() {
        let Some(ConnectorOptions::Tiered(tier)) = plan.connector(&name.as_str().into()) else { continue };
        let (Err(problem), Some(at)) = (plan.expect_below(tier), node.child(OVER)) else { continue };
        let problem = match (plan.connector(&tier.over), ConnectorKind::of_name(&tier.over)) {
            // Named after its kind, it is there, and nothing says where its server is.
            (None, Some(ConnectorKind::Redis)) => format!("but `connectors.redis` {} there", redis::NO_ADDRESS),
            // It was refused, and that is reported.
            (None, None) if connectors.children().iter().any(|(other, _)| tier.over == other.as_str().into()) => {
                continue;
            }
            _ => problem,
        };
        problems.add(&at.origin, format!("is {}, {problem}", at.shown()));
    }
}
