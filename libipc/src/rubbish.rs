//! Telling `init` of a server whose reply cannot be true.
//!
//! `init` knows services by name, a client holds senders. Those that a program was started with
//! have the names of the services that they lead to; of others only the log tells.

use libsys::startup;
use libsys::{Handle, Sender};

use crate::proto::init::InitClient;

/// How long a client that got a wrong reply waits for `init` besides, ns.
const PATIENCE_NS: u64 = 1_000_000_000;
/// The name of the sender to `init`, which nobody can be told of itself.
const INIT: &str = "init";

/// Reports the server behind a sender for its reply to a method.
pub(crate) fn report(sender: &Handle<Sender>, method: &str) {
    let Some(startup) = startup::read() else {
        return;
    };
    let mut names = startup.handles.iter();
    let Some((name, _)) = names.find(|(_, handle)| *handle == sender.raw().0) else {
        return;
    };
    if name == INIT {
        return;
    }
    // A copy: the program may be using its own.
    let Some(init) = startup::take::<Sender>(&startup, INIT).map(core::mem::ManuallyDrop::new)
    else {
        return;
    };
    let told = init
        .duplicate(libsys::Rights::ALL)
        .map_err(Into::into)
        .and_then(|init| {
            let init = InitClient::new_unchecked(init).with_deadline(PATIENCE_NS);
            init.report(name, method)
        });
    if let Err(failure) = told {
        log::warn!("{name} not reported: {failure}");
    }
}
