//! A read of the device, as it is asked for and as it ended.

use core::fmt;

use libipc::Failure;
use libipc::proto::block::{BlockEntry, BufferId, IoError, Receipt, Request};

use crate::device::SECTOR_BYTES;

/// How a read ended, as the block server says.
pub type Outcome = Result<Receipt, Failure<IoError>>;

/// A read of whole sectors into a place of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The buffer that takes the bytes.
    pub buffer: BufferId,
    /// First byte in the buffer.
    pub place: u64,
    /// First byte on the device.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// Why a read is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It failed.
    Failed(Failure<IoError>),
    /// Something else was transferred.
    SomethingElse,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Failed(why) => why.fmt(f),
            Fault::SomethingElse => f.write_str("something else was read"),
        }
    }
}

impl Reading {
    /// Returns what to ask the block server for.
    pub fn entry(&self) -> BlockEntry {
        BlockEntry::Read {
            buffer: self.buffer,
            offset: self.place,
            sector: self.offset / SECTOR_BYTES,
            sectors: self.bytes / SECTOR_BYTES,
        }
    }

    /// Looks whether the bytes that were to be read are in their place now. The receipt is compared
    /// with this read, not with the entry that was made of it.
    ///
    /// # Errors
    ///
    /// What is wrong: this side asked for something else or sees the end of another read, or the
    /// block server is not in order.
    #[inline(never)]
    pub fn check(&self, outcome: Outcome) -> Result<(), Fault> {
        let receipt = outcome.map_err(Fault::Failed)?;
        let (sector, sectors) = (self.offset / SECTOR_BYTES, self.bytes / SECTOR_BYTES);
        let asked = Request::read(self.buffer, self.place, sector, sectors);
        if receipt == Receipt::of(&asked) {
            Ok(())
        } else {
            Err(Fault::SomethingElse)
        }
    }
}

#[cfg(test)]
mod tests {
    use libipc::Failure;
    use libipc::proto::block::{BlockEntry, BufferId, IoError, Receipt, Request};

    use super::{Fault, Reading};

    const READING: Reading = Reading {
        buffer: BufferId(3),
        place: 64 * 1024,
        offset: 1 << 30,
        bytes: 4096,
    };

    #[test]
    fn what_was_asked_for_is_what_is_expected() {
        let receipt = |entry: BlockEntry| Receipt::of(&Request::from(entry));
        assert_eq!(READING.check(Ok(receipt(READING.entry()))), Ok(()));
        let others = [
            Reading {
                buffer: BufferId(4),
                ..READING
            },
            Reading {
                place: 0,
                ..READING
            },
            Reading {
                offset: READING.offset + 4096,
                ..READING
            },
            Reading {
                bytes: 8192,
                ..READING
            },
        ];
        for other in others {
            let outcome = Ok(receipt(other.entry()));
            assert_eq!(READING.check(outcome), Err(Fault::SomethingElse));
        }
        let (buffer, offset) = (READING.buffer, READING.place);
        let written = BlockEntry::Write {
            buffer,
            offset,
            sector: READING.offset / 512,
            sectors: 8,
        };
        let outcome = Ok(receipt(written));
        assert_eq!(READING.check(outcome), Err(Fault::SomethingElse));
        let why = Failure::Server(IoError::Device);
        assert_eq!(READING.check(Err(why)), Err(Fault::Failed(why)));
    }
}
