//! Device registers.

use alloc::rc::Rc;

use libsys::mappings::Mapping;

/// A window of device registers. Each access is one access of its width, in program order.
///
/// Offsets that no register can have read as all ones and ignore writes, as a missing device
/// does; the users check the size of the window once instead of every access.
pub trait Registers {
    /// Returns the number of bytes in the window.
    fn bytes(&self) -> usize;
    /// Reads a register of one byte.
    fn read_u8(&self, offset: usize) -> u8;
    /// Reads a register of two bytes.
    fn read_u16(&self, offset: usize) -> u16;
    /// Reads a register of four bytes.
    fn read_u32(&self, offset: usize) -> u32;
    /// Writes a register of one byte.
    fn write_u8(&self, offset: usize, value: u8);
    /// Writes a register of two bytes.
    fn write_u16(&self, offset: usize, value: u16);
    /// Writes a register of four bytes.
    fn write_u32(&self, offset: usize, value: u32);
}

/// A part of mapped device registers.
#[derive(Clone, Debug)]
pub struct Window {
    mapping: Rc<Mapping>,
    start: usize,
    bytes: usize,
}

impl Window {
    /// Makes a window of `bytes` bytes from `start` on, or `None` past the end of the mapping.
    pub fn new(mapping: Rc<Mapping>, start: usize, bytes: usize) -> Option<Self> {
        let end = start.checked_add(bytes)?;
        (end <= mapping.bytes()).then_some(Window {
            mapping,
            start,
            bytes,
        })
    }

    /// Returns the place in the mapping, or one past its end for an offset outside the window.
    fn place(&self, offset: usize, width: usize) -> usize {
        match offset.checked_add(width) {
            Some(end) if end <= self.bytes => self.start + offset,
            _ => self.mapping.bytes(),
        }
    }
}

// A refused access is one outside the window: see the trait for what that means.
impl Registers for Window {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn read_u8(&self, offset: usize) -> u8 {
        self.mapping
            .read_u8(self.place(offset, 1))
            .unwrap_or(u8::MAX)
    }

    fn read_u16(&self, offset: usize) -> u16 {
        self.mapping
            .read_u16(self.place(offset, 2))
            .unwrap_or(u16::MAX)
    }

    fn read_u32(&self, offset: usize) -> u32 {
        self.mapping
            .read_u32(self.place(offset, 4))
            .unwrap_or(u32::MAX)
    }

    fn write_u8(&self, offset: usize, value: u8) {
        let _ = self.mapping.write_u8(self.place(offset, 1), value);
    }

    fn write_u16(&self, offset: usize, value: u16) {
        let _ = self.mapping.write_u16(self.place(offset, 2), value);
    }

    fn write_u32(&self, offset: usize, value: u32) {
        let _ = self.mapping.write_u32(self.place(offset, 4), value);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use libsys::mappings::Mapping;

    use super::{Registers, Window};

    #[test]
    fn a_window_does_not_reach_beyond_itself() {
        let mapping = Rc::new(Mapping::on_heap(64));
        let window = Window::new(Rc::clone(&mapping), 16, 16).unwrap();
        window.write_u32(12, 7);
        window.write_u32(16, 8);
        window.write_u16(usize::MAX, 9);
        assert_eq!(mapping.read_u32(28), Ok(7));
        assert_eq!(mapping.read_u32(32), Ok(0));
        assert_eq!(window.read_u32(14), u32::MAX);
        assert!(Window::new(mapping, 60, 8).is_none());
    }
}
