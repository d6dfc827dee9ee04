//! `larder completions`: a script by which a shell completes the command.

use crate::failure::Failure;
use crate::{output, shown};
use clap::Args;
use clap_complete::Shell;
use std::process::ExitCode;

/// The arguments of `larder completions`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut shown(), "larder", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end());
    Ok(ExitCode::SUCCESS)
}
