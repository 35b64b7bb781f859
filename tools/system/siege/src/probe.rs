//! Requests that show that a service serves: one that goes through it, not to a cache before it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use chaos::Random;
use libipc::files::Files;
use libipc::proto::console::ConsoleClient;
use libipc::proto::init::InitClient;
use libipc::proto::log::{KERNEL, LogClient};
use libipc::proto::memory::{MemoryManagerClient, Protection};
use libipc::proto::pci::PciClient;
use libipc::proto::vfs::{FileKind, LastLink, OpenOptions, Opened, Seal, VfsClient};
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Reservation;
use libsys::time;
use skink_program::launch::Launcher;
use skink_program::{Failed, Program};

use crate::services::INIT;

/// How long a request may take, ns: much longer than any recovery.
const PATIENCE_NS: u64 = 20_000 * time::MS;
/// How long a request may take that need not be answered, ns.
const NUDGE_NS: u64 = 5 * time::MS;
/// Bytes that are read of a file: few, so that the time is that of the way.
const BYTES: u64 = 512;
/// Pages of the memory that is touched; one with each request.
const PAGES: u64 = 512;

/// Clients of all services.
pub(crate) struct Probes {
    random: Random,
    vfs: VfsClient,
    console: ConsoleClient,
    log: Option<LogClient>,
    pci: Option<PciClient>,
    init: InitClient,
    memory: MemoryManagerClient,
    /// A file of the disk, and its size. Its content is never cached: only what lies ahead of a
    /// reader is.
    file: Option<Opened>,
    room: Reservation,
    /// Pages of the room that were touched; `None` when nothing is mapped there.
    touched: Option<u64>,
}

impl Probes {
    /// Makes the clients; the file is the largest one of the disk's root.
    ///
    /// # Errors
    ///
    /// When there is no way to the files.
    pub(crate) fn new(
        program: &Program,
        launcher: &Launcher,
        init: InitClient,
        seed: u64,
    ) -> Result<Self, Failed> {
        let vfs = program.vfs()?;
        let memory = launcher.memory().clone();
        let files = Files::new(vfs.clone(), Some(memory.clone()), "/");
        Ok(Probes {
            random: Random::new(seed),
            file: largest(&files)?,
            vfs,
            console: launcher.console().clone(),
            log: launcher.log(),
            pci: launcher.pci(),
            init,
            memory,
            room: Reservation::new(PAGES)?,
            touched: None,
        })
    }

    /// Sends a request to a service and waits for the answer.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn ask(&mut self, service: &str) -> Result<(), String> {
        self.ask_for(service, PATIENCE_NS)
    }

    /// Sends a request to a service, whether it answers or not: it has something to do.
    pub(crate) fn nudge(&mut self, service: &str) {
        // No answer is what is expected.
        if service == "memory-manager" {
            // Nobody can stop waiting for a page.
            let _ = self.memory.clone().with_deadline(NUDGE_NS).totals();
        } else {
            let _ = self.ask_for(service, NUDGE_NS);
        }
    }

    fn ask_for(&mut self, service: &str, ns: u64) -> Result<(), String> {
        let no_way = || "there is no way to it".to_string();
        match service {
            "pci" => {
                let pci = self.pci.clone().ok_or_else(no_way)?.with_deadline(ns);
                pci.devices().next().transpose().map(drop).map_err(text)
            }
            "log" => {
                let log = self.log.clone().ok_or_else(no_way)?.with_deadline(ns);
                log.read(KERNEL, u64::MAX).map(drop).map_err(text)
            }
            "virtio-blk" | "block" | "ext4" | "vfs" => self.read(ns),
            "tmpfs" => {
                let vfs = self.vfs.clone().with_deadline(ns);
                vfs.stat(b"/tmp", LastLink::Follow).map(drop).map_err(text)
            }
            // Shows as nothing.
            "console" => {
                let console = self.console.clone().with_deadline(ns);
                console.write(b"\r").map_err(text)
            }
            "memory-manager" => self.touch(),
            // `init` itself, or a service that came later than this program.
            name => {
                let name = if name == INIT { "vfs" } else { name };
                let init = self.init.clone().with_deadline(ns);
                init.statistics(name).map(drop).map_err(text)
            }
        }
    }

    fn read(&mut self, ns: u64) -> Result<(), String> {
        let vfs = self.vfs.clone().with_deadline(ns);
        let Some(Opened { file, attributes }) = self.file else {
            // Without a disk the vfs itself is all there is.
            return vfs.stat(b"/", LastLink::Follow).map(drop).map_err(text);
        };
        let places = (attributes.bytes / BYTES).max(1);
        let offset = self.random.below(places) * BYTES;
        let seal = Seal::transfer(attributes.inode, offset, BYTES as u32);
        vfs.read_small(file, offset, BYTES as u32, seal)
            .map(drop)
            .map_err(text)
    }

    /// Touches a page for the first time.
    fn touch(&mut self) -> Result<(), String> {
        let start = self.room.address();
        if self.touched == Some(PAGES) {
            self.memory.unmap(start, PAGES).map_err(text)?;
            self.touched = None;
        }
        let place = match self.touched {
            Some(place) => place,
            None => {
                let mapped = self
                    .memory
                    .map_anonymous(start, PAGES, Protection::ReadWrite);
                mapped.map_err(text)?;
                0
            }
        };
        self.touched = Some(place + 1);
        let address = start + place * PAGE_SIZE as u64;
        let word = core::ptr::with_exposed_provenance::<AtomicU64>(address as usize);
        // SAFETY: the page lies in the reservation, which is mapped, and is used by nothing else.
        let word = unsafe { &*word };
        if word.fetch_add(1, Ordering::Relaxed) != 0 {
            return Err("a fresh page is not zero".to_string());
        }
        Ok(())
    }
}

/// Returns the largest file in the root of the disk; `None` without a disk.
fn largest(files: &Files) -> Result<Option<Opened>, Failed> {
    let entries = files
        .read_dir("/")
        .map_err(|failure| Failed::from(failure).about("/"))?;
    let mut found: Vec<(u64, String)> = Vec::new();
    for entry in entries
        .iter()
        .filter(|entry| entry.kind == FileKind::Regular)
    {
        let path = format!("/{}", String::from_utf8_lossy(&entry.name));
        if let Ok(attributes) = files.stat(&path) {
            found.push((attributes.bytes, path));
        }
    }
    let Some((_, path)) = found.into_iter().max() else {
        return Ok(None);
    };
    let opened = files.vfs().open(path.as_bytes(), OpenOptions::read());
    let opened = opened.map_err(|failure| Failed::from(failure).about(path))?;
    Ok(Some(opened))
}

fn text<E: core::fmt::Display>(failure: E) -> String {
    failure.to_string()
}
