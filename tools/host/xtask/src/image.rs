//! `cargo xtask image`: a CD image for BIOS and UEFI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use skink_qemu::Artefacts;

use crate::artefacts;
use crate::setup::{self, Tool};
use crate::workspace::{Workspace, spinner};

/// Both firmwares get a pixel screen if they have one; `all_video` is what UEFI needs for it.
const GRUB_CONFIGURATION: &str = "\
set timeout=0
insmod all_video
menuentry \"Skink\" {
    multiboot2 /boot/loader
    module2 /boot/bundle.img
}
";

/// Builds the image and says where it is.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let workspace = Workspace::load()?;
    let artefacts = artefacts::prepare(&workspace)?;
    println!("{}", make(&workspace, &artefacts)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Makes the image unless it is newer than what goes into it.
pub(crate) fn make(workspace: &Workspace, artefacts: &Artefacts) -> anyhow::Result<PathBuf> {
    setup::need(&[Tool::Grub])?;
    let output = workspace.output()?;
    let image = output.join("skink.iso");
    if is_newer(&image, &[&artefacts.loader, &artefacts.bundle])? {
        return Ok(image);
    }
    let tree = output.join("iso");
    fs::create_dir_all(tree.join("boot/grub"))?;
    fs::copy(&artefacts.loader, tree.join("boot/loader"))?;
    fs::copy(&artefacts.bundle, tree.join("boot/bundle.img"))?;
    fs::write(tree.join("boot/grub/grub.cfg"), GRUB_CONFIGURATION)?;
    let bar = spinner("making the CD image");
    let result = Command::new("grub-mkrescue")
        .arg("-o")
        .arg(&image)
        .arg(&tree)
        .output();
    bar.finish_and_clear();
    let result = result.context("cannot start grub-mkrescue")?;
    ensure!(
        result.status.success(),
        "grub-mkrescue: {}",
        String::from_utf8_lossy(&result.stderr)
    );
    Ok(image)
}

fn is_newer(file: &Path, inputs: &[&PathBuf]) -> anyhow::Result<bool> {
    let Ok(made) = fs::metadata(file).and_then(|metadata| metadata.modified()) else {
        return Ok(false);
    };
    let own = std::env::current_exe()?;
    for input in inputs.iter().copied().chain([&own]) {
        if fs::metadata(input)?.modified()? >= made {
            return Ok(false);
        }
    }
    Ok(true)
}
