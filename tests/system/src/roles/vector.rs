//! A program that keeps numbers in vector registers while others run.
//!
//! Programs are built without vector instructions, so the few that are needed here are written
//! into memory at run time, which also shows that memory can become code: first writable, then
//! executable, never both.

use libipc::proto::memory::Protection;
use libsys::abi::PAGE_SIZE;
use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Handle, Sender};

use super::memory::REGION;
use super::{BAD_ROLE, Role, WRONG};
use crate::wire::{self, NEVER, ask};

/// Bytes that the code loads and stores: eight registers.
const BYTES: usize = 128;

/// `extern "C" fn(from: *const u8, to: *mut u8, turns: u64)`: loads eight registers from `from`, waits, and
/// stores them to `to`.
const CODE: [u8; 92] = [
    0xf3, 0x0f, 0x6f, 0x07, // movdqu xmm0, [rdi]
    0xf3, 0x0f, 0x6f, 0x4f, 0x10, // movdqu xmm1, [rdi+0x10]
    0xf3, 0x0f, 0x6f, 0x57, 0x20, // movdqu xmm2, [rdi+0x20]
    0xf3, 0x0f, 0x6f, 0x5f, 0x30, // movdqu xmm3, [rdi+0x30]
    0xf3, 0x0f, 0x6f, 0x7f, 0x40, // movdqu xmm7, [rdi+0x40]
    0xf3, 0x44, 0x0f, 0x6f, 0x47, 0x50, // movdqu xmm8, [rdi+0x50]
    0xf3, 0x44, 0x0f, 0x6f, 0x77, 0x60, // movdqu xmm14, [rdi+0x60]
    0xf3, 0x44, 0x0f, 0x6f, 0x7f, 0x70, // movdqu xmm15, [rdi+0x70]
    0xf3, 0x90, // again: pause
    0x48, 0xff, 0xca, // dec rdx
    0x75, 0xf9, // jne again
    0xf3, 0x0f, 0x7f, 0x06, // movdqu [rsi], xmm0
    0xf3, 0x0f, 0x7f, 0x4e, 0x10, // movdqu [rsi+0x10], xmm1
    0xf3, 0x0f, 0x7f, 0x56, 0x20, // movdqu [rsi+0x20], xmm2
    0xf3, 0x0f, 0x7f, 0x5e, 0x30, // movdqu [rsi+0x30], xmm3
    0xf3, 0x0f, 0x7f, 0x7e, 0x40, // movdqu [rsi+0x40], xmm7
    0xf3, 0x44, 0x0f, 0x7f, 0x46, 0x50, // movdqu [rsi+0x50], xmm8
    0xf3, 0x44, 0x0f, 0x7f, 0x76, 0x60, // movdqu [rsi+0x60], xmm14
    0xf3, 0x44, 0x0f, 0x7f, 0x7e, 0x70, // movdqu [rsi+0x70], xmm15
    0xc3, // ret
];

/// `extern "C" fn(from: *const State)`: loads the registers, which keep their values: nothing else
/// in this program uses them.
const LOAD: [u8; 60] = [
    0xf3, 0x0f, 0x6f, 0x07, // movdqu xmm0, [rdi]
    0xf3, 0x0f, 0x6f, 0x4f, 0x10, // movdqu xmm1, [rdi+0x10]
    0xf3, 0x0f, 0x6f, 0x57, 0x20, // movdqu xmm2, [rdi+0x20]
    0xf3, 0x0f, 0x6f, 0x5f, 0x30, // movdqu xmm3, [rdi+0x30]
    0xf3, 0x0f, 0x6f, 0x7f, 0x40, // movdqu xmm7, [rdi+0x40]
    0xf3, 0x44, 0x0f, 0x6f, 0x47, 0x50, // movdqu xmm8, [rdi+0x50]
    0xf3, 0x44, 0x0f, 0x6f, 0x77, 0x60, // movdqu xmm14, [rdi+0x60]
    0xf3, 0x44, 0x0f, 0x6f, 0x7f, 0x70, // movdqu xmm15, [rdi+0x70]
    0x0f, 0xae, 0x97, 0x80, 0x00, 0x00, 0x00, // ldmxcsr [rdi+0x80]
    0xd9, 0xaf, 0x84, 0x00, 0x00, 0x00, // fldcw [rdi+0x84]
    0xc3, // ret
    0xcc, 0xcc, 0xcc, 0xcc,
];

