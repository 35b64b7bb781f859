//! The page that a service shares with `init`: signs of life, and how far a swap has come.
//!
//! Each word has one writer. A word is one aligned atomic; those that are written through a memory
//! object and not through a mapping (orders) are below 256, so that one byte changes and no half of
//! a value is ever seen. `init` believes nothing that it finds here: a value out of range is
//! [`Phase::Nonsense`].

use core::array::from_fn;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

/// Marks a valid [`ServicePage`].
pub const SERVICE_MAGIC: u64 = u64::from_le_bytes(*b"SKINKSVC");

/// What `init` wants of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Serve.
    Run = 0,
    /// Wait at the gate: an earlier version serves.
    Hold = 1,
    /// The state region holds the state: open it, test yourself, and wait on.
    Open = 2,
    /// Serve from now on: the earlier version is gone.
    Commit = 3,
    /// Stop at the next message boundary and stand still.
    Quiesce = 4,
}

impl Order {
    /// Returns the order that a word stands for; a damaged one is no reason to stop.
    pub const fn from_word(word: u64) -> Order {
        match word {
            1 => Order::Hold,
            2 => Order::Open,
            3 => Order::Commit,
            4 => Order::Quiesce,
            _ => Order::Run,
        }
    }
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It starts or serves.
    Working = 0,
    /// A trial has said what state it reads, and waits for it.
    Announced = 1,
    /// A trial has its state, has tested itself, and waits for the commit.
    Tested = 2,
    /// It stands still and receives nothing.
    Quiesced = 3,
    /// A trial cannot take over.
    Failed = 4,
    /// A trial has its state and tests itself.
    Opened = 5,
    /// The word holds something else.
    Nonsense = 255,
}

impl Phase {
    const fn from_word(word: u64) -> Phase {
        match word {
            0 => Phase::Working,
            1 => Phase::Announced,
            2 => Phase::Tested,
            3 => Phase::Quiesced,
            4 => Phase::Failed,
            5 => Phase::Opened,
            _ => Phase::Nonsense,
        }
    }
}

/// What a quiesced server did about the schema that it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// Nothing: the state is in its own schema.
    AsItWas = 0,
    /// It rewrote its state in that schema.
    Done = 1,
    /// It cannot write that schema.
    Refused = 2,
}

/// Why a trial cannot take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot read the schema of the state.
    UnknownSchema = 1,
    /// A part of the state was damaged or did not fit.
    StateLost = 2,
    /// Its self-test failed.
    SelfTest = 3,
    /// It lacks something that it needs to serve.
    CannotServe = 4,
}

impl Trouble {
    /// Returns what a word stands for; `None` for nonsense.
    pub const fn from_word(word: u64) -> Option<Trouble> {
        match word {
            1 => Some(Trouble::UnknownSchema),
            2 => Some(Trouble::StateLost),
            3 => Some(Trouble::SelfTest),
            4 => Some(Trouble::CannotServe),
            _ => None,
        }
    }
}

/// Most interfaces of one server that are told one by one.
pub const MAX_INTERFACES: usize = 4;

/// An interface that a server serves; the default stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Digest of its name: the upper half of its labels.
    pub id: u16,
    /// Its version.
    pub version: u16,
    /// How many methods it has.
    pub methods: u16,
}

impl Served {
    /// Returns the word that stands for it.
    pub fn to_word(self) -> u64 {
        u64::from(self.id) << 32 | u64::from(self.version) << 16 | u64::from(self.methods)
    }

    /// Returns what a word stands for.
    pub const fn from_word(word: u64) -> Served {
        Served {
            id: (word >> 32) as u16,
            version: (word >> 16) as u16,
            methods: word as u16,
        }
    }
}

/// What a server serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// Digest of all of it, names in the upper half; 0 when nothing is served (yet).
    pub digest: u64,
    /// Its interfaces.
    pub interfaces: [Served; MAX_INTERFACES],
    /// Digest of the methods that it was asked about, or else of all; 0 when it lacks some.
    pub prefix: u64,
}

