//! The interrupt controllers for lines (82093AA I/O APIC data sheet).

use heapless::Vec;
use skink_abi::Error;
use spin::Mutex;

use super::paging;

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

struct IoApic {
    registers: *mut u32,
    first: u32,
    lines: u32,
}

// SAFETY: the registers are only used under the lock of `STATE`.
unsafe impl Send for IoApic {}

/// How an ISA line is wired, where that is not the standard way.
#[derive(Clone, Copy)]
struct Override {
    isa: u8,
    line: u32,
    flags: u16,
}

struct State {
    controllers: Vec<IoApic, 8>,
    overrides: Vec<Override, 16>,
}

static STATE: Mutex<State> = Mutex::new(State {
    controllers: Vec::new(),
    overrides: Vec::new(),
});

impl IoApic {
    fn read(&self, index: u32) -> u32 {
        // SAFETY: select, then read the window: the two registers of the block that ACPI named.
        unsafe {
            self.registers.write_volatile(index);
            self.registers.add(4).read_volatile()
        }
    }

    fn write(&self, index: u32, value: u32) {
        // SAFETY: as in `read`.
        unsafe {
            self.registers.write_volatile(index);
            self.registers.add(4).write_volatile(value);
        }
    }
}

/// Adds a controller that ACPI names; all its lines are masked.
pub(crate) fn add(physical: u64, first: u32) -> Result<(), Error> {
    let registers = paging::map_device::<u32>(physical & !0xfff, 1)?;
    let registers = registers.wrapping_add((physical & 0xfff) as usize / size_of::<u32>());
    let mut controller = IoApic {
        registers,
        first,
        lines: 0,
    };
    controller.lines = (controller.read(1) >> 16 & 0xff) + 1;
    for line in 0..controller.lines {
        controller.write(0x10 + 2 * line, MASKED);
    }
    STATE
        .lock()
        .controllers
        .push(controller)
        .map_err(|_| Error::Unavailable)
}

/// Notes how an ISA line is wired (ACPI 6.5, 5.2.12.5).
pub(crate) fn add_override(isa: u8, line: u32, flags: u16) {
    // More overrides than ISA lines cannot be of use.
    let _ = STATE.lock().overrides.push(Override { isa, line, flags });
}

/// Routes an ISA line to a vector of a processor. Returns whether it is level-triggered.
///
/// # Errors
///
/// `Unavailable` when no controller has the line.
pub(crate) fn route(isa: u32, vector: u8, apic_id: u32) -> Result<bool, Error> {
    let state = STATE.lock();
    let wiring = state
        .overrides
        .iter()
        .find(|entry| u32::from(entry.isa) == isa);
    let (line, flags) = wiring.map_or((isa, 0), |entry| (entry.line, entry.flags));
    let is_level = flags >> 2 & 3 == 3;
    let mut low = u32::from(vector);
    if is_level {
        low |= LEVEL;
    }
    if flags & 3 == 3 {
        low |= ACTIVE_LOW;
    }
    let (controller, pin) = find(&state, line)?;
    controller.write(0x10 + 2 * pin + 1, apic_id << 24);
    controller.write(0x10 + 2 * pin, low);
    Ok(is_level)
}

/// Keeps an ISA line from interrupting.
pub(crate) fn mask(isa: u32) {
    change(isa, |low| low | MASKED);
}

/// Lets an ISA line interrupt.
pub(crate) fn unmask(isa: u32) {
    change(isa, |low| low & !MASKED);
}

/// Changes the low half of a line's entry.
fn change(isa: u32, change: impl FnOnce(u32) -> u32) {
    let state = STATE.lock();
    let wiring = state
        .overrides
        .iter()
        .find(|entry| u32::from(entry.isa) == isa);
    let line = wiring.map_or(isa, |entry| entry.line);
    if let Ok((controller, pin)) = find(&state, line) {
        let low = controller.read(0x10 + 2 * pin);
        controller.write(0x10 + 2 * pin, change(low));
    }
}

fn find(state: &State, line: u32) -> Result<(&IoApic, u32), Error> {
    let controller = state
        .controllers
        .iter()
        .find(|controller| line >= controller.first && line - controller.first < controller.lines)
        .ok_or(Error::Unavailable)?;
    Ok((controller, line - controller.first))
}
