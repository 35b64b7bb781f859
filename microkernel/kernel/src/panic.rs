//! The end of the kernel, by its own mistake or with `init`: a report on the serial line, then power-off.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use skink_abi::debug_exit;

use crate::arch::x86_64::cpu;
use crate::arch::x86_64::entry::Registers;
use crate::arch::x86_64::serial::Serial;
use crate::process::Exit;
use crate::{log, machine, symbols};

/// Most frames in a backtrace.
const MAX_FRAMES: usize = 32;

static PANICKED: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    let _ = writeln!(Serial, "\nKERNEL PANIC on CPU {}: {info}", cpu_number());
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    backtrace(frame);
    log::report();
    machine::exit(debug_exit::PANIC)
}

/// Ends the system because `init` has ended: nobody else looks after the services.
pub(crate) fn init_ended(exit: &Exit) -> ! {
    begin();
    log::report();
    let _ = writeln!(
        Serial,
        "\nKERNEL PANIC on CPU {}: init has ended: {:?}, code {}, at {:#x}, address {:#x}",
        cpu_number(),
        exit.reason,
        exit.code,
        exit.address,
        exit.fault_address
    );
    machine::exit(debug_exit::PANIC)
}

/// Reports a trap that the kernel must not have.
pub(crate) fn fatal_trap(registers: &Registers, address: u64) -> ! {
    begin();
    let _ = writeln!(
        Serial,
        "\nKERNEL PANIC on CPU {}: exception {} (error {:#x}), address {address:#x}",
        cpu_number(),
        registers.vector.get(),
        registers.error.get(),
    );
    let _ = writeln!(
        Serial,
        "  rip {:#x} rsp {:#x} flags {:#x}",
        registers.rip.get(),
        registers.rsp.get(),
        registers.flags.get()
    );
    print_frame(0, registers.rip.get());
    backtrace(registers.rbp.get());
    log::report();
    machine::exit(debug_exit::PANIC)
}

fn cpu_number() -> u32 {
    if cpu::count() == 0 {
        0
    } else {
        cpu::this().index()
    }
}

/// Lets the first panic report; a CPU that panics meanwhile, or a panic in a panic, waits for the
/// end.
fn begin() {
    if PANICKED.swap(true, Ordering::SeqCst) {
        loop {
            x86_64::instructions::hlt();
        }
    }
}

/// Prints the return addresses that the frame pointers lead to.
fn backtrace(mut frame: u64) {
    for number in 1..=MAX_FRAMES {
        // Frames lie on kernel stacks, in the upper half; anything else ends the list.
        if frame < 0xffff_8000_0000_0000 || !frame.is_multiple_of(8) {
            return;
        }
        let record = core::ptr::with_exposed_provenance::<u64>(frame as usize);
        // SAFETY: frame pointers of kernel code lead from frame to frame on its stack; the first
        // function of a stack has 0. A damaged chain may fault, which ends in `begin`.
        let (next, address) = unsafe { (record.read(), record.add(1).read()) };
        if address == 0 {
            return;
        }
        print_frame(number, address);
        if next <= frame {
            return;
        }
        frame = next;
    }
}

fn print_frame(number: usize, address: u64) {
    // A return address may be the first byte behind a function that never returns.
    match symbols::find(address.saturating_sub(u64::from(number > 0))) {
        Some((name, start)) => {
            let name = rustc_demangle::demangle(name);
            let _ = writeln!(
                Serial,
                "  {number:2}: {address:#x} {name:#}+{:#x}",
                address - start
            );
        }
        None => {
            let _ = writeln!(Serial, "  {number:2}: {address:#x}");
        }
    }
}

/// Panics on purpose, for the test of reports: the option `panic-test` on the command line. The
/// report must name the functions below.
#[inline(never)]
pub(crate) fn test() -> ! {
    test_outer(core::hint::black_box(3))
}

#[inline(never)]
fn test_outer(value: u32) -> ! {
    test_middle(core::hint::black_box(value) + 1)
}

#[inline(never)]
fn test_middle(value: u32) -> ! {
    test_inner(core::hint::black_box(value) + 1)
}

#[inline(never)]
fn test_inner(value: u32) -> ! {
    panic!("panic-test was asked for ({value})")
}
