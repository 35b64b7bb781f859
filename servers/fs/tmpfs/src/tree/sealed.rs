//! Whether a change is what the request asked for.

use libipc::proto::file_system::{APPEND, Inode, Outcome, Seal};

use super::{Change, NewNode};

impl Change {
    /// Returns whether a change with this outcome is the one under a seal; of a write, of one without a
    /// place in a memory object.
    pub(crate) fn is_sealed_by(&self, seal: Seal, outcome: Outcome) -> bool {
        match self {
            Change::Create {
                directory,
                name,
                mode,
                node,
                ..
            } => {
                let directory = Inode(*directory);
                seal == match node {
                    NewNode::Symlink(target) => Seal::symlink(directory, name, target),
                    node => Seal::create(directory, name, node.kind(), *mode),
                }
            }
            Change::Unlink { directory, name } => seal == Seal::name(Inode(*directory), name),
            Change::Rename {
                from,
                from_name,
                to,
                to_name,
            } => seal == Seal::rename((Inode(*from), from_name), (Inode(*to), to_name)),
            Change::Write { inode, .. } => {
                let is_of = |offset| seal == Seal::transfer(Inode(*inode), offset, outcome.bytes);
                is_of(outcome.offset) || is_of(APPEND)
            }
            Change::Truncate { inode, bytes } => seal == Seal::truncate(Inode(*inode), *bytes),
            Change::DropBlock { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use libipc::proto::file_system::{APPEND, FileKind, Inode, Outcome, Seal};

    use crate::tree::{Change, NewNode};

    #[test]
    fn a_change_is_the_one_under_its_seal_or_not() {
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
        let create = |node| Change::Create {
            directory: 3,
            name: b"a".to_vec(),
            inode: 7,
            mode: 0o600,
            node,
        };
        let file = create(NewNode::File);
        let link = create(NewNode::Symlink(b"b".to_vec()));
        let rename = |from: u64, from_name: &[u8], to: u64, to_name: &[u8]| Change::Rename {
            from,
            from_name: from_name.to_vec(),
            to,
            to_name: to_name.to_vec(),
        };
        let names = Seal::rename((Inode(3), b"a"), (Inode(4), b"b"));
        let made = |kind, mode| Seal::create(Inode(3), b"a", kind, mode);
        for (seal, change, is_right) in [
            (Seal::transfer(Inode(3), 100, 7), &write, true),
            (Seal::transfer(Inode(3), APPEND, 7), &write, true),
            (Seal::transfer(Inode(3), 101, 7), &write, false),
            (Seal::transfer(Inode(3), 100, 8), &write, false),
            (Seal::transfer(Inode(4), 100, 7), &write, false),
            (Seal::truncate(Inode(3), 9), &cut, true),
            (Seal::truncate(Inode(3), 10), &cut, false),
            (Seal::name(Inode(3), b"a"), &remove, true),
            (Seal::name(Inode(3), b"aa"), &remove, false),
            (Seal::name(Inode(3), b"b"), &remove, false),
            (Seal::name(Inode(4), b"a"), &remove, false),
            (made(FileKind::Regular, 0o600), &file, true),
            (made(FileKind::Directory, 0o600), &file, false),
            (made(FileKind::Regular, 0o601), &file, false),
            (Seal::symlink(Inode(3), b"a", b"b"), &link, true),
            (Seal::symlink(Inode(3), b"a", b"c"), &link, false),
            (names, &rename(3, b"a", 4, b"b"), true),
            (names, &rename(3, b"b", 4, b"a"), false),
            (names, &rename(4, b"b", 3, b"a"), false),
        ] {
            let what = format!("{seal:?} {change:?}");
            assert_eq!(change.is_sealed_by(seal, outcome), is_right, "{what}");
        }
    }
}
