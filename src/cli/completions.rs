//! `tenure completions SHELL`.

use std::io::{self, Write};

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::{Cli, exit::Exit};

/// Example: `tenure completions bash > /etc/bash_completion.d/tenure`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Supported,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let shell = match args.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    // Written in one go: the generator panics when its reader goes away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tenure", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Exit::Ok)
}
