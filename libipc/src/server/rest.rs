//! Coming to rest for a swap, and the test before it.
//!
//! At rest no task runs and nothing is received: so no ring and no device is touched either, and
//! what is in the state region is final. What is in flight then is in the hands of the callers: if
//! this instance ends, the next one gets it again; if it goes on, so do its tasks.

use alloc::boxed::Box;
use core::fmt;

use libsys::gate;
use libsys::service::{self, Exported, Order};
use libsys::state::{ExportError, Region, State, StateMemory};
use libsys::time;

use super::Server;

/// Time that requests in flight have to end before the server stands still, ns.
const GRACE_NS: u64 = 5 * time::MS;

/// Rewrites the state in the schema with a hash.
type Export = dyn FnMut(u64) -> Result<(), &'static str>;

/// What to do at rest.
pub(super) struct Rest {
    /// Whether there is something to do before the next receive.
    pub(super) is_due: bool,
    /// Whether somebody asked the server to come to rest.
    is_asked: bool,
    pub(super) export: Option<Box<Export>>,
    pub(super) resume: Option<Box<dyn FnMut()>>,
}

impl Default for Rest {
    fn default() -> Self {
        Rest {
            // The first receive may be one to be noted.
            is_due: true,
            is_asked: false,
            export: None,
            resume: None,
        }
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

impl Rest {
    /// Has the server come to rest.
    pub(super) fn ask(&mut self) {
        self.is_asked = true;
        self.is_due = true;
    }

    /// Rewrites the state in the schema that the next version announced.
    fn export(&mut self, schema: u64) -> Exported {
        let own = service::page().map_or(0, service::ServicePage::schema);
        if schema == 0 || schema == own {
            return Exported::AsItWas;
        }
        let Some(export) = &mut self.export else {
            return Exported::Refused;
        };
        match export(schema) {
            Ok(()) => Exported::Done,
            Err(why) => {
                log::info!("state not written for the next version: {why}");
                Exported::Refused
            }
        }
    }
}

impl Server {
    /// Has the server write its state for the next version in a swap, where that wants it in an
    /// older schema, and take it back when the swap is off. `with_region` gives the region to
    /// what it is called with.
    pub fn keep_state<S: State, M: StateMemory>(
        &mut self,
        with_region: impl Fn(&mut dyn FnMut(&mut Region<S, M>)) + Clone + 'static,
    ) {
        let with = with_region.clone();
        self.on_export(move |schema| {
            let mut result = Ok(());
            with(&mut |region| result = region.export(schema));
            result.map_err(ExportError::why)
        });
        self.on_resume(move || {
            with_region(&mut |region| {
                if let Err(error) = region.reclaim() {
                    log::error!("state stays as the other version has it: {error}");
                }
            });
        });
    }

    /// Tests that this version could serve.
    pub(super) fn test_self(&mut self) -> Result<(), &'static str> {
        if !self.core.answers() {
            return Err("no dispatcher answers");
        }
        self.self_tests.iter_mut().try_for_each(|test| test())
    }

    /// Does what is due before the next receive. A server that came here again and again with nothing
    /// to do would look alive and never receive.
    #[cold]
    #[inline(never)]
    pub(super) fn attend(&mut self) {
        let is_due = core::mem::take(&mut self.rest.is_due);
        assert!(is_due, "nothing is due before the next receive");
        if core::mem::take(&mut self.rest.is_asked) {
            self.come_to_rest();
        } else {
            gate::note_receive();
        }
    }

    /// Lets requests in flight end, stands still, and goes on when that is wanted.
    fn come_to_rest(&mut self) {
        if gate::order().0 != Order::Quiesce {
            // It was meant for an earlier instance, or is over already.
            return;
        }
        self.finish_requests(time::after(GRACE_NS));
        self.flush();
        // It may have been called off meanwhile.
        let (order, schema) = gate::order();
        if order == Order::Quiesce {
            gate::stand_still(self.rest.export(schema));
            if let Some(resume) = &mut self.rest.resume {
                resume();
            }
            self.rest.is_due = true;
        }
    }

    /// Runs tasks until no request is in flight, within limits.
    fn finish_requests(&mut self, until: u64) {
        while self.core.has_requests() && time::now() < until {
            let deadline = self.turn();
            self.park(deadline.min(until));
        }
    }
}
