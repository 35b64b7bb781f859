//! Which functions there are.

use alloc::vec::Vec;

use libipc::proto::pci::{Address, DeviceInfo};

use crate::config::{BUS_NUMBERS, CLASS, SUBSYSTEM};
use crate::{ConfigSpace, Function, Msix, capabilities};

/// Most functions that are kept; a machine has a few dozen.
pub const MAX_FUNCTIONS: usize = 1024;

const BRIDGE: u8 = 1;

/// Finds all functions on `first_bus` and, through bridges, on the buses behind it, up to
/// `last_bus`; ordered by address. The lengths of base address registers are not known yet.
pub fn scan(space: &dyn ConfigSpace, first_bus: u8, last_bus: u8) -> Vec<DeviceInfo> {
    let mut found = Vec::new();
    // Each bus is walked once, whatever the bridges claim.
    let mut is_seen = [false; 256];
    let mut waiting = Vec::from([first_bus]);
    while let Some(bus) = waiting.pop() {
        if core::mem::replace(&mut is_seen[usize::from(bus)], true) {
            continue;
        }
        for device in 0..32 {
            scan_device(space, bus, device, &mut |info, behind| {
                found.push(info);
                waiting.extend(behind.filter(|bus| (first_bus..=last_bus).contains(bus)));
            });
        }
        if found.len() >= MAX_FUNCTIONS {
            break;
        }
    }
    found.truncate(MAX_FUNCTIONS);
    found.sort_by_key(|info| info.address);
    found
}

/// Tells `each` about every function of a device, with the bus behind it if it is a bridge.
fn scan_device(
    space: &dyn ConfigSpace,
    bus: u8,
    device: u8,
    each: &mut dyn FnMut(DeviceInfo, Option<u8>),
) {
    for number in 0..8 {
        let address = Address {
            bus,
            device,
            function: number,
        };
        let function = Function::new(space, address);
        let Some(ids) = function.ids() else {
            if number == 0 {
                return;
            }
            continue;
        };
        let (header, has_more) = function.header_type();
        let behind = (header == BRIDGE).then(|| (function.read(BUS_NUMBERS) >> 8) as u8);
        each(describe(&function, address, ids), behind);
        if number == 0 && !has_more {
            return;
        }
    }
}

fn describe(
    function: &Function<'_, dyn ConfigSpace + '_>,
    address: Address,
    (vendor, device): (u16, u16),
) -> DeviceInfo {
    let class = function.read(CLASS);
    // Bridges have other registers there.
    let subsystem = if function.header_type().0 == 0 {
        function.read(SUBSYSTEM)
    } else {
        0
    };
    let msix = Msix::find(&capabilities(function));
    DeviceInfo {
        address,
        vendor,
        device,
        class: class >> 8,
        revision: class as u8,
        subsystem_vendor: subsystem as u16,
        subsystem: (subsystem >> 16) as u16,
        bar_bytes: [0; 6],
        msix_vectors: msix.map_or(0, |msix| msix.vectors),
        is_claimed: false,
    }
}

#[cfg(test)]
mod tests {
    use libipc::proto::pci::Address;
    use proptest::prelude::*;

    use super::{MAX_FUNCTIONS, scan};
    use crate::fake::{FakeSpace, Noise};

    #[test]
    fn finds_functions_behind_bridges_and_survives_loops() {
        let mut space = FakeSpace::default();
        space.add(0, 0, 0, 0x8086_29c0);
        space.add(0, 2, 0, 0x1234_1af4);
        space.add(0, 2, 3, 0x5678_1af4);
        // Function 3 is only looked at when function 0 says that there are more.
        let all = scan(&space, 0, 255);
        assert_eq!(all.len(), 2);
        space.set_header(0, 2, 0, 0x80);
        space.add(0, 3, 0, 0x000d_1b36);
        space.set_header(0, 3, 0, 1);
        space.set_buses(0, 3, 0, 1);
        space.add(1, 0, 0, 0x1042_1af4);
        space.add(1, 1, 0, 0x000d_1b36);
        space.set_header(1, 1, 0, 1);
        space.set_buses(1, 1, 0, 0);
        let all = scan(&space, 0, 255);
        assert_eq!(all.len(), 6);
        let last = all.last().unwrap();
        assert_eq!(
            last.address,
            Address {
                bus: 1,
                device: 1,
                function: 0
            }
        );
        assert_eq!(all[4].device, 0x1042);
        assert_eq!(scan(&space, 0, 0).len(), 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_configuration_bytes_are_survived(seed in any::<u64>(), last in any::<u8>()) {
            let all = scan(&Noise(seed), 0, last);
            prop_assert!(all.len() <= MAX_FUNCTIONS);
            prop_assert!(all.is_sorted_by_key(|info| info.address));
        }
    }
}
