//! What all clients share: one call, and the handshake.

use alloc::string::String;
use alloc::sync::Arc;
use core::convert::Infallible;

use libsys::abi::{FOREVER, Info};
use libsys::ipc::{Outgoing, Words};
use libsys::{Error, Handle, Sender, ipc, service, time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::schema::{COMPLAINT, Contract, HANDSHAKE, Interface, Schema};
use crate::wire::{self, EncodeError, InHandles, OutHandles, Status};
use crate::{ConnectError, Failure, Protocol};

/// How long a client that got a wrong reply waits besides, for `init` or the server, ns.
pub(crate) const PATIENCE_NS: u64 = 1_000_000_000;

/// Names the interface of a generated client.
pub trait Typed {
    /// The interface.
    type Interface: Interface;
}

/// What the client says first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Hello<S> {
    pub(crate) hash: u64,
    pub(crate) version: u32,
    pub(crate) name: S,
}

/// What the server answers: accepted, or its own form of the interface.
pub(crate) type Welcome = Result<(), Hello<String>>;

/// A sender with a deadline for each call. Clones share the sender.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    timeout_ns: Option<u64>,
}

/// Where requests go.
#[derive(Clone, Debug)]
enum Channel {
    Kernel(Arc<Handle<Sender>>),
    #[cfg(not(bare))]
    Loopback(alloc::rc::Rc<crate::loopback::Loopback>),
}

impl Client {
    /// Makes a client that waits for ever.
    pub fn new(sender: Handle<Sender>) -> Client {
        Client {
            channel: Channel::Kernel(Arc::new(sender)),
            timeout_ns: None,
        }
    }

    /// Makes a client of a server in this process.
    #[cfg(not(bare))]
    pub fn loopback(loopback: alloc::rc::Rc<crate::loopback::Loopback>) -> Client {
        Client {
            channel: Channel::Loopback(loopback),
            timeout_ns: None,
        }
    }

    /// Returns a client whose calls give up after `ns` nanoseconds.
    #[must_use]
    pub fn with_deadline(&self, ns: u64) -> Client {
        Client {
            channel: self.channel.clone(),
            timeout_ns: Some(ns),
        }
    }

    /// Returns the sender; there is none in a loopback.
    pub fn sender(&self) -> Option<&Handle<Sender>> {
        match &self.channel {
            Channel::Kernel(sender) => Some(sender),
            #[cfg(not(bare))]
            Channel::Loopback(_) => None,
        }
    }

