//! The tables of the [source](super), and how a change becomes a commit.

use super::super::instance::{Instance, InstanceKey, Settings};
use super::Commit;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The most hosts of an instance. A request with more is a mistake.
const MOST_HOSTS: usize = 100;

/// The longest host name in the DNS, in bytes. Ids and names have the same limit.
const LONGEST: usize = 253;

/// A change of an instance. A field that is `None` stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Edit {
    pub(crate) name: Option<String>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) features: Option<Vec<String>>,
    pub(crate) settings: Option<Settings>,
}

/// The result of a write.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The instance after the write.
    pub(crate) instance: Instance,
    /// Whether the write created the instance.
    pub(crate) created: bool,
    /// The earlier states of the instance, and of the instances that have lost a host to it.
    pub(crate) before: Vec<Instance>,
}

/// A request that is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("{what} is empty; give 1 to {LONGEST} bytes")]
    Empty { what: &'static str },
    #[error("{what} has {length} bytes; give at most {LONGEST}")]
    Long { what: &'static str, length: usize },
    #[error("{count} hosts; an instance has at most {MOST_HOSTS}")]
    ManyHosts { count: usize },
}

/// The instances, and the owner of each host. A change is computed first, and then committed as a whole, so nothing fails halfway.
pub(super) struct Tables {
    /// By id.
    instances: BTreeMap<String, Instance>,
    /// The id of the instance that has a host, by host.
    owners: BTreeMap<String, String>,
    witness: Box<dyn Fn(Commit) + Send>,
    /// The number of the newest change.
    sequence: u64,
}

impl Tables {
    pub(super) fn new(witness: Box<dyn Fn(Commit) + Send>) -> Self {
        Self { instances: BTreeMap::new(), owners: BTreeMap::new(), witness, sequence: 0 }
    }

    /// Fills the empty tables, in one change. Each instance depends on its number only, so that all runs begin alike.
    pub(super) fn seed(&mut self, count: u32) {
        let instances = (1..=count).map(seeded);
        self.commit(instances.map(|instance| (instance.id.clone(), Some(instance))).collect());
    }

    pub(super) fn find(&self, key: &InstanceKey) -> Option<Instance> {
        let id = if key.is_id() { &key.text } else { self.owners.get(&key.text)? };
        self.instances.get(id).cloned()
    }

    /// The first `count` by id.
    pub(super) fn first(&self, count: usize) -> Vec<Instance> {
        self.instances.values().take(count).cloned().collect()
    }

    pub(super) fn keys(&self) -> Vec<InstanceKey> {
        let (ids, hosts) = (self.instances.keys(), self.owners.keys());
        ids.map(InstanceKey::id).chain(hosts.map(InstanceKey::host)).collect()
    }

    pub(super) fn write(&mut self, id: &str, edit: Edit) -> Result<Written, Invalid> {
        check("the id", id)?;
        if let Some(name) = &edit.name {
            check("the name", name)?;
        }
        let mut hosts = None;
        if let Some(asked) = edit.hosts {
            if asked.len() > MOST_HOSTS {
                return Err(Invalid::ManyHosts { count: asked.len() });
            }
            asked.iter().try_for_each(|host| check("a host", host))?;
            let mut seen = BTreeSet::new();
            hosts = Some(asked.into_iter().filter(|host| seen.insert(host.clone())).collect::<Vec<_>>());
        }

        let sequence = self.sequence + 1;
        let earlier = self.instances.get(id).cloned();
        let mut instance = earlier.clone().unwrap_or_else(|| Instance {
            id: id.to_owned(),
            hosts: Vec::new(),
            name: id.to_owned(),
            features: Vec::new(),
            settings: Settings { second_factor: false, session_minutes: 60 },
            sequence,
        });
        instance.sequence = sequence;
        instance.name = edit.name.unwrap_or(instance.name);
        instance.hosts = hosts.unwrap_or(instance.hosts);
        instance.features = edit.features.unwrap_or(instance.features);
        instance.settings = edit.settings.unwrap_or(instance.settings);

        let mut before: Vec<Instance> = earlier.into_iter().collect();
        let created = before.is_empty();
        let mut states = Vec::new();
        let owners = instance.hosts.iter().filter_map(|host| self.owners.get(host)).filter(|owner| **owner != id);
        for owner in owners.collect::<BTreeSet<_>>().into_iter().filter_map(|owner| self.instances.get(owner)) {
            let mut poorer = owner.clone();
            poorer.hosts.retain(|kept| !instance.hosts.contains(kept));
            poorer.sequence = sequence;
            states.push((poorer.id.clone(), Some(poorer)));
            before.push(owner.clone());
        }
        states.push((instance.id.clone(), Some(instance.clone())));
        self.commit(states);
        Ok(Written { instance, created, before })
    }

    pub(super) fn delete(&mut self, id: &str) -> Option<(u64, Instance)> {
        let earlier = self.instances.get(id).cloned()?;
        self.commit(vec![(id.to_owned(), None)]);
        Some((self.sequence, earlier))
    }

    /// Gives the instances these states. A host that moves must be listed by its new owner only.
    fn commit(&mut self, states: Vec<(String, Option<Instance>)>) {
        self.sequence += 1;
        for (id, _) in &states {
            for host in self.instances.remove(id).into_iter().flat_map(|earlier| earlier.hosts) {
                self.owners.remove(&host);
            }
        }
        for (id, state) in &states {
            let Some(instance) = state else { continue };
            self.owners.extend(instance.hosts.iter().map(|host| (host.clone(), id.clone())));
            self.instances.insert(id.clone(), instance.clone());
        }
        (self.witness)(Commit { sequence: self.sequence, states });
    }
}

fn check(what: &'static str, text: &str) -> Result<(), Invalid> {
    match text.len() {
        0 => Err(Invalid::Empty { what }),
        length if length > LONGEST => Err(Invalid::Long { what, length }),
        _ => Ok(()),
    }
}

fn seeded(number: u32) -> Instance {
    const NAMES: [&str; 12] =
        ["Alder", "Birch", "Cedar", "Damson", "Elder", "Fir", "Gorse", "Hazel", "Ivy", "Juniper", "Larch", "Maple"];
    const FEATURES: [&str; 5] = ["passkeys", "saml", "scim", "audit_log", "custom_domains"];
    let pick = |step: u32, of: usize| (number.wrapping_mul(step) >> 3) as usize % of;
    let name = NAMES.get(pick(7, NAMES.len())).copied().unwrap_or_default();
    let hosts = (0..=number % 4).map(|nth| match nth {
        0 => format!("{}-{number}.example", name.to_lowercase()),
        nth => format!("login{nth}.{}-{number}.example", name.to_lowercase()),
    });
    Instance {
        id: format!("i{number:05}"),
        hosts: hosts.collect(),
        name: format!("{name} {number}"),
        features: FEATURES.iter().take(1 + pick(11, FEATURES.len())).map(|feature| (*feature).to_owned()).collect(),
        settings: Settings { second_factor: number.is_multiple_of(3), session_minutes: 30 + 30 * (number % 8) },
        sequence: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn tables() -> (Tables, Arc<Mutex<Vec<Commit>>>) {
        let commits = Arc::new(Mutex::new(Vec::new()));
        let told = commits.clone();
        let mut tables = Tables::new(Box::new(move |commit| told.lock().unwrap().push(commit)));
        tables.seed(5);
        (tables, commits)
    }

    fn hosts(hosts: &[&str]) -> Edit {
        Edit { hosts: Some(hosts.iter().map(|host| (*host).to_owned()).collect()), ..Edit::default() }
    }

    #[test]
    fn an_instance_is_found_by_each_of_its_keys() {
        let (tables, _) = tables();
        let all = tables.first(10);
        assert_eq!(all.len(), 5);
        for instance in &all {
            assert!((1..=4).contains(&instance.hosts.len()), "{instance:?}");
            for key in InstanceKey::all_of(instance) {
                assert_eq!(tables.find(&key).as_ref(), Some(instance));
            }
        }
        assert_eq!(tables.find(&InstanceKey::host("nobody.example")), None);
    }

    #[test]
    fn a_host_that_moves_changes_both_instances_in_one_commit() {
        let (mut tables, commits) = tables();
        tables.write("a", hosts(&["x", "y"])).unwrap();
        let written = tables.write("b", hosts(&["y", "z", "y"])).unwrap();
        assert_eq!(written.instance.hosts, ["y", "z"]);
        assert_eq!(written.before.iter().map(|before| &*before.id).collect::<Vec<_>>(), ["a"]);
        let a = tables.find(&InstanceKey::id("a")).unwrap();
        assert_eq!((a.hosts.as_slice(), a.sequence), (["x".to_owned()].as_slice(), 3));
        let commits = commits.lock().unwrap();
        let last = commits.last().unwrap();
        assert_eq!(last.sequence, 3);
        assert_eq!(last.states, [("a".to_owned(), Some(a)), ("b".to_owned(), Some(written.instance))]);
    }

    #[test]
    fn hosts_are_taken_from_all_who_have_them_and_one_that_is_given_up_leads_nowhere() {
        let (mut tables, _) = tables();
        tables.write("a", hosts(&["x", "y", "z"])).unwrap();
        tables.write("b", hosts(&["v", "w"])).unwrap();
        let written = tables.write("c", hosts(&["z", "w", "x"])).unwrap();
        let mut before = written.before.iter().map(|before| (&*before.id, before.hosts.len()));
        assert_eq!((before.next(), before.next(), before.next()), (Some(("a", 3)), Some(("b", 2)), None));
        tables.write("a", hosts(&[])).unwrap();
        for (host, owner) in [("x", Some("c")), ("z", Some("c")), ("w", Some("c")), ("v", Some("b")), ("y", None)] {
            let found = tables.find(&InstanceKey::host(host));
            assert_eq!(found.as_ref().map(|found| &*found.id), owner, "{host}");
            assert!(found.is_none_or(|found| found.hosts.contains(&host.to_owned())), "{host}");
        }
        assert_eq!(tables.keys().iter().filter(|key| key.text == "y").count(), 0);
    }

    #[test]
    fn a_deleted_instance_is_gone_under_all_keys() {
        let (mut tables, commits) = tables();
        tables.write("a", hosts(&["x"])).unwrap();
        assert_eq!(tables.delete("a").unwrap().0, 3);
        assert_eq!(tables.find(&InstanceKey::id("a")), None);
        assert_eq!(tables.find(&InstanceKey::host("x")), None);
        assert!(tables.delete("a").is_none());
        assert_eq!(commits.lock().unwrap().last().unwrap().states, [("a".to_owned(), None)]);
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let (mut tables, commits) = tables();
        for edit in [hosts(&[""]), hosts(&["x"; MOST_HOSTS + 1]), Edit { name: Some(String::new()), ..Edit::default() }]
        {
            assert!(tables.write("a", edit).is_err());
        }
        assert_eq!(commits.lock().unwrap().len(), 1);
    }
}
