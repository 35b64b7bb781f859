//! Random operations against a plain table of paths.

use std::collections::BTreeMap;

use libipc::proto::file_system::{FileKind, FsError, Inode};
use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};

use super::{BLOCK_BYTES, Operations, TestFs, contents, lookup, new_fs, restart, write};

#[derive(Clone, Debug)]
enum Action {
    Create(u8, FileKind),
    Write(u8, u16, u16, u8),
    Truncate(u8, u16),
    Remove(u8, FileKind),
    Rename(u8, u8),
    Restart,
}

/// Paths of the test: few, so that they meet. A path is a name in the root or one below.
const PATHS: [&str; 8] = ["/a", "/b", "/c", "/d", "/a/x", "/a/y", "/b/x", "/b/y"];

#[derive(Default)]
struct Model {
    nodes: BTreeMap<String, Option<Vec<u8>>>,
}

impl Model {
    fn check_parent(&self, path: &str) -> Result<(), FsError> {
        match path.rsplit_once('/') {
            Some(("", _)) | None => Ok(()),
            Some((parent, _)) => match self.nodes.get(parent) {
                Some(None) => Ok(()),
                Some(Some(_)) => Err(FsError::NotADirectory),
                None => Err(FsError::NotFound),
            },
        }
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.nodes.keys().any(|other| other.starts_with(&prefix))
    }

    fn remove(&mut self, path: &str, kind: FileKind) -> Result<(), FsError> {
        self.check_parent(path)?;
        match (self.nodes.get(path), kind) {
            (None, _) => Err(FsError::NotFound),
            (Some(None), FileKind::Directory) if self.has_children(path) => Err(FsError::NotEmpty),
            (Some(None), FileKind::Directory) | (Some(Some(_)), FileKind::Regular) => {
                self.nodes.remove(path);
                Ok(())
            }
            (Some(None), _) => Err(FsError::IsADirectory),
            (Some(Some(_)), _) => Err(FsError::NotADirectory),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FsError> {
        self.check_parent(from)?;
        self.check_parent(to)?;
        let node = self.nodes.get(from).ok_or(FsError::NotFound)?.clone();
        let is_directory = node.is_none();
        if is_directory && to.starts_with(&format!("{from}/")) {
            return Err(FsError::Invalid);
        }
        if from == to {
            return Ok(());
        }
        match (is_directory, self.nodes.get(to)) {
            (true, Some(None)) if self.has_children(to) => return Err(FsError::NotEmpty),
            (true, Some(Some(_))) => return Err(FsError::NotADirectory),
            (false, Some(None)) => return Err(FsError::IsADirectory),
            _ => {}
        }
        let prefix = format!("{from}/");
        let below: Vec<String> = self
            .nodes
            .keys()
            .filter(|path| path.starts_with(&prefix))
            .cloned()
            .collect();
        for path in below {
            let content = self.nodes.remove(&path).unwrap();
            self.nodes
                .insert(format!("{to}/{}", &path[prefix.len()..]), content);
        }
        self.nodes.remove(from);
        self.nodes.insert(to.to_owned(), node);
        Ok(())
    }
}

fn parent_and_name<'a>(fs: &TestFs, path: &'a str) -> Result<(Inode, &'a [u8]), FsError> {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let inode = match parent.strip_prefix('/') {
        Some(parent) => lookup(fs, fs.root(), parent.as_bytes())?.inode,
        None => fs.root(),
    };
    Ok((inode, name.as_bytes()))
}

fn find(fs: &TestFs, path: &str) -> Result<Inode, FsError> {
    let (parent, name) = parent_and_name(fs, path)?;
    Ok(lookup(fs, parent, name)?.inode)
}

/// A file system and the model of it.
struct Pair {
    fs: TestFs,
    operations: Operations,
    model: Model,
}

impl Pair {
    fn apply(&mut self, action: &Action) {
        match *action {
            Action::Create(path, kind) => self.create(at(path), kind),
            Action::Write(path, offset, bytes, fill) => {
                let content = vec![fill; usize::from(bytes) % 9000];
                self.write(at(path), u64::from(offset) % 20_000, &content);
            }
            Action::Truncate(path, bytes) => self.truncate(at(path), bytes),
            Action::Remove(path, kind) => self.remove(at(path), kind),
            Action::Rename(from, to) => self.rename(at(from), at(to)),
            Action::Restart => {
                let fs = core::mem::replace(&mut self.fs, new_fs());
                self.fs = restart(fs);
            }
        }
    }

