//! The programs of the systems as child processes that are driven by lines (see `bench-protocol`).

use std::{
    fs::{self, File},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
};

use crate::{server::Server, system::System};

/// A worker's last jobs and its goodbye; after that it is killed.
const STOP_MAX: Duration = Duration::from_mins(1);

/// How much of a program's complaints goes into an error.
const SAID_LINES: usize = 4;

/// What a program says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready,
    Done,
    First(u64),
    Ran(u64),
    Began(u64),
    Sent(u64),
    Stopped,
    Ended,
}

/// Running programs of one system that do the same thing.
pub(crate) struct Adapter {
    system: System,
    children: Vec<(Child, ChildStdin)>,
    said: mpsc::UnboundedReceiver<(usize, Said)>,
    log: std::path::PathBuf,
}

impl Adapter {
    /// Starts so many programs of the system on the database.
    pub(crate) fn start(
        server: &Server,
        system: System,
        database: &str,
        processes: usize,
        arguments: &[&str],
    ) -> Result<Self> {
        let (sender, said) = mpsc::unbounded_channel();
        let mut adapter = Self { system, children: Vec::new(), said, log: server.log(system.name()) };
        let program = system.program()?;
        for index in 0..processes {
            let log = File::options().create(true).append(true).open(&adapter.log)?;
            let mut child = Command::new(&program[0])
                .args(&program[1..])
                .args(arguments)
                .env("DATABASE_URL", server.url(database))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("while {} was started", program[0].display()))?;
            let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    if let Some(said) = parse(&line) {
                        // Nobody listens any more: the measurement has ended.
                        let _ = sender.send((index, said));
                    }
                }
                let _ = sender.send((index, Said::Ended));
            });
            let orders = child.stdin.take().context("its input is piped")?;
            adapter.children.push((child, orders));
        }
        Ok(adapter)
    }

    /// Runs a program to its end.
    pub(crate) async fn run(
        server: &Server,
        system: System,
        database: &str,
        arguments: &[&str],
    ) -> Result<()> {
        let mut adapter = Self::start(server, system, database, 1, arguments)?;
        while adapter.said.recv().await.is_some_and(|(_, said)| said != Said::Ended) {}
        let status = adapter.children[0].0.wait().await?;
        if !status.success() {
            bail!("{} {}: {status}: {}", system.name(), arguments.join(" "), adapter.complaints());
        }
        Ok(())
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().filter_map(|(child, _)| child.id()).collect()
    }

    /// Tells all of them.
    pub(crate) async fn tell(&mut self, order: &str) -> Result<()> {
        for (_, orders) in &mut self.children {
            orders.write_all(format!("{order}\n").as_bytes()).await?;
        }
        Ok(())
    }

    /// The next thing said and by which of them; an error if one has ended unasked.
    pub(crate) async fn hear(&mut self) -> Result<(usize, Said)> {
        match self.said.recv().await {
            Some((_, Said::Ended)) | None => {
                Err(anyhow!("{} ended early: {}", self.system.name(), self.complaints()))
            }
            Some(said) => Ok(said),
        }
    }

    /// Waits until this is said, passing over the rest.
    pub(crate) async fn await_said(&mut self, awaited: &Said) -> Result<()> {
        while self.hear().await?.1 != *awaited {}
        Ok(())
    }

    /// Tells them to stop and waits until they have.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.tell("stop").await?;
        let stopped = async {
            for (child, _) in &mut self.children {
                child.wait().await?;
            }
            Ok::<(), std::io::Error>(())
        };
        match tokio::time::timeout(STOP_MAX, stopped).await {
            Ok(stopped) => Ok(stopped?),
            Err(_) => bail!("{} did not stop within {STOP_MAX:?}", self.system.name()),
        }
    }

    fn complaints(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SAID_LINES)..].join(" | ")
    }
}

fn parse(line: &str) -> Option<Said> {
    let (word, number) = line.split_once(' ').unwrap_or((line, ""));
    Some(match word {
        "ready" => Said::Ready,
        "done" => Said::Done,
        "stopped" => Said::Stopped,
        "first" => Said::First(number.parse().ok()?),
        "ran" => Said::Ran(number.parse().ok()?),
        "began" => Said::Began(number.parse().ok()?),
        "sent" => Said::Sent(number.parse().ok()?),
        _ => return None,
    })
}
