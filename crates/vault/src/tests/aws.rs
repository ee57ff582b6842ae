//! AWS KMS as moto has it: a stand-in that keeps keys and their contexts as AWS documents them. It checks no signature and
//! lets a disabled key go on, so refusals are a server's of our own, with AWS's documented answers.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use uuid::Uuid;

use super::house::{ACME, DAY, House};
use crate::{
    AccessError, AwsKms, DekId, KeyReference, KeyService, Owner, ServiceClass, ServiceError, Services, Vault,
    Vendor, Wrapping, cipher::random_key, rotation::Action,
};

const WRAPPING: Wrapping<'static> =
    Wrapping { owner: Owner::Platform, relation: "a.t", dek: DekId(Uuid::nil()) };

const ACCESS: &str = "[other]\naws_access_key_id = no\n[default]\naws_access_key_id = AKIDEXAMPLE\n\
                      aws_secret_access_key = a secret\naws_session_token=a token\n";

/// It takes some seconds on an idle machine.
const START_MAX: Duration = Duration::from_mins(2);

struct Moto {
    url: String,
    folder: tempfile::TempDir,
    _process: Child,
}

impl Moto {
    async fn start() -> Self {
        let mut process = Command::new(program().await)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env("PYTHONUNBUFFERED", "1")
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let serving = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, url)) = line.split_once("Running on ") {
                    return format!("{}/", url.trim().trim_end_matches('/'));
                }
            }
            panic!("moto ended before it served");
        };
        let url = tokio::time::timeout(START_MAX, serving).await.expect("moto says where it serves");
        // Whatever else it says is read, so that it never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { url, folder: tempfile::tempdir().unwrap(), _process: process }
    }

    fn service(&self) -> AwsKms {
        service(self.folder.path(), &self.url)
    }

    /// A key as its owner makes it.
    async fn key(&self) -> KeyReference {
        let nobody =
            KeyReference { vendor: Vendor::Aws, region: "eu-central-1".into(), key_id: String::new() };
        let made: Value = self.service().call(&nobody, "CreateKey", "{}").await.unwrap();
        let key_id = made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
        KeyReference { key_id, ..nobody }
    }

    async fn owner(&self, key: &KeyReference, operation: &str) {
        // moto wants the name without what stands before it here, and answers with nothing at all.
        let id = key.key_id.rsplit('/').next();
        let body = json!({ "KeyId": id }).to_string();
        let _empty: Result<Value, _> = self.service().call(key, operation, &body).await;
    }
}

fn service(folder: &Path, url: &str) -> AwsKms {
    AwsKms::new(&credentials(folder, ACCESS, 0o600), Some(url.to_owned())).unwrap()
}

