//! [`Facts`]: what a server is to larder, and what the user may do there. Makes larder's tables.

use super::{InspectError, Inspector, TABLES};
use crate::connector::postgres::queries::Query;
use crate::connector::postgres::rights::RIGHTS;
use crate::connector::postgres::server::set_up;

const FACTS: &str = "SELECT current_setting('server_version'), current_setting('server_version_num')::int4, pg_is_in_recovery(), \
    current_user::text, current_database()::text, current_setting('default_transaction_isolation'), \
    has_database_privilege(current_database(), 'CREATE'), has_function_privilege('pg_control_system()', 'EXECUTE'), \
    EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'version'), \
    n.nspowner::regrole::text, has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE') \
    FROM (SELECT 1) one LEFT JOIN pg_namespace n ON n.nspname = 'larder'";

/// What a server says about itself, and what the user may do there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// Name and version, such as `PostgreSQL 15.18`.
    pub name: String,
    /// The major version.
    pub major: i32,
    /// Whether the server is a standby, which has no place for larder's tables.
    pub standby: bool,
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
    /// The isolation level that the user's transactions begin with. larder needs `read committed`.
    pub isolation: String,
    /// Whether the user may make the schema `larder`, or make tables in it if it is there.
    pub may_create: bool,
    /// The version of larder's tables. `None`: they are not there.
    pub tables: Option<i32>,
    /// Whether the user may use what is in the schema `larder`.
    pub uses_schema: bool,
    /// The owner of the schema `larder`, if it is there.
    pub owner: Option<String>,
    /// The rights that the user needs for larder's tables and does not have, such as `INSERT on larder.fences`. Empty where the tables are
    /// not there.
    pub missing: Vec<String>,
}

/// What [`Inspector::set_up`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetUp {
    /// It made the schema, the tables and the functions.
    Made,
    /// They were there. It put the functions into place again, and changed nothing else.
    WasThere,
}

impl Inspector {
    /// Asks the server what it is, what larder has there, and what the user may do.
    ///
    /// # Errors
    ///
    /// [`InspectError::Unreachable`], [`InspectError::Server`].
    pub async fn facts(&self) -> Result<Facts, InspectError> {
        let row = self.row(FACTS, &[]).await?;
        let named: String = self.at(&row, 0)?;
        let has_version: bool = self.at(&row, 8)?;
        let uses_schema: Option<bool> = self.at(&row, 10)?;
        let creates: bool = self.at(&row, 6)?;
        let owner: Option<String> = self.at(&row, 9)?;
        let may_create = match self.at(&row, 11)? {
            Some(in_schema) => in_schema,
            None => creates,
        };
        let mut facts = Facts {
            name: format!("PostgreSQL {}", named.split_whitespace().next().unwrap_or_default()),
            major: self.at::<i32>(&row, 1)? / 10_000,
            standby: self.at(&row, 2)?,
            user: self.at(&row, 3)?,
            database: self.at(&row, 4)?,
            isolation: self.at(&row, 5)?,
            may_create,
            tables: None,
            uses_schema: uses_schema == Some(true),
            owner,
            missing: Vec::new(),
        };
        if !has_version {
            return Ok(facts);
        }
        if !self.at::<bool>(&row, 7)? {
            facts.missing.push("EXECUTE on pg_control_system()".to_owned());
        }
        for row in self.query(Query::Missing, &[&RIGHTS]).await? {
            facts.missing.push(self.at(&row, 0)?);
        }
        facts.tables = Some(TABLES);
        if facts.uses_schema {
            facts.tables = Some(self.at(&self.row("SELECT larder.version()", &[]).await?, 0)?);
        } else {
            facts.missing.insert(0, "USAGE on the schema larder".to_owned());
        }
        Ok(facts)
    }

    /// Makes larder's schema, tables and functions, if they are not there, all in one transaction. Doing so again is harmless, also while
    /// services use the tables.
    ///
    /// # Errors
    ///
    /// [`InspectError::Forbidden`] names the right that is missing; [`InspectError::Newer`]; [`InspectError::Unreachable`];
    /// [`InspectError::Server`].
    pub async fn set_up(&self) -> Result<SetUp, InspectError> {
        let facts = self.facts().await?;
        let place = || self.options.place();
        if facts.standby {
            let reason = "the server is a standby, and tables are made on the primary: give its host".to_owned();
            return Err(InspectError::Server { place: place(), reason });
        }
        match facts.tables {
            Some(there) if there > TABLES => return Err(InspectError::Newer { place: place(), there, here: TABLES }),
            _ => {}
        }
        if !facts.may_create {
            return Err(InspectError::Forbidden {
                place: place(),
                reason: facts.lacks_create(),
                to_do: facts.grant_create(),
            });
        }
        self.within(set_up(&self.connection)).await.map_err(|failed| match failed {
            InspectError::Forbidden { place, reason, .. } => {
                let to_do = facts.owner.as_ref().map_or_else(
                    || facts.grant_create(),
                    |owner| format!("run it as {owner}, the owner of the schema larder, or as a superuser"),
                );
                InspectError::Forbidden { place, reason, to_do }
            }
            other => other,
        })?;
        Ok(if facts.tables.is_some() { SetUp::WasThere } else { SetUp::Made })
    }
}

impl Facts {
    /// Says which right is missing to make the tables.
    #[must_use]
    pub fn lacks_create(&self) -> String {
        let Self { user, database, .. } = self;
        match self.owner {
            None => format!("the user {user} lacks the right CREATE on the database {database}"),
            Some(_) => format!("the user {user} lacks the right CREATE on the schema larder"),
        }
    }

    /// What somebody with more rights can do so that the tables can be made, or are made.
    #[must_use]
    pub fn grant_create(&self) -> String {
        let user = quoted(&self.user);
        let on = match self.owner {
            None => format!("DATABASE {}", quoted(&self.database)),
            Some(_) => "SCHEMA larder".to_owned(),
        };
        format!(
            "have somebody who may run `GRANT CREATE ON {on} TO {user}`, or run the output of `larder postgres setup --print` and then: {}",
            self.grant_use()
        )
    }

    /// The statements that give the user the rights that larder needs for its tables.
    #[must_use]
    pub fn grant_use(&self) -> String {
        grant_use(&self.user, self.missing.iter().any(|right| right.starts_with("EXECUTE")))
    }
}

/// The statements that give a user the rights that larder needs for its tables; with those to functions, where somebody has taken them away.
pub(super) fn grant_use(user: &str, functions: bool) -> String {
    let user = quoted(user);
    let execute = if functions {
        format!(
            "; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA larder TO {user}; GRANT EXECUTE ON FUNCTION pg_control_system() TO {user}"
        )
    } else {
        String::new()
    };
    format!("GRANT USAGE ON SCHEMA larder TO {user}; GRANT {RIGHTS} ON ALL TABLES IN SCHEMA larder TO {user}{execute}")
}

/// A name as SQL takes it.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_sql_needs_it() {
        for (name, sql) in [
            ("ann", "ann"),
            ("a_1", "a_1"),
            ("Ann", "\"Ann\""),
            ("a-b", "\"a-b\""),
            ("a\"b", "\"a\"\"b\""),
            ("1a", "\"1a\""),
        ] {
            assert_eq!(quoted(name), sql);
        }
    }
}
