//! The Lua scripts, each in a file of its own under `lua/`, which states its keys, arguments, reply and cost.

use redis::Cmd;
use std::sync::LazyLock;

/// A script and its SHA-1, by which a server that has seen it knows it.
pub(super) struct Script {
    code: &'static str,
    hash: LazyLock<String>,
}

impl Script {
    /// Runs the script if the server knows it; answers `NOSCRIPT` if it does not.
    pub(super) fn by_hash(&self) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&*self.hash);
        command
    }

    /// Runs the script whether the server knows it or not.
    pub(super) fn by_code(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.code);
        command
    }
}

macro_rules! scripts {
    ($($name:ident $($file:literal)+;)*) => {$(
        pub(super) static $name: Script = Script {
            code: concat!($(include_str!(concat!("lua/", $file))),+),
            hash: LazyLock::new(|| redis::Script::new($name.code).get_hash().to_owned()),
        };
    )*};
}

scripts! {
    CLOCK "clock.lua";
    STORE "store.lua" "log.lua";
    INVALIDATE "invalidate.lua" "log.lua";
    DELETE "delete.lua" "log.lua";
    ABSENT "absent.lua";
    TOUCH "touch.lua";
    DISCARD "discard.lua";
    PRUNE "prune.lua";
}
