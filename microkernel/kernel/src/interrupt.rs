//! Interrupts of devices, as kernel objects: each sets bits of a notification.

use core::sync::atomic::{AtomicU32, Ordering};

use skink_abi::Error;
use skink_kcore::{Id, NONE};
use spin::Mutex;

use crate::arch::x86_64::{apic, cpu, ioapic};
use crate::arena::{Arena, Object};
use crate::cell::Field;
use crate::lock::Held;
use crate::notification::{self, NOTIFICATIONS};
use crate::object;
use crate::process::Process;
use crate::sched::Urgency;

/// An interrupt.
pub(crate) struct Interrupt {
    vector: Field,
    /// ISA line, or [`NONE`] for a message-signalled interrupt.
    line: Field,
    is_level: Field,
    /// Notification (a reference is held) and bits. A leaf lock.
    target: Mutex<(Id, u64)>,
}

impl Object for Interrupt {
    const ARENA: u64 = 6;
    const NEW: Interrupt = Interrupt {
        vector: Field::new(0),
        line: Field::new(NONE),
        is_level: Field::new(0),
        target: Mutex::new((NONE, 0)),
    };
}

/// All interrupts.
pub(crate) static INTERRUPTS: Arena<Interrupt> = Arena::new();

/// The interrupt object of each vector, or [`NONE`].
static VECTORS: [AtomicU32; 256] = [const { AtomicU32::new(NONE) }; 256];

/// Where message-signalled interrupts are written (Intel SDM vol. 3A, 11.11.1).
const MSI_ADDRESS: u64 = 0xfee0_0000;

fn make(payer: &Process) -> Result<(Id, u8), Error> {
    let id = INTERRUPTS.allocate_for(payer)?;
    for vector in apic::FIRST_DEVICE..apic::DEVICE_END {
        let slot = &VECTORS[usize::from(vector)];
        if slot
            .compare_exchange(NONE, id, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            let interrupt = INTERRUPTS.get(id);
            interrupt.vector.set(vector.into());
            interrupt.line.set(NONE);
            interrupt.is_level.set(0);
            *interrupt.target.lock() = (NONE, 0);
            return Ok((id, vector));
        }
    }
    INTERRUPTS.free(id);
    Err(Error::Unavailable)
}

/// Makes a message-signalled interrupt: its id, and the address and data of the message. Devices'
/// interrupts go to the first processor.
///
/// # Errors
///
/// `Unavailable` when the vectors are used up, `NoMemory`.
pub(crate) fn create_message(payer: &Process) -> Result<(Id, u64, u64), Error> {
    let (id, vector) = make(payer)?;
    let apic_id = cpu::by_index(0).apic_id.load(Ordering::Relaxed);
    Ok((id, MSI_ADDRESS | u64::from(apic_id) << 12, vector.into()))
}

/// Takes an ISA interrupt line.
///
/// # Errors
///
/// `AlreadyBound` when it was taken, `Unavailable` when there is no such line, `NoMemory`.
pub(crate) fn create_line(payer: &Process, line: u32) -> Result<Id, Error> {
    let is_taken = VECTORS.iter().any(|slot| {
        let id = slot.load(Ordering::Acquire);
        id != NONE && INTERRUPTS.get(id).line.get() == line
    });
    if is_taken {
        return Err(Error::AlreadyBound);
    }
    let (id, vector) = make(payer)?;
    let apic_id = cpu::by_index(0).apic_id.load(Ordering::Relaxed);
    match ioapic::route(line, vector, apic_id) {
        Ok(is_level) => {
            let interrupt = INTERRUPTS.get(id);
            interrupt.line.set(line);
            interrupt.is_level.set(is_level.into());
            Ok(id)
        }
        Err(error) => {
            release(id);
            Err(error)
        }
    }
}

/// Has a notification's bits set at each interrupt.
pub(crate) fn bind(id: Id, notification: Id, bits: u64) {
    NOTIFICATIONS.retain(notification);
    let interrupt = INTERRUPTS.get(id);
    let old = core::mem::replace(&mut *interrupt.target.lock(), (notification, bits));
    if old.0 != NONE {
        object::release_notification(old.0);
    }
    acknowledge(id);
}

/// Lets the next interrupt of a level-triggered line come.
pub(crate) fn acknowledge(id: Id) {
    let interrupt = INTERRUPTS.get(id);
    if interrupt.is_level.get() != 0 {
        ioapic::unmask(interrupt.line.get());
    }
}

/// Drops a reference; the last one silences the interrupt.
pub(crate) fn release(id: Id) {
    if !INTERRUPTS.release(id) {
        return;
    }
    let interrupt = INTERRUPTS.get(id);
    if interrupt.line.get() != NONE {
        ioapic::mask(interrupt.line.get());
    }
    let target = core::mem::replace(&mut *interrupt.target.lock(), (NONE, 0));
    VECTORS[interrupt.vector.get() as usize & 255].store(NONE, Ordering::Release);
    if target.0 != NONE {
        object::release_notification(target.0);
    }
    INTERRUPTS.free(id);
}

/// Deals with an interrupt of a device.
pub(crate) fn on_device(held: &mut Held<0>, vector: u8) {
    let id = VECTORS[usize::from(vector)].load(Ordering::Acquire);
    if id != NONE {
        let interrupt = INTERRUPTS.get(id);
        if interrupt.is_level.get() != 0 {
            // It would come again and again until its driver has dealt with it.
            ioapic::mask(interrupt.line.get());
        }
        let (target, bits) = {
            let target = interrupt.target.lock();
            if target.0 != NONE {
                NOTIFICATIONS.retain(target.0);
            }
            *target
        };
        if target != NONE {
            notification::notify(held, target, bits, Urgency::Device);
            object::release_notification(target);
        }
    }
    apic::end_of_interrupt();
}
