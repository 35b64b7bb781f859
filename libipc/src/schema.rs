//! What both sides of an interface must agree on.

/// A type that stands for an interface.
pub trait Interface {
    /// What the interface looks like on the wire.
    const SCHEMA: &'static Schema;
}

/// What happens to a request whose server died while it had it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contract {
    /// It is run again.
    Idempotent,
    /// If it had completed, it gets its stored reply from the server's
    /// [`ReplyJournal`](crate::server::ReplyJournal); else it is run again. A server without a
    /// journal, and one whose reply carried handles, runs it again and has to recognise it by
    /// [`Caller::redelivered`](crate::Caller::redelivered).
    ExactlyOnce,
    /// It fails with [`Failure::Restarted`](crate::Failure::Restarted).
    FailsOnRestart,
}

/// Returns whether bytes are a reply.
pub type Reads = fn(&[u8]) -> bool;

/// A method of an interface.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// What happens when its server dies.
    pub contract: Contract,
    /// Whether it is a call for one batch of a [stream](crate::stream).
    pub is_stream: bool,
    /// Digest of its signature; see [`signature_digest`].
    pub digest: u64,
    /// Whether a client can read these bytes as its reply; asked before they are sent, where the client
    /// could not ask once more.
    pub reads: Option<Reads>,
    /// The least and the most handles that go with a value that it returns. With an error none do.
    pub handles: (u8, u8),
}

/// What the entries of a ring may be; see [`typed_ring`](crate::typed_ring).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ring {
    /// Name of the interface that declares them.
    pub name: &'static str,
    /// Names of its ring methods; the opcode is the place, from 1.
    pub methods: &'static [&'static str],
    /// Their signatures.
    pub signatures: &'static [&'static str],
}

/// An interface as both sides must have it.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Name of the interface.
    pub name: &'static str,
    /// Version that its author gave it.
    pub version: u32,
    /// Upper half of the labels of its messages: a digest of the name.
    pub id: u16,
    /// Digest of name, version and signatures. It holds the *names* of types only: who changes
    /// a type raises the version.
    pub hash: u64,
    /// Its methods; the number of a method is its place.
    pub methods: &'static [Method],
    /// Whether replies are [looked at](Method::reads) before they are sent: not those of servers to which
    /// each instruction counts.
    pub is_looked_at: bool,
    /// Whether servers compare the replies that they write and read with what these say.
    pub is_compared: bool,
    /// Its ring, if it has one.
    pub ring: Option<&'static Ring>,
}

/// Number of the handshake, which every interface has.
pub const HANDSHAKE: u16 = 0xffff;

/// Number of a method that no interface has. A server that is asked for one doubts itself, so a client
/// that has nobody to report it to asks for this.
pub const COMPLAINT: u16 = 0xfffe;

impl Schema {
    /// Makes the schema of an interface.
    pub const fn new(
        name: &'static str,
        version: u32,
        signatures: &[&str],
        methods: &'static [Method],
    ) -> Schema {
        let name_hash = fnv1a(FNV_START, name.as_bytes());
        let hash = fnv1a(name_hash, &version.to_le_bytes());
        let hash = lines(hash, signatures);
        let (mut is_looked_at, mut at) = (false, 0);
        while at < methods.len() {
            is_looked_at |= methods[at].reads.is_some();
            at += 1;
        }
        let id = (name_hash ^ name_hash >> 16 ^ name_hash >> 32 ^ name_hash >> 48) as u16;
        Schema {
            name,
            version,
            id,
            hash,
            methods,
            is_looked_at,
            is_compared: false,
            ring: None,
        }
    }

    /// Has servers compare the replies that they write and read.
    #[must_use]
    pub const fn compared(self) -> Schema {
        Schema {
            is_compared: true,
            is_looked_at: true,
            ..self
        }
    }

    /// Adds a ring: both sides must have the same one.
    #[must_use]
    pub const fn with_ring(self, ring: &'static Ring) -> Schema {
        Schema {
            hash: lines(self.hash, ring.signatures),
            ring: Some(ring),
            ..self
        }
    }

    /// Returns a digest of the first methods and of the ring, without the version; `None` if there are
    /// not so many. A later version that only adds methods has the same one.
    pub fn prefix(&self, methods: usize) -> Option<u64> {
        let methods = self.methods.get(..methods)?;
        let ring = self.ring.map_or(&[][..], |ring| ring.signatures);
        let start = lines(fnv1a(FNV_START, self.name.as_bytes()), ring);
        Some(methods.iter().fold(start, |hash, method| {
            fnv1a(hash, &method.digest.to_le_bytes())
        }))
    }

    /// Returns the label of a request for the method with this number.
    pub const fn label(&self, method: u16) -> u32 {
        (self.id as u32) << 16 | method as u32
    }
}

/// Returns the digest of a method's signature.
pub const fn signature_digest(signature: &str) -> u64 {
    fnv1a(FNV_START, signature.as_bytes())
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Goes on with lines of text.
const fn lines(mut hash: u64, lines: &[&str]) -> u64 {
    let mut i = 0;
    while i < lines.len() {
        hash = fnv1a(hash, lines[i].as_bytes());
        hash = fnv1a(hash, b"\n");
        i += 1;
    }
    hash
}

/// Goes on with a 64-bit FNV-1a digest.
const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::{FNV_START, Ring, Schema, fnv1a};

    #[test]
    fn digest_agrees_with_published_vectors() {
        assert_eq!(fnv1a(FNV_START, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(FNV_START, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(FNV_START, b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn hash_changes_with_name_version_and_signatures_but_id_only_with_the_name() {
        let schema = Schema::new("A", 1, &["x", "y"], &[]);
        for other in [
            Schema::new("A", 2, &["x", "y"], &[]),
            Schema::new("A", 1, &["y", "x"], &[]),
            Schema::new("A", 1, &["xy"], &[]),
        ] {
            assert_ne!(schema.hash, other.hash);
            assert_eq!(schema.id, other.id);
        }
        assert_ne!(schema.id, Schema::new("B", 1, &["x", "y"], &[]).id);
        assert_eq!(schema.label(3) & 0xffff, 3);
    }

    #[test]
    fn hash_changes_with_the_ring() {
        const RING: Ring = Ring {
            name: "A",
            methods: &["read"],
            signatures: &["ring read()->Result<(),E>"],
        };
        let schema = Schema::new("A", 1, &["x"], &[]);
        assert_ne!(schema.hash, schema.with_ring(&RING).hash);
        assert_eq!(schema.id, schema.with_ring(&RING).id);
    }
}
