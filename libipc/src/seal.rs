//! Seals of requests: whether a server did what it was asked to do.
//!
//! An argument can get lost between the client's stub and the place where it is used: in a message, a
//! register, a future that is moved. What is done then is sound in itself, so that no look at the file
//! system finds it: another file is read, another name removed. So each request carries a sum over its
//! arguments that the client made, and the server makes the same sum of what it *used*: of the number
//! that an inode says it has, the name that it found, the place that it read. A change is held against
//! its seal before it counts. This is the end-to-end argument (Saltzer, Reed and Clark, ACM TOCS 2(4),
//! 1984) inside one machine.
//!
//! A program seals what it asks of an open file for the file system, with the inode that it got when it
//! opened the file: the `vfs` passes such a seal on and cannot take one file for another.
//!
//! A seal is no secret and protects against mistakes only.

use serde::{Deserialize, Serialize};

use crate::proto::file_system::{FileKind, FsError, Inode, PERMISSIONS, Transfer};
use crate::proto::vfs::{FileId, LastLink, OpenOptions};

/// Multiplier of the sum over names: that of `FxHash`, which mixes well enough to tell names apart.
const FACTOR: u64 = 0x517c_c1b7_2722_0a95;

/// A sum over what a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Seal(u32);

impl Seal {
    /// Seals a name in a directory: to be found, or removed. Never the default.
    #[inline(never)]
    pub fn name(directory: Inode, name: &[u8]) -> Seal {
        Seal(sum(directory.0, name))
    }

    /// Seals a file or directory that is to be made, with the [`PERMISSIONS`] of `mode`.
    pub fn create(directory: Inode, name: &[u8], kind: FileKind, mode: u16) -> Seal {
        let node = u32::from(mode & PERMISSIONS) << 8 | kind as u32;
        Seal(Seal::name(directory, name).0 ^ node << 8)
    }

    /// Seals a symbolic link that is to be made.
    pub fn symlink(directory: Inode, name: &[u8], target: &[u8]) -> Seal {
        Seal(sum(Seal::name(directory, name).0.into(), target))
    }

    /// Seals a name that is to be moved.
    pub fn rename((from, from_name): (Inode, &[u8]), (to, to_name): (Inode, &[u8])) -> Seal {
        Seal(Seal::name(from, from_name).0.rotate_left(1) ^ Seal::name(to, to_name).0)
    }

    /// Seals a path of which something is asked.
    pub fn path(path: &[u8]) -> Seal {
        Seal::name(Inode(0), path)
    }

    /// Seals the path of a file that is to be opened.
    pub fn open(path: &[u8], options: OpenOptions) -> Seal {
        let OpenOptions {
            access,
            create,
            truncate,
            append,
        } = options;
        let choices = [access as u8, create as u8, truncate.into(), append.into()];
        Seal::path(path).with(u32::from_le_bytes(choices))
    }

    /// Seals the path of what is to be told about.
    pub fn stat(path: &[u8], last: LastLink) -> Seal {
        Seal::path(path).with(last as u32)
    }

    /// Seals two paths, in their order; or a link's path and its target.
    pub fn paths(first: &[u8], second: &[u8]) -> Seal {
        Seal(sum(Seal::path(first).0.into(), second))
    }

    /// Seals a name that is no path.
    pub fn text(text: &str) -> Seal {
        Seal::path(text.as_bytes())
    }

    /// Seals two texts, in their order.
    pub fn texts(first: &str, second: &str) -> Seal {
        Seal::paths(first.as_bytes(), second.as_bytes())
    }

    /// Seals the name of a service and an image in memory that it is to run.
    pub fn image(service: &str, bytes: u64, digest: [u8; 32]) -> Seal {
        Seal(sum(bytes ^ u64::from(Seal::text(service).0), &digest))
    }

    /// Seals an open file of which something is asked.
    pub const fn file(file: FileId) -> Seal {
        Seal(half(file.0 as u64))
    }

    /// Adds what is small to a seal.
    const fn with(self, small: u32) -> Seal {
        Seal(self.0 ^ small.wrapping_mul(FACTOR as u32))
    }

    /// Seals a size that a file is to get.
    pub const fn truncate(inode: Inode, bytes: u64) -> Seal {
        Seal(half(inode.0.rotate_left(20) ^ bytes))
    }

    /// Seals a read or write through a message.
    pub const fn transfer(inode: Inode, offset: u64, bytes: u32) -> Seal {
        let bytes = (bytes as u64).rotate_left(40);
        Seal(half(inode.0.rotate_left(20) ^ offset ^ bytes))
    }

    /// Seals a read or write through a memory object.
    pub const fn shared(inode: Inode, transfer: Transfer) -> Seal {
        Seal::transfer(inode, transfer.offset, transfer.bytes).at(transfer.buffer_offset)
    }

    /// Adds the place in a memory object to the seal of a transfer, or takes it out again.
    #[must_use]
    pub const fn at(self, buffer_offset: u64) -> Seal {
        Seal(self.0 ^ half(buffer_offset))
    }

    /// Holds the seal of a request against that of what was done for it.
    ///
    /// # Errors
    ///
    /// [`FsError::BrokenSeal`].
    #[inline]
    pub fn check(self, done: Seal) -> Result<(), FsError> {
        if self == done { Ok(()) } else { Err(broken()) }
    }
}

