//! From sources to the boot bundle: compile, check what was linked, strip, pack.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, ensure};
use skink_manifest::bundle::{BundleWriter, Kind};

use crate::post_link::{self, Rules};
use crate::strip::{Keep, strip};
use crate::workspace::{Executable, Workspace, compile};

/// What a build makes.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The loader's ELF file.
    pub(crate) loader: PathBuf,
    /// The kernel's ELF file with all debugging information.
    pub(crate) kernel: PathBuf,
    /// The ELF files of `init`, servers and programs, likewise.
    pub(crate) programs: Vec<PathBuf>,
    /// The boot bundle.
    pub(crate) bundle: PathBuf,
}

/// The part of an executable in the system, by the folder of its package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Loader,
    Kernel,
    Init,
    Server,
    Program,
}

impl Part {
    fn of(folder: &Path) -> Self {
        match folder.to_string_lossy().as_ref() {
            "tools/host/loader" => Self::Loader,
            "microkernel/kernel" => Self::Kernel,
            "init" => Self::Init,
            folder if folder.starts_with("servers/") || folder.starts_with("tests/versions/") => {
                Self::Server
            }
            _ => Self::Program,
        }
    }

    /// Returns the kind of the bundle entry, and its name where it is not the executable's.
    fn entry(self) -> Option<(Kind, Option<&'static str>)> {
        match self {
            Self::Loader => None,
            Self::Kernel => Some((Kind::Kernel, Some("kernel"))),
            Self::Init => Some((Kind::Init, None)),
            Self::Server => Some((Kind::Server, None)),
            Self::Program => Some((Kind::Program, None)),
        }
    }
}

/// The command `cargo xtask build`.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let built = build(&Workspace::load()?)?;
    println!("{}", built.bundle.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds everything that a machine boots from. Does nothing that is not needed.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<Built> {
    let executables = compile(
        workspace.guest_cargo("build"),
        &[],
        "building the guest programs",
    )?;
    let mut parts: Vec<(Part, Executable)> = Vec::new();
    for executable in executables {
        let folder = executable.folder.strip_prefix(&workspace.root)?;
        parts.push((Part::of(folder), executable));
    }
    // Cargo reports in the order of completion; the bundle must not depend on it.
    parts.sort_by_key(|(_, executable)| executable.name());
    let find = |wanted: Part, what: &str| {
        let found = parts.iter().find(|(part, _)| *part == wanted);
        found
            .map(|(_, executable)| executable.file.clone())
            .with_context(|| format!("no {what}"))
    };
    let output = workspace.output()?;
    let built = Built {
        loader: find(Part::Loader, "loader")?,
        kernel: find(Part::Kernel, "kernel")?,
        programs: parts
            .iter()
            .filter(|(part, _)| !matches!(part, Part::Loader | Part::Kernel))
            .map(|(_, executable)| executable.file.clone())
            .collect(),
        bundle: output.join("bundle.img"),
    };
    let manifests = manifests(&workspace.root)?;
    let stamp = output.join("bundle.stamp");
    let inputs = fingerprint(&parts, &manifests)?;
    if built.bundle.exists() && fs::read_to_string(&stamp).is_ok_and(|old| old == inputs) {
        return Ok(built);
    }
    for (part, executable) in &parts {
        check(*part, executable)?;
    }
    fs::write(&built.bundle, pack(&parts, &manifests)?)?;
    fs::write(&stamp, inputs)?;
    Ok(built)
}

fn check(part: Part, executable: &Executable) -> anyhow::Result<()> {
    let rules = match part {
        Part::Kernel => Rules::Kernel,
        _ => Rules::Plain,
    };
    let findings = post_link::check(&fs::read(&executable.file)?, rules)
        .with_context(|| format!("cannot check {}", executable.file.display()))?;
    for finding in &findings {
        eprintln!("error: {}: {finding}", executable.name());
    }
    let count = findings.len();
    ensure!(
        count == 0,
        "{}: {count} instructions that must not be there",
        executable.name()
    );
    Ok(())
}

fn pack(parts: &[(Part, Executable)], manifests: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let mut writer = BundleWriter::new();
    for (part, executable) in parts {
        let Some((kind, name)) = part.entry() else {
            continue;
        };
        // The kernel prints backtraces from its own symbols.
        let keep = if kind == Kind::Kernel {
            Keep::Symbols
        } else {
            Keep::Nothing
        };
        let image = strip(&fs::read(&executable.file)?, keep)
            .with_context(|| format!("cannot strip {}", executable.file.display()))?;
        let name = name.map_or_else(|| executable.name(), str::to_owned);
        writer
            .add(&name, kind, image)
            .with_context(|| format!("bundle entry {name:?}"))?;
    }
    let programs: Vec<String> = parts
        .iter()
        .map(|(_, executable)| executable.name())
        .collect();
    writer.add("services", Kind::Manifest, services(manifests, &programs)?)?;
    Ok(writer.finish())
}

/// Compiles the service manifests; each must name an image that exists.
fn services(manifests: &[PathBuf], programs: &[String]) -> anyhow::Result<Vec<u8>> {
    let mut texts = Vec::new();
    for file in manifests {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        texts.push((name, fs::read_to_string(file)?));
    }
    let texts: Vec<(&str, &str)> = texts
        .iter()
        .map(|(name, text)| (&**name, &**text))
        .collect();
    let compiled = skink_manifest::compile(&texts).map_err(|errors| anyhow!("{errors}"))?;
    let decoded = skink_manifest::decode(&compiled).map_err(|error| anyhow!("{error:?}"))?;
    for service in decoded {
        let (name, image) = (&service.name, &service.image);
        ensure!(
            programs.contains(image),
            "service {name}: there is no program {image:?}"
        );
    }
    Ok(compiled)
}

/// Returns the service manifests, sorted by name.
fn manifests(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = root.join("init/services");
    let mut files: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<_>>()?,
        Err(_) => Vec::new(),
    };
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    Ok(files)
}

/// Returns a text that changes whenever an input of the bundle does.
fn fingerprint(parts: &[(Part, Executable)], manifests: &[PathBuf]) -> anyhow::Result<String> {
    // This program is an input too: it decides what is checked and how the bundle is laid out.
    let own = std::env::current_exe()?;
    let files = parts
        .iter()
        .map(|(_, executable)| &executable.file)
        .chain(manifests)
        .chain([&own]);
    let mut text = String::new();
    for file in files {
        let metadata = fs::metadata(file)?;
        let changed = metadata.modified()?.duration_since(std::time::UNIX_EPOCH)?;
        writeln!(
            text,
            "{} {} {}",
            file.display(),
            metadata.len(),
            changed.as_nanos()
        )?;
    }
    Ok(text)
}
