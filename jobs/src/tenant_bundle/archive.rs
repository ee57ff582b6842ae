//! The zip, packed by two threads: one for the lines of JSON, one for the sheets, which are moved behind the lines at the
//! end as they are. What waits to be packed is bounded, so memory does not grow with the tenant.
//!
//! The last 64 bytes of the file are the SHA-256 of all that is before them, as the end of the archive's comment: a change
//! of any byte shows, wherever it is.

use std::io::{self, BufWriter, PipeReader, Read, Seek as _, SeekFrom, Write};

use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};
use verifier::hex;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{
    folder::{Disk, Partial, SHEETS, WHOLE},
    manifest::{self, File},
};

/// What the comment begins with.
pub(super) const COMMENT: &str = "tenure bundle, sha256 of all bytes before it: ";

/// The length of the digest at the end.
pub(super) const DIGEST_BYTES: usize = 64;

/// Pieces that wait to be packed, of each part.
const PIECES_MAX: usize = 4;

/// The fastest: of rows of text the others win little and cost much.
const LEVEL: i64 = 1;

const BUFFER_BYTES: usize = 1 << 18;

enum Piece {
    /// Another file begins.
    Begin(String),
    Bytes(Vec<u8>),
    /// All that can be read from it.
    Pipe(PipeReader),
}

/// An archive in the making.
pub(super) struct Archive {
    pub(super) lines: Part,
    pub(super) sheets: Part,
}

/// Files that one thread packs.
pub(super) struct Part {
    pieces: mpsc::Sender<Piece>,
    thread: JoinHandle<io::Result<Box<Packed>>>,
}

struct Packed {
    zip: ZipWriter<BufWriter<Disk>>,
    files: Vec<File>,
}

/// The thread has ended before its time: [`Archive::fault`] says why.
#[derive(Debug)]
pub(super) struct Broken;

impl Archive {
    pub(super) fn begin(partial: &Partial) -> io::Result<Self> {
        Ok(Self { lines: Part::begin(partial.file(WHOLE)?), sheets: Part::begin(partial.file(SHEETS)?) })
    }

    /// Why it cannot be written.
    pub(super) async fn fault(self) -> io::Error {
        let mut fault = None;
        for part in [self.lines, self.sheets] {
            if let Err(error) = part.packed().await {
                fault = Some(error);
            }
        }
        fault.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Ends the files, moves the sheets behind the lines, and makes it durable. `manifest` is asked for the bytes of the last
    /// file once all others are known. Returns the digest.
    pub(super) async fn end<E: From<io::Error> + Send + 'static>(
        self,
        manifest: impl FnOnce(Vec<File>) -> Result<Vec<u8>, E> + Send + 'static,
    ) -> Result<String, E> {
        let (lines, sheets) = (self.lines.packed().await?, self.sheets.packed().await?);
        let ending = tokio::task::spawn_blocking(move || ended(lines, sheets, manifest));
        ending.await.map_err(io::Error::other)?
    }
}

impl Part {
    fn begin(disk: Disk) -> Self {
        let (pieces, waiting) = mpsc::channel(PIECES_MAX);
        Self { pieces, thread: tokio::task::spawn_blocking(move || pack(disk, waiting)) }
    }

    pub(super) async fn file(&self, path: String) -> Result<(), Broken> {
        self.send(Piece::Begin(path)).await
    }

    pub(super) async fn bytes(&self, bytes: Vec<u8>) -> Result<(), Broken> {
        self.send(Piece::Bytes(bytes)).await
    }

    pub(super) async fn pipe(&self, reader: PipeReader) -> Result<(), Broken> {
        self.send(Piece::Pipe(reader)).await
    }

    async fn send(&self, piece: Piece) -> Result<(), Broken> {
        self.pieces.send(piece).await.map_err(|_| Broken)
    }

    async fn packed(self) -> io::Result<Box<Packed>> {
        drop(self.pieces);
        self.thread.await.map_err(io::Error::other)?
    }
}

/// A file that is being packed.
struct Open {
    path: String,
    bytes: u64,
    digest: Sha256,
}

