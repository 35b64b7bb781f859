//! What a task of a server can wait for: notification bits, time, other tasks.
//!
//! [`Events`] is a clonable way into the event loop. Everything here works in one thread; no
//! borrow is held while a task runs.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use libsys::abi::FOREVER;
use libsys::{Error, Handle, Notification};

pub(crate) type PlainFuture = Pin<Box<dyn Future<Output = ()>>>;

/// The way of tasks into the event loop of their server.
#[derive(Clone)]
pub struct Events {
    shared: Rc<Shared>,
}

/// What tasks and event loop share.
pub(crate) struct Shared {
    /// The notification of the server, for minting handles; none in tests.
    notification: Option<Handle<Notification>>,
    spawned: RefCell<Vec<PlainFuture>>,
    has_spawned: Cell<bool>,
    bits: RefCell<Bits>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    /// The first deadline in `timers`, [`FOREVER`] if there is none: the loop asks at each turn.
    earliest: Cell<u64>,
    next_id: Cell<u64>,
    /// The time when the loop last looked, ns since boot.
    now: Cell<u64>,
}

/// Notification bits that came and tasks that wait for some.
struct Bits {
    pending: u64,
    /// How often each bit came, for those who watch.
    counts: [u64; 64],
    /// Who waits for one bit, by bit, so that only those are looked at whose bit came.
    waiting: [Vec<(u64, Waker)>; 64],
    /// Who watches several bits: a few tasks at most.
    watchers: Vec<Watcher>,
}

/// Who watches several bits.
struct Watcher {
    id: u64,
    mask: u64,
    /// Bits that came since the last time.
    came: u64,
    waker: Option<Waker>,
}

impl Bits {
    const NONE: Bits = Bits {
        pending: 0,
        counts: [0; 64],
        waiting: [const { Vec::new() }; 64],
        watchers: Vec::new(),
    };
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn new(notification: Option<Handle<Notification>>) -> Self {
        Events {
            shared: Rc::new(Shared {
                notification,
                spawned: RefCell::default(),
                has_spawned: Cell::new(false),
                bits: RefCell::new(Bits::NONE),
                timers: RefCell::default(),
                earliest: Cell::new(FOREVER),
                next_id: Cell::new(0),
                now: Cell::new(0),
            }),
        }
    }

    /// Waits until notification bit `bit` is set, and clears it. Bits that came before count.
    /// When several tasks wait for one bit, one of them gets it.
    pub fn bit(&self, bit: u8) -> BitSet {
        BitSet {
            shared: Rc::clone(&self.shared),
            bit: bit & 63,
            waiting: None,
        }
    }

    /// Watches notification bit `bit` from now on: unlike with [`Events::bit`], all who watch a
    /// bit see each time that it is set.
    pub fn watch(&self, bit: u8) -> Watch {
        let bit = bit & 63;
        let seen = self.shared.bits.borrow().counts[usize::from(bit)];
        Watch {
            wait: self.bit(bit),
            seen,
        }
    }

    /// Watches the notification bits of `mask` from now on: all who watch a bit see that it was set.
    pub fn watch_any(&self, mask: u64) -> WatchAny {
        let id = self.shared.id();
        let watcher = Watcher {
            id,
            mask,
            came: 0,
            waker: None,
        };
        self.shared.bits.borrow_mut().watchers.push(watcher);
        WatchAny {
            shared: Rc::clone(&self.shared),
            id,
        }
    }

    /// Waits until `deadline`, absolute, ns since boot.
    pub fn sleep_until(&self, deadline: u64) -> Sleep {
        Sleep {
            shared: Rc::clone(&self.shared),
            deadline,
            waiting: None,
        }
    }

    /// Runs `future` for as long as it is not `deadline` yet; `None` if it did not end.
    pub async fn until<F: Future>(&self, deadline: u64, future: F) -> Option<F::Output> {
        let mut future = core::pin::pin!(future);
        let mut sleep = core::pin::pin!(self.sleep_until(deadline));
        core::future::poll_fn(move |context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Starts a task of its own. It is dropped when the server ends.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.shared.spawned.borrow_mut().push(Box::pin(future));
        self.shared.has_spawned.set(true);
    }

    /// Makes a handle that sets these bits of the server's notification.
    ///
    /// # Errors
    ///
    /// `NoMemory`, `TooManyHandles`; `Unavailable` in a loopback.
    pub fn mint(&self, bits: u64) -> libsys::Result<Handle<Notification>> {
        self.shared
            .notification
            .as_ref()
            .ok_or(Error::Unavailable)?
            .mint(bits)
    }

    pub(crate) fn notification(&self) -> Option<&Handle<Notification>> {
        self.shared.notification.as_ref()
    }

    pub(crate) fn take_spawned(&self) -> Vec<PlainFuture> {
        self.shared.has_spawned.set(false);
        self.shared.spawned.take()
    }

    #[inline]
    pub(crate) fn has_spawned(&self) -> bool {
        self.shared.has_spawned.get()
    }

    /// Tells tasks that notification bits came.
    pub(crate) fn raise(&self, bits: u64) {
        let mut state = self.shared.bits.borrow_mut();
        state.pending |= bits;
        let mut left = bits;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            state.counts[bit] += 1;
            for (_, waker) in &state.waiting[bit] {
                waker.wake_by_ref();
            }
        }
        for watcher in &mut state.watchers {
            watcher.came |= bits & watcher.mask;
            if watcher.came != 0 {
                watcher.waker.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Returns when the next task wants to be woken: [`FOREVER`] if none does.
    #[inline]
    pub(crate) fn next_deadline(&self) -> u64 {
        self.shared.earliest.get()
    }

    /// Tells tasks what time it is. Apart from the event loop, which mostly has no timer.
    #[inline(never)]
    pub(crate) fn advance(&self, now: u64) {
        self.shared.now.set(now);
        let mut timers = self.shared.timers.borrow_mut();
        while let Some(entry) = timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            entry.remove().wake();
        }
        self.shared.note_earliest(&timers);
    }
}

impl Shared {
    fn note_earliest(&self, timers: &BTreeMap<(u64, u64), Waker>) {
        let first = timers.first_key_value();
        self.earliest
            .set(first.map_or(FOREVER, |((deadline, _), _)| *deadline));
    }

    fn id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(1));
        id
    }
}

