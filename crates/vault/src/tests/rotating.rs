//! Rotations of values and of keys.

use std::time::Duration;

use sqlx::Connection as _;

use super::house::{DAY, House, NOW, key};
use crate::{
    CatalogError, VaultError,
    rotation::{Action, Counts, Progress, Reason, RotationError},
};

/// 23 rows of two values, every fifth token null.
const ROTATED: Counts = Counts { rotated: 42, already: 0, null: 4, undecryptable: 0, raced: 0 };
const ALREADY: Counts = Counts { rotated: 0, already: 42, null: 4, undecryptable: 0, raced: 0 };

#[tokio::test]
async fn k1_k2_a_reseal_keeps_every_text_and_a_second_one_changes_no_byte() {
    let house = House::with(23).await;
    let (texts, bytes) = (house.texts().await, house.digest().await);
    assert_eq!(house.real(Action::Reseal, NOW).await, ROTATED);
    assert_eq!(house.texts().await, texts);
    assert_eq!(house.under().await, "active 42");
    let after = house.digest().await;
    assert_ne!(after, bytes);
    assert_eq!(house.real(Action::Reseal, DAY).await, ALREADY);
    assert_eq!(house.digest().await, after);
    // Forced, it makes a third key.
    assert_eq!(house.real(Action::Reseal, NOW).await, ROTATED);
    assert_eq!(house.one("select count(*)::text from governance.dek").await, "3");
    assert_eq!(house.texts().await, texts);
}

#[tokio::test]
async fn k1_k2_a_rewrap_touches_no_value_and_a_second_one_no_key() {
    let house = House::with(3).await;
    let values = r#"select md5(string_agg(t::text, '|' order by id)) from app."Odd name" t"#;
    let (texts, bytes) = (house.texts().await, house.one(values).await);
    house.real(Action::Reseal, NOW).await;
    let resealed = house.one(values).await;
    assert_ne!(resealed, bytes);
    let counts = house.real(Action::Rewrap, NOW).await;
    assert_eq!((counts.rotated, counts.already), (2, 0));
    assert_eq!(house.one("select string_agg(distinct kek_version, ',') from governance.dek").await, "2");
    assert_eq!((house.texts().await, house.one(values).await), (texts, resealed));
    let after = house.digest().await;
    let counts = house.real(Action::Rewrap, DAY).await;
    assert_eq!((counts.rotated, counts.already), (0, 2));
    assert_eq!(house.digest().await, after);
}

