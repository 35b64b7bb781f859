//! A virtio block device in a test: registers, a queue served on demand, RAM, and lies.

use std::cell::RefCell;
use std::rc::Rc;

use libsys::mappings::Mapping;

use crate::{AREA_BYTES, Device, Queue, Registers, Transport, Window};

/// Physical address of the queue's area.
pub(crate) const AREA: u64 = 0x10_0000;
/// Physical address of the data.
pub(crate) const DATA: u64 = 0x20_0000;
/// Sectors on the device.
pub(crate) const SECTORS: u64 = 256;
const ALL_FEATURES: u64 = 1 << 1 | 1 << 9 | 1 << 32;

/// What the device does wrong with the next requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Lie {
    #[default]
    None,
    /// Reports an id of no request.
    Id(u32),
    /// Raises the used index by this much more.
    Index(u16),
    /// Reports this many bytes.
    Length(u32),
    /// Writes this status.
    Status(u8),
}

#[derive(Debug)]
pub(crate) struct State {
    area: Mapping,
    pub(crate) data: Vec<u8>,
    pub(crate) disk: Vec<u8>,
    status: u8,
    feature_select: u32,
    pub(crate) features: u64,
    queue_size: u16,
    vector: u16,
    taken: u16,
    used: u16,
    pub(crate) kicks: usize,
    pub(crate) resets: usize,
    pub(crate) lie: Lie,
    /// Whether it ever comes out of a reset.
    pub(crate) is_dead: bool,
}

/// The device; clones are the same device.
#[derive(Clone, Debug)]
pub(crate) struct Fake(pub(crate) Rc<RefCell<State>>);

/// One group of its registers.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    fake: Fake,
    is_common: bool,
    is_notify: bool,
}

impl Fake {
    pub(crate) fn new(queue_size: u16) -> (Fake, Mapping) {
        let area = Mapping::on_heap(AREA_BYTES);
        let disk = (0..SECTORS * 512)
            .map(|i| (i / 512 * 7 + i) as u8)
            .collect();
        let state = State {
            area: area.alias().unwrap(),
            data: vec![0; 64 * 512],
            disk,
            status: 0,
            feature_select: 0,
            features: ALL_FEATURES,
            queue_size,
            vector: 0,
            taken: 0,
            used: 0,
            kicks: 0,
            resets: 0,
            lie: Lie::None,
            is_dead: false,
        };
        (Fake(Rc::new(RefCell::new(state))), area)
    }

    pub(crate) fn device(queue_size: u16) -> (Fake, Device<Group>) {
        let (fake, area) = Fake::new(queue_size);
        let device = fake.set_up(area).unwrap();
        (fake, device)
    }

    pub(crate) fn set_up(&self, area: Mapping) -> Result<Device<Group>, crate::SetupError> {
        let group = |is_common, is_notify| Group {
            fake: self.clone(),
            is_common,
            is_notify,
        };
        let transport = Transport::new(
            group(true, false),
            group(false, true),
            group(false, false),
            4,
        )?;
        let area = Window::new(Rc::new(area), 0, AREA_BYTES).unwrap();
        Device::new(transport, Queue::new(area, AREA).unwrap(), 0)
    }

    /// Serves up to `count` of the waiting requests.
    pub(crate) fn serve(&self, count: usize) {
        let mut state = self.0.borrow_mut();
        for _ in 0..count {
            if !state.serve_one() {
                return;
            }
        }
    }
}

impl State {
    fn serve_one(&mut self) -> bool {
        let read16 = |at: usize| self.area.read_u16(at).unwrap();
        if self.status & 4 == 0 || self.taken == read16(4096 + 2) {
            return false;
        }
        let size = usize::from(self.queue_size);
        let head = read16(4096 + 4 + 2 * (usize::from(self.taken) % size));
        self.taken = self.taken.wrapping_add(1);
        let (status, written) = self.run_chain(head);
        let place = 8192 + 4 + 8 * (usize::from(self.used) % size);
        self.used = self.used.wrapping_add(1);
        let (mut id, mut length, mut index) = (u32::from(head), written, self.used);
        match self.lie {
            Lie::Id(other) => id = other,
            Lie::Length(other) => length = other,
            Lie::Index(more) => index = index.wrapping_add(more),
            Lie::None | Lie::Status(_) => {}
        }
        let _ = status;
        self.area.write_u32(place, id).unwrap();
        self.area.write_u32(place + 4, length).unwrap();
        self.area.write_u16(8192 + 2, index).unwrap();
        true
    }

