//! Carries the plan out, and notes what really happened.

use std::{cell::RefCell, rc::Rc, time::Duration};

use sqlx::{Connection, PgConnection, Row};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    fleet::Place,
    ledger::{Micros, Trouble, now},
    plan::{Fault, Strike},
    postgres::{Postgres, send},
    proxy::Weather,
    run::Folder,
};

/// What an endless task answers.
pub(crate) enum Never {}

/// What faults meet. One strike holds a part at a time; a part that is taken waits its turn.
///
/// The order of the parts is that of their end: workers, server, folder.
pub(crate) struct Scene {
    pub(crate) places: Vec<Mutex<Place>>,
    pub(crate) postgres: Mutex<Postgres>,
    pub(crate) notes: RefCell<Notes>,
    #[expect(dead_code, reason = "held until everything in it has ended")]
    pub(crate) folder: Folder,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The processes that were killed, and when.
    pub(crate) killed: Vec<(u32, Micros)>,
    pub(crate) troubles: Vec<Trouble>,
    /// Faults that struck.
    pub(crate) struck: Vec<Fault>,
    /// Faults that failed to strike, with the reason.
    pub(crate) missed: Vec<(Fault, String)>,
}

/// How often a fault tries to strike, and how long it waits in between.
const TRIES: usize = 5;
const AGAIN: Duration = Duration::from_millis(700);

/// Taking all connections: how long it may take, and how many are asked for at a time.
const EXHAUST_MAX: Duration = Duration::from_secs(15);
const CONNECTS_AT_A_TIME: usize = 8;

/// How long a worker that is to be killed is given to claim something.
const PREY_MAX: Duration = Duration::from_secs(5);

/// After a fault is over, a worker needs this long to connect and to trust what it sees.
const RECOVERY: Micros = 2_000_000;

