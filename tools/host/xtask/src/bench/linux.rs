//! Linux in the same machine: Debian's kernel with one program, `linux-bench`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use skink_qemu::{Artefacts, Exit, Machine, Session};

use super::results::{GuestReport, LinuxResults, Mode, RunResults};
use super::{TIME_LIMIT, complain};
use crate::setup;
use crate::workspace::{Workspace, compile};

/// Where a static program for the host is built.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The serial port takes the results and nothing else; no time goes into mitigations of flaws
/// that the emulated CPU has not.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=0 mitigations=off tsc=reliable panic=-1";
/// Without `rep movsb`, which counts one instruction for each byte, Linux copies by eight bytes.
const CPU: &str = "max,-erms";
/// Memory of the machine: Debian's kernel unpacks itself and its file system.
const MEMORY: &str = "512M";

/// Boots Linux in each mode and reads what `linux-bench` prints. Returns whether everything could
/// be measured, too.
pub(crate) fn measure(
    workspace: &Workspace,
    artefacts: &Artefacts,
) -> anyhow::Result<(LinuxResults, bool)> {
    let folder = workspace.target.join("linux");
    let (kernel, version) = setup::linux_kernel(&folder)?;
    let initial = folder.join("initramfs.cpio");
    fs::write(&initial, archive(&fs::read(program(workspace)?)?)?)?;
    let artefacts = Artefacts {
        loader: kernel,
        bundle: initial,
        ..artefacts.clone()
    };
    let mut results = LinuxResults {
        kernel: version,
        runs: Vec::new(),
    };
    let mut is_complete = true;
    for mode in Mode::ALL {
        eprintln!("measuring Linux {}: {}", results.kernel, mode.about());
        let report = boot(&artefacts, mode)?;
        is_complete &= !complain(&report, mode);
        let metrics = report.metrics(mode)?;
        results.runs.push(RunResults { mode, metrics });
    }
    Ok((results, is_complete))
}

fn boot(artefacts: &Artefacts, mode: Mode) -> anyhow::Result<GuestReport> {
    let mut machine = Machine::new(artefacts, &format!("bench-linux-{}", mode.name()));
    machine.cpus = 1;
    machine.memory = MEMORY.to_owned();
    machine.command_line = COMMAND_LINE.to_owned();
    // QEMU takes the last one.
    machine.extra = vec!["-cpu".to_owned(), CPU.to_owned()];
    let arguments = mode.qemu_arguments().iter();
    machine
        .extra
        .extend(arguments.map(|&argument| argument.to_owned()));
    let mut session = Session::start(&machine, artefacts, TIME_LIMIT)?;
    let log = || format!("log: {}", machine.log.display());
    let exit = session.wait_for_end(|_| {}).with_context(log)?;
    ensure!(
        exit == Exit::Silent,
        "the machine ended with {exit:?}; {}",
        log()
    );
    GuestReport::parse(&session.transcript(), mode).with_context(log)
}

/// Builds `linux-bench` so that it needs nothing else, and returns its file.
fn program(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let flags = format!("target.{TARGET}.rustflags=['-C', 'target-feature=+crt-static']");
    let mut command = workspace.cargo();
    command.args(["build", "--release", "--package", "linux-bench"]);
    command.args(["--target", TARGET, "--config", &flags]);
    let programs = compile(command, &[], "building linux-bench")?;
    let program = programs
        .into_iter()
        .find(|program| program.name() == "linux-bench");
    Ok(program.context("linux-bench was not built")?.file)
}

/// A file's mode: a plain file that everybody may run.
const RUNNABLE: usize = 0o100_755;
/// Ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// Returns a cpio archive with one file, `init` (Linux's
/// Documentation/driver-api/early-userspace/buffer-format.rst).
fn archive(init: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Vec::new();
    add(&mut archive, "init", RUNNABLE, init)?;
    add(&mut archive, TRAILER, 0, &[])?;
    Ok(archive)
}

fn add(archive: &mut Vec<u8>, name: &str, mode: usize, content: &[u8]) -> anyhow::Result<()> {
    let name_bytes = name.len() + 1;
    let inode = 1;
    let links = 1;
    let size = u32::try_from(content.len()).context("the program is too large")?;
    archive.extend(b"070701");
    let fields = [
        inode,
        mode,
        0,
        0,
        links,
        0,
        size as usize,
        0,
        0,
        0,
        0,
        name_bytes,
        0,
    ];
    for field in fields {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes().chain([0]));
    pad(archive);
    archive.extend(content);
    pad(archive);
    Ok(())
}

/// Fills up to a multiple of four bytes.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// Returns the kernel in a folder of unpacked packages, and its version.
pub(crate) fn find_kernel(folder: &Path) -> Option<(PathBuf, String)> {
    let entries = fs::read_dir(folder).ok()?;
    let mut kernels: Vec<(PathBuf, String)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.strip_prefix("vmlinuz-")?;
            let version = version.to_owned();
            Some((path, version))
        })
        .collect();
    kernels.sort();
    kernels.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_layout_that_the_kernel_reads() {
        let archive = archive(b"12345").unwrap();
        let text = String::from_utf8(archive).unwrap();
        let (first, trailer) = text.split_at(124);
        // Header of 110 bytes, the name to a multiple of four, then the content to one.
        assert!(first.starts_with("07070100000001000081ed"), "{first}");
        assert_eq!(&first[54..62], "00000005");
        assert_eq!(&first[94..102], "00000005");
        assert_eq!(&first[110..], "init\0\0".to_owned() + "12345\0\0\0");
        assert_eq!(&trailer[110..121], "TRAILER!!!\0");
        assert!(text.len().is_multiple_of(4));
    }

    #[test]
    fn the_newest_kernel_is_found() {
        let folder = std::env::temp_dir().join(format!("find-kernel-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(find_kernel(&folder), None);
        for name in ["config-2", "vmlinuz-1.0", "vmlinuz-1.1"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let found = find_kernel(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.1, "1.1");
    }
}
