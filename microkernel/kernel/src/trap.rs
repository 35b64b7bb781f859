//! Exceptions and interrupts.

use core::sync::atomic::Ordering;

use skink_abi::FaultMessage;
use skink_abi::layout::USER_END;

use crate::arch::x86_64::entry::Registers;
use crate::arch::x86_64::{apic, cpu, fpu, time};
use crate::lock::Held;
use crate::process::PROCESSES;
use crate::thread::Thread;
use crate::{fault, interrupt, sched, space, stepping, teardown, watch};

const DEBUG: u64 = 1;
const DEVICE_NOT_AVAILABLE: u64 = 7;
const PAGE_FAULT: u64 = 14;

/// Entry of traps from Ring 3, from entry.s, on this CPU's kernel stack.
#[unsafe(no_mangle)]
extern "C" fn on_trap(thread: &'static Thread) {
    let vector = thread.registers.vector.get();
    if vector == PAGE_FAULT
        && let Some(fault) = fault_of(thread)
        && fault::send_at_once(thread, fault)
    {
        return;
    }
    let cpu = cpu::this();
    cpu.entered_at.store(time::ticks(), Ordering::Relaxed);
    let mut held = Held::enter();
    if vector < 32 {
        on_exception(&mut held, thread, vector);
    } else {
        stepping::join(thread);
        on_interrupt(&mut held, vector as u8);
    }
    sched::finish(&mut held);
}

/// Entry of traps from the kernel itself: interrupts while the CPU is idle, and places in programs that
/// are watched. Anything else is a mistake in the kernel.
#[unsafe(no_mangle)]
extern "C" fn on_kernel_trap(registers: &Registers) {
    let vector = registers.vector.get();
    if vector == DEBUG && watch::on_kernel_trap() {
        return;
    }
    if vector < 32 {
        report_fatal(registers);
    }
    cpu::this()
        .entered_at
        .store(time::ticks(), Ordering::Relaxed);
    on_interrupt(&mut Held::enter(), vector as u8);
}

/// Entry of non-maskable interrupts, double faults and machine checks.
#[unsafe(no_mangle)]
extern "C" fn on_fatal_trap(registers: &Registers) {
    report_fatal(registers);
}

fn report_fatal(registers: &Registers) -> ! {
    let address = x86_64::registers::control::Cr2::read_raw();
    crate::panic::fatal_trap(registers, address)
}

/// Returns the message about a page fault that has just come, if it is one for a pager.
#[inline]
fn fault_of(thread: &Thread) -> Option<FaultMessage> {
    let address = x86_64::registers::control::Cr2::read_raw();
    (address < USER_END).then(|| FaultMessage {
        address,
        instruction: thread.registers.rip.get(),
        code: thread.registers.error.get(),
    })
}

fn on_exception(held: &mut Held<0>, thread: &'static Thread, vector: u64) {
    let mut address = 0;
    match vector {
        DEBUG if watch::on_trap(thread) || stepping::on_step(held, thread) => return,
        PAGE_FAULT => {
            if let Some(fault) = fault_of(thread)
                && fault::send(held, thread, fault)
            {
                return;
            }
            address = x86_64::registers::control::Cr2::read_raw();
        }
        DEVICE_NOT_AVAILABLE => {
            let process = PROCESSES.get(thread.process.get());
            if process.charge(skink_abi::PAGE_SIZE as u64).is_ok() {
                if fpu::first_use(thread) {
                    return;
                }
                process.refund(skink_abi::PAGE_SIZE as u64);
            }
        }
        _ => {}
    }
    teardown::end_by_fault(held, thread, vector, address);
}

fn on_interrupt(held: &mut Held<0>, vector: u8) {
    cpu::this().sched.interrupts.fetch_add(1, Ordering::Relaxed);
    match vector {
        apic::TIMER => {
            apic::end_of_interrupt();
            sched::on_timer(held);
        }
        apic::WAKE => {
            apic::end_of_interrupt();
            // Its work is done by what follows every entry; translations are dropped here.
            if cpu::this().current().is_some() {
                space::answer_flush(cpu::this());
            }
        }
        apic::SPURIOUS => {}
        _ => interrupt::on_device(held, vector),
    }
}
