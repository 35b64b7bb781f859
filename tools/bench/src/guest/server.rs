//! Servers that benchmarks call, in threads of this process or in processes of their own.

use alloc::rc::Rc;

use bench::arguments::Role;
use bench::echo::{EchoDispatcher, Mirror};
use libipc::Server;
use libsys::abi::FOREVER;
use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Error, Handle, Notification, runtime};
use skink_program::{Failed, Outcome, Program};

/// Serves in a process of its own.
pub(crate) fn run(program: &Program, role: Role) -> Outcome {
    let endpoint: Handle<Endpoint> = program.take("self")?;
    match role {
        Role::Echo => echo(&endpoint).map(|()| 0).map_err(Failed::new),
        Role::Typed => {
            let notification = Handle::<Notification>::create()?;
            let mut server = Server::new(endpoint, notification);
            server.on_closed(|_badge| runtime::exit(0));
            server.run(EchoDispatcher::new(Rc::new(Mirror)))
        }
    }
}

/// Answers each message with its own bytes until the last sender is closed.
pub(crate) fn echo(endpoint: &Handle<Endpoint>) -> Result<(), Error> {
    let mut received = ipc::receive(endpoint, FOREVER)?;
    loop {
        received = match received {
            // The payload lies in the IPC page, from where the answer is sent.
            Received::Request(request) => {
                let bytes = request.info.bytes();
                ipc::reply_receive(request.reply, 0, bytes, &Outgoing::NONE, endpoint, FOREVER)?
            }
            Received::Closed(badge) => return endpoint.forget(badge),
            Received::Notification(_) | Received::Fault(_) => ipc::receive(endpoint, FOREVER)?,
        }
    }
}
