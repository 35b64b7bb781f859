//! ext4 images, made from folders by the host's own `mkfs.ext4`, without mounting anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

/// Files of the sample image: path and content.
pub const SAMPLE_FILES: [(&str, Content); 7] = [
    ("hello.txt", Content::Text("Hello from the disk.\n")),
    ("big.bin", Content::Random(8 << 20)),
    ("empty", Content::Text("")),
    (
        "docs/one.txt",
        Content::Text("The first of two files in a folder.\n"),
    ),
    (
        "docs/two.txt",
        Content::Text("The second of two files in a folder.\n"),
    ),
    ("docs/deep/er/still/file.bin", Content::Random(10_000)),
    (
        "Grüße/日本語.txt",
        Content::Text("Names may be written in any script.\n"),
    ),
];

/// Symbolic links of the sample image: path and target.
pub const SAMPLE_LINKS: [(&str, &str); 2] = [
    ("link.txt", "hello.txt"),
    ("docs/up", "../Grüße/日本語.txt"),
];

const SAMPLE_MIB: u64 = 32;

/// What is in a file.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// This text.
    Text(&'static str),
    /// So many bytes that look random and are always the same.
    Random(usize),
}

impl Content {
    /// Returns the bytes.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Random(len) => pseudo_random(len as u64, len),
        }
    }
}

/// Returns bytes that look random; equal seeds give equal bytes (SplitMix64).
#[must_use]
pub fn pseudo_random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Returns the SHA-256 of bytes as `sha256sum` prints it.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Makes the sample image unless it is there already.
///
/// # Errors
/// Files cannot be written, or `mkfs.ext4` fails.
pub fn make_sample(image: &Path) -> anyhow::Result<()> {
    if image.exists() {
        return Ok(());
    }
    let folder = image.with_extension("files");
    remove_folder(&folder)?;
    for (name, content) in SAMPLE_FILES {
        write_file(&folder.join(name), &content.bytes())?;
    }
    for (name, target) in SAMPLE_LINKS {
        std::os::unix::fs::symlink(target, folder.join(name))?;
    }
    make_ext4(&folder, image, SAMPLE_MIB)?;
    remove_folder(&folder)
}

/// Files of the image for campaigns: folder and size. The last one is the largest, and beyond
/// what is ever cached or read ahead.
const SIEGE_FILES: [(&str, usize); 14] = [
    ("", 1),
    ("", 511),
    ("", 4096),
    ("", 4097),
    ("", 65_536),
    ("", 300_007),
    ("", 1 << 20),
    ("a", 10_000),
    ("a/b", 123_457),
    ("a/b/c/d/e", 77_777),
    ("a", 1_000_003),
    ("many", 2048),
    ("many", 20_480),
    ("", 3 << 20),
];
const SIEGE_MIB: u64 = 24;

/// Makes the image for campaigns, unless it is there already: files that look random, and the
/// list of their checksums ([`SUMS`]).
///
/// # Errors
/// Files cannot be written, or `mkfs.ext4` fails.
pub fn make_siege(image: &Path) -> anyhow::Result<()> {
    if image.exists() {
        return Ok(());
    }
    make_siege_with(image, &[])
}

/// Makes the image for campaigns anew, with more files: path and content.
///
/// # Errors
/// As of [`make_siege`].
pub fn make_siege_with(image: &Path, more: &[(String, String)]) -> anyhow::Result<()> {
    let folder = image.with_extension("files");
    remove_folder(&folder)?;
    let mut list = String::new();
    for (number, (inside, bytes)) in SIEGE_FILES.into_iter().enumerate() {
        let content = pseudo_random(number as u64, bytes);
        let name = format!("{number:02}.bin");
        let path = Path::new(inside).join(name);
        write_file(&folder.join(&path), &content)?;
        let line = format!("{}  {}\n", sha256(&content), path.display());
        list.push_str(&line);
    }
    write_file(&folder.join(SUMS), list.as_bytes())?;
    for (name, content) in more {
        write_file(&folder.join(name), content.as_bytes())?;
    }
    make_ext4(&folder, image, SIEGE_MIB)?;
    remove_folder(&folder)
}

/// The image with files of all kinds ([`fixtures::user_image`]).
#[derive(Debug)]
pub struct UserDisk {
    /// The image.
    pub image: PathBuf,
    /// The folder that it was made from.
    pub tree: PathBuf,
    /// Path in the tree and checksum of every file but the gigantic one. The image has this list
    /// too, in [`SUMS`].
    pub sums: Vec<(String, String)>,
}

impl UserDisk {
    /// Returns the checksum of a file, by its path in the tree.
    ///
    /// # Errors
    /// There is no such file.
    pub fn sum(&self, path: &str) -> anyhow::Result<&str> {
        let found = self.sums.iter().find(|(name, _)| name == path);
        Ok(&found.with_context(|| format!("no file {path}"))?.1)
    }

