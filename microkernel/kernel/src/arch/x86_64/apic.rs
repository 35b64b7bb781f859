//! The local interrupt controller of each processor (Intel SDM vol. 3A, chapter 11).

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use x86_64::instructions::port::Port;

use super::paging;

/// Vector of the timer.
pub(crate) const TIMER: u8 = 0xf0;
/// Vector that wakes an idle processor or makes it look at its current thread.
pub(crate) const WAKE: u8 = 0xf1;
/// Vector of spurious interrupts.
pub(crate) const SPURIOUS: u8 = 0xff;
/// First vector for devices.
pub(crate) const FIRST_DEVICE: u8 = 0x30;
/// First vector behind those for devices.
pub(crate) const DEVICE_END: u8 = 0xf0;

const ID: usize = 0x20;
const EOI: usize = 0xb0;
const SPURIOUS_REGISTER: usize = 0xf0;
const ICR_LOW: usize = 0x300;
const ICR_HIGH: usize = 0x310;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const TIMER_INITIAL: usize = 0x380;
const TIMER_CURRENT: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;
const MASKED: u32 = 1 << 16;
/// Divide the timer's clock by 16, so that its 32 bits last for a minute.
const DIVIDE_BY_16: u32 = 0b0011;

static REGISTERS: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static TIMER_TICKS_PER_MS: AtomicU64 = AtomicU64::new(62_500);

fn register(offset: usize) -> *mut u32 {
    REGISTERS
        .load(Ordering::Relaxed)
        .wrapping_add(offset)
        .cast()
}

fn read(offset: usize) -> u32 {
    // SAFETY: `REGISTERS` points to the mapped register page once `map` ran, which is before any
    // other use; all offsets here are registers that may be read.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // SAFETY: as in `read`; the values written are those that the manual names.
    unsafe { register(offset).write_volatile(value) };
}

/// Maps the registers; once, on the first processor. Silences the old interrupt controllers.
pub(crate) fn map(physical: u64) -> Result<(), skink_abi::Error> {
    REGISTERS.store(paging::map_device(physical, 1)?, Ordering::Relaxed);
    // Firmware leaves the 8259s live and on vectors of exceptions.
    for port in [0x21_u16, 0xa1] {
        // SAFETY: the mask register of an 8259; ones mask all its lines.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
    Ok(())
}

/// Turns the calling processor's controller on.
pub(crate) fn enable() {
    write(SPURIOUS_REGISTER, 0x100 | u32::from(SPURIOUS));
    write(LVT_LINT0, MASKED);
    write(TIMER_DIVIDE, DIVIDE_BY_16);
    write(LVT_TIMER, u32::from(TIMER));
}

/// Returns the calling processor's number on the interrupt bus.
pub(crate) fn id() -> u32 {
    read(ID) >> 24
}

/// Says that the interrupt being handled is dealt with.
pub(crate) fn end_of_interrupt() {
    write(EOI, 0);
}

/// Starts the timer for calibration and returns its count upwards.
pub(crate) fn timer_count_up() -> u64 {
    if read(TIMER_INITIAL) == 0 {
        write(LVT_TIMER, MASKED | u32::from(TIMER));
        write(TIMER_INITIAL, u32::MAX);
    }
    u64::from(u32::MAX - read(TIMER_CURRENT))
}

/// Ends calibration.
pub(crate) fn set_timer_rate(ticks_per_ms: u64) {
    TIMER_TICKS_PER_MS.store(ticks_per_ms.max(1), Ordering::Relaxed);
    write(TIMER_INITIAL, 0);
    write(LVT_TIMER, u32::from(TIMER));
}

/// Has the timer fire once, `ns` nanoseconds from now, or at its longest span.
pub(crate) fn set_timer(ns: u64) {
    let ms = ns / 1_000_000;
    let ticks = if ms > 60_000 {
        u64::from(u32::MAX)
    } else {
        ns * TIMER_TICKS_PER_MS.load(Ordering::Relaxed) / 1_000_000
    };
    write(
        TIMER_INITIAL,
        u32::try_from(ticks).unwrap_or(u32::MAX).max(1),
    );
}

/// Stops the timer.
pub(crate) fn stop_timer() {
    write(TIMER_INITIAL, 0);
}

fn command(apic_id: u32, low: u32) {
    while read(ICR_LOW) & 1 << 12 != 0 {
        core::hint::spin_loop();
    }
    write(ICR_HIGH, apic_id << 24);
    write(ICR_LOW, low);
}

/// Interrupts another processor.
pub(crate) fn send(apic_id: u32, vector: u8) {
    command(apic_id, 1 << 14 | u32::from(vector));
}

/// Sends INIT to another processor.
pub(crate) fn send_init(apic_id: u32) {
    command(apic_id, 0x4500);
}

/// Sends STARTUP to another processor: it starts in real mode at `page << 12`.
pub(crate) fn send_startup(apic_id: u32, page: u8) {
    command(apic_id, 0x4600 | u32::from(page));
}