impl Open {
    fn closed(self) -> File {
        File { path: self.path, rows: 0, bytes: self.bytes, sha256: hex(&self.digest.finalize().into()) }
    }
}

fn pack(disk: Disk, mut waiting: mpsc::Receiver<Piece>) -> io::Result<Box<Packed>> {
    let mut zip = ZipWriter::new(BufWriter::with_capacity(BUFFER_BYTES, disk));
    let mut files = Vec::new();
    let mut open: Option<Open> = None;
    while let Some(piece) = waiting.blocking_recv() {
        match (piece, &mut open) {
            (Piece::Begin(path), _) => {
                files.extend(open.take().map(Open::closed));
                zip.start_file(path.as_str(), options())?;
                open = Some(Open { path, bytes: 0, digest: Sha256::new() });
            }
            (Piece::Bytes(bytes), Some(open)) => put(&mut zip, open, &bytes)?,
            (Piece::Pipe(mut reader), Some(open)) => {
                let mut buffer = vec![0; BUFFER_BYTES];
                loop {
                    match reader.read(&mut buffer)? {
                        0 => break,
                        read => put(&mut zip, open, &buffer[..read])?,
                    }
                }
            }
            (_, None) => return Err(io::Error::other("bytes of no file")),
        }
    }
    files.extend(open.map(Open::closed));
    Ok(Box::new(Packed { zip, files }))
}

fn put(zip: &mut ZipWriter<BufWriter<Disk>>, open: &mut Open, bytes: &[u8]) -> io::Result<()> {
    zip.write_all(bytes)?;
    open.bytes += bytes.len() as u64;
    open.digest.update(bytes);
    Ok(())
}

/// The same for every file of every bundle, so that what is the same is packed alike. Any file may pass 4 GiB.
fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(LEVEL))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o600)
        .large_file(true)
}

fn ended<E: From<io::Error>>(
    lines: Box<Packed>,
    sheets: Box<Packed>,
    manifest: impl FnOnce(Vec<File>) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let Packed { mut zip, mut files } = *lines;
    moved(sheets.zip, &mut zip)?;
    files.extend(sheets.files);
    let readme = manifest::README_TEXT.as_bytes();
    alone(&mut zip, manifest::README, readme)?;
    files.push(File {
        path: manifest::README.to_owned(),
        rows: manifest::README_TEXT.lines().count() as u64,
        bytes: readme.len() as u64,
        sha256: hex(&Sha256::digest(readme).into()),
    });
    let manifest = manifest(files)?;
    alone(&mut zip, manifest::MANIFEST, &manifest)?;
    Ok(sealed(zip)?)
}

/// Packed as they are, nothing is packed anew.
fn moved(sheets: ZipWriter<BufWriter<Disk>>, zip: &mut ZipWriter<BufWriter<Disk>>) -> io::Result<()> {
    let disk = sheets.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    let mut sheets = ZipArchive::new(io::BufReader::with_capacity(BUFFER_BYTES, disk))?;
    for index in 0..sheets.len() {
        zip.raw_copy_file(sheets.by_index_raw(index)?)?;
    }
    Ok(())
}

fn alone(zip: &mut ZipWriter<BufWriter<Disk>>, path: &str, bytes: &[u8]) -> io::Result<()> {
    zip.start_file(path, options())?;
    zip.write_all(bytes)
}

/// Writes the end, and the digest into the place that was kept for it.
fn sealed(mut zip: ZipWriter<BufWriter<Disk>>) -> io::Result<String> {
    zip.set_comment(format!("{COMMENT}{}", "0".repeat(DIGEST_BYTES)))?;
    let mut disk = zip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    let end = disk.seek(SeekFrom::End(0))? - DIGEST_BYTES as u64;
    disk.seek(SeekFrom::Start(0))?;
    let digest = digest_of((&mut disk).take(end))?;
    disk.seek(SeekFrom::Start(end))?;
    disk.write_all(digest.as_bytes())?;
    disk.sync()?;
    Ok(digest)
}

/// The digest of all that can be read.
pub(super) fn digest_of(mut reader: impl Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize().into())),
            read => digest.update(&buffer[..read]),
        }
    }
}
