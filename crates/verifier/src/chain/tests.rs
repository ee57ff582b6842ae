use std::{fs, io, path::Path, process::Command};

use super::*;
use crate::note::{Note, PublicKey};

const ORIGIN: &str = "tenant/test";

/// The entries of a chain of this many, with the contents that `content` gives.
fn entries(size: u64, content: impl Fn(u64) -> String) -> Vec<(Vec<u8>, Hash)> {
    let mut head = genesis(ORIGIN);
    let contents = (1..=size).map(|seq| {
        let body = content(seq);
        format!("{{\"actor\":null,\"at\":\"2026-11-21T14:00:00.000000Z\",\"body\":{body},\"job\":null,\"kind\":\"t\",\"seq\":{seq},\"tag\":\"tenure.audit.v1\"}}")
    });
    contents
        .map(|content| {
            head = chain_hash(content.as_bytes(), &head);
            (content.into_bytes(), head)
        })
        .collect()
}

fn export(entries: &[(Vec<u8>, Hash)]) -> Vec<Vec<u8>> {
    let head = entries.last().map_or(genesis(ORIGIN), |(_, hash)| *hash);
    let mut lines = vec![first_line(ORIGIN).into_bytes()];
    lines.extend(entries.iter().map(|(content, hash)| entry_line(content, hash)));
    lines.push(last_line(entries.len() as u64, &head).into_bytes());
    lines
}

fn checkpoint(entries: &[(Vec<u8>, Hash)]) -> Checkpoint {
    let leaves: Vec<_> = entries.iter().map(|(_, hash)| merkle::leaf(hash)).collect();
    let head = entries.last().map_or(genesis(ORIGIN), |(_, hash)| *hash);
    let size = entries.len() as u64;
    Checkpoint { origin: ORIGIN.into(), size, root: merkle::root(&leaves), head, at: "t".into() }
}

fn fault(lines: &[Vec<u8>], checkpoints: &[Checkpoint]) -> (Kind, u64) {
    match verify(&mut lines.concat().as_slice(), checkpoints).unwrap() {
        Verdict::Broken(fault) => (fault.kind, fault.line),
        intact => panic!("nothing was noticed: {intact:?}"),
    }
}

/// A1 on a chain of 10,000 entries whose checkpoint has 9,000: every tampering, at places near both ends and between.
#[test]
fn a1_every_tampering_on_ten_thousand_entries_is_named() {
    let entries = entries(10_000, |seq| format!("{{\"n\":{seq}}}"));
    let good = export(&entries);
    let anchor = [checkpoint(&entries[..9_000])];
    let Verdict::Verified(chain) = verify(&mut good.concat().as_slice(), &anchor).unwrap() else {
        panic!("the chain is good");
    };
    assert_eq!((chain.size, chain.anchored, chain.head), (10_000, 9_000, entries[9_999].1));
    for at in [1, 2, 4_999, 8_999, 9_000, 9_001, 9_999] {
        let line = at as u64 + 1;
        let mut doubled = good.clone();
        doubled.insert(at, good[at].clone());
        assert_eq!(fault(&doubled, &anchor), (Kind::Doubled, line + 1));
        let mut missing = good.clone();
        missing.remove(at);
        assert_eq!(fault(&missing, &anchor), (Kind::Missing, line));
        let mut swapped = good.clone();
        swapped.swap(at, at + 1);
        assert_eq!(fault(&swapped, &anchor), (Kind::Reordered, line));
        let mut moved = good.clone();
        let taken = moved.remove(at);
        moved.insert(moved.len() - 1, taken);
        assert!(matches!(fault(&moved, &anchor), (Kind::Reordered, found) if found == line));
        assert_eq!(fault(&good[..at], &anchor), (Kind::Truncated, line));
    }
    assert_eq!(fault(&[&good[..1], &good[3..]].concat(), &anchor), (Kind::Missing, 2), "the head is cut");
}

#[test]
fn a1_a_log_that_was_written_anew_is_forked_at_the_checkpoint() {
    let entries_of = |from: u64| entries(10_000, move |seq| format!("{{\"n\":{seq},\"x\":{}}}", seq >= from));
    let honest = entries_of(u64::MAX);
    let anchors = [checkpoint(&honest[..100]), checkpoint(&honest[..9_000])];
    for (from, line) in [(1, 101), (100, 101), (101, 9_001), (9_000, 9_001)] {
        assert_eq!(fault(&export(&entries_of(from)), &anchors), (Kind::Forked, line), "from entry {from}");
    }
    // What came after the newest checkpoint is reported as unanchored, not as verified.
    let Verdict::Verified(later) =
        verify(&mut export(&entries_of(9_001)).concat().as_slice(), &anchors).unwrap()
    else {
        panic!("it fits what is anchored");
    };
    assert_eq!((later.anchored, later.size), (9_000, 10_000));
    // A shorter log that is sealed anew lacks what the checkpoint has.
    assert_eq!(fault(&export(&honest[..8_999]), &anchors), (Kind::Truncated, 9_001));
}

