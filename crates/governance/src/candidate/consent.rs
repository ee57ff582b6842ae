//! The approvals as those who say yes to a promotion.

use serde_json::json;
use sqlx::PgConnection;

use super::{Consent, ConsentError, Promotion};
use crate::{
    actor::ActorId,
    approval::{self, RequestError, Requested, Terms},
    gate::ActionClass,
};

/// The approvals of this database, for the candidate of this name.
#[derive(Clone, Copy, Debug)]
pub struct Approvals<'a>(pub &'a str);

impl Approvals<'_> {
    /// Asks for an approval of the promotion. The same is asked for once at a time.
    pub async fn ask(
        self,
        conn: &mut PgConnection,
        promotion: &Promotion,
        by: ActorId,
    ) -> Result<Requested, RequestError> {
        approval::request(conn, &self.terms(promotion), by, None).await
    }

    fn terms(self, promotion: &Promotion) -> Terms {
        let Promotion { candidate, from, to, generation, snapshot, .. } = promotion;
        let plan = json!({
            "candidate": self.0, "digest": candidate, "from": from, "to": to, "generation": generation,
            "snapshot": snapshot,
        });
        let validators = json!({ "generation": generation, "snapshot": snapshot });
        let target = format!("candidate/{}", self.0);
        Terms {
            validators,
            limits: json!({ "phases": 1 }),
            ..Terms::new(ActionClass::promotion(), self.0.to_owned(), vec![target], plan)
        }
    }

    async fn use_up(
        self,
        conn: &mut PgConnection,
        promotion: &Promotion,
        by: ActorId,
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        // The request that is open for exactly this, or a new one that goes with the transaction when nobody has said yes.
        let Requested { id, digest, .. } = self.ask(conn, promotion, by).await?;
        let consumed = approval::consume(conn, id, &digest, Some(by), None).await?;
        Ok(consumed.id.to_string())
    }
}

impl Consent for Approvals<'_> {
    async fn consume(
        &self,
        conn: &mut PgConnection,
        promotion: &Promotion,
        by: ActorId,
    ) -> Result<String, ConsentError> {
        self.use_up(conn, promotion, by).await.map_err(ConsentError)
    }
}