/// What lies at [`skink_abi::layout::SERVICE_PAGE`] of a service.
///
/// `init` makes it, writes `magic`, `generation` and the first order before the service starts,
/// further orders later, and only looks at the rest: a service can do with its page what it wants
/// and harms nobody but itself.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ServicePage {
    /// [`SERVICE_MAGIC`].
    pub magic: u64,
    heartbeat: AtomicU64,
    ready: AtomicU64,
    /// Which instance of the service this is: 1 for the first.
    pub generation: u64,
    order: AtomicU64,
    argument: AtomicU64,
    phase: AtomicU64,
    schema: AtomicU64,
    interface: AtomicU64,
    detail: AtomicU64,
    first_receive: AtomicU64,
    oldest_request: AtomicU64,
    requests: AtomicU64,
    prefix: AtomicU64,
    interfaces: [AtomicU64; MAX_INTERFACES],
    /// What the version serves whose place this one is to take.
    asked: [u64; MAX_INTERFACES],
}

/// Where the order lies in the page, for who writes it without mapping it: its lowest byte only,
/// after the argument.
pub const ORDER_AT: usize = offset_of!(ServicePage, order);
/// Where the argument of the order lies.
pub const ARGUMENT_AT: usize = offset_of!(ServicePage, argument);

impl ServicePage {
    /// Makes the page of instance number `generation`.
    pub const fn new(generation: u64) -> Self {
        ServicePage {
            magic: SERVICE_MAGIC,
            heartbeat: AtomicU64::new(0),
            ready: AtomicU64::new(0),
            generation,
            order: AtomicU64::new(Order::Run as u64),
            argument: AtomicU64::new(0),
            phase: AtomicU64::new(Phase::Working as u64),
            schema: AtomicU64::new(0),
            interface: AtomicU64::new(0),
            detail: AtomicU64::new(0),
            first_receive: AtomicU64::new(0),
            oldest_request: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            prefix: AtomicU64::new(0),
            interfaces: [const { AtomicU64::new(0) }; MAX_INTERFACES],
            asked: [0; MAX_INTERFACES],
        }
    }

    /// Makes the page of an instance that is to wait at the gate until it takes the place of one that
    /// serves these interfaces.
    pub fn new_trial(generation: u64, asked: &[Served; MAX_INTERFACES]) -> Self {
        ServicePage {
            order: AtomicU64::new(Order::Hold as u64),
            asked: asked.map(Served::to_word),
            ..ServicePage::new(generation)
        }
    }

    /// Returns the bytes of the page, for who makes it without mapping it.
    pub fn to_bytes(&self) -> [u8; size_of::<ServicePage>()] {
        let word = |word: &AtomicU64| word.load(Ordering::Acquire);
        let words = [
            self.magic,
            self.heartbeat(),
            self.is_ready().into(),
            self.generation,
            word(&self.order),
            word(&self.argument),
            word(&self.phase),
            word(&self.schema),
            word(&self.interface),
            word(&self.detail),
            word(&self.first_receive),
            self.oldest_request(),
            word(&self.requests),
            word(&self.prefix),
        ];
        let words = words
            .into_iter()
            .chain(self.interfaces.iter().map(word))
            .chain(self.asked);
        let mut bytes = [0; size_of::<ServicePage>()];
        for (part, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *part = word.to_le_bytes();
        }
        bytes
    }

    /// Returns a copy of a page, for who looks at it without mapping it.
    pub fn from_bytes(bytes: &[u8; size_of::<ServicePage>()]) -> ServicePage {
        let word = |at: usize| {
            bytes
                .as_chunks::<8>()
                .0
                .get(at)
                .map_or(0, |w| u64::from_le_bytes(*w))
        };
        ServicePage {
            magic: word(0),
            heartbeat: AtomicU64::new(word(1)),
            ready: AtomicU64::new(word(2)),
            generation: word(3),
            order: AtomicU64::new(word(4)),
            argument: AtomicU64::new(word(5)),
            phase: AtomicU64::new(word(6)),
            schema: AtomicU64::new(word(7)),
            interface: AtomicU64::new(word(8)),
            detail: AtomicU64::new(word(9)),
            first_receive: AtomicU64::new(word(10)),
            oldest_request: AtomicU64::new(word(11)),
            requests: AtomicU64::new(word(12)),
            prefix: AtomicU64::new(word(13)),
            interfaces: from_fn(|at| AtomicU64::new(word(14 + at))),
            asked: from_fn(|at| word(14 + MAX_INTERFACES + at)),
        }
    }

