//! Typed IPC: wire format, interface macro, clients, server loop and rings.
//!
//! An interface is one trait in [`proto`] with [`macro@interface`] on it. The macro makes a
//! client (`XClient`), the trait of its server (`XServer`) and a dispatcher between them
//! (`XDispatcher`). Start with a file of [`proto`], then [`server`] for the event loop,
//! [`client`] for what a call does, [`stream`] for long answers, [`ring`] and [`typed_ring`] for
//! bulk work. `loopback` joins a client and a
//! server without a kernel, for tests on the host.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[doc(hidden)]
pub extern crate alloc;
// The macro writes `::libipc` paths, also for the interfaces in here.
extern crate self as libipc;

pub mod client;
#[cfg(not(bare))]
pub mod describe;
pub mod events;
mod executor;
mod failure;
pub mod files;
pub mod gate;
#[cfg(not(bare))]
pub mod golden;
#[cfg(not(bare))]
pub mod loopback;
mod promises;
pub mod proto;
mod receipt;
pub mod ring;
#[cfg(bare)]
mod rubbish;
pub mod schema;
pub mod seal;
pub mod server;
pub mod spawn;
pub mod stream;
pub mod sync;
pub mod typed_ring;
pub mod wire;

pub use failure::{ConnectError, Failure, Protocol};
#[doc(hidden)]
pub use libsys;
pub use schema::Interface;
pub use server::{Caller, Server};

#[cfg(bare)]
pub use rubbish::{doubt_oneself, on_doubt};

/// Panics: on the host there is no `init`, which would end the process.
#[cfg(not(bare))]
pub fn doubt_oneself(what: &str) {
    panic!("{what}");
}

/// As [`doubt_oneself`], for the two sides of an interface, which are one process on the host.
#[cfg_attr(not(bare), expect(unused_variables, reason = "nobody is told there"))]
pub(crate) fn doubt_this_side(what: &str) {
    #[cfg(bare)]
    doubt_oneself(what);
}

/// Makes client, server trait and dispatcher of a trait.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Serialize, Deserialize)]
/// # pub enum DoublerError { TooMuch }
/// /// Doubles numbers.
/// #[libipc::interface(version = 1)]
/// pub trait Doubler {
///     /// Doubles `number`.
///     #[idempotent]
///     fn double(number: u32) -> Result<u64, DoublerError>;
/// }
/// # fn main() {}
/// ```
///
/// gives `DoublerClient::double(&self, number: u32) -> Result<u64, Failure<DoublerError>>`, the
/// trait `DoublerServer` with `async fn double(&self, caller: &Caller, number: u32) ->
/// Result<u64, DoublerError>`, and `DoublerDispatcher::new(Rc<impl DoublerServer>)` for
/// [`Server::run`].
///
/// Arguments are serde types, `&str`, `&[T]` and `&T` (the server gets them owned), and
/// `Handle<K>` or `Option<Handle<K>>`: the server gets a copy of the handle, or with `#[moved]`
/// the handle itself. Handles may be returned alone or in the outer tuple; they are always moved.
/// At most 4 handles and 4096 bytes go one way.
///
/// Each method has one restart contract: `#[idempotent]`, `#[exactly_once]` or
/// `#[fails_on_restart]`; see [`schema::Contract`]. Two kinds of methods need none:
///
/// - `#[stream] fn list(of: u32) -> Result<Stream<Item, Cursor>, E>`: the client's `list(of)` is
///   an iterator of items, its `list_batch(of, from)` and the server's `list(caller, of, from)`
///   return one [`stream::Batch`];
/// - `#[ring] fn read(buffer: u32, offset: u64) -> Result<(), E>`: an entry of the interface's
///   ring, a variant of the enum `XEntry`; see [`typed_ring`]. `ring = path` beside the version
///   takes the entries of another interface.
///
/// `#[ensures(path)]` names a function that tells whether a reply can be true: it gets the arguments
/// as the client has them, without handles, and a reference to what is returned. A client whose
/// server breaks such a promise gets [`Protocol::BrokenPromise`] and never sees the reply.
/// `#[sealed(path)]` names a function that makes the last argument of the others: the method of the
/// client does so itself; see [`seal`].
///
/// `#[compared]` before the trait has servers compare the replies that they write and read with what
/// these say, in another way than that in which they did it: one that is damaged ends before anyone
/// hears of it, and the next instance gets the request. It costs as much as encoding does. `#[suspect(pattern)]`
/// names the errors that no server in order gives: one that is about to does not believe itself.
///
/// Mistakes are errors of the compiler that name the method and say what to do:
///
/// ```compile_fail,E0277
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Serialize, Deserialize)]
/// # pub enum DoublerError { TooMuch }
/// pub struct Number(u32);
///
/// #[libipc::interface(version = 1)]
/// pub trait Doubler {
///     // error[E0277]: method `double`: `Number` cannot travel in a message
///     #[idempotent]
///     fn double(number: Number) -> Result<u64, DoublerError>;
/// }
/// # fn main() {}
/// ```
pub use libipc_macros::interface;
