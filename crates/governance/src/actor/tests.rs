use database::{migrate, testing::TestDatabase};

use super::*;

async fn connection() -> PgConnection {
    TestDatabase::migrated(&[migrate::governance()]).await.connect().await
}

#[tokio::test]
async fn a_name_is_one_person_from_first_sight_on() {
    let mut conn = connection().await;
    let ada = named(&mut conn, "ada").await.unwrap();
    assert_eq!((ada.name.as_deref(), ada.person), (Some("ada"), ada.id));
    assert_eq!(named(&mut conn, "ada").await.unwrap(), ada);
    assert_ne!(named(&mut conn, "ben").await.unwrap().id, ada.id);
    assert_eq!(by_id(&mut conn, ada.id).await.unwrap(), Some(ada));
}

#[tokio::test]
async fn p2_a_service_resolves_to_the_person_behind_it() {
    let mut conn = connection().await;
    let (ada, ben) = (named(&mut conn, "ada").await.unwrap(), named(&mut conn, "ben").await.unwrap());
    let bot = service(&mut conn, "nightly", ada.id).await.unwrap();
    assert_eq!(bot.person, ada.id);
    assert_eq!(service(&mut conn, "nightly", ada.id).await.unwrap(), bot);
    let stolen = service(&mut conn, "nightly", ben.id).await;
    assert!(matches!(stolen, Err(ActorError::OtherPerson(name)) if name == "nightly"));
    let nested = service(&mut conn, "bot of a bot", bot.id).await;
    assert!(matches!(nested, Err(ActorError::NoPerson(id)) if id == bot.id));
}

#[tokio::test]
async fn two_sessions_that_meet_a_name_at_once_agree() {
    let database = TestDatabase::migrated(&[migrate::governance()]).await;
    let (mut one, mut other) = (database.connect().await, database.connect().await);
    let (one, other) = tokio::join!(named(&mut one, "ada"), named(&mut other, "ada"));
    assert_eq!(one.unwrap(), other.unwrap());
}

#[tokio::test]
async fn what_is_no_name_is_refused() {
    let mut conn = connection().await;
    for bad in ["", " ", " ada", "ada\n", "a\0b", &"a".repeat(201)] {
        assert!(
            matches!(named(&mut conn, bad).await, Err(ActorError::BadName | ActorError::Database(_))),
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn an_erased_name_leads_to_nobody_and_comes_back_as_somebody_else() {
    let mut conn = connection().await;
    let (ada, ben) = (named(&mut conn, "ada").await.unwrap(), named(&mut conn, "ben").await.unwrap());
    let bot = service(&mut conn, "nightly", ada.id).await.unwrap();
    assert_eq!(erase(&mut conn, "ada", ben.id).await.unwrap(), ada.id);
    let again = erase(&mut conn, "ada", ben.id).await;
    assert!(matches!(again, Err(ActorError::Unknown(name)) if name == "ada"));
    let nameless = Actor { name: None, ..ada.clone() };
    assert_eq!(by_id(&mut conn, ada.id).await.unwrap().as_ref(), Some(&nameless));
    assert_eq!(list(&mut conn).await.unwrap(), [ben.clone(), bot.clone(), nameless]);
    assert_eq!(by_id(&mut conn, bot.id).await.unwrap().unwrap().person, ada.id, "still the same person");
    assert_ne!(named(&mut conn, "ada").await.unwrap().id, ada.id);
    let head = audit::head(&mut conn).await.unwrap();
    assert_eq!(head.size, 1, "the erasure is on record, what was refused is not");
}
