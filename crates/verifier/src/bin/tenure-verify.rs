//! `tenure-verify`: says whether an exported audit chain is the one that its checkpoints speak of. No database, no
//! network.
//!
//! Exit codes: 0 verified, 1 a file cannot be read, 2 usage, 7 something does not fit, 9 no checkpoint was given.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write as _},
    process::ExitCode,
};

use verifier::{
    chain::{self, Verdict},
    hex,
    note::{Checkpoint, Note, NoteError, PublicKey},
};

const USAGE: &str = "usage: tenure-verify EXPORT [--checkpoint FILE]... [--key KEY] [--json]

Says whether an exported audit chain (`tenure audit export`) is the one that its checkpoints speak of.

  EXPORT             the export, or - for standard input
  --checkpoint FILE  a signed checkpoint, kept where the one who exports cannot write
  --key KEY          the public key (name+hash+base64) that every checkpoint must be signed with;
                     without it checkpoints are taken at their word
  --json             answer with one JSON object

exit codes: 0 verified; 1 a file cannot be read; 2 usage; 7 something does not fit;
9 the entries fit each other, but without a checkpoint nothing says that they are the ones written";

fn main() -> ExitCode {
    match Arguments::parse(env::args().skip(1)) {
        Ok(arguments) => ExitCode::from(run(&arguments)),
        Err(problem) => {
            eprintln!("tenure-verify: {problem}\n\n{USAGE}");
            ExitCode::from(if problem == "help" { 0 } else { 2 })
        }
    }
}

#[derive(Default)]
struct Arguments {
    export: String,
    checkpoints: Vec<String>,
    key: Option<PublicKey>,
    json: bool,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--checkpoint" => arguments.checkpoints.push(value()?),
                "--key" => {
                    arguments.key = Some(PublicKey::parse(&value()?).map_err(|error| error.to_string())?);
                }
                "--json" => arguments.json = true,
                "--help" | "-h" => return Err("help".to_owned()),
                option if option.starts_with("--") => return Err(format!("there is no option {option}")),
                _ if arguments.export.is_empty() => arguments.export = argument,
                _ => return Err(format!("one export at a time: {argument} is a second")),
            }
        }
        if arguments.export.is_empty() { Err("an export is needed".to_owned()) } else { Ok(arguments) }
    }
}

fn run(arguments: &Arguments) -> u8 {
    let checkpoints = match checkpoints(arguments) {
        Ok(Ok(checkpoints)) => checkpoints,
        Ok(Err((file, error))) => return answer(&bad_checkpoint(arguments, &file, &error), 7),
        Err(error) => return unreadable(&error),
    };
    let verified = open(&arguments.export).and_then(|mut export| chain::verify(&mut export, &checkpoints));
    match verified {
        Ok(verdict) => answer(&describe(arguments, &verdict), exit(&verdict)),
        Err(error) => unreadable(&error),
    }
}

/// The checkpoints, or the file of the first bad one.
fn checkpoints(arguments: &Arguments) -> io::Result<Result<Vec<Checkpoint>, (String, NoteError)>> {
    let mut checkpoints = Vec::new();
    for file in &arguments.checkpoints {
        let text = fs::read_to_string(file)
            .map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))?;
        let checked = Note::parse(&text)
            .and_then(|note| arguments.key.as_ref().map_or(Ok(()), |key| note.check(key)).map(|()| note));
        match checked {
            Ok(note) => checkpoints.push(note.checkpoint),
            Err(error) => return Ok(Err((file.clone(), error))),
        }
    }
    Ok(Ok(checkpoints))
}

fn open(export: &str) -> io::Result<Box<dyn BufRead>> {
    if export == "-" {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, io::stdin())));
    }
    let file =
        fs::File::open(export).map_err(|error| io::Error::new(error.kind(), format!("{export}: {error}")))?;
    Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
}

fn exit(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Verified(_) => 0,
        Verdict::Broken(_) => 7,
        Verdict::Unanchored(_) => 9,
    }
}

fn describe(arguments: &Arguments, verdict: &Verdict) -> String {
    let (word, chain) = match verdict {
        Verdict::Verified(chain) => ("verified", chain),
        Verdict::Unanchored(chain) => ("unanchored", chain),
        Verdict::Broken(fault) if arguments.json => {
            let seq = fault.seq.map_or("null".to_owned(), |seq| seq.to_string());
            let (kind, line, what) = (fault.kind.name(), fault.line, quoted(&fault.what));
            return format!("{{\"verdict\":\"{kind}\",\"line\":{line},\"seq\":{seq},\"what\":{what}}}");
        }
        Verdict::Broken(fault) => return format!("BROKEN: {fault}"),
    };
    let (size, anchored, head) = (chain.size, chain.anchored, hex(&chain.head));
    let signature = if arguments.key.is_some() { "checked" } else { "not checked" };
    if arguments.json {
        let origin = quoted(&chain.origin);
        return format!(
            "{{\"verdict\":\"{word}\",\"origin\":{origin},\"size\":{size},\"anchored\":{anchored},\"head\":\"{head}\",\"signature\":\"{signature}\"}}"
        );
    }
    let head = format!("{size} entries of {}, head {head}", chain.origin);
    match verdict {
        Verdict::Verified(_) => format!(
            "verified up to entry {anchored} (signature {signature}); {} later entries unanchored\n{head}",
            size - anchored
        ),
        _ => format!("UNANCHORED: the entries fit each other, and no checkpoint vouches for them\n{head}"),
    }
}

fn bad_checkpoint(arguments: &Arguments, file: &str, error: &NoteError) -> String {
    let what = format!("{file}: {error}");
    if arguments.json {
        return format!("{{\"verdict\":\"checkpoint\",\"what\":{}}}", quoted(&what));
    }
    format!("BROKEN checkpoint: {what}")
}

fn answer(text: &str, exit: u8) -> u8 {
    // Nobody reading is no reason for another verdict.
    let _unread = writeln!(io::stdout(), "{text}");
    exit
}

fn unreadable(error: &io::Error) -> u8 {
    eprintln!("tenure-verify: {error}");
    1
}

/// The text as JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => quoted.extend(format!("\\u{:04x}", u32::from(control)).chars()),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}
