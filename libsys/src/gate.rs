//! The gate of a swap: where the next version of a service waits until the one before it is gone,
//! and where that one stands still meanwhile.
//!
//! An instance that is started for a swap (a *trial*) runs beside the version that serves. It says
//! which state it reads ([`announce`]), waits until its state region holds the state, tests itself
//! and waits until it may serve ([`pass`]). Before that it must not touch anything that it shares
//! with the version that serves: devices, rings, the vault, other servers. The version that serves
//! stands still in [`stand_still`] from the moment when its state is final.
//!
//! In an instance that is no trial all of this costs a few stores; on the host it does nothing.

use crate::service::Trouble;
use crate::state::Report;

#[cfg(bare)]
pub use guest::{announce, fail, is_trial, note_receive, order, pass, stand_still};

/// Ends a trial that did not find all of its state: the version that serves has it.
pub fn require_complete_state(found: &Report) {
    if found.has_losses() && is_trial() {
        fail(Trouble::StateLost);
    }
}

#[cfg(not(bare))]
mod host {
    use crate::service::{Exported, MAX_INTERFACES, Order, Served, Serving, Trouble};

    /// Returns `false`: on the host there are no swaps.
    pub fn is_trial() -> bool {
        false
    }

    /// Does nothing: on the host there are no swaps.
    pub fn announce(_schema: u64) {}

    /// Does nothing: on the host there are no swaps.
    pub fn pass(
        _serving: &Serving,
        _prefix: impl Fn(&[Served; MAX_INTERFACES]) -> u64,
        _test: impl FnOnce() -> Result<(), &'static str>,
    ) {
    }

    /// Panics: on the host there are no swaps.
    ///
    /// # Panics
    ///
    /// Always.
    pub fn fail(trouble: Trouble) -> ! {
        panic!("a trial failed: {trouble:?}")
    }

    /// Returns `Run`: on the host there are no swaps.
    pub fn order() -> (Order, u64) {
        (Order::Run, 0)
    }

    /// Does nothing: on the host there are no swaps.
    pub fn stand_still(_exported: Exported) {}

    /// Does nothing: on the host there are no swaps.
    pub fn note_receive() {}
}

#[cfg(not(bare))]
pub use host::{announce, fail, is_trial, note_receive, order, pass, stand_still};

#[cfg(bare)]
mod guest {
    use core::mem::ManuallyDrop;
    use core::sync::atomic::{AtomicBool, Ordering};

    use spin::Once;

    use crate::service::{
        Exported, MAX_INTERFACES, Order, Phase, Served, ServicePage, Serving, Trouble, page,
    };
    use crate::{Handle, Notification, ipc, startup, time};

    /// How long one wait at the gate lasts at most, ns. Each is followed by a heartbeat.
    const WAIT_NS: u64 = 10 * time::MS;
    /// Exit code of a trial that cannot take over.
    const FAILED: i32 = 1;

    /// Whether the gate was passed: by a commit, or because there is none.
    static IS_PASSED: AtomicBool = AtomicBool::new(false);
    /// Whether the state was asked for.
    static IS_ANNOUNCED: AtomicBool = AtomicBool::new(false);
    /// Whether the next receive is to be noted.
    static IS_AWAITED: AtomicBool = AtomicBool::new(false);

    /// The two ways between a service and `init`; they are never closed.
    struct Bells {
        gate: Option<ManuallyDrop<Handle<Notification>>>,
        init: Option<ManuallyDrop<Handle<Notification>>>,
    }

