//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677) in the form that Postgres stores.
//!
//! A role's password is set by its verifier, computed here, so that the password itself never is in a statement, in
//! the server's log or in `pg_stat_statements`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The rounds that Postgres uses by default. A derived password has 256 bits: more rounds would protect nothing.
const ROUNDS: u32 = 4096;

/// The verifier of an ASCII password, with a new salt. Other passwords would have to be normalized first.
pub(crate) fn verifier(password: &str) -> String {
    verifier_with(password, rand::random())
}

fn verifier_with(password: &str, salt: [u8; 16]) -> String {
    debug_assert!(password.is_ascii(), "SASLprep leaves ASCII alone and is not done here");
    let salted: [u8; 32] = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, ROUNDS);
    let stored_key = Sha256::digest(keyed(&salted, b"Client Key"));
    let server_key = keyed(&salted, b"Server Key");
    let [salt, stored_key, server_key] =
        [&salt[..], &stored_key[..], &server_key[..]].map(|bytes| STANDARD.encode(bytes));
    format!("SCRAM-SHA-256${ROUNDS}:{salt}${stored_key}:{server_key}")
}

/// HMAC-SHA256 of a message.
pub(crate) fn keyed(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;

    /// The exchange in RFC 7677, section 3: its salt, password and rounds, and the server signature that it prints.
    #[test]
    fn the_verifier_is_that_of_the_rfc() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let verifier = verifier_with("pencil", salt);
        let (_, server_key) = verifier.rsplit_once(':').unwrap();
        let exchange = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = keyed(&STANDARD.decode(server_key).unwrap(), exchange.as_bytes());
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[tokio::test]
    async fn postgres_stores_the_verifier_as_it_is() {
        let mut conn = TestDatabase::create().await.connect().await;
        let (name, verifier) = (format!("scram_{}", uuid::Uuid::new_v4().simple()), verifier("a password"));
        let create = format!("create role {name} password '{verifier}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut conn).await.unwrap();
        let stored: String = sqlx::query_scalar("select rolpassword from pg_authid where rolname = $1")
            .bind(name)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(stored, verifier);
    }
}
