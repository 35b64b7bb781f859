//! Partners of benchmarks: servers that they call and others, in threads of this process or in processes of their own.

use alloc::rc::Rc;

use bench::arguments::Role;
use bench::echo::{EchoDispatcher, Mirror};
use libipc::Server;
use libsys::abi::{FOREVER, Info};
use libsys::ipc::{self, Received, Words};
use libsys::mappings::Reservation;
use libsys::thread::yield_now;
use libsys::{Endpoint, Error, Handle, Notification, runtime};
use skink_program::{Failed, Outcome, Program};

use super::rings;

/// Handle that a server waits for.
pub(crate) const WAITER: &str = "waiter";
/// Handle by which a server answers.
pub(crate) const ANSWER: &str = "answer";
/// Bit that asks for an answer.
pub(crate) const TURN: u64 = 1;
/// Bit that ends who answers.
pub(crate) const END: u64 = 2;

/// Serves in a process of its own.
pub(crate) fn run(program: &Program, role: Role) -> Outcome {
    match role {
        Role::Echo => end(echo(&program.take("self")?)),
        Role::Words0 => end(echo_words::<0>(&program.take("self")?)),
        Role::Words1 => end(echo_words::<1>(&program.take("self")?)),
        Role::Words8 => end(echo_words::<8>(&program.take("self")?)),
        Role::Notify => end(answer_notifications(
            &program.take(WAITER)?,
            &program.take(ANSWER)?,
        )),
        Role::Ring => {
            let ring = program.take(rings::RING)?;
            rings::serve(&ring, &program.take(WAITER)?, &program.take(ANSWER)?).map(|()| 0)
        }
        Role::Fault => fault(&program.take(WAITER)?),
        Role::Spin => loop {
            yield_now();
        },
        Role::Typed => {
            let endpoint: Handle<Endpoint> = program.take("self")?;
            let notification = Handle::<Notification>::create()?;
            let mut server = Server::new(endpoint, notification);
            server.on_closed(|_badge| runtime::exit(0));
            server.run(EchoDispatcher::new(Rc::new(Mirror)))
        }
    }
}

fn end(result: Result<(), Error>) -> Outcome {
    result.map(|()| 0).map_err(Failed::new)
}

/// Answers each [`TURN`] with the bits of the other handle, until there is something else.
pub(crate) fn answer_notifications(
    waiter: &Handle<Notification>,
    answer: &Handle<Notification>,
) -> Result<(), Error> {
    while ipc::wait(waiter, FOREVER)? == TURN {
        ipc::notify(answer)?;
    }
    Ok(())
}

/// Waits to be told that there is a pager, then touches an address at which nothing is mapped.
fn fault(waiter: &Handle<Notification>) -> Outcome {
    ipc::wait(waiter, FOREVER)?;
    let place = Reservation::new(1)?;
    let page = core::ptr::with_exposed_provenance_mut::<u64>(place.address() as usize);
    // SAFETY: nothing is mapped there, so nothing is written: the pager never brings a page.
    unsafe { page.write_volatile(0) };
    Err(Failed::new("nothing was mapped, and there was no fault"))
}

/// Answers each message with the first `N` of its own words until the last sender is closed.
pub(crate) fn echo_words<const N: usize>(endpoint: &Handle<Endpoint>) -> Result<(), Error> {
    loop {
        let echo = |_badge, _info, payload: &Words| core::array::from_fn(|at| payload.0[at]);
        if let (Received::Closed(badge), _) = ipc::serve_short::<N>(endpoint, echo)? {
            return endpoint.forget(badge);
        }
    }
}

/// Answers each message with its own bytes until the last sender is closed. They must be more than
/// go in registers.
pub(crate) fn echo(endpoint: &Handle<Endpoint>) -> Result<(), Error> {
    let mut next = ipc::receive_short(endpoint, FOREVER)?;
    loop {
        next = match next {
            // The payload lies in the IPC page, from where the answer is sent.
            (Received::Request(request), _) => {
                let bytes = request.info.bytes();
                let answer = ipc::Answer {
                    reply: request.reply,
                    info: Info::new(0, bytes, 0),
                    is_compared: false,
                };
                ipc::answer_and_receive(Some(answer), endpoint, FOREVER)?
            }
            (Received::Closed(badge), _) => return endpoint.forget(badge),
            (Received::Notification(_) | Received::Fault(_), _) => {
                ipc::receive_short(endpoint, FOREVER)?
            }
        }
    }
}
