//! Runs one input, for fuzzers that start a program for each: `skink-fuzz INTERFACE < INPUT`.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use skink_fuzz::{Target, targets};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let known = arguments.first().and_then(|name| find(name));
    let outcome = match (known, &arguments[1.min(arguments.len())..]) {
        (Some(mut target), []) => read().map(|input| target.run(&input)),
        (Some(target), [option, folder]) if option == "--corpus" => write(&target, folder.as_ref()),
        _ => {
            eprintln!("usage: skink-fuzz INTERFACE [--corpus FOLDER] < INPUT\ninterfaces:");
            targets()
                .iter()
                .for_each(|target| eprintln!("  {}", target.name));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skink-fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

fn find(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

fn read() -> io::Result<Vec<u8>> {
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    Ok(input)
}

fn write(target: &Target, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (number, input) in target.corpus().iter().enumerate() {
        std::fs::write(folder.join(format!("{number:04}")), input)?;
    }
    Ok(())
}
