//! `larder man`: the manual pages, made from the same text as `--help`.

use crate::failure::Failure;
use crate::{output, shown};
use clap::Args;
use clap_mangen::Man;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `larder man`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The folder to write a page for each command to; without it, the page of larder itself is printed
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Prints the page of larder, or writes all pages.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let cannot = |error: std::io::Error| Failure::Problem(format!("the manual cannot be written: {error}"));
    let command = shown();
    match &options.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(cannot)?;
            clap_mangen::generate_to(command, folder).map_err(cannot)?;
        }
        None => {
            let mut page = Vec::new();
            Man::new(command).render(&mut page).map_err(cannot)?;
            output::line(String::from_utf8_lossy(&page).trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}
