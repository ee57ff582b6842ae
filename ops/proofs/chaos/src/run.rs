//! One run from the empty folder to the verdict.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::PgConnection;
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    Args, beat, check,
    fleet::{CAP, CAP_EACH, CAPPED, CONTROL, LEASE_SECS, Place, Program},
    ledger::{Beat, Cap, Death, Ledger, Promise, Struck},
    load::{Producer, Tenant},
    plan::{Fault, plan},
    postgres::Postgres,
    report::{Report, SCHEMA},
    strike::{Notes, Scene},
    witness,
};

const PRODUCERS: usize = 3;

/// How long the healed fleet may go without finishing one of the jobs that are left: longer than the pause of a job that
/// has failed often.
const STALL_MAX: Duration = Duration::from_mins(3);

/// Makes everything, runs, checks, and leaves nothing behind.
pub(crate) async fn run(args: &Args, seed: u64) -> anyhow::Result<Report> {
    let folder = Folder::make(args.keep.as_deref())?;
    let talk = Talk::new(args.json);
    talk.say("starting Postgres");
    let postgres = Postgres::start(folder.path(), args.workers.into()).await?;
    let faketime = faketime();
    let tenure = std::path::absolute(&args.tenure)?;
    ensure!(tenure.is_file(), "there is no program {}: build it, or name it with --tenure", tenure.display());
    let program = Program::new(tenure, folder.path().to_owned(), faketime.clone());
    let tenants = prepare(args, &postgres, &program, &talk).await?;
    talk.say(&format!("seed {seed}: starting {} workers", args.workers));
    let scene = Rc::new(assemble(args, &program, postgres, folder).await?);
    let work = async {
        let promises =
            under_faults(args, seed, &scene, &program, &tenants, &talk, faketime.is_some()).await?;
        talk.say("healed; waiting until everything has ended");
        let beats = drain(&scene, &program, &tenants).await?;
        anyhow::Ok((promises, beats))
    };
    let (mut promises, beats) = tokio::select! {
        done = work => done?,
        ended = scene.supervise() => match ended? {},
    };
    talk.say("checking the history");
    promises.push(beat::promise());
    let mut ledger = Ledger { promises, beats, ..Ledger::default() };
    read(&scene, &tenants, &mut ledger).await?;
    note(args, &scene, faketime.is_some(), &mut ledger).await?;
    Ok(verdict(args, seed, &ledger))
}