    /// Does the request of a chain; returns its status and the bytes written.
    fn run_chain(&mut self, head: u16) -> (u8, u32) {
        let mut chain = Vec::new();
        let mut index = head;
        loop {
            let at = usize::from(index) * 16;
            let flags = self.area.read_u16(at + 12).unwrap();
            let address = self.area.read_u64(at).unwrap();
            chain.push((address, self.area.read_u32(at + 8).unwrap(), flags & 2 != 0));
            if flags & 1 == 0 {
                break;
            }
            index = self.area.read_u16(at + 14).unwrap();
        }
        let header = (chain[0].0 - AREA) as usize;
        let kind = self.area.read_u32(header).unwrap();
        let sector = self.area.read_u64(header + 8).unwrap() as usize;
        let last = *chain.last().unwrap();
        assert!(last.2 && last.1 == 1, "the status byte comes last");
        let mut written = 1;
        if kind != 4 {
            let (address, bytes, device_writes) = chain[1];
            let (start, bytes) = ((address - DATA) as usize, bytes as usize);
            let memory = &mut self.data[start..start + bytes];
            let disk = &mut self.disk[sector * 512..sector * 512 + bytes];
            assert_eq!(device_writes, kind == 0, "the direction fits the kind");
            if device_writes {
                memory.copy_from_slice(disk);
                written += bytes as u32;
            } else {
                disk.copy_from_slice(memory);
            }
        }
        let status = if let Lie::Status(status) = self.lie {
            status
        } else {
            0
        };
        self.area
            .write_u8((last.0 - AREA) as usize, status)
            .unwrap();
        (status, written)
    }

    fn write_common(&mut self, offset: usize, value: u32) {
        match offset {
            0x00 => self.feature_select = value,
            0x14 if value == 0 => {
                (self.status, self.taken, self.used) = (0, 0, 0);
                self.resets += 1;
                if self.is_dead {
                    self.status = 0xff;
                }
            }
            0x14 => self.status = value as u8,
            0x18 => self.queue_size = value as u16,
            0x1a => self.vector = value as u16,
            _ => {}
        }
    }

    fn read_common(&self, offset: usize) -> u32 {
        match offset {
            0x04 => (self.features >> (32 * self.feature_select)) as u32,
            0x14 => self.status.into(),
            0x18 => self.queue_size.into(),
            0x1a => self.vector.into(),
            _ => 0,
        }
    }
}

impl Group {
    fn read(&self, offset: usize) -> u32 {
        let state = self.fake.0.borrow();
        match (self.is_common, self.is_notify, offset) {
            (true, ..) => state.read_common(offset),
            (false, false, 0) => SECTORS as u32,
            (false, false, 8) => 64 * 512,
            _ => 0,
        }
    }

    fn write(&self, offset: usize, value: u32) {
        let mut state = self.fake.0.borrow_mut();
        if self.is_common {
            state.write_common(offset, value);
        } else if self.is_notify {
            state.kicks += 1;
        }
    }
}

impl Registers for Group {
    fn bytes(&self) -> usize {
        4096
    }

    fn read_u8(&self, offset: usize) -> u8 {
        self.read(offset) as u8
    }

    fn read_u16(&self, offset: usize) -> u16 {
        self.read(offset) as u16
    }

    fn read_u32(&self, offset: usize) -> u32 {
        self.read(offset)
    }

    fn write_u8(&self, offset: usize, value: u8) {
        self.write(offset, value.into());
    }

    fn write_u16(&self, offset: usize, value: u16) {
        self.write(offset, value.into());
    }

    fn write_u32(&self, offset: usize, value: u32) {
        self.write(offset, value);
    }
}