    /// Returns the content of a file, by its path in the tree.
    ///
    /// # Errors
    /// There is no such file.
    pub fn content(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        fs::read(self.tree.join(path)).with_context(|| format!("no file {path}"))
    }
}

/// Name of the list of checksums on the disks that have one.
pub const SUMS: &str = "SHA256SUMS";
/// A file of many gigabytes, nearly all of it a hole: too large to be read from end to end.
pub const GIGANTIC: &str = "sparse/far";

static USER: OnceLock<UserDisk> = OnceLock::new();

/// Makes the image with files of all kinds, once in a run of the tests.
///
/// # Errors
/// Files cannot be written, or `mkfs.ext4` or `debugfs` fails.
pub fn user(scratch: &Path) -> anyhow::Result<&'static UserDisk> {
    if USER.get().is_none() {
        let made = make_user(scratch)?;
        // Somebody else may have made an equal one meanwhile.
        let _ = USER.set(made);
    }
    made_user()
}

/// Returns the image with files of all kinds that a scenario has booted with.
///
/// # Errors
/// None has.
pub fn made_user() -> anyhow::Result<&'static UserDisk> {
    USER.get().context("the user's disk was not made")
}

fn make_user(scratch: &Path) -> anyhow::Result<UserDisk> {
    let image = fixtures::user_image(scratch)?;
    let mut sums = Vec::new();
    add_sums(&image.tree, "", &mut sums)?;
    let list: String = sums
        .iter()
        .map(|(name, sum)| format!("{sum}  {name}\n"))
        .collect();
    let file = scratch.join(SUMS);
    fs::write(&file, list)?;
    fixtures::debugfs(
        &image.path,
        &format!("write \"{}\" {SUMS}\n", file.display()),
    )?;
    Ok(UserDisk {
        image: image.path,
        tree: image.tree,
        sums,
    })
}

/// Adds the checksums of all regular files below a folder of the tree.
fn add_sums(tree: &Path, folder: &str, sums: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(tree.join(folder))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().context("a name is not UTF-8")?;
        let path = if folder.is_empty() {
            name.to_owned()
        } else {
            format!("{folder}/{name}")
        };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            add_sums(tree, &path, sums)?;
        } else if kind.is_file() && path != GIGANTIC {
            let sum = sha256(&fs::read(entry.path())?);
            sums.push((path, sum));
        }
    }
    Ok(())
}

static BAD: OnceLock<Vec<fixtures::BadImage>> = OnceLock::new();

/// Returns the image that is wrong in the way of this name; makes all of them at first.
///
/// # Errors
/// Files cannot be written, `mkfs.ext4` or `debugfs` fails, or none has this name.
pub fn bad(scratch: &Path, name: &str) -> anyhow::Result<&'static fixtures::BadImage> {
    if BAD.get().is_none() {
        let made = fixtures::bad_images(scratch)?;
        // Somebody else may have made equal ones meanwhile.
        let _ = BAD.set(made);
    }
    made_bad(name)
}

/// Returns the image that is wrong in the way of this name, which a scenario has booted with.
///
/// # Errors
/// None has.
pub fn made_bad(name: &str) -> anyhow::Result<&'static fixtures::BadImage> {
    let mut images = BAD.get().into_iter().flatten();
    let image = images.find(|image| image.name == name);
    image.with_context(|| format!("the bad image {name} was not made"))
}

/// Writes a file and the folders above it.
///
/// # Errors
/// As of [`fs::write`].
pub fn write_file(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes an ext4 image with the content of a folder. An image half made is never left behind.
///
/// # Errors
/// `mkfs.ext4` is missing or fails.
pub fn make_ext4(folder: &Path, image: &Path, mib: u64) -> anyhow::Result<()> {
    let unfinished = image.with_extension("unfinished");
    fs::File::create(&unfinished)?.set_len(mib << 20)?;
    let output = Command::new(find_mkfs())
        .args([
            "-q",
            "-F",
            "-E",
            "root_owner=0:0,lazy_itable_init=0",
            "-L",
            "sample",
            "-d",
        ])
        .arg(folder)
        .arg(&unfinished)
        .output()
        .context("cannot start mkfs.ext4")?;
    ensure!(
        output.status.success(),
        "mkfs.ext4: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(fs::rename(&unfinished, image)?)
}

/// Returns `mkfs.ext4`, which is often outside the path of ordinary users.
#[must_use]
pub fn find_mkfs() -> PathBuf {
    ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("mkfs.ext4"))
}

fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_content_is_always_the_same() {
        assert_eq!(pseudo_random(1, 100), pseudo_random(1, 100)[..]);
        assert_eq!(pseudo_random(1, 100)[..13], pseudo_random(1, 13)[..]);
        assert_ne!(pseudo_random(1, 100), pseudo_random(2, 100));
    }

    #[test]
    fn digests_are_printed_as_the_host_prints_them() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }
}
