//! Where a process is harmed: which bit of it is turned over, which words of its stack lead it
//! astray.

use alloc::vec::Vec;

use chaos::Random;
use libsys::abi::layout::{
    HEAP, HEAP_END, IMAGE_BASE, IMAGE_END, STACK_BYTES, STACK_TOP, STATE_REGION, STATE_REGION_END,
};
use libsys::abi::{MapFlags, PAGE_SIZE, PageRun};

/// What a part of a process is for. Only what is its own is harmed: its text is that of all later
/// instances too, and what it shares with others is theirs as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// Variables of the program.
    Data,
    /// The stack of the main thread.
    Stack,
    /// The heap.
    Heap,
    /// The state region, which outlives it.
    State,
}

impl Area {
    const ALL: [Area; 4] = [Area::Data, Area::Stack, Area::Heap, Area::State];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Area::Data => "data",
            Area::Stack => "stack",
            Area::Heap => "heap",
            Area::State => "state",
        }
    }

    fn of(run: &PageRun) -> Option<Self> {
        if !run.flags.contains(MapFlags::WRITE) {
            return None;
        }
        let stack = STACK_TOP - STACK_BYTES;
        Some(match run.address {
            at if (IMAGE_BASE..IMAGE_END).contains(&at) => Area::Data,
            at if (stack..STACK_TOP).contains(&at) => Area::Stack,
            at if (HEAP..HEAP_END).contains(&at) => Area::Heap,
            at if (STATE_REGION..STATE_REGION_END).contains(&at) => Area::State,
            _ => return None,
        })
    }
}

/// A bit to turn over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// In which part it is.
    pub area: Area,
    /// Address of its byte.
    pub address: u64,
    /// Which one, as a mask.
    pub mask: u8,
}

/// Chooses a bit: each part of the process that is there is as likely, and within a part each
/// bit. `None` if nothing is there.
pub fn choose(random: &mut Random, runs: &[PageRun]) -> Option<Target> {
    let parts: Vec<(Area, Vec<&PageRun>)> = Area::ALL
        .into_iter()
        .map(|area| {
            let own = runs.iter().filter(|run| Area::of(run) == Some(area));
            (area, own.collect())
        })
        .filter(|(_, own): &(Area, Vec<&PageRun>)| !own.is_empty())
        .collect();
    let (area, own) = parts.get(random.below(parts.len() as u64) as usize)?;
    let page = PAGE_SIZE as u64;
    let bytes = own.iter().map(|run| run.pages * page).sum();
    let mut place = random.below(bytes);
    let mask = 1 << random.below(8);
    for run in own {
        let bytes = run.pages * page;
        if place < bytes {
            return Some(Target {
                area: *area,
                address: run.address + place,
                mask,
            });
        }
        place -= bytes;
    }
    None
}

/// Returns where the text of a program is: the pages of it that can be executed.
pub fn text(runs: &[PageRun]) -> impl Iterator<Item = &PageRun> {
    let is_text = |run: &&PageRun| {
        run.flags.contains(MapFlags::EXECUTE) && (IMAGE_BASE..IMAGE_END).contains(&run.address)
    };
    runs.iter().filter(is_text)
}

/// Returns where the stack is.
pub fn stack(runs: &[PageRun]) -> impl Iterator<Item = &PageRun> {
    runs.iter().filter(|run| Area::of(run) == Some(Area::Stack))
}

/// A jump to itself (Intel SDM vol. 2A, JMP rel8).
pub const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];

/// Returns the offset of bytes in a text that, when executed, turn for ever.
pub fn turns_for_ever(text: &[u8]) -> Option<usize> {
    text.windows(2).position(|bytes| bytes == JUMP_TO_ITSELF)
}

/// Bytes with which the linker fills up between functions: breakpoints.
const PADDING: u8 = 0xcc;
/// As many in a row are no operand of an instruction.
const PADDING_BYTES: usize = 8;

/// Returns the offset of bytes in a text that nobody ever executes, with some more of the same on
/// both sides: room for a jump.
pub fn padding(text: &[u8]) -> Option<usize> {
    let is_padding = |bytes: &[u8]| bytes.iter().all(|byte| *byte == PADDING);
    let start = text.windows(PADDING_BYTES).position(is_padding)?;
    Some(start + PADDING_BYTES / 2)
}

/// Replaces all words of a stack that lead into the text, return addresses above all. Returns how
/// many there were.
pub fn lead_astray(stack: &mut [u8], text: core::ops::Range<u64>, to: u64) -> usize {
    let mut count = 0;
    for bytes in stack.as_chunks_mut::<8>().0 {
        if text.contains(&u64::from_le_bytes(*bytes)) {
            *bytes = to.to_le_bytes();
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use chaos::Random;
    use libsys::abi::layout::{HEAP, IMAGE_BASE, MAPPINGS, STATE_REGION};
    use libsys::abi::{MapFlags, PageRun};
    use proptest::prelude::*;

    use super::{Area, choose, lead_astray, padding, stack, text, turns_for_ever};

    fn run(address: u64, pages: u64, flags: MapFlags) -> PageRun {
        PageRun {
            address,
            pages,
            flags,
            ..PageRun::default()
        }
    }

    #[test]
    fn what_is_not_its_own_is_left_alone() {
        let writable = MapFlags::READ | MapFlags::WRITE;
        let runs = [
            run(IMAGE_BASE, 1, MapFlags::READ | MapFlags::EXECUTE),
            run(IMAGE_BASE + 0x1000, 1, MapFlags::READ),
            run(MAPPINGS, 9, writable),
        ];
        assert_eq!(choose(&mut Random::new(1), &runs), None);
        assert_eq!(text(&runs).count(), 1);
        assert_eq!(stack(&runs).count(), 0);
    }

    #[test]
    fn return_addresses_lead_to_the_trap() {
        let mut stack = Vec::new();
        for word in [1_u64, 0x40_0010, 0x50_0000] {
            stack.extend_from_slice(&word.to_le_bytes());
        }
        assert_eq!(lead_astray(&mut stack, 0x40_0000..0x41_0000, 0x40_0099), 1);
        assert_eq!(stack[8..16], 0x40_0099_u64.to_le_bytes());
        assert_eq!(stack[16..], 0x50_0000_u64.to_le_bytes());
        assert_eq!(turns_for_ever(&[0x90, 0xeb, 0xfe]), Some(1));
        assert_eq!(turns_for_ever(&[0xeb, 0x90, 0xfe]), None);
        let mut text = [0xcc; 12];
        assert_eq!(padding(&text), Some(4));
        (text[5], text[0]) = (0x90, 0x90);
        assert_eq!(padding(&text), None);
    }

    proptest! {
        #[test]
        fn the_bit_is_in_the_part_that_is_named(seed in any::<u64>(), pages in 1..40_u64) {
            let writable = MapFlags::READ | MapFlags::WRITE;
            let runs = [run(HEAP, pages, writable), run(STATE_REGION, 1, writable)];
            let target = choose(&mut Random::new(seed), &runs).unwrap();
            let (start, pages) = match target.area {
                Area::Heap => (HEAP, pages),
                _ => (STATE_REGION, 1),
            };
            prop_assert!((start..start + pages * 4096).contains(&target.address));
            prop_assert_eq!(target.mask.count_ones(), 1);
        }
    }
}
