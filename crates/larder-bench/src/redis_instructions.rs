//! What operations cost the server in instructions, compared with a plain GET of the same bytes.
//!
//! A user pays for processor time. But the ratio of a script's processor time to a GET's differs between processors by up to a factor of 1.4,
//! because a script and a GET are different kinds of work. Instructions do not differ, and do not depend on how busy the machine is. So a
//! change for the worse of a few per cent shows in one short run.
//!
//! Only the instructions of the server's program and libraries count. The kernel's work for a command, which is most of a GET's time, does
//! not. So these ratios are larger than those of processor time, and a bar on them only keeps what was reached.
//!
//! The server runs under `callgrind` (in Debian's package `valgrind`), fifty times slower than normally.

use crate::measure::{Bar, Comparison, Contestant, Effort, Group};
use crate::redis_get::{Questions, get, plain_get};
use crate::sample::{Sample, Shape, host, id};
use crate::testbed::{Beside, Names, Opening, TASKS, Testbed, fill, invalidate, part, set, shuffled, text, ticket};
use larder_testing::server::ServerBinary;
use std::cell::Cell;
use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

const UNIT: &str = "instructions";

/// The bars: what was reached, plus a few per cent, for objects of 300 B and a server as Debian builds it. See
/// `docs/decisions/cost-of-scripts.md`.
const KEPT: [(&str, &str, &str, f64); 8] = [
    ("get", "get by primary key", "GET", 1.2),
    ("get-secondary", "get by secondary key, warm", "GET", 1.2),
    ("fill-new", "fill, new", "GET", 27.5),
    ("fill-again", "fill, index keys right", "GET", 21.5),
    ("set-new", "set, new", "fill, new", 1.4),
    ("set-again", "set, index keys right", "fill, index keys right", 1.45),
    ("set", "set, index keys right", "GET", 29.0),
    ("invalidate", "invalidate by secondary key", "GET", 20.0),
];

pub(crate) fn rows(binary: &ServerBinary, payload: usize, suffix: &str) -> Group {
    let bar = |limit| if payload == 300 { Bar::Most(limit) } else { Bar::Open };
    let binary = binary.clone();
    Group {
        name: format!("what operations cost the server in instructions, {suffix}"),
        rows: KEPT
            .map(|(row, ours, peer, limit)| {
                Comparison::new(format!("redis-instructions-{row}/{suffix}"), ours, peer, bar(limit))
            })
            .into(),
        contestants: Box::new(move |effort| contestants(&binary, Shape::of(payload), effort)),
        varies: false,
    }
}

fn contestants(binary: &ServerBinary, shape: Shape, effort: Effort) -> Result<Vec<Contestant>, String> {
    let counted = Rc::new(Counted::start(binary)?);
    let bed = counted.bed.clone();
    let (writes, reads) = (effort.of(2_000, 600), effort.of(20_000, 6_000));
    let cache = bed.open(Opening::aged())?;
    bed.fill_beside(&cache, shape, 0..writes, Beside::Copy)?;
    let names = Names::of(&cache);
    let all = Arc::new(shuffled(0..writes));
    // Numbers of objects that have not been stored yet.
    let unused = Rc::new(Cell::new(writes));
    let fresh = move || {
        let first = unused.replace(unused.get() + writes);
        Arc::new(shuffled(first..first + writes))
    };

    let asked = |name: &str, by, key: fn(u32) -> String| {
        let (counted, cache) = (counted.clone(), cache.clone());
        let questions: Questions = Arc::new((0..writes).map(key).collect());
        let each = usize::try_from(reads).unwrap_or(0) / TASKS;
        Contestant::new(name, UNIT, move || counted.count(|_| get(cache.clone(), by, questions.clone(), each)))
    };
    let plain = {
        let (counted, bare) = (counted.clone(), bed.bare.clone());
        let questions: Questions = Arc::new((0..writes).map(|number| names.plain(number)).collect());
        let each = usize::try_from(reads).unwrap_or(0) / TASKS;
        Contestant::new("GET", UNIT, move || {
            counted.count(|_| plain_get(bare.clone(), questions.clone(), each, |_| Ok(())))
        })
    };
    let filled = {
        let (counted, cache) = (counted.clone(), cache.clone());
        move |numbers: &Arc<Vec<u32>>| {
            let ticket = counted.bed.run(ticket(cache.clone()))?;
            counted.count(|task| fill(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task), ticket))
        }
    };
    let has_set = {
        let (counted, cache) = (counted.clone(), cache.clone());
        move |numbers: &Arc<Vec<u32>>| {
            counted.count(|task| set(cache.clone(), shape, numbers.clone(), part(numbers.len(), TASKS, task)))
        }
    };
    let invalidated = {
        let (counted, cache, all) = (counted.clone(), cache.clone(), all.clone());
        move || {
            let work = |task| invalidate(cache.clone(), shape, all.clone(), part(all.len(), TASKS, task));
            let cost = counted.count(work)?;
            counted.bed.fill(&cache, shape, all.to_vec())?;
            Ok(cost)
        }
    };
    let (filled_again, set_again) = (filled.clone(), has_set.clone());
    let (fresh_too, fill_all, set_all) = (fresh.clone(), all.clone(), all);
    Ok(vec![
        plain,
        asked("get by primary key", Sample::ID, id),
        asked("get by secondary key, warm", Sample::HOST, |number| host(number, 0)),
        Contestant::new("fill, index keys right", UNIT, move || filled_again(&fill_all)),
        Contestant::new("set, index keys right", UNIT, move || set_again(&set_all)),
        Contestant::new("fill, new", UNIT, move || filled(&fresh())),
        Contestant::new("set, new", UNIT, move || has_set(&fresh_too())),
        Contestant::new("invalidate by secondary key", UNIT, invalidated),
    ])
}

