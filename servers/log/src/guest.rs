//! Wiring: the rings that `init` hands out, the kernel log, the interface.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::convert::Infallible;

use libipc::events::Events;
use libipc::proto::init::{InitClient, PAGE_OF_RINGS};
use libipc::proto::log::{KERNEL, LogDispatcher, LogError, LogPage, LogServer};
use libipc::{Caller, Server};
use libsys::log_ring::Reader;
use libsys::{Endpoint, Handle, Memory, Sender, System, startup, time};
use log_server::{KernelLines, Line, REGION_WORDS, Slot, Store, page};

/// Notification bit by which `init` says that there are new rings.
const NEW_RINGS_BIT: u8 = 0;
/// How often the rings are emptied: a ring of 16 KiB holds about 150 lines, and whoever reads a
/// log through this server has the rings emptied first.
const PERIOD_NS: u64 = 200 * time::MS;
/// Bytes of the kernel log that are read at once.
const KERNEL_CHUNK: usize = 2048;

/// One service's ring, and what of it was read.
struct Source {
    name: String,
    ring: Handle<Memory>,
    reader: Reader,
    slot: Slot<'static>,
    /// Lines that the service dropped, as far as they are in the numbers; unknown at first when
    /// an earlier log server has read the ring.
    dropped: Option<u64>,
    next_number: u64,
}

struct Logs {
    store: Store<'static>,
    init: InitClient,
    system: Option<Handle<System>>,
    sources: RefCell<Vec<Source>>,
    kernel: RefCell<KernelLines>,
}

impl Logs {
    /// Asks `init` for the rings and takes those that are new.
    fn take_rings(&self) {
        let mut first = 0;
        loop {
            let (names, a, b, c, d) = match self.init.log_rings(first) {
                Ok(answer) => answer,
                Err(error) => return log::error!("no log rings from init: {error}"),
            };
            let count = names.len();
            for (name, ring) in names.into_iter().zip([a, b, c, d]) {
                if let Some(ring) = ring {
                    self.take_ring(name, ring);
                }
            }
            if count < PAGE_OF_RINGS {
                return;
            }
            first += count as u32;
        }
    }

    fn take_ring(&self, name: String, ring: Handle<Memory>) {
        let mut sources = self.sources.borrow_mut();
        if sources.iter().any(|source| source.name == name) {
            return;
        }
        let Some(slot) = self.store.find_or_start(&name) else {
            return log::warn!("no room for the log of {name}");
        };
        let last = slot.last();
        sources.push(Source {
            name,
            ring,
            reader: Reader::new(last.as_ref().map_or(0, |line| line.source)),
            slot,
            dropped: last.is_none().then_some(0),
            next_number: last.map_or(1, |line| line.number.saturating_add(1)),
        });
    }

    /// Empties all rings and reads on in the kernel log.
    fn collect(&self) {
        for source in &mut *self.sources.borrow_mut() {
            source.collect();
        }
        self.collect_kernel();
    }

    fn collect_kernel(&self) {
        let (Some(system), Some(slot)) = (&self.system, self.store.find_or_start(KERNEL)) else {
            return;
        };
        let mut kernel = self.kernel.borrow_mut();
        let mut buffer = vec![0; KERNEL_CHUNK];
        // A kernel that logs faster than this reads must not hold the server up.
        for _ in 0..32 {
            let position = kernel.position();
            match system.read_kernel_log(position, &mut buffer) {
                Ok((0, _)) | Err(_) => return,
                Ok((bytes, next)) => {
                    let text = &buffer[..bytes.min(KERNEL_CHUNK)];
                    kernel.push(text, next, time::now(), |line| slot.push(&line));
                }
            }
        }
    }
}

impl Source {
    fn collect(&mut self) {
        let (slot, next_number) = (self.slot, &mut self.next_number);
        let drained = self.reader.drain(&self.ring, |record, source| {
            slot.push(&Line {
                time_ns: record.time_ns,
                level: record.level,
                target: record.target.to_vec(),
                text: record.text.to_vec(),
                source,
                number: *next_number,
            });
            *next_number += 1;
        });
        // A gap in the numbers tells the reader how many lines are missing.
        let known = self
            .dropped
            .replace(drained.dropped)
            .unwrap_or(drained.dropped);
        self.next_number += drained.dropped.saturating_sub(known);
    }
}

impl LogServer for Logs {
    async fn services(&self, _caller: &Caller) -> Result<Vec<String>, LogError> {
        self.collect();
        Ok(self.store.names())
    }

    async fn read(
        &self,
        _caller: &Caller,
        service: String,
        from: u64,
    ) -> Result<LogPage, LogError> {
        self.collect();
        let slot = self.store.find(&service).ok_or(LogError::NoSuchService)?;
        Ok(page(slot, from))
    }
}

/// Serves for ever, or says what is missing.
pub(crate) fn serve() -> Result<Infallible, &'static str> {
    let given = startup::read().ok_or("damaged start-up pages")?;
    let endpoint = startup::take::<Endpoint>(&given, "self").ok_or("no endpoint")?;
    let notification = startup::take(&given, "notification").ok_or("no notification")?;
    let init = startup::take::<Sender>(&given, "init").ok_or("no sender to init")?;
    let init = InitClient::connect(init).map_err(|_| "init speaks another version")?;
    libsys::gate::announce(log_server::SCHEMA);
    let (words, data) = libsys::given::state_atomics(REGION_WORDS).ok_or("no state region")?;
    let store = Store::open(words, data).ok_or("state region too small")?;
    let last = store.find(KERNEL).and_then(|slot| slot.last());
    let server = Server::new(endpoint, notification);
    let logs = Rc::new(Logs {
        store,
        init,
        system: startup::take(&given, "system"),
        sources: RefCell::default(),
        kernel: RefCell::new(KernelLines::after(last.as_ref())),
    });
    server
        .events()
        .spawn(watch_rings(Rc::clone(&logs), server.events()));
    server
        .events()
        .spawn(collect_regularly(Rc::clone(&logs), server.events()));
    server.run(LogDispatcher::new(logs))
}

async fn watch_rings(logs: Rc<Logs>, events: Events) {
    loop {
        logs.take_rings();
        events.bit(NEW_RINGS_BIT).await;
    }
}

async fn collect_regularly(logs: Rc<Logs>, events: Events) {
    loop {
        logs.collect();
        events.sleep_until(time::after(PERIOD_NS)).await;
    }
}
