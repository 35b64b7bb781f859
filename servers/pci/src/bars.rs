//! Base address registers: where the registers of a device lie.

use crate::config::FIRST_BAR;
use crate::{ConfigSpace, Function};

const IS_IO: u32 = 1;
const TYPE: u32 = 0b110;
const TYPE_64: u32 = 0b100;
const MEMORY_FLAGS: u32 = 0xf;

/// A range of registers in memory space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bar {
    /// Physical address.
    pub address: u64,
    /// Size, a power of two.
    pub bytes: u64,
}

/// Reads where the six registers of a function point and how long the ranges are. `None` for
/// those of I/O ports, those not there, and the upper halves of 64-bit ones; also for ranges that
/// the firmware did not place or that contradict themselves.
///
/// The length is found by writing ones, during which the registers do not answer: only do this
/// while no driver uses them.
pub fn bars<C: ConfigSpace + ?Sized>(function: &Function<'_, C>) -> [Option<Bar>; 6] {
    let mut bars = [None; 6];
    if function.header_type().0 != 0 {
        return bars;
    }
    function.without_memory(|| {
        let mut index = 0;
        while index < bars.len() {
            bars[index] = measure(function, index);
            index += if is_wide(function, index) { 2 } else { 1 };
        }
    });
    bars
}

/// Returns whether ranges that were measured before still lie where the registers say. Unlike
/// measuring, this disturbs nobody.
pub fn are_in_place<C: ConfigSpace + ?Sized>(
    function: &Function<'_, C>,
    bars: &[Option<Bar>; 6],
) -> bool {
    function.header_type().0 == 0
        && bars.iter().enumerate().all(|(index, bar)| {
            let is_there = |bar: &Bar| {
                let low = function.read(place(index));
                let high = if is_wide(function, index) {
                    function.read(place(index + 1))
                } else {
                    0
                };
                low & IS_IO == 0
                    && bar.address == u64::from(low & !MEMORY_FLAGS) | u64::from(high) << 32
            };
            bar.as_ref().is_none_or(is_there)
        })
}

fn place(index: usize) -> u8 {
    FIRST_BAR + 4 * index as u8
}

/// Returns whether the register and the next one are the halves of one of 64 bits.
fn is_wide<C: ConfigSpace + ?Sized>(function: &Function<'_, C>, index: usize) -> bool {
    index < 5 && function.read(place(index)) & (IS_IO | TYPE) == TYPE_64
}

fn measure<C: ConfigSpace + ?Sized>(function: &Function<'_, C>, index: usize) -> Option<Bar> {
    let is_wide = is_wide(function, index);
    let low = function.read(place(index));
    if low & IS_IO != 0 {
        return None;
    }
    let probe = |at: usize| {
        let before = function.read(place(at));
        function.write(place(at), u32::MAX);
        let mask = function.read(place(at));
        function.write(place(at), before);
        (before, mask)
    };
    let (low, low_mask) = probe(index);
    let (high, high_mask) = if is_wide {
        probe(index + 1)
    } else {
        (0, u32::MAX)
    };
    let address = u64::from(low & !MEMORY_FLAGS) | u64::from(high) << 32;
    let mask = u64::from(low_mask & !MEMORY_FLAGS) | u64::from(high_mask) << 32;
    if low_mask & !MEMORY_FLAGS == 0 && (!is_wide || high_mask == 0) {
        return None;
    }
    // The bits that cannot be set are the size less one; they must be the lowest ones.
    let bytes = (!mask).checked_add(1)?;
    let is_sound = bytes.is_power_of_two() && address != 0 && address.is_multiple_of(bytes);
    (is_sound && address.checked_add(bytes).is_some()).then_some(Bar { address, bytes })
}

#[cfg(test)]
mod tests {
    use libipc::proto::pci::Address;
    use proptest::prelude::*;

    use super::{Bar, are_in_place, bars};
    use crate::Function;
    use crate::fake::{FakeSpace, Noise};

    const ADDRESS: Address = Address {
        bus: 0,
        device: 1,
        function: 0,
    };

    #[test]
    fn measures_and_leaves_everything_as_it_was() {
        let mut space = FakeSpace::default();
        space.add(0, 1, 0, 0x1042_1af4);
        space.set(ADDRESS, 0x04, 0x0010_0007);
        space.set_bar(ADDRESS, 0, 0xc041, 0xffff_ffe1);
        space.set_bar(ADDRESS, 1, 0xfebd_5000, 0xffff_f000);
        space.set_bar(ADDRESS, 4, 0xfe00_000c, 0xffff_c00c);
        space.set_bar(ADDRESS, 5, 0x0000_00e0, 0xffff_ffff);
        let before = space.clone();
        let found = bars(&Function::new(&space, ADDRESS));
        assert_eq!(found[0], None);
        assert_eq!(
            found[1],
            Some(Bar {
                address: 0xfebd_5000,
                bytes: 0x1000
            })
        );
        assert_eq!(found[2], None);
        assert_eq!(
            found[4],
            Some(Bar {
                address: 0xe0_fe00_0000,
                bytes: 0x4000
            })
        );
        assert_eq!(found[5], None);
        assert!(are_in_place(&Function::new(&space, ADDRESS), &found));
        let mut moved = space.clone();
        moved.set_bar(ADDRESS, 5, 0x0000_00e1, 0xffff_ffff);
        assert!(!are_in_place(&Function::new(&moved, ADDRESS), &found));
        for offset in (0x10..0x28).step_by(4) {
            let read = |space| Function::new(space, ADDRESS).read(offset);
            assert_eq!(read(&space), read(&before));
        }
    }

    #[test]
    fn misplaced_ranges_are_left_out() {
        let mut space = FakeSpace::default();
        space.add(0, 1, 0, 0x1042_1af4);
        space.set_bar(ADDRESS, 0, 0, 0xffff_f000);
        space.set_bar(ADDRESS, 1, 0xfebd_5800, 0xffff_f000);
        space.set_bar(ADDRESS, 2, 0xfebd_4000, 0xff0f_f000);
        assert_eq!(bars(&Function::new(&space, ADDRESS)), [None; 6]);
    }

    proptest! {
        #[test]
        fn any_registers_give_sound_ranges(seed in any::<u64>()) {
            for bar in bars(&Function::new(&Noise(seed), ADDRESS)).into_iter().flatten() {
                prop_assert!(bar.bytes.is_power_of_two() && bar.address.is_multiple_of(bar.bytes));
                prop_assert!(bar.address.checked_add(bar.bytes).is_some());
            }
        }
    }
}
