//! The buddy allocator against a naive model: a flag for each frame.

use memory_manager::buddy::{Buddy, BuddyEntry};
use proptest::prelude::*;

const FRAMES: u32 = 300;
const FIRST: u32 = 5;

fn pristine_largest() -> u64 {
    let mut entries = vec![BuddyEntry::default(); FRAMES as usize];
    let mut buddy = Buddy::new(&mut entries);
    buddy.release(FIRST, FRAMES - FIRST);
    buddy.largest_run()
}

proptest! {
    #[test]
    fn never_overlaps_and_coalesces_back_to_the_start_state(
        steps in prop::collection::vec((any::<bool>(), 1..40_u32, any::<usize>()), 1..200)
    ) {
        let mut entries = vec![BuddyEntry::default(); FRAMES as usize];
        let mut buddy = Buddy::new(&mut entries);
        buddy.release(FIRST, FRAMES - FIRST);
        let mut used = vec![true; FRAMES as usize];
        used[FIRST as usize..].fill(false);
        let mut runs: Vec<(u32, u32)> = Vec::new();

        for (is_allocation, frames, pick) in steps {
            if is_allocation {
                let aligned_free = |first: u32| {
                    let size = frames.next_power_of_two();
                    first + size <= FRAMES
                        && used[first as usize..(first + size) as usize].iter().all(|used| !used)
                };
                let size = frames.next_power_of_two() as usize;
                let is_possible = (0..FRAMES).step_by(size).any(aligned_free);
                let Some(first) = buddy.allocate(frames) else {
                    prop_assert!(!is_possible, "refused {frames} although they are free");
                    continue;
                };
                for frame in first..first + frames {
                    prop_assert!(!used[frame as usize], "frame {frame} given out twice");
                    used[frame as usize] = true;
                }
                runs.push((first, frames));
            } else if !runs.is_empty() {
                let (first, frames) = runs.swap_remove(pick % runs.len());
                buddy.release(first, frames);
                used[first as usize..(first + frames) as usize].fill(false);
            }
            let free = used.iter().filter(|used| !**used).count() as u64;
            prop_assert_eq!(buddy.free_frames(), free);
            for frame in 0..FRAMES {
                prop_assert_eq!(buddy.is_free(frame), !used[frame as usize]);
            }
        }
        for (first, frames) in runs {
            buddy.release(first, frames);
        }
        prop_assert_eq!(buddy.largest_run(), pristine_largest());
        prop_assert_eq!(buddy.free_frames(), u64::from(FRAMES - FIRST));
    }
}
