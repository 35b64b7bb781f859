//! The list of capabilities of a function.

use alloc::vec::Vec;

use crate::config::{CAPABILITIES, COMMAND};
use crate::{ConfigSpace, Function};

/// Status bit: there is a list.
const HAS_LIST: u32 = 1 << (16 + 4);
/// Capabilities start behind the header.
const FIRST: u8 = 0x40;
/// Capability ids that mean something here.
const VENDOR: u8 = 9;

/// A capability as it lies in the configuration space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawCapability {
    /// What it is.
    pub id: u8,
    /// Where it starts.
    pub offset: u8,
    /// Its bytes from the id on: the announced length of a vendor-specific one, 12 of others, cut
    /// off at the end of the configuration space.
    pub bytes: Vec<u8>,
}

/// Reads the list in the function's order. A list that comes back to itself ends there.
pub fn capabilities<C: ConfigSpace + ?Sized>(function: &Function<'_, C>) -> Vec<RawCapability> {
    let mut found = Vec::new();
    if function.read(COMMAND) & HAS_LIST == 0 {
        return found;
    }
    let mut is_seen = [false; 64];
    let mut offset = function.read(CAPABILITIES) as u8 & !3;
    while offset >= FIRST && !core::mem::replace(&mut is_seen[usize::from(offset / 4)], true) {
        let word = function.read(offset);
        let id = word as u8;
        let bytes = if id == VENDOR { (word >> 16) as u8 } else { 12 };
        found.push(RawCapability {
            id,
            offset,
            bytes: read_bytes(function, offset, bytes),
        });
        offset = (word >> 8) as u8 & !3;
    }
    found
}

fn read_bytes<C: ConfigSpace + ?Sized>(
    function: &Function<'_, C>,
    offset: u8,
    count: u8,
) -> Vec<u8> {
    let count = usize::from(count).min(256 - usize::from(offset));
    let words = (0..count.div_ceil(4)).map(|i| function.read(offset + 4 * i as u8));
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    bytes.truncate(count);
    bytes
}

#[cfg(test)]
mod tests {
    use libipc::proto::pci::Address;
    use proptest::prelude::*;

    use super::capabilities;
    use crate::Function;
    use crate::fake::{FakeSpace, Noise};

    const ADDRESS: Address = Address {
        bus: 0,
        device: 1,
        function: 0,
    };

    #[test]
    fn reads_a_list_and_stops_where_it_bites_its_tail() {
        let mut space = FakeSpace::default();
        space.add(0, 1, 0, 0x1042_1af4);
        assert!(capabilities(&Function::new(&space, ADDRESS)).is_empty());
        space.set(ADDRESS, 0x04, 1 << 20);
        space.set(ADDRESS, 0x34, 0x40);
        space.set(ADDRESS, 0x40, 0x0110_f809);
        space.set(ADDRESS, 0xf8, 0x0020_4009);
        let list = capabilities(&Function::new(&space, ADDRESS));
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].id, list[0].bytes.len()), (9, 16));
        assert_eq!(list[0].bytes[..4], [9, 0xf8, 16, 1]);
        assert_eq!(list[1].bytes.len(), 8);
    }

    proptest! {
        #[test]
        fn any_list_ends(seed in any::<u64>()) {
            let list = capabilities(&Function::new(&Noise(seed), ADDRESS));
            prop_assert!(list.len() <= 48);
        }
    }
}
