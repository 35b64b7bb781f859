//! The block device below: a ring to the block server, and a buffer that it reads into.
//!
//! The buffer is divided into rooms, some for data and some for metadata, so that a read of
//! metadata always gets through. A room belongs to its read until the block server completed it,
//! also when nobody waits for it any more.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt::Display;
use core::future::Future;
use core::hint::black_box;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use ext4::device::{BlockReader, MAX_READ_BYTES, SECTOR_BYTES};
use ext4::error::{Error, Result};
use ext4::reading::{Outcome, Reading};
use ext4::service::OpenDevice;
use libipc::events::Events;
use libipc::proto::block::{BlockClient, BlockEntry, BlockSchema, BufferId};
use libipc::proto::memory::{MemoryManagerClient, MemoryManagerSchema};
use libipc::ring::{Progress, RingClient, pages_for};
use libipc::schema::Interface as _;
use libipc::sync::Signal;
use libipc::typed_ring::TypedRingClient;
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Mapping;
use libsys::{Handle, MapFlags, Memory, Sender, time};

use crate::dma::DmaBuffer;

/// Notification bit that the block server sets when requests are completed.
const WAKE_BIT: u8 = 0;
/// Data reads at a time: more than are kept ahead, so that others find room.
const DATA_ROOMS: u64 = 14;
/// Metadata reads at a time.
const METADATA_ROOMS: u64 = 4;
/// The largest block.
const METADATA_BYTES: u64 = 64 * 1024;
/// 2 MiB.
const BUFFER_BYTES: u64 = DATA_ROOMS * MAX_READ_BYTES + METADATA_ROOMS * METADATA_BYTES;
/// A slot for each room: the ring is never full.
const RING_SLOTS: usize = 32;

/// Time between two looks at the reads that are under way, ns. One that is there at two looks has
/// been lost: the block server gives its driver a second.
const LOOK_NS: u64 = 3_000 * time::MS;

/// Opens the device when the first request comes.
pub(crate) struct Opener {
    events: Events,
    clients: Rc<Clients>,
    /// So that no call is made before it is needed.
    is_connected: Cell<bool>,
    device: String,
}

struct Clients {
    block: BlockClient,
    memory: MemoryManagerClient,
}

impl Opener {
    /// Remembers what is needed to open the device with this name.
    pub(crate) fn new(
        events: Events,
        block: Handle<Sender>,
        memory: Handle<Sender>,
        device: String,
    ) -> Self {
        let clients = Clients {
            block: BlockClient::new_unchecked(block),
            memory: MemoryManagerClient::new_unchecked(memory),
        };
        Opener {
            events,
            clients: Rc::new(clients),
            is_connected: Cell::new(false),
            device,
        }
    }

    fn clients(&self) -> Result<&Rc<Clients>> {
        if !self.is_connected.get() {
            let Clients { block, memory } = &*self.clients;
            let blocks = block.client().handshake(BlockSchema::SCHEMA);
            blocks.map_err(|why| failed("connect", &why))?;
            let pages = memory.client().handshake(MemoryManagerSchema::SCHEMA);
            pages.map_err(|why| failed("connect", &why))?;
            self.is_connected.set(true);
        }
        Ok(&self.clients)
    }

