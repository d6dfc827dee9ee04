//! The Lua scripts. Each is put together, when larder is compiled, from the files under `lua/` that `scripts!` below lists for it.
//!
//! The file that gives the script its name states keys, arguments, reply and cost. `write_marks.lua` and `shebang.lua` are parts that several
//! scripts share.

use crate::protection;
use redis::Cmd;
use std::borrow::Cow;
use std::sync::LazyLock;

/// A script and its SHA-1, by which a server knows a script that it has seen.
pub(crate) struct Script {
    code: LazyLock<Cow<'static, str>>,
    hash: LazyLock<String>,
}

impl Script {
    /// Runs the script if the server knows it; answers `NOSCRIPT` if it does not.
    pub(crate) fn by_hash(&self) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&*self.hash);
        command
    }

    /// Runs the script whether the server knows it or not.
    pub(crate) fn by_code(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&**self.code);
        command
    }
}

macro_rules! scripts {
    ($($name:ident $($file:literal)+;)*) => {$(
        pub(crate) static $name: Script = Script {
            code: LazyLock::new(|| protection::in_script(concat!($(include_str!(concat!("lua/", $file))),+))),
            hash: LazyLock::new(|| redis::Script::new(&$name.code).get_hash().to_owned()),
        };
    )*};
}

scripts! {
    CLOCK "clock.lua";
    STORE "shebang.lua" "store.lua" "write_marks.lua";
    STORE_MANY "store_many.lua" "store.lua" "write_marks.lua" "store_each.lua";
    GET_MANY "get_many.lua";
    INVALIDATE "invalidate.lua" "write_marks.lua";
    DELETE "delete.lua" "write_marks.lua";
    ABSENT "absent.lua";
    TOUCH "touch.lua";
    DISCARD "discard.lua";
    PRUNE "prune.lua";
    REMOVE "remove.lua";
    FOLLOW "follow.lua";
    FOLLOWERS "followers.lua";
    LEAVE "leave.lua";
    CONFIRM "confirm.lua";
    RIGHTS "rights.lua";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protection::Protection;

    #[test]
    fn a_line_that_can_be_left_out_names_the_protection_that_it_is() {
        let mut named = Vec::new();
        for script in [&CLOCK, &STORE, &STORE_MANY, &ABSENT, &INVALIDATE, &DELETE, &TOUCH, &DISCARD, &PRUNE] {
            let lines = script.code.lines().filter(|line| line.contains("protection:"));
            for line in lines {
                let name = line.rsplit_once(" -- protection: ").map(|(_, name)| name);
                let known = Protection::ALL.into_iter().find(|protection| Some(protection.name()) == name);
                named.push(known.unwrap_or_else(|| panic!("{line}")));
            }
        }
        assert!(named.contains(&Protection::Fence) && named.contains(&Protection::Version), "{named:?}");
    }
}
