//! `with-postgres -- COMMAND ARGUMENTS…`: runs a command beside a throw-away Postgres.
//!
//! The command finds the server in `TENURE_TEST_SERVER`; its exit code is ours. The server and its folder are gone
//! when we end, whether the command ended, we were told to stop (SIGINT, SIGTERM) or were killed (SIGKILL).

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;
use std::{env, io};

use database::testing::{OwnServer, SERVER_VARIABLE, reasons};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A terminal's Ctrl-C reaches the command too; what still runs after this long is told again.
const INTERRUPT_GRACE: Duration = Duration::from_secs(5);

/// As the shell has it: the command line is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    // `cargo run` keeps the dashes to itself, so they may be missing.
    let program =
        arguments.next().and_then(|first| if first == "--" { arguments.next() } else { Some(first) });
    let Some(program) = program else {
        eprintln!("usage: with-postgres -- COMMAND ARGUMENTS…");
        return ExitCode::from(USAGE);
    };
    let mut command = Command::new(program);
    command.args(arguments);
    match beside_server(command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("with-postgres: {}", reasons(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The server is started and stopped outside of the runtime, whose threads it must not block.
fn beside_server(command: Command) -> Result<u8, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Caught from the start: a signal that comes while the server starts must not leave it behind.
    let mut signals = runtime.block_on(async { Signals::catch() })?;
    let server = OwnServer::launch()?;
    let status = runtime.block_on(run(command, &server, &mut signals));
    drop(server);
    Ok(exit_code(status?))
}

async fn run(mut command: Command, server: &OwnServer, signals: &mut Signals) -> io::Result<ExitStatus> {
    let mut child = command.env(SERVER_VARIABLE, server.url("postgres")).spawn()?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            Some(()) = signals.terminate.recv() => terminate(&child).await?,
            Some(()) = signals.interrupt.recv() => {
                if let Ok(status) = tokio::time::timeout(INTERRUPT_GRACE, child.wait()).await {
                    return status;
                }
                terminate(&child).await?;
            }
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }
}

/// Asks the command to end; std can only kill.
async fn terminate(child: &Child) -> io::Result<()> {
    if let Some(pid) = child.id() {
        Command::new("kill").args(["-TERM", "--"]).arg(pid.to_string()).status().await?;
    }
    Ok(())
}

/// The command's own code, or 128 and the signal that ended it, as a shell reports it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