    fn create(&mut self, path: &str, kind: FileKind) {
        let stamp = self.operations.stamp();
        let result = parent_and_name(&self.fs, path)
            .and_then(|(parent, name)| self.fs.create(stamp, parent, name, (kind, 0o644)));
        let model = &mut self.model;
        let expected = model
            .check_parent(path)
            .and_then(|()| match model.nodes.get(path) {
                Some(_) => Err(FsError::Exists),
                None => Ok(()),
            });
        assert_eq!(result.map(|_| ()), expected, "create {path}");
        if expected.is_ok() {
            model
                .nodes
                .insert(path.into(), (kind == FileKind::Regular).then(Vec::new));
        }
    }

    fn write(&mut self, path: &str, offset: u64, content: &[u8]) {
        let Ok(inode) = find(&self.fs, path) else {
            return;
        };
        let result = write(&mut self.fs, self.operations.next(), inode, offset, content);
        match (result, self.model.nodes.get_mut(path)) {
            (Ok(outcome), Some(Some(known))) => {
                assert_eq!(
                    (outcome.offset, outcome.bytes as usize),
                    (offset, content.len())
                );
                let end = offset as usize + content.len();
                if !content.is_empty() {
                    known.resize(known.len().max(end), 0);
                    known[offset as usize..end].copy_from_slice(content);
                }
            }
            (Err(FsError::IsADirectory), Some(None)) => {}
            (Err(FsError::NoSpace), Some(Some(_))) => {
                let wanted = content.len() / BLOCK_BYTES + 2;
                assert!((self.fs.space().free_blocks as usize) < wanted);
            }
            (result, node) => panic!("write {path}: {result:?} for {node:?}"),
        }
    }

    fn truncate(&mut self, path: &str, bytes: u16) {
        let Ok(inode) = find(&self.fs, path) else {
            return;
        };
        let result = self
            .fs
            .truncate(self.operations.stamp(), inode, bytes.into());
        match self.model.nodes.get_mut(path) {
            Some(Some(known)) => {
                result.unwrap();
                known.resize(bytes.into(), 0);
            }
            _ => assert_eq!(result, Err(FsError::IsADirectory)),
        }
    }

    fn remove(&mut self, path: &str, kind: FileKind) {
        let stamp = self.operations.stamp();
        let result = parent_and_name(&self.fs, path)
            .and_then(|(parent, name)| self.fs.unlink(stamp, parent, name, kind));
        assert_eq!(
            result.map(|_| ()),
            self.model.remove(path, kind),
            "remove {path}"
        );
    }

    fn rename(&mut self, from: &str, to: &str) {
        let stamp = self.operations.stamp();
        let result = parent_and_name(&self.fs, from).and_then(|from| {
            let to = parent_and_name(&self.fs, to)?;
            self.fs.rename(stamp, from, to)
        });
        // Several errors can be right at once; which one comes first is not promised.
        let expected = self.model.rename(from, to);
        assert_eq!(
            result.is_ok(),
            expected.is_ok(),
            "rename {from} {to}: {result:?}"
        );
    }
}

fn at(path: u8) -> &'static str {
    PATHS[usize::from(path) % PATHS.len()]
}

fn any_kind() -> impl Strategy<Value = FileKind> {
    any::<bool>().prop_map(|is_file| {
        if is_file {
            FileKind::Regular
        } else {
            FileKind::Directory
        }
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (any::<u8>(), any_kind()).prop_map(|(path, kind)| Action::Create(path, kind)),
        (any::<u8>(), any::<u16>(), any::<u16>(), 1_u8..)
            .prop_map(|(path, offset, bytes, fill)| Action::Write(path, offset, bytes, fill)),
        (any::<u8>(), any::<u16>()).prop_map(|(path, bytes)| Action::Truncate(path, bytes)),
        (any::<u8>(), any_kind()).prop_map(|(path, kind)| Action::Remove(path, kind)),
        (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Action::Rename(from, to)),
        proptest::prelude::Just(Action::Restart),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_table_of_paths(actions in prop::collection::vec(action(), 1..120)) {
        let (fs, operations) = (new_fs(), Operations::default());
        let mut pair = Pair { fs, operations, model: Model::default() };
        for action in &actions {
            pair.apply(action);
        }
        let Pair { mut fs, mut operations, model } = pair;
        assert_eq!(contents(&fs), model.nodes);
        // Blocks are neither lost nor given out twice: after removing all, all are free.
        for path in PATHS.iter().rev() {
            if let Ok((parent, name)) = parent_and_name(&fs, path) {
                for kind in [FileKind::Regular, FileKind::Directory] {
                    // One of both kinds fits, or there is nothing.
                    let _ = fs.unlink(operations.stamp(), parent, name, kind);
                }
            }
        }
        // A directory that was renamed below another may have left paths outside of the list.
        let left: usize = contents(&fs).values().flatten().map(|c| c.len().div_ceil(4096)).sum();
        assert!(fs.space().free_blocks as usize + left >= fs.space().blocks as usize);
    }
}
