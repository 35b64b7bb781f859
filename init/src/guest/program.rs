//! Programs of services: images of the boot bundle, and others that were brought later.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use init::ledger;
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Mapping;
use libsys::spawn::Image;
use libsys::{Handle, MapFlags, Memory};
use sha2::{Digest as _, Sha256};
use skink_manifest::bundle::Entry;

use super::kit::Common;
use super::watchdog;

/// Bytes of an image that are hashed without a sign of life.
const HASHED_AT_ONCE: usize = 64 * 1024;

/// A program of a service. Clones are the same program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Name in the boot bundle; empty for one that is not from there.
    name: String,
    /// SHA-256 that the image must have.
    digest: [u8; 32],
    content: Content,
    /// Whether it was found to have it: the image does not change.
    is_verified: AtomicBool,
}

enum Content {
    /// In the boot bundle, from this byte on; page aligned.
    Bundle(usize, &'static [u8]),
    /// In memory that only `init` has.
    Own {
        memory: Handle<Memory>,
        mapping: Mapping,
        bytes: usize,
    },
    Missing,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Content::Bundle(_, bytes) => ("Bundle", bytes.len()),
            Content::Own { bytes, .. } => ("Own", *bytes),
            Content::Missing => ("Missing", 0),
        };
        f.debug_tuple(name).field(&bytes).finish()
    }
}

impl Program {
    fn new(name: &str, digest: [u8; 32], content: Content) -> Program {
        Program {
            inner: Arc::new(Inner {
                name: name.into(),
                digest,
                content,
                is_verified: AtomicBool::new(false),
            }),
        }
    }

    /// Makes a program of an entry of the boot bundle.
    pub(crate) fn of_bundle(entry: &Entry<'static>) -> Program {
        let content = Content::Bundle(entry.offset, entry.data);
        Program::new(entry.name, *entry.digest, content)
    }

    /// Makes a program that is not there: it cannot be started.
    pub(crate) fn missing(name: &str) -> Program {
        Program::new(name, [0; 32], Content::Missing)
    }

    /// Makes a program of the first bytes of a memory object that nobody else can write, under the
    /// SHA-256 that it really has.
    pub(crate) fn of_memory(memory: Handle<Memory>, bytes: usize) -> libsys::Result<Program> {
        let mapping = Mapping::map(&memory, MapFlags::READ)?;
        if bytes > mapping.bytes() {
            return Err(libsys::Error::InvalidArgument);
        }
        let content = Content::Own {
            memory,
            mapping,
            bytes,
        };
        let digest = Sha256::digest(content.bytes()).into();
        Ok(Program::new("", digest, content))
    }

    /// Says that an earlier instance of `init` has found the image to have its digest.
    pub(crate) fn set_verified(&self) {
        self.inner.is_verified.store(true, Ordering::Release);
    }

    /// Returns what the next instance of `init` must know to find it.
    pub(crate) fn noted(&self) -> ledger::Program {
        match &self.inner.content {
            Content::Own { memory, bytes, .. } => {
                ledger::Program::Memory(memory.raw().0, *bytes as u64)
            }
            Content::Bundle(..) | Content::Missing => {
                ledger::Program::Image(self.inner.name.clone())
            }
        }
    }

    /// Returns the name in the boot bundle; empty for a program that is not from there.
    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the SHA-256.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.inner.digest
    }

    /// Returns the first bytes of the SHA-256, for people.
    pub(crate) fn short_digest(&self) -> u64 {
        let first = self.inner.digest.first_chunk();
        first.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Returns the image.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.inner.content.bytes()
    }

    /// Returns whether the image has its digest. Computes it the first time only.
    pub(crate) fn is_intact(&self) -> bool {
        let Inner {
            digest,
            is_verified,
            ..
        } = &*self.inner;
        if !is_verified.load(Ordering::Acquire) {
            let mut hash = Sha256::new();
            for part in self.bytes().chunks(HASHED_AT_ONCE) {
                hash.update(part);
                watchdog::turned();
            }
            if hash.finalize().as_slice() != digest {
                return false;
            }
            is_verified.store(true, Ordering::Release);
        }
        true
    }

    /// Returns the image as processes are started from it.
    pub(crate) fn image<'a>(&'a self, common: &'a Common) -> Image<'a> {
        let bytes = self.bytes();
        match &self.inner.content {
            Content::Own { memory, .. } => Image {
                bytes,
                memory,
                first_page: 0,
            },
            Content::Bundle(offset, _) => Image {
                bytes,
                memory: &common.bundle,
                first_page: (offset / PAGE_SIZE) as u64,
            },
            Content::Missing => Image {
                bytes,
                memory: &common.bundle,
                first_page: 0,
            },
        }
    }
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Content::Bundle(_, bytes) => bytes,
            Content::Own { mapping, bytes, .. } => {
                let start = core::ptr::with_exposed_provenance(mapping.address() as usize);
                // SAFETY: the mapping lives as long as this, has at least so many bytes, and the
                // memory was filled before and is never written again: only `init` has a handle
                // to it, and gives it to processes for reading and executing only.
                unsafe { core::slice::from_raw_parts(start, *bytes) }
            }
            Content::Missing => &[],
        }
    }
}
