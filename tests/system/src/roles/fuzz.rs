//! A program that makes system calls at random.
//!
//! It may well end itself, by unmapping its own code for example. What counts is that the kernel
//! and everyone else live on.

use alloc::vec::Vec;

use libsys::abi::layout::{
    HEAP, IMAGE_BASE, MAPPINGS, STACK_TOP, STARTUP, THREAD_CONTROL, USER_END,
};
use libsys::abi::{BatchEntry, MAX_BATCH, PAGE_SIZE, Syscall};
use libsys::ipc;

use super::Role;
use super::hostile::{KERNEL, NON_CANONICAL};
use crate::random::Random;
use crate::raw;

/// Makes as many calls as the second argument says, from the seed in the first.
pub(super) fn run(role: &Role<'_>) -> Result<i32, i32> {
    let mut random = Random::new(role.argument(0));
    let handles: Vec<u64> = role
        .program
        .startup()
        .handles
        .iter()
        .map(|(_, raw)| u64::from(*raw))
        .collect();
    for _ in 0..role.argument(1) {
        let number = number(&mut random);
        let mut arguments = [0; 6].map(|_: u64| argument(&mut random, &handles));
        soften(number, &mut arguments, &mut random);
        if number == Syscall::Batch as u64 {
            fill_page(&mut random, &handles);
            arguments[0] = random.below(MAX_BATCH as u64 + 2);
        }
        // SAFETY: none is promised: this process may fail in any way, and the test expects it.
        unsafe { raw::syscall(number, arguments) };
    }
    Ok(0)
}

fn number(random: &mut Random) -> u64 {
    if random.below(16) == 0 {
        return random.next() >> random.below(64);
    }
    loop {
        match random.pick(Syscall::ALL) {
            // They would end the run at once; the log is for people.
            Syscall::ProcessExit | Syscall::ThreadExit | Syscall::DebugLog => {}
            call => return call as u64,
        }
    }
}

/// Keeps calls from waiting for ever, which would be legal and would teach nothing.
fn soften(number: u64, arguments: &mut [u64; 6], random: &mut Random) {
    let deadline = random.pick(&[0, 1, 1_000]);
    match Syscall::from_number(number) {
        Some(Syscall::Call | Syscall::ReplyReceive | Syscall::Receive) => arguments[2] = deadline,
        Some(Syscall::Wait) => arguments[1] = deadline,
        _ => {}
    }
}

/// Fills the IPC page with calls, so that a batch has something to do.
fn fill_page(random: &mut Random, handles: &[u64]) {
    ipc::with_page(|page| {
        for entry in page.as_chunks_mut::<{ size_of::<BatchEntry>() }>().0 {
            let (call, arguments) = entry.split_at_mut(8);
            call.copy_from_slice(&number(random).to_le_bytes());
            for word in arguments.as_chunks_mut::<8>().0 {
                *word = argument(random, handles).to_le_bytes();
            }
        }
    });
}

fn argument(random: &mut Random, handles: &[u64]) -> u64 {
    const PAGE: u64 = PAGE_SIZE as u64;
    const PLACES: [u64; 10] = [
        HEAP,
        IMAGE_BASE,
        MAPPINGS,
        STACK_TOP - PAGE,
        STARTUP,
        THREAD_CONTROL,
        USER_END - PAGE,
        KERNEL,
        NON_CANONICAL,
        u64::MAX - PAGE + 1,
    ];
    match random.below(8) {
        0 | 1 if !handles.is_empty() => random.pick(handles),
        // Two handles in one word, as replies with a receive have them.
        2 if !handles.is_empty() => random.pick(handles) | random.pick(handles) << 32,
        3 => random.below(20),
        4 => random.pick(&PLACES) + random.below(3) * PAGE + random.pick(&[0, 0, 0, 1, 8, 4095]),
        5 => 1 << random.below(64),
        6 => (1_u64 << random.below(64)).wrapping_sub(random.below(3)),
        _ => random.next() >> random.below(64),
    }
}
