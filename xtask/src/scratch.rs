//! Where tests write what nobody keeps: the data of their servers.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, id};

/// A folder that Linux keeps in memory. There a database is made in half the time, and a slow disk keeps no server waiting.
const MEMORY: &str = "/dev/shm";

/// How much room there must be, in KiB: some times what all tests that run at the same time have written.
const ROOM: u64 = 4 * 1024 * 1024;

/// The value of `TMPDIR` for tests. `None`: theirs stays, because somebody has set it, or this machine has no room in memory, or runs no program from there.
pub(crate) fn in_memory() -> Option<&'static str> {
    if env::var_os("TMPDIR").is_some() {
        return None;
    }
    let told = Command::new("df").args(["-kP", MEMORY]).output().ok()?;
    (room(&String::from_utf8_lossy(&told.stdout))? >= ROOM && runs_programs()).then_some(MEMORY)
}

/// Reads what `df -kP` says of one folder: a line of titles, and a line whose fourth word is how many KiB are free.
fn room(told: &str) -> Option<u64> {
    told.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

/// Doc tests are run from there.
fn runs_programs() -> bool {
    let program = Path::new(MEMORY).join(format!("larder-{}", id()));
    let ran =
        fs::copy("/bin/true", &program).is_ok() && Command::new(&program).status().is_ok_and(|status| status.success());
    // If it was never there, there is nothing to remove.
    let _ = fs::remove_file(&program);
    ran
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_the_fourth_word_of_the_second_line() {
        let told =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\ntmpfs 24683652 153600 24530052 1% /dev/shm\n";
        assert_eq!(room(told), Some(24_530_052));
        assert_eq!(room("Filesystem 1024-blocks Used Available Capacity Mounted on\n"), None);
        assert_eq!(room(""), None);
    }
}