    /// Calls method number `method` of interface `I`.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn call<I, A, T, E>(
        &self,
        method: u16,
        arguments: &A,
        handles: OutHandles,
    ) -> Result<(T, InHandles), Failure<E>>
    where
        I: Interface,
        A: Serialize,
        T: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned,
    {
        let (reply, handles) = self
            .exchange(I::SCHEMA, method, arguments, handles)
            .map_err(Failure::widen)?;
        let value = reply.read(I::SCHEMA)?;
        Ok((value, handles))
    }

    /// As [`Client::call`], for methods that pass no handles.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    #[inline]
    pub fn call_plain<I, A, T, E>(&self, method: u16, arguments: &A) -> Result<T, Failure<E>>
    where
        I: Interface,
        A: Serialize,
        T: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned,
    {
        let reply = match &self.channel {
            Channel::Kernel(sender) => {
                let bytes = ipc::write_payload(|page| wire::encode(arguments, page))?;
                let label = I::SCHEMA.label(method);
                let deadline = self.timeout_ns.map_or(FOREVER, time::after);
                // Handles that nobody expects are closed.
                let (info, words, _) =
                    ipc::call_for_words(sender, label, bytes, &Outgoing::NONE, deadline)?;
                Reply::Message(info, words)
            }
            #[cfg(not(bare))]
            Channel::Loopback(_) => {
                let (reply, handles) = self
                    .exchange(I::SCHEMA, method, arguments, OutHandles::new())
                    .map_err(Failure::widen)?;
                handles.close();
                reply
            }
        };
        reply.read(I::SCHEMA)
    }

    /// Judges a failure of a call to method number `method` of interface `I`. One that speaks against
    /// one of the two sides makes this server doubt itself: its next instance will ask instead. If
    /// that has been tried, or this is no server, the other one is reported to `init`, which replaces
    /// it. Returns whether to ask the next instance, which is done only where it does no harm. `asked`
    /// tells whether an instance was reported already: then no other one is, nor asked.
    #[cold]
    pub fn doubt<I: Interface, E>(&self, method: u16, failure: &Failure<E>, asked: Asked) -> bool {
        let Some(doubt) = Doubt::of(failure) else {
            return false;
        };
        let known = I::SCHEMA.methods.get(usize::from(method));
        let name = known.map_or("?", |method| method.name);
        self.tell_of(I::SCHEMA, name, doubt, asked);
        let is_harmless = match doubt {
            Doubt::Own => false,
            Doubt::Refused => true,
            Doubt::Nonsense => known.is_some_and(|method| method.contract == Contract::Idempotent),
        };
        asked == Asked::Once && is_harmless
    }

    /// Logs a doubt, and acts on it unless that was done already.
    fn tell_of(&self, schema: &Schema, method: &str, doubt: Doubt, asked: Asked) {
        log::error!("{}::{method}: {}", schema.name, doubt.text());
        if asked == Asked::Again {
            return;
        }
        crate::doubt_this_side(method);
        let is_told = doubt == Doubt::Own || self.tell_init(method);
        // Who refuses a request has doubted itself already.
        if !is_told && doubt == Doubt::Nonsense {
            self.complain(schema);
        }
    }

    /// Tells `init` of a server that is not in order; it ends the server then.
    pub fn report(&self, method: &str) {
        self.tell_init(method);
    }

    /// As [`Client::report`]; returns whether there was a way to.
    #[cfg(bare)]
    fn tell_init(&self, method: &str) -> bool {
        let Channel::Kernel(sender) = &self.channel;
        crate::rubbish::report(sender, method)
    }

    /// Does nothing: on the host there is no `init`.
    #[cfg(not(bare))]
    fn tell_init(&self, _method: &str) -> bool {
        false
    }

    /// Tells a server that it is not in order. Most programs have no sender to `init`.
    fn complain(&self, schema: &Schema) {
        let client = self.with_deadline(PATIENCE_NS);
        // It refuses, or its next instance does.
        let _ = client.exchange(schema, COMPLAINT, &(), OutHandles::new());
    }

    /// Compares schemas with the server. One that does not understand the greeting is reported and
    /// asked again.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn handshake(&self, ours: &'static Schema) -> Result<(), ConnectError> {
        let interface = ours.name;
        let hello = Hello {
            hash: ours.hash,
            version: ours.version,
            name: interface,
        };
        let mut asked = Asked::Once;
        loop {
            let answer = self
                .exchange(ours, HANDSHAKE, &hello, OutHandles::new())
                .and_then(|(reply, _)| reply.decode::<(), Hello<String>>());
            if let Err(failure) = &answer
                && let Some(doubt) = Doubt::of(failure)
            {
                self.tell_of(ours, "handshake", doubt, asked);
                if core::mem::replace(&mut asked, Asked::Again) == Asked::Once {
                    continue;
                }
            }
            return match answer {
                Ok(Ok(())) => Ok(()),
                Ok(Err(theirs)) if theirs.name != interface => Err(ConnectError::OtherInterface {
                    interface,
                    served: theirs.name,
                }),
                Ok(Err(theirs)) => Err(ConnectError::Mismatch {
                    interface,
                    client: (ours.version, ours.hash),
                    server: (theirs.version, theirs.hash),
                }),
                Err(Failure::Protocol(Protocol::UnknownInterface)) => {
                    Err(ConnectError::NotServed { interface })
                }
                Err(failure) => Err(ConnectError::Failed(failure)),
            };
        }
    }

    /// Sends a request and waits for its reply.
    fn exchange<A: Serialize>(
        &self,
        schema: &Schema,
        method: u16,
        arguments: &A,
        handles: OutHandles,
    ) -> Result<(Reply, InHandles), Exchange> {
        let label = schema.label(method);
        match &self.channel {
            Channel::Kernel(sender) => {
                let bytes = ipc::write_payload(|page| wire::encode(arguments, page))?;
                let deadline = self.timeout_ns.map_or(FOREVER, time::after);
                let outgoing = handles.outgoing();
                let (info, words, incoming) =
                    ipc::call_for_words(sender, label, bytes, &outgoing, deadline)?;
                handles.release();
                Ok((Reply::Message(info, words), InHandles::new(incoming)))
            }
            #[cfg(not(bare))]
            Channel::Loopback(loopback) => {
                let mut page = [0; libsys::abi::MAX_MESSAGE_BYTES];
                let bytes = wire::encode(arguments, &mut page)?;
                let reply = loopback.call(label, &page[..bytes], handles)?;
                Ok((Reply::Bytes(reply.label, reply.payload), reply.handles))
            }
        }
    }
}

/// Does what is rare, out of the way of what is not.
#[cold]
#[inline(never)]
pub fn rarely<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// How often a request has been sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// To one instance.
    Once,
    /// To the next one too, after the first was reported.
    Again,
}

