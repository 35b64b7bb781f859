//! MSI-X: interrupts as writes to memory (PCI Local Bus Specification 3.0, 6.8.2).

use crate::{Bar, ConfigSpace, Function, RawCapability};

/// Bytes of an entry of the table.
pub const ENTRY_BYTES: u64 = 16;

const ID: u8 = 17;
/// Bits of the control word, in the upper half of the first double word.
const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;
/// In an entry's last word: this interrupt is held back.
const MASKED: u32 = 1;

/// Where a function has its MSI-X table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Msix {
    /// Where the capability is.
    offset: u8,
    /// Entries of the table.
    pub vectors: u16,
    /// The base address register that the table is behind.
    pub bar: u8,
    /// First byte of the table there.
    pub table: u32,
}

impl Msix {
    /// Finds MSI-X in a list of capabilities.
    pub fn find(capabilities: &[RawCapability]) -> Option<Self> {
        let capability = capabilities.iter().find(|capability| capability.id == ID)?;
        let word = |at: usize| {
            capability
                .bytes
                .get(at..)?
                .first_chunk()
                .map(|word| u32::from_le_bytes(*word))
        };
        let (control, table) = (word(0)? >> 16, word(4)?);
        let bar = (table & 7) as u8;
        let vectors = (control & 0x7ff) as u16 + 1;
        (bar < 6).then_some(Msix {
            offset: capability.offset,
            vectors,
            bar,
            table: table & !7,
        })
    }

    /// Returns whether the whole table lies behind the register.
    pub fn fits(&self, bar: &Bar) -> bool {
        u64::from(self.table) + u64::from(self.vectors) * ENTRY_BYTES <= bar.bytes
    }

    /// Lets the function send its interrupts by MSI-X; each entry can still be masked.
    pub fn enable<C: ConfigSpace + ?Sized>(&self, function: &Function<'_, C>) {
        self.change(function, ENABLE);
    }

    /// Makes the function send no interrupts.
    pub fn disable<C: ConfigSpace + ?Sized>(&self, function: &Function<'_, C>) {
        self.change(function, 0);
    }

    /// Returns the offset of an entry behind the register, or `None` past the end.
    pub fn entry(&self, vector: u16) -> Option<u64> {
        let offset = u64::from(self.table) + u64::from(vector) * ENTRY_BYTES;
        (vector < self.vectors).then_some(offset)
    }

    /// Returns the writes, in order, that make an entry send `data` to `address`: offset within
    /// the entry and value. It is masked while it changes.
    pub fn program(address: u64, data: u32) -> [(u64, u32); 5] {
        [
            (12, MASKED),
            (0, address as u32),
            (4, (address >> 32) as u32),
            (8, data),
            (12, 0),
        ]
    }

    fn change<C: ConfigSpace + ?Sized>(&self, function: &Function<'_, C>, set: u32) {
        let control = function.read(self.offset) & !(ENABLE | MASK_ALL);
        function.write(self.offset, control | set);
    }
}

#[cfg(test)]
mod tests {
    use super::Msix;
    use crate::{Bar, RawCapability};

    #[test]
    fn finds_the_table_and_keeps_to_it() {
        let capability = |bytes: &[u8]| {
            [RawCapability {
                id: 17,
                offset: 0x40,
                bytes: bytes.to_vec(),
            }]
        };
        let sound = [17, 0, 2, 0x80, 1, 0x20, 0, 0, 0, 0, 0, 0];
        let msix = Msix::find(&capability(&sound)).unwrap();
        assert_eq!((msix.vectors, msix.bar, msix.table), (3, 1, 0x2000));
        assert_eq!(msix.entry(2), Some(0x2020));
        assert_eq!(msix.entry(3), None);
        assert!(msix.fits(&Bar {
            address: 0,
            bytes: 0x4000
        }));
        assert!(!msix.fits(&Bar {
            address: 0,
            bytes: 0x2000
        }));
        assert_eq!(Msix::find(&capability(&sound[..6])), None);
        assert_eq!(Msix::find(&capability(&[17, 0, 2, 0, 7, 0, 0, 0])), None);
    }

    #[test]
    fn an_entry_is_masked_while_it_changes() {
        let writes = Msix::program(0x1_fee0_1000, 0x31);
        assert_eq!(writes.first(), Some(&(12, 1)));
        assert_eq!(writes.last(), Some(&(12, 0)));
        assert_eq!(writes[1..4], [(0, 0xfee0_1000), (4, 1), (8, 0x31)]);
    }
}
