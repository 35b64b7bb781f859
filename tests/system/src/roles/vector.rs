//! A program that keeps numbers in vector registers while others run.
//!
//! Programs are built without vector instructions, so the few that are needed here are written
//! into memory at run time, which also shows that memory can become code: first writable, then
//! executable, never both.

use libipc::proto::memory::Protection;

use super::memory::REGION;
use super::{BAD_ROLE, Role, WRONG};

/// Bytes that the code loads and stores: eight registers.
const BYTES: usize = 128;

/// `fn(from: *const u8, to: *mut u8, turns: u64)`: loads eight registers from `from`, waits, and
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

fn make_code(role: &Role<'_>) -> Result<Hold, i32> {
    let memory = role.program.memory().map_err(|_| BAD_ROLE)?;
    memory
        .map_anonymous(REGION, 1, Protection::ReadWrite)
        .map_err(|_| WRONG)?;
    let place = core::ptr::with_exposed_provenance_mut::<[u8; CODE.len()]>(REGION as usize);
    // SAFETY: the page was made writable just now and nothing else uses it.
    unsafe { place.write(CODE) };
    memory
        .protect(REGION, 1, Protection::ReadExecute)
        .map_err(|_| WRONG)?;
    // SAFETY: the page holds the code of a function of this type and is executable; it stays so.
    Ok(unsafe { core::mem::transmute::<*mut [u8; CODE.len()], Hold>(place) })
}
