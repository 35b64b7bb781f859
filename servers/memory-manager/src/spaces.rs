//! The spaces: one for each registered process.

use alloc::rc::Rc;
use alloc::vec::Vec;

use libipc::proto::memory::{MemoryError, SPACE_BADGE};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::regions::Regions;
use crate::residents::{FrameList, SPACE_NUMBERS};

/// Most spaces at a time.
pub const MAX_SPACES: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;
/// Tells page faults of a space from requests through its sender: the news that the last copy of
/// the sender is gone must not wait for the kernel's own.
const PAGER_BADGE: u64 = 1 << 62;

/// A time in which no number of a space is given out twice. A new one begins when nobody can tell
/// any more which were given out: senders of an earlier era name no space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Era(u32);

impl Era {
    /// Bits of it that a badge has room for.
    const BITS: u32 = 30;

    /// Returns the era that begins in this unit of time; only the low bits count.
    pub const fn beginning_at(unit: u64) -> Era {
        Era((unit & ((1 << Era::BITS) - 1)) as u32)
    }
}

/// Returns the badge of the sender that names a space.
pub const fn client_badge(era: Era, space: u32) -> u64 {
    SPACE_BADGE | (era.0 as u64) << u32::BITS | space as u64
}

/// Returns the badge of the sender that the kernel uses for faults of a space.
pub const fn pager_badge(era: Era, space: u32) -> u64 {
    PAGER_BADGE | client_badge(era, space)
}

/// Returns the number of the space that a badge of this era names, or `None` for a badge of
/// another one, or that somebody else gave out.
pub const fn space_of_badge(era: Era, badge: u64) -> Option<u32> {
    let space = badge as u32;
    if badge & !PAGER_BADGE == client_badge(era, space) {
        Some(space)
    } else {
        None
    }
}

/// Returns the number of the space for whose faults the kernel uses a badge of this era.
pub const fn space_of_pager(era: Era, badge: u64) -> Option<u32> {
    let space = badge as u32;
    if badge == pager_badge(era, space) {
        Some(space)
    } else {
        None
    }
}

/// What is known of one process.
pub struct Space<M: Machine> {
    /// The process.
    pub process: M::Process,
    /// Its number.
    pub process_number: u64,
    /// What it may touch.
    pub regions: Regions<Rc<M::Memory>>,
    /// Its frames.
    pub frames: FrameList,
    /// Faults resolved.
    pub faults: u64,
    /// Pages brought without a fault of their own.
    pub prefetched: u64,
    /// Whether the process is gone: its frames can be taken.
    pub is_gone: bool,
}

struct Slot<M: Machine> {
    /// How many numbers of the slot were taken; with its index it makes the number of its space.
    generation: u32,
    space: Option<Space<M>>,
}

/// All spaces, by number. Numbers are never used again.
pub struct Spaces<M: Machine> {
    slots: Vec<Slot<M>>,
    count: usize,
}

impl<M: Machine> Default for Spaces<M> {
    fn default() -> Self {
        Spaces {
            slots: Vec::new(),
            count: 0,
        }
    }
}

impl<M: Machine> Spaces<M> {
    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes numbers as taken: for each slot the last generation.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    pub fn set_taken(&mut self, generations: &[u32]) -> Result<(), MemoryError> {
        self.slots.clear();
        self.slots
            .try_reserve(generations.len())
            .map_err(|_| MemoryError::NoMemory)?;
        let slots = generations.iter().map(|&generation| Slot {
            generation,
            space: None,
        });
        self.slots.extend(slots);
        Ok(())
    }