    /// Returns what `init` wants.
    pub fn order(&self) -> Order {
        Order::from_word(self.order.load(Ordering::Acquire))
    }

    /// Returns the argument of the order: the schema that the next version announced.
    pub fn argument(&self) -> u64 {
        self.argument.load(Ordering::Acquire)
    }

    /// Returns how far the instance has come. Read the words that belong to a phase after it.
    pub fn phase(&self) -> Phase {
        Phase::from_word(self.phase.load(Ordering::Acquire))
    }

    /// Says how far the instance has come; `detail` belongs to some phases.
    pub fn set_phase(&self, phase: Phase, detail: u64) {
        self.detail.store(detail, Ordering::Release);
        self.phase.store(phase as u64, Ordering::Release);
    }

    /// Returns the word that belongs to the phase: [`Exported`] or [`Trouble`].
    pub fn detail(&self) -> u64 {
        self.detail.load(Ordering::Acquire)
    }

    /// Returns the hash of the schema of the state; 0 when there is none or it is not known.
    pub fn schema(&self) -> u64 {
        self.schema.load(Ordering::Acquire)
    }

    /// Says what the schema of the state is.
    pub fn set_schema(&self, hash: u64) {
        self.schema.store(hash, Ordering::Release);
    }

    /// Returns what it serves.
    pub fn serving(&self) -> Serving {
        let load = |word: &AtomicU64| word.load(Ordering::Acquire);
        Serving {
            digest: load(&self.interface),
            interfaces: from_fn(|at| Served::from_word(load(&self.interfaces[at]))),
            prefix: load(&self.prefix),
        }
    }

    /// Says what it serves.
    pub fn set_serving(&self, serving: &Serving) {
        for (place, served) in self.interfaces.iter().zip(serving.interfaces) {
            place.store(served.to_word(), Ordering::Release);
        }
        self.prefix.store(serving.prefix, Ordering::Release);
        self.interface.store(serving.digest, Ordering::Release);
    }

    /// Returns what the version serves whose place this one is to take.
    pub fn asked(&self) -> [Served; MAX_INTERFACES] {
        self.asked.map(Served::from_word)
    }

    /// Returns when it received for the first time after it was told to serve, ns since boot; 0
    /// when it has not yet.
    pub fn first_receive(&self) -> u64 {
        self.first_receive.load(Ordering::Acquire)
    }

    /// Says when it received for the first time after it was told to serve; 0 for not yet.
    pub fn set_first_receive(&self, at: u64) {
        self.first_receive.store(at, Ordering::Release);
    }

    /// Says that the event loop has turned once more.
    pub fn beat(&self) {
        // Only the service writes here, so reading and writing apart loses nothing.
        let count = self.heartbeat.load(Ordering::Relaxed);
        self.heartbeat
            .store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// Says since when the service has the oldest request that it has not answered, ns since
    /// boot; 0 for none.
    pub fn set_oldest_request(&self, since: u64) {
        self.oldest_request.store(since, Ordering::Relaxed);
    }

    /// Says how many requests the service has that it has not answered.
    pub fn set_requests(&self, requests: u64) {
        self.requests.store(requests, Ordering::Relaxed);
    }

    /// Says that the service serves.
    pub fn set_ready(&self) {
        self.ready.store(1, Ordering::Release);
    }

    /// Returns how often the event loop has turned.
    pub fn heartbeat(&self) -> u64 {
        self.heartbeat.load(Ordering::Relaxed)
    }

    /// Returns since when the service has the oldest request that it has not answered, ns since
    /// boot; 0 for none.
    pub fn oldest_request(&self) -> u64 {
        self.oldest_request.load(Ordering::Relaxed)
    }

    /// Returns how many requests the service has that it has not answered.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns whether the service serves.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) != 0
    }
}

