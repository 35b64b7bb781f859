//! Where things are, and child cargos.

use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// Start of the one compiler warning that cannot be switched off: guest code does without the
/// vector registers that this target normally has. The post-link check proves that it works.
const VECTOR_WARNING: &str = "target feature `sse2` must be enabled";
/// Target used for guest code when it is installed.
const BARE_TARGET: &str = "x86_64-unknown-none";
/// Target used otherwise, with the flags of `bare.toml`.
const HOSTED_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The workspace as cargo sees it.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder with the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// Names of the packages that are built for the guest.
    pub(crate) guests: Vec<String>,
    /// The target triple of guest code.
    pub(crate) guest_target: &'static str,
}

impl Workspace {
    /// Asks cargo about the workspace.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../..")
            .canonicalize()?;
        let output = cargo(&root)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        ensure!(output.status.success(), "cargo cannot read the workspace");
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let target = metadata["target_directory"]
            .as_str()
            .context("no target folder")?
            .into();
        let packages = metadata["packages"].as_array().context("no packages")?;
        let guests = packages.iter().filter_map(guest).collect();
        Ok(Self {
            root,
            target,
            guests,
            guest_target: guest_target(),
        })
    }

    /// Returns the folder of everything made for the machine, which exists.
    pub(crate) fn output(&self) -> anyhow::Result<PathBuf> {
        let folder = self.target.join("skink");
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Returns a cargo command that leaves the environment's compiler flags out.
    pub(crate) fn cargo(&self) -> Command {
        cargo(&self.root)
    }

    /// Returns a cargo command for all guest packages.
    pub(crate) fn guest_cargo(&self, subcommand: &str) -> Command {
        let mut command = self.cargo();
        command.args([
            subcommand,
            "--config",
            ".cargo/bare.toml",
            "--profile",
            "bare",
        ]);
        command.args(["--target", self.guest_target]);
        for guest in &self.guests {
            command.args(["--package", guest]);
        }
        command
    }
}

/// Returns the name of a package that links by `skink-link`, which is what makes it a guest.
fn guest(package: &Value) -> Option<String> {
    let is_guest = package["dependencies"]
        .as_array()?
        .iter()
        .any(|dependency| dependency["name"] == "skink-link" && dependency["kind"] == "build");
    let name = package["name"].as_str()?;
    is_guest.then(|| name.to_owned())
}

fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    // They would take the place of the flags of bare.toml.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(root);
    command
}

fn guest_target() -> &'static str {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", BARE_TARGET])
        .output();
    let folder = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let has_core = |folder: String| {
        std::fs::read_dir(folder).is_ok_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
            })
        })
    };
    if folder.is_ok_and(has_core) {
        BARE_TARGET
    } else {
        HOSTED_TARGET
    }
}

/// Runs a cargo command that compiles, shows its progress and diagnostics, and returns the
/// executables that it made.
///
/// `behind` are arguments for the compiler or linter itself, which go behind `--`.
pub(crate) fn compile(
    mut command: Command,
    behind: &[&str],
    what: &str,
) -> anyhow::Result<Vec<Executable>> {
    let is_terminal = std::io::stderr().is_terminal();
    let format = if is_terminal {
        "json-diagnostic-rendered-ansi"
    } else {
        "json"
    };
    let mut child = command
        .args(["--quiet", "--message-format", format, "--"])
        .args(behind)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let bar = spinner(what);
    let mut executables = Vec::new();
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    for line in BufReader::new(stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else {
            continue;
        };
        if let Some(text) = diagnostic(&message) {
            bar.suspend(|| eprint!("{text}"));
        }
        if message["reason"] == "compiler-artifact" {
            bar.set_message(format!(
                "{what}: {}",
                message["target"]["name"].as_str().unwrap_or("")
            ));
            executables.extend(executable(&message));
        }
    }
    bar.finish_and_clear();
    ensure!(child.wait()?.success(), "{what} failed");
    Ok(executables)
}

/// A program that cargo has linked.
#[derive(Clone, Debug)]
pub(crate) struct Executable {
    /// The folder of its package.
    pub(crate) folder: PathBuf,
    /// The linked file; its name is the program's.
    pub(crate) file: PathBuf,
}

impl Executable {
    /// Returns the program's name.
    pub(crate) fn name(&self) -> String {
        self.file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

fn executable(message: &Value) -> Option<Executable> {
    let file = message["executable"].as_str()?.into();
    let folder = Path::new(message["manifest_path"].as_str()?)
        .parent()?
        .to_owned();
    Some(Executable { folder, file })
}

/// Returns the text of a compiler message that is worth showing.
fn diagnostic(message: &Value) -> Option<&str> {
    if message["reason"] != "compiler-message" {
        return None;
    }
    let summary = message["message"]["message"].as_str()?;
    let is_noise = summary.starts_with(VECTOR_WARNING) || summary.ends_with("warning emitted");
    if is_noise {
        None
    } else {
        message["message"]["rendered"].as_str()
    }
}

/// Returns a turning wheel with a text, for work of unknown length.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Runs a command to its end and fails, naming it, when it fails.
pub(crate) fn succeed(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("{what}: cannot start the command"))?;
    ensure!(status.success(), "{what} failed");
    Ok(())
}