/// The folder of a run; removed at the end unless it was named.
pub(crate) enum Folder {
    Passing(TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn make(keep: Option<&Path>) -> anyhow::Result<Self> {
        match keep {
            None => Ok(Self::Passing(tempfile::Builder::new().prefix("tenure-chaos-").tempdir()?)),
            Some(path) => {
                std::fs::create_dir(path).with_context(|| format!("while making {}", path.display()))?;
                Ok(Self::Kept(std::path::absolute(path)?))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Passing(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }
}

/// What is going on, for whoever watches.
struct Talk(ProgressBar);

impl Talk {
    fn new(is_quiet: bool) -> Self {
        let bar = if is_quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("the template is valid"),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    fn say(&self, text: &str) {
        self.0.set_message(text.to_owned());
        if self.0.is_hidden() && !self.0.is_finished() {
            // Off a terminal the bar draws nothing.
            eprintln!("chaos: {text}");
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Where the systems' packages put libfaketime.
fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    // The one for programs with threads.
    let mut library = folders.iter().map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"));
    library.find(|path| path.is_file())
}

/// The databases, the tenants, and the witnesses in both.
async fn prepare(
    args: &Args,
    postgres: &Postgres,
    program: &Program,
    talk: &Talk,
) -> anyhow::Result<Vec<Tenant>> {
    let mut admin = postgres.connect("postgres").await?;
    sqlx::raw_sql("create database control").execute(&mut admin).await?;
    let url = postgres.url(CONTROL, postgres.port);
    program.json(&url, &["db", "migrate"]).await?;
    let mut tenants = Vec::new();
    for number in 1..=args.tenants {
        let name = format!("chaos-{number}");
        talk.say(&format!("making the tenant {name}"));
        program.json(&url, &["tenant", "create", &name, "--wait"]).await?;
        tenants.push(tenant(&mut postgres.connect(CONTROL).await?, &name).await?);
    }
    let limit = ["queue", "limit", "set", "--queue", CAPPED, "--running"];
    program.json(&url, &[&limit[..], &[&CAP.to_string()]].concat()).await?;
    program.json(&url, &[&limit[..], &[&CAP_EACH.to_string(), "--each-tenant"]].concat()).await?;
    let mut control = postgres.connect(CONTROL).await?;
    witness::watch_control(&mut control).await?;
    for tenant in &tenants {
        witness::watch_tenant(&mut postgres.connect(&tenant.database).await?).await?;
        beat::clear(program, &url, tenant).await?;
        beat::start(program, &url, tenant).await?;
    }
    if let Some(file) = &args.sabotage {
        let sql =
            std::fs::read_to_string(file).with_context(|| format!("while reading {}", file.display()))?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut control).await.context("while sabotaging")?;
    }
    Ok(tenants)
}

async fn tenant(conn: &mut PgConnection, name: &str) -> anyhow::Result<Tenant> {
    let (id, database) = sqlx::query_as("select id, database_name from control.tenant where name = $1")
        .bind(name)
        .fetch_one(conn)
        .await?;
    Ok(Tenant { id, name: name.to_owned(), database })
}

async fn assemble(
    args: &Args,
    program: &Program,
    postgres: Postgres,
    folder: Folder,
) -> anyhow::Result<Scene> {
    let mut places = Vec::new();
    for number in 0..usize::from(args.workers) {
        places.push(Mutex::new(Place::open(number, program.clone(), &postgres).await?));
    }
    Ok(Scene { places, postgres: Mutex::new(postgres), notes: Notes::default().into(), folder })
}

/// Load and faults at the same time; answers what was promised, with everything healed.
async fn under_faults(
    args: &Args,
    seed: u64,
    scene: &Rc<Scene>,
    program: &Program,
    tenants: &[Tenant],
    talk: &Talk,
    has_faketime: bool,
) -> anyhow::Result<Vec<Promise>> {
    let (stop, stopped) = watch::channel(false);
    let mut producers = JoinSet::new();
    {
        let postgres = scene.postgres.lock().await;
        for number in 0..PRODUCERS {
            let producer = Producer {
                number,
                seed,
                tenants: tenants.to_vec(),
                options: postgres.options(CONTROL),
                program: program.clone(),
                url: postgres.url(CONTROL, postgres.port),
            };
            producers.spawn_local(producer.run(stopped.clone()));
        }
    }
    let faults: Vec<Fault> =
        args.faults().into_iter().filter(|fault| has_faketime || *fault != Fault::Clock).collect();
    let strikes = plan(seed, &faults, args.workers.into(), args.span());
    let end = Instant::now() + args.span();
    scene.strike_all(strikes, |text| talk.say(text)).await;
    tokio::time::sleep_until(end).await;
    scene.heal().await?;
    stop.send_replace(true);
    Ok(producers.join_all().await.into_iter().flatten().collect())
}

/// Stops the schedules and waits until nothing is left, or no patience; answers what the schedules owed.
async fn drain(scene: &Scene, program: &Program, tenants: &[Tenant]) -> anyhow::Result<Vec<Beat>> {
    let (mut conn, url) = {
        let postgres = scene.postgres.lock().await;
        (postgres.connect(CONTROL).await?, postgres.url(CONTROL, postgres.port))
    };
    let beats = beat::stop(&mut conn, program, &url, tenants).await?;
    let mut left = unsettled(scene, &mut conn).await?;
    let mut since = Instant::now();
    while left > 0 && since.elapsed() < STALL_MAX {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now_left = unsettled(scene, &mut conn).await?;
        if now_left != left {
            (left, since) = (now_left, Instant::now());
        }
    }
    Ok(beats)
}

/// Jobs that are left, and charges that a worker has not taken back yet though it lives.
async fn unsettled(scene: &Scene, conn: &mut PgConnection) -> anyhow::Result<i64> {
    Ok(witness::unfinished(conn).await? + witness::charged(conn, &scene.living().await).await?)
}

async fn read(scene: &Scene, tenants: &[Tenant], ledger: &mut Ledger) -> anyhow::Result<()> {
    let postgres = scene.postgres.lock().await;
    witness::read_control(&mut postgres.connect(CONTROL).await?, ledger).await?;
    for tenant in tenants {
        witness::read_tenant(&mut postgres.connect(&tenant.database).await?, ledger).await?;
    }
    Ok(())
}

/// What the runner itself knows.
async fn note(args: &Args, scene: &Scene, has_faketime: bool, ledger: &mut Ledger) -> anyhow::Result<()> {
    let mut conn = scene.postgres.lock().await.connect(CONTROL).await?;
    let workers: HashMap<u32, i64> = witness::workers(&mut conn).await?;
    let notes = scene.notes.borrow();
    let died = |(pid, at): &(u32, i64)| workers.get(pid).map(|&worker| Death { worker, at: *at });
    ledger.deaths = notes.killed.iter().filter_map(died).collect();
    ledger.troubles.clone_from(&notes.troubles);
    ledger.caps = vec![
        Cap { queue: CAPPED, each_tenant: false, running_max: CAP },
        Cap { queue: CAPPED, each_tenant: true, running_max: CAP_EACH },
    ];
    ledger.workers = args.workers.into();
    ledger.lease = i64::try_from(LEASE_SECS)? * 1_000_000;
    ledger.struck = args.faults().into_iter().map(|fault| struck(fault, &notes, has_faketime)).collect();
    Ok(())
}

fn struck(fault: Fault, notes: &Notes, has_faketime: bool) -> Struck {
    let times = notes.struck.iter().filter(|one| **one == fault).count();
    let missed = notes.missed.iter().find(|(one, _)| *one == fault && times == 0);
    let absent = match missed {
        _ if fault == Fault::Clock && !has_faketime => Some("libfaketime is not installed".to_owned()),
        Some((_, why)) => Some(why.clone()),
        None => None,
    };
    Struck { fault: fault.name(), times, absent }
}

fn verdict(args: &Args, seed: u64, ledger: &Ledger) -> Report {
    let checks = check::check(ledger);
    let faults: Vec<_> = args.faults().into_iter().map(Fault::name).collect();
    let mut again = format!(
        "ops/chaos --seed {seed} --minutes {} --workers {} --tenants {}",
        args.minutes, args.workers, args.tenants
    );
    if !args.faults.is_empty() {
        again = format!("{again} --faults {}", faults.join(","));
    }
    Report {
        schema: SCHEMA,
        seed,
        seconds: args.span().as_secs(),
        workers: args.workers.into(),
        tenants: args.tenants.into(),
        violations: checks.iter().map(|row| row.violations).sum(),
        faults,
        checks,
        again,
    }
}