#[test]
fn a1_every_bit_of_an_entry_counts() {
    let entries = entries(10, |seq| format!("{{\"n\":{seq}}}"));
    let good = export(&entries);
    let anchor = [checkpoint(&entries[..8])];
    let bytes = good.concat();
    let anchored = good[..9].concat().len();
    for at in 0..anchored {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let verdict = verify(&mut flipped.as_slice(), &anchor).unwrap();
            assert!(matches!(verdict, Verdict::Broken(_)), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a1_without_a_checkpoint_nothing_is_verified() {
    let export = export(&entries(3, |_| "{}".to_owned())).concat();
    let verdict = verify(&mut export.as_slice(), &[]).unwrap();
    assert!(matches!(verdict, Verdict::Unanchored(Chain { size: 3, anchored: 0, .. })));
}

#[test]
fn an_endless_line_is_not_read_to_its_end() {
    let mut endless = io::BufReader::new(first_line(ORIGIN).into_bytes().chain_repeat());
    let Verdict::Broken(fault) = verify(&mut endless, &[]).unwrap() else { panic!("it is bad") };
    assert_eq!((fault.kind, fault.line), (Kind::Malformed, 2));
}

/// The line, then one byte for ever.
trait ChainRepeat {
    fn chain_repeat(self) -> io::Chain<io::Cursor<Vec<u8>>, io::Repeat>;
}

impl ChainRepeat for Vec<u8> {
    fn chain_repeat(self) -> io::Chain<io::Cursor<Vec<u8>>, io::Repeat> {
        io::Read::chain(io::Cursor::new(self), io::repeat(b'x'))
    }
}

fn vectors() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"))
}

/// Export, checkpoint, verdict, and line or number of anchored entries.
fn expected() -> Vec<[String; 4]> {
    let table = fs::read_to_string(vectors().join("expected.tsv")).unwrap();
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<[String; 4]> =
        rows.map(|row| row.split('\t').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()).collect();
    assert!(rows.len() > 30);
    rows
}

#[test]
fn a4_the_vectors_get_the_verdicts_that_are_written_down() {
    let key = PublicKey::parse(&fs::read_to_string(vectors().join("key")).unwrap()).unwrap();
    for [export, note, verdict, place] in expected() {
        let mut checkpoints = Vec::new();
        if note != "-" {
            let note = Note::parse(&fs::read_to_string(vectors().join(&note)).unwrap()).unwrap();
            if note.check(&key).is_err() {
                assert_eq!(verdict, "checkpoint");
                continue;
            }
            checkpoints.push(note.checkpoint);
        }
        let bytes = fs::read(vectors().join(format!("{export}.ndjson"))).unwrap();
        let found = match verify(&mut bytes.as_slice(), &checkpoints).unwrap() {
            Verdict::Verified(chain) => ("verified", chain.anchored),
            Verdict::Unanchored(chain) => ("unanchored", chain.anchored),
            Verdict::Broken(fault) => (fault.kind.name(), fault.line),
        };
        assert_eq!(
            (found.0, found.1.to_string().as_str()),
            (verdict.as_str(), place.as_str()),
            "{export} {note}"
        );
    }
}

#[test]
fn a4_the_verifier_in_python_agrees_on_every_vector() {
    let key = fs::read_to_string(vectors().join("key")).unwrap();
    for [export, note, verdict, place] in expected() {
        let mut python = Command::new("python3");
        python.arg(vectors().with_file_name("verify.py")).arg(vectors().join(format!("{export}.ndjson")));
        if note != "-" {
            python.arg(vectors().join(&note)).arg(key.trim_end());
        }
        let output = python.output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(answer.contains(&format!("\"verdict\": \"{verdict}\"")), "{export} {note}: {answer}");
        let member = match verdict.as_str() {
            "checkpoint" => continue,
            "verified" | "unanchored" => "anchored",
            _ => "line",
        };
        assert!(answer.contains(&format!("\"{member}\": {place},")), "{export} {note}: {answer}");
    }
}
