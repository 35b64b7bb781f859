//! What to boot, as a QEMU command line, and how it ended.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use skink_abi::debug_exit;

/// What the build has made, and where the harness may write.
#[derive(Clone, Debug)]
pub struct Artefacts {
    /// The loader's ELF file.
    pub loader: PathBuf,
    /// The boot bundle.
    pub bundle: PathBuf,
    /// The bootable CD image, when it has been made.
    pub iso: Option<PathBuf>,
    /// The firmware of UEFI machines, when it is installed: code, then variables.
    pub uefi: Option<(PathBuf, PathBuf)>,
    /// The ext4 image with sample files.
    pub sample_disk: PathBuf,
    /// Folder for disks that scenarios make.
    pub scratch: PathBuf,
    /// Folder for serial logs.
    pub logs: PathBuf,
    /// How to run guest code.
    pub accelerator: Accelerator,
}

/// How QEMU runs guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the CPU's virtualisation.
    Kvm,
    /// By translation, one host thread per CPU.
    Tcg,
}

/// How the machine gets to the loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads it: PVH.
    Direct,
    /// GRUB on a CD, started by the BIOS.
    IsoBios,
    /// GRUB on a CD, started by UEFI firmware.
    IsoUefi,
}

/// What the first serial port is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The terminal, together with QEMU's monitor: control characters reach the guest.
    Terminal,
    /// Standard input and output, as pipes.
    Pipes,
}

/// A machine to boot.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory in QEMU's notation.
    pub memory: String,
    /// The virtio disk.
    pub disk: Option<PathBuf>,
    /// Whether the guest's writes reach the disk's file or are dropped at the end.
    pub disk_is_writable: bool,
    /// Words for the loader and the kernel; a CD image has its own.
    pub command_line: String,
    /// How to get to the loader.
    pub boot: Boot,
    /// Whether the clock counts instructions instead of following the host's.
    pub is_virtual: bool,
    /// Where the serial output is kept.
    pub log: PathBuf,
    /// More QEMU arguments.
    pub extra: Vec<String>,
}

impl Machine {
    /// Returns a machine with two CPUs, 256 MiB, no disk, and its log under a name.
    #[must_use]
    pub fn new(artefacts: &Artefacts, log_name: &str) -> Self {
        Self {
            cpus: 2,
            memory: "256M".to_owned(),
            disk: None,
            disk_is_writable: false,
            command_line: String::new(),
            boot: Boot::Direct,
            is_virtual: false,
            log: artefacts.logs.join(format!("{log_name}.log")),
            extra: Vec::new(),
        }
    }

    /// Returns the QEMU command that boots the machine.
    ///
    /// # Errors
    /// The boot way needs something that the build has not made, or UEFI's variables cannot be
    /// copied.
    pub fn command(&self, artefacts: &Artefacts, console: Console) -> anyhow::Result<Command> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-machine",
            "q35",
            "-cpu",
            "max",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.args([
            "-net",
            "none",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=0x04",
        ]);
        command.args(match artefacts.accelerator {
            Accelerator::Kvm if !self.is_virtual => ["-accel", "kvm"],
            _ => ["-accel", "tcg"],
        });
        if self.is_virtual {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        command.args(["-m", &self.memory, "-smp", &self.cpus.to_string()]);
        let log = argument_path(&self.log);
        let mux = match console {
            Console::Terminal => "mux=on,signal=off",
            Console::Pipes => "mux=off,signal=off",
        };
        command.args(["-chardev", &format!("stdio,id=console,{mux},logfile={log}")]);
        command.args(["-serial", "chardev:console"]);
        match console {
            Console::Terminal => command.args(["-mon", "chardev=console"]),
            Console::Pipes => command.args(["-monitor", "none"]),
        };
        if let Some(disk) = &self.disk {
            let snapshot = if self.disk_is_writable { "off" } else { "on" };
            let file = argument_path(disk);
            command.arg("-drive");
            command.arg(format!(
                "if=none,id=disk0,format=raw,snapshot={snapshot},file={file}"
            ));
            command.args(["-device", "virtio-blk-pci,drive=disk0,disable-legacy=on"]);
        }
        self.add_boot(&mut command, artefacts)?;
        command.args(&self.extra);
        Ok(command)
    }

    fn add_boot(&self, command: &mut Command, artefacts: &Artefacts) -> anyhow::Result<()> {
        if self.boot == Boot::Direct {
            command.arg("-kernel").arg(&artefacts.loader);
            command.arg("-initrd").arg(&artefacts.bundle);
            command.arg("-append").arg(&self.command_line);
            return Ok(());
        }
        let iso = artefacts
            .iso
            .as_ref()
            .ok_or_else(|| anyhow::anyhow!("no CD image was made"))?;
        command.arg("-cdrom").arg(iso);
        if self.boot == Boot::IsoUefi {
            let (code, variables) = artefacts
                .uefi
                .as_ref()
                .ok_or_else(|| anyhow::anyhow!("no UEFI firmware is installed"))?;
            // The firmware writes to its variables: each machine has its own copy.
            let copy = self.log.with_extension("uefi-variables");
            std::fs::copy(variables, &copy)?;
            for (file, read_only) in [(code.as_path(), "on"), (copy.as_path(), "off")] {
                let file = argument_path(file);
                command.arg("-drive");
                command.arg(format!(
                    "if=pflash,format=raw,readonly={read_only},file={file}"
                ));
            }
        }
        Ok(())
    }
}

/// Returns a path as part of a QEMU option, where commas are doubled.
fn argument_path(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Returns the kernel's command-line word that makes the shell run commands and power off.
///
/// The commands are hex-encoded, as the command line has no quoting.
#[must_use]
pub fn exec_word(commands: &str) -> String {
    let hex: String = commands.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("exec=hex:{hex}")
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest powered off with an exit code.
    Orderly(u32),
    /// The kernel panicked.
    Panic,
    /// The loader could not start the kernel.
    Loader,
    /// The machine powered off or was reset without saying how it went.
    Silent,
    /// QEMU itself failed or was killed.
    Qemu,
}

impl Exit {
    /// Reads QEMU's exit status.
    #[must_use]
    pub fn from_status(status: ExitStatus) -> Self {
        // QEMU turns a value written to the debug-exit port into `(value << 1) | 1`.
        match status.code().and_then(|code| u32::try_from(code).ok()) {
            Some(0) => Self::Silent,
            Some(code) if code % 2 == 1 => Self::from_value(code >> 1),
            _ => Self::Qemu,
        }
    }

    fn from_value(value: u32) -> Self {
        match value {
            debug_exit::PANIC => Self::Panic,
            debug_exit::LOADER => Self::Loader,
            _ => match value.checked_sub(debug_exit::ORDERLY) {
                Some(code) if code <= debug_exit::MAX_CODE => Self::Orderly(code),
                _ => Self::Qemu,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn exit_codes_are_told_apart() {
        let exit = |code: i32| Exit::from_status(ExitStatus::from_raw(code << 8));
        assert_eq!(exit(33), Exit::Orderly(0));
        assert_eq!(exit(63), Exit::Orderly(15));
        assert_eq!(exit(255), Exit::Panic);
        assert_eq!(exit(253), Exit::Loader);
        assert_eq!(exit(0), Exit::Silent);
        assert_eq!(exit(1), Exit::Qemu);
        assert_eq!(Exit::from_status(ExitStatus::from_raw(9)), Exit::Qemu);
    }

    #[test]
    fn commands_survive_the_command_line() {
        assert_eq!(exec_word("ls /"), "exec=hex:6c73202f");
    }
}
