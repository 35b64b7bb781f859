//! Why a call or a connection failed.

use alloc::string::String;
use core::fmt;

use libsys::Error;

use crate::wire::{MissingHandle, Status};

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure<E> {
    /// The server said no, for this reason.
    Server(E),
    /// The kernel could not carry the message. `Timeout` comes from a client with a deadline.
    Ipc(Error),
    /// One side broke the wire format. Remedy: rebuild both sides from one tree.
    Protocol(Protocol),
    /// The server died while it had the request, and the method does not survive that. Remedy:
    /// find out how far it came, then ask again.
    Restarted,
}

/// How a message broke the wire format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// The server could not decode the request.
    Malformed,
    /// The server does not know the method.
    UnknownMethod,
    /// The server does not know the interface.
    UnknownInterface,
    /// The request is longer than a message may be. Remedy: ask in parts.
    RequestTooLong,
    /// The reply is longer than a message may be. Remedy: ask for less.
    ReplyTooLong,
    /// The reply could not be decoded.
    BadReply,
    /// The reply cannot be true: it breaks what the interface promises. Remedy: none here; the
    /// server is wrong.
    BrokenPromise,
    /// A handle is missing or of the wrong kind.
    MissingHandle,
    /// The batch of a stream leads to itself: the server is wrong about its cursors, or an item
    /// is longer than a message.
    StuckStream,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Malformed => "the server could not decode the request",
            Protocol::UnknownMethod => "the server does not know the method",
            Protocol::UnknownInterface => "the server does not know the interface",
            Protocol::RequestTooLong => "the request is too long for a message",
            Protocol::ReplyTooLong => "the reply is too long for a message",
            Protocol::BadReply => "the reply could not be decoded",
            Protocol::BrokenPromise => "the reply cannot be true",
            Protocol::MissingHandle => "a handle is missing or of the wrong kind",
            Protocol::StuckStream => "a stream does not get on",
        })
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Server(error) => error.fmt(f),
            Failure::Ipc(error) => error.fmt(f),
            Failure::Protocol(error) => error.fmt(f),
            Failure::Restarted => f.write_str("the server restarted in the middle of the call"),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> core::error::Error for Failure<E> {}

impl<E> From<Error> for Failure<E> {
    fn from(error: Error) -> Self {
        Failure::Ipc(error)
    }
}

impl<E> From<Protocol> for Failure<E> {
    fn from(error: Protocol) -> Self {
        Failure::Protocol(error)
    }
}

impl<E> From<MissingHandle> for Failure<E> {
    fn from(_: MissingHandle) -> Self {
        Failure::Protocol(Protocol::MissingHandle)
    }
}

impl<E> From<Status> for Failure<E> {
    fn from(status: Status) -> Self {
        Failure::Protocol(match status {
            Status::Restarted => return Failure::Restarted,
            // The caller decodes answers; one that ends here is none.
            Status::Answer => Protocol::BadReply,
            Status::Malformed => Protocol::Malformed,
            Status::UnknownMethod => Protocol::UnknownMethod,
            Status::UnknownInterface => Protocol::UnknownInterface,
            Status::ReplyTooLong => Protocol::ReplyTooLong,
        })
    }
}

/// Why a client could not be connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConnectError {
    /// Both sides know the interface, in different forms. Remedy: rebuild the older side.
    Mismatch {
        /// Name of the interface.
        interface: &'static str,
        /// The version of this client and the hash of its schema.
        client: (u32, u64),
        /// The version of the server and the hash of its schema.
        server: (u32, u64),
    },
    /// The sender leads to a server of something else.
    NotServed {
        /// Name of the interface.
        interface: &'static str,
    },
    /// Two interfaces share one id, and the server has the other one.
    OtherInterface {
        /// Name of the interface.
        interface: &'static str,
        /// Name of the server's.
        served: String,
    },
    /// The handshake itself failed.
    Failed(Failure<core::convert::Infallible>),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Mismatch {
                interface,
                client,
                server,
            } => write!(
                f,
                "{interface}: this program has version {} (schema {:016x}), the server has \
                 version {} (schema {:016x})",
                client.0, client.1, server.0, server.1
            ),
            ConnectError::NotServed { interface } => write!(f, "{interface}: not served there"),
            ConnectError::OtherInterface { interface, served } => {
                write!(f, "{interface}: the server serves {served}")
            }
            ConnectError::Failed(failure) => failure.fmt(f),
        }
    }
}

impl core::error::Error for ConnectError {}
