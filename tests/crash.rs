//! Whole processes of the service killed, frozen and cut off from their database in the middle of a large sync.
//!
//! Whatever happens, the records must equal those of the source row by row, nothing may be written under an older fence
//! once a newer one is in place, and the job, which did nothing wrong, must not be quarantined.

mod fleet;

use std::time::{Duration, Instant};

use database::embedded::ShutdownMode;
use rand::{SeedableRng, rngs::StdRng};
use sqlx::Connection;

use self::fleet::Fleet;

/// Rows of the source: enough for a sync to be under way for some seconds.
const ROWS: u32 = 200_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_a_worker_killed_five_times_in_the_middle_of_a_sync_loses_and_repeats_nothing() {
    let mut fleet = Fleet::start(ROWS, "30s", "10s").await;
    let mut random = StdRng::seed_from_u64(fleet.seed());
    let job = fleet.begin_sync().await;
    let mut rescues = Vec::new();
    for _ in 0..5 {
        let holder = fleet.holder_after_progress(job, &mut random).await;
        let fence = fleet.fence(job).await;
        fleet.kill(holder);
        let killed = Instant::now();
        fleet.claimed_above(job, fence).await;
        rescues.push(killed.elapsed());
        fleet.add_worker().await;
    }
    fleet.finished_well(job).await;
    fleet.records_equal_the_source().await;
    fleet.nothing_was_written_under_an_older_fence().await;
    rescues.sort();
    eprintln!("rescue times: {rescues:?}");
    assert!(rescues[2] < Duration::from_secs(3), "the median rescue took {:?}", rescues[2]);
    let record = fleet.job(job).await;
    assert_eq!(record.losses, 1, "every kill came after a checkpoint, so no loss piled up: {record:?}");
    assert_eq!(
        (record.failures, record.crashes),
        (0, 0),
        "a killed worker is not the job's failure: {record:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q4_a_worker_frozen_past_its_lease_wakes_up_and_writes_nothing() {
    let fleet = Fleet::start(ROWS, "3s", "1s").await;
    let mut random = StdRng::seed_from_u64(fleet.seed());
    let job = fleet.begin_sync().await;
    let holder = fleet.holder_after_progress(job, &mut random).await;
    let fence = fleet.fence(job).await;
    fleet.signal(holder, "STOP");
    fleet.claimed_above(job, fence).await;
    fleet.holder_after_progress(job, &mut random).await;
    // It cannot learn from its heartbeat that it lost the lease: only the fence in the tenant's database stands in its way.
    let leases = fleet.hide_leases().await;
    fleet.signal(holder, "CONT");
    fleet.more_steps(3).await;
    leases.close().await.unwrap();
    fleet.finished_well(job).await;
    fleet.records_equal_the_source().await;
    fleet.nothing_was_written_under_an_older_fence().await;
    let record = fleet.job(job).await;
    assert_eq!(
        (record.failures, record.crashes),
        (0, 0),
        "a frozen worker is not the job's failure: {record:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_postgres_restarted_twice_in_the_middle_of_a_sync_loses_and_repeats_nothing() {
    let mut fleet = Fleet::start(ROWS, "30s", "10s").await;
    let mut random = StdRng::seed_from_u64(fleet.seed());
    let job = fleet.begin_sync().await;
    for mode in [ShutdownMode::Fast, ShutdownMode::Immediate] {
        fleet.holder_after_progress(job, &mut random).await;
        fleet.restart_postgres(mode).await;
    }
    fleet.finished_well(job).await;
    fleet.records_equal_the_source().await;
    fleet.nothing_was_written_under_an_older_fence().await;
    fleet.all_workers_live();
    let record = fleet.job(job).await;
    assert_eq!((record.attempt, record.losses), (1, 0), "the attempt outlived both restarts: {record:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q12_a_worker_that_is_told_to_stop_hands_its_sync_to_another() {
    let fleet = Fleet::start(ROWS, "30s", "10s").await;
    let mut random = StdRng::seed_from_u64(fleet.seed());
    let job = fleet.begin_sync().await;
    let holder = fleet.holder_after_progress(job, &mut random).await;
    let fence = fleet.fence(job).await;
    fleet.signal(holder, "TERM");
    let told = Instant::now();
    fleet.claimed_above(job, fence).await;
    assert!(told.elapsed() < Duration::from_secs(2), "the job was claimable after {:?}", told.elapsed());
    fleet.finished_well(job).await;
    fleet.records_equal_the_source().await;
    let record = fleet.job(job).await;
    assert_eq!((record.failures, record.losses), (0, 0), "handing back is not charged: {record:?}");
}
