//! Finds the tools of the host and installs what is missing, saying so.
//!
//! Only what a command really needs is looked for. On Debian and its kin missing packages are
//! installed with `apt-get`, elsewhere they are named. Nothing is ever asked on standard input.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::bench::linux;
use crate::workspace::succeed;

/// Something that must be installed on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// The machine.
    Qemu,
    /// Makes ext4 images.
    Mkfs,
    /// Makes CD images for BIOS and UEFI.
    Grub,
    /// The firmware of UEFI machines.
    Ovmf,
    /// The debugger.
    Gdb,
    /// The model checker.
    Spin,
}

impl Tool {
    /// Pairs of what proves a part to be there (a program, or one of several files) and the
    /// Debian package that has it.
    fn parts(self) -> &'static [(&'static [&'static str], &'static str)] {
        match self {
            Self::Qemu => &[(&["qemu-system-x86_64"], "qemu-system-x86")],
            Self::Mkfs => &[(&["mkfs.ext4"], "e2fsprogs")],
            Self::Grub => &[
                (&["grub-mkrescue"], "grub-common"),
                (&["/usr/lib/grub/i386-pc/moddep.lst"], "grub-pc-bin"),
                (
                    &["/usr/lib/grub/x86_64-efi/moddep.lst"],
                    "grub-efi-amd64-bin",
                ),
                (&["xorriso"], "xorriso"),
                (&["mformat"], "mtools"),
            ],
            Self::Ovmf => &[(&[OVMF[0].0, OVMF[1].0], "ovmf")],
            Self::Gdb => &[(&["gdb"], "gdb")],
            Self::Spin => &[(&["spin"], "spin")],
        }
    }
}

/// Where distributions keep the firmware: code, then variables.
pub(crate) const OVMF: [(&str, &str); 2] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
];

/// Makes sure that tools are installed.
pub(crate) fn need(tools: &[Tool]) -> anyhow::Result<()> {
    let mut missing: Vec<(&str, &str)> = Vec::new();
    for (proofs, package) in tools.iter().flat_map(|tool| tool.parts()) {
        if !proofs.iter().any(|proof| is_there(proof)) {
            missing.push((proofs[0], package));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    for (proof, package) in &missing {
        eprintln!("setup: {proof} is missing, it is in the package {package}");
    }
    if !is_there("apt-get") {
        bail!(
            "install these packages (Debian's names) and try again: {}",
            packages.join(" ")
        );
    }
    install(&packages)?;
    match missing.iter().find(|(proof, _)| !is_there(proof)) {
        // The first of several files may be absent when another one serves.
        Some((proof, package)) if tools.iter().all(|tool| !tool.has_alternative(proof)) => {
            bail!("{proof} is still missing after the installation of {package}")
        }
        _ => Ok(()),
    }
}

impl Tool {
    fn has_alternative(self, proof: &str) -> bool {
        self.parts()
            .iter()
            .any(|(proofs, _)| proofs.len() > 1 && proofs.contains(&proof))
    }
}

/// Tells whether a program is in the path or in the folders of system programs, or a file exists.
fn is_there(proof: &str) -> bool {
    if proof.starts_with('/') {
        return Path::new(proof).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .any(|folder| folder.join(proof).is_file())
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    if !has_package_lists() {
        update_lists()?;
    }
    eprintln!("setup: installing {}", packages.join(" "));
    let attempt = || {
        let mut command = apt_get()?;
        command
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages);
        succeed(&mut command, "apt-get install")
    };
    if attempt().is_err() {
        // Old lists name versions that the archive no longer has.
        update_lists()?;
        attempt().with_context(|| format!("install by hand: {}", packages.join(" ")))?;
    }
    Ok(())
}

fn update_lists() -> anyhow::Result<()> {
    eprintln!("setup: updating the package lists");
    succeed(apt_get()?.arg("update"), "apt-get update")
}

fn has_package_lists() -> bool {
    std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|mut lists| {
        lists.any(|list| list.is_ok_and(|l| l.file_name().to_string_lossy().contains("_Packages")))
    })
}

/// The package that needs the newest kernel, and the start of that one's name.
const LINUX: (&str, &str) = ("linux-image-amd64", "linux-image-");

/// Downloads Debian's kernel into a folder, if there is none, without installing it. Returns its
/// file and version.
pub(crate) fn linux_kernel(folder: &Path) -> anyhow::Result<(PathBuf, String)> {
    if let Some(found) = linux::find_kernel(folder) {
        return Ok(found);
    }
    std::fs::create_dir_all(folder)?;
    if !is_there("apt-get") {
        bail!(
            "put a Linux kernel into {} as vmlinuz-VERSION, and try again",
            folder.display()
        );
    }
    if !has_package_lists() {
        update_lists()?;
    }
    if download_kernel(folder).is_err() {
        // Old lists name versions that the archive no longer has.
        update_lists()?;
        download_kernel(folder)?;
    }
    linux::find_kernel(folder).context("there is no kernel in Debian's package")
}

fn download_kernel(folder: &Path) -> anyhow::Result<()> {
    let (newest, prefix) = LINUX;
    let output = Command::new("apt-cache")
        .args(["depends", newest])
        .stdin(Stdio::null())
        .output()
        .context("cannot start apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let package = text.lines().find_map(|line| {
        let package = line.trim().strip_prefix("Depends: ")?;
        package.starts_with(prefix).then_some(package)
    });
    let package = package.with_context(|| format!("apt-cache knows no {newest}"))?;
    eprintln!("setup: downloading {package}");
    let mut download = Command::new("apt-get");
    download
        .args(["--quiet=2", "download", package])
        .current_dir(folder)
        // It only says that it downloads with the rights of this user.
        .stderr(Stdio::null());
    succeed(&mut download, "apt-get download")?;
    // The kernel alone: the modules have a hundred times its size.
    let unpack = "for package in *.deb; do \
        dpkg-deb --fsys-tarfile \"$package\" | \
        tar --extract --strip-components=2 --wildcards './boot/vmlinuz-*' || exit 1; \
        rm \"$package\"; done";
    succeed(
        Command::new("sh").args(["-c", unpack]).current_dir(folder),
        "unpacking the kernel",
    )
}

/// Returns `apt-get` with the rights it needs; it asks no questions, nor does `sudo`.
fn apt_get() -> anyhow::Result<Command> {
    let id = Command::new("id")
        .arg("-u")
        .stderr(Stdio::null())
        .output()?;
    let is_root = id.stdout == b"0\n";
    let mut command = Command::new(if is_root { "apt-get" } else { "sudo" });
    if !is_root {
        command.args([
            "--non-interactive",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
        ]);
    }
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .arg("--quiet=2");
    Ok(command)
}