/// `extern "C" fn(to: *mut State)`: stores the registers.
const STORE: [u8; 60] = [
    0xf3, 0x0f, 0x7f, 0x07, // movdqu [rdi], xmm0
    0xf3, 0x0f, 0x7f, 0x4f, 0x10, // movdqu [rdi+0x10], xmm1
    0xf3, 0x0f, 0x7f, 0x57, 0x20, // movdqu [rdi+0x20], xmm2
    0xf3, 0x0f, 0x7f, 0x5f, 0x30, // movdqu [rdi+0x30], xmm3
    0xf3, 0x0f, 0x7f, 0x7f, 0x40, // movdqu [rdi+0x40], xmm7
    0xf3, 0x44, 0x0f, 0x7f, 0x47, 0x50, // movdqu [rdi+0x50], xmm8
    0xf3, 0x44, 0x0f, 0x7f, 0x77, 0x60, // movdqu [rdi+0x60], xmm14
    0xf3, 0x44, 0x0f, 0x7f, 0x7f, 0x70, // movdqu [rdi+0x70], xmm15
    0x0f, 0xae, 0x9f, 0x80, 0x00, 0x00, 0x00, // stmxcsr [rdi+0x80]
    0xd9, 0xbf, 0x84, 0x00, 0x00, 0x00, // fnstcw [rdi+0x84]
    0xc3, // ret
    0xcc, 0xcc, 0xcc, 0xcc,
];

/// Where the functions lie within their page.
const HOLD_AT: usize = 0;
const LOAD_AT: usize = 256;
const STORE_AT: usize = 512;

/// What [`LOAD`] and [`STORE`] move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
struct State {
    registers: [u8; BYTES],
    /// Control and status of the vector unit.
    mxcsr: u32,
    /// Control word of the x87 unit.
    control: u16,
    reserved: u16,
}

impl State {
    /// What a thread finds at its first use (Intel SDM vol. 1, 8.1.5 and 10.2.3).
    const FIRST: State = State {
        registers: [0; BYTES],
        mxcsr: 0x1f80,
        control: 0x37f,
        reserved: 0,
    };

    /// Makes values that differ by seed and round, rounding modes included.
    fn pattern(seed: u64, round: u64) -> State {
        let mode = (seed + round) % 4;
        let mut state = State {
            mxcsr: 0x1f80 | (mode as u32) << 13,
            control: 0x37f | (mode as u16) << 10,
            ..State::FIRST
        };
        for (index, byte) in state.registers.iter_mut().enumerate() {
            *byte = (seed * 31 + round * 7 + index as u64) as u8;
        }
        state
    }
}

/// The functions that reach the registers.
struct Registers {
    load: extern "C" fn(from: *const State),
    store: extern "C" fn(to: *mut State),
}

impl Registers {
    fn set(&self, state: &State) {
        (self.load)(state);
    }

    fn get(&self) -> State {
        let mut state = State::FIRST;
        (self.store)(&raw mut state);
        state
    }
}

type Hold = extern "C" fn(from: *const u8, to: *mut u8, turns: u64);

/// Keeps patterns made of the first argument in the registers, as often as the second says, for
/// as many turns each as the third says.
pub(super) fn hold(role: &Role<'_>) -> Result<i32, i32> {
    let hold = make_code(role)?;
    for round in 0..role.argument(1) {
        let mut from = [0_u8; BYTES];
        for (index, byte) in from.iter_mut().enumerate() {
            *byte = (role.argument(0) * 31 + round * 7 + index as u64) as u8;
        }
        let mut to = [0_u8; BYTES];
        hold(from.as_ptr(), to.as_mut_ptr(), role.argument(2).max(1));
        if from != to {
            return Ok(WRONG);
        }
    }
    Ok(0)
}

