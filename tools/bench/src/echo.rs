//! The interface for measuring a typed call: a record goes there and back.

use serde::{Deserialize, Serialize};

/// Fields as requests of real interfaces have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Names an object.
    pub id: u64,
    /// A place in it.
    pub offset: u64,
    /// How much of it; 0 is refused.
    pub bytes: u64,
    /// A number of bits.
    pub flags: u32,
    /// How urgent it is.
    pub priority: u8,
    /// How often it was tried before.
    pub attempt: u8,
    /// What to do.
    pub kind: Kind,
    /// Whether something follows.
    pub has_more: bool,
}

/// What to do with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// Read.
    Read,
    /// Write.
    Write,
}

impl Record {
    /// A record; each has 32 bytes on the wire.
    pub const SAMPLE: Record = Record {
        id: u64::MAX,
        offset: u64::MAX - 1,
        bytes: u64::MAX - 2,
        flags: u32::MAX - 1,
        priority: 3,
        attempt: 200,
        kind: Kind::Write,
        has_more: true,
    };
}

/// Why a record did not come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EchoError {
    /// It asks for no bytes.
    Empty,
}

impl core::fmt::Display for EchoError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            EchoError::Empty => f.write_str("the record asks for no bytes"),
        }
    }
}

/// Sends records back.
#[libipc::interface(version = 2)]
pub trait Echo {
    /// Sends a record back.
    #[idempotent]
    fn echo(record: Record) -> Result<Record, EchoError>;
}

/// Serves [`Echo`].
#[derive(Clone, Copy, Debug)]
pub struct Mirror;

impl EchoServer for Mirror {
    async fn echo(&self, _caller: &libipc::Caller, record: Record) -> Result<Record, EchoError> {
        if record.bytes == 0 {
            return Err(EchoError::Empty);
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use libipc::Failure;
    use libipc::loopback::Loopback;

    use super::{EchoClient, EchoDispatcher, EchoError, Mirror, Record};

    #[test]
    fn the_sample_is_32_bytes_long() {
        assert_eq!(libipc::wire::encode(&Record::SAMPLE, &mut [0; 64]), Ok(32));
    }

    #[test]
    fn records_come_back_and_empty_ones_are_refused() {
        let loopback = Loopback::new(EchoDispatcher::new(Rc::new(Mirror)));
        let client = EchoClient::from_client(loopback.client());
        assert_eq!(client.echo(Record::SAMPLE), Ok(Record::SAMPLE));
        let empty = Record {
            bytes: 0,
            ..Record::SAMPLE
        };
        assert_eq!(client.echo(empty), Err(Failure::Server(EchoError::Empty)));
    }
}
