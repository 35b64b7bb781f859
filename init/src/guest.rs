//! What `init` does inside the system.
//!
//! The main thread serves calls and keeps the services as the supervisor wants them; it never
//! waits for anyone it supervises. Whatever needs the memory manager is done by a second thread
//! ([`worker`]), with deadlines.

mod candidate;
mod keeper;
mod kernel_log;
mod kit;
mod program;
mod setup;
mod swapper;
mod worker;

use alloc::rc::Rc;

use init::control::Control;
use libipc::Server;
use libipc::proto::init::InitDispatcher;
use libsys::{Endpoint, Handle, Notification};

use keeper::Keeper;
use setup::{Setup, SetupError};

/// Bit of `init`'s notification: look after the services now.
pub(crate) const WAKE_BIT: u8 = 0;

/// Runs `init`; returns only if the system cannot be started.
pub(crate) fn run() -> i32 {
    match serve() {
        Ok(never) => match never {},
        Err(error) => {
            log::error!("cannot start the system: {error}");
            1
        }
    }
}

fn serve() -> Result<core::convert::Infallible, SetupError> {
    let endpoint = Handle::<Endpoint>::create()?;
    let notification = Handle::<Notification>::create()?;
    let wake = notification.mint(1 << WAKE_BIT)?;
    let setup = Setup::new(&endpoint, wake)?;
    let keeper = Rc::new(Keeper::new(setup));

    let server = Server::new(endpoint, notification);
    let events = server.events();
    keeper.start_all();
    let (looks, news) = (Rc::clone(&keeper), events.clone());
    events.spawn(async move {
        loop {
            let deadline = looks.look_after();
            news.until(deadline, news.bit(WAKE_BIT)).await;
        }
    });
    server.run(InitDispatcher::new(Rc::new(Control::new(keeper))))
}
