//! The report for people.

use super::{Cache, ClockFacts, Objects, Prepared, Report, Rows, ServerFacts, Transaction};
use indicatif::{HumanBytes, HumanCount, HumanDuration};
use std::fmt::Write;
use std::time::Duration;

/// A transaction that is older than this is worth a word.
const LONG: Duration = Duration::from_secs(60);

impl Report {
    pub(in crate::stats) fn text(&self) -> String {
        let mut text = format!("{}\n", self.address);
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let ServerFacts { name, uptime_seconds, connected_clients, larder_clients, sees_all_sessions } = &self.server;
        writeln!(text, "  server     {name}, up for {}", duration(*uptime_seconds))?;
        writeln!(text, "  clients    {connected_clients} in this database, {larder_clients} of them named larder")?;
        match &self.clock {
            None => writeln!(text, "  clock      none: nothing is cached until a service connects and makes one")?,
            Some(clock) if !clock.of_this_database => writeln!(
                text,
                "  clock      came with a copy of another database: the next service that connects empties the tables"
            )?,
            Some(ClockFacts { epoch, generation, oldest_accepted, generation_age_seconds, .. }) => writeln!(
                text,
                "  clock      epoch {epoch}, generation {generation} for {}, tickets from {oldest_accepted} on are accepted",
                duration(*generation_age_seconds)
            )?,
        }
        let sweeping =
            if self.clock.as_ref().is_some_and(|clock| clock.sweeping) { ", a sweep is under way" } else { "" };
        writeln!(text, "  fences     {} not swept{sweeping}", self.fences.text())?;
        writeln!(text, "  changes    {} not removed", self.changes.text())?;
        match &self.oldest_transaction {
            Some(Transaction { pid, age_seconds, state, user, application }) => {
                let facts = [state, user, application].into_iter().flatten().filter(|fact| !fact.is_empty());
                let facts: Vec<&str> = facts.map(String::as_str).collect();
                let long = if *age_seconds > LONG.as_secs() { "; it holds back vacuum and sweeps" } else { "" };
                let age = duration(*age_seconds);
                writeln!(text, "  oldest     transaction of pid {pid}, for {age} ({}){long}", facts.join(", "))?;
            }
            None if !sees_all_sessions => writeln!(
                text,
                "  oldest     transaction not known: only the user's own are seen without GRANT pg_read_all_stats"
            )?,
            None => {}
        }
        for Prepared { gid, age_seconds, keeps_the_clock_away } in &self.prepared_transactions {
            let away = if *keeps_the_clock_away { "; nothing is cached until it has ended" } else { "" };
            writeln!(text, "  prepared   transaction {gid}, for {}{away}", duration(*age_seconds))?;
        }
        for table in self.tables.iter().filter(|table| table.bytes > 0) {
            let vacuumed = table
                .vacuumed_seconds_ago
                .map_or_else(|| "never vacuumed".to_owned(), |ago| format!("vacuumed {} ago", duration(ago)));
            writeln!(
                text,
                "  {:10} {}, indexes {}, ~{} rows, ~{} dead, {vacuumed}",
                table.table,
                HumanBytes(table.bytes),
                HumanBytes(table.index_bytes),
                HumanCount(table.rows),
                HumanCount(table.dead_rows)
            )?;
        }
        if self.caches.is_empty() {
            writeln!(text, "\nno caches here")?;
        }
        self.caches.iter().try_for_each(|cache| cache.write(text))
    }
}

impl Rows {
    fn text(&self) -> String {
        format!("{}{}", about(self.estimated), HumanCount(self.rows))
    }
}

impl Cache {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let name = self.cache.as_deref().unwrap_or("that no service has registered");
        let about = about(self.estimated);
        writeln!(text, "\ncache {name}, about {}", HumanBytes(self.bytes))?;
        if self.followed {
            writeln!(text, "  followed   its objects are in the memory of nodes, which follow the feed")?;
        }
        for release in &self.objects {
            let Objects { keys, bytes, over, fingerprint, .. } = release;
            let indexes = release.indexes.as_ref().map_or_else(String::new, |names| format!(" ({})", names.join(", ")));
            let registered = if release.registered { "" } else { ", not registered" };
            let over = if *over > 0 { format!(", {about}{} of them over", HumanCount(*over)) } else { String::new() };
            let (keys, bytes) = (HumanCount(*keys), HumanBytes(*bytes));
            writeln!(text, "  objects    {about}{keys}, {bytes}{over}, of release {fingerprint}{indexes}{registered}")?;
        }
        for index in self.index_keys.iter().filter(|_| !self.objects.is_empty()) {
            writeln!(text, "  index keys {about}{} in all indexes", HumanCount(index.keys))?;
        }
        if self.notes > 0 {
            writeln!(
                text,
                "  notes      {about}{} of keys under which the source has nothing",
                HumanCount(self.notes)
            )?;
        }
        Ok(())
    }
}

fn about(estimated: bool) -> &'static str {
    if estimated { "~" } else { "" }
}

fn duration(seconds: u64) -> HumanDuration {
    HumanDuration(Duration::from_secs(seconds))
}
