//! A workload of `siege`: works until it is told to stop, and counts what goes wrong.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

mod busy;
mod crowd;
mod disk;
mod hoard;
mod lines;
mod once;
mod paging;
mod tree;
mod worker;

use alloc::string::String;

use libsys::mappings::Mapping;
use libsys::{Handle, MapFlags, Memory, time};
use siege::greed::HOARD;
use siege::tally::{Phase, Tally};
use siege::{Greed, Load, load};
use skink_program::launch::SHARED;
use skink_program::{Failed, Outcome, Program};

use crate::worker::Worker;

const HELP: &str = "\
Usage: siege-load LOAD SEED
       siege-load crowd SEED FILES
       siege-load exit CODE
       siege-load hoard WHAT MS

Works until it is told to stop, for `siege`, which starts it. The second form keeps
so many files open, the third one ends at once with an exit code. The last one takes
all it can get of something (frames, pages, objects, handles, files), keeps it for so
many milliseconds, and gives it back.
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    if let [first, what, ms] = program.arguments()
        && first == HOARD
    {
        let greed = Greed::named(what).ok_or_else(|| Failed::usage("greedy for what?"))?;
        let ms: u64 = ms
            .parse()
            .map_err(|_| Failed::usage("for how many milliseconds?"))?;
        return hoard::run(program, greed, ms.saturating_mul(time::MS));
    }
    let [what, number, rest @ ..] = program.arguments() else {
        return Err(Failed::usage("which workload?"));
    };
    let parse = |text: &String| text.parse::<u64>();
    let no_number = |_| Failed::usage("behind the workload come numbers");
    let number = parse(number).map_err(no_number)?;
    let open = rest.first().map_or(Ok(0), parse).map_err(no_number)? as usize;
    if what == load::EXIT {
        return Ok(i32::try_from(number).unwrap_or(i32::MAX));
    }
    let load = Load::named(what).ok_or_else(|| Failed::usage("no such workload"))?;
    let shared: Handle<Memory> = program.take(SHARED)?;
    let mapping = Mapping::map(&shared, MapFlags::READ | MapFlags::WRITE)?;
    let tally = Tally::new(mapping.atomic_words())
        .ok_or_else(|| Failed::new("too little memory to count in"))?;
    let worker = Worker::new(tally, number);
    match load {
        Load::Paging => paging::run(program, worker)?,
        Load::Disk => disk::run(program, worker)?,
        Load::Tree => tree::run(program, worker)?,
        Load::Once => once::run(program, worker)?,
        Load::Lines => lines::run(program, worker)?,
        Load::Crowd => crowd::run(program, worker, open)?,
        Load::Busy => busy::run(&worker),
    }
    tally.enter(Phase::Done);
    program.finish()
}
