//! Everything that a machine boots from, made ready.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use skink_qemu::{Accelerator, Artefacts, Console, Exit, Machine, disk, exec_word};

use crate::build::build;
use crate::setup::{self, OVMF, Tool};
use crate::workspace::Workspace;

/// How long the probe of the accelerator may take.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Installs QEMU, builds the bundle, and probes the accelerator.
pub(crate) fn prepare(workspace: &Workspace) -> anyhow::Result<Artefacts> {
    setup::need(&[Tool::Qemu])?;
    let built = build(workspace)?;
    let output = workspace.output()?;
    let mut artefacts = Artefacts {
        loader: built.loader,
        bundle: built.bundle,
        iso: None,
        uefi: None,
        sample_disk: output.join("sample.img"),
        scratch: output.join("scratch"),
        logs: output.join("logs"),
        accelerator: Accelerator::Tcg,
    };
    fs::create_dir_all(&artefacts.scratch)?;
    fs::create_dir_all(&artefacts.logs)?;
    artefacts.accelerator = accelerator(&artefacts)?;
    Ok(artefacts)
}

/// Makes the disk with sample files.
pub(crate) fn make_sample_disk(artefacts: &Artefacts) -> anyhow::Result<()> {
    if artefacts.sample_disk.exists() {
        return Ok(());
    }
    setup::need(&[Tool::Mkfs])?;
    eprintln!(
        "making a disk with sample files: {}",
        artefacts.sample_disk.display()
    );
    disk::make_sample(&artefacts.sample_disk)
}

/// Returns the installed UEFI firmware: code, then variables.
pub(crate) fn uefi_firmware() -> anyhow::Result<Option<(std::path::PathBuf, std::path::PathBuf)>> {
    setup::need(&[Tool::Ovmf])?;
    let found = OVMF
        .iter()
        .find(|(code, _)| std::path::Path::new(code).exists());
    Ok(found.map(|(code, variables)| (code.into(), variables.into())))
}

/// Returns KVM when a machine really boots with it. The presence of `/dev/kvm` proves nothing;
/// the outcome of the probe is kept, as it costs seconds where KVM is broken.
fn accelerator(artefacts: &Artefacts) -> anyhow::Result<Accelerator> {
    if !std::path::Path::new("/dev/kvm").exists() {
        return Ok(Accelerator::Tcg);
    }
    let cache = artefacts.scratch.join("kvm-probe");
    let works = match fs::read_to_string(&cache) {
        Ok(outcome) => outcome == "works",
        Err(_) => {
            let works = probe_kvm(artefacts)?;
            fs::write(&cache, if works { "works" } else { "broken" })?;
            works
        }
    };
    Ok(if works {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    })
}

/// Boots the whole system with KVM, lets it run a program and power off. Less proves too little:
/// there are hosts where KVM runs the loader and then stumbles over single instructions of the
/// kernel.
fn probe_kvm(artefacts: &Artefacts) -> anyhow::Result<bool> {
    let with_kvm = Artefacts {
        accelerator: Accelerator::Kvm,
        ..artefacts.clone()
    };
    let machine = Machine {
        command_line: exec_word("ps"),
        ..Machine::new(&with_kvm, "kvm-probe")
    };
    let mut child = machine
        .command(&with_kvm, Console::Pipes)?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let started = Instant::now();
    while started.elapsed() < PROBE_LIMIT {
        if let Some(status) = child.try_wait()? {
            return Ok(Exit::from_status(status) == Exit::Orderly(0));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}
