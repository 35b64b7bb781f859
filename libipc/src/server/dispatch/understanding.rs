//! Whether a server understands its own interfaces: one that does not is damaged.

use alloc::string::String;
use core::task::{Context, Waker};

use libsys::abi::{Info, REGISTER_BYTES};
use libsys::ipc::Words;

use super::{Arguments, Core, Dispatch, Payload, find};
use crate::client::Hello;
use crate::schema::HANDSHAKE;
use crate::server::Caller;
use crate::wire::{self, InHandles, Status};

impl<R> Core<R> {
    /// Returns whether there are dispatchers and each one knows its own methods: a method that
    /// does not exist must be refused as such, and a request that is none as malformed or alike.
    pub(crate) fn answers(&self) -> bool {
        let probe = |dispatcher: &dyn Dispatch| {
            let request = Arguments {
                payload: Payload::Message(Info::default(), &Words::default()),
                handles: &mut InHandles::default(),
                caller: Caller::default(),
                output: &self.output,
                places: &self.places,
            };
            dispatcher.start(HANDSHAKE, request, &mut Context::from_waker(Waker::noop()))
        };
        let refuses =
            |dispatcher: &dyn Dispatch| matches!(probe(dispatcher), Err(Status::UnknownMethod));
        let mut dispatchers = self.dispatchers.iter();
        !self.dispatchers.is_empty()
            && dispatchers.all(|(schema, dispatcher)| {
                core::ptr::eq(*schema, dispatcher.schema()) && refuses(&**dispatcher)
            })
    }

    /// Looks once more before a request is refused that is none: a server that does not understand
    /// itself either ends, and the next instance gets the request. So does one that does, if `init`
    /// lets it: it may be this kind of request that it cannot read.
    #[cold]
    #[inline(never)]
    pub(super) fn doubt_refusal(&self, caller: &Caller) {
        assert!(self.understands(), "this server does not understand itself");
        self.output.suspect(caller, "?");
    }

    /// Returns whether greetings in its own interfaces are found and read as they were written.
    fn understands(&self) -> bool {
        self.schemas().all(|schema| {
            let greeting = Hello {
                hash: schema.hash,
                version: schema.version,
                name: schema.name,
            };
            let mut bytes = [0; REGISTER_BYTES];
            let Ok(used) = wire::encode(&greeting, &mut bytes) else {
                // A long name: nothing to find out.
                return true;
            };
            let mut words = Words::default();
            for (word, bytes) in words.0.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = bytes.try_into().map_or(0, u64::from_le_bytes);
            }
            let payload = Payload::Message(Info::new(0, used, 0), &words);
            let read = payload.decode::<Hello<String>>();
            let is_same = |read: Hello<String>| {
                read.hash == greeting.hash
                    && read.version == greeting.version
                    && read.name == greeting.name
            };
            find(&self.dispatchers, schema.id).is_some() && read.is_ok_and(is_same)
        })
    }
}
