//! Swaps of services to other versions.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use libipc::files::Files;
use libipc::proto::block::BlockSchema;
use libipc::proto::console::ConsoleSchema;
use libipc::proto::disk::DiskSchema;
use libipc::proto::file_system::FileSystemSchema;
use libipc::proto::init::{
    InitClient, ServiceVersion, SwapOutcome, SwapPhase, SwapReason, SwapReport,
};
use libipc::proto::log::LogSchema;
use libipc::proto::pci::PciSchema;
use libipc::proto::vfs::{OpenOptions, VfsSchema};
use libipc::schema::Interface;
use libsys::abi::PAGE_SIZE;
use sha2::{Digest as _, Sha256};
use skink_program::{Failed, Program, human};

use crate::report::{cause, digest};

/// Bytes of a file that are read at once.
const PART_BYTES: usize = 64 * 1024;

/// Returns which programs all services run.
pub(crate) fn versions(init: &InitClient) -> Result<Vec<ServiceVersion>, Failed> {
    Ok(init.versions().collect::<Result<_, _>>()?)
}

/// Swaps a service to an image of the boot bundle, or to a file when the name has a slash.
pub(crate) fn swap(program: &mut Program, name: &str, image: &str) -> Result<(), Failed> {
    let init = program.init()?;
    let report = if image.contains('/') {
        swap_to_file(program, &init, name, image)?
    } else {
        init.swap(name, image)
            .map_err(|failure| Failed::from(failure).about(format!("{name}: {image}")))?
    };
    tell(program, name, &report)
}

/// Goes back to the version before the last swap.
pub(crate) fn rollback(program: &mut Program, name: &str) -> Result<(), Failed> {
    let report = program.init()?.rollback(name);
    let report = report.map_err(|failure| Failed::from(failure).about(name))?;
    tell(program, name, &report)
}

/// Shows which version of a service runs, and which one ran before.
pub(crate) fn info(program: &mut Program, names: &[String]) -> Result<(), Failed> {
    let all = versions(&program.init()?)?;
    for name in names {
        let Some(version) = all.iter().find(|version| version.name == *name) else {
            program.complain(format!("{name}: no such service"));
            continue;
        };
        let mut text = format!("{name}: {}", describe(&version.image, version.digest));
        if let Some((image, digest)) = &version.previous {
            text += &format!("; before that {}", describe(image, *digest));
        }
        text.push('\n');
        program.out().write_bytes(text.as_bytes())?;
    }
    Ok(())
}

fn describe(image: &str, sum: u64) -> String {
    let image = if image.is_empty() {
        "from a file"
    } else {
        image
    };
    format!("{image} ({})", digest(sum))
}

fn swap_to_file(
    program: &mut Program,
    init: &InitClient,
    name: &str,
    path: &str,
) -> Result<SwapReport, Failed> {
    let bytes = read_file(program, path)?;
    if bytes.is_empty() {
        return Err(Failed::new(format!("{path}: empty file")));
    }
    let pages = bytes.len().div_ceil(PAGE_SIZE) as u64;
    let memory = program.memory()?.create_object(pages)?;
    memory
        .write(0, &bytes)
        .map_err(|error| Failed::new(format!("{path}: {error}")))?;
    let sum = Sha256::digest(&bytes).into();
    init.swap_memory(name, &memory, bytes.len() as u64, sum)
        .map_err(|failure| Failed::from(failure).about(name))
}

fn read_file(program: &Program, path: &str) -> Result<Vec<u8>, Failed> {
    // By messages: the way to the memory manager is needed for the image itself.
    let files = Files::new(program.vfs()?, None, program.cwd());
    let absolute = program.absolute(path);
    let about = |error| Failed::from(error).about(path);
    let mut file = files
        .open(absolute.as_bytes(), OpenOptions::read())
        .map_err(about)?;
    let (mut bytes, mut part) = (Vec::new(), vec![0; PART_BYTES]);
    loop {
        match file.read(&mut part).map_err(about)? {
            0 => return Ok(bytes),
            count => bytes.extend_from_slice(&part[..count]),
        }
    }
}

