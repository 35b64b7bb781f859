//! Work on whole files and directory trees.
//!
//! Content goes through one memory object per program: the file system writes into it, so that a
//! copy from file to file never passes through the program itself.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::OnceCell;

use libipc::proto::vfs::{
    Attributes, Cookie, DirectoryEntry, FileId, FileKind, FsError, LastLink, OpenOptions, Transfer,
    VfsClient,
};
use libsys::abi::PAGE_SIZE;
use libsys::{Handle, Memory};

use crate::{Failed, Program};

/// Bytes that are read or written at once.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// The files, as a program works on them. Paths are absolute.
#[derive(Debug)]
pub struct Files {
    vfs: VfsClient,
    buffer: OnceCell<Handle<Memory>>,
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
        Ok(Files {
            vfs: program.vfs()?,
            buffer: OnceCell::new(),
        })
    }

    /// Returns the client below.
    pub fn vfs(&self) -> &VfsClient {
        &self.vfs
    }

    fn buffer(&self, program: &Program) -> Result<&Handle<Memory>, Failed> {
        if let Some(buffer) = self.buffer.get() {
            return Ok(buffer);
        }
        let buffer = program
            .memory()?
            .create_object((CHUNK_BYTES / PAGE_SIZE) as u64)?;
        Ok(self.buffer.get_or_init(|| buffer))
    }

    /// Tells what a path names.
    ///
    /// # Errors
    ///
    /// Why not, with the path.
    pub fn stat(&self, path: &[u8], last: LastLink) -> Result<Attributes, Failed> {
        self.vfs.stat(path, last).map_err(about(path))
    }

    /// Returns whether a path names a directory, through links.
    pub fn is_directory(&self, path: &[u8]) -> bool {
        let found = self.vfs.stat(path, LastLink::Follow);
        found.is_ok_and(|attributes| attributes.kind == FileKind::Directory)
    }

    /// Lists a directory, without `.` and `..`, sorted by name.
    ///
    /// # Errors
    ///
    /// Why not, with the path.
    pub fn list(&self, path: &[u8]) -> Result<Vec<DirectoryEntry>, Failed> {
        let mut entries = Vec::new();
        let mut from = Some(Cookie::default());
        while let Some(cookie) = from {
            let page = self.vfs.read_dir(path, cookie).map_err(about(path))?;
            entries.extend(page.entries);
            from = page.next;
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Gives the content of a file to `take`, in parts of at most [`CHUNK_BYTES`].
    ///
    /// # Errors
    ///
    /// Why it cannot be read, with the path; or what `take` says.
    pub fn read(
        &self,
        program: &mut Program,
        path: &[u8],
        mut take: impl FnMut(&mut Program, &[u8]) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let buffer = self.buffer(program)?;
        let opened = self
            .vfs
            .open(path, OpenOptions::read())
            .map_err(about(path))?;
        let mut bytes = vec![0; CHUNK_BYTES];
        let mut offset = 0;
        let outcome = loop {
            let got = match self.chunk(opened.file, offset, buffer) {
                Ok(0) => break Ok(()),
                Ok(got) => got,
                Err(failed) => break Err(failed.about(printable(path))),
            };
            let part = &mut bytes[..got];
            let taken = buffer.read(0, part).map_err(Failed::from);
            if let Err(failed) = taken.and_then(|()| take(program, part)) {
                break Err(failed);
            }
            offset += got as u64;
        };
        // The content was read; a file that cannot be closed ends with the program.
        let _ = self.vfs.close(opened.file);
        outcome
    }

    fn chunk(&self, file: FileId, offset: u64, buffer: &Handle<Memory>) -> Result<usize, Failed> {
        let transfer = Transfer {
            offset,
            bytes: CHUNK_BYTES as u32,
            buffer_offset: 0,
        };
        Ok((self.vfs.read(file, transfer, buffer)? as usize).min(CHUNK_BYTES))
    }

    /// Copies the content of a file to a file, which is made or replaced.
    ///
    /// # Errors
    ///
    /// Why not, with the path.
    pub fn copy(&self, program: &Program, from: &[u8], to: &[u8]) -> Result<(), Failed> {
        let buffer = self.buffer(program)?;
        let source = self
            .vfs
            .open(from, OpenOptions::read())
            .map_err(about(from))?;
        let outcome = self.copy_opened(source.file, from, to, buffer);
        // As in `read`.
        let _ = self.vfs.close(source.file);
        outcome
    }

    fn copy_opened(
        &self,
        source: FileId,
        from: &[u8],
        to: &[u8],
        buffer: &Handle<Memory>,
    ) -> Result<(), Failed> {
        let target = self
            .vfs
            .open(to, OpenOptions::replace())
            .map_err(about(to))?;
        let mut offset = 0;
        let outcome = loop {
            match self.chunk(source, offset, buffer) {
                Ok(0) => break Ok(()),
                Err(failed) => break Err(failed.about(printable(from))),
                Ok(got) => {
                    let transfer = Transfer {
                        offset,
                        bytes: got as u32,
                        buffer_offset: 0,
                    };
                    if let Err(error) = self.vfs.write(target.file, transfer, buffer) {
                        break Err(about(to)(error));
                    }
                    offset += got as u64;
                }
            }
        };
        let closed = self.vfs.close(target.file).map_err(about(to));
        outcome.and(closed)
    }

    /// Copies a directory with all that is in it; symbolic links are copied as such. What fails
    /// is told to `complain`, the rest is copied.
    ///
    /// # Errors
    ///
    /// Why it cannot begin.
    pub fn copy_tree(&self, program: &mut Program, from: &[u8], to: &[u8]) -> Result<(), Failed> {
        let mut directories = vec![(from.to_vec(), to.to_vec())];
        while let Some((from, to)) = directories.pop() {
            match self.vfs.make_dir(&to) {
                Err(libipc::Failure::Server(FsError::Exists)) if self.is_directory(&to) => {}
                made => made.map_err(about(&to))?,
            }
            for entry in self.list(&from)? {
                let (from, to) = (below(&from, &entry.name), below(&to, &entry.name));
                let copied = match entry.kind {
                    FileKind::Directory => {
                        directories.push((from, to));
                        Ok(())
                    }
                    FileKind::Symlink => self.copy_link(&from, &to),
                    FileKind::Regular => self.copy(program, &from, &to),
                    FileKind::Special => {
                        Err(Failed::new("neither file nor directory").about(printable(&from)))
                    }
                };
                if let Err(failed) = copied {
                    program.complain(failed.message);
                }
            }
        }
        Ok(())
    }

    fn copy_link(&self, from: &[u8], to: &[u8]) -> Result<(), Failed> {
        let target = self.vfs.read_link(from).map_err(about(from))?;
        self.vfs.symlink(to, &target).map_err(about(to))
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
                self.vfs.remove_dir(&path).map_err(about(&path))?;
                continue;
            }
            let entries = self.list(&path)?;
            directories.push((path.clone(), true));
            for entry in entries {
                let path = below(&path, &entry.name);
                match entry.kind {
                    FileKind::Directory => directories.push((path, false)),
                    _ => self.vfs.unlink(&path).map_err(about(&path))?,
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