#[cold]
#[inline(never)]
fn broken() -> FsError {
    log::error!("a request is not what its seal says");
    FsError::BrokenSeal
}

/// Returns a number in half as many bits, in which each of its bits counts.
const fn half(number: u64) -> u32 {
    (number.wrapping_mul(FACTOR) >> u32::BITS) as u32
}

/// Returns a sum over a number and bytes; never 0.
fn sum(number: u64, bytes: &[u8]) -> u32 {
    let mix = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut sum = mix(bytes.len() as u64, number);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        sum = mix(sum, u64::from_le_bytes(*word));
    }
    half(mix(sum, part_word(rest))) | 1
}

/// Returns up to seven bytes as a number: those of the same number of bytes differ if the bytes do.
#[inline]
pub fn part_word(bytes: &[u8]) -> u64 {
    match bytes {
        [] => 0,
        [only] => (*only).into(),
        [first, second] => u16::from_le_bytes([*first, *second]).into(),
        [first, second, third] => u32::from_le_bytes([*first, *second, *third, 0]).into(),
        [first @ .., _, _, _, _] if first.len() < 4 => {
            // Two halves that overlap.
            let head = bytes
                .first_chunk()
                .map_or(0, |head| u32::from_le_bytes(*head));
            let tail = bytes
                .last_chunk()
                .map_or(0, |tail| u32::from_le_bytes(*tail));
            u64::from(head) << u32::BITS | u64::from(tail)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Seal, part_word};
    use crate::proto::file_system::{FileKind, FsError, Inode, Transfer};
    use crate::proto::vfs::{Access, Create, FileId, LastLink, OpenOptions};

    #[test]
    fn parts_of_words_differ_if_their_bytes_do() {
        for count in 0..8 {
            let bytes: Vec<u8> = (1..=count).collect();
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 0x40;
                assert_ne!(part_word(&bytes), part_word(&other), "{bytes:?} {at}");
            }
        }
    }

    #[test]
    fn seals_tell_requests_apart() {
        let names: [&[u8]; 8] = [
            b"",
            b"a",
            b"b",
            b"0A",
            b"d1",
            b"d10",
            b"12345678",
            b"12345678a",
        ];
        let mut seals = Vec::new();
        for directory in [1, 2, 77].map(Inode) {
            for name in names {
                seals.push(Seal::name(directory, name));
                for kind in [FileKind::Regular, FileKind::Directory] {
                    for mode in [0o600, 0o644] {
                        seals.push(Seal::create(directory, name, kind, mode));
                    }
                }
                seals.extend(names.map(|target| Seal::symlink(directory, name, target)));
                for to in [1, 2].map(Inode) {
                    seals.extend(
                        names.map(|to_name| Seal::rename((directory, name), (to, to_name))),
                    );
                }
            }
        }
        let count = seals.len();
        seals.sort_unstable_by_key(|seal| seal.0);
        seals.dedup();
        assert_eq!(seals.len(), count);
        assert!(!seals.contains(&Seal::default()));
    }

    #[test]
    fn seals_tell_what_is_asked_of_paths_apart() {
        let mut seals = Vec::new();
        let paths: [&[u8]; 4] = [b"/", b"/a", b"/a/", b"/12345678"];
        for path in paths {
            for access in [Access::Read, Access::Write, Access::ReadWrite] {
                for create in [Create::Never, Create::IfMissing, Create::New] {
                    for (truncate, append) in [(false, false), (true, false), (false, true)] {
                        let options = OpenOptions {
                            access,
                            create,
                            truncate,
                            append,
                        };
                        seals.push(Seal::open(path, options));
                    }
                }
            }
            let stat = |last| Seal::stat(path, last);
            assert_ne!(stat(LastLink::Follow), stat(LastLink::Keep));
            seals.extend(paths.map(|second| Seal::paths(path, second)));
        }
        seals.extend((0..100).map(|file| Seal::file(FileId(file))));
        let count = seals.len();
        seals.sort_unstable_by_key(|seal| seal.0);
        seals.dedup();
        assert_eq!(seals.len(), count);
    }

    proptest! {
        #[test]
        fn any_argument_breaks_the_seal_of_a_transfer(
            inode in 0_u64..1 << 40, offset: u64, bytes: u32, buffer in 0_u64..1 << 32, other in 1_u64..1 << 32,
        ) {
            let seal = |inode, offset, bytes, buffer_offset| {
                Seal::shared(Inode(inode), Transfer { offset, bytes, buffer_offset })
            };
            let right = seal(inode, offset, bytes, buffer);
            prop_assert_eq!(right.check(right), Ok(()));
            for wrong in [
                seal(inode ^ other, offset, bytes, buffer),
                seal(inode, offset ^ other, bytes, buffer),
                seal(inode, offset, bytes ^ other as u32, buffer),
                seal(inode, offset, bytes, buffer ^ other),
            ] {
                prop_assert_eq!(right.check(wrong), Err(FsError::BrokenSeal));
            }
            prop_assert_eq!(right.at(buffer), Seal::transfer(Inode(inode), offset, bytes));
        }
    }
}