fn credentials(folder: &Path, text: &str, mode: u32) -> std::path::PathBuf {
    let path = folder.join("credentials");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

/// Installed by the first test that needs it.
async fn program() -> String {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/install-moto");
    let installed = Command::new(install).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(installed.status.success(), "ops/install-moto failed");
    String::from_utf8(installed.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k6_k8_a_key_of_aws_wraps_for_its_place_alone_and_not_once_it_is_disabled() {
    let moto = Moto::start().await;
    let (aws, key) = (moto.service(), moto.key().await);
    let dek = random_key();
    let wrapped = aws.wrap(&key, &WRAPPING, &dek).await.unwrap();
    assert_eq!(aws.version(&key).await.unwrap(), wrapped.version);
    let back = aws.unwrap(&key, &WRAPPING, &wrapped).await.unwrap();
    assert_eq!(back.expose_secret(), dek.expose_secret());
    let elsewhere = Wrapping { owner: ACME, ..WRAPPING };
    let refused = aws.unwrap(&key, &elsewhere, &wrapped).await;
    assert!(matches!(refused, Err(ServiceError::DoesNotUnwrap(_))), "{refused:?}");
    moto.owner(&key, "DisableKey").await;
    for refused in [aws.version(&key).await.err(), aws.wrap(&key, &WRAPPING, &dek).await.err()] {
        let refused = refused.unwrap();
        assert_eq!(refused.class(), ServiceClass::Configuration);
        assert!(refused.to_string().contains("it is Disabled"), "{refused}");
    }
    moto.owner(&key, "EnableKey").await;
    assert!(aws.unwrap(&key, &WRAPPING, &wrapped).await.is_ok());
    let unknown = KeyReference { key_id: Uuid::new_v4().to_string(), ..key.clone() };
    let refused = aws.wrap(&unknown, &WRAPPING, &dek).await.unwrap_err();
    assert!(refused.to_string().contains("NotFoundException"), "{refused}");
    let nowhere = KeyReference { region: "../evil".into(), ..key };
    assert_eq!(aws.version(&nowhere).await.unwrap_err().class(), ServiceClass::Configuration);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_a_tenant_that_brings_its_own_key_has_its_secrets_moved_under_it() {
    let moto = Moto::start().await;
    let key = moto.key().await;
    let mut house = House::with(5).await;
    let texts = house.texts().await;
    let services = Services::none()
        .with(Vendor::Local, house.service.clone())
        .with(Vendor::Aws, Arc::new(moto.service()));
    house.vault = Vault::keeping(services, Duration::ZERO);
    let mut conn = house.connect().await;
    let mut tx = conn.begin().await.unwrap();
    assert!(house.vault.name_kek(&mut tx, ACME, &key).await.unwrap().1);
    tx.commit().await.unwrap();
    let counts = house.real(Action::Rewrap, DAY).await;
    assert_eq!((counts.rotated, counts.already), (1, 0));
    assert_eq!(house.real(Action::Rewrap, DAY).await.rotated, 0);
    let vendor = "select vendor || ' ' || region from governance.kek k join governance.dek d on d.kek = k.id";
    assert_eq!((house.texts().await, house.one(vendor).await), (texts, "aws eu-central-1".into()));
    // Revoked, as AWS answers then, which moto does not: nothing of the tenant opens, and the reason is plain.
    let disabled = r#"{"__type":"DisabledException","message":"arn is disabled."}"#;
    let url = answering("400 Bad Request", disabled).await;
    let revoked = service(moto.folder.path(), &url);
    house.vault = Vault::keeping(Services::none().with(Vendor::Aws, Arc::new(revoked)), Duration::ZERO);
    let told = house.texts().await;
    assert!(told[0].1.contains("DisabledException") && told[0].1.contains("owner"), "{told:?}");
    let refused = house.try_real(Action::Reseal, DAY).await;
    assert!(format!("{refused:?}").contains("Refused"), "{refused:?}");
}

/// A server that answers every call alike, once it has read it.
async fn answering(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut read = vec![0; 65_536];
                let _gone = stream.read(&mut read).await;
                let answer = format!(
                    "HTTP/1.1 {status}\r\nretry-after: 7\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _gone = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k8_what_aws_answers_is_classed_by_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyReference { vendor: Vendor::Aws, region: "eu-central-1".into(), key_id: "k".into() };
    let class = async |status, body| {
        let url = answering(status, body).await;
        service(folder.path(), &url).version(&key).await.unwrap_err().class()
    };
    let throttled = ServiceClass::Throttled(Duration::from_secs(7));
    assert_eq!(
        class("400 Bad Request", r#"{"__type":"ThrottlingException","message":"slow"}"#).await,
        throttled
    );
    assert_eq!(class("429 Too Many Requests", "").await, throttled);
    assert_eq!(class("503 Service Unavailable", "<html>").await, ServiceClass::Transient);
    assert_eq!(class("200 OK", "<html>").await, ServiceClass::Transient);
    let denied =
        r#"{"__type":"com.amazonaws.kms#AccessDeniedException","message":"User x is not authorized"}"#;
    assert_eq!(class("400 Bad Request", denied).await, ServiceClass::Configuration);
    let internal = r#"{"__type":"KMSInternalException"}"#;
    assert_eq!(class("500 Internal Server Error", internal).await, ServiceClass::Transient);
    let nobody = service(folder.path(), "http://127.0.0.1:9/").version(&key).await.unwrap_err();
    assert_eq!(nobody.class(), ServiceClass::Transient);
}

#[tokio::test]
async fn an_access_key_that_others_can_read_or_that_is_none_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = |text: &str, mode| AwsKms::new(&credentials(folder.path(), text, mode), None).map(drop);
    assert!(open(ACCESS, 0o600).is_ok());
    assert!(matches!(open(ACCESS, 0o644), Err(AccessError::TooOpen { mode: 0o644, .. })));
    let other = open("[other]\naws_access_key_id = a\naws_secret_access_key = b\n", 0o600);
    assert!(matches!(other, Err(AccessError::Incomplete { member: "aws_access_key_id", .. })), "{other:?}");
    let half = open("[default]\naws_access_key_id = a\n[other]\naws_secret_access_key = b\n", 0o600);
    assert!(matches!(half, Err(AccessError::Incomplete { member: "aws_secret_access_key", .. })), "{half:?}");
    let absent = AwsKms::new(&folder.path().join("absent"), None).map(drop);
    assert!(matches!(absent, Err(AccessError::File { .. })), "{absent:?}");
}
