//! Writes the test vectors: `cargo run -p verifier --example vectors -- crates/verifier/vectors`. Always the same bytes.

use std::{env, fs, path::Path};

use verifier::{
    Hash, chain,
    merkle::{self, Tree},
    note::{Checkpoint, SecretKey},
};

const ORIGIN: &str = "tenant/00000000-0000-4000-8000-000000000001";
const SIZE: u64 = 8;

fn main() {
    let folder = env::args().nth(1).expect("the folder is named");
    let folder = Path::new(&folder);
    let key = SecretKey::from_seed("tenure-vectors", &[42; 32]).expect("a good name");
    let write =
        |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("the folder can be written");
    write("key", format!("{}\n", key.public().text()).as_bytes());
    for size in [0, 6, 8] {
        write(&format!("{size}.note"), key.sign(&checkpoint(ORIGIN, size, 0)).as_bytes());
    }
    write("other-chain.note", key.sign(&checkpoint("tenant/another", 6, 0)).as_bytes());
    write("later.note", key.sign(&Checkpoint { size: 9, ..checkpoint(ORIGIN, 8, 0) }).as_bytes());
    let forged = SecretKey::from_seed("tenure-vectors", &[43; 32]).expect("a good name");
    write("forged.note", forged.sign(&checkpoint(ORIGIN, 6, 0)).as_bytes());
    for (name, lines) in exports() {
        write(&format!("{name}.ndjson"), &lines.concat());
    }
}

/// Every export by its name, as lines.
fn exports() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let good = lines(ORIGIN, 0);
    let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut lines = good.clone();
        change(&mut lines);
        lines
    };
    let replaced = |from: &str, to: &str| {
        changed(&|lines| lines[4] = String::from_utf8_lossy(&lines[4]).replacen(from, to, 1).into_bytes())
    };
    let sibling = lines(ORIGIN, 4)[4].clone();
    vec![
        ("good", good.clone()),
        ("empty-chain", vec![good[0].clone(), chain::last_line(0, &chain::genesis(ORIGIN)).into_bytes()]),
        ("altered-content", replaced("\"n\":4", "\"n\":5")),
        (
            "altered-hash",
            changed(&|lines| {
                let at = lines[4].len() - 10;
                lines[4][at] = if lines[4][at] == b'0' { b'1' } else { b'0' };
            }),
        ),
        ("missing", changed(&|lines| drop(lines.remove(4)))),
        ("head-cut", changed(&|lines| drop(lines.drain(1..3)))),
        ("reordered", changed(&|lines| lines.swap(4, 5))),
        ("doubled", changed(&|lines| lines.insert(5, lines[4].clone()))),
        ("forked", changed(&|lines| lines.insert(5, sibling.clone()))),
        ("rewritten", lines(ORIGIN, 4)),
        ("replaced", lines("tenant/another", 0)),
        ("tail-cut", changed(&|lines| lines.truncate(7))),
        (
            "line-cut",
            changed(&|lines| {
                lines.truncate(7);
                let half = lines[6].len() / 2;
                lines[6].truncate(half);
            }),
        ),
        (
            "tail-cut-with-end",
            changed(&|lines| {
                let end = lines.pop().expect("it ends");
                lines.truncate(7);
                lines.push(end);
            }),
        ),
        ("tail-cut-resealed", shorter()),
        ("not-canonical", replaced("\"n\":4", "\"n\": 4")),
        ("member-twice", replaced("\"n\":4", "\"n\":3,\"n\":4")),
        ("no-entry", changed(&|lines| lines[4] = b"{\"x\":1}\n".to_vec())),
        ("after-the-end", changed(&|lines| lines.push(b"{}\n".to_vec()))),
        ("long-line", changed(&|lines| lines[4] = [vec![b'x'; 70_000], b"\n".to_vec()].concat())),
        ("no-header", changed(&|lines| drop(lines.remove(0)))),
        ("nothing", Vec::new()),
    ]
}

/// The chain's lines; from entry `differs` on, where it is not 0, with other contents that are chained rightly.
fn lines(origin: &str, differs: u64) -> Vec<Vec<u8>> {
    let mut lines = vec![chain::first_line(origin).into_bytes()];
    let mut head = chain::genesis(origin);
    for (content, hash) in entries(origin, differs) {
        lines.push(chain::entry_line(&content, &hash));
        head = hash;
    }
    lines.push(chain::last_line(SIZE, &head).into_bytes());
    lines
}

/// The last two entries gone, and the end made to fit.
fn shorter() -> Vec<Vec<u8>> {
    let mut lines = lines(ORIGIN, 0);
    lines.truncate(5);
    let (_, head) = &entries(ORIGIN, 0)[3];
    lines.push(chain::last_line(4, head).into_bytes());
    lines
}

fn entries(origin: &str, differs: u64) -> Vec<(Vec<u8>, Hash)> {
    let mut head = chain::genesis(origin);
    let mut entries = Vec::new();
    for seq in 1..=SIZE {
        let other = if differs != 0 && seq >= differs { ",\"other\":true" } else { "" };
        let content = format!(
            "{{\"actor\":null,\"at\":\"2026-11-21T14:00:00.{seq:06}Z\",\"body\":{{\"n\":{seq}{other},\"word\":\"caf\u{e9} \
             \\\"\\n\\u0001 \u{1f600}\"}},\"job\":\"{seq}\",\"kind\":\"test.happened\",\"seq\":{seq},\"tag\":\"tenure.audit.v1\"}}"
        )
        .into_bytes();
        head = chain::chain_hash(&content, &head);
        entries.push((content, head));
    }
    entries
}

fn checkpoint(origin: &str, size: u64, differs: u64) -> Checkpoint {
    let (mut tree, mut head) = (Tree::default(), chain::genesis(origin));
    for (_, hash) in entries(origin, differs).into_iter().take(usize::try_from(size).expect("small")) {
        tree.push(merkle::leaf(&hash));
        head = hash;
    }
    let (origin, at) = (origin.to_owned(), "2026-11-21T15:00:00.000000Z".to_owned());
    Checkpoint { origin, size, root: tree.root(), head, at }
}
