//! Entry, heap, panic and log of a program in the guest.

use core::fmt::Write as _;
use core::panic::PanicInfo;
use skink_mem as _;

use talc::TalcLock;
use talc::source::Manual;

use crate::heap::{self, Guarded};
use crate::{raw, startup};

/// Exit code of a program that panicked.
pub const PANIC_EXIT_CODE: i32 = 101;

#[global_allocator]
static HEAP: Guarded<TalcLock<spin::Mutex<()>, Manual>> =
    Guarded::new(TalcLock::new(Manual), heap_damaged);

/// Makes `$main`, a `fn() -> i32`, the start of the program; what it returns is the exit code.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn _start() -> ! {
            $crate::runtime::start($main)
        }
    };
}

/// Sets the heap up and runs the program's `main`. Called by [`crate::entry!`] only.
#[doc(hidden)]
pub fn start(main: fn() -> i32) -> ! {
    let header = startup::header();
    // Nobody but the process itself should be able to guess it, by mistake at least.
    HEAP.set_secret(raw::ticks().rotate_left(32) ^ header.heap_start);
    if header.heap_bytes > 0 {
        let start = core::ptr::with_exposed_provenance_mut::<u8>(header.heap_start as usize);
        // SAFETY: whoever started the process gave it this range as its heap: mapped, or resolved
        // by its pager on first touch, and used by nothing else.
        let claimed = unsafe { HEAP.inner().lock().claim(start, header.heap_bytes as usize) };
        if claimed.is_none() {
            crate::debug_log("heap too small for the allocator");
            exit(PANIC_EXIT_CODE);
        }
    }
    if header.has_service_page == 1 {
        crate::log_ring::init(log::LevelFilter::Info);
    }
    exit(main())
}

/// Ends a process that cannot trust its memory any more.
fn heap_damaged(damage: &heap::Damage) -> ! {
    debug_log_fmt(format_args!("{damage}"));
    exit(heap::DAMAGE_EXIT_CODE)
}

/// Ends the process with an exit code.
pub fn exit(code: i32) -> ! {
    crate::process::exit(u64::from(code.cast_unsigned()))
}

/// Ends the calling thread.
pub fn exit_thread() -> ! {
    crate::process::exit_thread()
}

/// A line on its way to the kernel log, cut at its capacity.
struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.len() - self.used;
        let mut cut = text.len().min(room);
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        self.bytes[self.used..self.used + cut].copy_from_slice(&text.as_bytes()[..cut]);
        self.used += cut;
        Ok(())
    }
}

/// Writes formatted text to the kernel log without the heap.
pub fn debug_log_fmt(arguments: core::fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; 256],
        used: 0,
    };
    // `Line` never fails.
    let _ = line.write_fmt(arguments);
    crate::debug_log(core::str::from_utf8(&line.bytes[..line.used]).unwrap_or("(not UTF-8)"));
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    debug_log_fmt(format_args!("{info}"));
    exit(PANIC_EXIT_CODE)
}

/// Named by prebuilt parts of `core` when nothing unwinds; never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by prebuilt parts of `core` when nothing unwinds; never called.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    exit(PANIC_EXIT_CODE)
}
