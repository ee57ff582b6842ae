//! A source to try connectors on: a small CRM with the faults that such data has.
//!
//! Always the same rows, made without chance, so that counts can be told beforehand. What is in it stands in
//! `sample.sql`.

use std::collections::HashMap;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{provision::literal, scram};

/// What the sample's database is called by those who make one of its own.
pub const DATABASE: &str = "crm_sample";

/// Makes the schema `crm` in the database of this connection unless it is there; answers whether it was made. Whole or
/// not at all.
pub async fn make(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let exists = sqlx::query_scalar!(
        r#"-- sample.exists
        select to_regclass('crm.contacts') is not null as "exists!""#
    )
    .fetch_one(&mut *conn)
    .await?;
    if !exists {
        // Sent as one message, the statements are one transaction.
        sqlx::raw_sql(include_str!("sample.sql")).execute(conn).await?;
    }
    Ok(!exists)
}

/// The role that may change telephone numbers in the sample and read its contacts, and nothing else.
pub const WRITER: &str = "crm_sample_writer";

/// Makes that role unless it is there, and gives it this password.
pub async fn admit_writer(conn: &mut PgConnection, password: &SecretString) -> Result<(), sqlx::Error> {
    // The verifier, never the password: statements are logged.
    let verifier = literal(&scram::verifier(password.expose_secret()));
    let statements = format!(
        "do $$ begin create role {WRITER}; exception when duplicate_object or unique_violation then null; end $$;
        alter role {WRITER} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password {verifier};
        grant usage on schema crm to {WRITER};
        grant select, update (phone) on crm.contacts to {WRITER};"
    );
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(conn).await.map(drop)
}

/// The right telephone number of contacts, by their id, as people at the desk know it.
pub async fn desk(conn: &mut PgConnection) -> Result<HashMap<i64, String>, sqlx::Error> {
    let known = sqlx::query_as("-- sample.desk\nselect contact_id, phone from crm.desk");
    Ok(known.fetch_all(conn).await?.into_iter().collect())
}

/// Does what a person at the desk does: changes a contact's telephone number.
pub async fn edit(conn: &mut PgConnection, contact: i64, phone: &str) -> Result<(), sqlx::Error> {
    let edited = sqlx::query("-- sample.edit\nupdate crm.contacts set phone = $2 where id = $1");
    edited.bind(contact).bind(phone).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;

    #[tokio::test]
    async fn the_sample_has_the_faults_it_promises_and_is_made_once() {
        let mut conn = TestDatabase::create().await.connect().await;
        assert!(make(&mut conn).await.unwrap());
        assert!(!make(&mut conn).await.unwrap());
        let faults: Vec<(String, i64)> = sqlx::query_as(
            "select * from (values
                ('contacts', (select count(*) from crm.contacts)),
                ('without a cursor', (select count(*) from crm.contacts where updated_at is null)),
                ('over one MiB', (select count(*) from crm.contacts where octet_length(notes) > 1 << 20)),
                ('without a name', (select count(*) from crm.contacts where full_name is null)),
                ('largest tie', (select max(n) from (select count(*) as n from crm.contacts group by updated_at) t)),
                ('e-mails used twice', (select count(*) from
                    (select lower(email) from crm.contacts group by 1 having count(*) > 1) t)),
                ('bad phones', (select count(*) from crm.contacts where phone !~ '^\\+[0-9]{8,15}$')),
                ('longest number', (select max(length(regexp_replace(lifetime_value::text, '[^0-9]', '', 'g')))
                    from crm.contacts)),
                ('leads', (select count(*) from crm.legacy_leads)),
                ('numbers the desk knows', (select count(*) from crm.desk)),
                ('of them in Munich', (select count(*) from crm.desk where phone like '+4989%')),
                ('leads without a key', (select count(*) from crm.legacy_leads where id is null))
            ) as fault(name, count)",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        let expected = [
            ("contacts", 5_000),
            ("without a cursor", 7),
            ("over one MiB", 3),
            ("without a name", 50),
            ("largest tie", 400),
            ("e-mails used twice", 120),
            ("bad phones", 313),
            ("longest number", 30),
            ("leads", 250),
            ("numbers the desk knows", 52),
            ("of them in Munich", 4),
            ("leads without a key", 12),
        ];
        assert_eq!(faults, expected.map(|(name, count)| (name.to_owned(), count)));
    }
}
