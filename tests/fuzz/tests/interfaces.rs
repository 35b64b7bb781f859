//! One test for the decoders of each interface.

use std::time::{Duration, Instant};

use skink_fuzz::{MOST_MEMORY, Mutator, Target, memory, targets};

/// Inputs for each interface in a run without a time.
const INPUTS: usize = 20_000;
/// The seed of such a run.
const SEED: u64 = 1;

/// Says how to have the same run again when something was found.
struct Report<'a> {
    name: &'a str,
    seed: u64,
    input: Vec<u8>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Report { name, seed, input } = self;
            eprintln!("{name}: SKINK_FUZZ_SEED={seed}, input {input:02x?}");
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fuzz(name: &str) {
    let mut target = find(name);
    let time = number("SKINK_FUZZ_SECONDS").map(Duration::from_secs);
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(SEED, |now| now.as_nanos() as u64);
    let made_up = if time.is_some() { now } else { SEED };
    let seed = number("SKINK_FUZZ_SEED").unwrap_or(made_up);
    println!("{name}: SKINK_FUZZ_SEED={seed}");
    let mut report = Report {
        name,
        seed,
        input: Vec::new(),
    };
    let corpus = target.corpus();
    for input in &corpus {
        report.input.clone_from(input);
        target.run(input);
    }
    let mut mutator = Mutator::new(corpus, seed);
    let start = Instant::now();
    let mut count = 0;
    while time.map_or(count < INPUTS, |time| start.elapsed() < time) {
        report.input = mutator.input();
        target.run(&report.input);
        count += 1;
    }
}

fn find(name: &str) -> Target {
    let mut targets = targets().into_iter();
    targets
        .find(|target| target.name == name)
        .expect("there is such an interface")
}

macro_rules! interfaces {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name));
            }
        )*

        #[test]
        fn every_interface_has_a_test() {
            let names: Vec<_> = targets().iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

interfaces!(
    block,
    console,
    disk,
    file_system,
    init,
    log,
    memory,
    pci,
    vfs
);

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let run = |seed| {
        let mut mutator = Mutator::new(find("log").corpus(), seed);
        (0..100).map(|_| mutator.input()).collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn memory_that_code_takes_is_seen() {
    let ((), most) = memory::most_during(|| {
        drop(vec![0_u8; MOST_MEMORY]);
        drop(vec![0_u8; 1000]);
    });
    assert!((MOST_MEMORY..MOST_MEMORY + 5000).contains(&most), "{most}");
}
