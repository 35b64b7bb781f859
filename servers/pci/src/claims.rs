//! Who has which device. The table outlives the server, so that a restart takes nobody's device.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::proto::pci::{Address, Claim, PciError};
use libsys::state::{NoPrevious, State};
use serde::{Deserialize, Serialize};

use crate::Bar;

/// Most devices claimed at once.
pub const MAX_CLAIMS: usize = 64;

/// A claimed device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claimed {
    /// Who has it.
    pub badge: u64,
    /// Address and bytes of its registers, measured when it was claimed.
    bars: [Option<(u64, u64)>; 6],
}

impl Claimed {
    /// Returns the range behind a base address register.
    pub fn bar(&self, index: u8) -> Option<Bar> {
        *self.bars().get(usize::from(index))?
    }

    /// Returns the ranges behind all base address registers.
    pub fn bars(&self) -> [Option<Bar>; 6] {
        self.bars
            .map(|bar| bar.map(|(address, bytes)| Bar { address, bytes }))
    }
}

/// One change of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// The device at an address was claimed.
    Claimed(Address, Claimed),
    /// It was given back.
    Released(Address),
}

impl Record {
    /// Records a claim of a device whose registers were just measured.
    pub fn claimed(address: Address, badge: u64, bars: [Option<Bar>; 6]) -> Self {
        let bars = bars.map(|bar| bar.map(|bar| (bar.address, bar.bytes)));
        Record::Claimed(address, Claimed { badge, bars })
    }
}

/// Which device has been claimed by whom.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    by_address: BTreeMap<u16, Claimed>,
}

impl State for Claims {
    type Record = Record;
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "pci.claims.1";

    fn apply(&mut self, record: Record) {
        match record {
            Record::Claimed(address, claimed) => {
                self.by_address.insert(number(address), claimed);
            }
            Record::Released(address) => {
                self.by_address.remove(&number(address));
            }
        }
    }
}

impl Claims {
    /// Returns whether `badge` may claim the device at an address.
    ///
    /// # Errors
    ///
    /// `Claimed` when another has it, `TooMany` when the table is full.
    pub fn check_free(&self, address: Address, badge: u64) -> Result<(), PciError> {
        match self.by_address.get(&number(address)) {
            Some(claimed) if claimed.badge == badge => Ok(()),
            Some(_) => Err(PciError::Claimed),
            None if self.by_address.len() >= MAX_CLAIMS => Err(PciError::TooMany),
            None => Ok(()),
        }
    }

    /// Returns the claimed device, if the claim is the badge's own.
    ///
    /// # Errors
    ///
    /// `NoClaim`.
    pub fn of(&self, claim: Claim, badge: u64) -> Result<(Address, Claimed), PciError> {
        let number = u16::try_from(claim.0).map_err(|_| PciError::NoClaim)?;
        let claimed = self.by_address.get(&number).ok_or(PciError::NoClaim)?;
        if claimed.badge != badge {
            return Err(PciError::NoClaim);
        }
        Ok((address(number), *claimed))
    }

    /// Returns who has the device at an address.
    pub fn at(&self, address: Address) -> Option<Claimed> {
        self.by_address.get(&number(address)).copied()
    }

    /// Lists the devices that a badge has.
    pub fn all_of(&self, badge: u64) -> Vec<Address> {
        let own = self
            .by_address
            .iter()
            .filter(|(_, claimed)| claimed.badge == badge);
        own.map(|(number, _)| address(*number)).collect()
    }

    /// Returns the name of a claim: the same for the same device, also after a restart.
    pub fn name(address: Address) -> Claim {
        Claim(number(address).into())
    }
}

fn number(address: Address) -> u16 {
    let Address {
        bus,
        device,
        function,
    } = address;
    u16::from(bus) << 8 | u16::from(device & 31) << 3 | u16::from(function & 7)
}

fn address(number: u16) -> Address {
    let [bus, rest] = number.to_be_bytes();
    Address {
        bus,
        device: rest >> 3,
        function: rest & 7,
    }
}

#[cfg(test)]
mod tests {
    use libipc::proto::pci::{Address, Claim, PciError};
    use libsys::state::State;

    use super::{Claims, MAX_CLAIMS, Record};
    use crate::Bar;

    const ADDRESS: Address = Address {
        bus: 3,
        device: 31,
        function: 7,
    };

    #[test]
    fn a_device_has_one_owner() {
        let mut claims = Claims::default();
        let bar = Bar {
            address: 0xfe00_0000,
            bytes: 0x4000,
        };
        let bars = [None, None, None, None, Some(bar), None];
        claims.apply(Record::claimed(ADDRESS, 1, bars));
        assert_eq!(claims.check_free(ADDRESS, 1), Ok(()));
        assert_eq!(claims.check_free(ADDRESS, 2), Err(PciError::Claimed));
        let claim = Claims::name(ADDRESS);
        let (address, claimed) = claims.of(claim, 1).unwrap();
        assert_eq!(
            (address, claimed.bar(4), claimed.bar(3)),
            (ADDRESS, Some(bar), None)
        );
        assert_eq!(claimed.bar(200), None);
        assert_eq!(claims.of(claim, 2), Err(PciError::NoClaim));
        assert_eq!(claims.of(Claim(u32::MAX), 1), Err(PciError::NoClaim));
        assert_eq!(claims.all_of(1), [ADDRESS]);
        claims.apply(Record::Released(ADDRESS));
        assert_eq!(claims.of(claim, 1), Err(PciError::NoClaim));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut claims = Claims::default();
        for i in 0..MAX_CLAIMS as u8 {
            let address = Address { bus: i, ..ADDRESS };
            assert_eq!(claims.check_free(address, 1), Ok(()));
            claims.apply(Record::claimed(address, 1, [None; 6]));
        }
        let one_more = Address {
            bus: 200,
            ..ADDRESS
        };
        assert_eq!(claims.check_free(one_more, 1), Err(PciError::TooMany));
        assert_eq!(claims.check_free(Address { bus: 0, ..ADDRESS }, 1), Ok(()));
    }

    #[test]
    fn schema_changes_only_with_a_migration() {
        libsys::golden_schema!("tests/golden/state.txt", super::Claims);
    }
}
