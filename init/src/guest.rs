//! What `init` does inside the system.
//!
//! The main thread serves calls and keeps the services as the supervisor wants them; it never
//! waits for anyone it supervises. Whatever needs the memory manager is done by a second thread
//! ([`worker`]), with deadlines.

mod book;
mod candidate;
mod keeper;
mod kernel_log;
mod kit;
mod orders;
mod own;
mod processes;
mod program;
mod services;
mod setup;
mod sight;
mod swapper;
mod sweep;
mod trial;
mod watchdog;
mod worker;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use init::control::{self, Control};
use init::ledger::{Kept, Record};
use init::vault::Vault;
use libipc::Server;
use libipc::proto::init::InitDispatcher;
use libsys::startup::{self, Startup};
use libsys::{Rights, System};

use book::{Book, adopt};
use keeper::{FATAL_EXIT, Keeper};
use own::Oneself;
use setup::{Setup, SetupError};

/// Bit of `init`'s notification: look after the services now.
pub(crate) const WAKE_BIT: u8 = 0;

/// Runs `init`; returns only if the system cannot be started.
pub(crate) fn run() -> i32 {
    let Some(startup) = startup::read() else {
        return 1;
    };
    kernel_log::start(startup.variable("cmdline").unwrap_or_default());
    match serve(&startup) {
        Ok(never) => match never {},
        Err(error) => {
            log::error!("cannot start the system: {error}");
            if startup::generation() > 0 {
                power_off(&startup);
            }
            1
        }
    }
}

fn serve(startup: &Startup) -> Result<core::convert::Infallible, SetupError> {
    let book: &'static Book = Box::leak(Box::new(Book::open()?));
    let own = Oneself::take_up(book);
    let setup = Setup::new(startup, book)?;
    let vault = take_vault_up(book);
    watchdog::turned();
    let keeper = Rc::new(Keeper::new(&setup, own));
    for process in sweep::lost_processes(book, startup) {
        keeper.take_up(process);
        watchdog::turned();
    }
    let closed = sweep::close_lost(book, startup);
    watchdog::turned();
    if startup::generation() > 0 {
        log::info!("{closed} handles that nobody knew were closed");
    }

    // Copies: what it closes by mistake, with a count that is wrong, is not what the next instance
    // needs.
    let server = Server::new(
        setup.endpoint.duplicate(Rights::ALL)?,
        setup.notification.duplicate(Rights::ALL)?,
    );
    core::mem::forget((setup.endpoint, setup.notification));
    let events = server.events();
    keeper.start_all();
    let (looks, news) = (Rc::clone(&keeper), events.clone());
    events.spawn(async move {
        loop {
            let deadline = looks.look_after();
            news.until(deadline, news.bit(WAKE_BIT)).await;
        }
    });
    server.run(InitDispatcher::new(Rc::new(Control::new(keeper, vault))))
}

/// Takes up what clients keep.
fn take_vault_up(book: &Book) -> Vault<control::Kept> {
    let noted: Vec<_> = book.read(|ledger| ledger.vault().collect());
    let mut vault = Vault::default();
    for ((client, key), kept) in noted {
        let taken_up = match kept {
            Kept::Memory(number) => adopt(number).map(control::Kept::Memory),
            Kept::Notification(number) => adopt(number).map(control::Kept::Notification),
        };
        let put = taken_up
            .map_err(|error| error.to_string())
            .and_then(|thing| {
                let put = vault.put(client, key, thing);
                put.map_err(|error| error.to_string())
            });
        if let Err(error) = put {
            log::error!("vault of {client:#x}, key {key:#x}: lost: {error}");
            // So that its owner hears of it, and makes it anew.
            let kept = None;
            if let Err(error) = book.note(Record::Vault { client, key, kept }) {
                log::error!("vault of {client:#x}, key {key:#x}: {error}");
            }
        }
    }
    vault
}

/// Powers the machine off: nobody can take the system up again.
fn power_off(startup: &Startup) {
    let system = startup::take::<System>(startup, "system");
    if let Some(Err(error)) = system.map(|system| system.shutdown(FATAL_EXIT)) {
        log::error!("power off: {error}");
    }
}
