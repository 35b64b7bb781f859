//! A fake kernel for tests of the manager. It panics where the real one would be misused.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};
use skink_abi::FaultMessage;

use super::{Content, Manager, Mapping, Tables};
use crate::machine::{Copy, Life, Machine};
use crate::residents::Residents;
use crate::zones::Zones;
use crate::{Frame, PAGE_BYTES};

/// What the fake kernel knows, shared with the test.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) lives: Vec<Life>,
    /// (process, page) -> frame (none for an object's own) and protection.
    pub(super) mapped: BTreeMap<(usize, u64), (Option<Frame>, Protection)>,
    pub(super) copies: Vec<Copy>,
    pub(super) images_readable: bool,
}

#[derive(Clone, Debug)]
pub(super) struct FakeMemory(pub(super) Rc<(Frame, u64)>);

#[derive(Clone, Debug, Default)]
pub(super) struct FakeMachine(pub(super) Rc<RefCell<World>>);

impl Machine for FakeMachine {
    type Process = usize;
    type Memory = FakeMemory;
    type Sender = u32;

    fn process_number(&self, process: &usize) -> Result<u64, MemoryError> {
        Ok(*process as u64)
    }

    fn adopt(&mut self, process: &usize, space: u32) -> Result<u32, MemoryError> {
        match self.0.borrow().lives[*process] {
            Life::Gone => Err(MemoryError::ProcessDead),
            _ => Ok(space),
        }
    }

    fn life(&self, process: &usize) -> Life {
        self.0.borrow().lives[*process]
    }

    fn kill(&mut self, process: &usize) {
        self.0.borrow_mut().end(*process);
    }

    fn unmap(&mut self, process: &usize, ranges: &[Range<u64>]) -> Result<(), MemoryError> {
        for page in ranges.iter().cloned().flatten() {
            self.0
                .borrow_mut()
                .mapped
                .remove(&(*process, page))
                .expect("unmapped what was not");
        }
        Ok(())
    }

    fn protect(
        &mut self,
        process: &usize,
        ranges: &[Range<u64>],
        protection: Protection,
    ) -> Result<(), MemoryError> {
        for page in ranges.iter().cloned().flatten() {
            let mut world = self.0.borrow_mut();
            world
                .mapped
                .get_mut(&(*process, page))
                .expect("protected what was not there")
                .1 = protection;
        }
        Ok(())
    }

    fn map_shared(
        &mut self,
        process: &usize,
        segment: &ImageSegment,
        _memory: &FakeMemory,
    ) -> Result<(), MemoryError> {
        let first = segment.address / PAGE_BYTES;
        for page in first..first + segment.pages {
            let entry = (None, segment.protection);
            assert_eq!(
                self.0.borrow_mut().mapped.insert((*process, page), entry),
                None
            );
        }
        Ok(())
    }

    fn readable_pages(&self, memory: &FakeMemory) -> Result<u64, MemoryError> {
        Ok(memory.0.1)
    }

    fn copy(&mut self, _memory: &FakeMemory, copy: Copy) -> Result<(), MemoryError> {
        let mut world = self.0.borrow_mut();
        if !world.images_readable {
            return Err(MemoryError::BadHandle);
        }
        world.copies.push(copy);
        Ok(())
    }

    fn make_object(
        &mut self,
        first: Frame,
        pages: u32,
    ) -> Result<(FakeMemory, FakeMemory), MemoryError> {
        let memory = FakeMemory(Rc::new((first, u64::from(pages))));
        Ok((memory.clone(), memory))
    }

    fn is_used(&self, memory: &FakeMemory) -> bool {
        Rc::strong_count(&memory.0) > 1
    }
}

impl World {
    pub(super) fn end(&mut self, process: usize) {
        self.lives[process] = Life::Gone;
        self.mapped.retain(|(owner, _), _| *owner != process);
    }

    /// Does what the kernel does with the reply to a fault.
    pub(super) fn install(&mut self, process: usize, mapping: &Mapping) {
        for (page, frame) in (mapping.page..mapping.page + mapping.pages).zip(mapping.frame..) {
            let entry = (Some(frame), mapping.protection);
            let old = self.mapped.insert((process, page), entry);
            assert!(old.is_none() || mapping.content == Content::Present);
        }
    }
}

/// A manager of `frames` frames behind ten that hold its tables.
pub(super) fn manager(frames: u64) -> (Manager<'static, FakeMachine>, FakeMachine) {
    let machine = FakeMachine::default();
    machine.0.borrow_mut().images_readable = true;
    let zones = Zones::new([(3, 10 + frames / 2), (0x1000, frames - frames / 2)]);
    let numbers = zones.numbers();
    let tables = Tables {
        buddy: vec![Default::default(); numbers].leak(),
        residents: vec![Default::default(); numbers].leak(),
        buckets: vec![Default::default(); Residents::buckets_for(numbers)].leak(),
    };
    (
        Manager::new(machine.clone(), &zones, tables, 3..13),
        machine,
    )
}

pub(super) fn process(machine: &FakeMachine) -> usize {
    let mut world = machine.0.borrow_mut();
    world.lives.push(Life::Running);
    world.lives.len() - 1
}

pub(super) fn fault(page: u64, code: u64) -> FaultMessage {
    FaultMessage {
        address: page * PAGE_BYTES,
        instruction: 0x40_0000,
        code,
    }
}

pub(super) fn image(pages: u64) -> FakeMemory {
    FakeMemory(Rc::new((0, pages)))
}
