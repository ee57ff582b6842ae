//! What an error of the source's database means for a run.

use sqlx::Error;

use super::PgSource;
use crate::error::{Place, SourceError};

impl PgSource {
    /// The meaning of `error`, which happened while `doing`.
    pub(super) fn failure(&self, place: &Place, doing: &str, error: &Error) -> SourceError {
        let cause = self.scrubber.cause(error);
        let what = format!("{doing} failed");
        let Error::Database(database) = error else {
            return match error {
                Error::Configuration(_) | Error::Tls(_) => place.configuration_by(
                    what,
                    format!("correct `{}.url`: host, sslmode and sslrootcert", self.section),
                    cause,
                ),
                Error::ColumnDecode { .. } | Error::Decode(_) => place.poison(
                    format!("{what}: the source sent text that is not UTF-8 ({cause})"),
                    "the source's database declares another encoding than it holds: read through a view that converts",
                ),
                _ => place.transient_by(what, cause),
            };
        };
        let code = database.code().unwrap_or_default();
        match (&code[..2.min(code.len())], code.as_ref()) {
            ("28", _) => place.configuration_by(
                format!("{what}: the source refuses the credential"),
                format!(
                    "correct the user in `{}.url` or the password (`{}`)",
                    self.section, self.password_key
                ),
                cause,
            ),
            (_, "3D000") => {
                place.configuration_by(what, format!("correct the database in `{}.url`", self.section), cause)
            }
            (_, "42501") => place.configuration_by(
                what,
                "grant usage on the schema and select on the table to the connector's user",
                cause,
            ),
            (_, "57014") => place.incomplete(
                format!("{what}: the source ended the statement ({cause})"),
                format!(
                    "raise `statement_timeout` (now {} s) or give the cursor and key columns an index",
                    self.statement_timeout.as_secs()
                ),
            ),
            ("42", _) => place.configuration_by(what, "correct the stream's definition", cause),
            ("22", _) => place.poison(
                format!("{what}: the source cannot write a row as JSON ({cause})"),
                "leave the column out of `fields`, or correct the row at the source",
            ),
            _ => place.transient_by(what, cause),
        }
    }
}