impl Scene {
    /// Strikes as planned; returns when all is over and healed.
    pub(crate) async fn strike_all(self: &Rc<Self>, plan: Vec<Strike>, said: impl Fn(&str)) {
        let begin = Instant::now();
        let mut under_way = JoinSet::new();
        for strike in plan {
            sleep_until(begin + strike.at).await;
            said(&format!("{} for {:?}", strike.fault.name(), strike.lasts));
            let scene = self.clone();
            under_way.spawn_local(async move { scene.strike(&strike).await });
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Starts workers that have ended by themselves, as a service manager does: one that starts while Postgres is down
    /// does not stay.
    pub(crate) async fn supervise(&self) -> anyhow::Result<Never> {
        loop {
            sleep(AGAIN).await;
            // Whoever holds a place is about to start its worker.
            for mut place in self.places.iter().filter_map(|place| place.try_lock().ok()) {
                if place.pid().is_none() {
                    place.start()?;
                }
            }
        }
    }

    /// Faults meet each other: one that finds nothing to strike, or fails for another's sake, tries again.
    async fn strike(&self, strike: &Strike) {
        for _ in 0..TRIES {
            match self.try_strike(strike).await {
                Ok(true) => return self.notes.borrow_mut().struck.push(strike.fault),
                Ok(false) => {}
                Err(error) => self.notes.borrow_mut().missed.push((strike.fault, format!("{error:#}"))),
            }
            sleep(AGAIN).await;
        }
    }

    /// False if there was nothing to strike at that moment.
    async fn try_strike(&self, strike: &Strike) -> anyhow::Result<bool> {
        let from = now();
        let done = match strike.fault {
            Fault::Kill => self.kill(strike).await?,
            Fault::Freeze => self.freeze(strike).await?,
            Fault::Drain => self.drain(strike).await?,
            Fault::Restart => self.restart("INT", strike).await?,
            Fault::Crash => self.restart("QUIT", strike).await?,
            Fault::Terminate => self.terminate(strike).await?,
            Fault::Backend => self.kill_backend(strike).await?,
            Fault::Cut => self.weather(strike, Weather::Cut(strike.reach)).await,
            Fault::Blackhole => self.weather(strike, Weather::Silent(strike.reach)).await,
            Fault::Delay => {
                let delay = Duration::from_millis(30 + strike.dice % 270);
                self.weather(strike, Weather::Slow(delay)).await
            }
            Fault::Clock => self.step_clock(strike).await?,
            Fault::Exhaust => self.exhaust(strike).await?,
            Fault::Wal => self.slow_wal(strike).await?,
        };
        let trouble = match strike.fault {
            Fault::Restart | Fault::Crash | Fault::Backend | Fault::Exhaust => Some(None),
            Fault::Kill | Fault::Freeze | Fault::Drain | Fault::Cut | Fault::Blackhole => {
                Some(Some(strike.place))
            }
            // Work goes on under these.
            Fault::Terminate | Fault::Delay | Fault::Clock | Fault::Wal => None,
        };
        let to = now() + RECOVERY;
        self.notes.borrow_mut().troubles.extend(trouble.map(|place| Trouble { place, from, to }));
        Ok(done)
    }

    async fn kill(&self, strike: &Strike) -> anyhow::Result<bool> {
        let mut place = self.places[strike.place].lock().await;
        if let Some(pid) = place.pid() {
            self.await_prey(pid).await;
        }
        // Noted before: what is committed from here on was not the victim's to lose.
        let at = now();
        let Some(pid) = place.kill().await? else { return Ok(false) };
        self.notes.borrow_mut().killed.push((pid, at));
        sleep(strike.lasts).await;
        place.start()?;
        Ok(true)
    }

    /// Waits until the worker runs a job, so that killing it shows a rescue; not for long, and not where another fault
    /// keeps anybody from seeing it.
    async fn await_prey(&self, pid: u32) {
        let looking = async {
            let mut conn = self.connect().await?;
            while !runs_a_job(&mut conn, pid).await? {
                sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        // Without prey it is killed all the same.
        drop(tokio::time::timeout(PREY_MAX, looking).await);
    }

    async fn freeze(&self, strike: &Strike) -> anyhow::Result<bool> {
        let mut place = self.places[strike.place].lock().await;
        if !place.freeze(true).await? {
            return Ok(false);
        }
        sleep(strike.lasts).await;
        place.freeze(false).await
    }

    async fn drain(&self, strike: &Strike) -> anyhow::Result<bool> {
        let mut place = self.places[strike.place].lock().await;
        if place.pid().is_none() {
            return Ok(false);
        }
        if let Some(killed) = place.drain().await? {
            self.notes.borrow_mut().killed.push((killed, now()));
        }
        sleep(strike.lasts).await;
        place.start()?;
        Ok(true)
    }

    async fn restart(&self, signal: &str, strike: &Strike) -> anyhow::Result<bool> {
        self.postgres.lock().await.restart(signal, strike.lasts).await?;
        Ok(true)
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        self.postgres.lock().await.connect("postgres").await
    }

    /// Ends up to five of the sessions that are not ours.
    async fn terminate(&self, strike: &Strike) -> anyhow::Result<bool> {
        let mut conn = self.connect().await?;
        let ended = sqlx::query(
            "select count(*) filter (where pg_terminate_backend(pid)) from (
                select pid from pg_stat_activity
                where backend_type = 'client backend' and application_name <> 'chaos'
                order by md5(pid::text || $1) limit 5) victims",
        )
        .bind(strike.dice.to_string())
        .fetch_one(&mut conn)
        .await?;
        Ok(ended.try_get::<i64, _>(0)? > 0)
    }

    async fn kill_backend(&self, strike: &Strike) -> anyhow::Result<bool> {
        let postgres = self.postgres.lock().await;
        let mut conn = postgres.connect("postgres").await?;
        let victim = sqlx::query(
            "select pid from pg_stat_activity
             where backend_type = 'client backend' and application_name <> 'chaos' order by md5(pid::text || $1) limit 1",
        )
        .bind(strike.dice.to_string())
        .fetch_optional(&mut conn)
        .await?;
        let Some(victim) = victim else { return Ok(false) };
        send("KILL", u32::try_from(victim.try_get::<i32, _>(0)?)?).await?;
        drop(conn);
        postgres.recovered().await?;
        Ok(true)
    }

    /// The network of a place: the worker behind it may be killed meanwhile.
    async fn weather(&self, strike: &Strike, weather: Weather) -> bool {
        self.places[strike.place].lock().await.proxy.set(weather);
        sleep(strike.lasts).await;
        self.places[strike.place].lock().await.proxy.set(Weather::Clear);
        true
    }

    async fn step_clock(&self, strike: &Strike) -> anyhow::Result<bool> {
        let seconds =
            i64::try_from(30 + strike.dice % 600)? * if strike.dice.is_multiple_of(2) { 1 } else { -1 };
        if !self.places[strike.place].lock().await.step_clock(seconds)? {
            return Ok(false);
        }
        sleep(strike.lasts).await;
        self.places[strike.place].lock().await.step_clock(0)
    }

    /// Takes every connection that there is, and those that come free.
    async fn exhaust(&self, strike: &Strike) -> anyhow::Result<bool> {
        let options = self.postgres.lock().await.options("postgres");
        let (mut taken, mut opening) = (Vec::new(), JoinSet::new());
        let begin = Instant::now();
        let mut full_since: Option<Instant> = None;
        while full_since.is_none_or(|since| since.elapsed() < strike.lasts) && begin.elapsed() < EXHAUST_MAX {
            while opening.len() < CONNECTS_AT_A_TIME {
                let options = options.clone();
                opening.spawn(async move { PgConnection::connect_with(&options).await });
            }
            if let Some(Ok(Ok(conn))) = opening.join_next().await {
                taken.push(conn);
                continue;
            }
            full_since = full_since.or_else(|| (taken.len() > CONNECTS_AT_A_TIME).then(Instant::now));
            sleep(Duration::from_millis(20)).await;
        }
        Ok(full_since.is_some())
    }

    async fn slow_wal(&self, strike: &Strike) -> anyhow::Result<bool> {
        let slow = "alter system set commit_delay = 100000; alter system set commit_siblings = 0";
        self.settings(&slow.replace("; ", ";")).await?;
        sleep(strike.lasts).await;
        self.settings("alter system reset commit_delay;alter system reset commit_siblings").await?;
        Ok(true)
    }

    /// Each statement by itself: `alter system` refuses to be one of several.
    async fn settings(&self, statements: &str) -> anyhow::Result<()> {
        let mut conn = self.connect().await?;
        for statement in statements.split(';').chain(["select pg_reload_conf()"]) {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut conn).await?;
        }
        Ok(())
    }

    /// The processes of the workers that live.
    pub(crate) async fn living(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for place in &self.places {
            pids.extend(place.lock().await.pid().and_then(|pid| i32::try_from(pid).ok()));
        }
        pids
    }

    /// Undoes whatever is still in force, so that the fleet can finish.
    pub(crate) async fn heal(&self) -> anyhow::Result<()> {
        self.settings("alter system reset all").await?;
        for place in &self.places {
            let mut place = place.lock().await;
            place.proxy.set(Weather::Clear);
            if place.is_frozen() {
                place.freeze(false).await?;
            }
            place.step_clock(0)?;
        }
        Ok(())
    }
}

async fn runs_a_job(conn: &mut PgConnection, pid: u32) -> anyhow::Result<bool> {
    let busy =
        "select exists (select from queue.job j join queue.worker w on w.id = j.worker where w.pid = $1)";
    Ok(sqlx::query(busy).bind(i32::try_from(pid)?).fetch_one(conn).await?.try_get(0)?)
}