    fn open_disk(&self) -> Result<Disk> {
        let clients = self.clients()?;
        let devices = clients
            .block
            .devices()
            .map_err(|why| failed("list devices", &why))?;
        let found = devices.iter().position(|device| device.name == self.device);
        let (Some(number), Some(info)) = (found, found.and_then(|number| devices.get(number)))
        else {
            log::warn!("there is no block device {}", self.device);
            return Err(Error::Device);
        };
        let ring_memory = clients.object(pages_for(RING_SLOTS) as u64)?;
        let mapping = map(&ring_memory, MapFlags::READ | MapFlags::WRITE)?;
        let mut ring =
            RingClient::create(mapping, RING_SLOTS).map_err(|why| failed("make a ring", &why))?;
        let buffer = clients.object(BUFFER_BYTES / PAGE_SIZE as u64)?;
        let view = DmaBuffer::new(map(&buffer, MapFlags::READ)?);
        let wake = self
            .events
            .mint(1 << WAKE_BIT)
            .map_err(|why| failed("make a notification", &why))?;
        let number = u32::try_from(number).map_err(|_| Error::Device)?;
        let (queue, doorbell) = clients
            .block
            .open(number, &ring_memory, &wake)
            .map_err(|why| failed("open the device", &why))?;
        ring.set_doorbell(doorbell);
        let buffer = clients
            .block
            .register_buffer(queue, &buffer)
            .map_err(|why| failed("register the buffer", &why))?;
        let ring = TypedRingClient::new(ring);
        self.events
            .spawn(Rc::clone(ring.ring()).pump(self.events.clone(), WAKE_BIT));
        self.events.spawn({
            let (ring, clients) = (Rc::clone(ring.ring()), Rc::clone(clients));
            RingClient::guard(ring, self.events.clone(), LOOK_NS, move |progress| {
                get_on(&clients, progress);
            })
        });
        let channel = Channel {
            clients: Rc::clone(clients),
            events: self.events.clone(),
            ring,
            buffer,
            view,
        };
        Ok(Disk {
            bytes: info.sectors.saturating_mul(SECTOR_BYTES),
            channel: Rc::new(channel),
            data: Rooms::new(0, DATA_ROOMS, MAX_READ_BYTES),
            metadata: Rooms::new(DATA_ROOMS * MAX_READ_BYTES, METADATA_ROOMS, METADATA_BYTES),
        })
    }
}

/// Does what it takes for the ring to the block server to get on.
fn get_on(clients: &Clients, progress: Progress) {
    match progress {
        Progress::Fine => {}
        Progress::Overdue(_) => clients.distrust("a read takes too long"),
        Progress::Unheard => libipc::doubt_oneself("ring"),
        // The next instance of this server opens the device anew.
        Progress::Lost => panic!("the block server does not know the ring"),
    }
}

impl OpenDevice for Opener {
    type Reader = Disk;

    async fn open(&self) -> Result<Disk> {
        self.open_disk()
    }
}

impl Clients {
    /// Has this server replaced, and if that was tried the block server: no read of this program should
    /// fail, and it may be this side that asks for nonsense or does not see the answer.
    fn distrust(&self, why: &str) {
        log::error!("block server: {why}");
        libipc::doubt_oneself("read");
        self.block.client().report("read");
    }

    fn object(&self, pages: u64) -> Result<Handle<Memory>> {
        self.memory
            .create_object(pages)
            .map_err(|why| failed("get memory", &why))
    }
}

/// An open device.
pub(crate) struct Disk {
    bytes: u64,
    channel: Rc<Channel>,
    data: Rc<Rooms>,
    metadata: Rc<Rooms>,
}

struct Channel {
    clients: Rc<Clients>,
    events: Events,
    ring: TypedRingClient<BlockEntry>,
    buffer: BufferId,
    view: DmaBuffer,
}

impl Channel {
    /// Starts a read into a room.
    fn start(self: &Rc<Self>, room: Room, offset: u64, bytes: u64) -> Pending {
        // A part of a sector would be left out.
        assert!(
            (offset | bytes).is_multiple_of(SECTOR_BYTES),
            "a read of parts of sectors"
        );
        let reading = Reading {
            buffer: self.buffer,
            place: room.offset,
            offset,
            bytes,
        };
        let state = self.ask(&reading);
        Pending {
            channel: Rc::clone(self),
            job: Some(Job { state, room }),
            reading,
            is_again: false,
        }
    }

    fn ask(&self, reading: &Reading) -> State {
        let (ring, read) = (self.ring.clone(), reading.entry());
        let mut future: InFlight = Box::pin(async move { ring.request(read).await });
        // The first poll submits it; whoever waits for it later polls it with a real waker.
        let mut context = Context::from_waker(Waker::noop());
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => State::Done(result),
            Poll::Pending => State::InFlight(future),
        }
    }
}

type InFlight = Pin<Box<dyn Future<Output = Outcome>>>;

/// A read at the block server.
pub(crate) struct Pending {
    channel: Rc<Channel>,
    job: Option<Job>,
    /// What is read. Where the room is is told here a second time: what lies in another one is
    /// another file's.
    reading: Reading,
    /// Whether it went wrong before.
    is_again: bool,
}