#[tokio::test]
async fn k3_a_dry_run_leaves_every_byte_and_predicts_the_counts() {
    let house = House::with(23).await;
    house.run(r#"update app."Odd name" a set token = b.token from app."Odd name" b where a.id = 3 and b.id = 4"#).await;
    for action in [Action::Reseal, Action::Rewrap] {
        for older_than in [NOW, DAY] {
            let (before, keyring) = (house.digest().await, std::fs::read(&house.keyring).unwrap());
            let (predicted, named) = house.dry(action, older_than).await;
            assert_eq!(house.digest().await, before, "{action} {older_than:?}");
            assert_eq!(std::fs::read(&house.keyring).unwrap(), keyring);
            let (counts, faults) = house.try_real(action, older_than).await.unwrap();
            assert_eq!((predicted, named), (counts, faults), "{action} {older_than:?}");
        }
    }
}

#[tokio::test]
async fn k3_a_dry_run_that_wrote_would_be_refused_by_postgres() {
    let house = House::with(3).await;
    let mut conn = house.connect().await;
    let read_only = "begin transaction isolation level repeatable read, read only";
    let mut tx = conn.begin_with(read_only).await.unwrap();
    let key = key(1);
    let refused = house.vault.seal(&mut tx, &super::house::cell(&key, "token"), b"x").await;
    let Err(VaultError::Database(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "25006");
}

#[tokio::test]
async fn k4_a_corrupted_row_is_named_and_left_and_all_others_are_rotated() {
    let house = House::with(23).await;
    house
        .run(
            r#"update app."Odd name" set token = set_byte(token, 50, get_byte(token, 50) # 1) where id = 9;
            update app."Odd name" set "Pass" = set_byte("Pass", 20, get_byte("Pass", 20) # 1) where id = 17"#,
        )
        .await;
    let token = r#"select token::text from app."Odd name" where id = 9"#;
    let (before, texts) = (house.one(token).await, house.texts().await);
    let (counts, faults) = house.try_real(Action::Reseal, NOW).await.unwrap();
    assert_eq!(counts, Counts { rotated: 40, undecryptable: 2, ..ROTATED });
    let named: Vec<_> = faults.iter().map(|it| (it.column.as_str(), it.key[1].as_str(), it.reason)).collect();
    assert_eq!(named, [("Pass", "17", Reason::UnknownKey), ("token", "9", Reason::Damaged)]);
    assert_eq!((house.one(token).await, house.texts().await), (before, texts));
    // It is found again, and nothing else is done.
    let (again, faults) = house.try_real(Action::Reseal, DAY).await.unwrap();
    assert_eq!((again.rotated, again.undecryptable, faults.len()), (0, 2, 2));
}

#[tokio::test]
async fn k4_a_key_that_does_not_unwrap_costs_its_own_values_alone() {
    let house = House::with(4).await;
    house.real(Action::Reseal, NOW).await;
    house.write(5, "token 5", "pass 5").await;
    // What an old key sealed, put back by hand; then that key is damaged.
    house
        .run(
            "update governance.dek set wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1) where state = 'former'",
        )
        .await;
    let (counts, faults) = house.try_real(Action::Rewrap, NOW).await.unwrap();
    assert_eq!((counts.rotated, counts.undecryptable, faults[0].reason), (1, 1, Reason::LostKey));
    assert_eq!(house.texts().await[4], (5, "token 5".into(), "pass 5".into()));
}

#[tokio::test]
async fn k5_what_somebody_writes_between_our_look_and_our_write_stands() {
    let house = House::with(3).await;
    let mut writer = house.connect().await;
    let mut tx = writer.begin().await.unwrap();
    sqlx::query(r#"update app."Odd name" set note = 'held' where id = 2"#).execute(&mut *tx).await.unwrap();
    let rotating = house.try_real(Action::Reseal, NOW);
    let writing = async {
        // The page waits for the writer's row.
        let waits = "select count(*)::text from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        while house.one(waits).await == "0" {
            tokio::task::yield_now().await;
        }
        let id = key(2);
        let fresh = house.vault.seal(&mut tx, &super::house::cell(&id, "Pass"), b"a person's").await.unwrap();
        sqlx::query(r#"update app."Odd name" set "Pass" = $1 where id = 2"#)
            .bind(fresh)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    let (rotated, ()) = tokio::join!(rotating, writing);
    let (counts, faults) = rotated.unwrap();
    assert_eq!((counts.rotated, counts.raced, faults.len()), (5, 1, 0));
    assert_eq!(house.texts().await[1], (2, "token 2".into(), "a person's".into()));
    assert_eq!(house.under().await, "active 6");
}

#[tokio::test]
async fn k5_a_row_that_goes_meanwhile_is_raced_and_one_that_comes_is_under_the_new_key() {
    let house = House::with(9).await;
    let mut progress = Progress::default();
    let mut rotation = crate::rotation::Rotation::real(
        house.vault.clone(),
        super::house::ACME,
        crate::rotation::Settings { action: Action::Reseal, older_than: NOW, page_rows: 7 },
        "request".into(),
    );
    let mut conn = house.connect().await;
    for _ in 0..2 {
        let mut tx = conn.begin().await.unwrap();
        rotation.advance(&mut tx, &mut progress).await.unwrap();
        tx.commit().await.unwrap();
    }
    house.run(r#"delete from app."Odd name" where id = 8"#).await;
    house.write(10, "token 10", "pass 10").await;
    house.write(1, "token new", "pass new").await;
    let (counts, _) = house.go_on(Action::Reseal, NOW, &mut progress).await.unwrap();
    assert_eq!(counts.undecryptable, 0);
    assert_eq!(house.under().await, "active 17");
    assert_eq!(house.texts().await[0], (1, "token new".into(), "pass new".into()));
}

#[tokio::test]
async fn columns_are_found_by_their_type_and_a_table_that_cannot_be_rotated_is_named() {
    let house = House::with(1).await;
    house.run("create table app.late (id uuid primary key, secret governance.sealed)").await;
    let found = crate::columns(&mut house.connect().await).await.unwrap();
    let names: Vec<_> = found.iter().map(|it| format!("{} {}", it.relation(), it.column)).collect();
    assert_eq!(names, ["app.Odd name Pass", "app.Odd name token", "app.late secret"]);
    let refuses = async |sql: &str| {
        house.run(sql).await;
        let refused = house.try_real(Action::Reseal, NOW).await;
        let Err(RotationError::Vault(VaultError::Catalog(error))) = refused else { panic!("{refused:?}") };
        error
    };
    let keyless = refuses("create table app.keyless (secret governance.sealed)").await;
    assert!(matches!(keyless, CatalogError::NoKey(name) if name == "app.keyless"));
    let dated = "drop table app.keyless; create table app.dated (at timestamptz primary key, secret governance.sealed)";
    assert!(matches!(refuses(dated).await, CatalogError::KeyType { column, .. } if column == "at"));
    let listed =
        "drop table app.dated; create table app.listed (id int primary key, secrets governance.sealed[])";
    assert!(matches!(refuses(listed).await, CatalogError::Within(name) if name == "app.listed"));
    let view =
        r#"drop table app.listed; create materialized view app.seen as select token from app."Odd name""#;
    assert!(matches!(refuses(view).await, CatalogError::NoTable(name) if name == "app.seen"));
}

#[tokio::test]
async fn a_rotation_that_another_overtook_stops_and_loses_nothing() {
    let house = House::with(9).await;
    let texts = house.texts().await;
    let mut progress = Progress::default();
    let mut conn = house.connect().await;
    let settings = crate::rotation::Settings { action: Action::Reseal, older_than: NOW, page_rows: 7 };
    let mut first =
        crate::rotation::Rotation::real(house.vault.clone(), super::house::ACME, settings, "one".into());
    let mut tx = conn.begin().await.unwrap();
    first.advance(&mut tx, &mut progress).await.unwrap();
    tx.commit().await.unwrap();
    house.real(Action::Reseal, NOW).await;
    let stopped = house.go_on(Action::Reseal, NOW, &mut progress).await;
    assert!(matches!(stopped, Err(RotationError::Overtaken(_))), "{stopped:?}");
    assert_eq!((house.texts().await, house.under().await), (texts, "active 17".into()));
}

#[tokio::test]
async fn keys_kept_in_memory_are_let_go_after_their_time() {
    let house = House::with(1).await;
    let services = crate::Services::none().with(crate::Vendor::Local, house.service.clone());
    let vault = crate::Vault::keeping(services, Duration::from_hours(1));
    let mut conn = house.connect().await;
    let sealed: crate::Sealed =
        sqlx::query_scalar(r#"select token from app."Odd name""#).fetch_one(&mut conn).await.unwrap();
    let key = key(1);
    let cell = super::house::cell(&key, "token");
    vault.open(&mut conn, &cell, &sealed).await.unwrap();
    house.service.fail_after(0, super::house::Fate::Revoked);
    assert!(vault.open(&mut conn, &cell, &sealed).await.is_ok(), "it is in memory");
    let refused = house.vault.open(&mut conn, &cell, &sealed).await;
    assert!(matches!(refused, Err(VaultError::Service(_))), "its time is over at once: {refused:?}");
}