/// Makes as many calls as the second argument says with patterns made of the first argument in
/// the registers, and finds them unchanged after each.
pub(super) fn call(role: &Role<'_>) -> Result<i32, i32> {
    let server: Handle<Sender> = role.take("server")?;
    let registers = make_registers(role)?;
    if registers.get() != State::FIRST {
        return Ok(WRONG);
    }
    for round in 0..role.argument(1) {
        let state = State::pattern(role.argument(0), round);
        registers.set(&state);
        let answer = wire::call_with(&server, ask::WHO, &[], &Outgoing::NONE, NEVER);
        if registers.get() != state || answer.map_err(|_| WRONG)?.word(0) != 1 {
            return Ok(WRONG);
        }
    }
    Ok(0)
}

/// Answers calls with patterns made of the first argument in the registers; tells each caller
/// whether they are what they were when the last one was answered.
pub(super) fn serve(role: &Role<'_>) -> Result<i32, i32> {
    let endpoint: Handle<Endpoint> = role.take("endpoint")?;
    let registers = make_registers(role)?;
    let mut expected = State::FIRST;
    let mut round = 0;
    loop {
        let request = match ipc::receive(&endpoint, NEVER) {
            Ok(Received::Request(request)) => request,
            Ok(_) => continue,
            Err(_) => return Err(WRONG),
        };
        let is_kept = registers.get() == expected;
        round += 1;
        expected = State::pattern(role.argument(0), round);
        registers.set(&expected);
        let bytes = wire::put_words(&[is_kept.into()]);
        ipc::reply(request.reply, 0, bytes, &Outgoing::NONE).map_err(|_| WRONG)?;
    }
}

/// Writes the functions into a page and makes it executable.
fn make_page(role: &Role<'_>) -> Result<(), i32> {
    let memory = role.program.memory().map_err(|_| BAD_ROLE)?;
    memory
        .map_anonymous(REGION, 1, Protection::ReadWrite)
        .map_err(|_| WRONG)?;
    let mut page = [0xcc_u8; PAGE_SIZE];
    page[HOLD_AT..HOLD_AT + CODE.len()].copy_from_slice(&CODE);
    page[LOAD_AT..LOAD_AT + LOAD.len()].copy_from_slice(&LOAD);
    page[STORE_AT..STORE_AT + STORE.len()].copy_from_slice(&STORE);
    let place = core::ptr::with_exposed_provenance_mut::<[u8; PAGE_SIZE]>(REGION as usize);
    // SAFETY: the page was made writable just now and nothing else uses it.
    unsafe { place.write(page) };
    memory
        .protect(REGION, 1, Protection::ReadExecute)
        .map_err(|_| WRONG)
}

fn function(offset: usize) -> *const () {
    core::ptr::with_exposed_provenance(REGION as usize + offset)
}

fn make_code(role: &Role<'_>) -> Result<Hold, i32> {
    make_page(role)?;
    // SAFETY: the page holds the code of a function of this type there and is executable; it
    // stays so.
    Ok(unsafe { core::mem::transmute::<*const (), Hold>(function(HOLD_AT)) })
}

fn make_registers(role: &Role<'_>) -> Result<Registers, i32> {
    make_page(role)?;
    // SAFETY: as in `make_code`.
    let load = unsafe {
        core::mem::transmute::<*const (), extern "C" fn(*const State)>(function(LOAD_AT))
    };
    // SAFETY: as in `make_code`.
    let store =
        unsafe { core::mem::transmute::<*const (), extern "C" fn(*mut State)>(function(STORE_AT)) };
    Ok(Registers { load, store })
}
