//! What a value is bound to, and what is never shown.

use std::sync::Arc;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::house::{ACME, House, RELATION, cell, key};
use crate::{
    Cell, Dek, DekId, KekId, Owner, Sealed, Services, TEXT_BYTES_MAX, Vault, VaultError, Vendor,
    cipher::{Key, random_key},
};

fn dek() -> Dek {
    Dek { id: DekId(Uuid::new_v4()), kek: KekId(Uuid::new_v4()), key: Key::new(&random_key()).unwrap() }
}

#[test]
fn k6_a_value_opens_in_its_own_cell_and_in_no_other() {
    let (dek, key, other_key) = (dek(), ["a".to_owned(), "b".to_owned()], ["a".to_owned(), "c".to_owned()]);
    let home = Cell { owner: ACME, relation: "app.t", column: "c", key: &key };
    let sealed = dek.seal(&home, b"text").unwrap();
    assert_eq!(dek.open(&home, &sealed).unwrap().expose_secret(), b"text");
    let merged = ["ab".to_owned(), String::new()];
    let elsewhere = [
        Cell { owner: Owner::Tenant(Uuid::from_u128(8)), ..home },
        Cell { owner: Owner::Platform, ..home },
        Cell { relation: "app.u", ..home },
        Cell { column: "d", ..home },
        Cell { key: &other_key, ..home },
        // The same bytes, cut otherwise.
        Cell { key: &merged, ..home },
        Cell { relation: "app.tc", column: "", ..home },
    ];
    for cell in elsewhere {
        assert!(dek.open(&cell, &sealed).is_err(), "{cell:?}");
    }
}

#[test]
fn k6_a_value_with_any_bit_changed_does_not_open() {
    let (dek, key) = (dek(), key(1));
    let home = cell(&key, "token");
    let sealed = dek.seal(&home, b"a text").unwrap();
    for at in 0..sealed.as_bytes().len() * 8 {
        let mut bytes = sealed.as_bytes().to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        let opened = Sealed::try_from(bytes).map(|changed| dek.open(&home, &changed).is_ok());
        assert!(!opened.unwrap_or(false), "bit {at}");
    }
}

proptest! {
    #[test]
    fn k1_what_was_sealed_opens_to_the_same_and_never_looks_the_same(text: Vec<u8>, id: i64) {
        let (dek, key) = (dek(), key(id));
        let home = cell(&key, "token");
        let (one, two) = (dek.seal(&home, &text).unwrap(), dek.seal(&home, &text).unwrap());
        prop_assert_ne!(one.as_bytes(), two.as_bytes());
        for sealed in [one, two] {
            let read = Sealed::try_from(sealed.as_bytes().to_vec()).unwrap();
            prop_assert_eq!((read.dek(), read.kek()), (dek.id, dek.kek));
            let opened = dek.open(&home, &read).unwrap();
            prop_assert_eq!(opened.expose_secret(), &text[..]);
        }
    }
}

#[test]
fn a_text_that_the_column_would_not_take_is_refused_before_it_is_sealed() {
    let (dek, key) = (dek(), key(1));
    let longest = vec![0; TEXT_BYTES_MAX];
    let sealed = dek.seal(&cell(&key, "token"), &longest).unwrap();
    assert_eq!(sealed.as_bytes().len(), 1 << 20);
    assert!(dek.seal(&cell(&key, "token"), &vec![0; TEXT_BYTES_MAX + 1]).is_err());
}

#[test]
fn k9_neither_keys_nor_texts_can_be_printed() {
    let bytes = random_key();
    let hidden = format!("{:?} {:?}", dek(), bytes);
    assert!(hidden.contains("[secret]") && hidden.contains("REDACTED"), "{hidden}");
    for byte in bytes.expose_secret().windows(2) {
        assert!(!hidden.contains(&format!("{}, {}", byte[0], byte[1])), "{hidden}");
    }
}

#[tokio::test]
async fn k6_a_value_moved_to_another_row_column_or_tenant_does_not_open() {
    let house = House::with(2).await;
    house
        .run(
            r#"update app."Odd name" a set token = b.token, note = 'moved'
        from app."Odd name" b where a.id = 1 and b.id = 2"#,
        )
        .await;
    let texts = house.texts().await;
    assert!(texts[0].1.contains("does not open"), "{texts:?}");
    house.run(r#"update app."Odd name" set "Pass" = token where id = 2"#).await;
    let texts = house.texts().await;
    assert_eq!(texts[1].1, "token 2");
    assert!(texts[1].2.contains("does not open"), "{texts:?}");
    // The whole database taken for another tenant's: its keys do not even unwrap.
    let mut conn = house.connect().await;
    let (key, value): (_, Sealed) = (
        key(2),
        sqlx::query_scalar(r#"select token from app."Odd name" where id = 2"#)
            .fetch_one(&mut conn)
            .await
            .unwrap(),
    );
    let theirs =
        Cell { owner: Owner::Tenant(Uuid::from_u128(8)), relation: RELATION, column: "token", key: &key };
    let refused = house.vault.open(&mut conn, &theirs, &value).await;
    assert!(matches!(refused, Err(VaultError::Service(_))), "{refused:?}");
}

#[tokio::test]
async fn the_first_secrets_of_a_table_make_one_key_however_many_come_at_once() {
    let house = House::new().await;
    let writes = (1..=8).map(|id| {
        let house = &house;
        async move { house.write(id, "t", "p").await }
    });
    futures_util::future::join_all(writes).await;
    let keys = "select (select count(*) from governance.dek) || ' ' || (select count(*) from governance.kek)";
    assert_eq!(house.one(keys).await, "1 1");
    assert_eq!(house.texts().await.len(), 8);
}

#[tokio::test]
async fn without_a_way_to_the_key_the_error_says_which_setting_is_missing() {
    let house = House::with(1).await;
    let mut conn = house.connect().await;
    let sealed: Sealed =
        sqlx::query_scalar(r#"select token from app."Odd name""#).fetch_one(&mut conn).await.unwrap();
    let stranger = Vault::new(Services::none());
    let refused = stranger.open(&mut conn, &cell(&key(1), "token"), &sealed).await.unwrap_err().to_string();
    assert!(refused.contains("keys.keyring_file"), "{refused}");
    let keyring = crate::Keyring::generate(&house.keyring.with_extension("other")).unwrap();
    let stranger = Vault::new(Services::none().with(Vendor::Local, Arc::new(keyring)));
    let refused = stranger.open(&mut conn, &cell(&key(1), "token"), &sealed).await.unwrap_err().to_string();
    assert!(refused.contains("is of installation"), "{refused}");
}
