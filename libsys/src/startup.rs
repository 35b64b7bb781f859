//! What a program is given when it starts: name, arguments and handles by name.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Name, arguments and handles, as postcard behind the [`skink_abi::layout::StartupHeader`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Startup {
    /// The name of the program or service.
    pub name: String,
    /// Arguments, without the name.
    pub arguments: Vec<String>,
    /// Variables such as `cwd` and `user`.
    pub variables: Vec<(String, String)>,
    /// Handles by name: a service's endpoint is `self`, a service it may call has that service's
    /// name, the machine is `system`, a manifest's devices have their manifest names.
    pub handles: Vec<(String, u32)>,
}

impl Startup {
    /// Returns the number of the handle with this name.
    pub fn handle(&self, name: &str) -> Option<skink_abi::RawHandle> {
        let (_, raw) = self.handles.iter().find(|(known, _)| known == name)?;
        Some(skink_abi::RawHandle(*raw))
    }

    /// Returns the value of a variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(bare)]
mod guest {
    use skink_abi::layout::{STARTUP, STARTUP_BYTES, STARTUP_MAGIC, StartupHeader};

    use super::Startup;
    use crate::{Handle, Kind};

    /// Returns the header of the start-up pages.
    pub fn header() -> &'static StartupHeader {
        // SAFETY: whoever starts a process maps the start-up pages there, read only, with a valid
        // header, before its first thread runs; a process without them cannot get here.
        unsafe { &*core::ptr::without_provenance::<StartupHeader>(STARTUP as usize) }
    }

    /// Decodes what the program was given; `None` if the start-up pages are damaged.
    pub fn read() -> Option<Startup> {
        let header = header();
        let room = STARTUP_BYTES as usize - size_of::<StartupHeader>();
        let bytes = header.blob_bytes as usize;
        if header.magic != STARTUP_MAGIC || bytes > room {
            return None;
        }
        let blob = core::ptr::from_ref(header).wrapping_add(1).cast::<u8>();
        // SAFETY: the bytes behind the header belong to the start-up pages and are read only.
        let blob = unsafe { core::slice::from_raw_parts(blob, bytes) };
        postcard::from_bytes(blob).ok()
    }

    /// Returns the process's handle to itself. It is never closed.
    pub fn process() -> core::mem::ManuallyDrop<Handle<crate::Process>> {
        let raw = skink_abi::RawHandle(header().process);
        core::mem::ManuallyDrop::new(Handle::from_raw(raw))
    }

    /// Returns how many times this process was started before in the same place, with its handles
    /// and its state region kept.
    pub fn generation() -> u32 {
        header().generation
    }

    /// Takes the handle with this name as an owned handle. Taking one twice gives two owners of
    /// one number: take each once.
    pub fn take<K: Kind>(startup: &Startup, name: &str) -> Option<Handle<K>> {
        startup.handle(name).map(Handle::from_raw)
    }
}

#[cfg(bare)]
pub use guest::{generation, header, process, read, take};

#[cfg(test)]
mod tests {
    use super::Startup;

    #[test]
    fn finds_handles_and_variables_by_name() {
        let startup = Startup {
            name: "ls".into(),
            arguments: vec!["/tmp".into()],
            variables: vec![("cwd".into(), "/".into())],
            handles: vec![("vfs".into(), 7)],
        };
        let bytes = postcard::to_allocvec(&startup).unwrap();
        let back: Startup = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(back, startup);
        assert_eq!(back.handle("vfs").unwrap().0, 7);
        assert_eq!(back.handle("nothing"), None);
        assert_eq!(back.variable("cwd"), Some("/"));
    }
}
