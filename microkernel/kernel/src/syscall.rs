//! System calls: decoding, and one handler per call in the files below.
//!
//! The IPC calls have their own path (`ipc`); everything else comes here as up to six words and
//! goes back as a status and two values: one by one, or many in one crossing (`batch`).

mod batch;
mod devices;
mod handles;
mod inspection;
mod memory;
mod objects;
mod processes;

use core::sync::atomic::Ordering;

use skink_abi::{Error, Syscall};

use crate::arch::x86_64::entry::BY_SYSCALL;
use crate::arch::x86_64::{cpu, paging, time};
use crate::lock::Held;
use crate::process::{PROCESSES, Process};
use crate::thread::Thread;
use crate::{ipc, notification, sched, teardown};

/// What a plain call gives back.
type Result = core::result::Result<(u64, u64), Error>;

/// A plain call: who makes it, and its arguments.
struct Call<'a> {
    process: &'static Process,
    held: &'a mut Held<0>,
    arguments: [u64; 6],
}

/// Entry of `syscall`, from entry.s, on this CPU's kernel stack.
#[unsafe(no_mangle)]
extern "C" fn on_syscall(thread: &'static Thread) {
    let cpu = cpu::this();
    cpu.entered_at.store(time::ticks(), Ordering::Relaxed);
    cpu.sched.count_syscall();
    debug_assert_eq!(thread.registers.error.get(), BY_SYSCALL);
    let mut held = Held::enter();
    let registers = &thread.registers;
    // What is asked for most often does not go by the table.
    if registers.rax.get() == Syscall::Wait as u64 {
        notification::wait(&mut held, thread, registers.rdi.get(), registers.rsi.get());
    } else {
        dispatch(&mut held, thread);
    }
    sched::finish(&mut held);
}

/// Entry of calls that end at once and give nothing back but a status, from entry.s, on this CPU's
/// kernel stack. The registers of the thread stay where they are: nothing that is called here may
/// need them.
#[unsafe(no_mangle)]
extern "C" fn on_quick_syscall(argument: u64, number: u64, current: u64) -> u64 {
    let cpu = cpu::this();
    cpu.sched.count_syscall();
    if number == Syscall::Null as u64 {
        return 0;
    }
    debug_assert_eq!(number, Syscall::Notify as u64);
    // SAFETY: entry.s passes what a running thread is known by.
    let thread = unsafe { cpu::thread_at(current) };
    let process = PROCESSES.get(thread.process.get());
    match notification::notify_by(&mut Held::enter(), process, argument) {
        Ok(()) => 0,
        Err(error) => error.code(),
    }
}

