//! Tar archives, as `kubectl cp` moves files in them: written as they are sent, read as they come.

use std::sync::Arc;

use bytes::Bytes;
use tar::{EntryType, Header, PaxExtensions};

use super::files::{Content, Node, PodFiles, clean};

const BLOCK_BYTES: usize = 512;
/// tar ends its archives at a multiple of this.
const RECORD_BYTES: u64 = 10_240;

/// The head of a member, or why it cannot be written.
pub(crate) fn head(path: &str, node: &Node) -> Result<Bytes, String> {
    let mut header = Header::new_ustar();
    // As tar does, lest they be unpacked over somebody's root.
    let relative = path.trim_start_matches('/');
    let (name, kind, mode, size) = match node {
        Node::Directory => (format!("{relative}/"), EntryType::Directory, 0o755, 0),
        Node::File(content) => (relative.to_owned(), EntryType::Regular, 0o644, content.length()),
    };
    header.set_path(&name).map_err(|error| error.to_string())?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_cksum();
    Ok(Bytes::copy_from_slice(header.as_bytes()))
}

/// What fills a member's last block.
pub(crate) fn padding(length: u64) -> Bytes {
    zeros(length.next_multiple_of(BLOCK_BYTES as u64) - length)
}

/// What ends an archive of `length` bytes so far.
pub(crate) fn end(length: u64) -> Bytes {
    let whole = length + 2 * BLOCK_BYTES as u64;
    zeros(whole.next_multiple_of(RECORD_BYTES) - length)
}

fn zeros(count: u64) -> Bytes {
    vec![0; usize::try_from(count).unwrap_or_default()].into()
}

/// An archive that is unpacked while it comes.
pub(crate) struct Unpacking<'a> {
    files: &'a PodFiles,
    directory: String,
    at: At,
    /// A path too long for the head of the next member.
    long_path: Option<String>,
}

/// Where in the archive the next byte belongs.
enum At {
    Head(Vec<u8>),
    Content { member: Member, left: u64, padding: u64, pieces: Vec<Bytes> },
    Padding(u64),
}

enum Member {
    File(String),
    /// More about the next member.
    Pax,
    Skipped,
}

impl<'a> Unpacking<'a> {
    pub(crate) fn new(files: &'a PodFiles, directory: &str) -> Self {
        Self { files, directory: directory.to_owned(), at: At::Head(Vec::new()), long_path: None }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// In tar's words.
    pub(crate) fn take(&mut self, mut bytes: Bytes) -> Result<(), String> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Head(head) => {
                    let missing = BLOCK_BYTES - head.len();
                    head.extend_from_slice(&bytes.split_to(bytes.len().min(missing)));
                    if head.len() == BLOCK_BYTES {
                        let head = std::mem::take(head);
                        self.at = self.member(&head)?;
                    }
                }
                At::Content { left, pieces, .. } => {
                    let piece = bytes.split_to(bytes.len().min(small(*left)));
                    *left -= piece.len() as u64;
                    pieces.push(piece);
                }
                At::Padding(left) => {
                    let skipped = bytes.split_to(bytes.len().min(small(*left)));
                    *left -= skipped.len() as u64;
                }
            }
            self.close_member()?;
        }
        Ok(())
    }

    /// True where nothing is missing.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(&self.at, At::Head(head) if head.is_empty())
    }

    fn member(&mut self, block: &[u8]) -> Result<At, String> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(At::Head(Vec::new()));
        }
        let not_tar = || "tar: This does not look like a tar archive".to_owned();
        let header = Header::from_byte_slice(block);
        let size = header.entry_size().map_err(|_| not_tar())?;
        let kind = header.entry_type();
        let member = if kind == EntryType::XHeader {
            Member::Pax
        } else {
            let own = String::from_utf8_lossy(&header.path_bytes()).into_owned();
            let path = clean(&format!("{}/{}", self.directory, self.long_path.take().unwrap_or(own)));
            match kind {
                EntryType::Regular | EntryType::Continuous => Member::File(path),
                EntryType::Directory if self.files.put(&path, Node::Directory) => Member::Skipped,
                EntryType::Directory => return Err(format!("tar: {path}: Cannot mkdir: File exists")),
                _ => Member::Skipped,
            }
        };
        let padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
        Ok(At::Content { member, left: size, padding, pieces: Vec::new() })
    }

    /// Puts a member away that has come whole.
    fn close_member(&mut self) -> Result<(), String> {
        if let At::Content { member, left: 0, padding, pieces } = &mut self.at {
            let (padding, pieces) = (*padding, std::mem::take(pieces));
            match member {
                Member::File(path) => {
                    if !self.files.put(path, Node::File(Content::Stored(Arc::new(pieces)))) {
                        return Err(format!("tar: {path}: Cannot open: Not a directory"));
                    }
                }
                Member::Pax => self.long_path = path_in(&pieces.concat()),
                Member::Skipped => {}
            }
            self.at = At::Padding(padding);
        }
        if matches!(self.at, At::Padding(0)) {
            self.at = At::Head(Vec::new());
        }
        Ok(())
    }
}

fn path_in(pax: &[u8]) -> Option<String> {
    let mut records = PaxExtensions::new(pax).filter_map(Result::ok);
    let path = records.find(|record| record.key_bytes() == b"path")?;
    path.value().ok().map(str::to_owned)
}

fn small(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