/// Waits for a notification bit; see [`Events::bit`].
pub struct BitSet {
    shared: Rc<Shared>,
    bit: u8,
    waiting: Option<u64>,
}

impl fmt::Debug for BitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BitSet({})", self.bit)
    }
}

impl Future for BitSet {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.leave();
        let shared = Rc::clone(&self.shared);
        let mut bits = shared.bits.borrow_mut();
        if bits.pending >> self.bit & 1 == 1 {
            bits.pending &= !(1 << self.bit);
            return Poll::Ready(());
        }
        self.enter(&mut bits, shared.id(), context.waker().clone());
        Poll::Pending
    }
}

/// Watches a notification bit; see [`Events::watch`].
#[derive(Debug)]
pub struct Watch {
    /// The place among those who wait.
    wait: BitSet,
    seen: u64,
}

impl Watch {
    /// Waits until the bit was set since the last time, or since the watch began.
    pub async fn changed(&mut self) {
        core::future::poll_fn(|context| {
            self.wait.leave();
            let shared = Rc::clone(&self.wait.shared);
            let mut bits = shared.bits.borrow_mut();
            let count = bits.counts[usize::from(self.wait.bit)];
            if core::mem::replace(&mut self.seen, count) != count {
                return Poll::Ready(());
            }
            self.wait
                .enter(&mut bits, shared.id(), context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl BitSet {
    /// Puts this among the waiting ones.
    fn enter(&mut self, bits: &mut Bits, id: u64, waker: Waker) {
        bits.waiting[usize::from(self.bit)].push((id, waker));
        self.waiting = Some(id);
    }

    /// Takes this out of the waiting ones.
    fn leave(&mut self) {
        if let Some(id) = self.waiting.take() {
            let mut bits = self.shared.bits.borrow_mut();
            let waiting = &mut bits.waiting[usize::from(self.bit)];
            if let Some(place) = waiting.iter().position(|(other, _)| *other == id) {
                waiting.swap_remove(place);
            }
        }
    }
}

impl Drop for BitSet {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Watches several notification bits; see [`Events::watch_any`].
pub struct WatchAny {
    shared: Rc<Shared>,
    id: u64,
}

impl fmt::Debug for WatchAny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatchAny({})", self.id)
    }
}

impl WatchAny {
    /// Waits until a bit was set since the last time, or since the watch began, and returns all
    /// that were.
    pub async fn changed(&mut self) -> u64 {
        core::future::poll_fn(|context| {
            let mut bits = self.shared.bits.borrow_mut();
            let mut watchers = bits.watchers.iter_mut();
            let Some(watcher) = watchers.find(|watcher| watcher.id == self.id) else {
                return Poll::Pending;
            };
            let came = core::mem::take(&mut watcher.came);
            if came != 0 {
                return Poll::Ready(came);
            }
            watcher.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for WatchAny {
    fn drop(&mut self) {
        let mut bits = self.shared.bits.borrow_mut();
        bits.watchers.retain(|watcher| watcher.id != self.id);
    }
}

/// Waits for a time; see [`Events::sleep_until`].
pub struct Sleep {
    shared: Rc<Shared>,
    deadline: u64,
    waiting: Option<u64>,
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sleep({})", self.deadline)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.leave();
        if self.shared.now.get() >= self.deadline {
            return Poll::Ready(());
        }
        let id = self.shared.id();
        let waker = context.waker().clone();
        let mut timers = self.shared.timers.borrow_mut();
        timers.insert((self.deadline, id), waker);
        self.shared.note_earliest(&timers);
        drop(timers);
        self.waiting = Some(id);
        Poll::Pending
    }
}

impl Sleep {
    fn leave(&mut self) {
        if let Some(id) = self.waiting.take() {
            let mut timers = self.shared.timers.borrow_mut();
            timers.remove(&(self.deadline, id));
            self.shared.note_earliest(&timers);
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.leave();
    }
}
