//! The page that a service shares with `init`: signs of life.

use core::sync::atomic::{AtomicU64, Ordering};

/// Marks a valid [`ServicePage`].
pub const SERVICE_MAGIC: u64 = u64::from_le_bytes(*b"SKINKSVC");

/// What lies at [`skink_abi::layout::SERVICE_PAGE`] of a service.
///
/// `init` makes it, writes `magic` and `generation` before the service starts, and only looks at
/// the rest: a service can do with its page what it wants and harms nobody but itself.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ServicePage {
    /// [`SERVICE_MAGIC`].
    pub magic: u64,
    heartbeat: AtomicU64,
    ready: AtomicU64,
    /// Which instance of the service this is: 1 for the first.
    pub generation: u64,
    oldest_request: AtomicU64,
}

impl ServicePage {
    /// Makes the page of instance number `generation`.
    pub const fn new(generation: u64) -> Self {
        ServicePage {
            magic: SERVICE_MAGIC,
            heartbeat: AtomicU64::new(0),
            ready: AtomicU64::new(0),
            generation,
            oldest_request: AtomicU64::new(0),
        }
    }

    /// Returns the bytes of the page, for who makes it without mapping it.
    pub fn to_bytes(&self) -> [u8; size_of::<ServicePage>()] {
        let words = [
            self.magic,
            self.heartbeat(),
            self.is_ready().into(),
            self.generation,
            self.oldest_request(),
        ];
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
            oldest_request: AtomicU64::new(word(4)),
        }
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

    use super::ServicePage;

    #[test]
    fn the_layout_that_both_sides_map_stays() {
        assert_eq!(offset_of!(ServicePage, heartbeat), 8);
        assert_eq!(offset_of!(ServicePage, ready), 16);
        assert_eq!(offset_of!(ServicePage, generation), 24);
        assert_eq!(offset_of!(ServicePage, oldest_request), 32);
        assert_eq!(size_of::<ServicePage>(), 40);
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
