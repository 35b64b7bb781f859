//! Names of what is kept in the vault: it outlives this driver.

use libipc::proto::block::BufferId;

/// Something that the vault keeps, by its key: kind (8 bits), disk (24 bits), buffer (32 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kept {
    /// The ring of a disk.
    Ring(u32),
    /// The notification for completions of a disk.
    Wake(u32),
    /// A buffer of a disk.
    Buffer(u32, BufferId),
}

impl Kept {
    /// Returns the key in the vault.
    pub fn key(self) -> u64 {
        let (kind, disk, buffer) = match self {
            Kept::Ring(disk) => (1, disk, 0),
            Kept::Wake(disk) => (2, disk, 0),
            Kept::Buffer(disk, buffer) => (3, disk, buffer.0),
        };
        kind << 56 | u64::from(disk & 0xff_ffff) << 32 | u64::from(buffer)
    }

    /// Reads a key; `None` for one that this driver never made.
    pub fn from_key(key: u64) -> Option<Self> {
        let (disk, buffer) = ((key >> 32) as u32 & 0xff_ffff, key as u32);
        match key >> 56 {
            1 if buffer == 0 => Some(Kept::Ring(disk)),
            2 if buffer == 0 => Some(Kept::Wake(disk)),
            3 => Some(Kept::Buffer(disk, BufferId(buffer))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BufferId, Kept};

    #[test]
    fn keys_round_trip() {
        for kept in [
            Kept::Ring(0),
            Kept::Wake(7),
            Kept::Buffer(0xff_ffff, BufferId(u32::MAX)),
        ] {
            assert_eq!(Kept::from_key(kept.key()), Some(kept));
        }
        assert_eq!(Kept::from_key(0), None);
        assert_eq!(Kept::from_key(9 << 56), None);
    }
}