/// Tells what came of a swap.
fn tell(program: &mut Program, name: &str, report: &SwapReport) -> Result<(), Failed> {
    let pause = report.pause_ns.map_or_else(
        || "it was never stopped".to_string(),
        |ns| format!("pause {}", human::duration(ns)),
    );
    match report.outcome {
        SwapOutcome::Committed => {
            let mut text = format!(
                "{name}: new version serves; {pause}, {} of state, {} altogether\n",
                human::size(report.state_bytes),
                human::duration(report.took_ns)
            );
            if report.is_exported {
                text += "the old version wrote its state in the older schema\n";
            }
            if report.has_other_interface {
                text += "the new version has another version of the interface\n";
            }
            program.out().write_bytes(text.as_bytes())
        }
        SwapOutcome::RolledBack { phase, reason } => {
            let (phase, reason) = (phase_text(phase), reason_text(reason));
            Err(Failed::new(format!(
                "{name}: {phase}: {reason}; the old version serves on, {pause}"
            )))
        }
    }
}

fn phase_text(phase: SwapPhase) -> &'static str {
    match phase {
        SwapPhase::Verify => "checking the image",
        SwapPhase::Start => "starting the new version",
        SwapPhase::Announce => "waiting for the new version to report",
        SwapPhase::Quiesce => "bringing the old version to rest",
        SwapPhase::Copy => "copying the state",
        SwapPhase::Migrate => "reading the state in the new version",
        SwapPhase::Test => "testing the new version",
        SwapPhase::Commit => "switching to the new version",
    }
}

fn reason_text(reason: SwapReason) -> String {
    match reason {
        SwapReason::TimedOut => "took too long".into(),
        SwapReason::NewDied(why) => format!("the new version ended ({})", cause(why)),
        SwapReason::OldDied => "the old version ended and was started again".into(),
        SwapReason::Asked => "given up on request".into(),
        SwapReason::WrongDigest => "the SHA-256 of the image is not what was said".into(),
        SwapReason::NotListed => {
            "the image is not listed in the boot bundle (allowed by allow-unlisted-images)".into()
        }
        SwapReason::NotAProgram => "it is no program".into(),
        SwapReason::TooLarge { needed, reserved } => {
            format!("it needs {needed} pages, reserved for the service are {reserved}")
        }
        SwapReason::NoMemory => "not enough memory".into(),
        SwapReason::NotStarted => "it could not be started".into(),
        SwapReason::OtherInterface => "it serves another interface".into(),
        SwapReason::UnknownSchema => {
            "it cannot read the state, and the old version cannot write it for it".into()
        }
        SwapReason::StateLost => "it would lose a part of the state".into(),
        SwapReason::SelfTest => "its self-test failed".into(),
        SwapReason::CannotServe => "it lacks something that it needs".into(),
        SwapReason::Nonsense => "it reported nonsense".into(),
        SwapReason::NotCopied => "the state could not be copied".into(),
        SwapReason::OtherVersion {
            interface,
            old,
            new,
        } => format!(
            "it serves version {new} of {}, and version {old} is not the beginning of that",
            interface_name(interface)
        ),
    }
}

/// Returns the name of an interface, by the upper half of its labels.
fn interface_name(id: u16) -> String {
    let known = [
        BlockSchema::SCHEMA,
        ConsoleSchema::SCHEMA,
        DiskSchema::SCHEMA,
        FileSystemSchema::SCHEMA,
        LogSchema::SCHEMA,
        PciSchema::SCHEMA,
        VfsSchema::SCHEMA,
    ];
    let found = known.into_iter().find(|schema| schema.id == id);
    found.map_or_else(
        || format!("interface {id:#06x}"),
        |schema| schema.name.to_string(),
    )
}