fn dispatch(held: &mut Held<0>, thread: &'static Thread) {
    let registers = &thread.registers;
    let Some(number) = Syscall::from_number(registers.rax.get()) else {
        return thread.set_result(Err(Error::InvalidSyscall));
    };
    match number {
        Syscall::Call => ipc::call(held, thread),
        Syscall::ReplyReceive => ipc::reply_receive(held, thread),
        Syscall::Receive => ipc::receive(held, thread),
        Syscall::Reply => ipc::reply(held, thread),
        Syscall::Batch => {
            let result = batch::run(held, thread);
            thread.set_result(result);
        }
        Syscall::ProcessExit => processes::exit(held, thread),
        Syscall::ThreadExit => teardown::end_thread(held, thread),
        Syscall::ThreadYield => {
            thread.set_result(Ok((0, 0)));
            sched::yield_current(held, thread);
        }
        _ => {
            let arguments = [
                registers.rdi.get(),
                registers.rsi.get(),
                registers.rdx.get(),
                registers.r8.get(),
                registers.r9.get(),
                registers.r10.get(),
            ];
            let process = PROCESSES.get(thread.process.get());
            let result = plain(
                number,
                &mut Call {
                    process,
                    held,
                    arguments,
                },
            );
            thread.set_result(result);
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one line per call")]
fn plain(number: Syscall, call: &mut Call<'_>) -> Result {
    match number {
        Syscall::Null => Ok((0, 0)),
        Syscall::NullSwitch => {
            // SAFETY: the tables of the process that runs here; the kernel's map all of the kernel.
            unsafe { paging::load_kernel_and(call.process.root.get()) };
            Ok((0, 0))
        }
        Syscall::Notify => {
            let [handle, ..] = call.arguments;
            notification::notify_by(call.held, call.process, handle).map(|()| (0, 0))
        }
        Syscall::HandleDuplicate => handles::duplicate(call),
        Syscall::HandleClose => handles::close(call),
        Syscall::HandleInfo => handles::info(call),
        Syscall::HandleGrant => handles::grant(call),
        Syscall::ObjectRevoke => handles::revoke(call),
        Syscall::HandleNext => handles::next(call),
        Syscall::ProcessCreate => processes::create(call),
        Syscall::ProcessKill => processes::kill(call),
        Syscall::ProcessInfo => processes::info(call),
        Syscall::ProcessWatch => processes::watch(call),
        Syscall::ProcessSetPager => processes::set_pager(call),
        Syscall::ProcessNext => processes::next(call),
        Syscall::ProcessKeepHandles => processes::keep_handles(call),
        Syscall::ProcessSetUrgent => processes::set_urgent(call),
        Syscall::ProcessAtAnswer => inspection::at_answer(call),
        Syscall::ProcessRevive => processes::revive(call),
        Syscall::ProcessMappings => inspection::mappings(call),
        Syscall::ProcessOpen => inspection::open(call),
        Syscall::ProcessPeek => inspection::peek(call),
        Syscall::ProcessPoke => inspection::poke(call),
        Syscall::ProcessEndAfter => inspection::end_after(call),
        Syscall::ProcessWatchPlace => inspection::watch_place(call),
        Syscall::ThreadCreate => processes::create_thread(call),
        Syscall::EndpointCreate => objects::create_endpoint(call),
        Syscall::EndpointMint => objects::mint_sender(call),
        Syscall::EndpointForget => objects::forget_badge(call),
        Syscall::NotificationCreate => objects::create_notification(call),
        Syscall::NotificationMint => objects::mint_notification(call),
        Syscall::NotificationBind => objects::bind_notification(call),
        Syscall::MemorySlice => memory::slice(call),
        Syscall::MemoryInfo => memory::info(call),
        Syscall::MemoryMap => memory::map(call),
        Syscall::MemoryUnmap => memory::unmap(call),
        Syscall::MemoryProtect => memory::protect(call),
        Syscall::MemoryRead => memory::read(call),
        Syscall::MemoryWrite => memory::write(call),
        Syscall::MemoryZero => memory::zero(call),
        Syscall::InterruptCreateMsi => devices::create_message_interrupt(call),
        Syscall::InterruptCreateLine => devices::create_line_interrupt(call),
        Syscall::InterruptBind => devices::bind_interrupt(call),
        Syscall::InterruptAck => devices::acknowledge_interrupt(call),
        Syscall::PortsCreate => devices::create_ports(call),
        Syscall::PortIn => devices::port_in(call),
        Syscall::PortOut => devices::port_out(call),
        Syscall::PortStream => devices::port_stream(call),
        Syscall::Clock => Ok((time::now(), 0)),
        Syscall::SystemShutdown => devices::shutdown(call),
        Syscall::SystemInfo => devices::system_info(call),
        Syscall::DebugLog => devices::debug_log(call),
        Syscall::KernelLogRead => devices::read_log(call),
        Syscall::DeviceMemory => devices::create_device_memory(call),
        // The calls that were dealt with before: no batch can hold them.
        Syscall::Call
        | Syscall::ReplyReceive
        | Syscall::Receive
        | Syscall::Reply
        | Syscall::Batch
        | Syscall::Wait
        | Syscall::ProcessExit
        | Syscall::ThreadExit
        | Syscall::ThreadYield => Err(Error::InvalidSyscall),
    }
}
