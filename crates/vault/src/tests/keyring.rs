//! A keyring file in every bad state.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use uuid::Uuid;

use crate::{
    DekId, KeyReference, KeyService, Keyring, KeyringError, Owner, ServiceError, Wrapping, cipher::random_key,
};

const WRAPPING: Wrapping<'static> =
    Wrapping { owner: Owner::Platform, relation: "a.t", dek: DekId(Uuid::nil()) };

async fn made() -> (tempfile::TempDir, std::path::PathBuf, KeyReference) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.json");
    let keyring = Keyring::generate(&path).unwrap();
    let key = KeyService::create(&keyring).await.unwrap();
    (folder, path, key)
}

#[tokio::test]
async fn a_keyring_is_private_and_never_replaced() {
    let (folder, path, _) = made().await;
    for file in fs::read_dir(folder.path()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
    let before = fs::read(&path).unwrap();
    let refused = Keyring::generate(&path).unwrap_err();
    assert!(matches!(refused, KeyringError::File { .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_missing_an_open_and_a_foreign_keyring_are_each_told_as_what_they_are() {
    let (_folder, path, key) = made().await;
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let refused = Keyring::open(&path).unwrap_err();
    assert!(matches!(refused, KeyringError::TooOpen { mode: 0o640, .. }), "{refused}");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let keyring = Keyring::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(Keyring::open(&path), Err(KeyringError::Missing(_))));
    let missing = keyring.version(&key).await;
    assert!(matches!(missing, Err(ServiceError::Keyring(KeyringError::Missing(_)))), "{missing:?}");
    Keyring::generate(&path).unwrap();
    let foreign = keyring.version(&key).await;
    assert!(
        matches!(foreign, Err(ServiceError::Keyring(KeyringError::OtherInstallation { .. }))),
        "{foreign:?}"
    );
}

#[tokio::test]
async fn a_keyring_cut_off_anywhere_is_damaged_and_tells_no_key() {
    let (_folder, path, _) = made().await;
    let whole = fs::read_to_string(&path).unwrap();
    let key = whole.split("\"key\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for length in 0..whole.trim_end().len() {
        fs::write(&path, &whole[..length]).unwrap();
        let refused = Keyring::open(&path).unwrap_err();
        assert!(matches!(refused, KeyringError::Damaged { .. }), "{length}: {refused}");
    }
    // Changed by hand, in the middle of a key: the message must not repeat it.
    fs::write(&path, whole.replace(&key, &format!("{}!", &key[..20]))).unwrap();
    let refused = format!("{:?}", Keyring::open(&path).unwrap_err());
    assert!(!refused.contains(&key[..8]), "{refused}");
    fs::write(&path, whole.replace(&key, &key[..20])).unwrap();
    assert!(matches!(Keyring::open(&path), Err(KeyringError::Damaged { .. })));
}

#[tokio::test]
async fn k1_a_new_version_is_made_once_for_a_request_and_old_ones_still_unwrap() {
    let (_folder, path, key) = made().await;
    let keyring = Keyring::open(&path).unwrap();
    let dek = random_key();
    let old = keyring.wrap(&key, &WRAPPING, &dek).await.unwrap();
    let advance = async |request: &str| KeyService::advance(&keyring, &key, request).await.unwrap();
    assert_eq!(
        (advance("a").await, advance("a").await, advance("b").await),
        ("2".into(), "2".into(), "3".into())
    );
    let new = keyring.wrap(&key, &WRAPPING, &dek).await.unwrap();
    assert_eq!((old.version.as_str(), new.version.as_str()), ("1", "3"));
    for wrapped in [&old, &new] {
        use secrecy::ExposeSecret as _;
        let back = keyring.unwrap(&key, &WRAPPING, wrapped).await.unwrap();
        assert_eq!(back.expose_secret(), dek.expose_secret());
    }
    let elsewhere = Wrapping { relation: "a.u", ..WRAPPING };
    let refused = keyring.unwrap(&key, &elsewhere, &new).await;
    assert!(matches!(refused, Err(ServiceError::DoesNotUnwrap(_))), "{refused:?}");
    assert!(KeyService::destroy(&keyring, &key).await.unwrap());
    assert!(!KeyService::destroy(&keyring, &key).await.unwrap());
    let gone = keyring.unwrap(&key, &WRAPPING, &new).await;
    assert!(matches!(gone, Err(ServiceError::Keyring(KeyringError::NoKey { .. }))), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_made_at_once_are_all_kept() {
    let (_folder, path, _) = made().await;
    let makes = (0..16).map(|_| {
        let keyring = Keyring::open(&path).unwrap();
        tokio::spawn(async move { KeyService::create(&keyring).await.unwrap() })
    });
    let keyring = Keyring::open(&path).unwrap();
    for made in futures_util::future::join_all(makes).await {
        assert_eq!(keyring.version(&made.unwrap()).await.unwrap(), "1");
    }
}