struct Job {
    state: State,
    room: Room,
}

enum State {
    InFlight(InFlight),
    Done(Outcome),
}

impl Future for Pending {
    type Output = Result<Data>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Data>> {
        loop {
            let Some(job) = &mut self.job else {
                return Poll::Pending;
            };
            let result = match &mut job.state {
                State::Done(result) => *result,
                State::InFlight(future) => match future.as_mut().poll(context) {
                    Poll::Ready(result) => result,
                    Poll::Pending => return Poll::Pending,
                },
            };
            let Some(Job { room, .. }) = self.job.take() else {
                return Poll::Pending;
            };
            // Else the room would be given back twice: here, and by who reads what is in it.
            assert!(black_box(&self.job).is_none(), "a read has not ended");
            let reading = self.reading;
            assert!(room.offset == reading.place, "a read ends in another room");
            let channel = Rc::clone(&self.channel);
            let Err(why) = reading.check(result) else {
                return Poll::Ready(Ok(Data {
                    channel,
                    room,
                    bytes: reading.bytes as usize,
                }));
            };
            let error = failed("read", &why);
            if self.is_again {
                return Poll::Ready(Err(error));
            }
            channel.clients.distrust("a read failed");
            // By now another instance may serve.
            let state = channel.ask(&reading);
            self.is_again = true;
            self.job = Some(Job { state, room });
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // The device may still write into the room: it stays taken until the read is completed.
        if let Some(Job {
            state: State::InFlight(future),
            room,
        }) = self.job.take()
        {
            self.channel.events.spawn(async move {
                // Nobody wants to know how it went.
                let _ = future.await;
                drop(room);
            });
        }
    }
}

/// The bytes of a completed read.
pub(crate) struct Data {
    channel: Rc<Channel>,
    room: Room,
    bytes: usize,
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: (1) a `Data` exists only once its read was completed, and no other read gets
        // the room before this value is dropped; the slice borrows from it.
        unsafe {
            self.channel
                .view
                .part(self.room.offset as usize, self.bytes)
        }
    }
}

impl BlockReader for Disk {
    type Data = Data;
    type Pending = Pending;

    fn bytes(&self) -> u64 {
        self.bytes
    }

    async fn read_metadata(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let room = self.metadata.take().await;
        let data = self
            .channel
            .start(room, offset, buffer.len() as u64)
            .await?;
        let bytes = data.as_ref();
        if bytes.len() != buffer.len() {
            return Err(Error::Device);
        }
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn try_start(&self, offset: u64, bytes: u64) -> Option<Pending> {
        let room = self.data.try_take()?;
        Some(self.channel.start(room, offset, bytes))
    }

    async fn start(&self, offset: u64, bytes: u64) -> Pending {
        let room = self.data.take().await;
        self.channel.start(room, offset, bytes)
    }
}

/// Equal parts of the buffer.
struct Rooms {
    free: RefCell<Vec<u64>>,
    freed: Signal,
}

/// A part of the buffer, given back when it is dropped.
struct Room {
    rooms: Rc<Rooms>,
    offset: u64,
}

impl Rooms {
    fn new(first: u64, count: u64, bytes: u64) -> Rc<Self> {
        let free = RefCell::new((0..count).map(|index| first + index * bytes).collect());
        Rc::new(Rooms {
            free,
            freed: Signal::new(),
        })
    }

    fn try_take(self: &Rc<Self>) -> Option<Room> {
        let offset = self.free.borrow_mut().pop()?;
        Some(Room {
            rooms: Rc::clone(self),
            offset,
        })
    }

    async fn take(self: &Rc<Self>) -> Room {
        loop {
            let freed = self.freed.wait();
            if let Some(room) = self.try_take() {
                return room;
            }
            freed.await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.rooms.free.borrow_mut().push(self.offset);
        self.rooms.freed.notify();
    }
}

fn map(memory: &Handle<Memory>, flags: MapFlags) -> Result<Mapping> {
    Mapping::map(memory, flags).map_err(|why| failed("map memory", &why))
}

/// Logs what the vfs only learns as a failed device.
fn failed(what: &str, why: &dyn Display) -> Error {
    log::warn!("cannot {what}: {why}");
    Error::Device
}
