//! The inverted page table against a map.

use std::collections::HashMap;

use memory_manager::residents::{Bucket, FrameList, ResidentEntry, Residents};
use proptest::prelude::*;

proptest! {
    #[test]
    fn finds_what_a_map_finds(
        steps in prop::collection::vec((0..4_u8, 1..4_u32, 0..60_u64), 1..300)
    ) {
        let mut entries = [ResidentEntry::default(); 40];
        let mut buckets = vec![Bucket::default(); Residents::buckets_for(40)];
        let mut residents = Residents::new(&mut entries, &mut buckets);
        let mut lists = [FrameList::default(); 4];
        let mut model: HashMap<(u32, u64), u32> = HashMap::new();
        let mut free: Vec<u32> = (0..40).collect();

        for (action, space, page) in steps {
            let list = &mut lists[space as usize];
            // Far apart, so that different groups of buckets are used too.
            let page = page * 7919 % 64 + (page & 1) * 0x1234_5670;
            match action {
                0 | 1 if !model.contains_key(&(space, page)) => {
                    let Some(frame) = free.pop() else { continue };
                    residents.insert(list, space, page, frame);
                    model.insert((space, page), frame);
                }
                2 => {
                    let removed = residents.remove(list, space, page);
                    prop_assert_eq!(removed, model.remove(&(space, page)));
                    free.extend(removed);
                }
                3 => {
                    let Some(frame) = residents.pop(list) else {
                        prop_assert!(model.keys().all(|(owner, _)| *owner != space));
                        continue;
                    };
                    let key = model.iter().find(|(_, other)| **other == frame).map(|(key, _)| *key);
                    prop_assert_eq!(key.map(|(owner, _)| owner), Some(space));
                    model.retain(|_, other| *other != frame);
                    free.push(frame);
                }
                _ => {}
            }
            for (&(space, page), &frame) in &model {
                prop_assert_eq!(residents.find(space, page), Some(frame));
                prop_assert_eq!(residents.page_of(frame), Some((space, page)));
            }
            for space in 1..4 {
                let count = model.keys().filter(|(owner, _)| *owner == space).count() as u64;
                prop_assert_eq!(lists[space as usize].count(), count);
            }
        }
    }
}