/// Says that this service is at work, in the middle of what takes longer than a turn of its loop
/// should: call it every few milliseconds. In a process that is no service nothing happens.
pub fn beat() {
    if let Some(page) = page() {
        page.beat();
    }
}

/// Returns the page of this process; none if it is no service.
#[cfg(bare)]
pub fn page() -> Option<&'static ServicePage> {
    if crate::startup::header().has_service_page == 0 {
        return None;
    }
    let address = skink_abi::layout::SERVICE_PAGE as usize;
    // SAFETY: the header says that `init` mapped a page with this structure there, for the life
    // of the process; both sides change it by atomic accesses only.
    Some(unsafe { &*core::ptr::with_exposed_provenance::<ServicePage>(address) })
}

/// Returns nothing: on the host there are no services.
#[cfg(not(bare))]
pub fn page() -> Option<&'static ServicePage> {
    None
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::{ARGUMENT_AT, ORDER_AT, Order, Phase, Served, ServicePage, Serving, Trouble};

    #[test]
    fn the_layout_that_both_sides_map_stays() {
        assert_eq!(offset_of!(ServicePage, heartbeat), 8);
        assert_eq!(offset_of!(ServicePage, ready), 16);
        assert_eq!(offset_of!(ServicePage, generation), 24);
        assert_eq!((ORDER_AT, ARGUMENT_AT), (32, 40));
        assert_eq!(offset_of!(ServicePage, phase), 48);
        assert_eq!(offset_of!(ServicePage, first_receive), 80);
        assert_eq!(offset_of!(ServicePage, oldest_request), 88);
        assert_eq!(offset_of!(ServicePage, requests), 96);
        assert_eq!(size_of::<ServicePage>(), 176);
    }

    #[test]
    fn words_of_a_swap_go_both_ways_and_nonsense_is_known_as_such() {
        let served = |id| Served {
            id,
            version: 2,
            methods: 3,
        };
        let asked = [1, 2, 3, 4].map(served);
        let page = ServicePage::new_trial(2, &asked);
        let serving = Serving {
            digest: 8,
            interfaces: [5, 6, 7, u16::MAX].map(served),
            prefix: 10,
        };
        page.set_schema(7);
        page.set_serving(&serving);
        page.set_first_receive(9);
        page.set_requests(11);
        page.set_phase(Phase::Failed, Trouble::SelfTest as u64);
        let mut bytes = page.to_bytes();
        let copy = ServicePage::from_bytes(&bytes);
        assert_eq!((copy.order(), copy.phase()), (Order::Hold, Phase::Failed));
        assert_eq!(Trouble::from_word(copy.detail()), Some(Trouble::SelfTest));
        assert_eq!((copy.schema(), copy.first_receive()), (7, 9));
        assert_eq!(copy.requests(), 11);
        assert_eq!((copy.serving(), copy.asked()), (serving, asked));
        bytes[ORDER_AT] = Order::Quiesce as u8;
        bytes[offset_of!(ServicePage, phase) + 7] = 1;
        let copy = ServicePage::from_bytes(&bytes);
        assert_eq!(
            (copy.order(), copy.phase()),
            (Order::Quiesce, Phase::Nonsense)
        );
        assert_eq!(Trouble::from_word(77), None);
    }

    #[test]
    fn beats_and_readiness_are_seen() {
        let page = ServicePage::new(3);
        assert!(!page.is_ready());
        page.beat();
        page.beat();
        page.set_ready();
        page.set_oldest_request(7);
        assert_eq!(
            (page.heartbeat(), page.is_ready(), page.generation),
            (2, true, 3)
        );
        let copy = ServicePage::from_bytes(&page.to_bytes());
        assert_eq!(copy.oldest_request(), 7);
        assert_eq!(
            (copy.heartbeat(), copy.is_ready(), copy.generation),
            (2, true, 3)
        );
        assert_eq!(copy.magic, super::SERVICE_MAGIC);
        assert_eq!(page.to_bytes()[offset_of!(ServicePage, generation)], 3);
    }
}
