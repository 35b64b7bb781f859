//! A device in memory that answers late and has little room, and what runs futures on it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ext4::device::BlockReader;
use ext4::error::{Error, Result};

/// Data reads that the device has room for.
const ROOM: usize = 10;
/// Polls until a read is done.
const DELAY: u32 = 3;
/// Polls after which a future counts as hung. Bounded work on the images here is far below.
const MAX_POLLS: u64 = 20_000_000;

/// A block device whose contents are in memory.
#[derive(Clone)]
pub(crate) struct FakeDevice {
    shared: Rc<Shared>,
}

struct Shared {
    bytes: RefCell<Vec<u8>>,
    used_room: Cell<usize>,
    most_used: Cell<usize>,
    reads: Cell<u64>,
    /// Reads from here on fail.
    fails_after: Cell<u64>,
    /// What this read gives is damaged in memory.
    damaged: Cell<u64>,
}

impl FakeDevice {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let shared = Shared {
            bytes: RefCell::new(bytes),
            used_room: Cell::new(0),
            most_used: Cell::new(0),
            reads: Cell::new(0),
            fails_after: Cell::new(u64::MAX),
            damaged: Cell::new(u64::MAX),
        };
        FakeDevice {
            shared: Rc::new(shared),
        }
    }

    pub(crate) fn open(path: &Path) -> Self {
        Self::new(std::fs::read(path).unwrap())
    }

    pub(crate) fn fail_after(&self, reads: u64) {
        self.shared.fails_after.set(self.shared.reads.get() + reads);
    }

    /// Has a bit flip in what the next read but `reads` gives, and only there.
    pub(crate) fn damage_after(&self, reads: u64) {
        self.shared.damaged.set(self.shared.reads.get() + reads + 1);
    }

    pub(crate) fn reads(&self) -> u64 {
        self.shared.reads.get()
    }

    pub(crate) fn most_used(&self) -> usize {
        self.shared.most_used.get()
    }

    fn copy(&self, offset: u64, count: usize) -> Result<Vec<u8>> {
        assert_eq!(offset % 512, 0, "misaligned read");
        assert_eq!(count % 512, 0, "read of a part of a sector");
        self.shared.reads.set(self.shared.reads.get() + 1);
        if self.shared.reads.get() > self.shared.fails_after.get() {
            return Err(Error::Device);
        }
        let bytes = self.shared.bytes.borrow();
        let start = usize::try_from(offset).map_err(|_| Error::Device)?;
        let end = start.checked_add(count).ok_or(Error::Device)?;
        let mut read = bytes
            .get(start..end)
            .map(<[u8]>::to_vec)
            .ok_or(Error::Device)?;
        if self.shared.reads.get() == self.shared.damaged.get() {
            // In the names of a directory, the fields of an inode, or the superblock.
            for byte in read.iter_mut().step_by(64) {
                *byte ^= 0x10;
            }
        }
        Ok(read)
    }
}

/// Room at the device: taken while a read or its bytes exist.
struct Room(Rc<Shared>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.used_room.set(self.0.used_room.get() - 1);
    }
}

pub(crate) struct Data {
    bytes: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

pub(crate) struct Pending {
    result: Option<Result<Data>>,
    polls: u32,
}

impl Future for Pending {
    type Output = Result<Data>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls += 1;
        if self.polls < DELAY {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.result.take().expect("polled once more after the end"))
    }
}

impl BlockReader for FakeDevice {
    type Data = Data;
    type Pending = Pending;

    fn bytes(&self) -> u64 {
        self.shared.bytes.borrow().len() as u64
    }

    async fn read_metadata(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        assert!(buffer.len() <= 64 << 10);
        yield_once().await;
        buffer.copy_from_slice(&self.copy(offset, buffer.len())?);
        Ok(())
    }

    fn try_start(&self, offset: u64, bytes: u64) -> Option<Pending> {
        assert!(
            bytes > 0 && bytes <= ext4::device::MAX_READ_BYTES,
            "{bytes} bytes at once"
        );
        let used = self.shared.used_room.get() + 1;
        if used > ROOM {
            return None;
        }
        self.shared.used_room.set(used);
        self.shared
            .most_used
            .set(self.shared.most_used.get().max(used));
        let room = Room(Rc::clone(&self.shared));
        let result = self
            .copy(offset, bytes as usize)
            .map(|bytes| Data { bytes, _room: room });
        Some(Pending {
            result: Some(result),
            polls: 0,
        })
    }

    async fn start(&self, offset: u64, bytes: u64) -> Pending {
        loop {
            if let Some(pending) = self.try_start(offset, bytes) {
                return pending;
            }
            yield_once().await;
        }
    }
}

async fn yield_once() {
    let mut is_second = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut is_second, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Polls a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..MAX_POLLS {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("a future hangs");
}

/// Polls all futures in turn to their ends.
pub(crate) fn block_on_all<'a>(futures: Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>) {
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..MAX_POLLS {
        let mut is_busy = false;
        for slot in &mut futures {
            let Some(future) = slot else { continue };
            match future.as_mut().poll(&mut context) {
                Poll::Ready(()) => *slot = None,
                Poll::Pending => is_busy = true,
            }
        }
        if !is_busy {
            return;
        }
    }
    panic!("futures hang");
}
