//! Where a process is harmed: which bit of it is turned over, where it never comes back
//! from the kernel.

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

    /// Returns the part with a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|area| area.name() == name)
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

/// Chooses a bit: each part of the process that is there is as likely, unless one is wanted and
/// there, and within a part each bit. `None` if nothing is there.
pub fn choose(random: &mut Random, runs: &[PageRun], wanted: Option<Area>) -> Option<Target> {
    let parts: Vec<(Area, Vec<&PageRun>)> = Area::ALL
        .into_iter()
        .map(|area| {
            let own = runs.iter().filter(|run| Area::of(run) == Some(area));
            (area, own.collect())
        })
        .filter(|(_, own): &(Area, Vec<&PageRun>)| !own.is_empty())
        .collect();
    let by_chance = random.below(parts.len() as u64) as usize;
    let wanted = parts.iter().find(|(area, _)| Some(*area) == wanted);
    let (area, own) = wanted.or_else(|| parts.get(by_chance))?;
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

/// A jump to itself (Intel SDM vol. 2A, JMP rel8).
pub const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];
/// The instruction by which a program enters the kernel (Intel SDM vol. 2B, SYSCALL).
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Bytes of a far jump.
pub const JUMP_BYTES: usize = 5;

/// Returns the offsets in a text at which a program goes on after a system call, as far as there
/// is room for a jump.
pub fn returns(text: &[u8]) -> Vec<usize> {
    let last = text.len().saturating_sub(JUMP_BYTES);
    let pairs = text.windows(SYSCALL.len()).enumerate();
    pairs
        .filter(|(_, bytes)| *bytes == SYSCALL)
        .map(|(offset, _)| offset + SYSCALL.len())
        .filter(|offset| *offset <= last)
        .collect()
}

/// Returns a jump from one address to another (Intel SDM vol. 2A, JMP rel32), which lie within the
/// same image.
pub fn jump(from: u64, to: u64) -> [u8; JUMP_BYTES] {
    let distance = to.wrapping_sub(from.wrapping_add(JUMP_BYTES as u64)) as u32;
    let [a, b, c, d] = distance.to_le_bytes();
    [0xe9, a, b, c, d]
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

#[cfg(test)]
mod tests {
    use chaos::Random;
    use libsys::abi::layout::{HEAP, IMAGE_BASE, MAPPINGS, STATE_REGION};
    use libsys::abi::{MapFlags, PageRun};
    use proptest::prelude::*;

    use super::{Area, choose, jump, padding, returns, text};

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
        assert_eq!(choose(&mut Random::new(1), &runs, None), None);
        assert_eq!(text(&runs).count(), 1);
    }

    #[test]
    fn ways_out_of_the_kernel_are_found_and_barred() {
        let text = [0x90, 0x0f, 0x05, 0xc3, 1, 2, 3, 4, 0x0f, 0x05, 0xc3];
        assert_eq!(returns(&text), [3]);
        assert_eq!(jump(0x1000, 0x1005), [0xe9, 0, 0, 0, 0]);
        assert_eq!(jump(0x1005, 0x1000), [0xe9, 0xf6, 0xff, 0xff, 0xff]);
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
            let state = choose(&mut Random::new(seed), &runs, Some(Area::State)).unwrap();
            prop_assert_eq!(state.area, Area::State);
            let absent = choose(&mut Random::new(seed), &runs, Some(Area::Stack)).unwrap();
            prop_assert!(absent.area != Area::Stack);
            let target = choose(&mut Random::new(seed), &runs, None).unwrap();
            let (start, pages) = match target.area {
                Area::Heap => (HEAP, pages),
                _ => (STATE_REGION, 1),
            };
            prop_assert!((start..start + pages * 4096).contains(&target.address));
            prop_assert_eq!(target.mask.count_ones(), 1);
        }
    }
}
