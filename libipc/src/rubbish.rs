//! What is done about a server that is not in order: `init` is told.
//!
//! `init` knows services by name, a client holds senders. Those that a program was started with
//! have the names of the services that they lead to; of others only the log tells.

use libsys::startup::{self, Startup};
use libsys::{Handle, Sender};
use spin::Once;

use crate::client::PATIENCE_NS;
use crate::proto::init::InitClient;

/// The name of the sender to `init`, which hears about itself as well.
const INIT: &str = "init";
/// Senders that have other names than their services.
const OTHER_NAMES: [(&str, &str); 1] = [("memory", "memory-manager")];
/// The name of a server's own endpoint.
const OWN: &str = "self";

/// Reports the server behind a sender for what it did with a request to a method. Returns whether
/// `init` could be told.
pub(crate) fn report(sender: &Handle<Sender>, method: &str) -> bool {
    let Some(startup) = startup::read() else {
        return false;
    };
    let mut names = startup.handles.iter();
    let Some((name, _)) = names.find(|(_, handle)| *handle == sender.raw().0) else {
        return false;
    };
    let other = OTHER_NAMES.iter().find(|(sender, _)| sender == name);
    tell(&startup, other.map_or(name, |(_, service)| service), method)
}

/// What a server does that nobody else can end.
static DOUBT: Once<fn(&str)> = Once::new();

/// Has `f` run when this process doubts itself, in place of `init`: for `init` itself. Any thread may
/// run it, and it returns if the process is to go on.
pub fn on_doubt(f: fn(&str)) {
    DOUBT.call_once(|| f);
}

/// Has `init` end this process if it is a server and `init` believes it, for what it finds wrong with
/// itself, in a method or elsewhere. The next instance will do better.
pub fn doubt_oneself(what: &str) {
    if let Some(doubt) = DOUBT.get() {
        return doubt(what);
    }
    let Some(startup) = startup::read() else {
        return;
    };
    // A program of people lives on and shows the error.
    if startup.handle(OWN).is_some() {
        tell(&startup, &startup.name, what);
    }
}

fn tell(startup: &Startup, name: &str, method: &str) -> bool {
    // A copy: the program may be using its own. `init` is not reported for what it does with this
    // report, as a copy has no name.
    let Some(init) = startup::take::<Sender>(startup, INIT).map(core::mem::ManuallyDrop::new)
    else {
        return false;
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
    true
}