    /// Takes a number for the next space.
    ///
    /// # Errors
    ///
    /// `LimitReached`, `NoMemory`.
    pub fn take_number(&mut self) -> Result<u32, MemoryError> {
        // A slot whose numbers are used up is never used again.
        let is_usable = |slot: &Slot<M>| {
            slot.space.is_none() && slot.generation + 1 < SPACE_NUMBERS >> SLOT_BITS
        };
        let index = match self.slots.iter().position(is_usable) {
            Some(index) => index,
            None if self.slots.len() >= MAX_SPACES => return Err(MemoryError::LimitReached),
            None => {
                self.slots
                    .try_reserve(1)
                    .map_err(|_| MemoryError::NoMemory)?;
                self.slots.push(Slot {
                    generation: 0,
                    space: None,
                });
                self.slots.len() - 1
            }
        };
        let slot = &mut self.slots[index];
        slot.generation += 1;
        Ok(number(slot.generation, index))
    }

    /// Puts a space in under a number that was taken.
    pub fn insert(&mut self, number: u32, space: Space<M>) {
        if let Some(slot) = self.slot_mut(number) {
            slot.space = Some(space);
            self.count += 1;
        }
    }

    /// Returns the number of the space of a process.
    pub fn of_process(&mut self, process_number: u64) -> Option<u32> {
        self.all_mut()
            .find(|(_, space)| space.process_number == process_number)
            .map(|(number, _)| number)
    }

    /// Returns the space with this number, unless its process is gone.
    pub fn live_mut(&mut self, number: u32) -> Option<&mut Space<M>> {
        self.slot_mut(number)?
            .space
            .as_mut()
            .filter(|space| !space.is_gone)
    }

    /// Takes a space out.
    pub fn remove(&mut self, number: u32) -> Option<Space<M>> {
        let space = self.slot_mut(number)?.space.take()?;
        self.count -= 1;
        Some(space)
    }

    /// Returns all spaces.
    pub fn all(&self) -> impl Iterator<Item = &Space<M>> {
        self.slots.iter().filter_map(|slot| slot.space.as_ref())
    }

    /// Returns all spaces with their numbers.
    pub fn all_numbered(&self) -> impl Iterator<Item = (u32, &Space<M>)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let number = number(slot.generation, index);
            slot.space.as_ref().map(|space| (number, space))
        })
    }

    /// As [`Spaces::all_numbered`], to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = (u32, &mut Space<M>)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| {
                let number = number(slot.generation, index);
                slot.space.as_mut().map(|space| (number, space))
            })
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot<M>> {
        let slot = self.slots.get_mut(slot_of(number))?;
        (slot.generation == generation_of(number)).then_some(slot)
    }
}

/// Returns the slot of a number.
pub(crate) const fn slot_of(number: u32) -> usize {
    number as usize & (MAX_SPACES - 1)
}

/// Returns how many numbers of its slot had been taken with this one.
pub(crate) const fn generation_of(number: u32) -> u32 {
    number >> SLOT_BITS
}

fn number(generation: u32, slot: usize) -> u32 {
    generation << SLOT_BITS | slot as u32
}

#[cfg(test)]
mod tests {
    use super::{Era, client_badge, pager_badge, space_of_badge, space_of_pager};

    #[test]
    fn only_own_badges_of_the_era_name_spaces() {
        // With the highest numbers: nothing runs over into what is beside it.
        for era in [0, 1, 0x2aaa_aaaa, (1 << 30) - 1].map(Era::beginning_at) {
            for space in [0, 0x401, u32::MAX] {
                assert_eq!(space_of_badge(era, client_badge(era, space)), Some(space));
                assert_eq!(space_of_badge(era, pager_badge(era, space)), Some(space));
                assert_eq!(space_of_pager(era, pager_badge(era, space)), Some(space));
                assert_eq!(space_of_pager(era, client_badge(era, space)), None);
                let other = Era::beginning_at(u64::from(era.0) + 1);
                assert_eq!(space_of_badge(other, client_badge(era, space)), None);
                assert_eq!(space_of_badge(other, pager_badge(era, space)), None);
            }
        }
        let first = Era::beginning_at(0);
        assert_eq!(space_of_badge(first, 0x401), None);
        assert_eq!(space_of_badge(first, 1 << 62 | 5), None);
        assert_eq!(space_of_pager(first, 1 << 62), None);
        assert_eq!(Era::beginning_at(1 << 30), first);
    }
}
