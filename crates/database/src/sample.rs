//! A source to try connectors on: a small CRM with the faults that such data has.
//!
//! Always the same rows, made without chance, so that counts can be told beforehand. What is in it stands in
//! `sample.sql`.

use sqlx::PgConnection;

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
            ("leads without a key", 12),
        ];
        assert_eq!(faults, expected.map(|(name, count)| (name.to_owned(), count)));
    }
}