/// A server whose instructions are counted.
struct Counted {
    bed: Arc<Testbed>,
    pid: u32,
    folder: Folder,
}

/// The folder that the counts are written to. It is removed when it is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // If it cannot be removed, it stays in the system's temporary folder. It is small.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Counted {
    fn start(binary: &ServerBinary) -> Result<Self, String> {
        let there =
            Command::new("callgrind_control").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there.is_err() {
            return Err("callgrind is not there: install valgrind (Debian's package of that name)".to_owned());
        }
        let path = std::env::temp_dir().join(format!("larder-bench-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        fs::create_dir(&path).map_err(text)?;
        let folder = Folder(path);
        let program = wrapped(binary, &folder.0).map_err(text)?;
        let bed = Testbed::start(&ServerBinary { path: program, ..binary.clone() }, 1)?;
        let pid = bed.server.pid().ok_or("the server does not run")?;
        Ok(Self { bed, pid, folder })
    }

    /// The instructions per operation, when `TASKS` tasks work at once. Each task returns how many operations it has done.
    fn count<F, W>(&self, work: F) -> Result<f64, String>
    where
        F: Fn(usize) -> W,
        W: Future<Output = Result<usize, String>> + Send + 'static,
    {
        self.instructions()?;
        let operations = self.bed.together(TASKS, work)?;
        let instructions = self.instructions()?;
        if operations == 0 { Err("nothing was done".to_owned()) } else { Ok(instructions as f64 / operations as f64) }
    }

    /// The instructions since the last call.
    fn instructions(&self) -> Result<u64, String> {
        for old in self.dumps()? {
            fs::remove_file(old).map_err(text)?;
        }
        let mut control = Command::new("callgrind_control");
        control
            .arg(format!("--vgdb-prefix={}", pipes(&self.folder.0).display()))
            .arg("--dump")
            .arg(self.pid.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !control.status().map_err(text)?.success() {
            return Err("callgrind_control --dump failed".to_owned());
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            for dump in self.dumps()? {
                if let Some(total) = total(&fs::read_to_string(dump).map_err(text)?) {
                    return Ok(total);
                }
            }
            sleep(Duration::from_millis(20));
        }
        Err("callgrind has written no counts within a minute".to_owned())
    }

    fn dumps(&self) -> Result<Vec<PathBuf>, String> {
        let files = fs::read_dir(&self.folder.0).map_err(text)?;
        let is_dump = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("out."));
        files
            .map(|file| file.map(|file| file.path()).map_err(text))
            .filter(|path| path.as_ref().map_or(true, is_dump))
            .collect()
    }
}

/// A program that runs the server under callgrind, with as little background work as possible (`--hz 1`).
fn wrapped(binary: &ServerBinary, folder: &Path) -> io::Result<PathBuf> {
    let program = folder.join("counted-server");
    let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    let script = format!(
        "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --vgdb-prefix={} --callgrind-out-file={} {} \"$@\" --hz 1\n",
        quoted(&pipes(folder)),
        quoted(&folder.join("out.%p")),
        quoted(&binary.path),
    );
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

/// What the names of the pipes begin with by which callgrind is told what to do. They stay when it is killed, so they are in the folder that is removed.
fn pipes(folder: &Path) -> PathBuf {
    folder.join("vgdb")
}

/// The total of a dump. `None` if the dump is not complete: the total is in its last line.
fn total(dump: &str) -> Option<u64> {
    dump.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_that_is_not_complete_has_no_total() {
        let whole = "# callgrind format\nsummary: 17\n\nfn=(1)\n0 17\n\ntotals: 17\n";
        assert_eq!(total(whole), Some(17));
        assert_eq!(total(whole.split_once("totals").unwrap().0), None);
    }

    /// Finds a script that has become dearer, even on a busy or slow machine.
    #[test]
    fn the_scripts_cost_no_more_instructions_than_they_did() {
        for binary in larder_testing::server::required().unwrap() {
            let effort = Effort { rounds: 1, quick: true };
            for row in rows(&binary, 300, "300B").measure(effort).unwrap() {
                assert_eq!(row.passed(), Some(true), "{} on {binary}: {:?}", row.name, row.ratio());
            }
        }
    }
}
