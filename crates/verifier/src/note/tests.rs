use super::*;

fn key() -> SecretKey {
    SecretKey::from_seed("tenure", &[7; 32]).unwrap()
}

fn checkpoint() -> Checkpoint {
    let at = "2026-11-21T14:00:00.000000Z".to_owned();
    Checkpoint { origin: "tenant/x".to_owned(), size: 12, root: [1; 32], head: [2; 32], at }
}

#[test]
fn a_signed_note_reads_back_and_its_signature_fits() {
    let note = Note::parse(&key().sign(&checkpoint())).unwrap();
    assert_eq!(note.checkpoint, checkpoint());
    assert_eq!(note.check(&key().public()), Ok(()));
}

#[test]
fn a1_every_changed_byte_of_a_note_is_noticed() {
    let note = key().sign(&checkpoint());
    for at in 0..note.len() {
        let mut bytes = note.clone().into_bytes();
        bytes[at] ^= 1;
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        let checked = Note::parse(&changed).and_then(|note| note.check(&key().public()));
        assert!(checked.is_err(), "byte {at}: {changed}");
    }
}

#[test]
fn another_key_of_the_same_name_does_not_do() {
    let note = Note::parse(&key().sign(&checkpoint())).unwrap();
    let other = SecretKey::from_seed("tenure", &[8; 32]).unwrap().public();
    assert_eq!(note.check(&other), Err(NoteError::NotSigned("tenure".to_owned())));
}

#[test]
fn keys_read_back_and_bad_ones_are_refused() {
    let (secret, public) = (key(), key().public());
    assert_eq!(PublicKey::parse(&public.text()), Ok(public.clone()));
    assert_eq!(SecretKey::parse(&format!("{}\n", secret.text())).unwrap().public(), public);
    for bad in ["", "tenure", "tenure+00000000+AAAA", &public.text().replace("tenure", "tenura")] {
        assert_eq!(PublicKey::parse(bad), Err(NoteError::Key), "{bad}");
        assert!(SecretKey::parse(bad).is_err());
    }
    assert!(SecretKey::from_seed("a+b", &[7; 32]).is_err());
}

#[test]
fn texts_that_mean_the_same_in_other_bytes_are_refused() {
    let note = key().sign(&checkpoint());
    for (from, to) in [("\n12\n", "\n012\n"), ("\n12\n", "\n+12\n"), ("\nhead ", "\nheat "), ("\n\n", "\n")] {
        assert!(Note::parse(&note.replacen(from, to, 1)).is_err(), "{to:?}");
    }
}

#[test]
fn any_text_is_signed_and_none_passes_for_a_checkpoint() {
    let text = "tenure.certificate.v1\n{\"deletion\":\"7\"}\n";
    let note = key().sign_text(text);
    let signed = SignedText::parse(&note).unwrap();
    assert_eq!((signed.text(), signed.check(&key().public())), (text, Ok(())));
    assert!(Note::parse(&note).is_err());
    let other = SignedText::parse(&note.replace("\"7\"", "\"8\"")).unwrap();
    assert_eq!(other.check(&key().public()), Err(NoteError::BadSignature("tenure".to_owned())));
}