    fn bells() -> &'static Bells {
        static BELLS: Once<Bells> = Once::new();
        BELLS.call_once(|| {
            let given = startup::read();
            let find = |name| {
                let raw = given.as_ref()?.handle(name)?;
                Some(ManuallyDrop::new(Handle::from_raw(raw)))
            };
            Bells {
                gate: find("gate"),
                init: find("gate-bell"),
            }
        })
    }

    /// Says how far this instance has come and tells `init` to look.
    fn say(page: &ServicePage, phase: Phase, detail: u64) {
        page.set_phase(phase, detail);
        if let Some(bell) = &bells().init {
            // Without the bell `init` looks a little later.
            let _ = ipc::notify(bell);
        }
    }

    /// Waits until the order is another one.
    fn wait_while(page: &ServicePage, order: Order) {
        while page.order() == order {
            page.beat();
            let deadline = time::after(WAIT_NS);
            match &bells().gate {
                // News or the end of the time: the order is looked at in both cases.
                Some(gate) => drop(ipc::wait(gate, deadline)),
                None => time::sleep(WAIT_NS),
            }
        }
    }

    /// Returns whether this instance was started for a swap that is not committed.
    pub fn is_trial() -> bool {
        !IS_PASSED.load(Ordering::Relaxed)
            && page().is_some_and(|page| matches!(page.order(), Order::Hold | Order::Open))
    }

    /// Says that this instance keeps its state in the schema with this hash, 0 for one without a
    /// name, and returns when the state is there to be read: at once unless this is a trial. What
    /// was said first counts.
    pub fn announce(schema: u64) {
        let Some(page) = page() else {
            return;
        };
        if IS_ANNOUNCED.swap(true, Ordering::Relaxed) {
            return;
        }
        page.set_schema(schema);
        if is_trial() {
            say(page, Phase::Announced, 0);
            wait_while(page, Order::Hold);
        }
    }

    /// Passes the gate. A trial runs `test`, says what came of it, and returns only when it is to
    /// serve; all others return at once. `serving` is what will be served, `prefix` gives the digest of
    /// as much of it as another version serves.
    pub fn pass(
        serving: &Serving,
        prefix: impl Fn(&[Served; MAX_INTERFACES]) -> u64,
        test: impl FnOnce() -> Result<(), &'static str>,
    ) {
        let Some(page) = page() else {
            return;
        };
        if is_trial() {
            page.set_serving(&Serving {
                prefix: prefix(&page.asked()),
                ..*serving
            });
            // A service without state has to be let in too.
            announce(0);
            say(page, Phase::Opened, 0);
            if let Err(why) = test() {
                log::error!("self-test: {why}");
                fail(Trouble::SelfTest);
            }
            say(page, Phase::Tested, 0);
            wait_while(page, Order::Open);
            page.set_phase(Phase::Working, 0);
            IS_AWAITED.store(true, Ordering::Relaxed);
        }
        page.set_serving(serving);
        IS_PASSED.store(true, Ordering::Relaxed);
    }

    /// Ends a trial that cannot take over.
    pub fn fail(trouble: Trouble) -> ! {
        if let Some(page) = page()
            && is_trial()
        {
            say(page, Phase::Failed, trouble as u64);
        }
        crate::runtime::exit(FAILED)
    }

    /// Returns what `init` wants, and the argument.
    pub fn order() -> (Order, u64) {
        page().map_or((Order::Run, 0), |page| (page.order(), page.argument()))
    }

    /// Says that the state is final, and stands still until this instance is to serve again.
    pub fn stand_still(exported: Exported) {
        let Some(page) = page() else {
            return;
        };
        page.set_first_receive(0);
        say(page, Phase::Quiesced, exported as u64);
        wait_while(page, Order::Quiesce);
        page.set_phase(Phase::Working, 0);
        IS_AWAITED.store(true, Ordering::Relaxed);
    }

    /// Notes that this instance receives now, if that is the first time after it was told to.
    #[inline]
    pub fn note_receive() {
        if IS_AWAITED.load(Ordering::Relaxed) {
            note_first_receive();
        }
    }

    #[cold]
    fn note_first_receive() {
        IS_AWAITED.store(false, Ordering::Relaxed);
        if let Some(page) = page() {
            page.set_first_receive(time::now());
            if let Some(bell) = &bells().init {
                // Without the bell `init` looks a little later.
                let _ = ipc::notify(bell);
            }
        }
    }
}
