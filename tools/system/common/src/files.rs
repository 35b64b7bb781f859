//! Work on whole files and directory trees, with failures that name the path.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use libipc::files;
use libipc::proto::vfs::{
    Attributes, DirectoryEntry, FileKind, FsError, LastLink, OpenOptions, VfsClient,
};

use crate::{Failed, Program};

/// Bytes that are read or written at once.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// The files, as a program works on them. Paths are absolute.
#[derive(Debug)]
pub struct Files {
    files: files::Files,
}

/// What is said of a path that failed: `path: why`.
fn about<E: Into<Failed>>(path: &[u8]) -> impl FnOnce(E) -> Failed {
    move |error| error.into().about(printable(path))
}

impl Files {
    /// Makes the way to the files.
    ///
    /// # Errors
    ///
    /// When the program was not given files.
    pub fn new(program: &Program) -> Result<Self, Failed> {
        // Without a memory manager all goes through messages.
        let memory = program.memory().ok();
        Ok(Files {
            files: files::Files::new(program.vfs()?, memory, program.cwd()),
        })
    }

    /// Returns the client below.
    pub fn vfs(&self) -> &VfsClient {
        self.files.vfs()
    }

    /// Tells what a path names.
    ///
    /// # Errors
    ///
    /// Why not, with the path.
    pub fn stat(&self, path: &[u8], last: LastLink) -> Result<Attributes, Failed> {
        self.vfs().stat(path, last).map_err(about(path))
    }

    /// Returns whether a path names a directory, through links.
    pub fn is_directory(&self, path: &[u8]) -> bool {
        let found = self.vfs().stat(path, LastLink::Follow);
        found.is_ok_and(|attributes| attributes.kind == FileKind::Directory)
    }

    /// Lists a directory, without `.` and `..`, sorted by name.
    ///
    /// # Errors
    ///
    /// Why not, with the path.
    pub fn list(&self, path: &[u8]) -> Result<Vec<DirectoryEntry>, Failed> {
        let mut entries = self.files.read_dir(path).map_err(about(path))?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn make_dirs(&self, path: &[u8]) -> Result<(), Failed> {
        Ok(self.files.make_dirs(path)?)
    }

    /// Gives the content of a file to `take`, in parts of at most [`CHUNK_BYTES`].
    ///
    /// # Errors
    ///
    /// Why it cannot be read, with the path; or what `take` says.
    pub fn read(
        &self,
        path: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let mut file = self
            .files
            .open(path, OpenOptions::read())
            .map_err(about(path))?;
        let mut bytes = vec![0; CHUNK_BYTES];
        loop {
            let count = file.read(&mut bytes).map_err(about(path))?;
            if count == 0 {
                return Ok(());
            }
            take(&bytes[..count])?;
        }
    }

    /// Copies the content of a file to a file, which is made or replaced.
    ///
    /// # Errors
    ///
    /// Why not, with the path.
    pub fn copy(&self, from: &[u8], to: &[u8]) -> Result<(), Failed> {
        let mut target = None;
        let open = || {
            self.files
                .open(to, OpenOptions::replace())
                .map_err(about(to))
        };
        self.read(from, |bytes| {
            // Made only when the source can be read.
            let file = match &mut target {
                Some(file) => file,
                None => target.insert(open()?),
            };
            file.write_all(bytes).map_err(about(to))
        })?;
        let file = target.map_or_else(open, Ok)?;
        file.close().map_err(about(to))
    }

    /// Copies a directory with all that is in it; symbolic links are copied as such. What fails
    /// is told to `complain`, the rest is copied.
    ///
    /// # Errors
    ///
    /// Why it cannot begin.
    pub fn copy_tree(&self, program: &mut Program, from: &[u8], to: &[u8]) -> Result<(), Failed> {
        let mut directories = Vec::new();
        self.copy_directory(program, (from, to), &mut directories)?;
        while let Some((from, to)) = directories.pop() {
            if let Err(failed) = self.copy_directory(program, (&from, &to), &mut directories) {
                program.complain(failed.message);
            }
        }
        Ok(())
    }

    /// Makes a directory and copies into it what is in another, but for directories: those come
    /// to `inner`.
    fn copy_directory(
        &self,
        program: &mut Program,
        (from, to): (&[u8], &[u8]),
        inner: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), Failed> {
        match self.vfs().make_dir(to) {
            Err(libipc::Failure::Server(FsError::Exists)) if self.is_directory(to) => {}
            made => made.map_err(about(to))?,
        }
        for entry in self.list(from)? {
            let (from, to) = (below(from, &entry.name), below(to, &entry.name));
            let copied = match entry.kind {
                FileKind::Directory => {
                    inner.push((from, to));
                    Ok(())
                }
                FileKind::Symlink => self.copy_link(&from, &to),
                FileKind::Regular => self.copy(&from, &to),
                FileKind::Special => {
                    Err(Failed::new("neither file nor directory").about(printable(&from)))
                }
            };
            if let Err(failed) = copied {
                program.complain(failed.message);
            }
        }
        Ok(())
    }

    fn copy_link(&self, from: &[u8], to: &[u8]) -> Result<(), Failed> {
        let target = self.vfs().read_link(from).map_err(about(from))?;
        self.vfs().symlink(to, &target).map_err(about(to))
    }

    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be removed, with its path.
    pub fn remove_tree(&self, path: &[u8]) -> Result<(), Failed> {
        let mut directories = vec![(path.to_vec(), false)];
        while let Some((path, is_emptied)) = directories.pop() {
            if is_emptied {
                self.vfs().remove_dir(&path).map_err(about(&path))?;
                continue;
            }
            let entries = self.list(&path)?;
            directories.push((path.clone(), true));
            for entry in entries {
                let path = below(&path, &entry.name);
                match entry.kind {
                    FileKind::Directory => directories.push((path, false)),
                    _ => self.vfs().unlink(&path).map_err(about(&path))?,
                }
            }
        }
        Ok(())
    }
}

/// Returns the path of a name in a directory.
pub fn below(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Returns the last name of a path, without slashes at its end.
pub fn file_name(path: &[u8]) -> &[u8] {
    let end = path
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(0, |last| last + 1);
    let path = &path[..end];
    path.iter()
        .rposition(|&byte| byte == b'/')
        .map_or(path, |slash| &path[slash + 1..])
}

/// Returns a name for people: control characters, which could steer the terminal, and bytes that
/// are not UTF-8 become placeholders.
pub fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{below, file_name, printable};

    #[test]
    fn paths_are_put_together_and_taken_apart() {
        assert_eq!(below(b"/", b"a"), b"/a");
        assert_eq!(below(b"/a", b"b"), b"/a/b");
        assert_eq!(file_name(b"/a/b//"), b"b");
        assert_eq!(file_name(b"c"), b"c");
        assert_eq!(file_name(b"/"), b"");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jü".as_bytes()), "a?[2Jü");
        assert_eq!(printable(b"\xff"), "\u{fffd}");
    }
}
