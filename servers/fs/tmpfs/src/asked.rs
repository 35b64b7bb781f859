//! What a request asked for, in one number: taken when it arrives, and held against the change that is
//! made of it.

use libipc::proto::file_system::{APPEND, Inode, Outcome};

use crate::tree::Change;

/// A sum over what a request asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked(u64);

impl Asked {
    /// Takes down that a name is to be made or removed: of a long one, its ends.
    #[inline(never)]
    pub fn name(directory: Inode, name: &[u8]) -> Asked {
        let ends = (name.first_chunk::<4>(), name.last_chunk::<8>());
        let head = ends.0.map_or(0, |head| u32::from_le_bytes(*head));
        let tail = ends.1.map_or(0, |tail| u64::from_le_bytes(*tail));
        let few = match (name.first(), name.last()) {
            (Some(first), Some(last)) => u16::from_le_bytes([*first, *last]),
            _ => 0,
        };
        let bytes = u64::from(head) << 24 ^ u64::from(few) << 8 ^ name.len() as u64;
        Asked(directory.0.rotate_left(50) ^ tail.rotate_left(4) ^ bytes)
    }

    /// Takes down that a name is to be moved.
    pub fn names((from, from_name): (Inode, &[u8]), (to, to_name): (Inode, &[u8])) -> Asked {
        let Asked(from) = Asked::name(from, from_name);
        let Asked(to) = Asked::name(to, to_name);
        Asked(from.rotate_left(1) ^ to)
    }

    /// Takes down that bytes are to be written to a file, or that it is to end somewhere.
    #[inline(never)]
    pub fn bytes(inode: Inode, offset: u64, bytes: u64) -> Asked {
        Asked::sum(inode, offset, bytes)
    }

    const fn sum(inode: Inode, offset: u64, bytes: u64) -> Asked {
        Asked(inode.0.rotate_left(20) ^ offset ^ bytes.rotate_left(40))
    }

    /// Returns whether a change with this outcome is what was asked for.
    pub(crate) fn is_done_by(self, change: &Change, outcome: Outcome) -> bool {
        match change {
            Change::Create {
                directory, name, ..
            }
            | Change::Unlink { directory, name } => self == Asked::name(Inode(*directory), name),
            Change::Rename {
                from,
                from_name,
                to,
                to_name,
            } => self == Asked::names((Inode(*from), from_name), (Inode(*to), to_name)),
            Change::Write { inode, .. } => {
                let bytes = outcome.bytes.into();
                let is_of = |offset| self == Asked::sum(Inode(*inode), offset, bytes);
                is_of(outcome.offset) || is_of(APPEND)
            }
            Change::Truncate { inode, bytes } => self == Asked::sum(Inode(*inode), 0, *bytes),
            Change::DropBlock { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use libipc::proto::file_system::{APPEND, Inode, Outcome};

    use super::Asked;
    use crate::tree::Change;

    #[test]
    fn a_change_is_what_was_asked_for_or_not() {
        let outcome = Outcome {
            inode: Inode(3),
            offset: 100,
            bytes: 7,
        };
        let write = Change::Write {
            inode: 3,
            bytes: 107,
            runs: Vec::new(),
        };
        let cut = Change::Truncate { inode: 3, bytes: 9 };
        let remove = Change::Unlink {
            directory: 3,
            name: b"a".to_vec(),
        };
        let rename = |from: u64, from_name: &[u8], to: u64, to_name: &[u8]| Change::Rename {
            from,
            from_name: from_name.to_vec(),
            to,
            to_name: to_name.to_vec(),
        };
        let names = Asked::names((Inode(3), b"a"), (Inode(4), b"b"));
        for (asked, change, is_right) in [
            (Asked::bytes(Inode(3), 100, 7), &write, true),
            (Asked::bytes(Inode(3), APPEND, 7), &write, true),
            (Asked::bytes(Inode(3), 101, 7), &write, false),
            (Asked::bytes(Inode(3), 100, 8), &write, false),
            (Asked::bytes(Inode(4), 100, 7), &write, false),
            (Asked::bytes(Inode(3), 0, 9), &cut, true),
            (Asked::bytes(Inode(3), 0, 10), &cut, false),
            (Asked::name(Inode(3), b"a"), &remove, true),
            (Asked::name(Inode(3), b"aa"), &remove, false),
            (Asked::name(Inode(3), b"b"), &remove, false),
            (Asked::name(Inode(4), b"a"), &remove, false),
            (names, &rename(3, b"a", 4, b"b"), true),
            (names, &rename(3, b"b", 4, b"a"), false),
            (names, &rename(4, b"b", 3, b"a"), false),
        ] {
            let what = format!("{asked:?} {change:?}");
            assert_eq!(asked.is_done_by(change, outcome), is_right, "{what}");
        }
    }
}
