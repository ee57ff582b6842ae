//! `tenure`: the service and its command line in one program.

mod cli;
mod config;
mod lifecycle;
mod operator;
mod telemetry;
mod wiring;

fn main() -> std::process::ExitCode {
    cli::main()
}