/// Why a server is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doubt {
    /// It does not understand a request of an interface that it serves. Nothing was done.
    Refused,
    /// It answers what cannot be true.
    Nonsense,
    /// The request did not leave this process, which must have made a mistake.
    Own,
}

impl Doubt {
    fn of<E>(failure: &Failure<E>) -> Option<Doubt> {
        Some(match failure {
            Failure::Protocol(
                Protocol::Malformed | Protocol::UnknownMethod | Protocol::UnknownInterface,
            ) => Doubt::Refused,
            Failure::Protocol(
                Protocol::BadReply
                | Protocol::BrokenPromise
                | Protocol::MissingHandle
                | Protocol::ReplyTooLong,
            )
            | Failure::Ipc(Error::ReplyDropped) => Doubt::Nonsense,
            Failure::Protocol(Protocol::RequestTooLong)
            | Failure::Ipc(
                Error::InvalidSyscall
                | Error::InvalidHandle
                | Error::WrongKind
                | Error::MissingRight
                | Error::BadAddress
                | Error::InvalidArgument
                | Error::MessageTooLong,
            ) => Doubt::Own,
            _ => return None,
        })
    }

    const fn text(self) -> &'static str {
        match self {
            Doubt::Refused => "the server does not understand the request",
            Doubt::Nonsense => "the reply cannot be true",
            Doubt::Own => "the request cannot be sent",
        }
    }
}

/// Failures below the method's own errors.
type Exchange = Failure<Infallible>;

impl<E> From<EncodeError> for Failure<E> {
    fn from(_: EncodeError) -> Self {
        Failure::Protocol(Protocol::RequestTooLong)
    }
}

/// Whether this process looks for its own mistakes in what it takes for the replies of an interface. A
/// program that is not a service has nobody who would replace it.
#[inline]
fn compares(schema: &Schema) -> bool {
    schema.is_compared && (cfg!(not(bare)) || service::page().is_some())
}

/// A reply, where it came.
enum Reply {
    /// In words or in the IPC page, from where it is read before anything else passes through there.
    Message(Info, Words),
    /// Through a loopback.
    #[cfg(not(bare))]
    Bytes(u32, alloc::vec::Vec<u8>),
}

impl Reply {
    /// Reads the reply of a method.
    #[inline]
    fn read<T, E>(&self, schema: &Schema) -> Result<T, Failure<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned,
    {
        let result = match self.decode() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure::Server(error)),
            Err(failure) => Err(failure.widen()),
        };
        if compares(schema) && !self.agrees(&result) {
            return Err(Protocol::BadReply.into());
        }
        result
    }

    #[inline]
    fn decode<T, E>(&self) -> Result<Result<T, E>, Exchange>
    where
        T: DeserializeOwned,
        E: DeserializeOwned,
    {
        let label = self.label();
        if label != Status::Answer as u32 {
            return Err(refusal(label));
        }
        let answer = match self {
            Reply::Message(info, words) => wire::decode_answer(*info, words),
            #[cfg(not(bare))]
            Reply::Bytes(_, payload) => wire::decode_result(payload, payload.len()),
        };
        answer.ok_or(Protocol::BadReply.into())
    }

    /// Returns whether this is what is taken for the reply.
    #[inline(never)]
    fn agrees<T: Serialize, E: Serialize>(&self, result: &Result<T, Failure<E>>) -> bool {
        let answer = match result {
            Ok(value) => Ok(value),
            Err(Failure::Server(error)) => Err(error),
            // It is looked into as it is.
            Err(_) => return true,
        };
        let is_answer = self.label() == Status::Answer as u32;
        is_answer
            && match self {
                Reply::Message(info, words) => wire::message_agrees(&answer, *info, words),
                #[cfg(not(bare))]
                Reply::Bytes(_, payload) => wire::agrees(&answer, payload),
            }
    }

    #[inline]
    fn label(&self) -> u32 {
        match self {
            Reply::Message(info, _) => info.label(),
            #[cfg(not(bare))]
            Reply::Bytes(label, _) => *label,
        }
    }
}

/// Says why there is no answer.
#[cold]
fn refusal(label: u32) -> Exchange {
    Status::from_label(label).map_or(Protocol::BadReply.into(), Into::into)
}

impl Failure<Infallible> {
    /// Gives the failure the error type of a method, whose errors it cannot be.
    pub fn widen<E>(self) -> Failure<E> {
        match self {
            Failure::Server(never) => match never {},
            Failure::Ipc(error) => Failure::Ipc(error),
            Failure::Protocol(error) => Failure::Protocol(error),
            Failure::Restarted => Failure::Restarted,
        }
    }
}
