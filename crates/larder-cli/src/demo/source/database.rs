//! The tables and statements of the [source](super).

use super::super::instance::{Instance, InstanceIndex, InstanceKey, Settings};
use super::{Commit, SourceError};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const TABLES: &str = "
    PRAGMA foreign_keys = ON;
    CREATE TABLE instances (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, features TEXT NOT NULL, settings TEXT NOT NULL, sequence INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE hosts (
        host TEXT PRIMARY KEY, instance TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE, place INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX hosts_by_instance ON hosts (instance, place);
";

/// More hosts than this are a mistake.
const MOST_HOSTS: usize = 100;

/// The longest host name in the DNS, in bytes; ids and names are held to it too.
const LONGEST: usize = 253;

/// What is to become of an instance; what is `None` stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Edit {
    pub(crate) name: Option<String>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) features: Option<Vec<String>>,
    pub(crate) settings: Option<Settings>,
}

/// What a write has done.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The instance as it is now.
    pub(crate) instance: Instance,
    /// Whether it is new.
    pub(crate) created: bool,
    /// What it was before, and what those were that have lost a host to it.
    pub(crate) before: Vec<Instance>,
}

/// A request that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("{what} is empty; give 1 to {LONGEST} bytes")]
    Empty { what: &'static str },
    #[error("{what} has {length} bytes; give at most {LONGEST}")]
    Long { what: &'static str, length: usize },
    #[error("{count} hosts; an instance has at most {MOST_HOSTS}")]
    ManyHosts { count: usize },
}

pub(super) struct Database {
    connection: Connection,
    witness: Box<dyn Fn(Commit) + Send>,
    /// The number of the newest change.
    sequence: u64,
}

impl Database {
    pub(super) fn open(witness: Box<dyn Fn(Commit) + Send>) -> Result<Self, SourceError> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(TABLES)?;
        Ok(Self { connection, witness, sequence: 0 })
    }

    /// Fills an empty database. Every instance is what its number says, so that each run begins alike.
    pub(super) fn seed(&mut self, count: u32) -> Result<(), SourceError> {
        let transaction = self.connection.transaction()?;
        let mut states = Vec::new();
        for number in 1..=count {
            let instance = seeded(number);
            store(&transaction, &instance)?;
            states.push((instance.id.clone(), Some(instance)));
        }
        transaction.commit()?;
        self.sequence = 1;
        (self.witness)(Commit { sequence: 1, states });
        Ok(())
    }

    pub(super) fn find(&self, key: &InstanceKey) -> Result<Option<Instance>, SourceError> {
        find(&self.connection, key)
    }

    pub(super) fn first(&self, count: u32) -> Result<Vec<Instance>, SourceError> {
        let mut ids = self.connection.prepare_cached("SELECT id FROM instances ORDER BY id LIMIT ?1")?;
        let ids = ids.query_map([count], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let found = ids.into_iter().map(|id| self.find(&InstanceKey::id(id)));
        Ok(found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    pub(super) fn keys(&self) -> Result<Vec<InstanceKey>, SourceError> {
        let mut keys = Vec::new();
        for (statement, key) in [
            ("SELECT id FROM instances ORDER BY id", InstanceKey::id as fn(String) -> InstanceKey),
            ("SELECT host FROM hosts ORDER BY host", InstanceKey::host),
        ] {
            let mut statement = self.connection.prepare(statement)?;
            for text in statement.query_map([], |row| row.get(0))? {
                keys.push(key(text?));
            }
        }
        Ok(keys)
    }

    pub(super) fn write(&mut self, id: &str, edit: Edit) -> Result<Written, SourceError> {
        check("the id", id)?;
        if let Some(name) = &edit.name {
            check("the name", name)?;
        }
        let mut hosts = None;
        if let Some(asked) = edit.hosts {
            if asked.len() > MOST_HOSTS {
                return Err(Invalid::ManyHosts { count: asked.len() }.into());
            }
            asked.iter().try_for_each(|host| check("a host", host))?;
            let mut seen = BTreeSet::new();
            hosts = Some(asked.into_iter().filter(|host| seen.insert(host.clone())).collect::<Vec<_>>());
        }

        let sequence = self.sequence + 1;
        let transaction = self.connection.transaction()?;
        let earlier = find(&transaction, &InstanceKey::id(id))?;
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
        for host in &instance.hosts {
            let Some(owner) = find(&transaction, &InstanceKey::host(host))? else { continue };
            if owner.id == instance.id {
                continue;
            }
            let mut poorer = owner.clone();
            poorer.hosts.retain(|kept| kept != host);
            poorer.sequence = sequence;
            store(&transaction, &poorer)?;
            states.retain(|(id, _)| *id != poorer.id);
            states.push((poorer.id.clone(), Some(poorer)));
            if before.iter().all(|known| known.id != owner.id) {
                before.push(owner);
            }
        }
        store(&transaction, &instance)?;
        transaction.commit()?;
        states.push((instance.id.clone(), Some(instance.clone())));
        self.committed(sequence, states);
        Ok(Written { instance, created, before })
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<Option<(u64, Instance)>, SourceError> {
        let Some(earlier) = self.find(&InstanceKey::id(id))? else { return Ok(None) };
        let sequence = self.sequence + 1;
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM instances WHERE id = ?1", [id])?;
        transaction.commit()?;
        self.committed(sequence, vec![(id.to_owned(), None)]);
        Ok(Some((sequence, earlier)))
    }

    fn committed(&mut self, sequence: u64, states: Vec<(String, Option<Instance>)>) {
        self.sequence = sequence;
        (self.witness)(Commit { sequence, states });
    }
}

fn check(what: &'static str, text: &str) -> Result<(), Invalid> {
    match text.len() {
        0 => Err(Invalid::Empty { what }),
        length if length > LONGEST => Err(Invalid::Long { what, length }),
        _ => Ok(()),
    }
}

fn find(connection: &Connection, key: &InstanceKey) -> Result<Option<Instance>, SourceError> {
    let statement = match key.index {
        InstanceIndex::Id => "SELECT id, name, features, settings, sequence FROM instances WHERE id = ?1",
        InstanceIndex::Host => {
            "SELECT id, name, features, settings, sequence FROM instances
             WHERE id = (SELECT instance FROM hosts WHERE host = ?1)"
        }
    };
    let mut statement = connection.prepare_cached(statement)?;
    let Some(mut instance) = statement.query_row([&key.text], instance).optional()? else { return Ok(None) };
    let mut hosts = connection.prepare_cached("SELECT host FROM hosts WHERE instance = ?1 ORDER BY place")?;
    instance.hosts = hosts.query_map([&instance.id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(Some(instance))
}

fn instance(row: &Row<'_>) -> rusqlite::Result<Instance> {
    let json = |column: usize, error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    };
    Ok(Instance {
        id: row.get(0)?,
        name: row.get(1)?,
        features: serde_json::from_str(&row.get::<_, String>(2)?).map_err(|error| json(2, error))?,
        settings: serde_json::from_str(&row.get::<_, String>(3)?).map_err(|error| json(3, error))?,
        sequence: row.get(4)?,
        hosts: Vec::new(),
    })
}

/// Writes an instance and its hosts, which leave whomever they belonged to.
fn store(transaction: &Transaction<'_>, instance: &Instance) -> Result<(), SourceError> {
    let json = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let features = serde_json::to_string(&instance.features).map_err(json)?;
    let settings = serde_json::to_string(&instance.settings).map_err(json)?;
    transaction
        .prepare_cached(
            "INSERT INTO instances (id, name, features, settings, sequence) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET
                 name = excluded.name, features = excluded.features, settings = excluded.settings, sequence = excluded.sequence",
        )?
        .execute(params![instance.id, instance.name, features, settings, instance.sequence])?;
    transaction.prepare_cached("DELETE FROM hosts WHERE instance = ?1")?.execute([&instance.id])?;
    let mut host = transaction.prepare_cached(
        "INSERT INTO hosts (host, instance, place) VALUES (?1, ?2, ?3)
         ON CONFLICT (host) DO UPDATE SET instance = excluded.instance, place = excluded.place",
    )?;
    for (place, name) in instance.hosts.iter().enumerate() {
        host.execute(params![name, instance.id, place])?;
    }
    Ok(())
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

    fn database() -> (Database, Arc<Mutex<Vec<Commit>>>) {
        let commits = Arc::new(Mutex::new(Vec::new()));
        let told = commits.clone();
        let mut database = Database::open(Box::new(move |commit| told.lock().unwrap().push(commit))).unwrap();
        database.seed(5).unwrap();
        (database, commits)
    }

    fn hosts(hosts: &[&str]) -> Edit {
        Edit { hosts: Some(hosts.iter().map(|host| (*host).to_owned()).collect()), ..Edit::default() }
    }

    #[test]
    fn an_instance_is_found_by_each_of_its_keys() {
        let (database, _) = database();
        let all = database.first(10).unwrap();
        assert_eq!(all.len(), 5);
        for instance in &all {
            assert!((1..=4).contains(&instance.hosts.len()), "{instance:?}");
            for key in InstanceKey::all_of(instance) {
                assert_eq!(database.find(&key).unwrap().as_ref(), Some(instance));
            }
        }
        assert_eq!(database.find(&InstanceKey::host("nobody.example")).unwrap(), None);
    }

    #[test]
    fn a_host_that_moves_changes_both_instances_in_one_commit() {
        let (mut database, commits) = database();
        database.write("a", hosts(&["x", "y"])).unwrap();
        let written = database.write("b", hosts(&["y", "z", "y"])).unwrap();
        assert_eq!(written.instance.hosts, ["y", "z"]);
        assert_eq!(written.before.iter().map(|before| &*before.id).collect::<Vec<_>>(), ["a"]);
        let a = database.find(&InstanceKey::id("a")).unwrap().unwrap();
        assert_eq!((a.hosts.as_slice(), a.sequence), (["x".to_owned()].as_slice(), 3));
        let commits = commits.lock().unwrap();
        let last = commits.last().unwrap();
        assert_eq!(last.sequence, 3);
        assert_eq!(last.states, [("a".to_owned(), Some(a)), ("b".to_owned(), Some(written.instance))]);
    }

    #[test]
    fn a_deleted_instance_is_gone_under_all_keys() {
        let (mut database, commits) = database();
        database.write("a", hosts(&["x"])).unwrap();
        assert_eq!(database.delete("a").unwrap().unwrap().0, 3);
        assert_eq!(database.find(&InstanceKey::id("a")).unwrap(), None);
        assert_eq!(database.find(&InstanceKey::host("x")).unwrap(), None);
        assert!(database.delete("a").unwrap().is_none());
        assert_eq!(commits.lock().unwrap().last().unwrap().states, [("a".to_owned(), None)]);
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let (mut database, commits) = database();
        for edit in [hosts(&[""]), hosts(&["x"; MOST_HOSTS + 1]), Edit { name: Some(String::new()), ..Edit::default() }]
        {
            assert!(matches!(database.write("a", edit), Err(SourceError::Invalid(_))));
        }
        assert_eq!(commits.lock().unwrap().len(), 1);
    }
}
