//! Writebacks on a Postgres and on an HTTP server: struck at every arrow, beside people who edit, and against servers
//! that lie.

mod arrows;
mod consent;
pub(crate) mod house;
mod kinto;
mod live;
mod lying;
mod people;
mod redefined;
pub(crate) mod server;

use self::arrows::Change;
use crate::testing::battery;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_w6_writeback_passes_the_battery_on_postgres() {
    battery(&Change::default(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_w6_writeback_passes_the_battery_on_http() {
    battery(&Change { is_http: true, ..Change::default() }, true).await;
}
