//! From a candidate's definition to what decides its cases: the one place that knows which engines there are.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use governance::{
    candidate::{Definition, ENGINE},
    path::{self, PathError},
    policy::{self, PolicyError},
    shadow::{Judge, Ruled},
};
use sqlx::PgConnection;

/// The engines of this process.
pub(crate) trait Judges: Send + Sync {
    /// The judge that a definition describes, to the letter.
    fn of<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        definition: &'a Definition,
    ) -> BoxFuture<'a, Result<Arc<dyn Judge>, NoJudge>>;
}

/// Why nothing here can be what a definition describes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoJudge {
    /// It asks for a model, or for another meaning of the rules than this program's.
    #[error("this program has no engine for what the candidate is defined to be")]
    NoEngine,
    /// The stored rules are others than those that the definition names.
    #[error("the stored policy is not the one that the candidate is defined by")]
    OtherPolicy,
    /// The path is gone.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The rules are gone, or no longer taken.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Those that are built in: rules alone. A definition that asks for more is refused rather than approximated.
pub(crate) struct BuiltIn;

impl Judges for BuiltIn {
    fn of<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        definition: &'a Definition,
    ) -> BoxFuture<'a, Result<Arc<dyn Judge>, NoJudge>> {
        async {
            let Definition { path, policy, model, prompt, tools, redaction, engine } = definition;
            let rules_alone = model.is_none() && prompt.is_none() && tools.is_empty() && redaction.is_none();
            let version = i32::try_from(policy.version).ok().filter(|_| rules_alone && *engine == ENGINE);
            let version = version.ok_or(NoJudge::NoEngine)?;
            let path = path::by_name(conn, path).await?;
            let (stored, compiled) = policy::load(conn, &path, Some(version)).await?;
            if stored.digest != policy.digest || compiled.digest() != policy.digest {
                return Err(NoJudge::OtherPolicy);
            }
            Ok(Arc::new(Ruled::by(compiled)) as Arc<dyn Judge>)
        }
        .boxed()
    }
}
