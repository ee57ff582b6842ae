//! What the battery strikes at every arrow: the end is that of a clean run, and the target changed once.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use queue::NewJob;

use super::{
    house::{House, Servers, furnish_http, furnish_postgres, wish},
    server::{Lie, Server},
};
use crate::{
    testing::{Stage, Subject},
    writeback::{job, plan},
};

#[derive(Default)]
pub(super) struct Change {
    pub(super) is_http: bool,
    pub(super) servers: Servers,
}

impl Change {
    async fn prepare(&self, stage: &Stage) -> NewJob {
        if self.is_http {
            let server = Arc::new(Server::start(Lie::None).await);
            furnish_http(stage, &server).await;
            self.servers.keep(stage, server);
        } else {
            furnish_postgres(stage).await;
        }
        let mut conn = stage.tenant_connection().await;
        let ada = governance::actor::named(&mut conn, "ada").await.unwrap().id;
        let (planned, asked) =
            plan(&stage.as_request().await, &stage.vault, &wish(ada, "1", "old@x.org"), false).await.unwrap();
        super::house::approve_asked(&mut conn, asked).await;
        job(&stage.tenant, planned.id).unwrap()
    }
}

impl Subject for Change {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(self.prepare(stage))
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            let server = self.servers.of(stage);
            House::end_on(stage, server.as_deref(), governance::writeback::WritebackId(1)).await
        })
    }
}
