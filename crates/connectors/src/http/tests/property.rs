//! I3 over random sources: whatever the ties, the pages, the batches and the order.

use std::sync::Arc;

use proptest::prelude::*;

use super::server::{Server, json};
use crate::testing::Sink;

/// Cursor values of the rows, ascending or not; rows per page; rows per batch; whether the order is promised.
fn sources() -> impl Strategy<Value = (Vec<i64>, usize, usize, bool)> {
    (prop::collection::vec(0i64..6, 0..25), 1usize..6, 1usize..6, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn i3_any_source_read_with_crashes_gives_the_rows_of_an_undisturbed_run(
        (mut cursors, page, batch, ascending) in sources(),
        settle in 0i64..3,
    ) {
        // A promise that is sometimes broken: the run must end well all the same.
        if ascending && cursors.len() % 3 != 0 {
            cursors.sort_unstable();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(compare(cursors, page, batch, ascending, settle));
    }
}

async fn compare(cursors: Vec<i64>, page: usize, batch: usize, ascending: bool, settle: i64) {
    let rows = Arc::new(cursors);
    let count = rows.len();
    let server = Server::start(move |seen, _| {
        let since = seen.param("since").map_or(i64::MIN, |text| text.parse().unwrap());
        let fitting = rows.iter().enumerate().filter(|(_, at)| **at >= since);
        let rows: Vec<_> = fitting
            .skip(seen.number("skip"))
            .take(page)
            .map(|(id, at)| format!(r#"{{"id":{id},"at":{at}}}"#))
            .collect();
        json(format!("[{}]", rows.join(",")))
    })
    .await;
    let stream = format!(
        "pagination = {{ type = \"offset\", param = \"skip\" }}\ncursor = {{ field = \"at\", type = \"integer\" }}\n\
         settle = {settle}\norder = \"{}\"\ncursor_param = {{ name = \"since\" }}",
        if ascending { "ascending" } else { "unordered" }
    );
    let (source, definition) = server.source("", &stream).await;
    let stream = &definition.streams()[0];
    let (mut whole, mut crashed) = (Sink::default(), Sink::default());
    whole.run(&source, stream, batch).await.unwrap();
    crashed.run_with_crashes(&source, stream, batch).await;
    assert_eq!(whole.records.len(), count);
    assert_eq!(whole.records, crashed.records);
    assert_eq!(whole.state.cursor(), crashed.state.cursor());
}
