//! Keys that are taken out of use, or are not.

use std::time::Duration;

use sqlx::Connection as _;

use super::house::{DAY, House, NOW, cell, key};
use crate::{DekId, KekId, RetireRefused, Retired, census, retire_dek, retire_kek, rotation::Action};

const NO_BACKUPS: Duration = Duration::ZERO;

async fn dek_of(house: &House, state: &str) -> DekId {
    DekId(
        house
            .one(&format!("select id::text from governance.dek where state = '{state}'"))
            .await
            .parse()
            .unwrap(),
    )
}

async fn retire(house: &House, id: DekId, backups: Duration) -> Result<Retired, RetireRefused> {
    let mut conn = house.connect().await;
    let mut tx = conn.begin().await?;
    let retired = retire_dek(&mut tx, id, backups).await?;
    tx.commit().await?;
    Ok(retired)
}

#[tokio::test]
async fn k7_a_key_in_use_is_not_retired_and_one_that_nothing_needs_is() {
    let house = House::with(3).await;
    let active = dek_of(&house, "active").await;
    assert!(matches!(retire(&house, active, NO_BACKUPS).await, Err(RetireRefused::Active(_))));
    // A single value that was left behind.
    house.run(r#"create table app.copy (region text, id bigint, token governance.sealed, primary key (region, id));
        insert into app.copy select region, id, token from app."Odd name" where id = 2"#).await;
    house.real(Action::Reseal, NOW).await;
    let refused = retire(&house, active, NO_BACKUPS).await;
    assert!(
        matches!(&refused, Err(RetireRefused::Seals { values: 1, relation, .. }) if relation == "app.copy"),
        "{refused:?}"
    );
    house.run("delete from app.copy").await;
    let backups = retire(&house, active, DAY).await;
    assert!(matches!(backups, Err(RetireRefused::Backups { .. })), "{backups:?}");
    assert_eq!(retire(&house, active, NO_BACKUPS).await.unwrap(), Retired { is_new: true, destroyed: false });
    assert_eq!(
        retire(&house, active, NO_BACKUPS).await.unwrap(),
        Retired { is_new: false, destroyed: false }
    );
    assert_eq!(house.one("select count(*)::text from governance.dek where wrapped is null").await, "1");
    assert_eq!(house.texts().await[0], (1, "token 1".into(), "pass 1".into()));
}

#[tokio::test]
async fn k7_a_value_sealed_but_not_yet_committed_keeps_its_key_from_being_retired() {
    let house = House::with(3).await;
    let mut writer = house.connect().await;
    let mut tx = writer.begin().await.unwrap();
    let id = key(4);
    let sealed = house.vault.seal(&mut tx, &cell(&id, "token"), b"late").await.unwrap();
    let old = sealed.dek();
    let write = async {
        // The rotation waits for this transaction before it makes another key.
        let waits = "select count(*)::text from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        while house.one(waits).await == "0" {
            tokio::task::yield_now().await;
        }
        sqlx::query(r#"insert into app."Odd name" (region, id, token) values ('eu', 4, $1)"#)
            .bind(sealed)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    let (counts, ()) = tokio::join!(house.real(Action::Reseal, NOW), write);
    assert_eq!((counts.rotated, counts.null), (7, 1));
    assert!(retire(&house, old, NO_BACKUPS).await.unwrap().is_new);
    assert_eq!(house.texts().await[3].1, "late");
}

#[tokio::test]
async fn k7_a_key_services_key_is_kept_while_it_wraps_anything_and_then_destroyed() {
    let house = House::with(3).await;
    let mut conn = house.connect().await;
    let second = crate::KeyService::create(&*house.service).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let (kek, is_new) = house.vault.name_kek(&mut tx, super::house::ACME, &second).await.unwrap();
    assert!(is_new);
    tx.commit().await.unwrap();
    let first = house.one("select id::text from governance.kek where state = 'former'").await;
    let first = KekId(first.parse().unwrap());
    let refused = retire_kek(&mut conn, first, NO_BACKUPS).await;
    assert!(matches!(refused, Err(RetireRefused::Wraps { deks: 1, .. })), "{refused:?}");
    assert!(matches!(retire_kek(&mut conn, kek.id, NO_BACKUPS).await, Err(RetireRefused::Active(_))));
    house.real(Action::Rewrap, DAY).await;
    let counted = census(&mut conn).await.unwrap();
    let wraps: Vec<i64> = counted.keks.iter().map(|it| it.wraps.values().sum()).collect();
    assert_eq!((counted.deks[0].kek, counted.deks[0].values, wraps.iter().sum::<i64>()), (kek.id, 6, 1));
    assert!(!house.vault.destroy_kek(&mut conn, first).await.unwrap(), "it is not retired yet");
    assert!(retire_kek(&mut conn, first, NO_BACKUPS).await.unwrap().is_new);
    assert!(house.vault.destroy_kek(&mut conn, first).await.unwrap());
    assert_eq!(house.texts().await[0], (1, "token 1".into(), "pass 1".into()));
}

#[tokio::test]
async fn a_retired_key_opens_nothing_and_its_values_say_so() {
    let house = House::with(2).await;
    let old = dek_of(&house, "active").await;
    house
        .run(
            r#"create table app.backup as select * from app."Odd name";
            alter table app.backup alter token type bytea, alter "Pass" type bytea"#,
        )
        .await;
    house.real(Action::Reseal, NOW).await;
    retire(&house, old, NO_BACKUPS).await.unwrap();
    // As a restored backup would bring it.
    house
        .run(
            r#"update app."Odd name" t set token = b.token from app.backup b where t.id = b.id and t.id = 1"#,
        )
        .await;
    let texts = house.texts().await;
    assert!(texts[0].1.contains("which was retired"), "{texts:?}");
    assert_eq!(texts[1].1, "token 2");
    let mut conn = house.connect().await;
    let unknown = crate::DekId(uuid::Uuid::new_v4());
    let none = retire_dek(&mut conn, unknown, NO_BACKUPS).await;
    assert!(matches!(none, Err(RetireRefused::NotFound(_))), "{none:?}");
}
